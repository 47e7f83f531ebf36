"""``destseg train``: its options, and how they change a recipe."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from destseg_lib.cli.mode import default_teacher, defaults
from destseg_lib.cli.options import add_common, add_data, add_threads, data_folder, wanted_threads
from destseg_lib.config import RECIPES, TrainingConfig, override
from destseg_lib.device import keep_freed_memory, resolve_device
from destseg_lib.drawn.dataset import drawn_settings, rotation_for
from destseg_lib.errors import DeSTSegError
from destseg_lib.files.outputs import is_inside
from destseg_lib.images.folders import find_categories
from destseg_lib.runs.run import CONFIG, new_run, read_run
from destseg_lib.runs.train import TrainingJob, train_and_calibrate

# Each setting of the configuration that has an option: its name there, and the help text. The type
# of the value and the words to choose from are read from the configuration.
SETTINGS = {
    "image_size": "side of the images, a multiple of 32 pixels",
    "crop": "the part of each photograph to look at, in pixels: left,top,width,height",
    "tiles": "look at it in N x N overlapping tiles of --image-size, so that small defects of a "
    "large photograph keep their pixels (default: 1)",
    "batch_size": "images per step, 2 or more",
    "student.steps": "steps of the first phase",
    "segmentation.steps": "steps of the second phase",
    "model.width": "factor of all inner channels (paper: 1.0)",
    "model.segmentation_width": "the same for the segmentation network alone (default: --width)",
    "rotation": "how good images may be turned: not at all, by up to 5 degrees, or by quarter "
    "turns too (default: what suits a category of this name in MVTec AD, else none)",
    "seed": "seed of everything that is random (default: 0)",
    "holdout": "share of the good images that is kept from training, for the threshold",
    "holdout_by": "single photographs drawn at random, or stretches of neighbours in file order: "
    "for photographs that show the same part several times in a row (default: photographs)",
    "group_by": "hold out whole groups of photographs, such as all of one part: a regular "
    "expression, found in every file name; what its first group matches, or else the whole, names "
    "the photograph's group",
    "precision": "arithmetic of the networks (default: the fastest that the processor has)",
}
ABLATIONS = {
    "denoising": "show the student clean images",
    "model.encoder_decoder": "use a student that is built like the teacher",
    "model.segmentation": "use the student-teacher map alone",
    "l1": "train the segmentation network with the focal loss alone",
    "model.segmentation_input": "what the segmentation network sees (default: product)",
    "model.student_map": "how the distances of the levels become one map (default: product)",
    "model.levels": "teacher levels to use (default: 1,2,3)",
    "corruption.opacity": "range of the textures' opacity (default: 0.2,1; paper's text: 0.15,1)",
}


def add_train(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg train``."""
    add = parser.add_argument
    add_data(parser, "folder of good images, or of one or several categories as in MVTec AD")
    add("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    textures = "folder of images to make synthetic anomalies of, such as DTD (default: drawn)"
    add("--textures", type=Path, metavar="DIR", help=textures)
    add(
        "--teacher",
        metavar="imagenet|builtin|random|PATH",
        help="PATH is a file of ResNet-18 weights (default: builtin, in full mode imagenet)",
    )
    add(
        "--recipe",
        dest="config.recipe",
        choices=RECIPES,
        help="paper: the authors' recipe, for a GPU; quick: about half an hour on two cores that "
        "compute in bf16, over an hour on others; tiny: minutes, for lessons. Options below win "
        "over it (default: quick for --data and on a GPU, otherwise tiny; in full mode paper)",
    )
    add("--time-budget", type=float, metavar="MIN", help="take fewer steps, to fit these minutes")
    add("--resume", action="store_true", help="continue the run in --out")
    every = "steps between checkpoints (default: 250)"
    add("--checkpoint-every", type=int, default=250, metavar="N", help=every)
    add_threads(parser, "whichever is faster in a few steps")
    add("--compile", action="store_true", help="compile the networks with torch.compile")
    add("--tensorboard", action="store_true", help="also log to RUN/tensorboard")
    add_common(parser)
    _add_settings(parser.add_argument_group("settings that win over the recipe"), SETTINGS)
    _add_settings(parser.add_argument_group("ablations of the paper's tables 4 to 6"), ABLATIONS)


def run_train(options: argparse.Namespace) -> int:
    """``destseg train``: one category into RUN, or several into RUN/<category>."""
    # A mistake in an option must be known before images are drawn.
    config_for("", options, drawn=True)
    data = data_folder(options)
    job = TrainingJob(
        textures=options.textures,
        teacher=options.teacher or default_teacher(),
        device=options.device,
        time_budget=options.time_budget,
        checkpoint_every=options.checkpoint_every,
        compile_networks=options.compile,
        threads=wanted_threads(options),
        tensorboard=options.tensorboard,
        skip_unreadable=options.skip_unreadable,
        progress=not options.quiet,
    )
    categories = find_categories(data)
    several = len(categories) > 1
    if several and (options.out / CONFIG).exists():
        raise DeSTSegError(
            f"{options.out} holds a run of one category, and {data} has {len(categories)} "
            "categories; choose another --out"
        )
    runs = [(c, options.out / c.name if several else options.out) for c in categories]
    for _, out in runs:  # a mistake in the last must be known before the first is trained
        if (out / CONFIG).exists():
            check_unchanged(out, options)
            continue
        if is_inside(out, data):
            raise DeSTSegError(
                f"{out} is in {data}, where a run would be taken for a part of the images; choose "
                "another --out"
            )
        new_run(out)
    keep_freed_memory()
    for category, out in runs:
        drawn = drawn_settings(category.root)
        config = config_for(category.name, options, drawn=drawn is not None)
        train_and_calibrate(category, out, config, replace(job, drawn=drawn))
        print(f"trained {category.name}: {out}", flush=True)
        if config.recipe == "tiny":
            print("This was the tiny recipe, for lessons; --recipe quick finds more.", flush=True)
    return 0


def config_for(category: str, options: argparse.Namespace, *, drawn: bool) -> TrainingConfig:
    """The configuration of a new run: recipe, then the category's rotation, then options.

    Without a recipe among the options, ``drawn`` images get another one than photographs do.
    """
    changes = changed_settings(options)
    device = resolve_device(options.device)
    name = changes.get("recipe") or defaults(device, photographs=not drawn).recipe
    recipe = RECIPES[str(name)]()
    return override(replace(recipe, rotation=rotation_for(category, recipe.rotation)), changes)


def changed_settings(options: argparse.Namespace) -> dict[str, object]:
    """The settings that options change, as ``config.override`` takes them."""
    given = {
        name.removeprefix("config."): value
        for name, value in vars(options).items()
        if name.startswith("config.") and value is not None
    }
    # One width is meant for both networks, also where the recipe has two.
    return {"model.segmentation_width": None} | given if "model.width" in given else given


def check_unchanged(out: Path, options: argparse.Namespace) -> None:
    """Check that a command may continue the run in ``out``, which keeps its own settings.

    Raises:
        DeSTSegError: ``--resume`` is missing, or an option contradicts the run.
    """
    if not options.resume:
        raise DeSTSegError(
            f"{out} already holds a run; continue it with --resume, or choose another --out"
        )
    described, changes = read_run(out), changed_settings(options)
    wanted = override(described["config"], changes)
    teacher = described["teacher"]["name"]
    pairs = {name: [attrgetter(name)(c) for c in (described["config"], wanted)] for name in changes}
    pairs["teacher"] = [teacher, options.teacher or teacher]
    for name, (before, now) in pairs.items():
        # A time budget and 'auto' were resolved when the run began.
        resolved = options.time_budget is not None and name.endswith(".steps")
        if before == now or resolved or now == "auto":
            continue
        raise DeSTSegError(
            f"the run in {out} was started with {_flag(name).replace('-', ' ')} {before}, not "
            f"{now}; leave the option out to resume, or choose another --out"
        )


def _add_settings(group: argparse._ArgumentGroup, settings: dict[str, str]) -> None:
    """An option for each setting; one that was not given is None and changes nothing."""
    for name, text in settings.items():
        kind: Any = TrainingConfig
        for part in name.split("."):
            kind = get_type_hints(kind)[part]
        kind = get_args(kind)[0] if get_origin(kind) is UnionType else kind
        details: dict[str, Any] = {"type": float, "metavar": "F"}
        if kind is bool:
            details = {"action": "store_const", "const": False}
        elif kind is int:
            details = {"type": int, "metavar": "N"}
        elif kind is str:
            details = {"type": _pattern, "metavar": "PATTERN"}
        elif get_origin(kind) is Literal:
            details = {"choices": get_args(kind)}
        elif get_origin(kind) is tuple:
            details = {"type": _numbers, "metavar": "N,N,..."}
        flag = f"--no-{_flag(name)}" if kind is bool else f"--{_flag(name)}"
        group.add_argument(flag, dest=f"config.{name}", help=text, **details)


def _flag(name: str) -> str:
    """A setting's name as part of an option: ``model.student_map`` is ``student-map``."""
    return re.sub("[._]", "-", re.sub(r"^(model|corruption)\.", "", name))


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a regular expression ({error}); give one such as '^[^_]+'"
        ) from None
    return text


def _numbers(text: str) -> list[float]:
    try:
        numbers: list[float] = json.loads(f"[{text}]")
        return numbers
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers such as 2,3") from None
