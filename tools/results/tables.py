"""The tables of the records, each a section in Markdown; a folder without records gives nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from destseg_lib.evaluation.tables import METRIC_TITLES, markdown_table
from destseg_lib.studies.compare import LEVEL, Row, compare
from destseg_lib.studies.records import read_folder

SHOWN = ("image_auroc", "pixel_ap", "iap")  # metrics of a study
MAPS = {
    "product": "product",
    "sum": "sum",
    "level1": "level 1",
    "level2": "level 2",
    "level3": "level 3",
}
Records = dict[str, list[dict[str, Any]]]


def read(path: Path) -> Any:
    """One record."""
    return json.loads(path.read_text(encoding="utf-8"))


def grouped(folder: Path) -> Records:
    """The records of several seeds in a folder, by their names before the seed and teacher."""
    found: Records = defaultdict(list)
    for path in sorted(folder.glob("*-seed*.json")):
        found[path.stem.rpartition("-seed")[0].removesuffix("-builtin")].append(read(path))
    return found


def percent(value: float | None) -> str:
    """A metric as the paper prints it."""
    return "–" if value is None else f"{100 * value:.1f}"


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds, in per cent."""
    return percent(mean(values)) + (f" ± {percent(stdev(values))}" if len(values) > 1 else "")


def means(runs: list[dict[str, Any]], *keys: str) -> list[str]:
    """Each metric over runs."""
    return [spread([run[key] for run in runs]) for key in keys]


def steps(config: dict[str, Any]) -> str:
    """The size of the images and the length of a training."""
    return (
        f"{config['image_size']} pixels, {config['student']['steps']} + "
        f"{config['segmentation']['steps']} steps of {config['batch_size']}"
    )


def machine(where: dict[str, Any]) -> str:
    """The machine of a provenance."""
    return f"{where['device']} ({where['processor']})"


def commit(where: dict[str, Any]) -> str:
    """Seven digits of a provenance's commit, and whether the library differed from it."""
    known = where["commit"] or "unknown"
    return f"commit `{known[:7]}{known[40:]}`"


def section(title: str, heads: list[str], rows: list[list[str]], *notes: str) -> list[str]:
    """A heading, a table and notes below it, as lines; nothing without rows."""
    if not rows:
        return []
    paragraphs = [f"### {title}", markdown_table(heads, rows), *notes]
    return [line for paragraph in paragraphs for line in (paragraph, "")]


def drawn_categories(folder: Path) -> list[str]:
    """DeSTSeg on each drawn category next to two trivial detectors."""
    keys = ("image_auroc", "pixel_auroc", "pixel_ap", "iap")
    by_category = grouped(folder)
    every = [run for runs in by_category.values() for run in runs]
    if not every:
        return []
    rows, columns = [], []
    for name, runs in by_category.items():
        trivial = [runs[0]["trivial"][key] for key in ("mean_image", "nearest_neighbour")]
        finals = [run["final"] for run in runs]
        rows.append([name, str(len(runs)), *map(percent, trivial), *means(finals, *keys)])
        columns.append([*trivial, mean(final["image_auroc"] for final in finals)])
    overall = [f"**{percent(mean(column))}**" for column in zip(*columns, strict=True)]
    rows.append(["**mean**", "", *overall, "", "", ""])
    one = every[0]
    most = max(run["provenance"]["threads"] for run in every)
    alone = [run["seconds"] / 60 for run in every if run["provenance"]["threads"] == most]
    return section(
        "The drawn categories: DeSTSeg against two detectors that know nothing",
        ["category", "seeds", "mean image", "nearest neighbour", *(METRIC_TITLES[k] for k in keys)],
        rows,
        f"In per cent, mean ± standard deviation over seeds; {one['config']['recipe']} recipe, "
        f"{steps(one['config'])}, the {one['teacher']} teacher; {min(alone):.1f} to "
        f"{max(alone):.1f} min per run on {machine(one['provenance'])}; "
        f"{len(every) - len(alone)} of the {len(every)} ran on one thread next to other work and "
        "took longer. The two detectors are the distance to the mean image and to the nearest of "
        "the good images at 32 pixels; their columns are image AUROC.",
    )


def levels(folder: Path) -> list[str]:
    """Pixel AUROC and pixel AP of each level's cosine distance, of their product and sum."""

    def row(name: str, students: list[dict[str, Any]]) -> list[str]:
        of_maps = ([student[key] for student in students] for key in MAPS)
        return [name, *(", ".join(means(maps, "pixel_auroc", "pixel_ap")) for maps in of_maps)]

    by_category = {name: [run["student"] for run in runs] for name, runs in grouped(folder).items()}
    rows = [row(name, students) for name, students in by_category.items()]
    if "component" in by_category:
        misplaced = [
            {key: student[key]["defects"]["misplaced"] for key in MAPS}
            for student in by_category["component"]
        ]
        rows.append(row("component, misplaced alone", misplaced))
    return section(
        "One level or all: pixel AUROC, pixel AP of the student's cosine distances",
        ["category", *MAPS.values()],
        rows,
    )


def similarity(path: Path) -> list[str]:
    """How similar the built-in teacher's features are to the real teacher's, while it learned."""
    record = read(path)
    found = record["similarity"]
    first = next(iter(found.values()))
    learned = sorted((k for k in first["128"] if k.startswith("step")), key=lambda k: int(k[5:]))
    shown = [(label, "128", label) for label in ("random", *learned, "builtin")]
    if "256" in first:
        shown.append(("builtin, at 256 pixels", "256", "builtin"))
    last, plan = record["curve"][-1], record["plan"]
    return section(
        "The built-in teacher: cosine similarity to the real one's layer1 / layer2 / layer3",
        ["teacher", *(f"{name} ({record['photographs'][name]})" for name in found)],
        [
            [title, *(" / ".join(f"{v:.3f}" for v in of[size][label]) for of in found.values())]
            for title, size, label in shown
        ],
        "At 128 pixels except the last row, on photographs that it never saw; their number is in "
        f"brackets. {last['step']:,} steps of {plan['batch']} drawn pictures, seed "
        f"{plan['seed']}, {last['seconds'] / 60:.0f} min on {machine(record['provenance'])}.",
    )


def teachers(folder: Path) -> list[str]:
    """The same recipe and seeds with three teachers, on photographs."""
    keys = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro")
    reports = {name: [run["report"] for run in runs] for name, runs in grouped(folder).items()}
    rows = []
    for teacher in ("imagenet", "builtin", "random"):
        if found := reports.get(teacher, []):
            seeds, cosine = str(len(found)), [report["cosine_product"] for report in found]
            rows.append([teacher, seeds, "final", *means(found, *keys)])
            rows.append([teacher, seeds, "distance product", *means(cosine, *keys)])
    return rows and section(
        "Three teachers, the same recipe: magnetic tiles, the reported half",
        ["teacher", "seeds", "map", *(METRIC_TITLES[key] for key in keys)],
        rows,
        "In per cent, mean ± standard deviation over seeds; "
        f"{steps(next(iter(reports.values()))[0]['config'])}.",
    )


def studies(folder: Path) -> list[str]:
    """A table of each study below a folder, with the runs that are there."""
    lines = []
    for path in sorted(path.parent for path in folder.glob("*/study.json")):
        study, records = read_folder(path)
        done = [record for record in records if record["status"] == "done"]
        if not done or len(study.variants) == 1:  # nothing to compare: it has a table of its own
            continue
        rows = [
            [variant[0].variant, str(variant[0].done), *(cell(r, study.reference) for r in variant)]
            for variant in zip(*(compare(study, records, metric) for metric in SHOWN), strict=True)
            if variant[0].done
        ]
        where = {f"{machine(r['provenance'])}, {commit(r['provenance'])}" for r in done}
        lines += section(
            f"{study.name}: {path.name}, {len(done)} of {len(study.keys)} runs",
            ["variant", "runs", *(METRIC_TITLES[metric] for metric in SHOWN)],
            rows,
            f"In per cent, mean ± standard deviation over seeds; then the difference to "
            f"*{study.reference}*, paired by seed, with its {LEVEL:.0%} bootstrap interval. "
            f"{study.recipe.capitalize()} recipe except for what a variant changes: "
            f"{steps(done[0]['config'])}, {done[0]['teacher']['name']} teacher; "
            f"{'; '.join(sorted(where))}.",
        )
    return lines


def cell(row: Row, reference: str) -> str:
    """A metric with its spread, and the difference to the reference with its interval."""
    text = percent(row.mean)
    if row.spread is not None:
        text += f" ± {percent(row.spread)}"
    d = row.difference
    if row.variant == reference or d is None:
        return text
    text += f", {100 * d.mean:+.1f}"
    if d.low is not None and d.high is not None:
        text += f" [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
    return text


def photographs(folder: Path) -> list[str]:
    """The runs on photographs, the reported half of each."""
    rows, notes = [], []
    for path in sorted(folder.glob("*.json")):
        record = read(path)
        report, minutes = record["report"], sum(record["training_seconds"].values()) / 60
        for name, metrics in (("final", report), ("distance product", report["cosine_product"])):
            rows.append([path.stem, name, *(percent(metrics[key]) for key in METRIC_TITLES)])
        config, where = report["config"], report["provenance"]
        notes.append(
            f"- `{path.stem}`: {config['recipe']} recipe, seed {config['seed']}, {steps(config)}, "
            f"width {config['model']['width']:g}; {minutes:.0f} min of training on "
            f"{machine(where)}; {commit(where)}"
        )
    return section(
        "Magnetic tiles, the half of the test set that no choice was made on",
        ["run", "map", *METRIC_TITLES.values()],
        rows,
        "In per cent.",
        "\n".join(notes),
    )


def by_defect(folder: Path) -> list[str]:
    """Image AUROC and pixel AP of each type of defect against the good images, reported half."""
    found = {path.stem: read(path)["report"]["defects"] for path in sorted(folder.glob("*.json"))}
    return section(
        "Each type of defect, final map: image AUROC, pixel AP",
        ["run", *next(iter(found.values()), ())],
        [
            [
                name,
                *(f"{percent(d['image_auroc'])}, {percent(d['pixel_ap'])}" for d in of.values()),
            ]
            for name, of in found.items()
        ],
    )


def exploration(path: Path) -> list[str]:
    """The runs by which a recipe was chosen, on the selection half only."""
    record = read(path)
    rows = []
    for run in record["runs"]:
        maps = (run.get(name) for name in ("final", "cosine_product"))
        rows.append(
            [
                *map(str, (run["run"], run["when"], run["image_size"])),
                str(run["student_steps"] or f"the student of {run['student_taken_from_run']}"),
                f"{run['segmentation_steps']} of {run['batch_size']}",
                run["textures"],
                *(
                    f"{percent(m['image_auroc'])}, {percent(m['pixel_ap'])}"
                    if m
                    else "not trained yet"
                    for m in maps
                ),
            ]
        )
    heads = ["run", "when", "pixels", "student steps", "segmentation steps", "textures"]
    heads += ["final map: image AUROC, pixel AP", "distance product: the same"]
    note = f"{record['what']} {record['machine']}; {record['code']}."
    return section("The runs that the recipe was chosen by", heads, rows, note)
