"""The teacher that ships: what it is, how near it comes to the real one, and that it is no copy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file

from destseg_lib.store import load_images
from destseg_lib.teacher import BUILTIN, load_teacher, normalise

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


def test_it_is_no_copy_of_the_real_one(shared):
    """Compared after folding batch norm in, in which form the real one lies beside the project."""
    mine, real = load_teacher("builtin").trunk, load_file(shared / REAL)
    folded = dict(mine.named_modules())
    compared = 0
    for name, convolution in folded.items():
        if not isinstance(convolution, torch.nn.Conv2d):
            continue
        norm = folded[
            name.replace("conv", "bn")
            if "conv" in name
            else name.replace("downsample.0", "downsample.1")
        ]
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        own = convolution.weight * scale[:, None, None, None]
        other = real[f"{name}.weight"].float()
        # Filters that were copied would be parallel; so would those of a copy that was trained on.
        likeness = F.cosine_similarity(own.flatten(1), other.flatten(1)).abs()
        assert likeness.median() < 0.5, name
        assert not torch.allclose(own, other, atol=1e-3), name
        compared += 1
    assert compared == 15


def test_the_curve_begins_at_random_weights():
    curve = record()["curve"]
    assert curve[0]["step"] == 0
    assert max(curve[0]["photographs"]) < 0.6
    steps = [point["step"] for point in curve]
    assert steps == sorted(set(steps))
    assert min(curve[-1]["photographs"]) > max(curve[0]["photographs"])


@pytest.mark.parametrize(
    ("name", "folder"), [("dtd", "data/dtd/images"), ("magnetic_tile", "data/magnetic_tile")]
)
def test_the_recorded_similarity_is_what_is_seen_on_photographs(shared, name):
    paths = sorted((shared / "data" / name).rglob("*.jpg"))[::60]
    pixels = load_images(paths, 128, progress=False).pixels
    images = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    real, mine = load_teacher(shared / REAL), load_teacher("builtin")
    with torch.no_grad():
        found = [
            float(F.cosine_similarity(a, b).mean())
            for a, b in zip(mine(images), real(images), strict=True)
        ]
    assert found == pytest.approx(record()["similarity"][name]["128"]["builtin"], abs=0.04)


def test_its_card_states_what_the_record_says():
    card = BUILTIN.with_suffix(".md").read_text()
    for name in ("dtd", "magnetic_tile", "mvtec_screw"):
        values = record()["similarity"][name]["128"]["builtin"]
        assert " / ".join(f"{v:.3f}" for v in values) in card, name
    assert record()["builtin_fingerprint"] in card
    with safe_open(BUILTIN, "pt") as file:
        assert f"{int(file.metadata()['steps']):,} steps" in card
