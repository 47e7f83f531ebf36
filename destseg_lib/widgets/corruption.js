// CorruptionLab: Perlin noise turned and cut at a threshold, filled with a texture. The gradient in
// the middle of the lattice is a handle: its arrow is dragged in the picture of the noise.

const fade = (t) => t ** 3 * (t * (6 * t - 15) + 10);

const MOST_ARROWS = 8; // cells along an axis; with more, arrows would hide the noise

// Noise at every pixel: the gradients of the four lattice points around it, eased.
function perlin(size, cellsY, cellsX, angles, lines) {
  const noise = new Float64Array(size * size);
  for (let y = 0; y < size; y += 1) {
    const v = (y / size) * cellsY;
    const y0 = Math.floor(v);
    for (let x = 0; x < size; x += 1) {
      const u = (x / size) * cellsX;
      const x0 = Math.floor(u);
      let sum = 0;
      for (const ly of [y0, y0 + 1]) {
        for (const lx of [x0, x0 + 1]) {
          const angle = angles[ly * lines + lx];
          const dot = (u - lx) * Math.cos(angle) + (v - ly) * Math.sin(angle);
          sum += fade(1 - Math.abs(v - ly)) * fade(1 - Math.abs(u - lx)) * dot;
        }
      }
      noise[y * size + x] = Math.SQRT2 * sum;
    }
  }
  return noise;
}

// Turned about its centre, bilinearly; outside is 0.
function turned(noise, size, degrees) {
  if (degrees === 0) return noise;
  const [c, s] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  const out = new Float64Array(size * size);
  const half = (size - 1) / 2;
  const at = (y, x) => (y >= 0 && x >= 0 && y < size && x < size ? noise[y * size + x] : 0);
  for (let y = 0; y < size; y += 1) {
    for (let x = 0; x < size; x += 1) {
      const sx = c * (x - half) - s * (y - half) + half;
      const sy = s * (x - half) + c * (y - half) + half;
      const [x0, y0] = [Math.floor(sx), Math.floor(sy)];
      const [fx, fy] = [sx - x0, sy - y0];
      out[y * size + x] = (1 - fy) * ((1 - fx) * at(y0, x0) + fx * at(y0, x0 + 1)) +
        fy * ((1 - fx) * at(y0 + 1, x0) + fx * at(y0 + 1, x0 + 1));
    }
  }
  return out;
}

// An arrow on a canvas, dark at its edge so that it is seen on any colour.
function arrow(context, x, y, angle, length, colour) {
  const tip = [x + length * Math.cos(angle), y + length * Math.sin(angle)];
  for (const [width, style] of [[4, "#000"], [2, colour]]) {
    context.lineWidth = width;
    context.strokeStyle = style;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(...tip);
    for (const side of [2.6, -2.6]) {
      context.moveTo(...tip);
      context.lineTo(tip[0] + 5 * Math.cos(angle + side), tip[1] + 5 * Math.sin(angle + side));
    }
    context.stroke();
  }
}

function render({ model, el }) {
  const data = model.get("data");
  const { size, lines, names } = data;
  const box = frame(el, model, "CorruptionLab");
  const image = bytes(data.image);
  const textures = data.textures.map(bytes);
  const power = { min: 0, max: Math.log2(lines - 1), format: (k) => String(2 ** k) };
  slider(box, model, "down", "Cells from top to bottom", power);
  slider(box, model, "across", "Cells from left to right", power);
  slider(box, model, "turn", "Turn of the orange gradient", {
    min: -180, max: 180, step: 5, format: (d) => `${d}°`,
  });
  slider(box, model, "rotation", "Rotation of the noise", { min: -90, max: 90, step: 5, format: (d) => `${d}°` });
  slider(box, model, "threshold", "Threshold", {
    min: -20, max: 100, step: 5, format: (t) => fixed(t / 100, 2),
  });
  slider(box, model, "opacity", "Opacity of the texture", {
    min: 0, max: 100, step: 5, format: (t) => `${t} %`,
  });
  choice(box, model, "texture", "Texture", names.map((name) => [name, name]));
  const scale = Math.max(1, Math.round(192 / size));
  const noiseView = picture(box, size, size, "noise", scale);
  const maskView = picture(box, size, size, "mask", scale);
  const resultView = picture(box, size, size, "corrupted image", scale);
  const show = values(box, { pixels: "masked pixels", share: "share of the image", change: "mean change" });

  // Cells down and across, and the line and column of the lattice point that can be turned.
  const lattice = () => {
    const [cellsY, cellsX] = [2 ** model.get("down"), 2 ** model.get("across")];
    return { cellsY, cellsX, line: Math.floor(cellsY / 2), column: Math.floor(cellsX / 2) };
  };
  const middle = (size - 1) / 2;
  // A place of the turned noise in the noise as it was (back = 1), or the other way (back = -1).
  const unturned = (x, y, back) => {
    const turn = (model.get("rotation") * Math.PI) / 180;
    const [c, s] = [Math.cos(turn), back * Math.sin(turn)];
    return [c * (x - middle) - s * (y - middle) + middle, s * (x - middle) + c * (y - middle) + middle];
  };

  const canvas = noiseView.canvas;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  const turnTo = (degrees) => {
    const whole = 5 * Math.round(degrees / 5);
    model.set("turn", whole - 360 * Math.round(whole / 360));
    model.save_changes();
  };
  const point = (event) => {
    const { cellsY, cellsX, line, column } = lattice();
    const place = canvas.getBoundingClientRect();
    const [x, y] = unturned(((event.clientX - place.left) / place.width) * size - 0.5,
      ((event.clientY - place.top) / place.height) * size - 0.5, 1);
    const angle = Math.atan2(y - (line * size) / cellsY, x - (column * size) / cellsX);
    turnTo(((angle - data.angles[line * lines + column]) * 180) / Math.PI);
  };
  dragged(canvas, point);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -5, ArrowDown: 5, ArrowLeft: -5, ArrowRight: 5 }[event.key];
    if (!step) return;
    event.preventDefault();
    turnTo(model.get("turn") + step);
  });

  const drawArrows = (angles) => {
    const { cellsY, cellsX, line, column } = lattice();
    const length = Math.min(30, Math.max(14, (0.55 * scale * size) / Math.max(cellsY, cellsX)));
    const all = Math.max(cellsY, cellsX) <= MOST_ARROWS;
    for (let l = 0; l <= cellsY; l += 1) {
      for (let c = 0; c <= cellsX; c += 1) {
        const marked = l === line && c === column;
        if (!all && !marked) continue;
        const [x, y] = unturned((c * size) / cellsX, (l * size) / cellsY, -1);
        arrow(canvas.getContext("2d"), scale * (x + 0.5), scale * (y + 0.5),
          angles[l * lines + c] - (model.get("rotation") * Math.PI) / 180, length,
          marked ? `rgb(${ORANGE})` : "#fff");
      }
    }
  };

  follow(model, ["down", "across", "turn", "rotation", "threshold", "opacity", "texture"], () => {
    const { cellsY, cellsX, line, column } = lattice();
    const angles = [...data.angles];
    angles[line * lines + column] += (model.get("turn") * Math.PI) / 180;
    const noise = turned(perlin(size, cellsY, cellsX, angles, lines), size, model.get("rotation"));
    const limit = model.get("threshold") / 100;
    const opacity = model.get("opacity") / 100;
    const texture = textures[names.indexOf(model.get("texture"))];
    let pixels = 0;
    let change = 0;
    const result = new Float64Array(3 * size * size);
    for (let i = 0; i < size * size; i += 1) {
      const inside = noise[i] > limit;
      pixels += inside;
      for (let c = 3 * i; c < 3 * i + 3; c += 1) {
        const difference = inside ? texture[c] - image[c] : 0;
        result[c] = image[c] + opacity * difference;
        change += Math.abs(difference);
      }
    }
    change *= opacity / (3 * size * size);
    const share = fixed((100 * pixels) / (size * size), 1);
    const from = (x, y) => Math.floor(y / scale) * size + Math.floor(x / scale);
    noiseView.draw((x, y) => heat((noise[from(x, y)] + 1) / 2),
      `Perlin noise, bright where it is high; the orange gradient is turned by ${model.get("turn")} degrees`);
    drawArrows(angles);
    maskView.draw((x, y) => (noise[from(x, y)] > limit ? [255, 255, 255] : [0, 0, 0]),
      `The mask: ${share} percent of the image is white`);
    resultView.draw((x, y) => result.subarray(3 * from(x, y), 3 * from(x, y) + 3),
      `The image with ${model.get("texture")} laid over the masked ${share} percent`);
    show({ pixels: String(pixels), share: `${share} %`, change: fixed(change, 2) });
  });
}

export default { render };
