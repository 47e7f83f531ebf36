"""The six metrics from one sort, against the plain ways to compute them.

Plain, by region: what the authors' code does and the definition says. AUPRO ranks every region's
pixels against all normal pixels again (scikit-learn's ``roc_curve``) and averages the areas; exact.
Plain, by threshold: what is commonly done to avoid that. 200 evenly spaced thresholds; at each, the
false-positive rate of all normal pixels and the overlap of every region, whose places are looked up
once. Approximate. Both sort each region's pixels for IAP and count the flagged pixels of the whole
set at each region's score; both take AUROC and AP from scikit-learn.

Run: ``python benchmarks/metrics.py [--json FILE] [--images N]``; minutes, nearly all by region.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from measuring import command_line, report, timed
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from tqdm.auto import tqdm

from destseg_lib.evaluation.streaming import StreamingMetrics
from destseg_lib.metrics import anomaly_metrics

LIMIT, RECALL, TOP, THRESHOLDS = 0.3, 0.9, 100, 200
SIX = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro", "iap", "iap90")
MapStack, MaskStack = NDArray[np.float32], NDArray[np.bool_]  # (N, H, W)


def synthetic_set(count: int, size: int, seed: int = 0) -> tuple[MapStack, MaskStack]:
    """A quarter normal; one to four elliptic defects on the others, found with varying success."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    masks = np.zeros((count, size, size), bool)
    logits = np.empty((count, size, size))
    for i in range(count):
        noise = gaussian_filter(generator.normal(size=(size, size)), 3)
        logits[i] = noise / noise.std() - 4
        if i < count // 4:
            continue
        for _ in range(generator.integers(1, 5)):
            cy, cx = generator.uniform(0, size, 2)
            ry, rx = generator.uniform(size / 60, size / 8, 2)
            defect = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
            masks[i] |= defect
            logits[i] += generator.uniform(0.5, 6) * gaussian_filter(defect.astype(float), 2)
    return (1 / (1 + np.exp(-logits))).astype(np.float32), masks


def places(masks: MaskStack) -> list[tuple[NDArray[np.intp], ...]]:
    """Image, row and column of every pixel of each 8-connected region."""
    found = []
    for i, mask in enumerate(masks):
        numbered, count = label(mask, np.ones((3, 3)))
        for region in range(1, count + 1):
            rows, columns = np.nonzero(numbered == region)
            found.append((np.full(rows.size, i), rows, columns))
    return found


def plain_ranking(maps: MapStack, masks: MaskStack) -> dict[str, float]:
    scores = [np.sort(one.ravel())[-TOP:].mean() for one in maps]
    return {
        "image_auroc": roc_auc_score(masks.any(axis=(1, 2)), scores),
        "pixel_auroc": roc_auc_score(masks.ravel(), maps.ravel()),
        "pixel_ap": average_precision_score(masks.ravel(), maps.ravel()),
    }


def plain_iap(maps: MapStack, masks: MaskStack) -> dict[str, float]:
    middles = []
    for place in places(masks):
        scores = np.sort(maps[place])[::-1]
        middles.append(scores[scores.size // 2])
    middles.sort()
    anomalous, best, precisions = maps[masks], 0.0, []
    for threshold in middles:
        best = max(best, (anomalous >= threshold).sum() / (maps >= threshold).sum())
        precisions.append(best)
    rising = precisions[::-1]
    at = next(k for k in range(len(rising)) if (k + 1) / len(rising) >= RECALL)
    return {"iap": float(np.mean(rising)), "iap90": float(rising[at])}


def aupro_by_region(maps: MapStack, masks: MaskStack) -> float:
    normal, regions = maps[~masks], places(masks)
    bar = tqdm(regions, desc="plain AUPRO by region", unit="region")
    return float(np.mean([area_of_region(normal, maps[place]) for place in bar]))


def area_of_region(normal: NDArray[np.float32], region: NDArray[np.float32]) -> float:
    truth = np.concatenate([np.zeros(normal.size, bool), np.ones(region.size, bool)])
    scores = np.concatenate([normal, region])
    return area_to_limit(*roc_curve(truth, scores, drop_intermediate=False)[:2])


def aupro_by_threshold(maps: MapStack, masks: MaskStack) -> float:
    normal, regions = maps[~masks], places(masks)
    x, y = [0.0], [0.0]
    for threshold in np.linspace(maps.max(), maps.min(), THRESHOLDS):
        x.append(float(np.mean(normal >= threshold)))
        y.append(float(np.mean([np.mean(maps[place] >= threshold) for place in regions])))
    return area_to_limit(np.array(x), np.array(y))


def area_to_limit(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    inside = x <= LIMIT
    y = np.append(y[inside], np.interp(LIMIT, x, y))
    x = np.append(x[inside], LIMIT)
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 / LIMIT)


def streamed(maps: MapStack, masks: MaskStack) -> dict[str, Any]:
    metrics = StreamingMetrics()
    for one_map, mask in zip(maps, masks, strict=True):
        metrics.update(one_map, mask)
    return metrics.compute()


def peak_mib(work: Callable[..., Any], *arguments: Any) -> float:
    """Largest memory in use at once beyond the inputs, MiB; counted in a run of its own."""
    tracemalloc.start()
    try:
        work(*arguments)
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--images", type=int, default=83, help="at least 8 (default: 83)")
    options = parser.parse_args()
    maps, masks = synthetic_set(max(options.images, 8), 256)

    anomaly_metrics(maps[:8], masks[:8])  # load what is loaded on first use
    sides: dict[str, tuple[Callable[[MapStack, MaskStack], Any], int]] = {
        "one sort, all six": (anomaly_metrics, 5),
        "streamed, all six": (streamed, 3),
        "plain AUROC and AP": (plain_ranking, 1),
        "plain IAP": (plain_iap, 1),
        "plain AUPRO by threshold": (aupro_by_threshold, 1),
        "plain AUPRO by region": (aupro_by_region, 1),
    }
    done = {name: timed(work, maps, masks, times=n) for name, (work, n) in sides.items()}
    seconds = {name: float(np.median(spent)) for name, (spent, _) in done.items()}
    sort, stream, ranking, instances, by_threshold, by_region = (r for _, r in done.values())
    ours, instance_seconds = seconds["one sort, all six"], seconds["plain IAP"]
    ratios, differences = {}, {}
    for way, aupro in (("region", by_region), ("threshold", by_threshold)):
        # Ours are all six, even where the plain side does only two: a lower bound of the ratio.
        two = seconds[f"plain AUPRO by {way}"] + instance_seconds
        ratios[f"ratio_aupro_iap_by_{way}"] = two / ours
        ratios[f"ratio_all_six_by_{way}"] = (two + seconds["plain AUROC and AP"]) / ours
        plain = {**ranking, **instances, "aupro": aupro}
        differences[f"difference_to_plain_by_{way}"] = {n: abs(sort[n] - plain[n]) for n in SIX}
    record = {
        "what": f"{len(maps)} maps of 256x256, {sort['regions']} regions, seed 0",
        "seconds": seconds,
        **ratios,
        "peak_mib_beyond_inputs": {
            "one sort": peak_mib(anomaly_metrics, maps, masks),
            "streamed": peak_mib(streamed, maps, masks),
            "plain AUROC and AP": peak_mib(plain_ranking, maps, masks),
            "plain AUPRO, one region": peak_mib(area_of_region, maps[~masks], maps[masks][:100]),
        },
        "values": {name: sort[name] for name in SIX},
        **differences,
        "difference_to_streamed": {n: abs(sort[n] - stream[n]) for n in SIX},
        "bound_of_streamed": stream["error_bound"],
    }
    report(record, options.json)


if __name__ == "__main__":
    main()
