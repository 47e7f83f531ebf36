// ThresholdExplorer: one threshold, its outline, its four counts, and its place on three curves.

function render({ model, el }) {
  const data = model.get("data");
  const { colours, images, scores, regions, width, height, low, high, names, folded } = data;
  const box = frame(el, model, "ThresholdExplorer");
  const size = width * height;
  const palette = bytes(colours);
  const painted = images.map(bytes);
  const level = bytes(scores);
  const region = new Uint8Array(level.length);
  for (const [start, length, number] of regions) region.fill(number, start, start + length);
  const top = 256; // one above the highest level: nothing is flagged

  // How many pixels of each region, and of none, have each level; then how many reach it.
  const sizes = [];
  const reach = [];
  for (let i = 0; i < level.length; i += 1) {
    const r = region[i];
    reach[r] ??= new Array(top + 1).fill(0);
    reach[r][level[i]] += 1;
    sizes[r] = (sizes[r] ?? 0) + 1;
  }
  for (const counts of reach) for (let t = top - 1; t >= 0; t -= 1) counts[t] += counts[t + 1];

  const negatives = sizes[0];
  const positives = level.length - negatives;
  const at = (t) => {
    const fp = reach[0][t];
    let tp = 0;
    let overlap = 0;
    for (let r = 1; r < sizes.length; r += 1) {
      tp += reach[r][t];
      overlap += reach[r][t] / sizes[r];
    }
    overlap /= sizes.length - 1;
    return { tp, fp, overlap, recall: tp / positives, fpr: fp / negatives, precision: tp / (tp + fp) };
  };
  const score = (t) => low + (t / 255) * (high - low);

  slider(box, model, "level", "Threshold", {
    min: 0, max: top, format: (t) => (t === top ? "above all" : fixed(score(t), 3)),
  });
  const scale = Math.max(1, Math.round(192 / width));
  const views = images.map((_, n) => picture(box, width, height, names[n], scale));
  const curves = [...Array(top + 1).keys()].reverse().map(at);
  const roc = plot(box, "ROC", "false-positive rate", "recall");
  const pr = plot(box, "Precision and recall", "recall", "precision");
  const pro = plot(box, "Overlap (PRO), up to 0.3", "false-positive rate", "mean overlap", 0.3);
  roc.curve(curves.map((c) => [c.fpr, c.recall]));
  pr.curve(curves.map((c) => [c.recall, c.precision]));
  pro.curve(curves.map((c) => [c.fpr, c.overlap]));
  const show = values(box, {
    threshold: "threshold", tp: "true positives", fp: "false positives", fn: "false negatives",
    tn: "true negatives", recall: "recall", fpr: "false-positive rate", precision: "precision",
    overlap: "mean overlap",
  });
  if (folded) {
    const more = make("details", {}, make("summary", {}, "Curves and counts"));
    more.append(box.plots, box.lastElementChild);
    box.append(more);
  }

  const outlined = (n, t) => {
    const flagged = (x, y) =>
      x >= 0 && y >= 0 && x < width && y < height && level[n * size + y * width + x] >= t;
    const faulty = (x, y) =>
      x >= 0 && y >= 0 && x < width && y < height && region[n * size + y * width + x] > 0;
    // The outline is a line of the drawing's own pixels, at the edge of the image's.
    const edge = (inside, X, Y) => {
      const x = Math.floor(X / scale);
      const y = Math.floor(Y / scale);
      if (!inside(x, y)) return false;
      const w = scale > 1 ? 1 : 0;
      return (X % scale <= w && !inside(x - 1, y)) || (Y % scale <= w && !inside(x, y - 1)) ||
        (X % scale >= scale - 1 - w && !inside(x + 1, y)) ||
        (Y % scale >= scale - 1 - w && !inside(x, y + 1));
    };
    views[n].draw((X, Y) => {
      if (edge(flagged, X, Y)) return ORANGE;
      if (edge(faulty, X, Y)) return SKY;
      const i = 3 * painted[n][Math.floor(Y / scale) * width + Math.floor(X / scale)];
      return [palette[i], palette[i + 1], palette[i + 2]];
    }, `${names[n]}: orange outlines ${level.subarray(n * size, (n + 1) * size)
      .filter((q) => q >= t).length} flagged pixels, blue outlines ${
      region.subarray(n * size, (n + 1) * size).filter((r) => r > 0).length} faulty ones`);
  };

  follow(model, ["level"], () => {
    const t = model.get("level");
    const now = at(t);
    images.forEach((_, n) => outlined(n, t));
    roc.point(now.fpr, now.recall);
    pr.point(now.recall, now.precision);
    pro.point(now.fpr <= 0.3 ? now.fpr : NaN, now.overlap);
    show({
      threshold: t === top ? "above all" : fixed(score(t), 3),
      tp: String(now.tp), fp: String(now.fp), fn: String(positives - now.tp),
      tn: String(negatives - now.fp), recall: fixed(now.recall, 3), fpr: fixed(now.fpr, 3),
      precision: fixed(now.precision, 3), overlap: fixed(now.overlap, 3),
    });
  });
}

export default { render };
