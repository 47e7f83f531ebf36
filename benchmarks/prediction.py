"""Every way to predict, in turn: torch, ONNX Runtime and OpenVINO; then a folder, end to end.

The compact model is one that ships, the full one has the paper's width and random weights, which
take as long. A way to predict takes bytes of images and gives maps and scores, as ``destseg
predict`` has it. End to end is ``destseg predict`` on a folder of photographs. Decoding, the
network and the writing of overlays are also timed alone: where they take turns, the whole takes as
long as their sum.

Run: ``python benchmarks/prediction.py [--json FILE]``, on an idle machine; four minutes.
"""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import command_line, report, runtimes
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from destseg_lib.config import TOP_PIXELS, paper_recipe
from destseg_lib.device import resolve_precision, torch_threads
from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.pictures import overlay_names, write_overlay
from destseg_lib.evaluation.predict import predict
from destseg_lib.files.outputs import outputs
from destseg_lib.images.load import decode_files
from destseg_lib.metrics import image_scores
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.export import OUTPUTS, ExportedGraph, example_pixels, to_onnx
from destseg_lib.runs.exported import AnyRun, ExportedRun, open_with
from destseg_lib.runs.quantise import Weights, store_weights
from destseg_lib.runs.run import Run
from destseg_lib.runs.shipped import load_pretrained
from destseg_lib.teacher import load_teacher
from destseg_lib.training import move_to_device

CPU = torch.device("cpu")
PLAIN = "torch, fp32"
STORED: tuple[Weights, ...] = ("fp32", "fp16", "int8")  # how a file's weights are
PHOTOGRAPH = (1024, 768)  # width, height


@dataclass(frozen=True)
class Case:
    """What is timed: a model, the side of its images, and how many at once."""

    model: str
    size: int
    batch: int


CASES = (
    *(Case("compact", size, batch) for size in (128, 256) for batch in (1, 8)),
    Case("full width", 256, 1),
)


def load(model: str, size: int) -> Run:
    """The compact model that ships for metal, or one of the paper's width."""
    if model == "compact":
        run = load_pretrained("metal", CPU)
        return replace(run, config=replace(run.config, image_size=size))
    config = replace(paper_recipe(), image_size=size)
    network = DeSTSeg(load_teacher("builtin"), config.model, torch.Generator().manual_seed(0))
    return Run(move_to_device(network, CPU).eval(), config, "builtin", ())


def exported_contents(run: Run) -> dict[str, bytes]:
    """The run as ONNX, with weights stored in each way."""
    content = to_onnx(
        ExportedGraph(run.model),
        {"pixels": example_pixels(2, run.config.image_size)},
        OUTPUTS,
        ({0: torch.export.Dim("images", min=1)},),
    )
    found = {}
    for weights in STORED:
        stored = copy.deepcopy(content)
        store_weights(stored, weights)
        found[weights] = stored.SerializeToString()
    return found


def variants(run: Run, contents: dict[str, bytes]) -> tuple[dict[str, AnyRun], dict[str, str]]:
    """Every way to predict with the threads that torch has now, and why others are left out."""
    precisions = ["fp32"]
    left_out: dict[str, str] = {}
    if resolve_precision("auto", CPU) == "bf16":
        precisions.append("bf16")
    else:
        left_out["bf16"] = "this processor only emulates it"
    ways: dict[str, AnyRun] = {
        f"torch, {precision}": replace(run, config=replace(run.config, precision=precision))
        for precision in precisions
    }
    exported = [("ONNX Runtime", "onnxruntime", weights, "fp32") for weights in contents]
    exported += [("OpenVINO", "openvino", "fp32", precision) for precision in precisions]
    for title, runtime, weights, precision in exported:
        what = f"{weights} weights" if runtime == "onnxruntime" else precision
        try:
            compute = open_with(runtime, contents[weights], precision)
        except DeSTSegError as error:
            left_out[title] = str(error)
            continue
        ways[f"{title}, {what}"] = ExportedRun(compute, run.config, run.teacher_name, ())
    return ways, left_out


def answer(run: AnyRun, pixels: NDArray[np.uint8]) -> None:
    for maps in run.maps(pixels):
        image_scores(maps.final, TOP_PIXELS)


def in_turn(works: dict[str, Callable[[], None]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each work in every round, one after the other, after one to warm up."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if number:
                spent[name].append(time.perf_counter() - start)
    return spent


def case_record(case: Case, threads: int, spent: dict[str, list[float]]) -> dict[str, Any]:
    """Medians as images per second, and how much faster each is than torch in fp32."""
    seconds = {name: statistics.median(times) for name, times in spent.items()}
    return {
        "model": case.model,
        "size": case.size,
        "batch": case.batch,
        "threads": threads,
        "images_a_second": {name: case.batch / value for name, value in seconds.items()},
        "times_as_fast_as_torch_in_fp32": {
            name: seconds[PLAIN] / value for name, value in seconds.items()
        },
        "seconds_repeats": spent,
    }


def time_cases(
    cases: list[Case], all_threads: tuple[int, ...], rounds: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    records, left_out = [], {}
    bar = tqdm(total=len(cases) * len(all_threads), desc="predicting", unit="case")
    for model, size in dict.fromkeys((case.model, case.size) for case in cases):
        run = load(model, size)
        contents = exported_contents(run)
        for threads in all_threads:
            with torch_threads(threads):
                ways, missing = variants(run, contents)
                left_out |= missing
                for case in (c for c in cases if (c.model, c.size) == (model, size)):
                    shape = (case.batch, size, size, 3)
                    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
                    works = {
                        name: lambda way=way, pixels=pixels: answer(way, pixels)
                        for name, way in ways.items()
                    }
                    records.append(case_record(case, threads, in_turn(works, rounds)))
                    bar.update()
                works.clear()
                # Last in, first out: each OpenVINO model puts back the stack for signals that it
                # found. In another order a freed one is left, and the next Ctrl-C is a crash.
                while ways:
                    ways.popitem()
    bar.close()
    return records, left_out


def write_photographs(folder: Path, count: int) -> tuple[Path, ...]:
    """Drawn metal, half of it defective, as JPEG files as large as a photograph."""
    drawn = draw_category("metal", 256, ImageCounts(0, good=5, defective=1), progress=False).test
    paths = tuple(folder / f"{number:04d}.jpg" for number in range(count))
    for number, path in enumerate(paths):
        picture = Image.fromarray(drawn[number % len(drawn)])
        picture.resize(PHOTOGRAPH, Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


@dataclass(frozen=True)
class Spent:
    """Seconds on the clock and of all cores together."""

    clock: float
    cores: float


def clocked(work: Callable[[], Any]) -> tuple[Spent, Any]:
    clock, cores = time.perf_counter(), time.process_time()
    result = work()
    return Spent(time.perf_counter() - clock, time.process_time() - cores), result


def parts_and_whole(run: Run, paths: tuple[Path, ...], out: Path) -> dict[str, Spent]:
    """Decoding, network and writing alone, and all of them as ``destseg predict`` does it."""
    spent: dict[str, Spent] = {}
    spent["decoding"], images = clocked(
        lambda: list(decode_files(paths, run.config.image_size, run.view))
    )
    spent["network"], maps = clocked(
        lambda: np.concatenate([batch.final for batch in run.maps(np.stack(images))])
    )
    names = overlay_names(paths)
    written = outputs(out / "alone", names, paths, by="predict")
    written.prepare()
    threshold = float(np.median([one.max() for one in maps]))

    def write(name: str, path: Path, one: NDArray[np.float32]) -> None:
        write_overlay(written, name, path, one, threshold, 1.0, run.view)

    def write_all() -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(write, names, paths, maps))

    spent["writing"], _ = clocked(write_all)
    spent["whole"], _ = clocked(lambda: predict(run, paths, out / "whole", progress=False))
    return spent


def end_to_end_record(count: int, rounds: list[dict[str, Spent]]) -> dict[str, Any]:
    """Medians of the rounds, and who waited for whom."""

    def median(part: str, which: str) -> float:
        return statistics.median(getattr(spent[part], which) for spent in rounds)

    clock = {part: median(part, "clock") for part in rounds[0]}
    alone = [seconds for part, seconds in clock.items() if part != "whole"]
    return {
        "images_a_second": count / clock["whole"],
        "seconds": clock,
        "seconds_of_all_cores": {part: median(part, "cores") for part in rounds[0]},
        "whole_to_sum_of_parts": clock["whole"] / sum(alone),
        "whole_to_longest_part": clock["whole"] / max(alone),
        "cores_busy": median("whole", "cores") / clock["whole"],
        "whole_repeats": [spent["whole"].clock for spent in rounds],
    }


def end_to_end(count: int, all_threads: tuple[int, ...], rounds: int) -> dict[str, Any]:
    run = load("compact", 128)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(Path(folder), count)
        spent: dict[int, list[dict[str, Spent]]] = {threads: [] for threads in all_threads}
        for number in range(rounds):
            for threads in all_threads:
                with torch_threads(threads):
                    out = Path(folder) / f"out-{number}-{threads}"
                    spent[threads].append(parts_and_whole(run, paths, out))
    return {
        "what": f"{count} JPEG photographs of {PHOTOGRAPH[0]}x{PHOTOGRAPH[1]}, the compact model "
        "at 128 pixels, overlays of the same size",
        "by_threads": {
            str(threads): end_to_end_record(count, found) for threads, found in spent.items()
        },
    }


def main() -> None:
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="in turn, after one to warm up")
    add("--photographs", type=int, default=48, help="of the folder")
    add("--model", choices=("compact", "full width"), action="append", help="default: both")
    add("--size", type=int, action="append", help="default: 128 and 256")
    options = parser.parse_args()
    all_threads = tuple(sorted({1, os.cpu_count() or 1}))
    torch.set_num_threads(all_threads[-1])  # for the provenance
    cases = [
        case
        for case in CASES
        if case.model in (options.model or (case.model,))
        and case.size in (options.size or (case.size,))
    ]
    found, left_out = time_cases(cases, all_threads, options.rounds)
    record = {
        "what": f"random images; medians of {options.rounds} rounds in turn, scores included",
        "runtimes": runtimes(),
        "left_out": left_out,
        "cases": found,
        "end_to_end": end_to_end(options.photographs, all_threads, min(3, options.rounds)),
    }
    report(record, options.json)


if __name__ == "__main__":
    main()
