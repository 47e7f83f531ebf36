"""A study's records as a page: Markdown, HTML and CSV, with a picture a figure."""

from __future__ import annotations

import csv
import html
import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_TITLES, markdown_table
from destseg_lib.studies.compare import LEVEL, Row, compare, unfinished
from destseg_lib.studies.study import Study

SHOWN = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap")
BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe and Ito's
COLUMNS = ("variant", "mean", "± seeds", "to the reference", "", "runs", "paper")


def write_report(study: Study, records: list[dict[str, Any]], out: Path) -> Path:
    """Write report.md, report.html, report.csv and a picture a figure into ``out``.

    Returns:
        report.md.

    Raises:
        DeSTSegError: nothing has finished yet, or a file cannot be written.
    """
    if not any(record["status"] == "done" for record in records):
        raise DeSTSegError(f"no run of {study.name} has finished; run it first")
    tables = {figure: compare(study, records, figure) for figure in SHOWN}
    tables = {name: rows for name, rows in tables.items() if any(r.mean is not None for r in rows)}
    problems = unfinished(study, records)
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.csv").write_text(_csv(tables), encoding="utf-8")
        for name, rows in tables.items():
            _picture(rows, METRIC_TITLES[name], study.reference).savefig(out / f"{name}.svg")
        text = markdown(study, tables, problems)
        (out / "report.md").write_text(text, encoding="utf-8")
        (out / "report.html").write_text(_html(study, tables, problems), encoding="utf-8")
    except OSError as error:
        raise DeSTSegError(
            f"the report could not be written to {out} ({error}); choose another --out"
        ) from error
    return out / "report.md"


def markdown(study: Study, tables: dict[str, tuple[Row, ...]], problems: list[str]) -> str:
    """The whole report as Markdown."""
    lines = [f"# {study.name}", ""]
    lines += [study.about, ""] if study.about else []
    lines += [_what(study), ""]
    if problems:
        lines += [f"**{len(problems)} runs are missing; no figure below contains them:**", ""]
        lines += [*(f"- {problem}" for problem in problems), ""]
    for name, rows in tables.items():
        cells = (_cells(row, study.reference) for row in rows)
        lines += [f"## {METRIC_TITLES[name]}", "", markdown_table(COLUMNS, cells)]
        lines += ["", f"![{_said(rows, name, study.reference)}]({name}.svg)", ""]
    return "\n".join(lines)


def _what(study: Study) -> str:
    categories = ", ".join(Path(category).name for category in study.categories)
    return (
        f"{len(study.variants)} variants on {categories}, seeds "
        f"{', '.join(map(str, study.seeds))}, {study.recipe} recipe. In per cent. Differences are "
        f"to *{study.reference}*, pairwise by category and seed, with a {LEVEL:.0%} bootstrap "
        "interval; the paper's figures are MVTec AD's and stand beside for comparison only."
    )


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
    return (
        row.variant,
        _percent(row.mean),
        _percent(row.spread),
        difference,
        verdict,
        runs,
        _percent(row.paper),
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _said(rows: tuple[Row, ...], name: str, reference: str) -> str:
    """The picture in words."""
    found = "; ".join(f"{row.variant} {_percent(row.mean)}" for row in rows if row.mean is not None)
    return f"{METRIC_TITLES[name]} of each variant with its interval against {reference}: {found}"


def _csv(tables: dict[str, tuple[Row, ...]]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        ["figure", "variant", "mean", "seed_spread", "difference", "low", "high", "pairs", "done",
         "asked", "paper"]
    )  # fmt: skip
    for name, rows in tables.items():
        for row in rows:
            d = row.difference
            compared = ("", "", "", "") if d is None else (d.mean, d.low, d.high, d.pairs)
            writer.writerow(
                [name, row.variant, row.mean, row.spread, *compared, row.done, row.asked, row.paper]
            )
    return file.getvalue()


def _html(study: Study, tables: dict[str, tuple[Row, ...]], problems: list[str]) -> str:
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{html.escape(study.name)}</title>",
        "<style>body{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{padding:.2rem .6rem;text-align:left;"
        "border-bottom:1px solid #999}img{max-width:100%}</style>",
        f"<h1>{html.escape(study.name)}</h1>",
        f"<p>{html.escape(study.about)}</p>" if study.about else "",
        f"<p>{html.escape(_what(study).replace('*', ''))}</p>",
    ]
    if problems:
        items = "".join(f"<li>{html.escape(problem)}</li>" for problem in problems)
        parts.append(
            f"<p><strong>{len(problems)} runs are missing; no figure below contains them:"
            f"</strong></p><ul>{items}</ul>"
        )
    for name, rows in tables.items():
        head = "".join(f"<th scope='col'>{html.escape(column)}</th>" for column in COLUMNS)
        body = "".join(
            "<tr>"
            + "".join(
                f"<td>{html.escape(cell.replace('**', ''))}</td>"
                for cell in _cells(row, study.reference)
            )
            + "</tr>"
            for row in rows
        )
        alt = html.escape(_said(rows, name, study.reference), quote=True)
        parts += [
            f"<h2>{METRIC_TITLES[name]}</h2><table><tr>{head}</tr>{body}</table>",
            f"<img src='{name}.svg' alt=\"{alt}\">",
        ]
    return "\n".join(parts) + "\n</html>\n"


def _picture(rows: tuple[Row, ...], heading: str, reference: str) -> Figure:
    """Differences with their intervals; the reference is the line at zero."""
    shown = [row for row in rows if row.difference is not None]
    figure = Figure(figsize=(7, 1.2 + 0.4 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(shown)):
        d = row.difference
        assert d is not None
        colour = BLUE if d.verdict == "undecided" else ORANGE
        if d.low is not None and d.high is not None:
            axes.plot([100 * d.low, 100 * d.high], [place, place], color=colour, linewidth=3)
        axes.plot(100 * d.mean, place, "o", color=colour)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks(range(len(shown)), [row.variant for row in reversed(shown)])
    axes.set_xlabel(f"{heading}, points against {reference}")
    return figure
