// SimilarityProbe: one place of an image against all others, at each level of the teacher.

function render({ model, el }) {
  const { colours, image, width, height, levels } = model.get("data");
  const box = frame(el, model, "SimilarityProbe");
  const [palette, painting] = [bytes(colours), bytes(image)];
  const features = levels.map((level) => ({ ...level, vectors: signed(level.vectors) }));
  slider(box, model, "row", "Row", { min: 0, max: height - 1 });
  slider(box, model, "column", "Column", { min: 0, max: width - 1 });
  const scale = Math.max(1, Math.round(192 / width));
  const main = picture(box, width, height, "the image: point at a place, or use the arrow keys", scale);
  const views = features.map((f, n) =>
    picture(box, f.width, f.height, `level ${n + 1}: ${f.channels} channels, ${f.height} × ${f.width}`));
  const show = values(box, Object.fromEntries(features.flatMap((_, n) => [
    [`mean${n + 1}`, `level ${n + 1}, mean similarity`],
    [`least${n + 1}`, `level ${n + 1}, least similarity`],
  ])));

  const canvas = main.canvas;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  const go = (row, column) => {
    model.set("row", Math.min(Math.max(row, 0), height - 1));
    model.set("column", Math.min(Math.max(column, 0), width - 1));
    model.save_changes();
  };
  const point = (event) => {
    const place = canvas.getBoundingClientRect();
    go(Math.floor(((event.clientY - place.top) / place.height) * height),
      Math.floor(((event.clientX - place.left) / place.width) * width));
  };
  dragged(canvas, point);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    go(model.get("row") + step[0], model.get("column") + step[1]);
  });

  // Whole numbers until the last division, so that every machine finds the same.
  const similarity = (f, row, column) => {
    const at = Math.floor((row * f.height) / height) * f.width + Math.floor((column * f.width) / width);
    const out = new Float64Array(f.width * f.height);
    const dot = (a, b) => {
      let sum = 0;
      for (let c = 0; c < f.channels; c += 1) sum += f.vectors[a * f.channels + c] * f.vectors[b * f.channels + c];
      return sum;
    };
    const own = dot(at, at);
    for (let i = 0; i < out.length; i += 1) {
      const norm = Math.sqrt(own * dot(i, i));
      out[i] = norm ? dot(at, i) / norm : 0;
    }
    return out;
  };

  follow(model, ["row", "column"], () => {
    const [row, column] = [model.get("row"), model.get("column")];
    const shown = {};
    main.draw((X, Y) => {
      const [x, y] = [Math.floor(X / scale), Math.floor(Y / scale)];
      const near = Math.max(Math.abs(x - column), Math.abs(y - row));
      if (near === 2) return ORANGE;
      if (near === 3) return [0, 0, 0];
      const i = 3 * painting[y * width + x];
      return [palette[i], palette[i + 1], palette[i + 2]];
    }, `The image; the chosen place is row ${row}, column ${column}`);
    features.forEach((f, n) => {
      const found = similarity(f, row, column);
      let [sum, least] = [0, 1];
      for (const s of found) {
        sum += s;
        least = Math.min(least, s);
      }
      views[n].draw((x, y) => heat(found[y * f.width + x]),
        `Level ${n + 1}: similarity of every place to the chosen one, bright is alike`);
      shown[`mean${n + 1}`] = fixed(sum / found.length, 3);
      shown[`least${n + 1}`] = fixed(least, 3);
    });
    show(shown);
  });
}

export default { render };
