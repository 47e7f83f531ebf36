// A link of the text sets an interactive: [learned](#heading "set Fusion to learned"). It leads to
// the heading before the interactive, where it also leads without this script, and its title names
// controls by their labels and the values as they are shown; several have a semicolon between them.

const SETTING = /^set (.+)$/;

// The interactive that a link means: the first after the place it leads to that has the controls.
function meant(link, labels) {
  const place = document.getElementById(decodeURIComponent(link.hash.slice(1)));
  if (!place) return null;
  const boxes = [...document.querySelectorAll(".destseg")];
  return boxes.find((box) => {
    const after = place.compareDocumentPosition(box) & Node.DOCUMENT_POSITION_FOLLOWING;
    const inside = place.contains(box);
    return (after || inside) && labels.every((label) => control(box, label));
  });
}

function control(box, label) {
  const found = [...box.querySelectorAll(".control label")].find(
    (one) => one.textContent.trim().toLowerCase() === label.toLowerCase(),
  );
  return found && box.querySelector(`#${CSS.escape(found.htmlFor)}`);
}

// "Cells from top to bottom to 8" is a label and a value: the last "to" parts them.
function pair(one) {
  const place = one.lastIndexOf(" to ");
  return [one.slice(0, place), one.slice(place + 4)];
}

function put(input, value) {
  input.value = value;
  input.dispatchEvent(new Event("input", { bubbles: true }));
}

// What a slider shows at a position, as a number; what is no number is beyond all.
function shown(input, position) {
  put(input, position);
  const number = parseFloat(input.getAttribute("aria-valuetext"));
  return Number.isFinite(number) ? number : Infinity;
}

// Sliders show more than their positions, rising: halve until one position is left.
function slide(input, wanted) {
  const step = Number(input.step) || 1;
  let low = 0;
  let high = Math.round((input.max - input.min) / step);
  const at = (n) => shown(input, Number(input.min) + n * step);
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (at(middle) < wanted) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && wanted - at(low - 1) < at(low) - wanted) low -= 1;
  at(low);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[title]");
  const said = link && SETTING.exec(link.title);
  if (!said) return;
  const settings = said[1].split("; ").map(pair);
  const box = meant(link, settings.map(([label]) => label));
  if (!box) return; // the link still leads to the heading
  event.preventDefault();
  for (const [label, value] of settings) {
    const input = control(box, label);
    const option = [...(input.options ?? [])].find((one) => one.text === value);
    if (option) put(input, option.value);
    else slide(input, value === "the end" ? Infinity : parseFloat(value));
  }
  box.scrollIntoView({ block: "nearest" });
});
