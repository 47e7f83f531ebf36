"""Names that are not text, or that look like markup, in every command that meets them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from destseg_lib import cli
from destseg_lib.evaluation.tables import markdown_table, shown

pytestmark = pytest.mark.usefixtures("one_thread")

TRAIN = (
    "--recipe tiny --image-size 32 --batch-size 2 --student-steps 2 --segmentation-steps 2 "
    "--width 0.0625"
)
NAMES = ("$x_{.png", "a|b.png", "caf\udce9.png", "\u202ebidi.png")


def fill(folder: Path) -> Path:
    """A category whose folder, defects and files have odd names."""
    rng = np.random.default_rng(0)
    for place in ("train/good", "test/good", "test/sp$ot|_{", "test/caf\udce9"):
        (folder / place).mkdir(parents=True)
        for name in NAMES:
            pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            with (folder / place / name).open("wb") as file:  # Pillow wants names that are text
                Image.fromarray(pixels).save(file, format="PNG")
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are text")
@pytest.mark.parametrize("name", ["caf\udce9", "a$b_|^{x}"])
def test_train_evaluate_and_predict_with_odd_names(tmp_path: Path, name: str) -> None:
    data = fill(tmp_path / name)
    run, figures, out = (tmp_path / f"{kind}-{data.name}" for kind in ("run", "figures", "out"))
    metrics = tmp_path / f"{data.name}.json"
    one_or_other = ["--device", "cpu", "--quiet"]
    train = ["train", "--data", str(data), "--out", str(run), *TRAIN.split(), *one_or_other]
    assert cli.main(train) == 0
    evaluate = ["evaluate", "--run", str(run), "--data", str(data), "--json", str(metrics)]
    assert cli.main([*evaluate, "--figures", str(figures), *one_or_other]) == 0
    assert json.loads(metrics.read_text())["image_auroc"] is not None
    assert len(list(figures.glob("*.png"))) == 1
    predict = ["predict", str(data / "test" / "good"), "--run", str(run), "--out", str(out)]
    assert cli.main([*predict, *one_or_other]) == 0
    assert len(json.loads((out / "scores.json").read_text())) == len(NAMES)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_knows_few_letters_gets_all_that_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str
) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", terminal)
    missing = tmp_path / "caf\udce9 – ±"
    assert cli.main(["predict", str(missing), "--run", "pretrained:metal", "--out", "x"]) == 2
    terminal.flush()
    assert b"caf" in terminal.buffer.getvalue()


@pytest.mark.parametrize("name", ["$x_{", "a$b$c", "caf\udce9", "100 % \\alpha", "plain"])
def test_a_name_is_drawn_as_it_is_written(name: str) -> None:
    figure = Figure()
    figure.text(0, 0, shown(name))
    figure.savefig(io.BytesIO(), format="png")  # a formula that makes no sense would fail here


def test_a_bar_in_a_name_makes_no_column() -> None:
    table = markdown_table(["variant", "mean"], [["a|b", "1"]])
    assert table.splitlines()[-1] == r"| a\|b | 1 |"
