// The live element: the reader paints on a good example, and the model looks for it.

// The maps that the model gives, in its order, and what each says.
function viewsOf({ levels, segmentation, rule }) {
  const levelSays = [
    "Level 1 sees fine detail, 4 pixels at a time. Its student over-generalises: it imitates the teacher in defects too (chapter 4).",
    "Level 2 sees 8 pixels at a time, and more context (chapter 4).",
    "Level 3 sees the largest neighbourhood, 16 pixels at a time: it knows what belongs where, but not exactly where it ends (chapter 4).",
  ];
  const distance = rule === "sum"
    ? ["Sum of distances", "The levels' distances added, without the segmentation network (chapter 4)."]
    : ["Distance product", "The levels' distances multiplied, without the segmentation network: a place is suspicious when all levels find it so (chapters 4 and 7)."];
  const learned = ["The model's map", "The segmentation network's map: it has learned from synthetic anomalies which differences between student and teacher are defects (chapter 7)."];
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
  return context.getImageData(0, 0, side, side).data.filter((_, i) => i % 4 === 0);
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
    .map(([kind, { found: part }]) => `${kind} (${percent(part)} found)`);
  return `${limit} On ${name}, the model found ${percent(found.lines.found)} of ${found.lines.painted} painted lines. ` +
    (missed.length ? `What it often misses: ${missed.join(", ")}.` : "No kind of stroke was found less than nine times in ten.");
}

// What is shown below the tools, in its order.
function layout(box) {
  const parts = {
    how: make("p", { class: "hint" }),
    pair: make("div", { class: "pair" }),
    judged: make("div"),
    reading: make("p", { class: "hint" }),
    buttons: make("div", { class: "tools" }),
    note: make("p", { role: "status" }),
    meaning: make("p", {}, "The small maps show how differently the student and the teacher describe each place: level 1 in fine detail, level 3 with the most around it. Bright is a large cosine distance."),
    three: make("div", { class: "three" }),
    cost: make("p", { class: "hint" }),
    honesty: make("p", { class: "hint" }),
    keys: make("details", {}, make("summary", {}, "With the keyboard"), make("p", {}, "Tab to the picture. Arrow keys move a ring by 2 pixels, with Shift by 8; Space puts the brush down and lifts it again; Ctrl+Z undoes; Escape lets go. For erase and move, Space begins and ends the box.")),
  };
  box.append(...Object.values(parts));
  return parts;
}

// Wire everything together: tools to the picture, the picture to the model, its answer to the maps.
function play(box, data, { ask, load }, examples) {
  const { side } = data;
  const views = viewsOf(data);
  let category = data.categories[0];
  const turn = { good: 0, defects: 0 };
  const times = [];
  let updates = 0;

  const chosen = data.categories.length > 1 && menu(box.controls, "Part", data.categories.map(({ name, found }) => (found ? `${name} (${percent(found.lines.found)} of lines found)` : name)), async () => {
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
  const { set, tool } = toolbox(box, [...Object.keys(BRUSHES), "erase", "move"]);
  const widthId = `destseg-${(made += 1)}`;
  const width = make("input", { type: "range", min: 1, max: 8, value: 3, id: widthId });
  box.controls.append(make("div", { class: "control" }, make("label", { for: widthId }, "Width of the brush"), width));
  const parts = layout(box);
  const { how, pair, note } = parts;
  const hints = {
    erase: "Drag a box: what is in it goes, and its surroundings grow over it.",
    move: "Drag a box around a part, then drag the box.",
  };
  const explain = () => { how.textContent = hints[tool()] || "Press and drag on the picture, with mouse, pen or finger."; };
  const picture = easel(pair, side, { tool, width: () => Number(width.value) }, changed);
  set.addEventListener("change", () => { explain(); picture.layer(); });
  const main = heatPicture(pair, "");
  const judge = meter(parts.judged);
  button(parts.buttons, "Undo", picture.back);
  button(parts.buttons, "Another example", () => example(false));
  if (examples.defects.length) button(parts.buttons, "A drawn defect, with its truth", defect);
  chooser(parts.buttons, "Your own picture, or drop one", opened);
  onDrop(pair, opened);
  const small = data.levels.map((level) => heatPicture(parts.three, `Level ${level}`));
  const output = values(box, {
    score: "score", threshold: "threshold", peak: "peak (x, y)", ms: "last pass, ms", median: "median pass, ms", updates: "passes",
  });
  explain();

  let wanted = false;
  let running = false;
  let last = null;

  // One question at a time; when the answer comes, the newest picture is next.
  async function changed() {
    wanted = true;
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
    if (picture.truth()) outline(above, picture.truth(), side);
    if (over) ring(above, peak);
    main.text.textContent = over ? `${name}; the ring is its peak` : name;
    small.forEach((one, k) => one.draw(mapOf(k + 2), category.scales[k + 2],
      `Distances between student and teacher at level ${data.levels[k]}, bright where they are large`));
    const digits = digitsOf(highest);
    parts.reading.textContent = `Score ${fixed(score, digits)}, threshold ${fixed(threshold, digits)}. ${says}`;
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
    note.textContent = "A good example. Paint on it.";
    picture.put(await decoded(next("good").picture), null, forget);
  }
  async function defect() {
    const one = next("defects");
    note.textContent = `A drawn defect: ${one.name}. The white outline is the truth.`;
    picture.put(await decoded(one.picture), await maskOf(one.truth, side), false);
  }
  async function opened(given) {
    if (!given) return;
    try {
      const { pixels, shown } = await ask("read", { file: given, longest: 1 });
      shown.close();
      picture.put(imageOf(pixels, side), null, false);
    } catch (error) {
      note.textContent = `${given.name} ${error.message}.`;
      return;
    }
    note.textContent = `${given.name}, squashed to ${side} × ${side} pixels. The model knows ${category.name} and nothing else, so anything else is a defect to it.`;
  }
  example(true);
}

// Until the reader asks for it, a button, and in the book a recording; nothing else is loaded.
function render({ model, el }) {
  const data = model.get("data");
  const box = frame(el, model, "LiveDetector");
  const said = make("p", { role: "status" });
  let running;
  let recording = "";
  if (data.recording) {
    recording = make("img", { class: "recording", src: data.recording, width: 520, height: 256,
      alt: "A recording: a dark line grows on a metal plate, and next to it the anomaly map lights up along the line." });
    box.prepend(recording);
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
  const go = button(box, `Start: paint on it yourself${loads}`, async () => {
    go.remove();
    try {
      running = await begin(box, data);
      play(box, data, running, await running.load(data.categories[0]));
      if (recording) recording.remove();
    } catch (error) {
      said.textContent = `The model did not start: ${error.message}.${instead}`;
      box.append(said);
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
