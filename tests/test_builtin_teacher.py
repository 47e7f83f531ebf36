"""The teacher that ships: what it is, how near it comes to the real one, and that it is no copy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file

from destseg_lib.images.load import load_images
from destseg_lib.model import to_tensor
from destseg_lib.teacher import BUILTIN, load_teacher, normalise
from tools.weights.distil.measure import folded_filters, likeness

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "results" / "builtin_teacher" / "similarity.json"
REAL = "teacher/resnet18_imagenet1k_v1_layer1-3.safetensors"


def record():
    return json.loads(RECORD.read_text())


def test_it_is_small_and_half_precision():
    assert BUILTIN.stat().st_size <= 6_000_000
    weights = load_file(BUILTIN)
    assert {w.dtype for n, w in weights.items() if n.endswith(".weight") and w.ndim == 4} == {
        torch.float16
    }


def test_it_is_always_the_same_and_says_its_name():
    first, second = load_teacher("builtin"), load_teacher("builtin")
    assert first.name == "builtin"
    assert first.fingerprint() == second.fingerprint() == record()["builtin_fingerprint"]
    assert first.fingerprint() != load_teacher("random").fingerprint()


def test_no_tensor_of_the_real_one_is_copied(shared):
    """Its filters come to resemble the real ones, but in another order, none in the same place."""
    mine = folded_filters(load_teacher("builtin"))
    real = folded_filters(load_teacher(shared / REAL))
    assert len(mine) == 15
    for name, own in mine.items():
        assert not (own == real[name]).any(), name
        assert (own - real[name]).abs().median() > 0.2 * real[name].abs().median(), name
        in_place, _ = likeness(own, real[name])
        # This shortcut reads layer1 and writes into layer2: where both are given, one is right.
        assert in_place < (0.99 if name == "layer2.0.downsample.0" else 0.3), name


def test_a_copied_tensor_would_be_noticed(shared):
    """Also one in another order, or a copy that was trained on: at step 0 nothing was alike."""
    real = folded_filters(load_teacher(shared / REAL))["layer1.0.conv1"]
    shuffled = real[torch.randperm(64, generator=torch.Generator().manual_seed(0))]
    assert likeness(shuffled, real)[1] > 0.99
    found = json.loads((RECORD.parent / "filters.json").read_text())
    assert found["builtin_fingerprint"] == record()["builtin_fingerprint"]
    for name, (in_place, most_alike) in found["likeness"]["step 0"].items():
        assert in_place < 0.1 and most_alike < 0.4, name


def test_the_curve_begins_at_random_weights():
    curve = record()["curve"]
    assert curve[0]["step"] == 0
    assert max(curve[0]["photographs"]) < 0.6
    steps = [point["step"] for point in curve]
    assert steps == sorted(set(steps))
    assert min(curve[-1]["photographs"]) > max(curve[0]["photographs"])


@pytest.mark.parametrize("name", ["dtd", "magnetic_tile"])
def test_the_recorded_similarity_is_what_is_seen_on_photographs(shared, name):
    paths = sorted((shared / "data" / name).rglob("*.jpg"))[::60]
    pixels = load_images(paths, 128, progress=False).pixels
    images = normalise(to_tensor(pixels))
    real, mine = load_teacher(shared / REAL), load_teacher("builtin")
    with torch.no_grad():
        found = [
            float(F.cosine_similarity(a, b).mean())
            for a, b in zip(mine(images), real(images), strict=True)
        ]
    assert found == pytest.approx(record()["similarity"][name]["128"]["builtin"], abs=0.04)


def test_its_card_states_what_the_record_says():
    card = BUILTIN.with_suffix(".md").read_text()
    checked = subprocess.run(
        [sys.executable, "-m", "tools.weights.distil", "card", "--check"], cwd=ROOT, check=False
    )
    assert checked.returncode == 0, "stale: python -m tools.weights.distil card"
    for name in ("dtd", "magnetic_tile", "mvtec_screw"):
        values = record()["similarity"][name]["128"]["builtin"]
        assert " / ".join(f"{v:.3f}" for v in values) in card, name
    assert record()["builtin_fingerprint"] in card
    with safe_open(BUILTIN, "pt") as file:
        assert f"{int(file.metadata()['steps']):,} steps" in card
