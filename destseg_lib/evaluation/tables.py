"""Results of several categories as means, and any results as a table to read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from destseg_lib.config import METRIC_SIZE, TOP_PIXELS

HEADINGS = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO",
    "iap": "IAP",
    "iap90": "IAP@90",
}
KEYS = tuple(HEADINGS)


def summarise(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Results of several categories with their ``mean``, each category counting the same.

    A mean is None, with the reason, where a category lacks the figure.
    """
    every = list(results.values())
    reasons = {
        key: f"{result['category']}: {result['reasons'][key]}"
        for key in KEYS
        for result in reversed(every)
        if result[key] is None
    }

    def mean(parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            key: None if key in reasons else float(np.mean([part[key] for part in parts]))
            for key in KEYS
        }

    cosine = mean([result["cosine_product"] for result in every])
    if all("student_map" in result["cosine_product"] for result in every):
        cosine["student_map"] = every[0]["cosine_product"]["student_map"]
    return {
        "categories": results,
        "mean": {**mean(every), "cosine_product": cosine, "reasons": reasons},
        "metric_size": METRIC_SIZE,
        "top_pixels": TOP_PIXELS,
        "provenance": every[-1]["provenance"],
    }


def results_table(results: dict[str, Any]) -> str:
    """What ``evaluate`` returned as plain text, figures in percent, with what a reader must know.

    A figure that could not be computed is a dash, and a line below says why.
    """
    every: dict[str, Any] = results.get("categories") or {results["category"]: results}
    rows = [*every.items(), *([("mean", results["mean"])] if "mean" in results else [])]
    width = max(len("category"), *(len(name) for name, _ in rows))
    lines = [f"{'category':<{width}}  {'map':<14}  " + "  ".join(HEADINGS.values())]
    for name, result in rows:
        cosine = result["cosine_product"]
        kind = "cosine sum" if cosine.get("student_map") == "sum" else "cosine product"
        lines += [_row(f"{name:<{width}}  {'final':<14}", result)]
        lines += [_row(f"{'':<{width}}  {kind:<14}", cosine)]
    lines.append("in %, at 256 pixels")
    for name, result in every.items():
        lines += [f"{name}: {note}" for note in _notes(result)]
    return "\n".join(lines)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown: the first column to the left, the others to the right."""
    marks = ["---"] + ["---:"] * (len(heads) - 1)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, marks, *rows))


def _row(start: str, figures: dict[str, Any]) -> str:
    cells = (
        f"{'–' if figures[key] is None else f'{100 * figures[key]:.1f}':>{len(heading)}}"
        for key, heading in HEADINGS.items()
    )
    return f"{start}  " + "  ".join(cells)


def _notes(result: dict[str, Any]) -> list[str]:
    """What a reader must know beside the figures, a line each."""
    notes = []
    for why in dict.fromkeys(result["reasons"].values()):
        missing = [HEADINGS[key] for key in KEYS if result["reasons"].get(key) == why]
        notes.append(f"no {', '.join(missing)}: {why}")
    images, threshold = result["images"], result["threshold"]
    notes.append(f"{images['good']} good and {images['defective']} defective images")
    if result["regions_lost"]:
        notes.append(
            f"{result['regions_lost']} of {result['regions_before_resizing']} regions were lost in "
            f"resizing the masks to {METRIC_SIZE} pixels"
        )
    if not result["exact"]:
        bounds = [bound for bound in _six(result["error_bound"]).values() if bound is not None]
        notes.append(f"figures are off by at most {100 * max(bounds, default=0):.2g} points")
    if result["skipped"]:
        notes.append(f"{len(result['skipped'])} unreadable files were left out")
    if threshold is None:
        notes.append("no threshold: the run held no good image out (train with --holdout 0.1)")
    else:
        notes.append(
            f"threshold {threshold['value']:.4g} for a false-positive rate of "
            f"{threshold['fpr']:.2%}, calibrated on {threshold['calibrated_on']} good images: "
            f"{_share(threshold['achieved_fpr'])} of the good test images are above it and "
            f"{_share(threshold['detected'])} of the defective"
        )
    return notes


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _six(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: figures[key] for key in KEYS}
