"""What a study's records say: means, the spread of seeds, and intervals against the reference.

Variants are compared in pairs: the same category and seed, with and without the change, so that
what is common to both drops out. The interval is a bootstrap over those pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.studies.study import Study

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
    """A variant's figure over all its finished trials.

    Attributes:
        variant: its name.
        mean: over categories, of the mean over seeds; None if nothing finished.
        spread: standard deviation between seeds of the mean over categories; None below two
            seeds that are complete.
        done: finished trials.
        asked: trials the study asks for.
        difference: to the reference; None for itself, and where no pair is complete.
        paper: the paper's figure, in [0, 1], if it has one.
    """

    variant: str
    mean: float | None
    spread: float | None
    done: int
    asked: int
    difference: Difference | None
    paper: float | None


def compare(
    study: Study, records: list[dict[str, Any]], figure: str, *, seed: int = 0
) -> tuple[Row, ...]:
    """One row a variant for one figure, in the study's order.

    Args:
        study: what was asked for.
        records: as ``read_records`` gives them; failed ones count as missing.
        figure: a name in ``tables.METRIC_NAMES``.
        seed: of the bootstrap.

    Raises:
        DeSTSegError: no such figure.
    """
    if figure not in METRIC_NAMES:
        raise DeSTSegError(
            f"there is no figure {figure!r}; choose one of {', '.join(METRIC_NAMES)}"
        )
    categories = [Path(name).name for name in study.categories]
    values = {
        (r["variant"], r["category"], r["seed"]): r[figure]
        for r in records
        if r["status"] == "done" and r[figure] is not None
    }
    asked = len(categories) * len(study.seeds)
    rows = []
    for variant in study.variants:
        own = {(c, s): v for (name, c, s), v in values.items() if name == variant}
        per_category = [
            [own[c, s] for s in study.seeds if (c, s) in own]
            for c in categories
            if any((c, s) in own for s in study.seeds)
        ]
        per_seed = [
            np.mean([own[c, s] for c in categories])
            for s in study.seeds
            if all((c, s) in own for c in categories)
        ]
        pairs = [
            own[place] - values[study.reference, *place]
            for place in sorted(own)
            if (study.reference, *place) in values
        ]
        paper = study.paper.get(variant, {}).get(figure)
        rows.append(
            Row(
                variant,
                float(np.mean([np.mean(v) for v in per_category])) if per_category else None,
                float(np.std(per_seed, ddof=1)) if len(per_seed) > 1 else None,
                len(own),
                asked,
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
        differences: (n,), one a pair; pairs are resampled with replacement.
        draws: resamples.
        level: share of resampled means inside the interval.
        seed: of the resampling.

    Raises:
        DeSTSegError: there are none, or one is not finite.
    """
    found: NDArray[np.float64] = np.asarray(differences, np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise DeSTSegError(f"differences are {found}; give one or more finite numbers")
    mean = float(found.mean())
    if len(found) == 1:
        return Difference(mean, None, None, 1)
    rows = np.random.default_rng(seed).integers(len(found), size=(draws, len(found)))
    tail = 100 * (1 - level) / 2
    low, high = np.percentile(found[rows].mean(axis=1), (tail, 100 - tail))
    return Difference(mean, float(low), float(high), len(found))


def unfinished(study: Study, records: list[dict[str, Any]]) -> list[str]:
    """A line for each trial that failed or has not run: what no mean may pass over in silence."""
    known = {(r["variant"], r["category"], r["seed"]): r for r in records}
    lines = []
    for variant in study.variants:
        for category in (Path(name).name for name in study.categories):
            for seed in study.seeds:
                record = known.get((variant, category, seed))
                what = f"{variant}, {category}, seed {seed}"
                if record is None:
                    lines.append(f"{what}: not run")
                elif record["status"] != "done":
                    lines.append(f"{what}: failed, {record['error']}")
    return lines
