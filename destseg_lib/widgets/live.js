// The live page: the reader paints on a good example, and the shipped model looks for it.

// The maps that the model gives, in its order, and what each says.
const VIEWS = [
  ["The model's map", "The segmentation network's map: it has learned from synthetic anomalies which differences between student and teacher are defects (chapter 7)."],
  ["Distance product", "The three levels' distances multiplied, without the segmentation network: a place is suspicious when all levels find it so (chapters 4 and 7)."],
  ["Level 1 alone", "Level 1 sees fine detail, 4 pixels at a time. Its student over-generalises: it imitates the teacher in defects too (chapter 4)."],
  ["Level 2 alone", "Level 2 sees 8 pixels at a time, and more context (chapter 4)."],
  ["Level 3 alone", "Level 3 sees the largest neighbourhood, 16 pixels at a time: it knows what belongs where, but not exactly where it ends (chapter 4)."],
];

// Four bytes at once; every computer with a browser keeps the lowest first.
const COLOURS = Uint32Array.from({ length: 256 }, (_, i) => {
  const [red, green, blue] = heat(i / 255);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
});

// A map as a heat picture, with the truth and the map's peak above it.
function heatPicture(parent, caption) {
  const { lower, upper, text } = layers(parent, MAP, caption);
  const context = lower.getContext("2d");
  const over = upper.getContext("2d");
  const image = context.createImageData(MAP, MAP);
  const pixels = new Uint32Array(image.data.buffer);
  return {
    text,
    draw(map, highest, truth, name) {
      for (let i = 0; i < map.length; i += 1) {
        pixels[i] = COLOURS[Math.max(0, Math.min(255, Math.round((255 * map[i]) / highest)))];
      }
      context.putImageData(image, 0, 0);
      over.clearRect(0, 0, MAP, MAP);
      if (truth) outline(over, truth);
      lower.setAttribute("aria-label", name);
    },
    ring(x, y) {
      for (const [colour, width] of [["black", 5], ["white", 2]]) {
        Object.assign(over, { strokeStyle: colour, lineWidth: width });
        over.beginPath();
        over.arc(x, y, 14, 0, 2 * Math.PI);
        over.stroke();
      }
    },
  };
}

async function decoded(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return image;
}

async function maskOf(address) {
  const canvas = make("canvas", { width: SIDE, height: SIDE });
  const context = canvas.getContext("2d");
  context.drawImage(await decoded(address), 0, 0);
  return context.getImageData(0, 0, SIDE, SIDE).data.filter((_, i) => i % 4 === 0);
}

// A reader's picture, turned as its camera says and squashed to the model's size, as the library does.
async function readPicture(file) {
  const upright = { imageOrientation: "from-image", resizeWidth: SIDE, resizeHeight: SIDE, resizeQuality: "high" };
  return createImageBitmap(file, upright);
}

function button(parent, text, act) {
  const node = make("button", { type: "button" }, text);
  node.addEventListener("click", act);
  parent.append(node);
  return node;
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

const percent = (share) => `${Math.round(100 * share)} %`;

// What the measured strokes say of a category.
function honest({ name, found, thresholds }, calibration) {
  const limit = `The threshold ${fixed(thresholds[0], 3)} is the score that 1 % of ${calibration} good pictures exceed.`;
  const missed = Object.entries(found.kinds).filter(([, kind]) => kind.found < 0.9)
    .map(([kind, { found: part }]) => `${kind} (${percent(part)} found)`);
  return `${limit} On ${name}, the model found ${percent(found.lines.found)} of ${found.lines.painted} painted lines. ` +
    (missed.length ? `What it often misses: ${missed.join(", ")}.` : "No kind of stroke was found less than nine times in ten.");
}

async function open(box, data) {
  const status = make("p", { role: "status" }, "Loading ...");
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Loading" });
  box.append(status, bar);
  const first = data.categories[0].name;
  const shared = Object.keys(data.packs).filter((name) => /^(ort|teacher)/.test(name));
  const loads = [...shared, `${first}.onnx`, `${first}.json`];
  const total = loads.reduce((sum, name) => sum + data.packs[name].bytes, 0);
  let loaded = 0;
  const progress = (count) => {
    loaded += count;
    bar.value = loaded / total;
    status.textContent = `Loaded ${fixed(loaded / 1e6, 1)} of ${fixed(total / 1e6, 1)} MB`;
  };
  const ask = assistant();
  const files = {};
  for (const name of shared) files[name] = await fetched(data, name, progress);
  await ask("begin", { files });
  const loading = {}; // the examples of each category, once its model is there
  const fetchAll = async (name) => {
    await ask("model", { name, parts: await fetched(data, `${name}.onnx`, progress) });
    return json(await fetched(data, `${name}.json`, progress));
  };
  const load = (name) => (loading[name] ??= fetchAll(name).catch((error) => {
    delete loading[name]; // so that it can be tried again
    throw error;
  }));
  const examples = await load(first);
  status.remove();
  bar.remove();
  play(box, data, ask, examples, load);
}

// What is shown below the tools, in its order.
function layout(box) {
  const filled = make("div", { class: "filled" });
  const limit = make("div", { class: "limit" }, make("span", {}, "threshold"));
  const parts = {
    how: make("p", { class: "hint" }),
    pair: make("div", { class: "pair" }),
    meter: make("div", { class: "score", "aria-hidden": "true" }, filled, limit),
    verdict: make("p", { class: "verdict", role: "status" }),
    reading: make("p", { class: "hint" }),
    buttons: make("div", { class: "tools" }),
    note: make("p", { role: "status" }),
    meaning: make("p", {}, "The three small maps show how differently the student and the teacher describe each place: level 1 in fine detail, level 3 with the most around it. Bright is a large cosine distance."),
    three: make("div", { class: "three" }),
    cost: make("p", { class: "hint" }),
    honesty: make("p", { class: "hint" }),
    keys: make("details", {}, make("summary", {}, "With the keyboard"), make("p", {}, "Tab to the picture. Arrow keys move a ring by 2 pixels, with Shift by 8; Space puts the brush down and lifts it again; Ctrl+Z undoes; Escape lets go. For erase and move, Space begins and ends the box.")),
  };
  box.append(...Object.values(parts));
  return { ...parts, filled, limit };
}

// Wire everything together: tools to the picture, the picture to the model, its answer to the maps.
function play(box, data, ask, examples, load) {
  let category = data.categories[0];
  const turn = { good: 0, defects: 0 };
  const times = [];
  let updates = 0;

  const chosen = menu(box.controls, "Part", data.categories.map(({ name, found }) => `${name} (${percent(found.lines.found)} of lines found)`), async () => {
    const next = data.categories[chosen()];
    note.textContent = `Loading ${next.name} ...`;
    let loaded;
    try {
      loaded = await load(next.name);
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
  const view = menu(box.controls, "Map", VIEWS.map(([name]) => name), () => last && show(last));
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
  const picture = easel(pair, { tool, width: () => Number(width.value) }, changed);
  set.addEventListener("change", () => { explain(); picture.layer(); });
  const main = heatPicture(pair, "");
  button(parts.buttons, "Undo", picture.back);
  button(parts.buttons, "Another example", () => example(false));
  button(parts.buttons, "A drawn defect, with its truth", defect);
  const file = make("input", { type: "file", accept: "image/*" });
  parts.buttons.append(make("label", { class: "file" }, "Your own picture, or drop one", file));
  const small = [1, 2, 3].map((level) => heatPicture(parts.three, `Level ${level}`));
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
      const name = category.name;
      try {
        const answer = await ask("look", { name, pixels }, [pixels.buffer]);
        if (name === category.name) show(answer);
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
    const n = view();
    const mapOf = (k) => answer.maps.subarray(k * MAP * MAP, (k + 1) * MAP * MAP);
    const [map, score, threshold] = [mapOf(n), answer.scores[n], category.thresholds[n]];
    const highest = n ? 3 * threshold : 1;
    const over = score > threshold;
    let at = 0;
    for (let i = 1; i < map.length; i += 1) if (map[i] > map[at]) at = i;
    const peak = [at % MAP, Math.floor(at / MAP)];
    const says = over ? "Defect found" : "No defect found";
    main.draw(map, highest, picture.truth(), `${VIEWS[n][0]}, bright where it is high. ${says}.`);
    main.text.textContent = over ? `${VIEWS[n][0]}; the ring is its peak` : VIEWS[n][0];
    if (over) main.ring(...peak);
    small.forEach((one, k) => one.draw(mapOf(k + 2), 3 * category.thresholds[k + 2], null,
      `Distances between student and teacher at level ${k + 1}, bright where they are large`));
    const along = (value) => `${Math.min(100, (100 * value) / highest)}%`;
    parts.filled.style.width = along(score);
    parts.limit.style.left = along(threshold);
    parts.meter.classList.toggle("over", over);
    const digits = highest < 0.1 ? 4 : 3;
    if (parts.verdict.textContent !== says) parts.verdict.textContent = says; // said when it changes
    parts.reading.textContent = `Score ${fixed(score, digits)}, threshold ${fixed(threshold, digits)}. ${VIEWS[n][1]}`;
    parts.honesty.textContent = honest(category, data.calibration);
    const median = [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)];
    parts.cost.textContent = `At every change all of it is computed here, in your browser: teacher, student and segmentation network on ${SIDE} × ${SIDE} pixels, in ${Math.round(answer.ms)} ms. The score is the mean of the map's 100 largest values of ${MAP} × ${MAP}. Nothing that you paint or open leaves your device.`;
    output({
      score: fixed(score, 5), threshold: fixed(threshold, 5), peak: peak.map((p) => Math.floor(p / 2)).join(", "),
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
    picture.put(await decoded(one.picture), await maskOf(one.truth), false);
  }
  async function opened(given) {
    if (!given) return;
    let image;
    try {
      image = await readPicture(given);
    } catch {
      note.textContent = `${given.name} cannot be read as a picture; choose a JPEG, PNG or WebP file.`;
      return;
    }
    note.textContent = `${given.name}, squashed to ${SIDE} × ${SIDE} pixels. The model knows ${category.name} and nothing else, so anything else is a defect to it.`;
    picture.put(image, null, false);
    image.close();
  }
  file.addEventListener("change", async () => {
    await opened(file.files[0]);
    file.value = ""; // so that the same file can be chosen again
  });
  for (const kind of ["dragover", "drop"]) {
    pair.addEventListener(kind, (event) => {
      event.preventDefault();
      if (kind === "drop") opened(event.dataTransfer.files[0]);
    });
  }
  example(true);
}

// Until the reader asks for it, a recording and a button; nothing else is loaded.
function render({ model, el }) {
  const data = model.get("data");
  const box = frame(el, model, "LiveDetector");
  const recording = make("img", { class: "recording", src: data.recording, width: 520, height: 256,
    alt: "A recording: a dark line grows on a metal plate, and next to it the anomaly map lights up along the line." });
  const able = "DecompressionStream" in self && "WebAssembly" in self && "Worker" in self && "createImageBitmap" in self;
  const said = make("p", { role: "status" });
  if (data.recording) box.prepend(recording);
  if (!able) {
    said.textContent = "This browser cannot run the model (it lacks WebAssembly or DecompressionStream; browsers since 2023 have both), so here is a recording.";
    box.append(said);
    return;
  }
  const size = Object.entries(data.packs).filter(([name]) => /^(ort|teacher)/.test(name) || name.startsWith(data.categories[0].name))
    .reduce((sum, [, one]) => sum + one.bytes, 0);
  const go = button(box, `Start: paint on it yourself (loads ${fixed(size / 1e6, 1)} MB)`, async () => {
    go.remove();
    try {
      await open(box, data);
      recording.remove();
    } catch (error) {
      for (const node of box.querySelectorAll("progress, [role=status]")) node.remove();
      said.textContent = `The model did not start: ${error.message}. The recording shows what it does.`;
      box.append(said);
    }
  });
}

// Without Jupyter: on a page of the book, next to its files.
function start(data) {
  const base = new URL(".", document.currentScript.src).href;
  const whole = { label: "Live detector", base, recording: `${base}recording.webp`, ...data };
  for (const el of document.querySelectorAll("[data-live]")) render({ model: { get: () => whole }, el });
}

export default { render };
