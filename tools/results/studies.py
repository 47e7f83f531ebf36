"""The measured studies as tables: every variant's mean and spread, and what of it is certain."""

from __future__ import annotations

from pathlib import Path

from destseg_lib.evaluation.tables import HEADINGS, markdown_table
from destseg_lib.studies.compare import LEVEL, Row, compare
from destseg_lib.studies.run import read_folder
from destseg_lib.studies.study import trials

FIGURES = ("image_auroc", "pixel_ap", "iap")


def studies(folder: Path) -> list[str]:
    """A table of each study below a folder, with the runs that are there."""
    lines = []
    for path in sorted(path.parent for path in folder.glob("*/study.json")):
        study, records = read_folder(path)
        done = [record for record in records if record["status"] == "done"]
        if not done:
            continue
        tables = [compare(study, records, figure) for figure in FIGURES]
        rows = []
        for variant in zip(*tables, strict=True):
            if variant[0].done:
                cells = [cell(row, study.reference) for row in variant]
                rows.append([variant[0].variant, str(variant[0].done), *cells])
        heads = ["variant", "runs", *(HEADINGS[figure] for figure in FIGURES)]
        config = done[0]["config"]
        where = {
            f"{record['provenance']['device']} ({record['provenance']['processor']}), commit "
            f"`{(record['provenance']['commit'] or 'unknown')[:7]}`"
            for record in done
        }
        lines += [
            f"### {study.name}: {path.name}, {len(done)} of {len(trials(study))} runs",
            "",
            markdown_table(heads, rows),
            "",
            f"In per cent, mean ± standard deviation over seeds; then the difference to "
            f"*{study.reference}*, paired by seed, with its {LEVEL:.0%} bootstrap interval. "
            f"{study.recipe.capitalize()} recipe but for what a variant changes: "
            f"{config['image_size']} pixels, "
            f"{config['student']['steps']} + {config['segmentation']['steps']} steps of "
            f"{config['batch_size']}, {done[0]['teacher']['name']} teacher; "
            f"{'; '.join(sorted(where))}.",
            "",
        ]
    return lines


def cell(row: Row, reference: str) -> str:
    """A figure with its spread, and how far it is from the reference."""
    if row.mean is None:
        return "–"
    text = f"{100 * row.mean:.1f}"
    if row.spread is not None:
        text += f" ± {100 * row.spread:.1f}"
    if row.variant == reference or row.difference is None:
        return text
    d = row.difference
    text += f", {100 * d.mean:+.1f}"
    if d.low is not None and d.high is not None:
        text += f" [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
    return text
