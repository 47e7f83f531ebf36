"""What a run costs: fitted to records, measured here, and what a whole reproduction takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from destseg_lib.config import (
    ModelConfig,
    PhaseConfig,
    TrainingConfig,
    config_to_dict,
    paper_recipe,
)
from destseg_lib.errors import DeSTSegError
from destseg_lib.studies.costs import (
    costs_to_dict,
    fit_costs,
    measure_costs,
    read_costs,
    segmentation_kind,
    student_kind,
)

PHASE = PhaseConfig(steps=10, lr=0.1)
CONFIG = TrainingConfig(PHASE, PHASE, image_size=64, batch_size=4)
PLAIN = replace(CONFIG, model=ModelConfig(encoder_decoder=False))


def record(config: TrainingConfig, student: float, segmentation: float) -> dict:
    return {
        "status": "done",
        "config": json.loads(json.dumps(config_to_dict(config))),
        "seconds": {
            "setup": 3.0, "student": student, "segmentation": segmentation, "evaluation": 8.0,
        },
        "images": {"train": 9, "good": 10, "defective": 30},
        "provenance": {"device": "a device"},
    }  # fmt: skip


RECORDS = [
    record(CONFIG, 20.0, 50.0),
    record(CONFIG, 0.0, 70.0),  # its student was the first one's
    record(PLAIN, 10.0, 40.0),
    {"status": "failed"},
]


def test_costs_are_total_seconds_by_total_steps_of_each_kind():
    costs = fit_costs(RECORDS)
    assert costs.student == {"encoder-decoder": 2.0, "plain": 1.0}
    assert costs.segmentation == {"encoder-decoder, product": 6.0, "plain, product": 4.0}
    assert (costs.evaluation, costs.setup) == (8 / 40, 3.0)
    assert costs.source == "3 finished runs on a device"


def test_a_run_costs_what_the_formula_says():
    costs = fit_costs(RECORDS)
    job = costs.job(CONFIG, "s", images=40)
    assert (job.student, job.training, job.rest) == ("s", 20.0, 3.0 + 60.0 + 8.0)
    alone = replace(CONFIG, model=ModelConfig(segmentation=False))
    assert costs.job(alone, "s", 40).rest == 3.0 + 8.0
    # Four times the pixels of each image, twice the images of a batch.
    large = replace(CONFIG, image_size=128, batch_size=8)
    assert costs.job(large, "s", 40).training == 8 * 20.0
    assert costs.job(large, "s", 40).rest == 3.0 + 8 * 60.0 + 4 * 8.0


def test_the_paper_takes_what_a_reader_can_work_out():
    costs = replace(fit_costs(RECORDS), pixels=32 * 256**2, image_size=256)
    job = costs.job(paper_recipe(), "s", 0)
    assert (job.training, job.rest) == (1000 * 2.0, 3.0 + 4000 * 6.0)


def test_what_was_not_timed_is_not_guessed():
    costs = fit_costs(RECORDS)
    narrow = replace(CONFIG, model=ModelConfig(width=0.5))
    with pytest.raises(DeSTSegError, match=r"timed at the widths \(1\.0, 1\.0\)"):
        costs.job(narrow, "s", 1)
    other = replace(CONFIG, model=ModelConfig(segmentation_input="cosine"))
    with pytest.raises(DeSTSegError, match="no step of 'encoder-decoder, cosine' was timed"):
        costs.job(other, "s", 1)
    with pytest.raises(DeSTSegError, match="runs of 2 sizes"):
        fit_costs([*RECORDS, record(replace(CONFIG, batch_size=8), 1, 1)])
    with pytest.raises(DeSTSegError, match="runs of 0 sizes"):
        fit_costs(RECORDS[-1:])


def test_kinds_tell_networks_apart_that_take_different_time():
    assert student_kind(ModelConfig(levels=(1,))) != student_kind(ModelConfig())
    cosine = ModelConfig(encoder_decoder=False, segmentation_input="cosine")
    assert segmentation_kind(cosine) == "plain, cosine"


def test_costs_are_read_back_from_either_file(tmp_path: Path):
    costs = fit_costs(RECORDS)
    (tmp_path / "records.jsonl").write_text("\n".join(map(json.dumps, RECORDS)))
    (tmp_path / "timing.json").write_text(json.dumps(costs_to_dict(costs)))
    assert read_costs(tmp_path / "records.jsonl") == costs
    assert read_costs(tmp_path / "timing.json") == costs
    for name, text in (("a.json", "{}"), ("b.json", "no"), ("c.jsonl", '{"status": "done"}')):
        (tmp_path / name).write_text(text)
        with pytest.raises(DeSTSegError, match=f"{name} holds no timing"):
            read_costs(tmp_path / name)
    with pytest.raises(DeSTSegError, match="holds no timing"):
        read_costs(tmp_path / "nowhere.json")


def test_a_few_steps_of_each_kind_are_timed(one_thread):
    config = replace(
        CONFIG,
        image_size=32,
        batch_size=2,
        precision="fp32",
        model=ModelConfig(width=0.0625, segmentation=False),
    )
    both = [config, replace(config, model=replace(config.model, encoder_decoder=False))]
    costs = measure_costs(both, torch.device("cpu"), steps=1, progress=False)
    assert costs.student.keys() == {"encoder-decoder", "plain"}
    assert costs.segmentation.keys() == {"encoder-decoder, product", "plain, product"}
    times = [*costs.student.values(), *costs.segmentation.values(), costs.evaluation]
    assert all(0 < seconds < 60 for seconds in times)
    assert costs.job(config, "s", 3).training > 0
