"""Every constant of the paper, once, with the section it comes from.

Configurations are frozen. A variant is made with ``dataclasses.replace`` or ``override``. Each can
be written to JSON and read back unchanged, so a trained model is stored with its configuration.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from destseg_lib.errors import DeSTSegError

SegmentationInput = Literal["product", "concatenation", "cosine"]
StudentMap = Literal["product", "sum"]
Rotation = Literal["none", "slight", "full"]
Optimiser = Literal["sgd", "adamw"]
Schedule = Literal["constant", "one_cycle"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

LEVELS = (1, 2, 3)
TEACHER_CHANNELS = {1: 64, 2: 128, 3: 256}

# Metrics are comparable only at one size: the paper's images are 256 pixels wide (section 4.2)
# and its image score is the mean of the T = 100 largest values of the map (section 3.4).
METRIC_SIZE = 256
TOP_PIXELS = 100

# How far photographs of a category can be turned and still look good, from the authors' recipe.
MVTEC_ROTATION: dict[str, Rotation] = {
    **dict.fromkeys(("capsule", "metal_nut", "pill", "toothbrush", "transistor"), "none"),
    **dict.fromkeys(("wood", "zipper", "cable"), "slight"),
    **dict.fromkeys(("bottle", "grid", "hazelnut", "leather", "tile", "carpet", "screw"), "full"),
}


@dataclass(frozen=True)
class ModelConfig:
    """The networks; the defaults are the method, other values its ablations.

    Attributes:
        encoder_decoder: the student is an encoder-decoder, else a copy of the teacher (table 4).
        segmentation: the final map is the segmentation network's, else the student map (table 4).
        segmentation_input: how each level is given to the segmentation network (table 6).
        student_map: whether the levels' cosine distances are multiplied (equation 3) or added.
        levels: teacher levels in use, a subset of 1, 2, 3; one level alone is allowed.
        width: multiplies the inner channels of student and segmentation network; the paper: 1.0.
        segmentation_width: the same for the segmentation network alone; None means ``width``.
    """

    encoder_decoder: bool = True
    segmentation: bool = True
    segmentation_input: SegmentationInput = "product"
    student_map: StudentMap = "product"
    levels: tuple[int, ...] = LEVELS
    width: float = 1.0
    segmentation_width: float | None = None

    def __post_init__(self) -> None:
        """Raise DeSTSegError for a value outside its range."""
        _check_words(self)
        if not self.levels or tuple(sorted(set(self.levels) & set(LEVELS))) != self.levels:
            raise DeSTSegError(
                f"levels is {self.levels}; give an ascending, non-empty subset of {LEVELS}"
            )
        for name in ("width", "segmentation_width"):
            value = getattr(self, name)
            if value is not None and not 1 / 64 <= value <= 4:
                raise DeSTSegError(f"{name} is {value}; choose a value from 1/64 to 4")


@dataclass(frozen=True)
class CorruptionConfig:
    """Synthetic anomalies (section 3.1).

    Texture opacity is drawn from (0.15, 1) in the paper's text, from (0.2, 1) in its code.
    """

    max_cells_log2: int = 5  # Perlin cells per axis are 2**k, k uniform in 0..5
    rotation: float = 90.0  # degrees, the noise is turned by up to this much either way
    threshold: float = 0.5
    opacity: tuple[float, float] = (0.2, 1.0)

    def __post_init__(self) -> None:
        """Raise DeSTSegError for a value outside its range."""
        low, high = self.opacity
        if not 0 <= low <= high <= 1:
            raise DeSTSegError(f"opacity is {self.opacity}; give two ascending values in [0, 1]")
        if not 0 <= self.max_cells_log2 <= 8:
            raise DeSTSegError(f"max_cells_log2 is {self.max_cells_log2}; choose from 0 to 8")


@dataclass(frozen=True)
class PhaseConfig:
    """The optimisation of one of the two phases (section 4.2).

    ``head_lr`` is the learning rate of the segmentation network's ASPP head; None means ``lr``.
    """

    steps: int
    lr: float
    head_lr: float | None = None
    optimiser: Optimiser = "sgd"
    schedule: Schedule = "constant"
    momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        """Raise DeSTSegError for a value outside its range."""
        _check_words(self)
        if self.steps < 0:
            raise DeSTSegError(f"steps is {self.steps}; give zero or more")
        for name in ("lr", "head_lr"):
            rate = getattr(self, name)
            if rate is not None and not 0 < rate < math.inf:
                raise DeSTSegError(f"{name} is {rate}; give a positive number")


@dataclass(frozen=True)
class TrainingConfig:
    """All settings of a run; with images, teacher, processor and threads they fix its result."""

    student: PhaseConfig
    segmentation: PhaseConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    corruption: CorruptionConfig = field(default_factory=CorruptionConfig)
    image_size: int = 256
    crop: tuple[int, int, int, int] | None = None  # left, top, width, height in the photograph
    tiles: int = 1  # photographs are looked at in tiles x tiles overlapping parts of image_size
    batch_size: int = 32
    denoising: bool = True  # table 4: the student sees the corrupted image, else the clean one
    l1: bool = True  # table 5
    focal_gamma: float = 4.0
    rotation: Rotation = "none"
    holdout: float = 0.0  # share of the good images not trained on, to calibrate a threshold
    holdout_by: Literal["photographs", "blocks"] = "photographs"  # blocks of neighbouring files
    group_by: str | None = None  # a pattern of file names: whole groups are held out
    seed: int = 0
    precision: Precision = "auto"
    recipe: str = "custom"

    def __post_init__(self) -> None:
        """Raise DeSTSegError for a value outside its range."""
        _check_words(self)
        if self.image_size < 32 or self.image_size % 32:
            raise DeSTSegError(
                f"image size is {self.image_size}; the student halves it five times, "
                "so choose a multiple of 32, for example 128 or 256"
            )
        if self.crop is not None and (min(self.crop[:2]) < 0 or min(self.crop[2:]) < 1):
            raise DeSTSegError(f"crop is {self.crop}; give left, top, width, height in pixels")
        if not 1 <= self.tiles <= 16:
            raise DeSTSegError(f"tiles is {self.tiles}; choose from 1 to 16, 3 for 3 x 3 tiles")
        if self.batch_size < 2:
            raise DeSTSegError(f"batch size is {self.batch_size}; batch norm needs at least 2")
        if not 0 <= self.holdout < 1:
            raise DeSTSegError(f"holdout is {self.holdout}; give a share from 0 to below 1")
        if self.group_by is not None and (not self.holdout or self.holdout_by == "blocks"):
            raise DeSTSegError("group_by holds groups out: give a holdout such as 0.1, no blocks")
        if not 0 <= self.focal_gamma < math.inf:
            raise DeSTSegError(f"focal_gamma is {self.focal_gamma}; give zero or more")
        if not 0 <= self.seed < 2**63:
            raise DeSTSegError(f"seed is {self.seed}; give zero or more, at most 2^63 - 1")


def paper_recipe() -> TrainingConfig:
    """The authors' recipe (section 4.2): 256 pixels, batches of 32, 1,000 + 4,000 steps of SGD."""
    return TrainingConfig(
        student=PhaseConfig(steps=1000, lr=0.4),
        segmentation=PhaseConfig(steps=4000, lr=0.1, head_lr=0.01),
        recipe="paper",
    )


def quick_recipe() -> TrainingConfig:
    """Ours, for a processor with two cores; chapter 9 says why each value was chosen."""
    head = PhaseConfig(
        steps=1500, lr=2e-3, optimiser="adamw", schedule="one_cycle", weight_decay=1e-2
    )
    return TrainingConfig(
        student=replace(head, steps=3500),
        segmentation=head,
        model=ModelConfig(width=0.5, segmentation_width=0.25),
        image_size=192,
        batch_size=16,
        holdout=0.1,
        recipe="quick",
    )


def tiny_recipe() -> TrainingConfig:
    """Ours, for a lesson: minutes on two cores, about two where they compute in bf16."""
    quick = quick_recipe()
    return replace(
        quick,
        student=replace(quick.student, steps=500),
        segmentation=replace(quick.segmentation, steps=400),
        image_size=128,
        recipe="tiny",
    )


RECIPES = {"paper": paper_recipe, "quick": quick_recipe, "tiny": tiny_recipe}


def config_to_dict(config: TrainingConfig) -> dict[str, Any]:
    """The configuration as plain JSON values; ``config_from_dict`` is its inverse."""
    return dataclasses.asdict(config)


def config_from_dict(values: dict[str, Any]) -> TrainingConfig:
    """Rebuild a configuration from the output of ``config_to_dict``.

    Raises:
        DeSTSegError: a field is missing or unknown, of another type, or out of range.
    """
    return cast("TrainingConfig", _build(TrainingConfig, values))


def override(config: TrainingConfig, changes: Mapping[str, object]) -> TrainingConfig:
    """A configuration with other values.

    Args:
        config: the configuration to start from; it stays as it is.
        changes: new values by name; a dot leads into a part, as in ``{"model.width": 0.5}``.

    Raises:
        DeSTSegError: there is no such setting, or the value has another type or is out of range.
    """
    values = config_to_dict(config)
    for name, value in changes.items():
        *parts, last = name.split(".")
        place: Any = values
        for part in parts:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place or isinstance(place[last], dict):
            raise DeSTSegError(
                f"{name!r} is not a setting; give a field of TrainingConfig, such as 'l1' or "
                "'model.segmentation'"
            )
        place[last] = value
    return cast("TrainingConfig", _build(TrainingConfig, values))


def _build(kind: Any, values: object, place: str = "") -> Any:
    """A configuration dataclass from plain values, the type of each field checked."""
    if not isinstance(values, dict):
        raise DeSTSegError(f"{place or 'the configuration'} is {values!r}; expected its fields")
    hints = get_type_hints(kind)
    required = {
        field.name
        for field in dataclasses.fields(kind)
        if field.default is field.default_factory or dataclasses.is_dataclass(hints[field.name])
    }
    wrong = sorted(set(values) - set(hints)) or sorted(required - set(values))
    if wrong:
        what = "is unknown" if wrong[0] in values else "is missing"
        raise DeSTSegError(
            f"this is not a training configuration of this version of destseg_lib: "
            f"{place}{wrong[0]} {what}; train again, or use the version that wrote it"
        )
    return kind(**{k: _typed(f"{place}{k}", hints[k], value) for k, value in values.items()})


def _typed(name: str, kind: Any, value: object) -> object:
    """The value, if it has the type of its field; an integer counts as a float, a bool does not."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, f"{name}.")
    if get_origin(kind) is UnionType:
        return None if value is None else _typed(name, get_args(kind)[0], value)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        of, length = get_args(kind)[0], get_args(kind)
        if Ellipsis in length or len(value) == len(length):
            return tuple(_typed(name, of, item) for item in value)
    number = isinstance(value, int) and not isinstance(value, bool)
    if kind is float and (number or isinstance(value, float)):
        return float(cast("float", value))
    plain = str if get_origin(kind) is Literal else kind
    if (plain is int and number) or (plain in (bool, str) and isinstance(value, plain)):
        return value
    expected = _EXPECTED.get(plain, "a list of numbers")
    raise DeSTSegError(f"{name} is {value!r}; expected {expected}")


_EXPECTED = {
    bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes",
    tuple[float, float]: "two numbers", tuple[int, int, int, int]: "four whole numbers",
}  # fmt: skip


def _check_words(config: object) -> None:
    """Check every field whose type lists the words to choose from."""
    for name, kind in get_type_hints(type(config)).items():
        value, allowed = getattr(config, name), get_args(kind)
        if get_origin(kind) is Literal and value not in allowed:
            raise DeSTSegError(f"{name} is {value!r}; choose one of {', '.join(allowed)}")
