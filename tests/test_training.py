"""Batches, schedules and the two phases, on tiny images with the random teacher."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from destseg_lib import DeSTSeg, DeSTSegError, ModelConfig, TrainingConfig, load_teacher
from destseg_lib.batches import (
    PHASES,
    PixelsOnDevice,
    TrainingImages,
    at_hand,
    batch_indices,
    draw_batch,
    step_generator,
)
from destseg_lib.config import PhaseConfig
from destseg_lib.corruption import shrink_masks
from destseg_lib.device import prediction_precision, resolve_precision
from destseg_lib.losses import feature_loss, segmentation_loss
from destseg_lib.runs.budget import fit_to_budget, seconds_per_step
from destseg_lib.runs.inputs import Selection
from destseg_lib.runs.tiles import covered
from destseg_lib.teacher import Teacher, normalise
from destseg_lib.training import (
    NonFiniteLossError,
    learning_rate_factor,
    learning_rates,
    move_to_device,
    phases_of,
    segmentation_phase_loss,
    start_phase,
    student_phase_loss,
    train,
    train_phase,
    with_steps,
)

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SIZE = 32
PHASE = PhaseConfig(steps=3, lr=2e-3, optimiser="adamw")
CONFIG = TrainingConfig(
    student=PHASE,
    segmentation=PHASE,
    model=ModelConfig(width=1 / 16),
    image_size=SIZE,
    batch_size=4,
    precision="fp32",
)


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return load_teacher("random")


@pytest.fixture
def model(teacher) -> DeSTSeg:
    return DeSTSeg(teacher, CONFIG.model)


def images(good: int = 9, textures: int = 5) -> TrainingImages:
    """Smooth grey photographs, each of its own shade, and loud textures."""
    generator = np.random.default_rng(0)
    shades = np.linspace(60, 200, good)[:, None, None, None]
    waves = 20 * np.sin(np.arange(SIZE) / 3)[None, None, :, None]
    photographs = shades + waves + generator.normal(0, 2, (good, SIZE, SIZE, 3))
    loud = generator.integers(0, 256, (textures, SIZE, SIZE, 3))
    return TrainingImages(photographs.astype(np.uint8), loud.astype(np.uint8))


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[key], other[key]) for key in one)


def run_phase(model: DeSTSeg, config: TrainingConfig, phase: str, data: TrainingImages) -> list:
    """Train one phase; return its records."""
    records = []
    for _ in train_phase(model, data, config, start_phase(model, config, phase), records.append):
        pass
    return records


# Which images a step sees


def epoch(config: TrainingConfig, count: int, number: int, phase: str = "student") -> list[list]:
    per_epoch = count // config.batch_size
    steps = range(number * per_epoch, (number + 1) * per_epoch)
    return [batch_indices(count, config, phase, step).tolist() for step in steps]


@pytest.mark.parametrize("count", [4, 8, 11, 30])
def test_an_epoch_is_a_shuffle_without_its_last_incomplete_batch(count):
    for number in range(5):
        batches = epoch(CONFIG, count, number)
        assert {len(batch) for batch in batches} == {4}
        seen = [index for batch in batches for index in batch]
        assert len(set(seen)) == len(seen) == count - count % 4
        assert set(seen) <= set(range(count))


def all_differ(draws: list) -> bool:
    return all(one != other for a, one in enumerate(draws) for other in draws[:a])


def test_epochs_phases_and_seeds_shuffle_differently():
    other_seed = replace(CONFIG, seed=1)
    of = [(CONFIG, 40, 0), (CONFIG, 40, 1), (CONFIG, 40, 0, "segmentation"), (other_seed, 40, 0)]
    assert all_differ([epoch(*arguments) for arguments in of])


def test_every_image_is_seen_about_equally_often():
    seen = Counter(index for e in range(200) for batch in epoch(CONFIG, 11, e) for index in batch)
    # Each of 200 epochs leaves three of eleven out: 145 times in, give or take 6.3.
    assert set(seen) == set(range(11))
    assert all(abs(times - 200 * 8 / 11) < 5 * 6.3 for times in seen.values())


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_images_than_a_batch_go_round_again(count):
    for step in range(5):
        indices = batch_indices(count, CONFIG, "student", step)
        assert len(indices) == 4
        times = Counter(indices.tolist())
        assert set(times) == set(range(count))
        assert max(times.values()) - min(times.values()) <= 1


# What a batch holds


def test_a_steps_batch_is_the_same_whenever_it_is_drawn():
    config, data = replace(CONFIG, rotation="full"), images()
    first = draw_batch(data, config, "student", 7, CPU)
    draw_batch(data, config, "student", 8, CPU)
    torch.rand(5)
    again = draw_batch(data, config, "student", 7, CPU)
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one, other)


def test_steps_phases_and_seeds_draw_differently():
    steps = [(0, "student", 0), (0, "student", 1), (0, "segmentation", 0), (1, "student", 0)]
    steps.append((2**40, "student", 0))
    assert all_differ([torch.rand(4, generator=step_generator(*of)).tolist() for of in steps])


def test_a_batch_is_normalised_photographs_clean_and_corrupted():
    data = images()
    batch = draw_batch(data, CONFIG, "student", 0, CPU)
    indices = batch_indices(9, CONFIG, "student", 0)
    pixels = torch.from_numpy(data.good[indices].transpose(0, 3, 1, 2) / np.float32(255))
    torch.testing.assert_close(batch.clean, normalise(pixels))
    outside = (batch.masks == 0).expand_as(batch.clean)
    assert torch.equal(batch.corrupted[outside], batch.clean[outside])
    assert (batch.corrupted[~outside] != batch.clean[~outside]).float().mean() > 0.9
    assert batch.masks.shape == (4, 1, SIZE, SIZE)


def test_rotation_turns_the_clean_photographs():
    data = images()
    still = draw_batch(data, CONFIG, "student", 0, CPU)
    turned = draw_batch(data, replace(CONFIG, rotation="slight"), "student", 0, CPU)
    assert not torch.equal(still.clean, turned.clean)


def test_a_batch_is_already_in_channels_last_order():
    batch = draw_batch(images(), CONFIG, "student", 0, CPU)
    assert batch.clean.is_contiguous(memory_format=torch.channels_last)


# The two losses


def test_the_students_target_is_the_teacher_on_the_clean_image(model):
    batch = draw_batch(images(), CONFIG, "student", 0, CPU)
    model.eval()
    with torch.no_grad():
        clean, corrupted = model.student(batch.clean), model.student(batch.corrupted)
        target = model.teacher(batch.clean)
        denoising = student_phase_loss(model, batch, CONFIG)
        plain = student_phase_loss(model, batch, replace(CONFIG, denoising=False))
    torch.testing.assert_close(denoising, feature_loss(corrupted, target))
    torch.testing.assert_close(plain, feature_loss(clean, target))
    assert denoising != plain


def test_the_segmentation_network_learns_from_the_corrupted_image_alone(model):
    batch = draw_batch(images(), CONFIG, "segmentation", 0, CPU)
    model.eval()
    with torch.no_grad():
        found = segmentation_phase_loss(model, batch, CONFIG)
        without_l1 = segmentation_phase_loss(
            model, batch, replace(CONFIG, l1=False, focal_gamma=2.0)
        )
        logits = torch.logit(model(batch.corrupted).final)
    masks = shrink_masks(batch.masks)
    torch.testing.assert_close(found, segmentation_loss(logits, masks), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        without_l1, segmentation_loss(logits, masks, 2.0, l1=False), rtol=1e-3, atol=1e-5
    )


# What is the same in every epoch


def teacher_passes(model: DeSTSeg, config: TrainingConfig, data: TrainingImages) -> int:
    """How often the teacher looks at a batch while the student is trained."""
    passes = []
    hook = model.teacher.register_forward_hook(lambda *_: passes.append(1))
    run_phase(model, config, "student", data)
    hook.remove()
    return len(passes)


def test_the_teacher_looks_at_each_clean_photograph_once(model):
    assert teacher_passes(model, with_steps(CONFIG, 40, 0), images(good=8)) == 2
    # Two batches of four leave one of nine out, a different one in each epoch.
    assert 3 <= teacher_passes(model, with_steps(CONFIG, 40, 0), images(good=9)) < 9


def test_it_looks_again_at_photographs_that_are_turned(model):
    config = replace(with_steps(CONFIG, 10, 0), rotation="slight")
    assert teacher_passes(model, config, images(good=4)) == 10


def test_it_looks_again_where_its_features_would_take_too_much_memory(model, monkeypatch):
    monkeypatch.setattr("destseg_lib.batches.MOST_REMEMBERED", 100)
    assert teacher_passes(model, with_steps(CONFIG, 10, 0), images(good=4)) == 10


@pytest.mark.parametrize(
    "changes",
    [{}, {"precision": "bf16"}, {"denoising": False}, {"model": ModelConfig((1, 3), width=1 / 16)}],
    ids=str,
)
def test_remembered_features_train_the_same_student(teacher, monkeypatch, changes):
    config = replace(with_steps(CONFIG, 12, 0), **changes)
    one, other = (DeSTSeg(teacher, config.model) for _ in range(2))
    records = run_phase(one, config, "student", images())
    monkeypatch.setattr("destseg_lib.batches.MOST_REMEMBERED", 0)
    plain = run_phase(other, config, "student", images())
    # To the bit, as a resumed run, which remembers nothing yet, must go on as if it did.
    assert [r.loss for r in records] == [r.loss for r in plain]
    assert same(one.state_dict(), other.state_dict())


@pytest.mark.parametrize("tiles", [1, 2])
def test_photographs_copied_to_a_device_make_the_same_batches(tiles, monkeypatch):
    monkeypatch.setattr("destseg_lib.batches.COPIED", 4)
    data = images(good=11)
    whole = np.random.default_rng(1).integers(0, 256, (11, *(covered(SIZE, tiles),) * 2, 3))
    good = Selection(whole.astype(np.uint8), np.arange(1, 11), tiles)
    data = TrainingImages(good, data.textures)
    copied = TrainingImages(*(PixelsOnDevice(p, CPU) for p in (data.good, data.textures)))
    assert len(copied.good) == len(good)
    for phase in PHASES:
        one, other = (draw_batch(d, CONFIG, phase, 3, CPU) for d in (data, copied))
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize(("free", "copied"), [(2**20, True), (2**16, False)])
def test_a_gpu_gets_the_photographs_if_it_has_room_for_them(monkeypatch, free, copied):
    there = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 2**30))
    monkeypatch.setattr("destseg_lib.batches.PixelsOnDevice", lambda pixels, device: device)
    data = images()  # 43 KB
    assert at_hand(data, there) == (TrainingImages(there, there) if copied else data)
    assert at_hand(data, CPU) is data


# Only the network of the phase changes


def test_the_student_phase_changes_the_student_alone(model):
    before = {name: state_of(part) for name, part in model.named_children()}
    run_phase(model, CONFIG, "student", images())
    assert same(before["teacher"], model.teacher.state_dict())
    assert same(before["segmentation"], model.segmentation.state_dict())
    after = model.student.state_dict()
    unchanged = [key for key, value in before["student"].items() if torch.equal(value, after[key])]
    assert not unchanged, "every weight and every batch-norm statistic learns"


def test_the_segmentation_phase_changes_the_segmentation_network_alone(model):
    run_phase(model, CONFIG, "student", images())
    before = {name: state_of(part) for name, part in model.named_children()}
    run_phase(model, CONFIG, "segmentation", images())
    assert same(before["teacher"], model.teacher.state_dict())
    assert same(before["student"], model.student.state_dict()), "batch-norm statistics included"
    after = model.segmentation.state_dict()
    unchanged = [k for k, value in before["segmentation"].items() if torch.equal(value, after[k])]
    assert not unchanged


def test_only_the_network_of_the_phase_has_gradients_and_train_mode(model):
    for phase, trained, frozen in (
        ("student", model.student, model.segmentation),
        ("segmentation", model.segmentation, model.student),
    ):
        steps = train_phase(model, images(), CONFIG, start_phase(model, CONFIG, phase))
        next(steps)
        assert trained.training
        assert all(p.grad is not None for p in trained.parameters())
        assert not any(part.training for part in frozen.modules())
        assert not any(p.requires_grad for p in frozen.parameters())
        assert not any(part.training for part in model.teacher.modules())
        for p in model.parameters():
            p.grad = None


def test_looking_at_the_model_between_steps_does_not_change_the_result(teacher):
    one, other = (DeSTSeg(teacher, CONFIG.model) for _ in range(2))
    for phase in PHASES:
        run_phase(one, CONFIG, phase, images())
        for _ in train_phase(other, images(), CONFIG, start_phase(other, CONFIG, phase)):
            other.eval()
            other(torch.randn(2, 3, SIZE, SIZE))
    assert same(one.state_dict(), other.state_dict())


def test_another_seed_trains_another_model(teacher):
    trained = []
    for seed in (0, 0, 1):
        model = DeSTSeg(teacher, CONFIG.model)
        run_phase(model, replace(CONFIG, seed=seed), "student", images())
        trained.append(model.student.state_dict())
    assert same(trained[0], trained[1])
    assert not same(trained[0], trained[2])


# Optimisers and learning rates


def test_a_constant_schedule_is_constant():
    phase = PhaseConfig(steps=50, lr=0.4)
    assert {learning_rate_factor(phase, step) for step in range(50)} == {1.0}


@pytest.mark.parametrize("steps", [1, 2, 10, 137])
def test_one_cycle_rises_for_a_tenth_and_falls_to_nearly_nothing(steps):
    phase = PhaseConfig(steps=steps, lr=0.1, schedule="one_cycle")
    factors = np.array([learning_rate_factor(phase, step) for step in range(steps)])
    top = int(factors.argmax())
    assert factors.max() == 1
    assert top <= max(1, steps // 10)
    assert (np.diff(factors[: top + 1]) > 0).all()
    assert (np.diff(factors[top:]) <= 0).all()
    assert factors.min() > 0
    if steps > 100:
        assert factors[0] < 0.1
        assert factors[-1] < 0.01
        assert factors[(steps + top) // 2] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("head_lr", [0.01, None])
def test_head_and_residual_blocks_have_their_own_rates(model, head_lr):
    phase = PhaseConfig(4, 0.1, head_lr, schedule="one_cycle", momentum=0.8)
    config = replace(CONFIG, segmentation=phase)
    state = start_phase(model, config, "segmentation")
    residual, head = state.optimiser.param_groups
    for group, network in (
        (residual, model.segmentation.residual),
        (head, model.segmentation.head),
    ):
        assert {id(p) for p in group["params"]} == {id(p) for p in network.parameters()}
    assert residual["momentum"] == 0.8
    rates = [(residual["lr"], head["lr"]) for _ in train_phase(model, images(), config, state)]
    factors = [learning_rate_factor(phase, step) for step in range(4)]
    np.testing.assert_allclose(rates, [(0.1 * f, (head_lr or 0.1) * f) for f in factors])
    assert rates == [learning_rates(config, "segmentation", step) for step in range(4)]


def test_the_optimisers_are_torchs_with_the_configured_numbers(model):
    sgd = replace(CONFIG, student=PhaseConfig(1, 0.4, weight_decay=1e-4))
    optimiser = start_phase(model, sgd, "student").optimiser
    assert isinstance(optimiser, torch.optim.SGD)
    (group,) = optimiser.param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.4, 0.9, 1e-4)
    assert len(group["params"]) == len(list(model.student.parameters()))
    assert isinstance(start_phase(model, CONFIG, "student").optimiser, torch.optim.AdamW)


def test_one_step_of_sgd_is_the_gradient_times_the_rate(model):
    config = replace(CONFIG, student=PhaseConfig(1, 0.01, weight_decay=0.0))
    oracle = copy.deepcopy(model).train()
    loss = student_phase_loss(oracle, draw_batch(images(), config, "student", 0, CPU), config)
    loss.backward()
    records = run_phase(model, config, "student", images())
    for found, p in zip(model.student.parameters(), oracle.student.parameters(), strict=True):
        torch.testing.assert_close(found, p - 0.01 * p.grad)
    assert records[0].loss == pytest.approx(loss.item())


# Records and faults


def test_a_record_every_ten_steps_and_at_the_end(model):
    config = with_steps(CONFIG, 23, 0)
    records, losses = [], []
    state = start_phase(model, config, "student")
    for loss in train_phase(model, images(), config, state, records.append):
        losses.append(loss.item())
        assert state.step == len(losses)
    first, second, last = records
    assert [(r.phase, r.step) for r in records] == [("student", n) for n in (10, 20, 23)]
    assert {r.learning_rate for r in records} == {PHASE.lr}
    for record, steps in ((first, losses[:10]), (second, losses[10:20]), (last, losses[20:])):
        assert record.loss == pytest.approx(np.mean(steps), rel=1e-5)
    assert 0 < first.seconds < second.seconds < last.seconds


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_training_and_names_its_step(model, phase, poison):
    config = with_steps(CONFIG, 10, 10)
    state = start_phase(model, config, phase)
    network = model.student if phase == "student" else model.segmentation
    steps = train_phase(model, images(), config, state)
    for _ in range(4):
        next(steps)
    nn.init.constant_(next(network.parameters()), poison)
    with pytest.raises(
        NonFiniteLossError, match=rf"the loss is nan at {phase} step 5; the learning rate is prob"
    ):
        list(steps)


def test_no_steps_leave_the_model_as_it_was(model):
    before = state_of(model)
    assert train(model, images(), with_steps(CONFIG, 0, 0), progress=False) == []
    assert same(before, model.state_dict())


@pytest.mark.parametrize(
    ("features", "precision"),
    [((), "fp32"), (("amx_tile",), "bf16"), (("avx512_bf16",), "bf16"), (("avx512",), "fp32")],
)
def test_a_cpu_computes_in_bf16_where_it_has_instructions_for_it(monkeypatch, features, precision):
    for name in ("amx_tile", "avx512_bf16", "avx512"):
        monkeypatch.setattr(
            torch.cpu, f"_is_{name}_supported", lambda name=name: name in features, raising=False
        )
    assert resolve_precision("auto", CPU) == precision
    assert resolve_precision("fp16", CPU) == "fp16", "only auto depends on the processor"


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16"), (False, "fp16")])
def test_a_gpu_that_only_emulates_bf16_computes_in_fp16(monkeypatch, supported, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: supported)
    assert resolve_precision("auto", torch.device("cuda")) == precision


def test_without_torchs_functions_for_it_a_processor_computes_in_fp32(monkeypatch):
    for name in ("amx_tile", "avx512_bf16"):
        monkeypatch.delattr(torch.cpu, f"_is_{name}_supported", raising=False)
    assert resolve_precision("auto", CPU) == "fp32"
    assert resolve_precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize(
    ("features", "asked", "computed"),
    [
        ((), "bf16", "fp32"),
        (("avx512_bf16",), "bf16", "bf16"),
        (("amx_tile",), "fp16", "fp32"),
        (("amx_tile",), "fp32", "fp32"),
        (("amx_tile",), "auto", "bf16"),
    ],
)
def test_prediction_emulates_no_precision(monkeypatch, features, asked, computed):
    for name in ("amx_tile", "avx512_bf16"):
        monkeypatch.setattr(
            torch.cpu, f"_is_{name}_supported", lambda name=name: name in features, raising=False
        )
    assert prediction_precision(asked, CPU) == computed


@pytest.mark.parametrize(("supported", "computed"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_predicts_in_the_precisions_that_it_has(monkeypatch, supported, computed):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *, including_emulation: supported)
    assert prediction_precision("fp16", torch.device("cuda")) == "fp16"
    assert prediction_precision("bf16", torch.device("cuda")) == computed


# Both phases together


def test_training_lowers_both_losses(model):
    fast = replace(PHASE, steps=30, lr=5e-3)
    config = replace(CONFIG, student=fast, segmentation=fast)
    records = train(model, images(), config, progress=False)
    for phase in PHASES:
        first, _, last = (record.loss for record in records if record.phase == phase)
        assert last < 0.8 * first, phase
    assert not any(part.training for part in model.modules())


def test_a_set_smaller_than_a_batch_trains(model):
    before = state_of(model)
    records = train(model, images(good=1, textures=1), CONFIG, progress=False)
    assert [record.phase for record in records] == list(PHASES)
    assert all(np.isfinite(record.loss) for record in records)
    assert not same(before, model.state_dict())


@pytest.mark.parametrize("precision", ["auto", "bf16"])
def test_other_precisions_train(model, precision):
    records = train(model, images(), replace(CONFIG, precision=precision), progress=False)
    assert all(np.isfinite(record.loss) for record in records)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (ModelConfig(levels=(2,)), {}),
        (ModelConfig(levels=(1, 3), segmentation_input="concatenation"), {}),
        (ModelConfig(segmentation_input="cosine"), {"l1": False}),
        (ModelConfig(encoder_decoder=False), {"denoising": False}),
        (ModelConfig(encoder_decoder=False, segmentation=False, student_map="sum"), {}),
    ],
    ids=["one level", "two levels concatenated", "cosine", "plain student", "no segmentation"],
)
def test_ablations_train(teacher, config, changes):
    config = replace(CONFIG, model=replace(config, width=1 / 16), **changes)
    model = DeSTSeg(teacher, config.model)
    before = state_of(model)
    records = train(model, images(), config, progress=False)
    assert tuple(record.phase for record in records) == phases_of(config)
    assert len(records) == (2 if config.model.segmentation else 1)
    assert not same(before, model.state_dict())


def test_a_model_in_channels_last_order_trains_to_nearly_the_same(teacher):
    one, other = (DeSTSeg(teacher, CONFIG.model) for _ in range(2))
    other = move_to_device(other, CPU)
    plain, last = (train(m, images(), CONFIG, progress=False) for m in (one, other))
    weight = other.student.encoder.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    for a, b in zip(plain, last, strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-2)


def test_progress_is_shown_unless_refused(model, capfd):
    train(model, images(), with_steps(CONFIG, 1, 1), progress=False)
    assert capfd.readouterr().err == ""
    train(model, images(), with_steps(CONFIG, 1, 1))
    shown = capfd.readouterr().err
    assert "student: 100%" in shown
    assert "segmentation: 100%" in shown


# A time budget


BUDGET = with_steps(CONFIG, 1000, 4000)
COST = {"student": 0.5, "segmentation": 0.25}  # 500 + 1,000 seconds


@pytest.mark.parametrize("seconds", [1500, 1e9])
def test_a_recipe_that_fits_is_kept(seconds):
    assert fit_to_budget(BUDGET, COST, seconds) == BUDGET


@pytest.mark.parametrize("seconds", [1499, 600, 77, 3])
def test_a_budget_is_kept_in_the_recipes_proportion(seconds):
    fitted = fit_to_budget(BUDGET, COST, seconds)
    student, segmentation = fitted.student.steps, fitted.segmentation.steps
    taken = student * COST["student"] + segmentation * COST["segmentation"]
    assert seconds - sum(COST.values()) < taken <= seconds
    assert segmentation == pytest.approx(4 * student, abs=4)
    assert with_steps(fitted, 1000, 4000) == BUDGET, "nothing but the steps has changed"


def test_without_segmentation_network_all_the_time_is_the_students():
    alone = replace(BUDGET, model=ModelConfig(segmentation=False))
    fitted = fit_to_budget(alone, {"student": 0.5}, 100)
    assert fitted.student.steps == 200
    assert fitted.segmentation.steps == 0


def test_a_budget_without_a_step_of_each_phase_is_refused():
    with pytest.raises(
        DeSTSegError, match=r"of 0\.0 minutes is too short .* recipe takes 25; give more time"
    ):
        fit_to_budget(BUDGET, COST, 1)


def test_measuring_a_step_leaves_the_model_alone(model):
    before = state_of(model)
    measured = seconds_per_step(model, images(), CONFIG, steps=1)
    assert set(measured) == set(PHASES)
    assert all(0 < seconds < 60 for seconds in measured.values())
    assert same(before, model.state_dict())
