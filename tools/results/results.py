"""Write the tables in README.md and results/tables.md from the records, or check they are fresh.

Run: ``python tools/results/results.py`` to write, with ``--check`` to compare.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import how_fast
import on_a_gpu
import promised
import tables

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def speed(folder: Path) -> list[str]:
    """One line per benchmark, each with the machine that it ran on."""
    lines = []
    for name, headline in HEADLINES.items():
        path = folder / f"{name}.json"
        if path.exists():
            record = tables.read(path)
            where = record["provenance"]
            lines.append(
                f"- {headline(record)}. {record['what']}; {tables.machine(where)}, "
                f"{tables.commit(where)}."
            )
    return ["### Speed, each against its plain counterpart in one run", "", *lines, ""]


def drawing_headline(record: dict[str, Any]) -> str:
    """The drawn categories: images per second, and all of them."""
    rates, whole = record["images_a_second"], record["whole_set"]
    return (
        f"**The drawn categories**: {record['mean_images_a_second']:.0f} images per second "
        f"({min(rates.values()):.0f} to {max(rates.values()):.0f} by category); all "
        f"{whole['images']:,} images written in {whole['seconds']:.0f} s, at most "
        f"{whole['peak_mebibytes_of_memory']} MiB of memory"
    )


def training_headline(record: dict[str, Any]) -> str:
    """Both phases against the plain loop."""
    phases = ", ".join(
        f"{name} {record[name]['ours']['seconds_a_step']:.2f} s per step, "
        f"{record[name]['ratio']:.1f} times as fast (peak memory "
        f"{record[name]['ours']['peak_mib'] / 1024:.1f} against "
        f"{record[name]['plain']['peak_mib'] / 1024:.1f} GiB)"
        for name in ("student", "segmentation")
    )
    return f"**Training** against a plain fp32 loop that computes every branch: {phases}"


def corruption_headline(record: dict[str, Any]) -> str:
    """The batch against one image at a time."""
    batched, plain, lean = (record[side]["ms_an_image"] for side in ("batched", "plain", "lean"))
    return (
        f"**Corruption**: {batched:.2f} ms per image, {plain / batched:.0f} times as fast as one "
        f"image at a time in plain numpy ({plain:.1f} ms), {lean / batched:.0f} times as fast as "
        f"in numpy written for speed ({lean:.1f} ms)"
    )


def metrics_headline(record: dict[str, Any]) -> str:
    """All six metrics against AUPRO and IAP alone, region by region."""
    seconds = record["seconds"]
    return (
        f"**Metrics**: all six metrics in {seconds['one sort, all six']:.2f} s, "
        f"{record['ratio_aupro_iap_by_region']:.0f} times as fast as AUPRO and IAP region by "
        f"region, {record['ratio_all_six_by_threshold']:.0f} times as fast as the usual "
        "approximation by 200 thresholds"
    )


def ray_headline(record: dict[str, Any]) -> str:
    """Two workers of Ray against two plain processes."""
    plain, ray = (record["clock"][side] for side in ("plain", "ray"))
    return (
        f"**Ray**: a study on two workers in {ray:.0f} s, in two plain processes in {plain:.0f} s, "
        f"so {record['clock']['overhead']:.1%} more, of which its start is "
        f"{record['start_up']:.1f} s"
    )


def threads_headline(record: dict[str, Any]) -> str:
    """What a busy process costs a training, with the threads that it chooses and with all."""
    numbers = sorted({str(n) for n in record["chosen_beside"]})
    return (
        f"**Threads** beside a busy process: train chose {' or '.join(numbers)}, and a step took "
        f"{record['ratio_chosen_beside_to_one_alone']:.2f} times as long as on one thread without "
        f"it; on all threads {record['ratio_all_beside_to_one_alone']:.1f} times"
        + prediction_beside(record)
    )


def prediction_beside(record: dict[str, Any]) -> str:
    """The same for prediction, where the record has it."""
    if (found := record.get("prediction")) is None:
        return ""
    return (
        f"; predicting {found['ratio_chosen_beside_to_alone']:.1f} times as long as on the faster "
        "number of threads without it, on all "
        f"threads {found['ratio_all_beside_to_alone']:.1f} times"
    )


HEADLINES = {
    "drawing": drawing_headline,
    "training": training_headline,
    "corruption": corruption_headline,
    "metrics": metrics_headline,
    "ray_overhead": ray_headline,
    "threads": threads_headline,
}


def pages() -> dict[Path, list[str]]:
    """Each file with generated text, and the lines between its two markers."""
    tiles = RESULTS / "magnetic_tile"
    return {
        ROOT / "README.md": on_a_gpu.photographs(RESULTS),
        RESULTS / "tables.md": [
            *on_a_gpu.recipe(RESULTS / "gpu"),
            *tables.drawn_categories(RESULTS / "world"),
            *on_a_gpu.speed(RESULTS / "gpu" / "speed.json"),
            *tables.similarity(RESULTS / "builtin_teacher" / "similarity.json"),
            *tables.photographs(tiles),
            *promised.nearness(RESULTS / "promise"),
            *promised.kept(RESULTS / "promise"),
            *speed(RESULTS / "benchmarks"),
            *how_fast.benchmark_tables(RESULTS / "benchmarks"),
            *tables.levels(RESULTS / "world"),
            *tables.teachers(RESULTS / "teachers"),
            *tables.studies(RESULTS / "studies"),
            *tables.by_defect(tiles),
            *tables.exploration(RESULTS / "exploration" / "magnetic_tile.json"),
        ],
    }


def main() -> None:
    """Write the files, or with --check fail if one would change."""
    stale = []
    for page, lines in pages().items():
        text = page.read_text(encoding="utf-8")
        before, rest = text.split(BEGIN)
        wanted = before + "\n".join([BEGIN, "", *lines, END]) + rest.split(END)[1]
        if wanted != text and "--check" in sys.argv:
            stale.append(page.relative_to(ROOT).as_posix())
        elif wanted != text:
            page.write_text(wanted, encoding="utf-8")
    if stale:
        names = " and ".join(stale)
        sys.exit(f"The results in {names} are stale: run 'python tools/results/results.py'")


if __name__ == "__main__":
    main()
