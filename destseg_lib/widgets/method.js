// MethodPicture: the method as one picture; a part opens and shows its tensors.

function render({ model, el }) {
  const { phases, drawn, parts, values: known, shown, pictures } = model.get("data");
  const box = frame(el, model, "MethodPicture");
  choice(box, model, "phase", "When", Object.entries(phases));
  choice(box, model, "part", "Part", Object.entries(parts).map(([name, part]) => [name, part.label]));
  const whole = make("div", { class: "method" });
  box.controls.after(whole);
  const says = make("p", { class: "says", "aria-live": "polite" });
  whole.after(says);
  const show = values(box, { state: "its weights", gives: "gives" });
  says.after(box.lastChild);
  const open = (name) => {
    model.set("part", name);
    model.save_changes();
  };
  const partOf = (event) => event.target.closest("[data-part]")?.dataset.part;
  whole.addEventListener("click", (event) => partOf(event) && open(partOf(event)));
  whole.addEventListener("keydown", (event) => {
    if (!["Enter", " "].includes(event.key) || !partOf(event)) return;
    event.preventDefault();
    open(partOf(event));
  });
  let phase = null;
  follow(model, ["phase", "part"], () => {
    const name = model.get("part");
    const part = parts[name];
    if (phase !== model.get("phase")) {
      phase = model.get("phase");
      whole.innerHTML = drawn[phase]; // from Python, with nothing of the reader's in it
    }
    for (const node of whole.querySelectorAll("[data-part]")) {
      node.classList.toggle("here", node.dataset.part === name);
      node.setAttribute("aria-pressed", String(node.dataset.part === name));
    }
    const title = part.label[0].toUpperCase() + part.label.slice(1);
    says.replaceChildren(make("strong", {}, `${title}. `), part.says[phase] ?? "It is not used in this phase.");
    // The chapters are pages of the book, and of nothing else.
    if (document.querySelector(".bd-article")) {
      const number = part.chapter.split("_")[0].replace(/^0/, "");
      says.append(" ", make("a", { href: `${part.chapter}.html` }, `Chapter ${number}`), " builds it.");
    }
    box.pictures.replaceChildren();
    for (const one of (shown[phase][name] ?? []).map((n) => pictures[n])) {
      const scale = Math.max(1, Math.round(96 / one.width));
      const range = one.range ? `: ${one.range}` : "";
      const view = picture(box, one.width, one.height, `${one.name}${range}`, scale);
      const levels = bytes(one.levels);
      const colours = one.colours && bytes(one.colours);
      view.draw((x, y) => {
        const i = Math.floor(y / scale) * one.width + Math.floor(x / scale);
        return colours ? colours.subarray(3 * levels[i], 3 * levels[i] + 3) : heat(levels[i] / 255);
      }, `${one.name}${range}`);
    }
    show(known[phase][name]);
  });
}

export default { render };
