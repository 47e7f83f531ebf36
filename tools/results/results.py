"""Write the results in README.md and results/README.md from the records, or check they are fresh.

Run: ``python tools/results/results.py`` to write, with ``--check`` to compare.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from studies import studies
from world import levels, similarity, teachers, world

from destseg_lib.evaluation.tables import HEADINGS

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


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
        f"| run | map | {' | '.join(HEADINGS.values())} |",
        "|---|---|" + "---|" * len(HEADINGS),
    ]
    notes = []
    for path in records:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        report = record["report"]
        for name, figures in (("final", report), ("cosine product", report["cosine_product"])):
            cells = " | ".join(percent(figures[key]) for key in HEADINGS)
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


def drawing_headline(record: dict[str, Any]) -> str:
    """The embedded world: images a second, and the whole of it."""
    rates, whole = record["images_a_second"], record["whole_set"]
    return (
        f"**The embedded world**: {record['mean_images_a_second']:.0f} images a second "
        f"({min(rates.values()):.0f} to {max(rates.values()):.0f} by product); all "
        f"{whole['images']:,} images written in {whole['seconds']:.0f} s, at most "
        f"{whole['peak_mebibytes_of_memory']} MiB of memory"
    )


def ray_headline(record: dict[str, Any]) -> str:
    """Two workers of Ray against two plain processes."""
    plain, ray = (record["clock"][side] for side in ("plain", "ray"))
    return (
        f"**Ray**: a study on two workers in {ray:.0f} s, in two plain processes in {plain:.0f} s, "
        f"so {record['clock']['overhead']:.1%} more, of which its start is "
        f"{record['start_up']:.1f} s"
    )


HEADLINES = {
    "drawing": drawing_headline,
    "training": training_headline,
    "corruption": corruption_headline,
    "metrics": metrics_headline,
    "ray_overhead": ray_headline,
}


def exploration(path: Path) -> list[str]:
    """The runs a recipe was chosen by, on the selection half only."""
    record = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        "| run | when | pixels | student steps | segmentation steps | textures | "
        "final map: image AUROC, pixel AP | cosine product: the same |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in record["runs"]:
        final, product = (
            f"{percent(run[name]['image_auroc'])}, {percent(run[name]['pixel_ap'])}"
            if name in run
            else "not trained yet"
            for name in ("final", "cosine_product")
        )
        student = run["student_steps"] or f"the student of {run['student_taken_from_run']}"
        lines.append(
            f"| {run['run']} | {run['when']} | {run['image_size']} | {student} | "
            f"{run['segmentation_steps']} of {run['batch_size']} | {run['textures']} | {final} | "
            f"{product} |"
        )
    return [*lines, "", f"{record['what']} {record['machine']}; {record['code']}.", ""]


def by_defect(folder: Path) -> list[str]:
    """Image AUROC and pixel AP of each type of defect against the good images, reported half."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))["report"]
        defects = report["defects"]
        if not lines:
            lines = [f"| run | {' | '.join(defects)} |", "|---|" + "---|" * len(defects)]
        cells = " | ".join(
            f"{percent(d['image_auroc'])}, {percent(d['pixel_ap'])}" for d in defects.values()
        )
        lines.append(f"| {path.stem} | {cells} |")
    return [*lines, ""]


def pages() -> dict[Path, list[str]]:
    """Each file with generated text, and the lines between its two markers."""
    tiles = RESULTS / "magnetic_tile"
    return {
        ROOT / "README.md": [
            *world(RESULTS / "world"),
            *similarity(RESULTS / "builtin_teacher" / "similarity.json"),
            *photographs(tiles),
            *speed(RESULTS / "benchmarks"),
        ],
        RESULTS / "README.md": [
            *levels(RESULTS / "world"),
            *teachers(RESULTS / "teachers"),
            *studies(RESULTS / "studies"),
            "### Each type of defect, final map: image AUROC, pixel AP",
            "",
            *by_defect(tiles),
            "### The runs that the recipe was chosen by",
            "",
            *exploration(RESULTS / "exploration" / "magnetic_tile.json"),
        ],
    }


def main() -> int:
    """Write the files, or with --check fail if one would change."""
    stale = False
    for page, lines in pages().items():
        text = page.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        wanted = before + "\n".join([BEGIN, "", *lines, END]) + rest.split(END)[1]
        if wanted == text:
            continue
        stale = True
        if "--check" in sys.argv:
            name = page.relative_to(ROOT)
            print(
                f"The results in {name} are stale: run 'python tools/results/results.py'",
                file=sys.stderr,
            )
        else:
            page.write_text(wanted, encoding="utf-8")
    return int(stale and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
