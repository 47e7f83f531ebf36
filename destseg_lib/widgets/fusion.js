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
    ["sum", "weighted sum"], ["product", "product"], ...(final ? [["learned", "learned"]] : []),
  ]);
  levels.forEach((_, n) => slider(box, model, `weight${n + 1}`, `Weight of level ${n + 1}`, {
    min: 0, max: 4, format: (w) => (model.get("rule") === "product" ? (w ? "in" : "out") : String(w)),
  }));
  const scale = Math.max(fine, Math.round(128 / width));
  // Each photograph is next to its map, so that scores and true defects are seen together.
  const views = names.map((name) => [name, `${name}, fused map`]
    .map((caption) => picture(box, width, height, caption, scale)));
  const show = values(box, { auroc: "pixel AUROC", ap: "pixel AP" });
  const size = width * height;
  // From a place in a picture to one in its data; a photograph may be finer than its map.
  const place = (finer) => (x, y) => (
    Math.floor((y * finer) / scale) * finer * width + Math.floor((x * finer) / scale));
  const [from, dot] = [place(1), place(fine)];
  names.forEach((name, n) => views[n][0].draw((x, y) => {
    const i = 3 * painted[n][dot(x, y)];
    return [colours[i], colours[i + 1], colours[i + 2]];
  }, `${name}: ${faulty.subarray(n * size, (n + 1) * size).filter(Boolean).length} faulty pixels`));

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
    names.forEach((name, n) => views[n][1].draw(
      (x, y) => heat(high ? score[n * size + from(x, y)] / high : 0),
      `${name}: the map fused by ${rule}, bright where it is high`,
    ));
    show({ auroc: fixed(auroc, 3), ap: fixed(ap, 3) });
  });
}

export default { render };
