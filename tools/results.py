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


def short(commit: str | None) -> str:
    """Seven digits of a commit, and whether the library differed from it."""
    return "unknown" if commit is None else commit[:7] + commit[40:]


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
            f"`{short(report['provenance']['commit'])}`"
        )
    return [*lines, "", "In per cent.", "", *notes, ""]


def speed(folder: Path) -> list[str]:
    """A line a benchmark, each with the machine that it ran on."""
    lines = []
    for name, headline in HEADLINES.items():
        path = folder / f"{name}.json"
        if path.exists():
            record = json.loads(path.read_text(encoding="utf-8"))
            where = record["provenance"]
            lines.append(
                f"- {headline(record)}. {record['what']}; {where['device']} "
                f"({where['processor']}), commit `{short(where['commit'])}`."
            )
    return ["### Speed, each against its plain counterpart in one run", "", *lines, ""]


def metrics_headline(record: dict[str, Any]) -> str:
    """All six figures against AUPRO and IAP alone, region by region."""
    seconds = record["seconds"]
    return (
        f"**Metrics**: all six figures in {seconds['one sort, all six']:.2f} s, "
        f"{record['ratio_aupro_iap_by_region']:.0f} times as fast as AUPRO and IAP region by "
        f"region, {record['ratio_all_six_by_threshold']:.0f} times as fast as the usual "
        "approximation by 200 thresholds"
    )


def corruption_headline(record: dict[str, Any]) -> str:
    """The batch against one image at a time."""
    batched, plain, lean = (record[side]["ms_an_image"] for side in ("batched", "plain", "lean"))
    return (
        f"**Corruption**: {batched:.2f} ms an image, {plain / batched:.0f} times as fast as one "
        f"image at a time in plain numpy ({plain:.1f} ms), {lean / batched:.0f} times as fast as "
        f"in numpy written for speed ({lean:.1f} ms)"
    )


def training_headline(record: dict[str, Any]) -> str:
    """Both phases against the plain loop."""
    phases = ", ".join(
        f"{name} {record[name]['ours']['seconds_a_step']:.2f} s a step, "
        f"{record[name]['ratio']:.1f} times as fast (peak memory "
        f"{record[name]['ours']['peak_mib'] / 1024:.1f} against "
        f"{record[name]['plain']['peak_mib'] / 1024:.1f} GiB)"
        for name in ("student", "segmentation")
    )
    return f"**Training** against a plain fp32 loop that computes every branch: {phases}"


HEADLINES = {
    "training": training_headline,
    "corruption": corruption_headline,
    "metrics": metrics_headline,
}


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
