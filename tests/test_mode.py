"""The one switch."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

import destseg_lib
from destseg_lib.cli.mode import VARIABLE, current_mode, default_teacher, defaults, describe
from destseg_lib.config import RECIPES
from destseg_lib.errors import DeSTSegError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("value", [None, "", "tiny"])
def test_tiny_is_the_default(monkeypatch, value):
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    assert (default_teacher(), defaults(CPU).data) == ("builtin", None)
    assert describe().startswith("mode: tiny")


def test_full_is_the_papers_setting(monkeypatch):
    monkeypatch.setenv(VARIABLE, "full")
    chosen = defaults(CUDA)
    assert (chosen.teacher, chosen.recipe, chosen.data.name) == ("imagenet", "paper", "mvtec-ad")
    assert (default_teacher(), describe()[:10]) == ("imagenet", "mode: full")


def test_a_gpu_gets_more_to_do_in_tiny_mode(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    on_cpu, on_gpu = (RECIPES[defaults(device).recipe]() for device in (CPU, CUDA))
    assert on_gpu.student.steps > on_cpu.student.steps
    assert on_gpu.image_size > on_cpu.image_size


def test_another_value_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setenv(VARIABLE, "Full")
    with pytest.raises(DeSTSegError, match="'Full'; set it to tiny or full, or leave it unset"):
        current_mode()


def test_the_variable_is_read_in_one_place():
    readers = [
        path.name
        for path in Path(destseg_lib.__file__).parent.rglob("*.py")
        if any(
            isinstance(node, ast.Constant) and node.value == VARIABLE
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        )
    ]
    assert readers == ["mode.py"]
