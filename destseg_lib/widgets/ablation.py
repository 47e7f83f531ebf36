"""A study to look through: every run a dot, so that the spread of seeds stands beside the means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_TITLES
from destseg_lib.studies.compare import Row, compare
from destseg_lib.studies.study import Study
from destseg_lib.widgets.element import Setting, Values, fixed, script, style

Record = dict[str, Any]
MISSING = "not run yet"


class AblationExplorer(anywidget.AnyWidget):
    """Choose a figure, a data set and a variant; see its runs, mean and distance to the reference.

    Attributes:
        category: the name of a data set.
        figure: a name in ``tables.METRIC_TITLES``.
        variant: the name of a variant; the others stay in view.
    """

    _esm = script("ablation")
    _css = style()
    data = traitlets.Dict().tag(sync=True)
    checks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    category = traitlets.Unicode().tag(sync=True)
    figure = traitlets.Unicode().tag(sync=True)
    variant = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        studies: Sequence[tuple[Study, Sequence[Record]]],
        figures: Sequence[str] = ("image_auroc", "pixel_ap", "iap", "aupro"),
    ) -> None:
        """Take studies of the same variants, each with its records, as ``read_folder`` gives them.

        Raises:
            DeSTSegError: nothing has run, variants differ, or there is no such figure.
        """
        if not studies or not any(r["status"] == "done" for _, found in studies for r in found):
            raise DeSTSegError("No run has finished; run the study first, or give other records.")
        first = studies[0][0]
        if any(list(study.variants) != list(first.variants) for study, _ in studies):
            raise DeSTSegError("The studies have different variants; explore them one by one.")
        unknown = sorted(set(figures) - set(METRIC_TITLES))
        if unknown:
            raise DeSTSegError(
                f"there is no figure {unknown[0]!r}; choose from {', '.join(METRIC_TITLES)}"
            )
        self._rows = {
            Path(name).name: _by_figure(study, records, name, figures)
            for study, records in studies
            for name in study.categories
        }
        self._reference = first.reference
        categories, variants = list(self._rows), list(first.variants)
        super().__init__(category=categories[0], figure=figures[0], variant=variants[0])
        self.data = {
            "label": "Ablation explorer",
            "hint": "A dot is one run, a bar the mean over seeds, the line the reference's mean.",
            "categories": categories,
            "figures": [[name, METRIC_TITLES[name]] for name in figures],
            "variants": variants,
            "reference": first.reference,
            "rows": self._rows,
        }
        last = len(variants) - 1
        places = ((0, 0, 0), (-1, 1, last), (0, -1, 1), (-1, 0, last // 2), (0, 1, last))
        trials: list[Setting] = [
            {
                "category": categories[c % len(categories)],
                "figure": figures[f % len(figures)],
                "variant": variants[v],
            }
            for c, f, v in places
        ]
        self.checks = [{"settings": t, "values": self.displayed(**t)} for t in trials]

    def displayed(self, category: Any, figure: Any, variant: Any) -> Values:
        """What the element shows for a choice, as text; figures in per cent."""
        row = self._rows[category][figure][variant]
        runs = row["runs"]
        if not runs:
            absent = dict.fromkeys(("mean", "spread", "difference", "verdict"), MISSING)
            return {"seeds": "0", **absent, "paper": row["paper"]}
        mean = sum(runs) / len(runs)
        spread = "one seed"
        if len(runs) > 1:
            squares = sum((value - mean) ** 2 for value in runs)
            spread = fixed((squares / (len(runs) - 1)) ** 0.5, 1)
        return {
            "seeds": str(len(runs)),
            "mean": fixed(mean, 1),
            "spread": spread,
            "difference": row["difference"],
            "verdict": row["verdict"],
            "paper": row["paper"],
        }


def _by_figure(
    study: Study, records: Sequence[Record], category: str, figures: Sequence[str]
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """For each figure and variant: its runs in per cent, in the order of seeds, and the verdict."""
    one = [record for record in records if record["category"] == Path(category).name]
    alone = replace(study, categories=(category,))
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for figure in figures:
        found[figure] = {}
        rows = compare(alone, list(one), figure)
        whole = next(row.paper for row in rows if row.variant == study.reference)
        for row in rows:
            runs = [
                100 * record[figure]
                for record in one
                if record["variant"] == row.variant
                and record["status"] == "done"
                and record[figure] is not None
            ]
            found[figure][row.variant] = {
                "runs": runs,
                **_difference(row, study.reference),
                "paper": _paper(row, whole),
            }
    return found


def _paper(row: Row, reference: float | None) -> str:
    """The paper's figure in per cent and how far it is from that of the reference."""
    if row.paper is None:
        return "no figure"
    if reference is None:
        return fixed(100 * row.paper, 1)
    return f"{fixed(100 * row.paper, 1)} ({100 * (row.paper - reference):+.1f})"


def _difference(row: Row, reference: str) -> dict[str, str]:
    if row.variant == reference:
        return {"difference": "reference", "verdict": "reference"}
    if row.difference is None:
        return {"difference": MISSING, "verdict": MISSING}
    found = row.difference
    text = f"{100 * found.mean:+.1f}"
    if found.low is None or found.high is None:
        return {"difference": text, "verdict": "one pair: undecided"}
    interval = f"{text} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return {"difference": interval, "verdict": found.verdict}
