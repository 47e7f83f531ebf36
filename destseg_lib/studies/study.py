"""A study: these variants, on these categories, with these seeds. Declared, not programmed.

A study is a TOML file of a few lines:

    name = "table 5"
    recipe = "tiny"
    reference = "with L1"
    categories = ["component", "metal"]
    seeds = [0, 1, 2]

    [variants."with L1"]

    [variants."without L1"]
    l1 = false

A variant's keys are fields of ``TrainingConfig``, nested ones with a dot (``model.segmentation``),
and three that say what to train with: ``teacher``, ``textures`` and ``good_images``.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from destseg_lib.cli.mode import default_teacher
from destseg_lib.config import RECIPES, TrainingConfig, config_from_dict, config_to_dict
from destseg_lib.drawn.dataset import rotation_for
from destseg_lib.errors import DeSTSegError

FIELDS = {
    "name", "recipe", "reference", "categories", "seeds", "settings", "variants", "paper", "about",
}  # fmt: skip
SHIPPED = Path(__file__).parent
STUDIES = tuple(sorted(file.stem for file in SHIPPED.glob("*.toml")))
OUTSIDE = ("teacher", "textures", "good_images")  # what a variant may say beyond the configuration


@dataclass(frozen=True)
class Study:
    """What is compared.

    Attributes:
        name: of the study, also in its report.
        recipe: a name in ``RECIPES``; every run starts from it.
        categories: drawn products by name, or folders.
        seeds: one run of every variant and category for each.
        variants: by name, what each changes.
        reference: the variant that the others are compared with.
        settings: what all variants change: the budget, for example.
        paper: the paper's figures by variant, in per cent, for the report.
        about: a sentence for the report.
    """

    name: str
    recipe: str
    categories: tuple[str, ...]
    seeds: tuple[int, ...]
    variants: dict[str, dict[str, Any]]
    reference: str
    settings: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, dict[str, float]] = field(default_factory=dict)
    about: str = ""

    def __post_init__(self) -> None:
        """Raise DeSTSegError for what cannot be run, before anything is."""
        if self.recipe not in RECIPES:
            raise DeSTSegError(
                f"{self.name}: recipe is {self.recipe!r}; choose one of {', '.join(RECIPES)}"
            )
        for what in ("categories", "seeds", "variants"):
            values = list(getattr(self, what))
            if not values or len(set(values)) < len(values):
                raise DeSTSegError(f"{self.name}: {what} must be some, each once; got {values}")
        if self.reference not in self.variants:
            raise DeSTSegError(
                f"{self.name}: the reference {self.reference!r} is no variant; choose one of "
                f"{', '.join(self.variants)}"
            )
        unknown = sorted(set(self.paper) - set(self.variants))
        if unknown:
            raise DeSTSegError(f"{self.name}: paper has figures of {unknown[0]!r}, no variant")
        for variant in self.variants:
            _configure(self, variant, self.seeds[0], self.categories[0])


@dataclass(frozen=True)
class Trial:
    """One run of a study: it can be run anywhere, and gives the same figures everywhere.

    ``student`` tells which trials share a trained student: those that differ in nothing that it
    depends on.
    """

    study: str
    variant: str
    category: str
    seed: int
    config: TrainingConfig
    teacher: str
    textures: str | None
    good_images: int | None
    student: str

    @property
    def key(self) -> tuple[str, str, int]:
        """What names a trial within its study."""
        return self.variant, self.category, self.seed


def read_study(path: Path) -> Study:
    """Read a study from a TOML file, or one of ``STUDIES`` by name.

    Raises:
        DeSTSegError: the file is missing or wrong; the message says where.
    """
    if path.name in STUDIES and not path.exists():
        path = SHIPPED / f"{path.name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DeSTSegError(
            f"{path} cannot be opened ({error.strerror}); name a study's file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeSTSegError(f"{path} is not TOML: {error}; see the studies that ship") from None
    unknown, missing = set(values) - FIELDS, {"categories", "seeds", "variants"} - set(values)
    if unknown or missing:
        what = f"{min(unknown)!r} is no field" if unknown else f"{min(missing)!r} is missing"
        raise DeSTSegError(f"{path}: {what}; a study has {', '.join(sorted(FIELDS))}")
    variants = values["variants"]
    if not isinstance(variants, dict) or not all(isinstance(v, dict) for v in variants.values()):
        raise DeSTSegError(f"{path}: variants must be tables, as [variants.NAME]")
    return Study(
        name=values.get("name", path.stem),
        recipe=values.get("recipe", "tiny"),
        categories=tuple(map(str, values["categories"])),
        seeds=tuple(values["seeds"]),
        variants=variants,
        reference=values.get("reference", next(iter(variants), "")),
        settings=values.get("settings", {}),
        paper=values.get("paper", {}),
        about=values.get("about", ""),
    )


def study_from_dict(values: dict[str, Any]) -> Study:
    """Rebuild a study from ``dataclasses.asdict``, which is how its folder remembers it."""
    lists = {key: tuple(values[key]) for key in ("categories", "seeds")}
    return Study(**{**values, **lists})


def trials(study: Study) -> tuple[Trial, ...]:
    """Every run of a study: seed by seed, so that an early stop leaves whole comparisons."""
    every = []
    for seed in study.seeds:
        for category in study.categories:
            for variant in study.variants:
                config, outside = _configure(study, variant, seed, category)
                teacher = outside["teacher"] or default_teacher()
                trial = Trial(
                    study.name,
                    variant,
                    category,
                    seed,
                    config,
                    teacher,
                    outside["textures"],
                    outside["good_images"],
                    "",
                )
                every.append(replace(trial, student=_student_key(trial)))
    return tuple(every)


def _configure(
    study: Study, variant: str, seed: int, category: str
) -> tuple[TrainingConfig, dict[str, Any]]:
    """A variant's configuration, and what it says beyond it."""
    recipe = RECIPES[study.recipe]()
    rotation = rotation_for(Path(category).name, recipe.rotation)
    values = config_to_dict(replace(recipe, seed=seed, rotation=rotation))
    outside: dict[str, Any] = dict.fromkeys(OUTSIDE)
    for key, value in {**study.settings, **study.variants[variant]}.items():
        if key in OUTSIDE:
            outside[key] = value
            continue
        *path, name = key.split(".")
        place = values
        for part in path:
            place = place.get(part, {}) if isinstance(place.get(part), dict) else {}
        if name not in place or name in ("seed", "recipe") or isinstance(place[name], dict):
            raise DeSTSegError(
                f"{study.name}, {variant}: {key!r} is no setting of a run; give a field of "
                f"TrainingConfig such as 'l1' or 'model.segmentation', or one of "
                f"{', '.join(OUTSIDE)}"
            )
        place[name] = tuple(value) if isinstance(value, list) else value
    try:
        return config_from_dict(values), outside
    except DeSTSegError as error:
        raise DeSTSegError(f"{study.name}, {variant}: {error}") from None


def _student_key(trial: Trial) -> str:
    """The same for trials whose student phase is the same, bit for bit."""
    config = config_to_dict(trial.config)
    model = config["model"]
    decides = {
        "category": trial.category,
        "teacher": trial.teacher,
        "textures": trial.textures,
        "good_images": trial.good_images,
        "model": {key: model[key] for key in ("encoder_decoder", "width", "levels")},
        **{
            key: config[key]
            for key in (
                "student", "corruption", "image_size", "batch_size", "denoising", "rotation",
                "holdout", "seed", "precision",
            )
        },
    }  # fmt: skip
    if not trial.config.denoising:
        del decides["corruption"]  # an uncorrupted student never sees it
    text = json.dumps(decides, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
