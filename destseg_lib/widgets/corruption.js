// CorruptionLab: Perlin noise turned and cut at a threshold, filled with a texture.

const fade = (t) => t ** 3 * (t * (6 * t - 15) + 10);

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

function render({ model, el }) {
  const data = model.get("data");
  const { size, angles, lines, names } = data;
  const box = frame(el, model, "CorruptionLab");
  const image = bytes(data.image);
  const textures = data.textures.map(bytes);
  const power = { min: 0, max: Math.log2(lines - 1), format: (k) => String(2 ** k) };
  slider(box, model, "down", "Cells from top to bottom", power);
  slider(box, model, "across", "Cells from left to right", power);
  slider(box, model, "rotation", "Rotation", { min: -90, max: 90, step: 5, format: (d) => `${d}°` });
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

  follow(model, ["down", "across", "rotation", "threshold", "opacity", "texture"], () => {
    const noise = turned(
      perlin(size, 2 ** model.get("down"), 2 ** model.get("across"), angles, lines),
      size, model.get("rotation"),
    );
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
    noiseView.draw((x, y) => heat((noise[from(x, y)] + 1) / 2), "Perlin noise, bright where it is high");
    maskView.draw((x, y) => (noise[from(x, y)] > limit ? [255, 255, 255] : [0, 0, 0]),
      `The mask: ${share} percent of the image is white`);
    resultView.draw((x, y) => result.subarray(3 * from(x, y), 3 * from(x, y) + 3),
      `The image with ${model.get("texture")} laid over the masked ${share} percent`);
    show({ pixels: String(pixels), share: `${share} %`, change: fixed(change, 2) });
  });
}

export default { render };
