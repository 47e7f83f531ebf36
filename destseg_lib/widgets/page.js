// The page of a run: a photograph goes in, an outline and a verdict come out.

const LONGEST = 1024; // of the photograph as it is shown, in pixels
const [LINE, RIM] = ["rgb(213 94 0)", "white"]; // as evaluation/pictures.py draws a defect

// Where n of `length` places lie along a map: after which of its values, and how far after.
function along(length, n) {
  const at = Math.min(MAP - 1, Math.max(0, ((n + 0.5) * MAP) / length - 0.5));
  return [Math.floor(at), at % 1];
}

// The places of a picture where a map, stretched over it, is above the threshold, as a shape; and
// the first and last of its rows.
function above(map, threshold, width, height) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const line = context.createImageData(width, 1);
  const columns = Array.from({ length: width }, (_, x) => along(width, x));
  const row = new Float32Array(MAP + 1);
  const rows = [];
  for (let y = 0; y < height; y += 1) {
    const [upper, down] = along(height, y);
    const lower = Math.min(MAP - 1, upper + 1);
    for (let n = 0; n < MAP; n += 1) row[n] = map[MAP * upper + n] * (1 - down) + map[MAP * lower + n] * down;
    row[MAP] = row[MAP - 1];
    if (!row.some((value) => value > threshold)) continue;
    columns.forEach(([left, share], x) => {
      line.data[4 * x + 3] = row[left] * (1 - share) + row[left + 1] * share > threshold ? 255 : 0;
    });
    context.putImageData(line, 0, y);
    rows.push(y);
  }
  if (!rows.length) { // a peak of a few pixels can drown
    const { x, y } = peakOf(map);
    rows.push(Math.floor((y * height) / MAP));
    context.fillRect(Math.floor((x * width) / MAP), rows[0], 1, 1);
  }
  return { canvas, first: rows[0], last: rows.at(-1) };
}

// A line around a shape, outside of it so that it hides nothing; at the picture's edge inside.
function lineAround(context, { canvas, first, last }, thick) {
  const { width, height } = canvas;
  const rim = thick + Math.max(1, Math.floor(thick / 2));
  const top = Math.max(0, first - rim);
  const bottom = Math.min(height, last + rim + 1);
  for (const [colour, reach] of [[RIM, rim], [LINE, thick]]) {
    const ring = make("canvas", { width, height: bottom - top });
    const pen = ring.getContext("2d");
    for (let n = 0; n < 16; n += 1) {
      const angle = (n * Math.PI) / 8;
      pen.drawImage(canvas, reach * Math.cos(angle), reach * Math.sin(angle) - top);
    }
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = colour;
    pen.fillRect(0, 0, width, height);
    pen.globalCompositeOperation = "destination-out";
    pen.beginPath();
    pen.rect(thick, thick - top, width - 2 * thick, height - 2 * thick);
    pen.clip();
    pen.drawImage(canvas, 0, -top);
    context.drawImage(ring, 0, top);
  }
}

function play(box, data, { ask }) {
  const category = data.categories[0];
  const threshold = category.thresholds[0];
  const note = make("p", { role: "status" }, `Ready: choose a photograph of ${category.name}, taken as the good ones were.`);
  const result = make("div", { hidden: true });
  box.append(note, result);
  const judge = meter(result);
  const reading = make("p", { class: "hint" });
  const pair = make("div", { class: "pair" });
  result.append(reading, pair);
  const photograph = make("canvas", { role: "img" });
  const caption = make("figcaption", {});
  pair.append(make("figure", {}, photograph, caption));
  const main = heatPicture(pair, "Anomaly map: bright where the part is not as it should be");
  const output = values(result, { score: "score", threshold: "threshold", peak: "peak (x, y), %", ms: "this pass, ms" });

  let newest = 0;
  async function open(file) {
    if (!file) return;
    const mine = (newest += 1);
    note.textContent = `Looking at ${file.name} ...`;
    try {
      const { pixels, shown } = await ask("read", { file, longest: LONGEST });
      const answer = await ask("look", { name: category.file, pixels }, [pixels.buffer]);
      if (mine === newest) show(file.name, shown, answer); // else another was chosen meanwhile
    } catch (error) {
      if (mine !== newest) return;
      note.textContent = `${file.name} ${error.message}.`;
      result.hidden = true;
    }
  }

  function show(name, picture, { maps, scores, ms }) {
    const map = maps.subarray(0, MAP * MAP);
    const highest = category.scales[0];
    const { width, height } = picture;
    result.hidden = false;
    const over = judge(scores[0], threshold, highest);
    const says = over ? "A defect is outlined" : "No defect was found";
    Object.assign(photograph, { width, height });
    photograph.setAttribute("aria-label", `The photograph ${name}. ${says}.`);
    const context = photograph.getContext("2d");
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.drawImage(picture, 0, 0);
    picture.close();
    if (over) lineAround(context, above(map, threshold, width, height), Math.max(2, Math.round(Math.max(width, height) / 250)));
    caption.textContent = over ? "The photograph, with what is above the threshold outlined" : "The photograph";
    main.draw(map, highest, `Anomaly map of ${name}, bright where it is high. ${says}.`);
    for (const layer of [main.lower, main.upper]) layer.style.aspectRatio = `${width} / ${height}`;
    note.textContent = `${name}, ${width} × ${height} pixels as shown.`;
    const digits = digitsOf(highest);
    reading.textContent = `Score ${fixed(scores[0], digits)}, threshold ${fixed(threshold, digits)}.`;
    const peak = peakOf(map);
    output({
      score: fixed(scores[0], 5), threshold: fixed(threshold, 5), ms: fixed(ms, 0),
      peak: [peak.x, peak.y].map((at) => fixed((100 * (at + 0.5)) / MAP, 0)).join(", "),
    });
  }

  const tools = make("div", { class: "tools choose" });
  note.before(tools);
  chooser(tools, "Take a photograph", open, { capture: "environment" }).classList.add("camera");
  chooser(tools, "Choose a photograph, or drop one here", open);
  onDrop(document.body, open);
  const { name, scales } = category;
  box.append(make("details", {}, make("summary", {}, "What this page does"), make("p", {},
    `A photograph is squashed to ${data.side} × ${data.side} pixels and goes through a model that has seen only good examples of ${name}. ${promise(data, threshold, scales[0])} So a good photograph is called defective about that often, and a defect that scores less is missed. Anything but ${name} is a defect to it, and so is other light or another camera. The score is the mean of the map's 100 largest values of ${MAP} × ${MAP}.`)));
}

async function start(data) {
  const box = make("div", { class: "destseg" });
  const said = make("p", { role: "status" });
  document.getElementById("page").append(make("h1", {}, data.title), box);
  box.append(make("p", { class: "hint" }, "The photograph stays on this device: the page computes here, and sends nothing anywhere."));
  const lacks = lacking();
  if (lacks.length) {
    said.textContent = `This browser cannot run the model: it lacks ${lacks.join(", ")}. Browsers since 2023 have all of it.`;
    box.append(said);
    return;
  }
  try {
    play(box, data, await begin(box, { base: "", ...data }));
  } catch (error) {
    said.textContent = `The model did not start: ${error.message}. Load the page again.`;
    box.append(said);
  }
}
