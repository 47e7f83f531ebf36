// AblationExplorer: the runs of every variant as dots on one scale, and one variant in numbers.

function mean(values) {
  let sum = 0;
  for (const value of values) sum += value;
  return sum / values.length;
}

function deviation(values) {
  const middle = mean(values);
  let squares = 0;
  for (const value of values) squares += (value - middle) ** 2;
  return Math.sqrt(squares / (values.length - 1));
}

function render({ model, el }) {
  const { categories, figures, variants, reference, rows } = model.get("data");
  const box = frame(el, model, "AblationExplorer");
  choice(box, model, "category", "Data", categories.map((name) => [name, name]));
  choice(box, model, "figure", "Metric", figures);
  choice(box, model, "variant", "Variant", variants.map((name) => [name, name]));

  const [row, top, left, right] = [34, 6, 8, 392];
  const height = top + row * variants.length + 26;
  const svg = make("svg", { viewBox: `0 0 400 ${height}`, role: "img" });
  box.plots.append(make("figure", { class: "wide" }, svg));
  const show = values(box, {
    seeds: "seeds", mean: "mean, %", spread: "spread of seeds", difference: "to the reference",
    verdict: "verdict", paper: "the paper's, %",
  });

  follow(model, ["category", "figure", "variant"], () => {
    const [category, figure, chosen] = ["category", "figure", "variant"].map((k) => model.get(k));
    const found = rows[category][figure];
    const all = variants.flatMap((name) => found[name].runs);
    const low = all.length ? Math.floor(Math.min(...all) - 1) : 0;
    const high = all.length ? Math.ceil(Math.max(...all) + 1) : 100;
    const x = (value) => left + ((right - left) * (value - low)) / (high - low);
    const parts = [];
    const base = found[reference].runs;
    if (base.length) {
      parts.push(make("line", {
        class: "guide", x1: x(mean(base)), x2: x(mean(base)), y1: top, y2: height - 22,
      }));
    }
    variants.forEach((name, n) => {
      const { runs } = found[name];
      const y = top + row * n + 25;
      parts.push(make("text", { x: left, y: y - 10, "font-weight": name === chosen ? "bold" : "normal" },
        `${name === chosen ? "▶ " : ""}${name}${runs.length ? "" : " (not run yet)"}`));
      runs.forEach((value) => parts.push(make("circle", {
        class: name === chosen ? "point" : "dot", cx: x(value), cy: y, r: 4,
      })));
      if (runs.length) {
        parts.push(make("rect", { class: "bar", x: x(mean(runs)) - 1.5, y: y - 8, width: 3, height: 16 }));
      }
    });
    parts.push(make("path", { class: "axis", d: `M${left} ${height - 22}H${right}` }));
    parts.push(make("text", { x: left, y: height - 8 }, `${low} %`));
    parts.push(make("text", { x: right, y: height - 8, "text-anchor": "end" }, `${high} %`));
    svg.replaceChildren(...parts);

    const { runs, difference, verdict, paper } = found[chosen];
    const absent = "not run yet";
    const shown = runs.length
      ? {
        seeds: String(runs.length),
        mean: fixed(mean(runs), 1),
        spread: runs.length > 1 ? fixed(deviation(runs), 1) : "one seed",
        difference,
        verdict,
        paper,
      }
      : { seeds: "0", mean: absent, spread: absent, difference: absent, verdict: absent, paper };
    show(shown);
    svg.setAttribute("aria-label",
      `${figures.find(([key]) => key === figure)[1]} of ${variants.length} variants on ${category}; `
      + `${chosen}: mean ${shown.mean}, spread ${shown.spread}, to the reference ${shown.difference}`);
  });
}

export default { render };
