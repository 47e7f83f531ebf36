// The live element: the reader paints on a good example, and the model looks for it.

const AROUND = 2; // pixels between a ready-made defect and its outline
const SIGHT = { 1: ": fine detail", 3: ": wide view" };

// The maps that the model gives, in its order, and what each says.
function viewsOf({ levels, segmentation, rule }) {
  const levelSays = [
    "Level 1 sees fine detail, 4 pixels at a time. Here the student can often imitate the teacher in defects too, so this level alone may miss them (chapter 4).",
    "Level 2 sees 8 pixels at a time, and more context (chapter 4).",
    "Level 3 sees the largest neighbourhood, 16 pixels at a time: it knows what belongs where, but not exactly where it ends (chapter 4).",
  ];
  const distance = rule === "sum"
    ? ["Sum of distances", "The levels' distances added, without the segmentation network (chapter 4)."]
    : ["Distance product", "The levels' distances multiplied, without the segmentation network: a place is suspicious when all levels find it so (chapters 4 and 7)."];
  const learned = ["Final map", "The final map comes from a third network, which has learned from synthetic anomalies which disagreements are defects (chapter 7)."];
  // Without a segmentation network the first two maps are the same.
  const maps = [segmentation ? learned : distance, segmentation && distance, ...levels.map((level) => [`Level ${level} alone`, levelSays[level - 1]])];
  return maps.map((map, at) => map && { at, name: map[0], says: map[1] }).filter(Boolean);
}

function ring(context, { x, y }) {
  for (const [colour, width] of [["black", 5], ["white", 2]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: width });
    context.beginPath();
    context.arc(x, y, 14, 0, 2 * Math.PI);
    context.stroke();
  }
}

async function decoded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

async function maskOf(address, side) {
  const canvas = make("canvas", { width: side, height: side });
  const context = canvas.getContext("2d");
  context.drawImage(await decoded(address), 0, 0);
  const mask = context.getImageData(0, 0, side, side).data.filter((_, i) => i % 4 === 0);
  return mask.map((_, i) => { // a little larger, so that the outline hides nothing
    for (let y = -AROUND; y <= AROUND; y += 1) {
      for (let x = -AROUND; x <= AROUND; x += 1) {
        const column = (i % side) + x;
        if (column >= 0 && column < side && mask[i + y * side + x]) return 1;
      }
    }
    return 0;
  });
}

// Red, green and blue of each pixel as a canvas takes them.
function imageOf(pixels, side) {
  const image = new ImageData(side, side);
  image.data.forEach((_, i) => {
    image.data[i] = i % 4 === 3 ? 255 : pixels[3 * Math.floor(i / 4) + (i % 4)];
  });
  return image;
}

function toolbox(box, names) {
  const set = make("fieldset", { class: "tools" }, make("legend", {}, "Tool"));
  const group = `destseg-${(made += 1)}`;
  names.forEach((name, n) => set.append(make("label", {},
    make("input", { type: "radio", name: group, value: name, checked: n === 0 }), name)));
  box.append(set);
  return { set, tool: () => set.querySelector(":checked").value };
}

function menu(parent, label, options, act) {
  const id = `destseg-${(made += 1)}`;
  const input = make("select", { id });
  options.forEach((text, value) => input.append(make("option", { value }, text)));
  input.addEventListener("change", act);
  parent.append(make("div", { class: "control" }, make("label", { for: id }, label), " ", input));
  return () => Number(input.value);
}

// What the measured strokes say of a category.
function honest(data, { name, found, thresholds, scales }) {
  const limit = promise(data, thresholds[0], scales[0]);
  if (!found) return limit;
  const missed = Object.entries(found.kinds).filter(([, kind]) => kind.found < 0.9)
    .sort(([, one], [, other]) => one.found - other.found)
    .map(([kind, { found: part }]) => `${kind.replace(/ of (\d)$/, ", $1 pixels wide")} (${percent(part)})`);
  return `${limit} On ${name}, the model found ${percent(found.lines.found)} of ${found.lines.painted} painted lines. ` +
    (missed.length ? `Found least often: ${missed.join("; ")}.` : "Every kind of stroke was found at least nine times in ten.");
}

// What is shown below the tools, in its order.
function layout(box) {
  const parts = {
    judged: make("div"),
    pair: make("div", { class: "pair" }),
    how: make("p", { class: "hint" }),
    keys: make("details", {}, make("summary", {}, "With the keyboard"), make("p", {}, "Tab to the picture. Arrow keys move a ring by 2 pixels, with Shift by 8; Space puts the brush down and lifts it again; Ctrl+Z undoes; Escape lets go. For remove and move, Space begins and ends the box. Then, to move what is in it, bring the ring inside the box, press Space, go with the arrow keys, press Space again.")),
    note: make("p", { role: "status" }),
    buttons: make("div", { class: "tools" }),
    meaning: make("p", {}, "Two networks describe every place of the picture: a teacher, which learned from other pictures, and a student, which learned from good parts what the teacher says of them. The small maps are bright where the two disagree: level 1 in fine detail, level 3 with the most around it."),
    three: make("div", { class: "three" }),
    reading: make("p", { class: "hint" }),
    cost: make("p", { class: "hint" }),
    honesty: make("p", { class: "hint" }),
  };
  box.append(...Object.values(parts));
  return parts;
}

// Wire everything together: tools to the picture, the picture to the model, its answer to the maps.
async function play(box, data, { ask, load }, examples) {
  const { side } = data;
  const views = viewsOf(data);
  let category = data.categories[0];
  const turn = { good: 0, defects: 0 };
  const times = [];
  let updates = 0;

  const chosen = data.categories.length > 1 && menu(box.controls, "Part", data.categories.map(({ name }) => name), async () => {
    const next = data.categories[chosen()];
    note.textContent = `Loading ${next.name} ...`;
    let loaded;
    try {
      loaded = await load(next);
    } catch (error) {
      note.textContent = `${next.name} did not load: ${error.message}. Choose it again to try again.`;
      return;
    }
    if (next !== data.categories[chosen()]) return; // another was chosen while this one loaded
    category = next;
    examples = loaded;
    turn.good = 0;
    example(true);
  });
  const view = menu(box.controls, "Map", views.map(({ name }) => name), () => last && show(last));
  const { set, tool } = toolbox(box, [...Object.keys(BRUSHES), "remove", "move"]);
  const widthId = `destseg-${(made += 1)}`;
  const width = make("input", { type: "range", min: 1, max: 8, value: 3, id: widthId });
  const wide = make("output", { for: widthId }, "3");
  width.addEventListener("input", () => { wide.textContent = width.value; });
  box.controls.append(make("div", { class: "control" }, make("label", { for: widthId }, "Width of the brush"), wide, width));
  const marks = make("input", { type: "checkbox", checked: true });
  marks.addEventListener("change", () => {
    picture.layer();
    if (last) show(last);
  });
  if (examples.defects.length) box.controls.append(make("label", { class: "control" }, marks, " Outline of a ready-made defect"));
  const parts = layout(box);
  const { how, pair, note } = parts;
  const hints = {
    remove: "Drag a box: what is in it is removed, and filled in from around it.",
    move: "Drag a box around a part, then drag the box.",
  };
  const explain = () => { how.textContent = hints[tool()] || "Press and drag on the left picture, with mouse, pen or finger."; };
  const picture = easel(pair, side, { tool, width: () => Number(width.value), outlined: () => marks.checked }, changed);
  set.addEventListener("change", () => { explain(); picture.layer(); });
  const main = heatPicture(pair, "");
  const judge = meter(parts.judged);
  const undo = button(parts.buttons, "Undo", picture.back);
  button(parts.buttons, "Another example", () => example(false));
  if (examples.defects.length) button(parts.buttons, "A ready-made defect", defect);
  chooser(parts.buttons, "Your own picture (or drop it anywhere here)", opened);
  onDrop(box, opened);
  const small = data.levels.map((level) => heatPicture(parts.three, `Level ${level}${SIGHT[level] || ""}`));
  const output = values(box, {
    score: "score", threshold: "threshold", peak: "peak (x, y), pixels", ms: "last computation, ms", median: "median computation, ms", updates: "computations",
  });
  explain();

  let wanted = false;
  let running = false;
  let last = null;

  // One question at a time; when the answer comes, the newest picture is next.
  async function changed() {
    wanted = true;
    note.textContent = picture.says();
    undo.disabled = !picture.undoable();
    if (running) return;
    running = true;
    while (wanted) {
      wanted = false;
      const pixels = picture.pixels();
      const { file } = category;
      try {
        const answer = await ask("look", { name: file, pixels }, [pixels.buffer]);
        if (file === category.file) show(answer);
      } catch (error) {
        note.textContent = `The model stopped: ${error.message}. Load the page again.`;
      }
    }
    running = false;
  }

  function show(answer) {
    if (answer !== last) {
      times.push(answer.ms);
      if (times.length > 51) times.shift();
      updates += 1;
    }
    last = answer;
    const { at, name, says } = views[view()];
    const mapOf = (k) => answer.maps.subarray(k * MAP * MAP, (k + 1) * MAP * MAP);
    const [map, score, threshold] = [mapOf(at), answer.scores[at], category.thresholds[at]];
    const highest = category.scales[at];
    const peak = peakOf(map);
    const over = judge(score, threshold, highest);
    main.draw(map, highest, `${name}, bright where it is high. ${over ? "Defect found" : "No defect found"}.`);
    const above = main.upper.getContext("2d");
    above.clearRect(0, 0, MAP, MAP);
    if (picture.truth() && marks.checked) outline(above, picture.truth(), side);
    if (over) ring(above, peak);
    main.text.textContent = over ? `${name}; the ring is its peak` : name;
    small.forEach((one, k) => one.draw(mapOf(k + 2), category.scales[k + 2],
      `Distances between student and teacher at level ${data.levels[k]}, bright where they are large`));
    const digits = digitsOf(highest);
    const missed = picture.touched() ? "Your change was not found." : picture.truth() ? "Missed: the outlined defect is there, but the score stays below the threshold." : "";
    judge.says(`Score ${fixed(score, digits)}, threshold ${fixed(threshold, digits)}. ${over ? "" : missed}`);
    parts.reading.textContent = `${says} Dark is low, yellow is high; each map and the bar have a scale of their own.`;
    parts.honesty.textContent = honest(data, category);
    const median = [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)];
    parts.cost.textContent = `At every change all of it is computed here, in your browser: teacher, student and segmentation network on ${side} × ${side} pixels, in ${Math.round(answer.ms)} ms. The score is the mean of the map's 100 largest values of ${MAP} × ${MAP}. Nothing that you paint or open leaves your device.`;
    output({
      score: fixed(score, 5), threshold: fixed(threshold, 5), peak: [peak.x, peak.y].map((p) => Math.floor((p * side) / MAP)).join(", "),
      ms: fixed(answer.ms, 0), median: fixed(median, 0), updates: String(updates),
    });
  }

  const next = (kind) => {
    turn[kind] += 1;
    return examples[kind][(turn[kind] - 1) % examples[kind].length];
  };
  async function example(forget) {
    const about = ["A good example. Paint on it.", "A good example with your marks on it."];
    picture.put(await decoded(next("good").picture), null, about, forget);
  }
  async function defect() {
    const one = next("defects");
    const about = ["shows where it is", "shows where it was at first"].map((where) => `A ready-made defect: ${one.name.replaceAll("_", " ")}. The white outline ${where}.`);
    picture.put(await decoded(one.picture), await maskOf(one.truth, side), about, false);
  }
  async function opened(given) {
    if (!given) return;
    try {
      const { pixels, shown } = await ask("read", { file: given, longest: 1 });
      shown.close();
      const about = `${given.name}, squashed to ${side} × ${side} pixels. The model knows ${category.name} and nothing else, so anything else is a defect to it.`;
      picture.put(imageOf(pixels, side), null, [about, about], false);
    } catch (error) {
      note.textContent = `${given.name} ${error.message}.`;
    }
  }
  // Below the pictures: what is changed less often.
  parts.buttons.after(box.controls);
  await example(true);
  picture.canvas.focus({ preventScroll: true }); // for those who came here by keyboard
}

// Until the reader asks for it, a button, and in the book a recording; nothing else is loaded.
function render({ model, el }) {
  const data = model.get("data");
  const box = frame(el, model, "LiveDetector");
  const said = make("p", { role: "status" });
  let running;
  let go;
  let recording = "";
  const preview = make("p", { class: "hint" }, "A recording. Left: a scratch is painted. Right: the brighter, the surer the network is of a defect.");
  if (data.recording) {
    recording = make("img", { class: "recording", src: data.recording, width: 520, height: 256,
      alt: "A recording: a dark line grows on a metal plate, and next to it the anomaly map lights up along the line." });
    box.prepend(recording, preview);
    recording.addEventListener("click", () => go.isConnected && go.click());
  }
  const instead = data.recording ? " The recording shows what it does." : "";
  const lacks = lacking();
  if (lacks.length) {
    said.textContent = `This browser cannot run the model: it lacks ${lacks.join(", ")}. Browsers since 2023 have all of it.${instead}`;
    box.append(said);
    return undefined;
  }
  const size = firstFiles(data).reduce((sum, name) => sum + data.packs[name].bytes, 0);
  const loads = data.inline ? "" : ` (loads ${fixed(size / 1e6, 1)} MB)`;
  go = button(box, `Start: paint on it yourself${loads}`, async () => {
    go.remove();
    said.remove();
    try {
      running = await begin(box, data);
      const examples = await running.load(data.categories[0]);
      if (recording) recording.remove();
      preview.remove();
      await play(box, data, running, examples);
    } catch (error) {
      said.textContent = `The model did not start: ${error.message}.${instead}`;
      go.textContent = "Try again";
      box.append(said, go);
    }
  });
  return () => running?.ask.stop(); // in a notebook, when the cell's output goes
}

// Without Jupyter: on a page of the book, next to its files.
function start(data) {
  const base = new URL(".", document.currentScript.src).href;
  const whole = { label: "Live detector", base, recording: `${base}recording.webp`, ...data };
  for (const el of document.querySelectorAll("[data-live]")) render({ model: { get: () => whole }, el });
}

export default { render };
