// TrainingFilm: frames of a training or of another quantity, side by side, scrubbed or played.

function render({ model, el }) {
  const { width, panels, sizes, frames, steps, figures, handle } = model.get("data");
  const box = frame(el, model, "TrainingFilm");
  // A panel that never changes is in the first frame only.
  const stills = frames[0].map(bytes);
  const pictures = frames.map((frame) => frame.map((text, p) => (text === null ? stills[p] : bytes(text))));
  const last = frames.length - 1;
  slider(box, model, "frame", handle, { min: 0, max: last, format: (n) => String(steps[n]) });
  const play = make("button", { type: "button" }, "Play");
  box.controls.append(make("div", { class: "control" }, play));
  let timer = null;
  const stop = () => {
    clearInterval(timer);
    timer = null;
    play.textContent = "Play";
  };
  const go = (n) => {
    model.set("frame", n);
    model.save_changes();
  };
  play.addEventListener("click", () => {
    if (timer) {
      stop();
      return;
    }
    if (model.get("frame") === last) go(0);
    play.textContent = "Stop";
    timer = setInterval(() => {
      if (model.get("frame") >= last) stop();
      else go(model.get("frame") + 1);
    }, 300);
  });
  // A coarse panel has larger pixels, so that all are equally large.
  const scales = sizes.map(([, w]) => Math.max(1, Math.round(160 / width)) * (width / w));
  const views = panels.map((name, p) => picture(box, sizes[p][1], sizes[p][0], name, scales[p]));
  const show = values(box, { step: handle, ...Object.fromEntries(Object.keys(figures).map((k) => [k, k])),
    brightness: `mean brightness of “${panels[panels.length - 1]}”, 0 to 255` });

  follow(model, ["frame"], () => {
    const n = model.get("frame");
    const shown = { step: String(steps[n]) };
    for (const [name, column] of Object.entries(figures)) shown[name] = fixed(column[n], 3);
    pictures[n].forEach((rgb, p) => views[p].draw((x, y) => {
      const i = 3 * (Math.floor(y / scales[p]) * sizes[p][1] + Math.floor(x / scales[p]));
      return [rgb[i], rgb[i + 1], rgb[i + 2]];
    }, `${panels[p]} at ${handle} ${steps[n]}`));
    const mapped = pictures[n][panels.length - 1];
    let sum = 0;
    for (const value of mapped) sum += value;
    shown.brightness = fixed(sum / mapped.length, 1);
    show(shown);
  });
  return stop;
}

export default { render };
