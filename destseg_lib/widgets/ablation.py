"""A study to look through: every run is a dot, so that the means show with their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import traitlets

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.browser import script
from destseg_lib.evaluation.tables import METRIC_TITLES
from destseg_lib.studies.compare import Row, compare
from destseg_lib.studies.study import Study, short_names
from destseg_lib.widgets.element import Element, Values, fixed

Record = dict[str, Any]
MISSING = "not run yet"


class AblationExplorer(Element):
    """Choose a metric, a data set and a variant; see its runs, mean and distance to the reference.

    Attributes:
        category: the name of a data set.
        figure: the name of a metric in ``tables.METRIC_TITLES``.
        variant: the name of a variant; the others stay in view.
    """

    _esm = script("ablation")
    category = traitlets.Unicode().tag(sync=True)
    figure = traitlets.Unicode().tag(sync=True)
    variant = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        studies: Sequence[tuple[Study, Sequence[Record]]],
        metrics: Sequence[str] = ("image_auroc", "pixel_ap", "iap", "aupro"),
    ) -> None:
        """Take studies of the same variants, each with its records, as ``read_folder`` gives them.

        Raises:
            DeSTSegError: nothing has run, variants differ, or there is no such metric.
        """
        if not studies or not any(r["status"] == "done" for _, found in studies for r in found):
            raise DeSTSegError("No run has finished; run the study first, or give other records.")
        first = studies[0][0]
        if any(list(study.variants) != list(first.variants) for study, _ in studies):
            raise DeSTSegError("The studies have different variants; explore them one by one.")
        unknown = sorted(set(metrics) - set(METRIC_TITLES))
        if unknown:
            raise DeSTSegError(
                f"there is no metric {unknown[0]!r}; choose from {', '.join(METRIC_TITLES)}"
            )
        names = short_names([name for study, _ in studies for name in study.categories])
        self._rows = {
            names[name]: _by_metric(study, records, name, metrics)
            for study, records in studies
            for name in study.categories
        }
        categories, variants = list(self._rows), list(first.variants)
        data = {
            "label": "Ablation explorer",
            "hint": "A dot is one run, a bar the mean over seeds, the line the reference's mean.",
            "categories": categories,
            "figures": [[name, METRIC_TITLES[name]] for name in metrics],
            "variants": variants,
            "reference": first.reference,
            "rows": self._rows,
        }
        last = len(variants) - 1
        places = ((0, 0, 0), (-1, 1, last), (0, -1, 1), (-1, 0, last // 2), (0, 1, last))
        trials = [
            (categories[c % len(categories)], metrics[m % len(metrics)], variants[v])
            for c, m, v in places
        ]
        super().__init__(
            data, trials, category=categories[0], figure=metrics[0], variant=variants[0]
        )

    def displayed(self, category: Any, figure: Any, variant: Any) -> Values:
        """The values shown for a choice, as text; metrics in per cent."""
        row = self._rows[category][figure][variant]
        runs = row["runs"]
        if not runs:
            absent = dict.fromkeys(("mean", "spread", "difference", "verdict"), MISSING)
            return {"seeds": "0", **absent, "paper": row["paper"]}
        return {
            "seeds": str(len(runs)),
            "mean": fixed(fmean(runs), 1),
            "spread": fixed(stdev(runs), 1) if len(runs) > 1 else "one seed",
            "difference": row["difference"],
            "verdict": row["verdict"],
            "paper": row["paper"],
        }


def _by_metric(
    study: Study, records: Sequence[Record], category: str, metrics: Sequence[str]
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """For each metric and variant: its runs in per cent, in the order of seeds, and the verdict."""
    one = [record for record in records if record["category"] == category]
    alone = replace(study, categories=(category,))
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for metric in metrics:
        found[metric] = {}
        rows = compare(alone, one, metric)
        whole = next(row.paper for row in rows if row.variant == study.reference)
        for row in rows:
            runs = [
                100 * record[metric]
                for record in one
                if record["variant"] == row.variant
                and record["status"] == "done"
                and record[metric] is not None
            ]
            found[metric][row.variant] = {
                "runs": runs,
                **_difference(row, study.reference),
                "paper": _paper(row, whole),
            }
    return found


def _paper(row: Row, reference: float | None) -> str:
    """The paper's value in per cent and its distance to that of the reference."""
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
