"""Does a threshold keep its promise, and if not, why: two measurements, a JSON file each.

``near`` trains nothing. It asks the teacher's features how near held-out photographs are to the
training set, against the good photographs of the test set, and whether the threshold of a detector
that is nothing but the distance to the nearest training photograph would keep its promise. Many
hold-outs are drawn, each compared with a resample of the test photographs.

``kept`` trains, or continues, a run for each seed and each way to hold photographs out, and holds
the promised against the achieved false alarms for three image scores: of the final map, of the
distance product, and of both. What has a record already is not measured again.

DATA is a folder in MVTec AD's layout, the name of a drawn category, or, for ``kept``, the name of a
model that ships after ``pretrained:``. The queue for the real sets,
``data/magnetic_tile`` as ``report_half.py`` links it:

``python experiments/promise.py near data/mvtec-ad/transistor data/mvtec-ad/screw data/magnetic_tile
--teacher imagenet``, minutes; then, hours on a CPU,

``python experiments/promise.py kept data/mvtec-ad/transistor data/mvtec-ad/screw data/magnetic_tile
--teacher imagenet --textures data/dtd/images --seeds 0 1 2``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from tqdm.auto import tqdm

from destseg_lib.config import RECIPES, TrainingConfig, config_to_dict, quick_recipe
from destseg_lib.device import resolve_device
from destseg_lib.drawn import AVAILABLE
from destseg_lib.drawn.dataset import WORLD, drawn_settings, rotation_for, write_category
from destseg_lib.errors import DeSTSegError
from destseg_lib.evaluation.nearness import (
    nearest,
    nearness,
    own_kind,
    pooled_features,
    repeats,
    shift,
)
from destseg_lib.evaluation.promise import SCORES, check_promise, scores_of_maps
from destseg_lib.files import write_json
from destseg_lib.images.folders import Category, find_category
from destseg_lib.images.load import load_images
from destseg_lib.metrics import image_auroc
from destseg_lib.model import to_tensor
from destseg_lib.runs.holdout import split_images
from destseg_lib.runs.inputs import fingerprint_pixels
from destseg_lib.runs.provenance import provenance
from destseg_lib.runs.run import HELD_OUT, Run, load_run, read_run
from destseg_lib.runs.shipped import load_pretrained, pretrained_header
from destseg_lib.runs.tiles import decoded_size
from destseg_lib.runs.train import TrainingJob, train_and_calibrate
from destseg_lib.teacher import Teacher, load_teacher, normalise

BATCH, FAR = 16, 20  # photographs at once; a neighbour that is no likeness of the same part
REPLICATES, SPLITS = 200, 10  # resamples of the new photographs, hold-outs drawn for each
PREFIX = "pretrained:"
RATES = {"best": None, "tenth": 0.1}  # promises: the best that can be made, and one in ten


def run_name(category: Path, recipe: str, way: str, seed: int) -> str:
    """The name of a run, and of its record after ``kept-``."""
    return f"{category.resolve().name}-{recipe}-{way}-seed{seed}"


def category_of(name: str) -> Category:
    """A drawn category by its name, or a folder."""
    drawn = name in {one.name for one in AVAILABLE}
    return find_category(write_category(name, WORLD) if drawn else Path(name))


def ways(config: TrainingConfig, group_by: str | None) -> dict[str, TrainingConfig]:
    """The ways to hold photographs out: groups only where a pattern tells them."""
    found = {way: replace(config, holdout_by=way) for way in ("photographs", "blocks")}
    return found | ({"groups": replace(config, group_by=group_by)} if group_by else {})


def features(teacher: Teacher, paths: list[Path], size: int) -> NDArray[np.float64]:
    """Pooled features (N, 384) of photographs."""
    pixels = load_images(paths, size).pixels
    parts = [pooled_features(teacher, images) for images in batches(pixels)]
    return np.asarray(torch.cat(parts).double().numpy())


def batches(pixels: NDArray[np.uint8]) -> Iterator[torch.Tensor]:
    """Normalised images (B, 3, S, S) of (N, S, S, 3) bytes."""
    for start in tqdm(range(0, len(pixels), BATCH), "features", unit="batch"):
        yield normalise(to_tensor(pixels[start : start + BATCH]))


def near(data: str, teacher: Teacher, size: int, group_by: str | None) -> dict[str, Any]:
    """How near held-out and new photographs are to those trained on."""
    category = category_of(data)
    new = features(teacher, good_test_images(category), size)
    good = features(teacher, list(category.train), size)
    among, to_new, between_new = cdist(good, good), cdist(new, good), cdist(new, new)
    names = [path.name for path in category.train]
    share, chance = own_kind(between_new, to_new)
    energy, as_large = shift(among, to_new, between_new, np.random.default_rng(0))
    return {
        "category": category.root.resolve().name,
        "photographs": {"good": len(good), "new": len(new)},
        "image_size": size,
        "far_neighbour": FAR,
        "draws": REPLICATES * SPLITS,
        "ways": {
            way: compared(names, among, to_new, config)
            for way, config in ways(quick_recipe(), group_by).items()
        },
        "group_by": group_by,
        "nearest_is_new": {"share": share, "chance": chance},
        "shift": {"energy_distance": energy, "p": as_large},
        "repeats": asdict(repeats(among)),
        "teacher": {"name": Path(teacher.name).name, "fingerprint": teacher.fingerprint()},
        "provenance": provenance(torch.device("cpu")),
    }


def good_test_images(category: Category) -> list[Path]:
    """Those that a promise is held against."""
    found = [image.path for image in category.test if image.defect == "good"]
    if not found:
        raise DeSTSegError(f"{category.root} has no good test images in test/good; add some")
    return found


def compared(
    names: list[str],
    among: NDArray[np.float64],
    to_new: NDArray[np.float64],
    config: TrainingConfig,
) -> dict[str, Any]:
    """One way to hold out: means over draws, with the 95 % interval of resampled photographs."""
    random, found = np.random.default_rng(0), defaultdict[str, list[list[float]]](list)
    for replicate in range(REPLICATES):
        rows: dict[str, list[float]] = defaultdict(list)
        sample = random.integers(0, len(to_new), len(to_new))
        for split in range(SPLITS):
            config = replace(config, seed=replicate * SPLITS + split)
            kept, held_out = split_images(names, config)
            known, new = among[np.ix_(held_out, kept)], to_new[np.ix_(sample, kept)]
            for what, neighbour in (("nearest", 1), ("far", FAR)):
                one = nearness(known, new, neighbour)
                rows[f"{what}_ratio"].append(one.ratio)
                rows[f"{what}_farther"].append(one.farther)
            promise = check_promise(nearest(known), nearest(to_new[:, kept]))
            rows["promised"].append(promise.promised)
            rows["achieved"].append(promise.achieved)
            rows["held_out"].append(len(held_out))
        for what, values in rows.items():
            found[what].append(values)
    return {
        what: {
            "mean": float(np.mean(values)),
            "interval": np.quantile(np.mean(values, axis=1), [0.025, 0.975]).tolist(),
            "spread": float(np.std(values)),
        }
        for what, values in found.items()
    }


def kept(data: str, config: TrainingConfig, job: TrainingJob, out: Path) -> dict[str, Any]:
    """Train a run, or continue it, and hold its promises against the good test images."""
    category, started = category_of(data), time.perf_counter()
    rotation = rotation_for(category.root.resolve().name, config.rotation)
    drawn = drawn_settings(category.root)
    config, job = replace(config, rotation=rotation), replace(job, drawn=drawn)
    train_and_calibrate(category, out, config, job)
    seconds = time.perf_counter() - started
    return {
        **measured(load_run(out, resolve_device(job.device)), category, read_run(out)),
        "seconds": round(seconds, 1),
    }


def shipped(name: str) -> dict[str, Any]:
    """Hold the promises of a model that ships against the good test images it never saw."""
    run, known = load_pretrained(name, torch.device("cpu")), pretrained_header(name)
    return measured(run, category_of(name), known)


def measured(run: Run, category: Category, described: dict[str, Any]) -> dict[str, Any]:
    """Promised and achieved false alarms of a run, whose config and inputs are described.

    Raises:
        DeSTSegError: the category's good images are not those that it was calibrated on.
    """
    size, inputs = decoded_size(run.config), described["inputs"]
    good = load_images(category.train, size, view=run.view).pixels
    places = inputs.get(HELD_OUT)
    if places is None:
        _, places = split_images([path.name for path in category.train], run.config)
    held_out = scores_of_maps(run.maps(good[np.asarray(places, np.int64)]))
    same = inputs.get("good_pixels") == fingerprint_pixels(good)
    if "good_pixels" not in inputs:  # version 0.1, which the models that ship were trained with
        same = np.allclose(held_out["final"], run.calibration_scores, rtol=0.3)
    if not same:
        raise DeSTSegError(f"the run held out other images than those in {category.root}")
    test = load_images([image.path for image in category.test], size, view=run.view).pixels
    scores = scores_of_maps(run.maps(test))
    defective = np.array([image.defect != "good" for image in category.test])
    return {
        "category": category.root.resolve().name,
        "photographs": {"good": len(good), "held_out": len(places), "new": int((~defective).sum())},
        "scores": {
            name: {
                "image_auroc": image_auroc(scores[name], defective),
                **{
                    rate: promise(held_out[name], scores[name][~defective], fpr)
                    for rate, fpr in RATES.items()
                },
            }
            for name in SCORES
        },
        "config": config_to_dict(run.config),
        "teacher": {**described["teacher"], "name": Path(run.teacher_name).name},
        "textures": inputs["textures"],
        "provenance": provenance(run.device),
    }


def promise(held_out: NDArray[np.float64], new: NDArray[np.float64], fpr: float | None) -> Any:
    """What was promised and what came; None where so few images cannot promise it."""
    if fpr is not None and fpr * (len(held_out) + 1) < 1:
        return None
    found = check_promise(held_out, new, fpr)
    return {**asdict(found), "achieved": found.achieved, "contained": found.contained}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("near", "kept"))
    parser.add_argument("data", nargs="+", metavar="DATA")
    parser.add_argument("--teacher", default="builtin")
    parser.add_argument("--group-by", metavar="PATTERN", help="also hold out groups that it tells")
    parser.add_argument("--threads", type=int, default=1, help="records depend on it slightly")
    parser.add_argument("--records", type=Path, default=Path("results/promise"))
    parser.add_argument("--size", type=int, default=quick_recipe().image_size, help="for near")
    of_runs = parser.add_argument_group("for kept")
    of_runs.add_argument("--recipe", choices=RECIPES, default="quick")
    of_runs.add_argument("--seeds", type=int, nargs="+", default=[0])
    of_runs.add_argument("--ways", nargs="+", help="photographs, blocks, groups (default: all)")
    of_runs.add_argument("--holdout", type=float, help="share held out (default: the recipe's)")
    of_runs.add_argument("--textures", type=Path)
    of_runs.add_argument("--device", default="auto")
    of_runs.add_argument("--runs", type=Path, default=Path("runs/promise"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.records.mkdir(parents=True, exist_ok=True)
    if options.what == "near":
        teacher = load_teacher(options.teacher)
        for data in options.data:
            record = options.records / f"near-{Path(data).resolve().name}.json"
            if not record.exists():
                write_json(record, near(data, teacher, options.size, options.group_by))
                print(record, flush=True)
        return
    job = TrainingJob(
        textures=options.textures, teacher=options.teacher, device=options.device,
        threads=options.threads,
    )  # fmt: skip
    ours = [data.removeprefix(PREFIX) for data in options.data if data.startswith(PREFIX)]
    for name in ours:
        record = options.records / f"kept-{name}-shipped-photographs-seed0.json"
        if not record.exists():
            write_json(record, shipped(name))
            print(record, flush=True)
    for seed in options.seeds:
        config = replace(RECIPES[options.recipe](), seed=seed)
        config = replace(config, holdout=options.holdout or config.holdout)
        for data in (data for data in options.data if not data.startswith(PREFIX)):
            for way, changed in ways(config, options.group_by).items():
                name = run_name(Path(data), options.recipe, way, seed)
                record = options.records / f"kept-{name}.json"
                if not record.exists() and way in (options.ways or [way]):
                    write_json(record, kept(data, changed, job, options.runs / name))
                    print(record, flush=True)


if __name__ == "__main__":
    try:
        main()
    except DeSTSegError as error:
        sys.exit(str(error))
