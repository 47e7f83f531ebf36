// The picture that the reader paints on: brushes, erasing, moving, undoing, by pointer and keyboard.

const KEPT = 30; // pictures that can be undone

// Their sizes are in pixels of 128, whatever the model's side is.
const BRUSHES = {
  "dark scratch": { colour: "rgb(25 25 25)", size: 1 },
  "bright scratch": { colour: "rgb(235 235 235)", size: 1 },
  "red scratch": { colour: "rgb(200 40 40)", size: 1 },
  stain: { colour: "rgb(120 70 30 / 0.25)", size: 6, soft: true },
  hole: { colour: "rgb(10 10 10)", size: 3 },
};

// Fill a box with what is around it, the nearer the more; tools/live/strokes.py does the same.
function erase(context, { x, y, w, h }) {
  const { data } = context.getImageData(x - 1, y - 1, w + 2, h + 2);
  const at = (u, v, c) => data[4 * (v * (w + 2) + u) + c];
  const filled = context.createImageData(w, h);
  for (let v = 1; v <= h; v += 1) {
    for (let u = 1; u <= w; u += 1) {
      const weights = [1 / u, 1 / (w + 1 - u), 1 / v, 1 / (h + 1 - v)];
      const total = weights.reduce((a, b) => a + b);
      const i = 4 * ((v - 1) * w + u - 1);
      for (let c = 0; c < 3; c += 1) {
        const border = [at(0, v, c), at(w + 1, v, c), at(u, 0, c), at(u, h + 1, c)];
        filled.data[i + c] = border.reduce((sum, value, k) => sum + value * weights[k], 0) / total;
      }
      filled.data[i + 3] = 255;
    }
  }
  context.putImageData(filled, x, y);
}

// One movement of a brush.
function stroke(context, { colour, size, soft }, width, from, to) {
  const across = width * size;
  if (!soft) {
    Object.assign(context, { strokeStyle: colour, lineWidth: across, lineCap: "round" });
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x + 0.01, to.y); // a line of no length is not drawn
    context.stroke();
    return;
  }
  const glow = context.createRadialGradient(to.x, to.y, 0, to.x, to.y, across / 2);
  glow.addColorStop(0, colour);
  glow.addColorStop(0.4, colour);
  glow.addColorStop(1, "rgb(120 70 30 / 0)");
  context.fillStyle = glow;
  context.fillRect(to.x - across, to.y - across, 2 * across, 2 * across);
}

// Two points as a box that stays a pixel away from the picture's border.
function boxOf(from, to, side) {
  const inside = (value) => Math.min(Math.max(Math.round(value), 1), side - 1);
  const [left, right] = [from.x, to.x].map(inside).sort((a, b) => a - b);
  const [top, bottom] = [from.y, to.y].map(inside).sort((a, b) => a - b);
  return { x: left, y: top, w: right - left, h: bottom - top };
}

// The pixels around a mask, as a line on the layer above the picture: what is marked stays in sight.
function outline(context, mask, side) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < side && y < side && mask[y * side + x];
  context.save();
  context.scale(MAP / side, MAP / side);
  context.fillStyle = "white";
  for (let y = 0; y < side; y += 1) {
    for (let x = 0; x < side; x += 1) {
      const beside = inside(x - 1, y) || inside(x + 1, y) || inside(x, y - 1) || inside(x, y + 1);
      if (beside && !inside(x, y)) context.fillRect(x, y, 1, 1);
    }
  }
  context.restore();
}

// The picture that is painted on. It calls `changed` after every change.
function easel(parent, side, settings, changed) {
  const { lower, upper } = layers(parent, side, "Paint here", {
    tabindex: 0, role: "application", "aria-label": "The picture. Arrow keys move, space puts the brush down and lifts it.",
  });
  const context = lower.getContext("2d", { willReadFrequently: true });
  const over = upper.getContext("2d");
  const past = [];
  let truth = null;
  let about = ["", ""]; // what is said of the picture as it came, and once it was changed
  let marked = null; // the part that may be moved
  let gesture = null;
  let cursor = null; // of the keyboard

  const zoom = MAP / side;
  const coarse = side / 128;
  const whole = () => context.getImageData(0, 0, side, side);
  const remember = (stroke = true) => {
    past.push({ pixels: whole(), truth, about, stroke });
    if (past.length > KEPT) past.shift();
  };
  const within = ({ x, y }, box) => box && x >= box.x && y >= box.y && x < box.x + box.w && y < box.y + box.h;

  function layer() {
    over.clearRect(0, 0, MAP, MAP);
    if (truth && settings.outlined()) outline(over, truth, side);
    const box = gesture?.box || marked;
    if (box) {
      over.setLineDash([6, 4]);
      for (const [colour, offset] of [["black", 0], ["white", 5]]) {
        Object.assign(over, { strokeStyle: colour, lineDashOffset: offset, lineWidth: 2 });
        over.strokeRect(zoom * box.x, zoom * box.y, zoom * box.w, zoom * box.h);
      }
      over.setLineDash([]);
    }
    if (cursor) {
      for (const [colour, width] of [["black", 4], ["white", 2]]) {
        Object.assign(over, { strokeStyle: colour, lineWidth: width });
        over.beginPath();
        over.arc(zoom * cursor.x, zoom * cursor.y, gesture ? 5 : 9, 0, 2 * Math.PI);
        over.stroke();
      }
    }
  }

  function down(point) {
    const tool = settings.tool();
    if (BRUSHES[tool]) {
      remember();
      gesture = { from: point };
      drag(point);
    } else if (tool === "move" && within(point, marked)) {
      remember();
      const { x, y, w, h } = marked;
      gesture = { from: point, box: marked, before: whole(), piece: context.getImageData(x, y, w, h), start: marked };
    } else gesture = { from: point, box: boxOf(point, point, side) };
  }

  function drag(point) {
    if (!gesture) return;
    if (gesture.piece) {
      const { start, from } = gesture;
      const place = (at, size) => Math.min(Math.max(Math.round(at), 0), side - size);
      gesture.box = { ...start, x: place(start.x + point.x - from.x, start.w), y: place(start.y + point.y - from.y, start.h) };
      context.putImageData(gesture.before, 0, 0);
      erase(context, start);
      context.putImageData(gesture.piece, gesture.box.x, gesture.box.y);
      changed();
    } else if (gesture.box) gesture.box = boxOf(gesture.from, point, side);
    else {
      stroke(context, BRUSHES[settings.tool()], coarse * settings.width(), gesture.from, point);
      gesture.from = point;
      changed();
    }
    layer();
  }

  function up() {
    if (!gesture) return;
    const { box, piece } = gesture;
    gesture = null;
    marked = null;
    if (box && box.w > 1 && box.h > 1) {
      if (settings.tool() === "move") marked = box;
      else {
        remember();
        erase(context, box);
        changed();
      }
    } else if (piece) marked = box;
    layer();
  }

  const place = (event) => {
    const bounds = lower.getBoundingClientRect();
    return { x: ((event.clientX - bounds.left) * side) / bounds.width, y: ((event.clientY - bounds.top) * side) / bounds.height };
  };
  lower.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    lower.setPointerCapture(event.pointerId);
    cursor = null;
    down(place(event));
  });
  lower.addEventListener("pointermove", (event) => {
    for (const one of event.getCoalescedEvents?.() || []) if (gesture && !cursor) drag(place(one));
    if (gesture && !cursor) drag(place(event));
    const held = settings.tool() === "move" && (gesture?.piece || within(place(event), marked));
    lower.style.cursor = held ? (gesture ? "grabbing" : "grab") : "";
  });
  for (const end of ["pointerup", "pointercancel"]) lower.addEventListener(end, up);
  lower.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) back();
    else if (event.key === " " || event.key === "Enter") {
      cursor ??= { x: side / 2, y: side / 2 };
      if (gesture) up();
      else down(cursor);
    } else if (event.key === "Escape") {
      up();
      marked = null;
      cursor = null;
    } else if (step) {
      const far = coarse * (event.shiftKey ? 8 : 2);
      const { x, y } = cursor || { x: side / 2, y: side / 2 };
      const stay = (value) => Math.min(Math.max(value, 0), side - 1);
      cursor = { x: stay(x + far * step[0]), y: stay(y + far * step[1]) };
      drag(cursor);
    } else return;
    event.preventDefault();
    layer();
  });
  lower.addEventListener("blur", () => {
    if (cursor) up();
    cursor = null;
    layer();
  });

  function put(image, mask, words, forget) {
    if (forget) past.length = 0;
    else remember(false);
    truth = mask;
    about = words;
    marked = null;
    context.fillStyle = "white"; // behind a picture that lets light through
    context.fillRect(0, 0, side, side);
    if (image instanceof ImageData) context.putImageData(image, 0, 0);
    else context.drawImage(image, 0, 0, side, side);
    layer();
    changed();
  }

  function back() {
    const last = past.pop();
    if (!last) return;
    ({ truth, about } = last);
    marked = null;
    context.putImageData(last.pixels, 0, 0);
    layer();
    changed();
  }

  const touched = () => Boolean(past.at(-1)?.stroke);
  return {
    put,
    back,
    touched,
    undoable: () => past.length > 0,
    says: () => about[Number(touched())],
    canvas: lower,
    layer: () => { marked = null; layer(); },
    truth: () => truth,
    pixels() {
      const { data } = whole();
      const rgb = new Uint8Array(3 * side * side);
      for (let i = 0, at = 0; at < rgb.length; i += 4, at += 3) {
        rgb[at] = data[i];
        rgb[at + 1] = data[i + 1];
        rgb[at + 2] = data[i + 2];
      }
      return rgb;
    },
  };
}
