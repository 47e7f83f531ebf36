"""The tables of the embedded world and of the built-in teacher, from their records."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

MAPS = {
    "product": "product",
    "sum": "sum",
    "level1": "level 1",
    "level2": "level 2",
    "level3": "level 3",
}


def records(folder: Path) -> list[dict[str, Any]]:
    """Every record of a folder, by name."""
    return [
        json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*-seed*.json"))
    ]


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in per cent."""
    if len(values) == 1:
        return f"{100 * values[0]:.1f}"
    return f"{100 * mean(values):.1f} ± {100 * stdev(values):.1f}"


def world(folder: Path) -> list[str]:
    """Products against trivial detectors, and single levels against all."""
    by_product: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records(folder):
        by_product[record["product"]].append(record)
    if not by_product:
        return []
    lines = [
        "### The embedded world: DeSTSeg against two detectors that know nothing",
        "",
        "| product | seeds | mean image | nearest neighbour | image AUROC | pixel AUROC | pixel AP "
        "| IAP |",
        "|---|---|---|---|---|---|---|---|",
    ]
    trivial: list[float] = []
    for name, runs in by_product.items():
        first = runs[0]["trivial"]
        trivial += [first["mean_image"], first["nearest_neighbour"]]
        figures = " | ".join(
            spread([run["final"][key] for run in runs])
            for key in ("image_auroc", "pixel_auroc", "pixel_ap", "iap")
        )
        lines.append(
            f"| {name} | {len(runs)} | {100 * first['mean_image']:.1f} | "
            f"{100 * first['nearest_neighbour']:.1f} | {figures} |"
        )
    ours = mean(mean(run["final"]["image_auroc"] for run in runs) for runs in by_product.values())
    means = (f"**{100 * value:.1f}**" for value in (mean(trivial[::2]), mean(trivial[1::2]), ours))
    lines.append(f"| **mean** | | {' | '.join(means)} | | | |")
    one = next(iter(by_product.values()))[0]
    config, where = one["config"], one["provenance"]
    every = [run for runs in by_product.values() for run in runs]
    most = max(run["provenance"]["threads"] for run in every)
    alone = [run["seconds"] / 60 for run in every if run["provenance"]["threads"] == most]
    lines += [
        "",
        f"In per cent, mean ± standard deviation over seeds; {config['recipe']} recipe, "
        f"{config['image_size']} pixels, {config['student']['steps']} + "
        f"{config['segmentation']['steps']} steps of {config['batch_size']}, the "
        f"{one['teacher']} teacher; {min(alone):.1f} to {max(alone):.1f} min a run on "
        f"{where['device']} ({where['processor']}); {len(every) - len(alone)} of the {len(every)} "
        "ran on one thread beside other work and took longer. The two detectors are the distance "
        "to the mean image and to the nearest of the good images at 32 pixels; their columns are "
        "image AUROC.",
        "",
    ]
    return lines


def levels(folder: Path) -> list[str]:
    """Pixel AUROC and pixel AP of each level's cosine distance, of their product and sum."""
    by_product: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records(folder):
        by_product[record["product"]].append(record["student"])
    if not by_product:
        return []
    lines = [
        "### One level or all: pixel AUROC, pixel AP of the student's cosine distances",
        "",
        f"| product | {' | '.join(MAPS.values())} |",
        "|---|" + "---|" * len(MAPS),
    ]
    for name, runs in by_product.items():
        cells = " | ".join(
            f"{spread([run[k]['pixel_auroc'] for run in runs])}, "
            f"{spread([run[k]['pixel_ap'] for run in runs])}"
            for k in MAPS
        )
        lines.append(f"| {name} | {cells} |")
    if "component" in by_product:
        cells = " | ".join(
            ", ".join(
                spread([run[k]["defects"]["misplaced"][figure] for run in by_product["component"]])
                for figure in ("pixel_auroc", "pixel_ap")
            )
            for k in MAPS
        )
        lines.append(f"| component, misplaced alone | {cells} |")
    return [*lines, ""]


def similarity(path: Path) -> list[str]:
    """How near the built-in teacher is to the real one, and how it came there."""
    if not path.exists():
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    names = list(record["similarity"])
    first = record["similarity"][names[0]]["128"]
    labels = ["random", *sorted((k for k in first if k.startswith("step")), key=_step), "builtin"]
    headings = " | ".join(f"{name} ({record['photographs'][name]})" for name in names)
    lines = [
        "### The built-in teacher: cosine similarity to the real one's layer1 / layer2 / layer3",
        "",
        f"| teacher | {headings} |",
        "|---|" + "---|" * len(names),
    ]
    for label in labels:
        cells = (
            " / ".join(f"{v:.3f}" for v in record["similarity"][n]["128"][label]) for n in names
        )
        lines.append(f"| {label} | {' | '.join(cells)} |")
    if "256" in record["similarity"][names[0]]:
        cells = (
            " / ".join(f"{v:.3f}" for v in record["similarity"][n]["256"]["builtin"]) for n in names
        )
        lines.append(f"| builtin, at 256 pixels | {' | '.join(cells)} |")
    last, where = record["curve"][-1], record["provenance"]
    return [
        *lines,
        "",
        f"At 128 pixels but for the last row, on photographs that it never saw; in brackets how "
        f"many. {last['step']:,} steps of {record['plan']['batch']} drawn pictures, seed "
        f"{record['plan']['seed']}, {last['seconds'] / 60:.0f} min on {where['device']} "
        f"({where['processor']}).",
        "",
    ]


def teachers(folder: Path) -> list[str]:
    """The same recipe and seeds with three teachers, on photographs."""
    by_teacher: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("*-seed*.json")):
        by_teacher[path.stem.split("-")[0]].append(json.loads(path.read_text(encoding="utf-8")))
    if not by_teacher:
        return []
    keys = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
    lines = [
        "### Three teachers, the same recipe: magnetic tiles, the reported half",
        "",
        "| teacher | seeds | map | image AUROC | pixel AUROC | pixel AP | AUPRO |",
        "|---|---|---|---|---|---|---|",
    ]
    for teacher in ("imagenet", "builtin", "random"):
        runs = by_teacher.get(teacher, [])
        for name in ("final", "cosine product") if runs else ():
            found = [
                run["report"] if name == "final" else run["report"]["cosine_product"]
                for run in runs
            ]
            cells = " | ".join(spread([f[key] for f in found]) for key in keys)
            lines.append(f"| {teacher} | {len(runs)} | {name} | {cells} |")
    config = next(iter(by_teacher.values()))[0]["report"]["config"]
    return [
        *lines,
        "",
        f"In per cent, mean ± standard deviation over seeds; {config['image_size']} pixels, "
        f"{config['student']['steps']} + {config['segmentation']['steps']} steps of "
        f"{config['batch_size']}.",
        "",
    ]


def _step(label: str) -> int:
    return int(label.split()[1])
