"""Student, segmentation network, whole model: the paper's, and the ablations of tables 4 to 6."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from destseg_lib import DeSTSeg, ModelConfig, load_teacher
from destseg_lib.fusion import fuse, fused_channels
from destseg_lib.model import predict_maps, quarter, score_images, to_tensor
from destseg_lib.resnet import BasicBlock
from destseg_lib.segmentation import DILATIONS, SegmentationNet, convolution
from destseg_lib.student import Student
from destseg_lib.teacher import Teacher, normalise

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ModelConfig(width=1 / 16)
PARAMETERS = [2_782_784, 24_665_024, 7_706_369]  # teacher, student, segmentation network


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("random")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(batch: int = 2, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=seeded(1))


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def unit_features(seed: int, batch: int = 2) -> tuple[torch.Tensor, ...]:
    shapes = ((batch, 64, 16, 16), (batch, 128, 8, 8), (batch, 256, 4, 4))
    generator = seeded(seed)
    return tuple(
        nn.functional.normalize(torch.randn(shape, generator=generator), dim=1) for shape in shapes
    )


def bilinear(x: np.ndarray, size: int) -> np.ndarray:
    """(S, S) to (size, size), pixel centres aligned, edges repeated; independent of torch."""
    at = (np.arange(size) + 0.5) * len(x) / size - 0.5
    at = at.clip(0, len(x) - 1)
    low = np.floor(at).astype(int)
    high, share = np.minimum(low + 1, len(x) - 1), at - low
    lines = x[low] * (1 - share)[:, None] + x[high] * share[:, None]
    return lines[:, low] * (1 - share) + lines[:, high] * share


# Student


@pytest.mark.parametrize("encoder_decoder", [True, False])
@pytest.mark.parametrize("width", [1.0, 0.5, 1 / 64])
def test_the_student_gives_what_the_teacher_gives_at_any_width(teacher, encoder_decoder, width):
    student = Student(seeded(), encoder_decoder=encoder_decoder, width=width)
    x = images(2, 64, 96)
    assert [f.shape for f in student(x)] == [f.shape for f in teacher(x)]


def test_the_paper_has_no_projection_and_a_narrower_student_has_one_per_level():
    assert Student(seeded()).project is None
    half = Student(seeded(), width=0.5)
    channels = [(p.in_channels, p.out_channels) for p in half.project]
    assert channels == [(32, 64), (64, 128), (128, 256)]
    assert 0.2 < parameters(half) / parameters(Student(seeded())) < 0.3


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_convolutions_start_from_kaimings_distribution_by_fan_out(part):
    convolutions = [
        m for m in getattr(Student(seeded()), part).modules() if isinstance(m, nn.Conv2d)
    ]
    for m in convolutions:
        deviation = np.sqrt(2 / (m.out_channels * m.kernel_size[0] * m.kernel_size[1]))
        # The standard error of a deviation from n draws is 1/sqrt(2n) of it.
        error = 5 / np.sqrt(2 * m.weight.numel())
        assert m.weight.std().item() == pytest.approx(deviation, rel=error)


def test_the_decoder_sees_nothing_but_the_bottleneck():
    student = Student(seeded(), width=1 / 16).eval()
    student.encoder.layer4.register_forward_hook(lambda *_: torch.zeros(1, 32, 2, 2))
    one, other = student(images(1)), student(3 * images(1).flip(3))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b), "a skip connection would tell the images apart"


def test_without_decoder_the_student_is_the_teachers_architecture(teacher):
    student = Student(seeded(), encoder_decoder=False)
    student.encoder.load_state_dict(teacher.trunk.state_dict())
    student.eval()
    for a, b in zip(student(images()), teacher(images()), strict=True):
        assert torch.equal(a, b)


# The input of the segmentation network


def test_the_feature_product_is_negated_and_brought_to_a_quarter():
    teacher, student = unit_features(0), unit_features(1)
    fused = fuse(teacher, student, "product", (16, 16))
    assert fused.shape == (2, 448, 16, 16)
    first = 0
    for t, s in zip(teacher, student, strict=True):
        for channel in (0, 17, t.shape[1] - 1):
            by_hand = bilinear(-(t[1, channel] * s[1, channel]).numpy(), 16)
            np.testing.assert_allclose(fused[1, first + channel], by_hand, atol=1e-6)
        first += t.shape[1]


def test_concatenation_keeps_both_and_cosine_one_channel_per_level():
    teacher, student = unit_features(0), unit_features(1)
    both = fuse(teacher, student, "concatenation", (16, 16))
    assert both.shape == (2, 896, 16, 16)
    assert torch.equal(both[:, :64], teacher[0])
    assert torch.equal(both[:, 64:128], student[0])
    np.testing.assert_allclose(both[0, 128], bilinear(teacher[1][0, 0].numpy(), 16), atol=1e-6)
    cosine = fuse(teacher, student, "cosine", (16, 16))
    assert cosine.shape == (2, 3, 16, 16)
    for level in range(3):
        distance = 1 - (teacher[level][0] * student[level][0]).sum(0).numpy()
        np.testing.assert_allclose(cosine[0, level], bilinear(distance, 16), atol=1e-6)


def test_the_products_channels_sum_to_minus_the_cosine_similarity():
    teacher, student = unit_features(0), unit_features(1)
    product = fuse(teacher[:1], student[:1], "product", (16, 16))
    cosine = fuse(teacher[:1], student[:1], "cosine", (16, 16))
    np.testing.assert_allclose(1 + product.sum(1, keepdim=True), cosine, atol=1e-5)


@pytest.mark.parametrize(
    ("levels", "kind", "channels"),
    [
        ((1, 2, 3), "product", 448),
        ((2,), "product", 128),
        ((1, 3), "concatenation", 640),
        ((1, 3), "cosine", 2),
    ],
)
def test_fused_channels_are_those_of_fuse(levels, kind, channels):
    assert fused_channels(levels, kind) == channels
    teacher, student = unit_features(0), unit_features(1)
    used = [tuple(features[level - 1] for level in levels) for features in (teacher, student)]
    assert fuse(*used, kind, (16, 16)).shape[1] == channels


# Segmentation network


def test_the_segmentation_network_gives_one_logit_per_place():
    network = SegmentationNet(448, seeded(), width=1 / 16).eval()
    nn.init.constant_(network.head[-1].bias, -5)
    logits = network(torch.randn(2, 448, 16, 24, generator=seeded()))
    assert logits.shape == (2, 1, 16, 24)
    assert logits.max() < 0, "no sigmoid yet"


def test_aspp_is_three_dilated_branches_and_the_mean_without_1x1_branch_or_dropout():
    network = SegmentationNet(448, seeded())
    convolutions = [m for m in network.head.modules() if isinstance(m, nn.Conv2d)]
    kinds = [(m.in_channels, m.out_channels, m.kernel_size[0], m.dilation[0]) for m in convolutions]
    assert kinds == [
        *((256, 256, 3, d) for d in (6, 12, 18)),
        (256, 256, 1, 1),  # after the mean of the image
        (1024, 256, 3, 1),
        (256, 256, 3, 1),
        (256, 1, 1, 1),
    ]
    assert DILATIONS == (6, 12, 18)
    assert not any(isinstance(m, nn.Dropout | nn.Dropout2d) for m in network.modules())
    assert all((m.bias is None) == (m.out_channels > 1) for m in convolutions)


def test_every_place_hears_of_every_other_through_the_mean_alone():
    network = SegmentationNet(3, seeded(), width=1 / 16).eval()
    x = torch.randn(1, 3, 64, 64, generator=seeded(), requires_grad=True)
    network(x)[0, 0, 0, 0].backward()
    # Two residual blocks reach 4 pixels, the widest branch 18, the last convolutions 2.
    assert x.grad[0, :, :20, :20].abs().sum() > 0
    assert x.grad[0, :, 40:, 40:].abs().sum() > 0
    assert x.grad[0, :, 40:, 40:].abs().max() < x.grad.abs().max() / 10


def test_convolution_keeps_the_size_and_is_not_negative():
    for kernel, dilation in ((1, 1), (3, 1), (3, 18)):
        out = convolution(4, 6, kernel, dilation)(torch.randn(2, 4, 9, 11, generator=seeded()))
        assert out.shape == (2, 6, 9, 11)
        assert out.min() == 0


def test_residual_branches_start_at_zero_in_the_encoder_alone():
    student, network = Student(seeded()), SegmentationNet(448, seeded(), width=0.25)
    for part, count, start in ((student.encoder, 8, 0), (student.decoder, 8, 1), (network, 2, 1)):
        blocks = [m for m in part.modules() if isinstance(m, BasicBlock)]
        assert len(blocks) == count
        assert all(block.bn2.weight.eq(start).all() for block in blocks)


# The whole


def test_maps_are_a_quarter_of_the_image_and_in_range(teacher):
    maps = DeSTSeg(teacher, SMALL).eval()(images(2, 64, 96))
    assert maps.final.shape == maps.student.shape == (2, 1, 16, 24)
    assert 0 <= maps.final.min() <= maps.final.max() <= 1
    assert 0 <= maps.student.min() <= maps.student.max() <= 8
    assert maps.final.std() > 0
    assert maps.student.std() > 0


@pytest.mark.parametrize("kind", ["product", "sum"])
@pytest.mark.parametrize("levels", [(1, 2, 3), (1, 3), (3,)])
def test_the_student_map_multiplies_or_sums_the_levels_cosine_distances(teacher, kind, levels):
    config = replace(SMALL, student_map=kind, levels=levels, segmentation=False)
    model = DeSTSeg(teacher, config).eval()
    x = images()
    by_hand = []
    for level in levels:
        t, s = (f[level - 1].detach().double().numpy() for f in (teacher(x), model.student(x)))
        lengths = np.sqrt((t**2).sum(1) * (s**2).sum(1))
        distance = 1 - (t * s).sum(1) / lengths
        by_hand.append([bilinear(d, 16) for d in distance])
    combined = np.prod(by_hand, axis=0) if kind == "product" else np.sum(by_hand, axis=0)
    np.testing.assert_allclose(model(x).student[:, 0].detach(), combined, rtol=1e-4, atol=1e-5)


def test_a_student_that_agrees_with_the_teacher_finds_nothing(teacher):
    model = DeSTSeg(teacher, ModelConfig(encoder_decoder=False, segmentation=False)).eval()
    model.student.encoder.load_state_dict(teacher.trunk.state_dict())
    np.testing.assert_allclose(model(images()).student.detach(), 0, atol=1e-6)


def test_the_final_map_is_the_sigmoid_of_the_segmentation_networks_logits(teacher):
    model = DeSTSeg(teacher, SMALL).eval()
    x = images()
    features = model.features(x)
    for level in (*features[0], *features[1]):
        np.testing.assert_allclose(level.norm(dim=1).detach(), 1, atol=1e-5)
    logits = model.segmentation(fuse(*features, "product", quarter(x))).detach().double().numpy()
    np.testing.assert_allclose(model(x).final.detach(), 1 / (1 + np.exp(-logits)), atol=1e-6)


ABLATIONS = {
    "plain": ModelConfig(encoder_decoder=False, segmentation=False),
    "encoder-decoder": ModelConfig(segmentation=False),
    "sum of distances": ModelConfig(segmentation=False, student_map="sum"),
    "segmentation on a plain student": ModelConfig(encoder_decoder=False),
    "concatenation": ModelConfig(segmentation_input="concatenation"),
    "cosine distances": ModelConfig(segmentation_input="cosine"),
    "one level": ModelConfig(levels=(3,)),
    "one level, cosine distance": ModelConfig(levels=(2,), segmentation_input="cosine"),
    "two levels": ModelConfig(levels=(1, 3)),
    "last level alone, no segmentation": ModelConfig(levels=(3,), segmentation=False),
    "own segmentation width": ModelConfig(segmentation_width=1 / 8),
}


@pytest.mark.parametrize("config", ABLATIONS.values(), ids=ABLATIONS)
def test_every_ablation_is_plain_configuration(teacher, config):
    model = DeSTSeg(teacher, replace(config, width=1 / 16)).eval()
    maps = model(images())
    assert maps.final.shape == maps.student.shape == (2, 1, 16, 16)
    for one in maps:
        assert torch.isfinite(one).all()
        assert one.std() > 0
    assert (model.segmentation is not None) == config.segmentation
    assert (maps.final is maps.student) != config.segmentation  # the student map is the answer
    assert (model.student.decoder is not None) == config.encoder_decoder


def test_segmentation_width_is_its_own_or_the_students(teacher):
    wide, narrow = (DeSTSeg(teacher, replace(SMALL, segmentation_width=w)) for w in (1 / 8, None))
    assert parameters(wide.student) == parameters(narrow.student)
    assert wide.segmentation.head[-1].in_channels == 32
    assert narrow.segmentation.head[-1].in_channels == 16


def test_equal_generators_give_equal_models_and_the_global_one_is_not_used(teacher):
    models = []
    for n, generator in enumerate((seeded(3), seeded(3), seeded(4), None)):
        before = torch.manual_seed(n).get_state()
        models.append(DeSTSeg(teacher, SMALL, generator).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    one, same, other, default = models
    assert all(torch.equal(one[key], same[key]) for key in one)
    key = "student.encoder.layer1.0.conv1.weight"
    assert not torch.equal(one[key], other[key])
    assert torch.equal(default[key], DeSTSeg(teacher, SMALL, seeded(0)).state_dict()[key])


def test_a_copied_model_keeps_its_teacher_frozen(teacher):
    model = copy.deepcopy(DeSTSeg(teacher, SMALL)).train()
    assert model.student.training
    assert not any(part.training for part in model.teacher.modules())


def test_half_precision_and_channels_last_change_the_maps_only_a_little(teacher):
    model = DeSTSeg(teacher, SMALL).eval()
    with torch.no_grad():
        full = model(images())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(images())
        model = model.to(memory_format=torch.channels_last)
        last = model(images().contiguous(memory_format=torch.channels_last))
    for a, b, c in zip(full, half, last, strict=True):
        assert b.dtype == torch.float32
        np.testing.assert_allclose(a, b, atol=0.05)
        np.testing.assert_allclose(a, c, rtol=1e-3, atol=1e-5)


# Predicting


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def predict(run, photographs, **options):
    return list(
        predict_maps(run.model, photographs, **{"precision": "fp32", "progress": False, **options})
    )


def test_a_tensor_of_photographs_is_in_the_range_0_to_1_and_channels_last():
    photographs = pixels(2)
    photographs.setflags(write=False)  # as in a mapped file
    tensor = to_tensor(photographs)
    assert tensor.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_array_equal(tensor.permute(0, 2, 3, 1), photographs.astype(np.float32) / 255)


def test_predicted_maps_are_the_models_own_brought_to_256_pixels(untrained_run):
    photographs = pixels(3)
    with torch.no_grad():
        expected = [
            nn.functional.interpolate(m, size=(256, 256), mode="bilinear")[:, 0].numpy()
            for m in untrained_run.model(normalise(to_tensor(photographs)))
        ]
    batches = predict(untrained_run, photographs, batch_size=2)
    assert [batch.final.shape for batch in batches] == [(2, 256, 256), (1, 256, 256)]
    for which, maps in enumerate(expected):
        found = np.concatenate([batch[which] for batch in batches])
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, maps, rtol=1e-4, atol=1e-6)
    (small,) = predict(untrained_run, photographs, size=40)
    assert small.final.shape == small.student.shape == (3, 40, 40)


def test_half_precision_without_cuda_is_single_precision(untrained_run):
    (single,), (half,) = (predict(untrained_run, pixels(2), precision=p) for p in ("fp32", "fp16"))
    np.testing.assert_array_equal(single.final, half.final)


def test_an_image_score_is_the_mean_of_the_hundred_largest_values_in_eval_mode(untrained_run):
    photographs, model = pixels(5), untrained_run.model
    (maps,) = predict(untrained_run, photographs)
    expected = [np.sort(m.ravel().astype(np.float64))[-100:].mean() for m in maps.final]
    model.train()
    found = score_images(model, photographs, precision="fp32", batch_size=2, progress=False)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert score_images(model, pixels(0), precision="fp32", progress=False).shape == (0,)


# Parameters


def test_parameter_counts_are_the_authors(shared):
    expected = json.loads((shared / "reference" / "expected.json").read_text())["parameters"]
    names = ("teacher_layer1_to_3", "student_encoder_decoder", "segmentation_448_in")
    assert [expected[name] for name in names] == PARAMETERS


def test_parameter_counts_are_the_papers(teacher):
    model = DeSTSeg(teacher)
    assert [parameters(m) for m in (model.teacher, model.student, model.segmentation)] == PARAMETERS
