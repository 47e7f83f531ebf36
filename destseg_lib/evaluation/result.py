"""The result of an evaluation: metrics of both maps, and everything that they depend on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from destseg_lib.config import TOP_PIXELS, TrainingConfig, config_to_dict
from destseg_lib.threshold import AppliedThreshold


@dataclass(frozen=True)
class MapMetrics:
    """The six metrics of one kind of map, each in [0, 1]; None where a metric is undefined."""

    image_auroc: float | None
    pixel_auroc: float | None
    pixel_ap: float | None
    aupro: float | None
    iap: float | None
    iap90: float | None


@dataclass(frozen=True)
class DefectMetrics:
    """Metrics of the final map for one defect type against all good images."""

    image_auroc: float | None
    pixel_ap: float | None


@dataclass(frozen=True)
class ImageCounts:
    """Numbers of test images that were measured."""

    good: int
    defective: int
    by_defect: dict[str, int]


@dataclass(frozen=True)
class SkippedFile:
    """A file that was left out, relative to its category's folder, and why."""

    file: str
    reason: str


def skipped_file(path: Path, why: str, root: Path) -> SkippedFile:
    """A data set's place on this machine stays out of what is written."""
    return SkippedFile(path.relative_to(root).as_posix(), why.replace(f"{root}{os.sep}", ""))


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One trained model measured on the test images of one category.

    Attributes:
        category: its name.
        final: metrics of the final map.
        student: metrics of the student-teacher map, the distance product or the sum.
        reasons: by metric, why it is None.
        exact: False if the maps did not fit into memory and were streamed.
        images: numbers of images measured.
        defects: by defect type.
        regions: 8-connected regions of the masks at the size of the maps.
        regions_before_resizing: the same at the masks' own size.
        regions_lost: those that vanished in resizing.
        skipped: unreadable files.
        metric_size: side of the maps and masks that are compared, in pixels.
        top_pixels: number of a map's largest values whose mean is the image score.
        threshold: None if the run held no good image out.
        teacher: its name.
        seed: of the run.
        config: of the run.
        provenance: software and device.
        error_bounds: how far the metrics of ``final`` and of ``student`` can be off; None if they
            are exact.
    """

    category: str
    final: MapMetrics
    student: MapMetrics
    reasons: dict[str, str]
    exact: bool
    images: ImageCounts
    defects: dict[str, DefectMetrics]
    regions: int
    regions_before_resizing: int
    regions_lost: int
    skipped: list[SkippedFile]
    metric_size: int
    top_pixels: int = TOP_PIXELS
    threshold: AppliedThreshold | None
    teacher: str
    seed: int
    config: TrainingConfig
    provenance: dict[str, Any]
    error_bounds: tuple[MapMetrics, MapMetrics] | None

    @property
    def summed(self) -> bool:
        """Whether the student-teacher map is the sum of the levels' distances."""
        return self.config.model.student_map == "sum"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; ``cosine_product`` is the stored name of the student-teacher map."""
        values = asdict(self) | {"config": config_to_dict(self.config)}
        for name in ("category", "final", "student", "error_bounds"):
            del values[name]
        if self.error_bounds is not None:
            final, student = map(asdict, self.error_bounds)
            values["error_bound"] = {**final, "cosine_product": student}
        return {"category": self.category, **_maps_to_dict(self), **values}


@dataclass(frozen=True)
class Summary:
    """Evaluations of several categories; in their means each category counts the same."""

    evaluations: tuple[Evaluation, ...]

    @property
    def final(self) -> MapMetrics:
        """Means of the final map's metrics."""
        return mean_metrics([evaluation.final for evaluation in self.evaluations])

    @property
    def student(self) -> MapMetrics:
        """Means of the student-teacher map's metrics."""
        return mean_metrics([evaluation.student for evaluation in self.evaluations])

    @property
    def summed(self) -> bool:
        """Whether the student-teacher map is a sum in every category."""
        return all(evaluation.summed for evaluation in self.evaluations)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; a mean that is None has the first category without it as reason."""
        reasons = {
            name: next(
                f"{e.category}: {e.reasons[name]}" for e in self.evaluations if name in e.reasons
            )
            for name, value in asdict(self.final).items()
            if value is None
        }
        return {
            "categories": {e.category: e.to_dict() for e in self.evaluations},
            "mean": {**_maps_to_dict(self), "reasons": reasons},
            "metric_size": self.evaluations[0].metric_size,
            "top_pixels": TOP_PIXELS,
            "provenance": self.evaluations[-1].provenance,
        }


def mean_metrics(metrics: Sequence[MapMetrics]) -> MapMetrics:
    """The mean of each metric; None where any of them is None."""
    columns = zip(*map(astuple, metrics), strict=True)
    return MapMetrics(*(None if None in c else float(np.mean(c)) for c in columns))


def _maps_to_dict(result: Evaluation | Summary) -> dict[str, Any]:
    student = asdict(result.student) | ({"student_map": "sum"} if result.summed else {})
    return {**asdict(result.final), "cosine_product": student}
