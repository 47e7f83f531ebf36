"""What a GPU gives: is it right, how fast is it, and what does the paper's recipe reach on it?

    python benchmarks/gpu.py --minutes 9

Runs on Linux and macOS under any Python of 3.11 or newer that has torch 2.6 or newer and the few
other packages that the library works with. Nothing is installed, and nothing is fetched but the
ImageNet teacher, where part c is given no other. On a notebook server such as Colab, put an
exclamation mark before the line.

Three parts, each with a record in ``--out``, written as it goes:

a, checks.json: the same weights and images give the same maps, losses and metrics on the device
   as on the CPU; a run that is stopped and resumed ends at the same weights; fp16 with loss
   scaling works.
b, speed.json: images per second of a step of both phases in bf16, fp16 and fp32, compiled or not,
   peak memory, and the arithmetic as a share of the device's own rate for a large bf16 product.
c, recipe.json: the paper's recipe on each folder of ``--data`` in turn, as many seeds as fit.

Parts a and b draw the images they need. ``--minutes`` covers everything, from the first import on:
a part is stopped when its time is up, and part c starts no seed that it cannot finish and evaluate,
by its own estimate from steps timed on the spot. The exit status is 0; 1 if a check or a run
failed; 2 if nothing could be begun.

``--bundle NAME --data DIR --textures DIR --teacher FILE`` copies what part c needs into
``runs/gpu-bundle``: the images of the category ``--data`` to the folder NAME, as lossless WebP, and
to ``common``, which all categories share, the teacher and 200 textures, taken evenly from their
classes. A checkout, ``common`` and one category stay below 60 MiB together. Without ``--data``,
``--textures`` and ``--teacher`` part c takes the transistor and what is in ``common``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

STARTED = time.monotonic()  # importing torch is part of the time there is
# What the library imports on the way, with the package's name where it is another.
NEEDED = {
    "torch": "", "numpy": "", "scipy": "", "PIL": "pillow", "tqdm": "", "safetensors": "",
    "psutil": "", "filelock": "", "matplotlib": "",
}  # fmt: skip


def lacking() -> list[str]:
    """What this Python lacks, in words."""
    absent = [module for module in NEEDED if importlib.util.find_spec(module) is None]
    lacks = [NEEDED[module] or module for module in absent]
    version = metadata.version("torch") if "torch" not in lacks else "2.6"
    if tuple(map(int, version.split(".")[:2])) < (2, 6):
        lacks.append(f"torch 2.6 or newer (it has {version})")
    return lacks if sys.version_info >= (3, 11) else ["Python 3.11 or newer", *lacks]


if LACKING := lacking():
    print(f"error: this Python lacks {', '.join(LACKING)}", file=sys.stderr)
    sys.exit(2)

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the library need not be installed
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else cuBLAS is not deterministic

from datetime import UTC, datetime

from gpu_bundle import BUNDLE, make_bundle
from gpu_device import Bench, Record, Save, checks, first_line, generator, speed

from destseg_lib import __version__
from destseg_lib.batches import PHASES, TrainingImages
from destseg_lib.config import ModelConfig, paper_recipe
from destseg_lib.device import DTYPES, resolve_device, resolve_precision
from destseg_lib.drawn.dataset import ImageCounts, draw_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.evaluate import evaluate_category
from destseg_lib.evaluation.tables import METRIC_NAMES
from destseg_lib.files import write_json
from destseg_lib.images.folders import find_category, find_images
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.runs.inputs import fingerprint_files
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import Run
from destseg_lib.studies.study import Study
from destseg_lib.studies.trial import Trial, run_trial, training_images, trials
from destseg_lib.studies.workbench import Workbench
from destseg_lib.teacher import load_teacher
from destseg_lib.textures import procedural_textures
from destseg_lib.training import move_to_device, with_steps

RESERVE = 5.0  # seconds kept for writing records and leaving
SHARE = 4  # one test image in so many is evaluated to learn how long all of them take


class OutOfTimeError(BaseException):
    """A part's time is up; nothing that handles errors may take it for one."""


# Part c: what does the paper's recipe reach?


def recipe(bench: Bench, record: Record, save: Save, until: float) -> None:
    record |= {"textures": texture_record(bench.options.textures), "estimates": {}, "runs": []}
    if not bench.trials:
        record |= {"status": "skipped", "reason": "there is neither --data nor a bundle"}
    needs: dict[str, float] = {}  # seconds, by category
    with tempfile.TemporaryDirectory() as folder:
        work = Workbench(Path(folder), Path(folder), bench.device, progress=False)
        for trial in bench.trials:
            name = Path(trial.category).name
            run: Record = {"category": name, "seed": trial.seed, "status": "stopped"}
            record["runs"].append(run)
            try:
                if name not in needs:
                    record["estimates"][name] = estimate(trial, work)
                    needs[name] = record["estimates"][name]["whole"]
                left = until - time.monotonic()
                if needs[name] > left:
                    reason = f"it needs some {needs[name]:.0f} s, and {max(left, 0):.0f} are left"
                    run |= {"status": "not started", "reason": reason}
                else:
                    run |= run_trial(trial, work) | {"category": name}
                    run["provenance"] |= {
                        key: bench.where[key] for key in ("destseg_lib", "commit")
                    }
                    needs[name] = 1.05 * sum(run["seconds"].values())
            except DeSTSegError as error:
                run |= {"status": "failed", "reason": str(error)}
            save()
            metrics = [f"{key} {run[key]:.4f}" for key in METRIC_NAMES if run.get(key) is not None]
            said = ", ".join(metrics) or f"{run['status']}: {run.get('reason')}"
            print(f"  {name}, seed {trial.seed}: {said}")


def estimate(trial: Trial, work: Workbench) -> dict[str, float]:
    """Seconds that a run takes, from a few steps and a part of the test images."""
    precision = resolve_precision(trial.config.precision, work.device)
    config, category = replace(trial.config, precision=precision), work.category(trial.category)
    images = training_images(trial, work)
    model = move_to_device(DeSTSeg(work.teacher(trial.teacher), config.model), work.device)
    a_step = seconds_per_step(model, images, config, steps=5)
    begun, few = time.monotonic(), replace(category, test=category.test[::SHARE])
    evaluate_category(Run(model, config, trial.teacher, ()), few, progress=False)
    parts = {phase: getattr(config, phase).steps * a_step[phase] for phase in PHASES}
    parts["evaluation"] = SHARE * (time.monotonic() - begun)
    return {**parts, "whole": 1.1 * sum(parts.values()) + 3}


def planned(options: argparse.Namespace) -> list[Trial]:
    """The runs: folder by folder as they were given, every seed of each."""
    if not options.data:
        return []
    settings = {
        "image_size": options.size, "batch_size": options.batch, "model.width": options.width,
        "student.steps": options.student_steps, "segmentation.steps": options.segmentation_steps,
        "precision": options.precision, "teacher": options.teacher, "textures": options.textures,
    }  # fmt: skip
    data, seeds = tuple(options.data), tuple(options.seeds)
    study = Study("gpu", "paper", data, seeds, {"DeSTSeg": {}}, "DeSTSeg", settings)
    return sorted(trials(study), key=lambda trial: data.index(trial.category))


def texture_record(textures: str) -> Record:
    if textures == "procedural" or not Path(textures).exists():
        return {"name": Path(textures).name}
    paths = find_images([Path(textures)])
    found = {"images": len(paths), "fingerprint": fingerprint_files(paths)}
    return {"name": Path(textures).name, **found}


# The whole

PARTS = {"a": ("checks", checks), "b": ("speed", speed), "c": ("recipe", recipe)}


def main(arguments: list[str] | None = None, started: float | None = None) -> int:
    started = time.monotonic() if started is None else started
    options = parse(arguments)
    try:
        if options.bundle:
            make_bundle(options.bundle, options.data, options.textures, options.teacher)
            return 0
        bench = prepared(options)
    except (DeSTSegError, ImportError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    last = started + 60 * options.minutes - RESERVE
    until, results = time.monotonic(), []
    for part in sorted(set(options.parts)):
        until = last if part == "c" else min(last, until + options.part_seconds)
        record = run_part(bench, part, until)
        results += record.get("checks", []) + record.get("runs", [])
        results += [record] if record.get("status") == "failed" else []
    failed = [r for r in results if r.get("passed") is False or r.get("status") == "failed"]
    took = time.monotonic() - started
    print(f"{len(results)} checks and runs, {len(failed)} failed; {took:.0f} s in all")
    return 1 if failed else 0


def run_part(bench: Bench, part: str, until: float) -> Record:
    """One part, up to a moment of the monotonic clock, and its record on the disk."""
    (name, work), begun = PARTS[part], time.monotonic()
    record: Record = {"part": part, "settings": settings_of(bench.options), "status": "complete"}

    def save() -> None:
        where = bench.where | {"finished": datetime.now(UTC).isoformat(timespec="seconds")}
        took = {"seconds": time.monotonic() - begun, "provenance": where}
        write_json(bench.options.out / f"{name}.json", record | took)
        sys.stdout.flush()

    print(f"part {part}, {name}, on {bench.where['device']}", flush=True)
    try:
        with time_limit(until - begun):
            work(bench, record, save, until)
    except OutOfTimeError:
        record |= {"status": "stopped", "reason": f"its {max(until - begun, 0):.0f} s were up"}
    except Exception as error:  # the other parts are still worth having
        record |= {"status": "failed", "reason": first_line(error)}
    print(f"  {record['status']}{': ' if 'reason' in record else ''}{record.get('reason', '')}")
    save()
    return record


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTimeError in what is inside once its time is up."""

    def ring(number: int, frame: object) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, ring)
    # Again and again: what is raised while Python finalises an object is lost.
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), 2.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def prepared(options: argparse.Namespace) -> Bench:
    """Everything that can be refused is refused here, before any work.

    Raises:
        DeSTSegError: a folder, the teacher or the device is not there, or ``--out`` is in use.
    """
    device = resolve_device(options.device)
    if any(options.out.glob("*.json")):
        raise DeSTSegError(f"{options.out} holds records already; name another folder with --out")
    config = replace(
        with_steps(paper_recipe(), options.check_steps, options.check_steps),
        model=ModelConfig(width=options.width), image_size=options.size, batch_size=options.batch,
        precision="fp32",
    )  # fmt: skip
    runs = planned(options) if "c" in options.parts else []
    for folder in options.data if runs else ():
        if not find_category(Path(folder)).test:
            raise DeSTSegError(f"{folder} has no test images, so nothing can be measured on it")
    if runs:
        load_teacher(options.teacher)
        if options.textures != "procedural":
            find_images([Path(options.textures)])
    options.out.mkdir(parents=True, exist_ok=True)
    where = provenance(device) | {"destseg_lib": __version__}
    where["commit"] = where["commit"] or options.commit
    drawn = draw_category(
        "component", options.size, ImageCounts(options.batch, 0, 0), progress=False
    )
    textures = procedural_textures(options.batch, options.size, generator())
    return Bench(options, device, where, config, runs, TrainingImages(drawn.train, textures))


def settings_of(options: argparse.Namespace) -> Record:
    """The options as plain values, without the places of this machine."""
    values = {k: v for k, v in vars(options).items() if k not in ("out", "bundle", "commit")}
    values |= {key: Path(values[key]).name for key in ("textures", "teacher")}
    return values | {"data": [Path(folder).name for folder in options.data]}


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=9.0, help="for everything (default: %(default)s)")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    add("--part-seconds", type=float, default=60.0, help="for part a, and for part b (60)")
    add("--data", nargs="+", default=[], metavar="DIR", help="categories in MVTec AD's layout")
    add("--textures", metavar="DIR", help="images to blend in, or the word procedural")
    add("--teacher", metavar="FILE", help="weights, or the word imagenet")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="default: 0 to 4")
    add("--precisions", nargs="+", choices=DTYPES, default=["bf16", "fp16", "fp32"],
        help="to compare, resume and time (all three)")  # fmt: skip
    add("--precision", choices=("auto", *DTYPES), default="auto", help="of part c")
    add("--device", choices=("auto", "cuda", "cpu"), default="auto")
    add("--out", type=Path, default=ROOT / "runs" / "gpu", metavar="DIR", help="for the records")
    add("--commit", help="of this checkout, for the records where git cannot be asked")
    add("--bundle", metavar="NAME", help="copy what part c needs, and do nothing else")
    add("--size", type=int, default=256, help="of the images, in pixels")
    add("--batch", type=int, default=32)
    add("--width", type=float, default=1.0, help="of the networks")
    add("--check-steps", type=int, default=12, help="of each phase in part a")
    add("--timed-steps", type=int, default=5, help="of each block in part b")
    add("--no-compile", action="store_true", help="leave compiled networks out of part b")
    add("--student-steps", type=int, default=1000, help="in part c")
    add("--segmentation-steps", type=int, default=4000, help="in part c")
    options = parser.parse_args(arguments)
    if not options.bundle:
        bundled = next(iter(BUNDLE.glob("common/*.safetensors")), "imagenet")
        options.teacher = options.teacher or str(bundled)
        options.textures = options.textures or str(BUNDLE / "common" / "textures")
        if not options.data and (BUNDLE / "transistor").is_dir():
            options.data = [str(BUNDLE / "transistor")]
    return options


if __name__ == "__main__":
    sys.exit(main(started=STARTED))
