"""The queue of runs on real photographs: one after another, in order, as many as the time allows.

``destseg study run`` finishes one study before another begins, and starts a run whether or not the
time is there. This queue goes through several studies in the order of what is wanted first, keeps
students that they share, and never starts a run that would not end in time. The records are those
of ``destseg study run``, in the same folders, so that either goes on where the other stopped.

Data are expected where the commands put them: ``data/mvtec-ad``, ``data/dtd`` and, for the magnetic
tiles, the half that ``report_half.py`` links into ``data/magnetic_tile``.

Run: ``python experiments/run_queue.py --minutes 150 [--list]``.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from destseg_lib.device import keep_freed_memory, resolve_device
from destseg_lib.drawn.dataset import WORLD
from destseg_lib.errors import DeSTSegError
from destseg_lib.files import append_json_line
from destseg_lib.model import DeSTSeg
from destseg_lib.runs.budget import seconds_per_step
from destseg_lib.studies.records import (
    RECORDS,
    STUDENTS,
    claimed_folder,
    missing_trials,
    read_records,
)
from destseg_lib.studies.study import Study, read_study
from destseg_lib.studies.trial import Trial, run_trial, student_file, training_images, trials
from destseg_lib.studies.workbench import Workbench
from destseg_lib.training import move_to_device, phase_config, phases_of

STUDIES = Path("results/studies")
LONGEST = 100  # minutes of one run
OTHER_WORK = 120  # seconds: reading the images, measuring the test set

# (study, seeds, variants) in the order of what is wanted first; no variants are all of them.
FULL = ("denoising + encoder-decoder, segmentation", "denoising + encoder-decoder")
ORDER: tuple[tuple[str, tuple[int, ...], tuple[str, ...]], ...] = (
    *((s, (n,), v) for n in (0, 1, 2) for s, v in (("quick_table4", FULL), ("quick", ()))),
    *(("quick_table4", (n,), ()) for n in (0, 1, 2)),
    *((s, (n,), ()) for n in (0, 1, 2) for s in ("levels_plain_transistor",)),
    *((s, (n,), ()) for n in (0, 1, 2) for s in ("levels_denoising_transistor",)),
    ("one_change_transistor", (0, 1), ()),
    ("one_change_screw", (0,), ()),
    ("good_images", (0,), ()),
    ("student_steps", (0,), ()),
)


def queue() -> list[tuple[Study, Path, Trial]]:
    """Every run that has no record yet, in order, each once."""
    found: dict[tuple[str, object], tuple[Study, Path, Trial]] = {}
    for name, seeds, variants in ORDER:
        study, out = read_study(STUDIES / f"{name}.toml"), STUDIES / name
        left = {trial.key for trial in missing_trials(study, out)} if out.exists() else None
        for trial in trials(study):
            wanted = trial.seed in seeds and (not variants or trial.variant in variants)
            if wanted and (left is None or trial.key in left):
                found.setdefault((name, trial.key), (study, out, trial))
    return list(found.values())


def estimate(trial: Trial, bench: Workbench) -> float:
    """Seconds that a trial will take, from a few of its own steps; a kept student costs none."""
    model = DeSTSeg(bench.teacher(trial.teacher), trial.config.model)
    images = training_images(trial, bench)
    measured = seconds_per_step(move_to_device(model, bench.device), images, trial.config)
    known = student_file(bench.students, trial).exists()
    return OTHER_WORK + sum(
        phase_config(trial.config, phase).steps * measured[phase]
        for phase in phases_of(trial.config)
        if not (known and phase == "student")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=150, help="what may be used in all")
    parser.add_argument("--runs", type=Path, default=Path("runs/queue"), help="of kept students")
    parser.add_argument("--threads", type=int, default=1, help="records depend on it slightly")
    parser.add_argument("--list", action="store_true", help="print what is left and stop")
    options = parser.parse_args()
    waiting = queue()
    for study, _, trial in waiting if options.list else ():
        print(f"{study.name}: {trial.variant}, {Path(trial.category).name}, seed {trial.seed}")
    if options.list:
        return 0
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    end = time.monotonic() + 60 * options.minutes
    bench = Workbench(options.runs / STUDENTS, WORLD, resolve_device("cpu"), progress=False)
    for study, out, trial in waiting:
        what = f"{study.name}: {trial.variant}, {Path(trial.category).name}, seed {trial.seed}"
        needed, left = estimate(trial, bench), end - time.monotonic()
        if needed > min(left, 60 * LONGEST):
            print(f"left out  {what}: {needed / 60:.0f} min, {left / 60:.0f} are left", flush=True)
            continue
        print(f"running   {what}: about {needed / 60:.0f} min", flush=True)
        with claimed_folder(study, out):
            append_json_line(out / RECORDS, {**run_trial(trial, bench), "worker": 0})
        print(f"recorded  {len(read_records(study, out))} of {len(study.keys)}", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DeSTSegError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
