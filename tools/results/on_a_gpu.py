"""Tables of what ran on a GPU: two recipes next to the paper, and the speed of a step."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any

from tables import commit, grouped, machine, means, read, section, steps

from destseg_lib.evaluation.tables import METRIC_TITLES
from destseg_lib.studies.records import read_folder

KEYS = ("pixel_auroc", "pixel_ap", "iap", "iap90")
# The paper's mean and standard deviation over five seeds, in per cent, in the order of KEYS.
PAPER = {
    "transistor": ((89.1, 64.8, 78.3, 49.6), (3.4, 4.0, 2.5, 8.4)),
    "screw": ((98.5, 58.7, 53.6, 8.6), (0.3, 3.7, 3.6, 2.3)),
}
NOTES = {
    "screw": "screw, masks paired by reconstruction",
    "magnetic_tile": "magnetic tiles, the reported half",
}
HEADS = ["category", "what", "seeds", *(METRIC_TITLES[key] for key in ("image_auroc", *KEYS))]

Runs = dict[str, list[dict[str, Any]]]


def paper_runs(folder: Path) -> Runs:
    """The runs of the paper's recipe, by category."""
    runs: Runs = defaultdict(list)
    for path in sorted(folder.glob("recipe_*.json"), reverse=True):
        for run in read(path)["results"]:
            if run["status"] == "done":
                runs[run["category"]].append(run)
    return runs


def quick_runs(folder: Path) -> Runs:
    """The runs of the whole method with the quick recipe as it is, by category."""
    runs: Runs = defaultdict(list)
    for name in ("quick_table4", "quick"):
        study, records = read_folder(folder / name)
        for run in records:
            if run["variant"] == study.reference:
                runs[Path(run["category"]).name].append(run)
    return runs


def photographs(results: Path) -> list[str]:
    """Both recipes, both maps, the paper's figures and the memory bank, category by category."""
    by_recipe = {
        "the paper's recipe": paper_runs(results / "gpu"),
        "the quick recipe": quick_runs(results / "studies"),
    }
    banks = grouped(results / "memory_bank")
    rows: list[list[str]] = []
    for name in ("transistor", "screw", "magnetic_tile"):
        of_category: list[list[str]] = []
        for title, found in by_recipe.items():
            if runs := found.get(name, []):
                seeds, products = str(len(runs)), [run["cosine_product"] for run in runs]
                of_category += [
                    [f"{title}, final map", seeds, *means(runs, "image_auroc", *KEYS)],
                    [f"{title}, distance product", "", *means(products, "image_auroc", *KEYS)],
                ]
        if name in PAPER:
            of_category.append(paper_row(name))
        if of_bank := banks.get(f"{name}-256"):
            of_category.append(bank_row(of_bank))
        rows += under(name, of_category)
    every = [run for found in by_recipe.values() for runs in found.values() for run in runs]
    quick = by_recipe["the quick recipe"]["transistor"][0]["config"]
    origins = [run["provenance"] for run in every]
    where = sorted({f"{one['device']} ({commit(one)})" for one in origins})
    return section(
        "Photographs",
        HEADS,
        rows,
        "In per cent, mean ± standard deviation over seeds, all measured at 256 pixels. The "
        "paper's recipe trains at 256 pixels and full width in bf16, with 200 textures of ten "
        f"classes; the quick recipe is ours for two cores, {steps(quick)}, with a "
        "student half and a segmentation network a quarter as wide. "
        f"{'; '.join(where)}. The memory bank keeps the same teacher's features of the good images "
        "at 256 pixels (nearest neighbour, coreset of 1 %).",
    )  # fmt: skip


def recipe(folder: Path) -> list[str]:
    """Both maps of the paper's recipe, the paper's figures, and how far apart they are."""
    runs = paper_runs(folder)
    banks = grouped(folder.parent / "memory_bank")
    rows = []
    for name, of_category in runs.items():
        found = category_rows(name, of_category)
        if of_bank := banks.get(f"{name}-256"):
            found.append(bank_row(of_bank))
        rows += under(name, found)
    if not rows:
        return []
    every = [run for of_category in runs.values() for run in of_category]
    seconds = [sum(run["seconds"].values()) for run in every]
    one = every[0]
    return section(
        "The paper's recipe on two categories of MVTec AD",
        HEADS,
        rows,
        "In per cent. The last row of a category is how far the final map's mean is from the "
        "paper's, in standard deviations of the paper's five seeds. Ours differs from the authors' "
        f"set-up: {one['texture_images']} textures of ten classes instead of all, "
        f"{one['config']['precision']} instead of fp32, and copies of the photographs at "
        f"{one['config']['image_size']} pixels; {min(seconds):.0f} to {max(seconds):.0f} s per "
        f"run, training and evaluation together, on {machine(one['provenance'])} with "
        f"{one['provenance']['threads']} threads, {commit(one['provenance'])}. The memory bank "
        "keeps the same teacher's features of the good images (nearest neighbour, coreset of 1 %), "
        "at the same size, on a CPU.",
    )


def under(name: str, rows: list[list[str]]) -> list[list[str]]:
    """Rows of one category, with its name before the first."""
    return [[NOTES.get(name, name) if not n else "", *row] for n, row in enumerate(rows)]


def paper_row(name: str) -> list[str]:
    """What the paper gives for a category."""
    known = (f"{m} ± {s}" for m, s in zip(*PAPER[name], strict=True))
    return ["the paper", "5", "–", *known]


def bank_row(runs: list[dict[str, Any]]) -> list[str]:
    """The rival: a memory bank of the same teacher's features at the same size."""
    return ["memory bank", str(len(runs)), *means(runs, "image_auroc", *KEYS)]


def category_rows(name: str, runs: list[dict[str, Any]]) -> list[list[str]]:
    """Four rows: two maps, the paper, the difference."""
    seeds, (paper, spreads) = str(len(runs)), PAPER[name]
    apart = [
        f"{(100 * mean(run[key] for run in runs) - expected) / spread:+.1f}"
        for key, expected, spread in zip(KEYS, paper, spreads, strict=True)
    ]
    products = [run["cosine_product"] for run in runs]
    return [
        ["final map", seeds, *means(runs, "image_auroc", *KEYS)],
        ["distance product", seeds, *means(products, "image_auroc", *KEYS)],
        paper_row(name),
        ["final map, in the paper's deviations", "", "", *apart],
    ]


def speed(path: Path) -> list[str]:
    """Images per second of each phase, by precision."""
    record = read(path)
    rows = [
        [
            result["name"],
            f"{result['images_per_second']:.0f}",
            f"{100 * result['share_of_bf16_product']:.0f}",
            f"{result['peak_mib'] / 1024:.1f}",
        ]
        for result in record["results"]
        if result["status"] == "done"
    ]
    product = record["results"][0]["bf16_product_flop_per_second"] / 1e12
    return section(
        "A step on a GPU",
        ["phase, precision", "images per second", "% of a bf16 product", "peak GiB"],
        rows,
        "Batches of 32 images of 256 pixels at full width, corruption and transfer included. The "
        "third column is the arithmetic done in a second as a share of what a large bf16 matrix "
        f"product reaches in the same run, {product:.0f} TFLOP/s. The part's time was up before "
        f"the other compiled steps. {machine(record['provenance'])}, "
        f"{commit(record['provenance'])}.",
    )
