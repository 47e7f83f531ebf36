"""Results as tables to read: of an evaluation as plain text, of anything in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple

from destseg_lib.evaluation.result import Evaluation, MapMetrics, Summary
from destseg_lib.threshold import broken_promise

METRIC_TITLES = {
    "image_auroc": "image AUROC",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "aupro": "AUPRO",
    "iap": "IAP",
    "iap90": "IAP@90",
}
METRIC_NAMES = tuple(METRIC_TITLES)


def results_table(results: Evaluation | Summary) -> str:
    """The metrics in percent as plain text, followed by notes that a reader must know.

    A metric that could not be computed is a dash, and a note says why.
    """
    evaluations = results.evaluations if isinstance(results, Summary) else (results,)
    rows: list[tuple[str, Evaluation | Summary]] = [(e.category, e) for e in evaluations]
    if isinstance(results, Summary):
        rows.append(("mean", results))
    sizes = dict.fromkeys(str(evaluation.metric_size) for evaluation in evaluations)
    width = max(len("category"), *(len(name) for name, _ in rows))
    lines = [f"{'category':<{width}}  {'map':<16}  " + "  ".join(METRIC_TITLES.values())]
    for name, result in rows:
        student = "distance sum" if result.summed else "distance product"
        lines.append(f"{name:<{width}}  {'final':<16}  {_cells(result.final)}")
        lines.append(f"{'':<{width}}  {student:<16}  {_cells(result.student)}")
    lines.append(f"in %, at {' and '.join(sizes)} pixels")
    lines += [f"{e.category}: {note}" for e in evaluations for note in _notes(e)]
    return "\n".join(lines)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown: the first column to the left, the others to the right."""
    marks = ["---"] + ["---:"] * (len(heads) - 1)
    escaped = ([cell.replace("|", r"\|") for cell in row] for row in (heads, marks, *rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)


def shown(name: str) -> str:
    """A name for matplotlib: dollars begin no formula, and bytes that are no text become codes."""
    return name.encode(errors="backslashreplace").decode().replace("$", r"\$")


def _cells(metrics: MapMetrics) -> str:
    values = ("–" if value is None else f"{100 * value:.1f}" for value in astuple(metrics))
    titles = METRIC_TITLES.values()
    return "  ".join(f"{v:>{len(title)}}" for v, title in zip(values, titles, strict=True))


def _notes(evaluation: Evaluation) -> list[str]:
    """One line for each thing that a reader must know about the metrics."""
    notes = []
    for why in dict.fromkeys(evaluation.reasons.values()):
        missing = [METRIC_TITLES[name] for name, r in evaluation.reasons.items() if r == why]
        notes.append(f"no {', '.join(missing)}: {why}")
    images, threshold = evaluation.images, evaluation.threshold
    notes.append(f"{images.good} good and {images.defective} defective images")
    if evaluation.regions_lost:
        notes.append(
            f"{evaluation.regions_lost} of {evaluation.regions_before_resizing} regions were lost "
            f"in resizing the masks to {evaluation.metric_size} pixels"
        )
    if evaluation.error_bounds is not None:  # streamed
        bounds = [bound for bound in astuple(evaluation.error_bounds[0]) if bound is not None]
        notes.append(f"the metrics are off by at most {100 * max(bounds, default=0):.2g} points")
    if evaluation.skipped:
        notes.append(f"{len(evaluation.skipped)} unreadable files were left out")
    if threshold is None:
        notes.append("no threshold: the run held no good image out (train with --holdout 0.1)")
    else:
        notes.append(
            f"threshold {threshold.value:.4g} for a false-positive rate of {threshold.fpr:.2%}, "
            f"calibrated on {threshold.calibrated_on} good images; it is exceeded by "
            f"{_share(threshold.achieved_fpr)} of the good test images and by "
            f"{_share(threshold.detected)} of the defective ones"
        )
        above = round((threshold.achieved_fpr or 0) * threshold.good_images)
        advice = broken_promise(threshold, above, threshold.good_images, "good test images")
        notes += [] if advice is None else [advice]
    return notes


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
