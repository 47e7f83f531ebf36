"""A study: variants to compare on the same categories and seeds, declared in a TOML file.

A study is a file of a few lines:

    name = "table 5"
    recipe = "tiny"
    reference = "with L1"
    categories = ["component", "metal"]
    seeds = [0, 1, 2]

    [variants."with L1"]

    [variants."without L1"]
    l1 = false

A variant's keys are fields of ``TrainingConfig``, nested ones with a dot (``model.segmentation``),
and three that say what to train with: ``teacher``, ``textures`` and ``good_images``. ``[settings]``
takes the same keys, for all variants.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from destseg_lib.config import RECIPES, TrainingConfig, override
from destseg_lib.drawn.dataset import rotation_for
from destseg_lib.errors import DeSTSegError

SHIPPED = Path(__file__).parent
STUDIES = tuple(sorted(file.stem for file in SHIPPED.glob("*.toml")))
TEACHER = "builtin"  # where neither the study nor the command that runs it names one

TEXT, NUMBER = "a text in quotes", "a whole number"
# Types of a study's fields, of what a list or table holds, and both in words.
FIELDS: dict[str, tuple[type, type | None, str]] = {
    "name": (str, None, TEXT),
    "recipe": (str, None, TEXT),
    "categories": (list, str, "a list of texts, such as ['metal', 'wood']"),
    "seeds": (list, int, "a list of whole numbers, such as [0, 1, 2]"),
    "variants": (dict, dict, "a table for each variant, as [variants.NAME]"),
    "reference": (str, None, TEXT),
    "settings": (dict, None, "a table, as [settings]"),
    "paper": (dict, dict, "a table for each variant, as [paper.NAME]"),
    "about": (str, None, TEXT),
}
# What a variant may say beyond the configuration.
INPUTS: dict[str, tuple[type, str]] = {
    "teacher": (str, TEXT),
    "textures": (str, TEXT),
    "good_images": (int, NUMBER),
}


@dataclass(frozen=True)
class Study:
    """A comparison of variants, each run on every category with every seed.

    Attributes:
        name: title of the study, also of its report.
        recipe: a name in ``RECIPES``; every run starts from it.
        categories: drawn categories by name, or folders.
        seeds: seeds of the runs.
        variants: changes to the recipe, by the variant's name.
        reference: the variant that the others are compared with.
        settings: changes that all variants share, such as the number of steps.
        paper: the paper's metrics by variant, in per cent, for the report.
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
        """Raise DeSTSegError for a study that cannot be run, before any of it is."""
        for name, (kind, items, expected) in FIELDS.items():
            value = getattr(self, name)
            value = list(value) if isinstance(value, tuple) else value
            held = value.values() if isinstance(value, dict) else value
            if not _is(value, kind) or (items and not all(_is(item, items) for item in held)):
                raise DeSTSegError(f"{name} is {value!r}; expected {expected}")
            once = name in ("categories", "seeds", "variants")
            if once and (not value or len(set(value)) < len(value)):
                raise DeSTSegError(f"{name} is {value!r}; give one or more, each once")
        for variant, metrics in self.paper.items():
            for metric, value in metrics.items():
                if not _is(value, (int, float)):
                    raise DeSTSegError(f"paper.{variant}.{metric} is {value!r}; expected a number")
        for what, name in [
            ("reference is", self.reference),
            *(("paper has", n) for n in self.paper),
        ]:
            if name not in self.variants:
                raise DeSTSegError(
                    f"{what} {name!r}, which is not a variant of this study; choose one of "
                    f"{', '.join(self.variants)}"
                )
        if self.recipe not in RECIPES:
            raise DeSTSegError(f"recipe is {self.recipe!r}; choose one of {', '.join(RECIPES)}")
        for variant in self.variants:
            self.configure(variant, self.categories[0], self.seeds[0])
        for seed in self.seeds:
            self.configure(self.reference, self.categories[0], seed)

    @property
    def keys(self) -> list[tuple[str, str, int]]:
        """Variant, category and seed of every run, seed by seed.

        In this order a study that is stopped early has whole comparisons.
        """
        return [(v, c, s) for s in self.seeds for c in self.categories for v in self.variants]

    def configure(
        self, variant: str, category: str, seed: int
    ) -> tuple[TrainingConfig, dict[str, Any]]:
        """The configuration of a run and the inputs that its variant names, None for the others.

        Raises:
            DeSTSegError: a setting does not exist, has the wrong type or is out of range.
        """
        changes = {**self.settings, **self.variants[variant]}
        inputs = {name: changes.pop(name, None) for name in INPUTS}
        recipe = RECIPES[self.recipe]()
        rotation = rotation_for(Path(category).name, recipe.rotation)
        try:
            for name, value in inputs.items():
                kind, expected = INPUTS[name]
                if value is not None and not _is(value, kind):
                    raise DeSTSegError(f"{name} is {value!r}; expected {expected}")
            for name in ("seed", "recipe"):
                if name in changes:
                    raise DeSTSegError(
                        f"{name!r} is not a setting of a variant but of the study; move it to the "
                        "top of the file"
                    )
            config = override(replace(recipe, seed=seed, rotation=rotation), changes)
        except DeSTSegError as error:
            raise DeSTSegError(f"variant {variant!r}: {error}") from None
        return config, inputs


def read_study(path: Path) -> Study:
    """Read a study from a TOML file, or one of ``STUDIES`` by name.

    Raises:
        DeSTSegError: the file is missing or wrong; the message says where.
    """
    if path.name in STUDIES and not path.exists():
        path = SHIPPED / f"{path.name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8-sig"))  # Windows adds a mark
    except OSError as error:
        raise DeSTSegError(
            f"{path} cannot be opened ({error.strerror}); name a study's file, or one of "
            f"{', '.join(STUDIES)}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeSTSegError(
            f"{path} is not TOML in UTF-8: {error}; see the studies that ship"
        ) from None
    first = next(iter(values["variants"]), "") if isinstance(values.get("variants"), dict) else ""
    try:
        return study_from_dict({"name": path.stem, "recipe": "tiny", "reference": first, **values})
    except DeSTSegError as error:
        raise DeSTSegError(f"{path}: {error}") from None


def study_from_dict(values: dict[str, Any]) -> Study:
    """Build a study from plain values: those of a TOML file, or of ``dataclasses.asdict``.

    Raises:
        DeSTSegError: a field is unknown, missing, or has the wrong type.
    """
    fields = dataclasses.fields(Study)
    required = {f.name for f in fields if f.default is f.default_factory}
    unknown, missing = set(values) - set(FIELDS), required - set(values)
    if unknown or missing:
        what = f"{min(unknown)!r} is unknown" if unknown else f"{min(missing)!r} is missing"
        raise DeSTSegError(f"{what}; the fields of a study are {', '.join(FIELDS)}")
    typed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return Study(**typed)


def short_names(categories: Sequence[str]) -> dict[str, str]:
    """For each category its last part, if no other ends in the same, else all of it."""
    count = Counter(Path(name).name for name in set(categories))
    return {name: Path(name).name if count[Path(name).name] == 1 else name for name in categories}


def _is(value: object, kind: Any) -> bool:
    """Whether a value has a type; True and False are not numbers."""
    return isinstance(value, kind) and not isinstance(value, bool)
