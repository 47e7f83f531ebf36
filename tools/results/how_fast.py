"""The tables of the benchmarks whose records hold many cases; without a record there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tables import commit, machine, percent, read, section

Table = Callable[[dict[str, Any]], list[str]]


def benchmark_tables(folder: Path) -> list[str]:
    """Every table of this module whose record is in the folder."""
    found = ((folder / f"{name}.json", table) for name, table in TABLES.items())
    return [line for path, table in found if path.exists() for line in table(read(path))]


def prediction(record: dict[str, Any]) -> list[str]:
    """Images per second of every way to predict, and of a folder from end to end."""
    cases = record["cases"]
    ways = dict.fromkeys(way for case in cases for way in case["images_a_second"])
    single = [best_single(case) for case in cases if case["threads"] == case["batch"] == 1]
    missing = "; ".join(f"{what}: {why}" for what, why in record["left_out"].items())
    note = (
        "Images per second, by the side of the images and their number at once; "
        f"{record['what']}. One thread and a single image, the fastest against torch in fp32: "
        f"{'; '.join(single)}. {left_out(missing)}{machine(record['provenance'])}, "
        f"{commit(record['provenance'])}."
    )
    rows = [[case_title(case), *(speed_of(case, way) for way in ways)] for case in cases]
    return [
        *section("Every way to predict", ["pixels x images", *ways], rows, note),
        *end_to_end(record),
    ]


def case_title(case: dict[str, Any]) -> str:
    """A row of the table of prediction."""
    threads = f"{case['threads']} thread{'s' * (case['threads'] > 1)}"
    return f"{case['model']}, {case['size']} x {case['batch']}, {threads}"


def speed_of(case: dict[str, Any], way: str) -> str:
    """Images per second; a way that was left out has a dash."""
    rate = case["images_a_second"].get(way)
    return "–" if rate is None else f"{rate:.3g}"


def best_single(case: dict[str, Any]) -> str:
    """The fastest way of a case, and how many times as fast as torch in fp32 it is."""
    speeds: dict[str, float] = case["times_as_fast_as_torch_in_fp32"]
    best = max(speeds, key=speeds.__getitem__)
    return f"{case['model']} at {case['size']} pixels {speeds[best]:.1f} times as fast ({best})"


def left_out(missing: str) -> str:
    """A sentence about ways that could not be measured."""
    return f"Left out: {missing}. " if missing else ""


def end_to_end(record: dict[str, Any]) -> list[str]:
    """Where the time of a folder of photographs goes."""
    parts = ("decoding", "network", "writing", "whole")
    by_threads = record["end_to_end"]["by_threads"]
    return section(
        "A folder of photographs, end to end",
        [
            "threads of the network",
            "images per second",
            *(f"{part}, s" for part in parts),
            "cores busy",
        ],
        [
            [
                threads,
                f"{found['images_a_second']:.1f}",
                *(f"{found['seconds'][part]:.2f}" for part in parts),
                f"{found['cores_busy']:.1f}",
            ]
            for threads, found in by_threads.items()
        ],
        f"{record['end_to_end']['what']}. Decoding, network and writing were timed alone; where "
        "they take turns, the whole takes as long as their sum. Threads are those of the network.",
    )


def export_cost(record: dict[str, Any]) -> list[str]:
    """What predicting in another way than torch in fp32 costs each shipped model."""
    models = record["models"]
    rows = [
        [
            name,
            way,
            f"{cost['bytes'] / 1e6:.1f}" if "bytes" in cost else "–",
            percent(cost["image_auroc"]),
            percent(cost["pixel_ap"]),
            f"{cost['largest_change_of_a_score']:.2g}",
        ]
        for name, found in models.items()
        for way, cost in found["variants"].items()
    ]
    photographs = [on for found in models.values() for on in found["fp32_on_photographs"].values()]
    note = f"Metrics in per cent; {record['what']}, one thread. "
    if photographs:
        most = max(max(on["map"], on["score"]) for on in photographs)
        number = sum(on["images"] for on in photographs) // len(models)
        note += (
            f"On {number} photographs the file in fp32 differs from torch by {most:.1g} at most, "
            "in any map or score of any of the models. "
        )
    heads = ["model", "way", "MB", "image AUROC", "pixel AP", "largest change of a score"]
    where = record["provenance"]
    note += f"{machine(where)}, {commit(where)}."
    return section("What an exported model costs", heads, rows, note)


def steps(record: dict[str, Any]) -> list[str]:
    """A training step by size and batch: time, memory, arithmetic."""
    cases, plain = record["cases"], record["plain_at_the_smallest_batch"]
    smallest = min(case["batch"] for case in cases)

    def ratio(case: dict[str, Any]) -> str:
        found = plain.get(f"{case['phase']}, {case['size']} pixels")
        return f"{found['ratio']:.1f}" if found and case["batch"] == smallest else "–"

    rows = [
        [
            f"{case['phase']}, {case['size']} pixels, {case['batch']} images",
            f"{case['seconds_a_step']:.2f}",
            f"{case['images_a_second']:.1f}",
            f"{case['peak_mib'] / 1024:.1f}",
            f"{case['flop_a_second'] / 1e9:.0f}",
            f"{100 * case['share_of_bf16_product']:.0f}",
            ratio(case),
        ]
        for case in cases
    ]
    many = "; ".join(
        f"{found['good_images']:,}: {found['seconds_a_step']:.2f} s and "
        f"{found['peak_mib'] / 1024:.1f} GiB"
        for found in record["number_of_images"]
    )
    counted = record.get("counted_phase", "student")  # before the teacher was asked only once
    rate = record["bf16_product_flop_a_second"] / 1e9
    heads = ["step", "seconds", "images per second", "peak GiB", "GFLOP/s", "% of a bf16 product"]
    return section(
        "A training step by image size and batch",
        [*heads, "times as fast as plain"],
        rows,
        f"{record['what'].capitalize()}. The product of two large bf16 matrices reached {rate:.0f} "
        "GFLOP/s in the same run. A share above 100 says how unsteady this machine was. "
        "Plain is an fp32 loop that computes every branch in both phases. "
        f"The smallest step of the {counted} phase by the number of good images in memory: {many}. "
        f"{machine(record['provenance'])}, {commit(record['provenance'])}.",
    )


def ideas(record: dict[str, Any]) -> list[str]:
    """What each idea for a faster training step is worth."""
    phases = list(record["seconds_a_step"])
    names = list(record["seconds_a_step"][phases[0]])
    rows = [
        [
            name,
            *(
                f"{record['seconds_a_step'][phase][name]:.3f} "
                f"({record['times_as_long'][phase][name]:.2f})"
                for phase in phases
            ),
            f"{sum(record['first_two_steps'][phase][name] for phase in phases):.0f}",
        ]
        for name in names
    ]
    return section(
        "Ideas for a faster training step",
        ["changed", *(f"{phase}, s" for phase in phases), "first two steps of both, s"],
        rows,
        f"Seconds per step, and how many times as long as the step as it is: {record['what']}. "
        "The first three changes take back what the library does, the others it does not use. "
        "Two ratios would be 1 on a steady machine, and say how unsteady this one was: *batch norm "
        "folded* in the student phase, where only the teacher's is, which is not asked in the "
        "timed steps; and *the teacher asked in every step* in the segmentation phase, where "
        "nothing is remembered. "
        f"{machine(record['provenance'])}, {commit(record['provenance'])}.",
    )


def streaming(record: dict[str, Any]) -> list[str]:
    """The streamed metrics by number of images: memory, error, and time where it was measured."""
    counts = record["counts"]
    timed = all("ms_an_image" in row for row in counts)
    rows = []
    for row in counts:
        worst = max(row["error"].values())
        bound = max(value for value in row["bound"].values() if value is not None)
        cells = [f"{row['images']:,}", f"{row['mib']:.0f}", f"{row['exact_mib']:,.0f}"]
        cells += [f"{worst:.1g}", f"{bound:.1g}", "yes" if row["within_bound"] else "**no**"]
        if timed:
            cells += [f"{row['ms_an_image']:.2f}", f"{row['seconds_to_compute']:.2f}"]
        rows.append(cells)
    heads = ["images", "MiB", "MiB of the exact ones", "largest error", "largest bound"]
    heads += ["each within its bound"]
    heads += ["ms per image", "s to compute"] if timed else []
    return section(
        "Metrics streamed",
        heads,
        rows,
        f"All six metrics; {record['what']}. Memory is beyond what the process held before, of the "
        "exact ones with all maps and masks. "
        f"{machine(record['provenance'])}, {commit(record['provenance'])}.",
    )


TABLES: dict[str, Table] = {
    "prediction": prediction,
    "export_cost": export_cost,
    "steps": steps,
    "ideas": ideas,
    "streaming": streaming,
}
