// The part that all elements share. Each element's file follows this text in one module, because a
// page opened from disk may not import one file from another.

const SVG = "http://www.w3.org/2000/svg";

// Okabe and Ito's colours, distinct for readers with any colour vision.
const ORANGE = [230, 159, 0];
const SKY = [86, 180, 233];

let made = 0;

function make(tag, attributes = {}, ...children) {
  const node = ["svg", "g", "path", "circle", "line", "text", "title", "rect"].includes(tag)
    ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// The box of one element, with a hint as its first line.
function frame(el, model, name) {
  const data = model.get("data");
  const label = data.label || name;
  const box = make("div", { class: "destseg", role: "group", "aria-label": label });
  box.dataset.element = name;
  box.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take arrow keys and letters for its own
  if (data.hint) box.append(make("p", { class: "hint" }, data.hint));
  box.controls = make("div", { class: "controls" });
  box.pictures = make("div", { class: "pictures" });
  box.plots = make("div", { class: "plots" });
  box.append(box.controls, box.pictures, box.plots);
  el.append(box);
  return box;
}

// A setting lives in the model: Python may change it, and sees what the reader changes.
function bind(model, name, input, read, show) {
  input.dataset.setting = name;
  input.addEventListener("input", () => {
    model.set(name, read());
    model.save_changes();
  });
  model.on(`change:${name}`, show);
  show();
}

function slider(box, model, name, label, { min, max, step = 1, format = String }) {
  const id = `destseg-${(made += 1)}`;
  const shown = make("output", { for: id });
  const input = make("input", { type: "range", id, min, max, step });
  box.controls.append(
    make("div", { class: "control" }, make("label", { for: id }, label), shown, input),
  );
  bind(model, name, input, () => Number(input.value), () => {
    const value = model.get(name);
    input.value = value;
    shown.textContent = format(value);
    input.setAttribute("aria-valuetext", format(value));
  });
  return input;
}

function choice(box, model, name, label, options) {
  const id = `destseg-${(made += 1)}`;
  const input = make("select", { id });
  for (const [value, text] of options) input.append(make("option", { value }, text));
  box.controls.append(make("div", { class: "control" }, make("label", { for: id }, label), " ", input));
  bind(model, name, input, () => input.value, () => {
    input.value = model.get(name);
  });
  return input;
}

// Values that the text may mention; tests compare them with Python's.
function values(box, labels) {
  const list = make("div", { class: "values", role: "group", "aria-label": "Values" });
  const outputs = {};
  for (const [name, label] of Object.entries(labels)) {
    const output = make("output", { "data-value": name, "aria-label": label });
    outputs[name] = output;
    list.append(make("div", { class: "value" }, make("span", {}, label), output));
  }
  box.append(list);
  return (shown) => {
    for (const [name, text] of Object.entries(shown)) outputs[name].textContent = text;
  };
}

// A picture that can be drawn again; its name describes the present drawing.
function picture(box, width, height, caption, scale = 1) {
  const canvas = make("canvas", { width: width * scale, height: height * scale, role: "img" });
  const text = make("figcaption", {}, caption);
  box.pictures.append(make("figure", {}, canvas, text));
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width * scale, height * scale);
  return {
    canvas,
    // colour(x, y, i) gives [r, g, b] of one pixel of the drawing.
    draw(colour, name) {
      let at = 0;
      for (let y = 0; y < height * scale; y += 1) {
        for (let x = 0; x < width * scale; x += 1) {
          const rgb = colour(x, y);
          pixels.data[at] = rgb[0];
          pixels.data[at + 1] = rgb[1];
          pixels.data[at + 2] = rgb[2];
          pixels.data[at + 3] = 255;
          at += 4;
        }
      }
      context.putImageData(pixels, 0, 0);
      canvas.setAttribute("aria-label", name);
    },
  };
}

// Calls point(event) where the pointer presses or drags on a canvas.
function dragged(canvas, point) {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    point(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons) point(event);
  });
}

// A curve in the unit square with a point on it.
function plot(box, title, xLabel, yLabel, xMax = 1) {
  const path = make("path", { class: "curve" });
  const point = make("circle", { class: "point", r: 5 });
  const name = make("title", {}, title);
  const svg = make("svg", { viewBox: "0 0 200 190", role: "img", "aria-label": title }, name,
    make("path", { class: "axis", d: "M30 8V150H190" }),
    make("text", { x: 110, y: 182, "text-anchor": "middle" }, xLabel),
    make("text", { x: -79, y: 10, transform: "rotate(-90)", "text-anchor": "middle" }, yLabel),
    make("text", { x: 30, y: 165, "text-anchor": "middle" }, "0"),
    make("text", { x: 190, y: 165, "text-anchor": "middle" }, String(xMax)),
    make("text", { x: 25, y: 14, "text-anchor": "end" }, "1"),
    path, point);
  box.plots.append(make("figure", {}, svg, make("figcaption", {}, title)));
  const place = (x, y) => [30 + (160 * Math.min(x, xMax)) / xMax, 150 - 140 * y];
  return {
    curve(points) {
      const inside = points.filter(([x, y]) => Number.isFinite(y) && x <= xMax);
      path.setAttribute("d", inside.map(([x, y], i) => `${i ? "L" : "M"}${place(x, y).join(" ")}`).join(""));
    },
    point(x, y) {
      const seen = Number.isFinite(x) && Number.isFinite(y);
      point.setAttribute("visibility", seen ? "visible" : "hidden");
      if (seen) {
        const [cx, cy] = place(x, y);
        point.setAttribute("cx", cx);
        point.setAttribute("cy", cy);
      }
      const now = seen ? `at ${xLabel} ${fixed(x, 3)}, ${yLabel} ${fixed(y, 3)}` : "undefined here";
      svg.setAttribute("aria-label", `${title}: ${now}`);
      name.textContent = `${title}: ${now}`;
    },
  };
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function signed(text) {
  return new Int8Array(bytes(text).buffer);
}

function fixed(value, digits) {
  return Number.isFinite(value) ? value.toFixed(digits) : "undefined";
}

// Viridis by five of its colours: dark is low, bright is high, in grey too.
const HEAT = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function heat(share) {
  const at = Math.min(Math.max(share, 0), 1) * (HEAT.length - 1);
  const low = Math.min(Math.floor(at), HEAT.length - 2);
  return HEAT[low].map((value, i) => Math.round(value + (at - low) * (HEAT[low + 1][i] - value)));
}

// Draw again when any of the settings changes, from either side.
function follow(model, names, update) {
  for (const name of names) model.on(`change:${name}`, update);
  update();
}
