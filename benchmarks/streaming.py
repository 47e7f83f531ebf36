"""The streamed metrics on up to 100,000 simulated images: their memory, error and time.

They are fed one image at a time. At each of several counts: how much more memory the process holds
than before the first image, how long it took so far, and how far the six metrics are from the exact
ones, which an other process computes from all maps and masks at once. Small maps, so that the exact
metrics of all of them still fit into memory: their time and memory grow with pixels.

Run: ``python benchmarks/streaming.py [--without-times] [--json FILE]``; minutes. Linux.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from measuring import command_line, in_own_process, memory_mib, report
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from tqdm.auto import tqdm

from destseg_lib.evaluation.streaming import StreamingMetrics
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.metrics import anomaly_metrics

COUNTS = (1_000, 10_000, 100_000)
SIZE, FIELDS = 32, 64
Image = tuple[NDArray[np.float32], NDArray[np.bool_]]  # map and mask, (S, S)


def simulated(count: int, size: int) -> Iterator[Image]:
    """Maps as a network gives them, with an elliptic defect on three of four; always the same."""
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(FIELDS, size, size))
    fields = np.stack([gaussian_filter(field, 1.5, mode="wrap") for field in noise])
    fields /= fields.std()
    y, x = np.mgrid[:size, :size]
    for _ in range(count):
        shift = generator.integers(0, size, 2)
        logits = np.roll(fields[generator.integers(FIELDS)], shift, axis=(0, 1)) - 4
        mask = np.zeros((size, size), bool)
        if generator.random() < 0.75:
            (cy, cx), (ry, rx) = generator.uniform(0, size, 2), generator.uniform(1.5, size / 5, 2)
            mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < 1
            logits = logits + generator.uniform(0.5, 6) * mask
        yield (1 / (1 + np.exp(-logits))).astype(np.float32), mask


def streamed(counts: tuple[int, ...], size: int) -> list[dict[str, Any]]:
    """State of the streamed metrics after each of these counts of images, ascending."""
    metrics, found, spent = StreamingMetrics(), [], 0.0
    before = memory_mib("VmRSS")
    images = tqdm(simulated(counts[-1], size), "streaming", counts[-1], unit="image")
    for number, (one_map, mask) in enumerate(images, start=1):
        start = time.perf_counter()
        metrics.update(one_map, mask)
        spent += time.perf_counter() - start
        if number in counts:
            computed = time.perf_counter()
            values = metrics.compute()
            found.append(
                {
                    "images": number,
                    "mib": memory_mib("VmRSS") - before,
                    "seconds": spent,
                    "seconds_to_compute": time.perf_counter() - computed,
                    "bound": values["error_bound"],
                    "values": {name: values[name] for name in METRIC_NAMES},
                }
            )
    return found


def exact(count: int, size: int) -> dict[str, Any]:
    """The exact metrics of as many images, and the memory that they took beyond the first."""
    before = memory_mib("VmRSS")
    maps = np.empty((count, size, size), np.float32)
    masks = np.empty((count, size, size), bool)
    for row, (one_map, mask) in enumerate(simulated(count, size)):
        maps[row], masks[row] = one_map, mask
    start = time.perf_counter()
    values = anomaly_metrics(maps, masks)
    seconds = time.perf_counter() - start
    return {
        "mib": memory_mib("VmHWM") - before,
        "seconds": seconds,
        "values": {name: values[name] for name in METRIC_NAMES},
    }


def compared(stream: dict[str, Any], plain: dict[str, Any], *, times: bool) -> dict[str, Any]:
    """One row of the record: both sides at a count of images."""
    bound = stream["bound"]
    errors = {name: abs(stream["values"][name] - plain["values"][name]) for name in METRIC_NAMES}
    row = {
        "images": stream["images"],
        "mib": stream["mib"],
        "exact_mib": plain["mib"],
        "error": errors,
        "bound": bound,
        "within_bound": all(errors[name] <= bound[name] for name in METRIC_NAMES),
        "values": plain["values"],
    }
    if times:
        row |= {
            "ms_an_image": 1000 * stream["seconds"] / stream["images"],
            "seconds_to_compute": stream["seconds_to_compute"],
            "exact_seconds": plain["seconds"],
        }
    return row


def main() -> None:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--images", type=int, nargs="+", default=COUNTS, help="ascending counts")
    add("--size", type=int, default=SIZE, help="side of the maps")
    add("--without-times", action="store_true", help="on a machine that does other work, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = tuple(sorted(options.images))
    stream = in_own_process(streamed, counts, options.size)
    rows = [
        compared(
            one,
            in_own_process(exact, one["images"], options.size),
            times=not options.without_times,
        )
        for one in stream
    ]
    record = {
        "what": f"simulated maps of {options.size}x{options.size}, three of four with a defect, "
        "fed one at a time, seed 0, one thread",
        "counts": rows,
    }
    report(record, options.json)


if __name__ == "__main__":
    main()
