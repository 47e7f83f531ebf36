"""Write the README's results from the records under results/, or check that they are up to date.

Run: ``python tools/results.py`` to write, ``python tools/results.py --check`` to compare.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
FIGURES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO",
    "iap": "IAP",
    "iap90": "IAP@90",
}


def percent(value: float | None) -> str:
    """A figure as the paper prints it."""
    return "–" if value is None else f"{100 * value:.1f}"


def photographs(folder: Path) -> list[str]:
    """A table of the runs on photographs, the reported half of each."""
    records = sorted(folder.glob("*.json"))
    if not records:
        return []
    lines = [
        "### Magnetic tiles, the half of the test set that no choice was made on",
        "",
        f"| run | map | {' | '.join(FIGURES.values())} |",
        "|---|---|" + "---|" * len(FIGURES),
    ]
    notes = []
    for path in records:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        report = record["report"]
        for name, figures in (("final", report), ("cosine product", report["cosine_product"])):
            cells = " | ".join(percent(figures[key]) for key in FIGURES)
            lines.append(f"| {path.stem} | {name} | {cells} |")
        config, seconds = report["config"], record["training_seconds"]
        notes.append(
            f"- `{path.stem}`: {config['recipe']} recipe, seed {config['seed']}, "
            f"{config['image_size']} pixels, {config['student']['steps']} + "
            f"{config['segmentation']['steps']} steps of {config['batch_size']}, width "
            f"{config['model']['width']:g}; {sum(seconds.values()) / 60:.0f} min of training on "
            f"{report['provenance']['device']} ({report['provenance']['processor']}); commit "
            f"`{str(report['provenance']['commit'])[:7]}`"
        )
    return [*lines, "", "In per cent.", "", *notes, ""]


def speed(folder: Path) -> list[str]:
    """A list of the benchmarks' headlines."""
    records = sorted(folder.glob("*.json"))
    lines = [f"- {json.loads(path.read_text(encoding='utf-8'))['headline']}" for path in records]
    return (
        ["### Speed, each against its plain counterpart in one run", "", *lines, ""]
        if lines
        else []
    )


def render() -> str:
    """What stands between the two markers."""
    results = ROOT / "results"
    return "\n".join(
        [BEGIN, "", *photographs(results / "magnetic_tile"), *speed(results / "benchmarks"), END]
    )


def main() -> int:
    """Write the README, or with --check fail if it would change."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    wanted = before + render() + after
    if "--check" in sys.argv:
        if wanted != text:
            print("The README's results are stale: run 'python tools/results.py'.", file=sys.stderr)
        return int(wanted != text)
    README.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
