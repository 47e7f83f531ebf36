// FusionByHand: three maps weighted and summed, or switched and multiplied, against a learned one.

// Chance that a faulty pixel scores above a normal one, a tie counting half; and the mean precision.
function metrics(score, faulty) {
  const order = [...score.keys()].sort((a, b) => score[b] - score[a]);
  let [tp, fp, area, ap] = [0, 0, 0, 0];
  for (let i = 0; i < order.length;) {
    let [p, n] = [0, 0];
    const value = score[order[i]];
    for (; i < order.length && score[order[i]] === value; i += 1) {
      if (faulty[order[i]]) p += 1;
      else n += 1;
    }
    area += n * (tp + p / 2);
    tp += p;
    fp += n;
    ap += p * (tp / (tp + fp));
  }
  return { auroc: area / (tp * fp), ap: ap / tp };
}

function render({ model, el }) {
  const data = model.get("data");
  const { width, height, fine, names, learned } = data;
  const box = frame(el, model, "FusionByHand");
  const colours = bytes(data.colours);
  const painted = data.images.map(bytes);
  const levels = data.levels.map(bytes);
  const faulty = new Uint8Array(levels[0].length);
  for (const [start, length] of data.masks) faulty.fill(1, start, start + length);
  const final = learned ? bytes(learned) : null;
  choice(box, model, "rule", "Fusion", [
    ["sum", "weighted sum"], ["product", "distance product"], ...(final ? [["learned", "learned"]] : []),
  ]);
  levels.forEach((_, n) => slider(box, model, `weight${n + 1}`, `Weight of level ${n + 1}`, {
    min: 0, max: 4, format: (w) => (model.get("rule") === "product" ? (w ? "in" : "out") : String(w)),
  }));
  const scale = Math.max(fine, Math.round(128 / width));
  // A photograph and its map are one picture: no width of the page can part them.
  box.pictures.classList.add("pairs");
  const views = names.map((name) => picture(box, 2 * width, height, name, scale));
  const show = values(box, { auroc: "pixel AUROC", ap: "pixel AP" });
  const size = width * height;
  const share = width * scale; // of a picture's width: the photograph's, and the map's
  // A photograph may be finer than its map.
  const dot = (x, y) => Math.floor((y * fine) / scale) * fine * width + Math.floor((x * fine) / scale);
  const at = (n, x, y) => n * size + Math.floor(y / scale) * width + Math.floor(x / scale);
  const outlined = (n, x, y) => faulty[at(n, x, y)] && [[1, 0], [-1, 0], [0, 1], [0, -1]].some(
    ([right, down]) => x + right < 0 || x + right >= share || y + down < 0
      || y + down >= height * scale || !faulty[at(n, x + right, y + down)]);
  follow(model, ["rule", ...levels.map((_, n) => `weight${n + 1}`)], () => {
    const rule = model.get("rule");
    const weights = levels.map((_, n) => model.get(`weight${n + 1}`));
    // Levels of 0 to 255 are whole numbers, and so are their sums and products: no rounding.
    const score = new Float64Array(faulty.length);
    for (let i = 0; i < score.length; i += 1) {
      if (rule === "learned") score[i] = final[i];
      else if (rule === "sum") levels.forEach((level, n) => { score[i] += weights[n] * level[i]; });
      else {
        score[i] = 1;
        levels.forEach((level, n) => { if (weights[n]) score[i] *= level[i]; });
      }
    }
    const { auroc, ap } = metrics(score, faulty);
    let high = 0;
    for (const s of score) high = Math.max(high, s);
    names.forEach((name, n) => views[n].draw((X, y) => {
      const x = X % share;
      if (outlined(n, x, y)) return SKY;
      if (X >= share) return heat(high ? score[at(n, x, y)] / high : 0);
      const i = 3 * painted[n][dot(x, y)];
      return [colours[i], colours[i + 1], colours[i + 2]];
    }, `${name}: the photograph, and the map fused by ${rule}, bright where it is high; a blue line around ${
      faulty.subarray(n * size, (n + 1) * size).filter(Boolean).length} faulty pixels in both`));
    show({ auroc: fixed(auroc, 3), ap: fixed(ap, 3) });
  });
}

export default { render };
