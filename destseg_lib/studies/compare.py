"""A study's results: means, the spread between seeds, and intervals against the reference.

Variants are compared in pairs: the same category and seed, with and without the change, so that
what is common to both drops out. The interval is a bootstrap over those pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.studies.study import Study, short_names

DRAWS = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """A mean difference to the reference with its interval; ``pairs`` were compared.

    One pair has no interval: ``low`` and ``high`` are None.
    """

    mean: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def verdict(self) -> str:
        """Whether the interval says better, worse, or leaves it undecided."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "undecided"
        return "better" if self.low > 0 else "worse"


@dataclass(frozen=True)
class Row:
    """One metric of a variant over all its finished trials.

    Attributes:
        variant: name of the variant.
        mean: mean over categories of the mean over seeds, in [0, 1]; None if nothing finished.
        spread: standard deviation between seeds of the mean over categories; None below two
            seeds that are complete.
        done: number of finished trials.
        asked: number of trials that the study asks for.
        difference: to the reference; None for itself, and where no pair is complete.
        paper: the paper's value, in [0, 1], if it has one.
    """

    variant: str
    mean: float | None
    spread: float | None
    done: int
    asked: int
    difference: Difference | None
    paper: float | None


def compare(
    study: Study, records: list[dict[str, Any]], metric: str, *, seed: int = 0
) -> tuple[Row, ...]:
    """One row per variant for one metric, in the study's order.

    Args:
        study: the study.
        records: its records, as ``read_records`` gives them; failed ones count as missing.
        metric: a name in ``tables.METRIC_NAMES``.
        seed: seed of the bootstrap.

    Raises:
        DeSTSegError: there is no such metric.
    """
    if metric not in METRIC_NAMES:
        names = ", ".join(METRIC_NAMES)
        raise DeSTSegError(f"there is no metric {metric!r}; choose one of {names}")
    places = [(category, s) for category in study.categories for s in study.seeds]
    values = {
        (r["variant"], r["category"], r["seed"]): r[metric]
        for r in records
        if r["status"] == "done" and r[metric] is not None
    }
    rows = []
    for variant in study.variants:
        own = {p: values[variant, *p] for p in places if (variant, *p) in values}
        by_category = [[own[c, s] for s in study.seeds if (c, s) in own] for c in study.categories]
        means = [np.mean(found) for found in by_category if found]
        by_seed = [[own[c, s] for c in study.categories if (c, s) in own] for s in study.seeds]
        whole = [np.mean(found) for found in by_seed if len(found) == len(study.categories)]
        pairs = [
            value - values[study.reference, *place]
            for place, value in sorted(own.items())
            if (study.reference, *place) in values
        ]
        paper = study.paper.get(variant, {}).get(metric)
        rows.append(
            Row(
                variant,
                float(np.mean(means)) if means else None,
                float(np.std(whole, ddof=1)) if len(whole) > 1 else None,
                len(own),
                len(places),
                None if variant == study.reference or not pairs else bootstrap(pairs, seed=seed),
                None if paper is None else paper / 100,
            )
        )
    return tuple(rows)


def bootstrap(
    differences: ArrayLike, *, draws: int = DRAWS, level: float = LEVEL, seed: int = 0
) -> Difference:
    """The mean of paired differences, with a percentile interval.

    Args:
        differences: (n,), one per pair; pairs are resampled with replacement.
        draws: number of resamples.
        level: share of resampled means inside the interval.
        seed: seed of the resampling.

    Raises:
        DeSTSegError: there are none, or one is not finite.
    """
    found: NDArray[np.float64] = np.asarray(differences, np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise DeSTSegError(f"differences are {found}; give one or more finite numbers")
    mean = float(found.mean())
    if len(found) == 1:
        return Difference(mean, None, None, 1)
    low, high = stats.bootstrap(
        (found,),
        np.mean,
        n_resamples=draws,
        confidence_level=level,
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Difference(mean, float(low), float(high), len(found))


def unfinished(study: Study, records: list[dict[str, Any]]) -> list[str]:
    """A line for each trial that failed or has not run, so that no mean hides it."""
    known = {(r["variant"], r["category"], r["seed"]): r for r in records}
    names = short_names(study.categories)
    lines = []
    for variant, category, seed in study.keys:
        record = known.get((variant, category, seed))
        what = f"{variant}, {names[category]}, seed {seed}"
        if record is None:
            lines.append(f"{what}: not run")
        elif record["status"] != "done":
            lines.append(f"{what}: failed, {record['error']}")
    return lines
