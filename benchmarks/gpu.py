"""What a GPU gives: is it right, how fast is it, and what does the paper's recipe reach on it?

    python benchmarks/gpu.py --minutes 9

Runs on Linux and macOS under any Python of 3.11 or newer that has torch 2.6 or newer and the few
other packages that the library works with. Nothing is installed, and nothing is fetched but the
ImageNet teacher, if part c is given no other. On a notebook server such as Colab, put an
exclamation mark before the line.

Three parts, each with a record in ``--out`` that is written after every result:

a, checks.json: the same weights and images give the same maps, losses and metrics on the device
   as on the CPU; a run that is stopped and resumed ends at the same weights; fp16 with loss
   scaling works.
b, speed.json: images per second of a step of both phases in bf16, fp16 and fp32, compiled or not,
   peak memory, and the arithmetic as a share of the device's own rate for a large bf16 product.
c, recipe.json: the paper's recipe on each folder of ``--data`` in turn, as many seeds as fit.

Parts a and b draw the images they need. ``--minutes`` covers everything, from the first import on:
the last part is stopped at its end, a part before it after a sixth of it. Part c starts no seed
that it cannot finish, by its own estimate from steps timed on the spot. The exit status is 0; 1 if
a check or a run failed; 2 if nothing could be begun.

``--bundle NAME --data DIR --textures DIR --teacher FILE`` copies what part c needs into
``runs/gpu-bundle``: the images of the category ``--data`` to the folder NAME, as lossless WebP, and
to ``common``, which all categories share, the teacher and 200 textures, taken evenly. ``common``
and one category stay below 36 MiB. Without ``--data``, ``--textures`` and ``--teacher`` part c
takes the transistor and what is in ``common``. Where git cannot be asked, ``--commit`` says which
commit the records belong to.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

STARTED = time.monotonic()  # importing torch takes a part of the time
NEEDED = "torch 2.6 or newer, numpy, scipy, pillow, tqdm, safetensors, psutil, filelock, matplotlib"
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the library need not be installed
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS is not deterministic

try:
    import torch

    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        raise ImportError(f"torch is {torch.__version__}")

    from gpu_bundle import BUNDLE, make_bundle
    from gpu_device import Bench, Job, Record, checks, draw_images, speed

    from destseg_lib import __version__
    from destseg_lib.config import ModelConfig, paper_recipe
    from destseg_lib.device import DTYPES, resolve_device
    from destseg_lib.errors import DeSTSegError
    from destseg_lib.files import write_json
    from destseg_lib.runs.budget import recipe_seconds, seconds_per_step
    from destseg_lib.runs.provenance import provenance
    from destseg_lib.studies.study import Study
    from destseg_lib.studies.trial import Trial, run_trial, training_images, trials, untrained
    from destseg_lib.studies.workbench import Workbench
    from destseg_lib.training import with_steps
except ImportError as error:
    print(f"error: {error}; Python 3.11 or newer is needed with {NEEDED}", file=sys.stderr)
    sys.exit(2)

RESERVE = 5.0  # seconds kept for writing records and leaving


class OutOfTimeError(BaseException):
    """A part's time is up; nothing that handles errors may take it for one."""


# Part c: what does the paper's recipe reach?


def recipe(planned: list[Trial], work: Workbench, until: float) -> Iterator[Job]:
    if not planned:
        yield "neither --data nor a bundle", lambda: {"status": "not started"}
    needs: dict[str, float] = {}  # seconds, by category
    for trial in planned:
        title = f"{Path(trial.category).name}, seed {trial.seed}"
        yield title, partial(run_in_time, trial, work, needs, until)


def run_in_time(trial: Trial, work: Workbench, needs: dict[str, float], until: float) -> Record:
    """A run's record, if there is time for the run; its own time is the next one's estimate."""
    needs[trial.category] = needed = needs.get(trial.category) or estimate(trial, work)
    if (left := until - time.monotonic()) < needed:
        reason = f"it needs some {needed:.0f} s, and {max(left, 0):.0f} are left"
        return {"status": "not started", "reason": reason}
    run = run_trial(trial, work) | {"category": Path(trial.category).name}
    needs[trial.category] = 1.05 * sum(run["seconds"].values())
    textures = len(training_images(trial, work).textures)
    return run | {"estimated_seconds": needed, "texture_images": textures}


def estimate(trial: Trial, work: Workbench) -> float:
    """Seconds that a run takes, from a few steps; the share for the test images is a guess."""
    model, images, config = untrained(trial, work)
    step = seconds_per_step(model, images, config, steps=5)
    return 10 + 1.15 * recipe_seconds(config, step)


def planned_trials(options: argparse.Namespace, work: Workbench) -> list[Trial]:
    """The runs: folder by folder as they were given, every seed of each.

    Raises:
        DeSTSegError: a folder, its test images, the textures or the teacher are not there.
    """
    if not options.data or "c" not in options.parts:
        return []
    settings = {
        "image_size": options.size, "batch_size": options.batch, "model.width": options.width,
        "student.steps": options.steps[0], "segmentation.steps": options.steps[1],
        "precision": options.precision, "teacher": options.teacher, "textures": options.textures,
    }  # fmt: skip
    data, seeds = tuple(options.data), tuple(options.seeds)
    study = Study("gpu", "paper", data, seeds, {"DeSTSeg": {}}, "DeSTSeg", settings)
    for folder in data:
        if not work.category(folder).test:
            raise DeSTSegError(f"{folder} has no test images, so nothing can be measured on it")
    planned = sorted(trials(study), key=lambda trial: data.index(trial.category))
    work.teacher(options.teacher)
    training_images(planned[0], work)
    return planned


# The whole

PARTS = {"a": "checks", "b": "speed", "c": "recipe"}


def main(arguments: list[str] | None = None, started: float | None = None) -> int:
    started = started or time.monotonic()
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as folder:
        try:
            if options.bundle:
                make_bundle(options.bundle, options.data, options.textures, options.teacher)
                return 0
            device = resolve_device(options.device)
            work = Workbench(Path(folder), Path(folder), device, progress=False)
            planned, bench = planned_trials(options, work), prepare(options, device)
        except (DeSTSegError, ImportError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        where = provenance(device) | {"destseg_lib": __version__}
        where["commit"] = where["commit"] or options.commit
        # Without the folders of this machine.
        given = [Path(argument).name for argument in arguments or sys.argv[1:]]
        last, failed = started + 60 * options.minutes - RESERVE, 0
        for part in sorted(set(options.parts)):
            soon = min(last, time.monotonic() + 10 * options.minutes)  # a sixth of the time
            until = last if part == max(options.parts) else soon
            jobs = {"a": checks(bench), "b": speed(bench), "c": recipe(planned, work, until)}[part]
            record = {"part": part, "arguments": given, "provenance": where}
            run_part(options.out / f"{PARTS[part]}.json", jobs, record, until)
            # Steps that cannot be timed are no failure: memory or a compiler may be missing.
            failed += part != "b" and sum(r["status"] == "failed" for r in record["results"])
    print(f"{failed} checks and runs failed; {time.monotonic() - started:.0f} s in all")
    return 1 if failed else 0


def run_part(file: Path, jobs: Iterator[Job], record: Record, until: float) -> None:
    """Do a part's jobs up to a moment of the monotonic clock; their results go to the record."""
    record |= {"status": "complete", "results": (results := [])}
    signal.signal(signal.SIGALRM, out_of_time)
    # Again and again: an exception raised while Python finalises an object is lost.
    signal.setitimer(signal.ITIMER_REAL, max(until - time.monotonic(), 1e-3), 2.0)
    print(f"{file.stem}, on {record['provenance']['device']}", flush=True)
    try:
        for title, work in jobs:
            result = {"name": title, "status": "stopped"}
            results.append(result)
            try:
                result |= {"status": "done"} | work()
            except Exception as error:  # the other jobs are still worth doing
                reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
                result |= {"status": "failed", "reason": reason}
            values = result.get("values", result).items()
            said = [f"{key} {value:.4g}" for key, value in values if isinstance(value, float)]
            print(f"  {title}: {result['status']}", result.get("reason", ""), *said, flush=True)
            write_json(file, record)
    except OutOfTimeError:
        record |= {"status": "stopped", "reason": "its time was up"}
        print("  stopped, its time was up", flush=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        torch.backends.cudnn.allow_tf32 = True  # as torch has it
        torch.set_deterministic_debug_mode("default")
    write_json(file, record)


def out_of_time(number: int, frame: object) -> None:
    raise OutOfTimeError


def prepare(options: argparse.Namespace, device: torch.device) -> Bench:
    """What parts a and b work with.

    Raises:
        DeSTSegError: the size or the width is out of range, or ``--out`` is in use.
    """
    if any(options.out.glob("*.json")):
        raise DeSTSegError(f"{options.out} holds records already; name another folder with --out")
    options.out.mkdir(parents=True, exist_ok=True)
    config = replace(
        with_steps(paper_recipe(), options.check_steps, options.check_steps),
        model=ModelConfig(width=options.width), image_size=options.size, batch_size=options.batch,
        precision="fp32",
    )  # fmt: skip
    return Bench(device, options.precisions, config, draw_images(options.size, options.batch)[1])


def parse(arguments: list[str] | None) -> argparse.Namespace:
    bundled = [str(folder) for folder in [BUNDLE / "transistor"] if folder.is_dir()]
    textures = str(BUNDLE / "common" / "textures")
    teacher = str(next(iter(BUNDLE.glob("common/*.safetensors")), "imagenet"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=9.0, help="for everything (default: %(default)s)")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    add("--data", nargs="+", default=bundled, help="categories in MVTec AD's layout")
    add("--textures", default=textures, help="images to blend in, or the word procedural")
    add("--teacher", default=teacher, help="a file of weights, or the word imagenet")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="default: 0 to 4")
    add("--steps", nargs=2, type=int, default=[1000, 4000], help="of the two phases in part c")
    add("--precision", choices=("auto", *DTYPES), default="auto", help="of part c")
    add("--precisions", nargs="+", choices=DTYPES, default=list(DTYPES), help="of parts a and b")
    # In fp16 the student must have some 20 steps behind it before it is read in eval mode: until
    # batch norm's running statistics have settled its values exceed the largest of fp16, 65,504.
    add("--check-steps", type=int, default=40, help="of each phase in part a")
    add("--size", type=int, default=256, help="of the images, in pixels")
    add("--batch", type=int, default=32, help="images in a step")
    add("--width", type=float, default=1.0, help="of the networks")
    add("--device", choices=("auto", "cuda", "cpu"), default="auto")
    add("--out", type=Path, default=ROOT / "runs" / "gpu", help="folder for the records")
    add("--commit", help="of this checkout, for the records where git cannot be asked")
    add("--bundle", metavar="NAME", help="copy what part c needs, and do nothing else")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
