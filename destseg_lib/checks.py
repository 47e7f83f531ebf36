"""Checks of the metrics' inputs: finite scores, masks of 0 and 1, shapes that agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from destseg_lib.errors import DeSTSegError


def as_array(values: ArrayLike, what: str) -> NDArray[Any]:
    """Return lists, tensors in main memory or arrays as an array of real numbers."""
    if isinstance(values, torch.Tensor):
        values = values.detach()
        values = values.float() if values.dtype == torch.bfloat16 else values  # unknown to NumPy
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DeSTSegError(f"The {what} cannot be read as one array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise DeSTSegError(f"The {what} must hold real numbers, not {array.dtype}; convert them.")
    return array


def check_maps(maps: ArrayLike) -> NDArray[np.floating[Any]]:
    """Return anomaly maps as (N, H, W), float32 if they are that or coarser, else float64."""
    stack = _stack(as_array(maps, "anomaly maps"), "anomaly maps")
    return _finite(stack, "anomaly map")


def check_masks(masks: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return masks as booleans (N, H, W), the shape of the maps."""
    stack = _stack(as_array(masks, "masks"), "masks")
    if stack.shape != shape:
        raise DeSTSegError(
            f"The masks have shape {stack.shape} but the maps {shape}; "
            "there must be one mask of the same size for each map."
        )
    return _binary(stack, "mask")


def check_scores(scores: ArrayLike, count: int) -> NDArray[np.floating[Any]]:
    """Return (N,) finite image scores, one for each of ``count`` images."""
    return _finite(_one_each(as_array(scores, "image scores"), count, "image scores"), "score")


def check_labels(
    labels: ArrayLike | None, masks: NDArray[np.bool_] | None, count: int
) -> NDArray[np.bool_]:
    """Return (N,) labels as booleans; without any, an image with a masked pixel is anomalous."""
    marked = None if masks is None else masks.any(axis=(1, 2))
    if labels is None:
        if marked is None:
            raise DeSTSegError("Without masks, labels are needed: (N,), 1 for an anomalous image.")
        return np.asarray(marked)
    truth = _binary(_one_each(as_array(labels, "labels"), count, "labels"), "label")
    if marked is not None and (marked & ~truth).any():
        raise DeSTSegError(
            f"The label{_where(marked & ~truth)} says normal, but the mask shows a defect; "
            "correct one of them."
        )
    return truth


def metric_names(fpr_limit: float, recall: float) -> tuple[str, ...]:
    """Check the two settings and return the six names, the image-level one first."""
    check_share(fpr_limit, "fpr_limit")
    check_share(recall, "recall")
    return ("image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap", f"iap{100 * recall:g}")


def check_share(value: float, name: str) -> None:
    """Raise DeSTSegError for anything but a number in (0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise DeSTSegError(f"{name} must be in (0, 1], not {value!r}.")


def undefined(positives: int, negatives: int, what: str) -> str | None:
    """Say why a set of ``what`` (pixels, images) allows no ranking metric; None if it does."""
    if positives and negatives:
        return None
    return f"there are no {'normal' if positives else 'anomalous'} {what}, so nothing to rank"


def _stack(array: NDArray[Any], what: str) -> NDArray[Any]:
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3 or array.size == 0:
        raise DeSTSegError(
            f"The {what} must be (N, H, W) or (N, 1, H, W) and not empty, not {array.shape}."
        )
    return array


def _one_each(array: NDArray[Any], count: int, what: str) -> NDArray[Any]:
    if array.shape != (count,):
        raise DeSTSegError(
            f"The {what} have shape {array.shape}; {count} images need exactly ({count},)."
        )
    return array


def _finite(array: NDArray[Any], what: str) -> NDArray[np.floating[Any]]:
    finite = np.isfinite(array)
    if not finite.all():
        raise DeSTSegError(
            f"The {what}{_where(~finite)} holds nan or infinity; only finite values can be ranked."
        )
    narrow = array.dtype.kind == "f" and array.itemsize <= 4
    return array.astype(np.float32 if narrow else np.float64, copy=False)


def _binary(array: NDArray[Any], what: str) -> NDArray[np.bool_]:
    bad = (array != 0) & (array != 1)
    if bad.any():
        raise DeSTSegError(
            f"The {what}{_where(bad)} holds {array[bad][0]:g}; only 0 (normal) and 1 (anomalous) "
            "are allowed, so threshold it first."
        )
    return array.astype(bool, copy=False)


def _where(bad: NDArray[np.bool_]) -> str:
    """Name the first bad image, unless there is only one."""
    return f" of image {bad.reshape(len(bad), -1).any(axis=1).argmax()}" if len(bad) > 1 else ""
