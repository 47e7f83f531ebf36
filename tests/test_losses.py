"""Losses: against plain formulas in float64, and against the authors' values."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from destseg_lib.losses import (
    cosine_distance,
    feature_loss,
    focal_loss,
    l1_loss,
    segmentation_loss,
)


def features(seed: int, batch: int = 2) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((batch, 4, 8, 8), (batch, 8, 4, 4), (batch, 16, 2, 2))
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def plain_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a.astype(float), b.astype(float)
    lengths = np.sqrt((a**2).sum(axis=1)) * np.sqrt((b**2).sum(axis=1))
    return 1 - (a * b).sum(axis=1) / lengths


def logits_and_masks(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, 1, 6, 6, generator=generator)
    return logits, (torch.rand(logits.shape, generator=generator) < 0.3).float()


def test_cosine_distance_is_the_formula_at_every_place():
    for a, b in zip(features(0), features(1), strict=True):
        found = cosine_distance(a, b)
        assert found.shape == (a.shape[0], *a.shape[2:])
        np.testing.assert_allclose(found, plain_distance(a.numpy(), b.numpy()), atol=1e-6)


def test_cosine_distance_ignores_scale_and_runs_from_zero_to_two():
    a = features(0)[0]
    np.testing.assert_allclose(cosine_distance(a, 7 * a), 0, atol=1e-6)
    np.testing.assert_allclose(cosine_distance(a, -0.01 * a), 2, atol=1e-6)
    assert cosine_distance(a, torch.zeros_like(a)).eq(1).all(), "no direction: neither near nor far"


@pytest.mark.parametrize("batch", [1, 3])
def test_the_feature_loss_is_mean_over_space_and_sum_over_batch_and_levels(batch):
    a, b = features(0, batch), features(1, batch)
    by_hand = sum(
        plain_distance(x.numpy(), y.numpy()).mean((1, 2)).sum() for x, y in zip(a, b, strict=True)
    )
    assert float(feature_loss(a, b)) == pytest.approx(by_hand, rel=1e-6)


def test_the_feature_loss_refuses_unequal_numbers_of_levels():
    with pytest.raises(ValueError, match="shorter"):
        feature_loss(features(0), features(1)[:2])


@pytest.mark.parametrize("gamma", [0.0, 2.0, 4.0])
def test_focal_loss_is_the_formula(gamma):
    logits, masks = logits_and_masks()
    p = 1 / (1 + np.exp(-logits.numpy().astype(float)))
    right = np.where(masks.numpy() == 1, p, 1 - p)
    by_hand = np.mean(-((1 - right) ** gamma) * np.log(right))
    assert float(focal_loss(logits, masks, gamma)) == pytest.approx(by_hand, rel=1e-5)


def test_l1_is_the_mean_absolute_error_of_the_sigmoid():
    logits, masks = logits_and_masks()
    p = 1 / (1 + np.exp(-logits.numpy().astype(float)))
    assert float(l1_loss(logits, masks)) == pytest.approx(
        np.abs(p - masks.numpy()).mean(), rel=1e-6
    )


def test_the_segmentation_loss_is_the_sum_unless_l1_is_ablated():
    logits, masks = logits_and_masks()
    focal, l1 = float(focal_loss(logits, masks, 4.0)), float(l1_loss(logits, masks))
    assert float(segmentation_loss(logits, masks, 4.0)) == pytest.approx(focal + l1, rel=1e-6)
    assert float(segmentation_loss(logits, masks, 4.0, l1=False)) == pytest.approx(focal, rel=1e-6)
    assert focal != pytest.approx(float(focal_loss(logits, masks, 2.0)))


def test_extreme_logits_keep_loss_and_gradient_finite():
    logits = torch.tensor([-200.0, 200.0, -200.0, 200.0]).view(1, 1, 2, 2).requires_grad_()
    masks = torch.tensor([0.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    loss = segmentation_loss(logits, masks)
    loss.backward()
    assert loss.item() == pytest.approx(200 / 2 + 0.5), "half the pixels are wrong by 200"
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("loss", "half", "other"),
    [
        (cosine_distance, features(0)[1].bfloat16(), features(1)[1].bfloat16()),
        (segmentation_loss, logits_and_masks()[0].bfloat16(), logits_and_masks()[1]),
    ],
)
def test_half_precision_is_computed_in_full(loss, half, other):
    found = loss(half, other)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, loss(half.float(), other.float()), rtol=1e-6, atol=1e-6)


def test_the_authors_implementation_gives_the_same_losses(shared):
    expected = json.loads((shared / "reference" / "expected.json").read_text())["losses"]
    with np.load(shared / "reference" / "losses.npz") as file:
        given = {name: torch.from_numpy(file[name]) for name in file}
    student, teacher = (tuple(given[f"{k}{n}"] for n in (1, 2, 3)) for k in ("student", "teacher"))
    logits = torch.logit(given["prob"].double()).float()
    found = {
        "cosine_sum_over_batch": feature_loss(student, teacher),
        "focal_gamma4": focal_loss(logits, given["mask"]),
        "l1": l1_loss(logits, given["mask"]),
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(expected[name], rel=1e-4), name
