// DilatedTaps: the nine taps of a 3 x 3 convolution on a map, at any dilation.

function render({ model, el }) {
  const { sides, most } = model.get("data");
  const box = frame(el, model, "DilatedTaps");
  slider(box, model, "dilation", "Dilation", { min: 1, max: most });
  choice(box, model, "side", "Side of the map", sides.map((side) => [side, `${side} × ${side}`]));
  const percent = { min: 0, max: 100, format: (n) => `${n} %` };
  slider(box, model, "across", "Place from left to right", percent);
  slider(box, model, "down", "Place from top to bottom", percent);
  // The map has a margin, so that taps outside it are seen.
  const [room, length] = [340, 200];
  const margin = (room - length) / 2;
  const lines = make("path", { stroke: "var(--line)", "stroke-width": 0.6 });
  const border = make("rect", {
    x: margin, y: margin, width: length, height: length, fill: "var(--field)", stroke: "var(--ink)", "stroke-width": 2,
  });
  const taps = make("g");
  const svg = make("svg", { viewBox: `0 0 ${room} ${room}`, role: "img" }, border, lines, taps);
  svg.style.cssText = "width:100%;max-width:24rem;height:auto;touch-action:none;cursor:crosshair";
  box.pictures.style.display = "block";
  box.pictures.append(svg);
  dragged(svg, (event) => {
    const place = svg.getBoundingClientRect();
    const share = (at, from, size) => {
      const part = (((at - from) / size) * room - margin) / length;
      return Math.min(Math.max(Math.round(100 * part), 0), 100);
    };
    model.set("across", share(event.clientX, place.left, place.width));
    model.set("down", share(event.clientY, place.top, place.height));
    model.save_changes();
  });
  const show = values(box, {
    span: "from the first tap to the last", inside: "taps inside", whole: "places that have all nine",
  });
  follow(model, ["dilation", "side", "across", "down"], () => {
    const [d, side] = [model.get("dilation"), Number(model.get("side"))];
    const at = (part) => Math.min(Math.floor((side * part) / 100), side - 1);
    const [column, row] = [at(model.get("across")), at(model.get("down"))];
    const cell = length / side;
    const grid = [...Array(side - 1).keys()].map((n) => margin + (n + 1) * cell);
    lines.setAttribute("d", grid.map((x) => `M${x} ${margin}v${length}M${margin} ${x}h${length}`).join(""));
    taps.replaceChildren();
    let inside = 0;
    for (const down of [-1, 0, 1]) {
      for (const right of [-1, 0, 1]) {
        const [r, c] = [row + down * d, column + right * d];
        const sees = r >= 0 && c >= 0 && r < side && c < side;
        inside += sees;
        // A tap far outside is drawn at the picture's edge.
        const pixel = (n) => Math.min(Math.max(margin + (n + 0.5) * cell, 8), room - 8);
        const [x, y] = [pixel(c), pixel(r)];
        taps.append(sees
          ? make("circle", { cx: x, cy: y, r: Math.max(4, cell / 2), fill: "var(--orange)" })
          : make("path", { d: `M${x - 5} ${y - 5}l10 10m0 -10l-10 10`, stroke: "var(--soft)", "stroke-width": 2 }));
      }
    }
    svg.setAttribute("aria-label",
      `A map of ${side} by ${side} places with nine taps ${d} apart; ${inside} of them are inside`);
    const whole = (Math.max(side - 2 * d, 0) ** 2) / side ** 2;
    show({ span: `${2 * d + 1} places`, inside: `${inside} of 9`, whole: `${fixed(100 * whole, 1)} %` });
  });
}

export default { render };
