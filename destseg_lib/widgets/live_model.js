// What the live element and the page of a run share: loading the model, and showing its answer.

const MAP = 256; // side of a map

// Four bytes at once; every computer with a browser keeps the lowest first.
const COLOURS = Uint32Array.from({ length: 256 }, (_, i) => {
  const [red, green, blue] = heat(i / 255);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
});

const percent = (share) => `${Math.round(100 * share)} %`;

// What this browser lacks, or nothing.
function lacking() {
  return ["WebAssembly", "Worker", "DecompressionStream", "OffscreenCanvas", "createImageBitmap"].filter((name) => !(name in self));
}

// The files that everything needs, and those of the first category.
function firstFiles({ packs, categories: [{ file }] }) {
  return Object.keys(packs).filter((name) => /^(ort|teacher)/.test(name) || name.startsWith(`${file}.`));
}

// Load the runtime, the teacher and the first model, with a bar. Gives a function that asks the
// worker, and one that loads a category and gives its examples.
async function begin(box, data) {
  const status = make("p", { role: "status" }, "Loading ...");
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Loading" });
  box.append(status, bar);
  const total = firstFiles(data).reduce((sum, name) => sum + data.packs[name].bytes, 0);
  let count = 0;
  const progress = (more) => {
    count += more;
    bar.value = count / total;
    status.textContent = `Loaded ${fixed(count / 1e6, 1)} of ${fixed(total / 1e6, 1)} MB`;
  };
  const ask = assistant();
  const loading = {}; // the examples of each category, once its model is there
  const fetchAll = async (file) => {
    await ask("model", { name: file, parts: await fetched(data, `${file}.onnx`, progress) });
    return data.packs[`${file}.json`] && json(await fetched(data, `${file}.json`, progress));
  };
  const load = ({ file }) => (loading[file] ??= fetchAll(file).catch((error) => {
    delete loading[file]; // so that it can be tried again
    throw error;
  }));
  try {
    const files = {};
    for (const name of firstFiles(data)) {
      if (/^(ort|teacher)/.test(name)) files[name] = await fetched(data, name, progress);
    }
    await ask("begin", { files, side: data.side, white: data.white });
    await load(data.categories[0]);
  } catch (error) {
    ask.stop();
    throw error;
  } finally {
    status.remove();
    bar.remove();
  }
  return { ask, load };
}

// Two canvases on each other: what is on the upper one leaves the lower one's pixels alone.
function layers(parent, side, caption, attributes = {}) {
  const lower = make("canvas", { width: side, height: side, role: "img", ...attributes });
  const upper = make("canvas", { width: MAP, height: MAP, "aria-hidden": "true" });
  const text = make("figcaption", {}, caption);
  parent.append(make("figure", {}, make("div", { class: "layers" }, lower, upper), text));
  return { lower, upper, text };
}

// A map as a heat picture, `highest` the brightest.
function heatPicture(parent, caption) {
  const { lower, upper, text } = layers(parent, MAP, caption);
  const context = lower.getContext("2d");
  const image = context.createImageData(MAP, MAP);
  const pixels = new Uint32Array(image.data.buffer);
  return {
    lower,
    upper,
    text,
    draw(map, highest, name) {
      for (let i = 0; i < map.length; i += 1) {
        pixels[i] = COLOURS[Math.max(0, Math.min(255, Math.round((255 * map[i]) / highest)))];
      }
      context.putImageData(image, 0, 0);
      lower.setAttribute("aria-label", name);
    },
  };
}

// Where an answer's map is highest.
function peakOf(map) {
  let at = 0;
  for (let i = 1; i < map.length; i += 1) if (map[i] > map[at]) at = i;
  return { x: at % MAP, y: Math.floor(at / MAP) };
}

// A verdict, and the score as a bar with the threshold on it.
function meter(parent) {
  const filled = make("div", { class: "filled" });
  const limit = make("div", { class: "limit" }, make("span", {}, "threshold"));
  const bar = make("div", { class: "score", "aria-hidden": "true" }, filled, limit);
  const verdict = make("p", { class: "verdict", role: "status" });
  const details = make("p", { class: "hint" });
  parent.append(make("div", { class: "judgement" }, verdict, details), bar);
  const judge = (score, threshold, highest) => {
    const over = score > threshold;
    const along = (value) => `${Math.min(100, (100 * value) / highest)}%`;
    filled.style.width = along(score);
    limit.style.left = along(threshold);
    bar.classList.toggle("over", over);
    const says = over ? "Defect found" : "No defect found";
    if (verdict.textContent !== says) verdict.textContent = says; // said when it changes
    return over;
  };
  judge.says = (text) => { details.textContent = text; };
  return judge;
}

const digitsOf = (highest) => (highest < 0.1 ? 4 : 3);

// What a threshold promises.
function promise({ calibration }, threshold, highest) {
  const { pictures, fpr } = calibration;
  return `The threshold ${fixed(threshold, digitsOf(highest))} is set so that about ${Number((100 * fpr).toPrecision(2))} % of good pictures are taken for defective; it comes from ${pictures} of them, judged by this very model.`;
}

function button(parent, text, act) {
  const node = make("button", { type: "button" }, text);
  node.addEventListener("click", act);
  parent.append(node);
  return node;
}

// Pictures that are dropped on a node.
function onDrop(node, open) {
  for (const kind of ["dragover", "dragleave", "drop"]) {
    node.addEventListener(kind, (event) => {
      event.preventDefault();
      node.classList.toggle("dropping", kind === "dragover");
      if (kind === "drop") open(event.dataTransfer.files[0]);
    });
  }
}

// A field to choose a picture in; `given` are more attributes.
function chooser(parent, text, open, given = {}) {
  const input = make("input", { type: "file", accept: "image/*", ...given });
  const label = make("label", { class: "file" }, text, input);
  parent.append(label);
  input.addEventListener("change", async () => {
    await open(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  });
  return label;
}
