"""Configurations: the paper's constants, what is refused, and the way through JSON and back."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from destseg_lib import DeSTSegError, ModelConfig, TrainingConfig, paper_recipe, quick_recipe
from destseg_lib.config import (
    MVTEC_ROTATION,
    RECIPES,
    CorruptionConfig,
    PhaseConfig,
    config_from_dict,
    config_to_dict,
    override,
)

PHASE = PhaseConfig(steps=1, lr=0.1)


def test_the_paper_recipe_is_the_papers():
    paper = paper_recipe()
    assert (paper.image_size, paper.batch_size, paper.recipe) == (256, 32, "paper")
    assert paper.student == PhaseConfig(
        1000, 0.4, None, "sgd", "constant", momentum=0.9, weight_decay=1e-4
    )
    assert paper.segmentation == PhaseConfig(
        4000, 0.1, 0.01, "sgd", "constant", momentum=0.9, weight_decay=1e-4
    )
    assert (paper.denoising, paper.l1, paper.focal_gamma) == (True, True, 4.0)
    assert paper.corruption == CorruptionConfig(5, 90.0, 0.5, (0.2, 1.0))
    assert paper.model == ModelConfig(True, True, "product", "product", (1, 2, 3), 1.0)


def test_the_quick_recipe_keeps_the_method():
    quick = quick_recipe()
    same_width = dataclasses.replace(quick.model, width=1.0, segmentation_width=None)
    assert same_width == ModelConfig()
    assert (quick.denoising, quick.l1, quick.recipe) == (True, True, "quick")
    assert quick.holdout > 0, "a threshold needs good images that no phase trained on"


def test_every_mvtec_category_has_a_rotation():
    kinds = list(MVTEC_ROTATION.values())
    assert len(MVTEC_ROTATION) == 15
    assert {kind: kinds.count(kind) for kind in kinds} == {"none": 5, "slight": 3, "full": 7}
    assert MVTEC_ROTATION["screw"] == "full"
    assert MVTEC_ROTATION["wood"] == "slight"
    assert MVTEC_ROTATION["pill"] == "none"


def test_a_configuration_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        paper_recipe().seed = 1


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_json_and_back_gives_the_same_configuration(recipe):
    config = dataclasses.replace(recipe(), seed=7, rotation="slight", denoising=False)
    config = dataclasses.replace(config, model=ModelConfig(levels=(1, 3), student_map="sum"))
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config


def without_rate(values):
    del values["student"]["lr"]
    return values


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: {k: x for k, x in v.items() if k != "model"}, "model is missing"),
        (lambda v: v | {"colour": "blue"}, "colour is unknown"),
        (lambda v: v | {"model": v["model"] | {"depth": 3}}, "model.depth is unknown"),
        (without_rate, "student.lr is missing"),
    ],
)
def test_a_file_of_other_fields_is_another_version(spoil, message):
    with pytest.raises(DeSTSegError, match="not a training configuration of this version") as told:
        config_from_dict(spoil(config_to_dict(paper_recipe())))
    assert message in str(told.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("image_size", "256", "a whole number"),
        ("image_size", 256.0, "a whole number"),
        ("seed", True, "a whole number"),
        ("student.steps", 2.5, "a whole number"),
        ("holdout", False, "a number"),
        ("student.lr", "0.1", "a number"),
        ("l1", "false", "true or false"),
        ("denoising", 0, "true or false"),
        ("model.segmentation", "off", "true or false"),
        ("rotation", 5, "a text"),
        ("model.levels", "23", "a list of numbers"),
        ("model.levels", [1, True], "a whole number"),
        ("corruption.opacity", [0.2], "two numbers"),
    ],
)
def test_a_value_of_another_type_is_refused_from_a_file_and_as_an_override(name, value, expected):
    with pytest.raises(DeSTSegError) as told:
        override(paper_recipe(), {name: value})
    assert str(told.value).startswith(f"{name} is ")
    assert f"expected {expected}" in str(told.value)
    values = config_to_dict(paper_recipe())
    *parts, last = name.split(".")
    (values[parts[0]] if parts else values)[last] = value
    with pytest.raises(DeSTSegError, match=f"expected {expected}"):
        config_from_dict(values)


@pytest.mark.parametrize("values", [[1], "text", None, {"model": 3}])
def test_what_is_not_a_table_of_fields_is_refused(values):
    if isinstance(values, dict):
        values = config_to_dict(paper_recipe()) | values
    with pytest.raises(DeSTSegError, match="expected its fields"):
        config_from_dict(values)


def test_an_override_changes_what_it_names_and_takes_an_integer_for_a_float():
    base = paper_recipe()
    config = override(base, {"model.width": 1, "student.steps": 7, "model.levels": [2, 3]})
    assert config.model == ModelConfig(levels=(2, 3), width=1.0)
    assert isinstance(config.model.width, float)
    assert config.student == dataclasses.replace(base.student, steps=7)
    assert override(base, {}) == base == paper_recipe()


@pytest.mark.parametrize("name", ["depth", "model", "model.depth", "seed.x", "student.lr.x", ""])
def test_an_override_of_no_setting_is_refused(name):
    with pytest.raises(DeSTSegError, match="is not a setting"):
        override(paper_recipe(), {name: 1})


def test_a_value_out_of_range_in_a_file_keeps_its_own_message():
    values = config_to_dict(paper_recipe()) | {"batch_size": 1}
    with pytest.raises(DeSTSegError, match=r"^batch size is 1; "):
        config_from_dict(values)


@pytest.mark.parametrize(
    ("make", "values", "message"),
    [
        (ModelConfig, {"segmentation_input": "sum"}, "'sum'; choose one of product, concat"),
        (ModelConfig, {"student_map": "mean"}, "'mean'; choose one of product, sum"),
        (ModelConfig, {"levels": ()}, r"levels is \(\); give an ascending, non-empty subset"),
        (ModelConfig, {"levels": (3, 1)}, r"levels is \(3, 1\)"),
        (ModelConfig, {"levels": (2, 2)}, r"levels is \(2, 2\)"),
        (ModelConfig, {"levels": (1, 4)}, r"levels is \(1, 4\)"),
        (ModelConfig, {"width": 0.0}, "^width is 0.0; choose a value from 1/64 to 4"),
        (ModelConfig, {"width": math.nan}, "width is nan"),
        (ModelConfig, {"segmentation_width": 5}, "segmentation_width is 5"),
        (CorruptionConfig, {"opacity": (0.9, 0.1)}, r"opacity is \(0.9, 0.1\); give two asc"),
        (CorruptionConfig, {"opacity": (-0.1, 1.0)}, "opacity is"),
        (CorruptionConfig, {"opacity": (0.2, 1.1)}, "opacity is"),
        (CorruptionConfig, {"max_cells_log2": 9}, "max_cells_log2 is 9; choose from 0 to 8"),
        (CorruptionConfig, {"max_cells_log2": -1}, "max_cells_log2 is -1"),
        (PhaseConfig, {"optimiser": "adam"}, "'adam'; choose one of sgd, adamw"),
        (PhaseConfig, {"schedule": "linear"}, "'linear'; choose one of constant, one_cycle"),
        (PhaseConfig, {"steps": -1}, "steps is -1; give zero or more"),
        (PhaseConfig, {"lr": 0.0}, "^lr is 0.0; give a positive number"),
        (PhaseConfig, {"lr": math.inf}, "^lr is inf"),
        (PhaseConfig, {"head_lr": -0.1}, "^head_lr is -0.1; give a positive number"),
        (PhaseConfig, {"head_lr": math.nan}, "^head_lr is nan"),
        (TrainingConfig, {"rotation": "half"}, "'half'; choose one of none, slight, full"),
        (TrainingConfig, {"precision": "int8"}, "'int8'; choose one of auto, fp32, bf16, fp16"),
        (TrainingConfig, {"image_size": 100}, "image size is 100; .* multiple of 32, for example"),
        (TrainingConfig, {"image_size": 0}, "image size is 0"),
        (TrainingConfig, {"batch_size": 1}, "batch size is 1; .* needs at least 2"),
        (TrainingConfig, {"holdout": 1.0}, "holdout is 1.0; give a share"),
        (TrainingConfig, {"holdout": -0.1}, "holdout is -0.1"),
        (TrainingConfig, {"seed": -1}, "seed is -1; give zero or more"),
        (TrainingConfig, {"focal_gamma": -1.0}, "focal_gamma is -1.0; give zero or more"),
    ],
)
def test_a_value_out_of_range_is_named(make, values, message):
    needed = {
        ModelConfig: {},
        CorruptionConfig: {},
        PhaseConfig: {"steps": 1, "lr": 0.1},
        TrainingConfig: {"student": PHASE, "segmentation": PHASE},
    }
    make(**needed[make])  # what follows fails for its value and for nothing else
    with pytest.raises(DeSTSegError, match=message):
        make(**needed[make] | values)
