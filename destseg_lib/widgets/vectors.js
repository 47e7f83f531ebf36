// TwoVectors: the student's vector beside the teacher's, and three distances between them.

function render({ model, el }) {
  const { longest } = model.get("data");
  const box = frame(el, model, "TwoVectors");
  slider(box, model, "angle", "Angle between them", { min: 0, max: 180, format: (a) => `${a}°` });
  slider(box, model, "length", "Length of the student's vector", {
    min: 1, max: longest, format: (n) => fixed(n / 10, 1),
  });
  // The teacher's vector points to the right and has the length 1; y grows downwards.
  const unit = 90;
  const [left, bottom] = [210, 205];
  const arc = make("path", { fill: "none", stroke: "var(--soft)", "stroke-width": 1.5 });
  const circle = make("path", {
    d: `M${left + unit} ${bottom}A${unit} ${unit} 0 0 0 ${left - unit} ${bottom}`,
    fill: "none", stroke: "var(--line)", "stroke-width": 1.5,
  });
  const arrow = (colour) => make("line", {
    x1: left, y1: bottom, x2: left + unit, y2: bottom, stroke: colour, "stroke-width": 4,
    "stroke-linecap": "round",
  });
  const words = (text, colour, x, y) => make("text", { x, y, fill: colour, "font-size": 15 }, text);
  const [teacher, student] = [arrow("var(--blue)"), arrow("var(--orange)")];
  const ghost = make("line", { x1: left, y1: bottom, stroke: "var(--soft)", "stroke-dasharray": "3 4", "stroke-width": 2 });
  const tip = make("circle", { r: 9, fill: "var(--orange)" });
  const said = words("student", "var(--orange)", 0, 0);
  const svg = make("svg", { viewBox: "0 0 420 225", role: "img", class: "vectors" },
    circle, arc, teacher, ghost, student, tip, words("teacher", "var(--blue)", left + unit + 8, bottom + 5), said);
  svg.style.cssText = "width:100%;max-width:32rem;height:auto;touch-action:none;cursor:grab";
  box.pictures.style.display = "block";
  box.pictures.append(svg);
  dragged(svg, (event) => {
    const place = svg.getBoundingClientRect();
    const x = ((event.clientX - place.left) / place.width) * 420 - left;
    const y = bottom - ((event.clientY - place.top) / place.height) * 225;
    const degrees = Math.round((Math.atan2(Math.max(y, 0), x) * 180) / Math.PI);
    model.set("angle", Math.min(Math.max(degrees, 0), 180));
    model.set("length", Math.min(Math.max(Math.round((10 * Math.hypot(x, y)) / unit), 1), longest));
    model.save_changes();
  });
  const show = values(box, {
    cosine: "cosine distance", plain: "squared distance", normalised: "squared distance, both of length 1",
  });
  follow(model, ["angle", "length"], () => {
    const [angle, long] = [model.get("angle"), model.get("length") / 10];
    const cosine = Math.cos((angle * Math.PI) / 180);
    const [across, up] = [cosine, Math.sin((angle * Math.PI) / 180)];
    const at = (far) => [left + unit * far * across, bottom - unit * far * up];
    const [x, y] = at(long);
    student.setAttribute("x2", x);
    student.setAttribute("y2", y);
    tip.setAttribute("cx", x);
    tip.setAttribute("cy", y);
    const [nx, ny] = at(1);
    ghost.setAttribute("x2", nx);
    ghost.setAttribute("y2", ny);
    said.setAttribute("x", Math.min(x + 12, 350));
    said.setAttribute("y", Math.max(y - 10, 16));
    const [ax, ay] = at(0.35);
    arc.setAttribute("d", `M${left + 0.35 * unit} ${bottom}A${0.35 * unit} ${0.35 * unit} 0 0 0 ${ax} ${ay}`);
    svg.setAttribute("aria-label",
      `The student's vector is ${fixed(long, 1)} times as long as the teacher's and turned by ${angle} degrees`);
    show({
      cosine: fixed(1 - cosine, 3),
      plain: fixed(long * long + 1 - 2 * long * cosine, 3),
      normalised: fixed(2 - 2 * cosine, 3),
    });
  });
}

export default { render };
