"""A study's results as Markdown and CSV, with one picture per metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_TITLES, markdown_table, shown
from destseg_lib.files.outputs import Outputs, outputs
from destseg_lib.studies.compare import LEVEL, Row, compare, unfinished
from destseg_lib.studies.study import Study, short_names

REPORT, TABLE = "report.md", "report.csv"
SHOWN = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap")
BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's
COLUMNS = ("variant", "mean", "± seeds", "to the reference", "", "runs", "paper")


def report_outputs(out: Path, read: Iterable[Path] = (), *, overwrite: bool = False) -> Outputs:
    """Check that a report may be written to a folder; nothing is written.

    Args:
        out: the folder.
        read: files that are read for the report.
        overwrite: replace files that no earlier report wrote; never one that is read.

    Raises:
        DeSTSegError: it may not.
    """
    names = (REPORT, TABLE, *(f"{metric}.svg" for metric in SHOWN))
    return outputs(out, names, read, by="study report", overwrite=overwrite)


def write_report(
    study: Study,
    records: list[dict[str, Any]],
    out: Path,
    read: Iterable[Path] = (),
    *,
    overwrite: bool = False,
) -> Path:
    """Write report.md, report.csv and one picture per metric into ``out``.

    The other arguments are those of ``report_outputs``.

    Returns:
        path of report.md.

    Raises:
        DeSTSegError: nothing has finished yet, or a file cannot or may not be written.
    """
    files = report_outputs(out, read, overwrite=overwrite)
    if not any(record["status"] == "done" for record in records):
        raise DeSTSegError(f"no run of {study.name} has finished; run it first")
    tables = {metric: compare(study, records, metric) for metric in SHOWN}
    tables = {name: rows for name, rows in tables.items() if any(r.mean is not None for r in rows)}
    files.prepare()
    table = _csv(tables).encode()
    files.write(TABLE, lambda file: file.write(table))
    for name, rows in tables.items():
        picture = _picture(rows, METRIC_TITLES[name], study.reference)
        files.write(f"{name}.svg", partial(picture.savefig, format="svg"))
    text = markdown(study, tables, unfinished(study, records)).encode()
    files.write(REPORT, lambda file: file.write(text))
    return out / REPORT


def markdown(study: Study, tables: dict[str, tuple[Row, ...]], problems: list[str]) -> str:
    """The whole report as Markdown."""
    lines = [f"# {study.name}", ""]
    lines += [study.about, ""] if study.about else []
    lines += [
        f"{len(study.variants)} variants on {', '.join(short_names(study.categories).values())}, "
        f"seeds {', '.join(map(str, study.seeds))}, {study.recipe} recipe. In per cent. "
        f"Differences are to *{study.reference}*, in pairs by category and seed, with a "
        f"{LEVEL:.0%} bootstrap interval; the paper's metrics are MVTec AD's, for comparison only.",
        "",
    ]
    if problems:
        lines += [f"**{len(problems)} runs are missing; no number below contains them:**", ""]
        lines += [*(f"- {problem}" for problem in problems), ""]
    for name, rows in tables.items():
        title = METRIC_TITLES[name]
        cells = [_cells(row, study.reference) for row in rows]
        means = "; ".join(f"{variant} {mean}" for variant, mean, *_ in cells if mean)
        alternative = (
            f"{title} of each variant with its interval against {study.reference}: {means}"
        )
        lines += [f"## {title}", "", markdown_table(COLUMNS, cells), ""]
        lines += [f"![{alternative}]({name}.svg)", ""]
    return "\n".join(lines)


def _cells(row: Row, reference: str) -> tuple[str, ...]:
    difference, verdict = "", ""
    if row.variant == reference:
        difference = "reference"
    elif row.difference is not None:
        d = row.difference
        difference, verdict = f"{100 * d.mean:+.1f}", d.verdict
        if d.low is not None and d.high is not None:
            difference += f" [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
    runs = str(row.done) if row.done == row.asked else f"**{row.done} of {row.asked}**"
    mean, spread, paper = (
        "" if value is None else f"{100 * value:.1f}" for value in (row.mean, row.spread, row.paper)
    )
    return row.variant, mean, spread, difference, verdict, runs, paper


def _csv(tables: dict[str, tuple[Row, ...]]) -> str:
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["figure", "variant", "mean", "seed_spread", "difference", "low", "high", "pairs",
         "done", "asked", "paper"]
    )  # fmt: skip
    for name, rows in tables.items():
        for row in rows:
            d = row.difference
            compared = ("", "", "", "") if d is None else (d.mean, d.low, d.high, d.pairs)
            counts = row.done, row.asked, row.paper
            writer.writerow([name, row.variant, row.mean, row.spread, *compared, *counts])
    return file.getvalue()


def _picture(rows: tuple[Row, ...], heading: str, reference: str) -> Figure:
    """Differences with their intervals; the reference is the line at zero."""
    compared = [row for row in rows if row.difference is not None]
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(compared)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(compared)):
        d = row.difference
        assert d is not None
        colour = BLUE if d.verdict == "undecided" else ORANGE
        if d.low is not None and d.high is not None:
            axes.plot([100 * d.low, 100 * d.high], [place, place], color=colour, linewidth=3)
        axes.plot(100 * d.mean, place, "o", color=colour)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(compared)), [shown(row.variant) for row in reversed(compared)])
    axes.set_xlabel(f"{heading}, points against {shown(reference)}")
    return figure
