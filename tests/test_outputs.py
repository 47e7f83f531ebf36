"""Nothing of the user's is overwritten: what each command may write, by the file system's own view.

Hostile folders at random are in test_fuzz.py, kills at every moment in test_kills.py.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from test_cli import category, fail, photograph, training

from destseg_lib import DeSTSegError, cli
from destseg_lib.files.outputs import LIST, outputs, read_list

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(os.name != "posix", reason="links, pipes and devices are POSIX's"),
]


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return category(tmp_path_factory.mktemp("data") / "tile", good=2)


@pytest.fixture(scope="module")
def run(tile: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert cli.main(training(tile, out)) == 0
    return out


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for n in range(2):
        photograph(tmp_path / "a" / f"{n:03d}.png", np.random.default_rng(n))
    return tmp_path / "a"


def contents(*folders: Path) -> dict[Path, bytes | str]:
    """Every file and link below some folders."""
    return {
        path: str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def predict(run: Path, *arguments: Path | str) -> int:
    return cli.main(["predict", *map(str, arguments), "--run", str(run), "--quiet"])


def evaluate(run: Path, data: Path, *arguments: Path | str) -> int:
    command = ["evaluate", "--run", str(run), "--data", str(data), *map(str, arguments), "--quiet"]
    return cli.main(command)


# The rule


def test_a_listed_file_may_be_replaced_until_somebody_changes_it(tmp_path: Path) -> None:
    made = outputs(tmp_path, ["a"], (), by="test")
    made.prepare()
    made.write("a", lambda file: file.write(b"first"))
    made.write("a", lambda file: file.write(b"second"))
    again = outputs(tmp_path, ["a"], (), by="test")
    again.write("a", lambda file: file.write(b"first"))
    (tmp_path / "a").write_bytes(b"mine!")  # of the same size
    for use in (lambda: again.check(["a"]), lambda: outputs(tmp_path, ["a"], (), by="test")):
        with pytest.raises(DeSTSegError, match=r"a is there already.*version 0\.1 kept no list"):
            use()
    with pytest.raises(DeSTSegError, match="there already"):
        again.write("a", lambda file: file.write(b"third"))
    assert contents(tmp_path)[tmp_path / "a"] == b"mine!"
    outputs(tmp_path, ["a"], (), by="test", overwrite=True).write("a", lambda f: f.write(b"4th"))
    assert (tmp_path / "a").read_bytes() == b"4th"


@pytest.mark.parametrize("kind", ["link", "hard link", "itself", "other case"])
def test_an_input_is_never_written_over(tmp_path: Path, kind: str) -> None:
    photo, target = tmp_path / "in" / "a.png", tmp_path / "out" / "a.png"
    photo.parent.mkdir()
    photo.write_bytes(b"photograph")
    target.parent.mkdir()
    if kind == "link":
        target.symlink_to(photo)
    elif kind == "hard link":
        os.link(photo, target)
    elif kind == "itself":
        target = photo
    else:
        target = photo.with_name("A.PNG")
        if not target.exists():
            os.link(photo, target)  # to be seen on a file system that tells them apart, too
    with pytest.raises(DeSTSegError, match="is a file that this command reads"):
        outputs(target.parent, [target.name], [photo], by="test", overwrite=True)
    assert photo.read_bytes() == b"photograph"


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_file_that_appears_at_the_last_moment_is_kept(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the last check and its place: a renamed file would replace it."""
    made = outputs(tmp_path, ["a", "b"], (), by="test")
    made.prepare()
    link = os.link

    def late(whole: Path, path: Path) -> None:
        if not links:
            raise OSError(errno.EOPNOTSUPP, "not supported")
        if path.name == "a":
            path.write_bytes(b"mine")
        link(whole, path)

    monkeypatch.setattr(os, "link", late)
    made.write("b", lambda file: file.write(b"new"))
    assert (tmp_path / "b").read_bytes() == b"new"
    if links:
        with pytest.raises(DeSTSegError, match="a is there already"):
            made.write("a", lambda file: file.write(b"new"))
        assert (tmp_path / "a").read_bytes() == b"mine"
    assert not list(tmp_path.glob("*.partial"))


def test_a_file_that_appears_during_the_work_is_kept(tmp_path: Path) -> None:
    made = outputs(tmp_path, ["a"], (), by="test")
    (tmp_path / "a").write_bytes(b"mine")
    with pytest.raises(DeSTSegError, match="a is there already"):
        made.write("a", lambda file: file.write(b"theirs"))
    assert contents(tmp_path)[tmp_path / "a"] == b"mine"


def test_a_list_that_was_cut_short_or_has_grown_is_tidied(tmp_path: Path) -> None:
    made = outputs(tmp_path, ["a"], (), by="test")
    for n in range(150):
        made.write("a", lambda file, n=n: file.write(b"%d" % n), sync=False)  # type: ignore[misc]
    with (tmp_path / LIST).open("ab") as file:
        file.write(b'{"file": "a", "si')
    again = outputs(tmp_path, ["a"], (), by="test")
    again.prepare()
    assert len((tmp_path / LIST).read_text().splitlines()) == 1
    for n in (0, 149):  # what was dropped from the list is listed again
        again.write("a", lambda file, n=n: file.write(b"%d" % n))  # type: ignore[misc]
        outputs(tmp_path, ["a"], (), by="test")


@pytest.mark.parametrize("kind", ["photograph", "link", "folder", "other JSON", "text"])
def test_something_else_of_the_lists_name_is_refused(tmp_path: Path, kind: str) -> None:
    path, photo = tmp_path / LIST, tmp_path / "a.png"
    photo.write_bytes(b"\x89PNG\n\n")
    if kind == "photograph":
        photo.rename(path)
    elif kind == "link":
        path.symlink_to(photo)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text("[]\n" if kind == "other JSON" else "mine")
    with pytest.raises(DeSTSegError, match="is not a list of files that destseg wrote"):
        read_list(tmp_path)


def test_a_list_says_what_was_written_in_a_form_that_others_can_read(
    run: Path, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert predict(run, photographs, "--out", out) == 0
    listed = [json.loads(line) for line in (out / LIST).read_text().splitlines()]
    for name in ("scores.json", "000.png"):
        told = subprocess.run(["sha256sum", out / name], capture_output=True, text=True, check=True)
        size = (out / name).stat().st_size
        entry = {"file": name, "size": size, "sha256": told.stdout.split()[0], "by": "predict"}
        assert entry in listed


# predict


def test_predict_into_a_link_to_the_photographs_is_refused(
    run: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = photographs.with_name("link")
    link.symlink_to(photographs)
    before = contents(photographs)
    for more in ((), ("--overwrite",)):
        assert predict(run, photographs, "--out", link, *more) == 2
        assert "where the overlays go" in capsys.readouterr().err
    assert contents(photographs) == before


def test_predict_here_into_the_same_folder_by_its_full_name_is_refused(
    run: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photographs)
    before = contents(photographs)
    assert predict(run, ".", "--out", "../a") == 2
    assert predict(run, "000.png", "--out", photographs) == 2
    assert contents(photographs) == before


def test_predict_on_links_into_the_output_is_refused(
    run: Path, photographs: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for path in photographs.iterdir():
        (links / path.name).symlink_to(path)
    before = contents(tmp_path)
    assert predict(run, links, "--out", photographs) == 2
    assert predict(run, links, "--out", photographs, "--overwrite") == 2
    assert contents(tmp_path) == before


def test_predict_does_not_replace_a_photograph_that_is_no_input(
    run: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photographs / "today").mkdir()
    photograph(photographs / "today" / "000.png", np.random.default_rng(9))
    before = contents(photographs)
    assert predict(run, photographs / "today", "--out", photographs) == 2
    message = capsys.readouterr().err
    assert f"{photographs / '000.png'} is there already" in message and "--overwrite" in message
    assert contents(photographs) == before
    assert predict(run, photographs / "today", "--out", photographs, "--overwrite") == 0
    assert (photographs / "000.png").read_bytes() != before[photographs / "000.png"]
    assert (photographs / "001.png").read_bytes() == before[photographs / "001.png"]


def test_predict_again_replaces_its_own_files_and_a_folder_of_01_is_refused(
    run: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        assert predict(run, photographs, "--out", out) == 0
    (out / LIST).unlink()
    capsys.readouterr()
    assert predict(run, photographs, "--out", out) == 2
    assert "version 0.1 kept no list" in capsys.readouterr().err
    assert predict(run, photographs, "--out", out, "--overwrite") == 0


def test_predict_leaves_out_what_is_no_photograph(
    run: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = photographs / "found"
    assert predict(run, photographs, "--out", out) == 0
    shutil.copytree(photographs / "found", photographs / "@eaDir" / "000.png")
    shutil.copytree(photographs / "found", photographs / "__MACOSX")
    for folder in ("@eaDir/000.png", "__MACOSX"):
        (photographs / folder / LIST).unlink()
    (photographs / "._000.png").write_bytes(b"of macOS")
    shutil.copy(photographs / "000.png", out / "new.png")  # somebody keeps a photograph there
    capsys.readouterr()
    assert predict(run, photographs, "--out", photographs.with_name("out")) == 0
    printed = capsys.readouterr().out
    assert f"left out 2 of {out}: pictures that 'destseg predict' wrote" in printed
    assert "thumbnails in @eaDir" in printed and "thumbnails in __MACOSX" in printed
    rows = json.loads((photographs.with_name("out") / "scores.json").read_text())
    assert {Path(row["path"]).name for row in rows} == {"000.png", "001.png", "new.png"}
    (out / "new.png").unlink()
    assert predict(run, out, "--out", photographs.with_name("out2")) == 2
    assert "holds no photographs, only pictures that" in capsys.readouterr().err


def test_photographs_of_one_name_in_several_folders_are_all_kept_apart(
    run: Path, tmp_path: Path
) -> None:
    for n, place in enumerate(("a/x.png", "b/x.png", "b/x.jpg", "c/b/x.png")):
        photograph(tmp_path / place, np.random.default_rng(n))
    folders = [tmp_path / name for name in "abc"]
    assert predict(run, *folders, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


# evaluate


def test_evaluate_does_not_draw_over_a_photograph(
    run: Path, tile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "album" / "tile.png"
    photograph(photo, np.random.default_rng(0))
    before = photo.read_bytes()
    assert evaluate(run, tile, "--figures", photo.parent) == 2
    assert f"{photo} is there already" in capsys.readouterr().err
    assert photo.read_bytes() == before
    assert evaluate(run, tile, "--figures", tile) == 2
    assert "choose another --figures" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_again_replaces_its_own_figures(run: Path, tile: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert evaluate(run, tile, "--figures", tmp_path) == 0
    assert read_list(tmp_path)


@pytest.mark.parametrize("target", ["test/good/0.png", "ground_truth/scratch/0_mask.png"])
@pytest.mark.parametrize("kind", ["itself", "link", "hard link"])
def test_evaluate_writes_no_metrics_over_an_input(
    run: Path, tile: Path, tmp_path: Path, target: str, kind: str
) -> None:
    photo, file = tile / target, tmp_path / "metrics.json"
    before = photo.read_bytes()
    if kind == "itself":
        file = photo
    elif kind == "link":
        file.symlink_to(photo)
    else:
        os.link(photo, file)
    assert evaluate(run, tile, "--json", file, "--overwrite") == 2
    assert photo.read_bytes() == before


def test_evaluate_writes_no_metrics_over_the_run_or_another_file_of_the_data(
    run: Path, tile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("destseg_lib.evaluation.evaluate.evaluate_category", fail)
    data = shutil.copytree(tile, tmp_path / "tile")
    (data / "notes.json").write_text("mine")
    (tmp_path / "link").symlink_to(data)
    for file in (run / "config.json", data / "notes.json", tmp_path / "link" / "notes.json"):
        before = file.read_bytes()
        assert evaluate(run, data, "--json", file) == 2
        assert file.read_bytes() == before


def test_a_named_file_is_replaced_and_a_link_is_followed(
    run: Path, tile: Path, tmp_path: Path
) -> None:
    file, link = tmp_path / "real" / "metrics.json", tmp_path / "link.json"
    file.parent.mkdir()
    file.write_text("old")
    link.symlink_to(file)
    assert evaluate(run, tile, "--json", link) == 0
    assert link.is_symlink() and "image_auroc" in json.loads(file.read_text())
    assert list(file.parent.iterdir()) == [file]


def test_metrics_go_through_a_pipe_and_to_a_device(run: Path, tile: Path, tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_text()))
    reader.start()
    assert evaluate(run, tile, "--json", pipe) == 0
    reader.join(timeout=30)
    assert "image_auroc" in json.loads(got[0]) and pipe.is_fifo()
    if Path("/dev/full").exists():
        assert evaluate(run, tile, "--json", "/dev/full") == 2


@pytest.mark.slow
@pytest.mark.parametrize("redirected", [False, True])
def test_metrics_to_standard_output_join_what_is_printed(
    run: Path, tile: Path, tmp_path: Path, redirected: bool
) -> None:
    command = [sys.executable, "-m", "destseg_lib.cli", "evaluate", "--run", run, "--data", tile]
    command += ["--json", "/dev/stdout", "--quiet"]
    file = tmp_path / "output"
    with file.open("wb") as opened:
        stdout = opened if redirected else subprocess.PIPE
        done = subprocess.run(command, stdout=stdout, check=True)
    text = file.read_text() if redirected else done.stdout.decode()
    assert text.startswith("mode: ") and text.index('"image_auroc"') < text.index("image AUROC")


# train


def test_train_keeps_files_that_only_look_like_its_own(tile: Path, tmp_path: Path) -> None:
    for name in ("setup.exe.partial", "model.safetensors.1a2b3c4d.partial", "photo.png"):
        (tmp_path / name).write_bytes(b"mine")
    before = contents(tmp_path)
    assert cli.main(training(tile, tmp_path)) == 0
    assert contents(tmp_path).items() >= before.items()


def test_train_does_not_replace_a_users_teacher(
    tile: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = tmp_path / "teacher.safetensors"
    shutil.copy(run / teacher.name, teacher)
    before = teacher.read_bytes()
    assert cli.main([*training(tile, tmp_path), "--teacher", str(teacher)]) == 2
    message = capsys.readouterr().err
    assert f"{teacher} is there already" in message and "--overwrite" not in message
    assert contents(tmp_path) == {teacher: before}


@pytest.mark.parametrize("place", ["run", ".", "train/good/run", "link"])
def test_a_run_in_the_folder_of_its_images_is_refused_before_training(
    place: str,
    tile: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("destseg_lib.cli.train.train_and_calibrate", fail)
    (tmp_path / "link").symlink_to(tile)
    out = tmp_path / "link" / "run" if place == "link" else tile / place
    before = contents(tile)
    assert cli.main(training(tile, out)) == 2
    assert "taken for a part of the images; choose another --out" in capsys.readouterr().err
    assert contents(tile) == before


# Drawn, or only called like it


def test_evaluate_measures_no_drawn_images_for_a_run_on_photographs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(training(category(tmp_path / "mine" / "metal", good=2), Path("run"))) == 0
    assert cli.main(["evaluate", "--run", "run", "--quiet"]) == 2
    message = capsys.readouterr().err
    assert "metal was trained on photographs; give --data DIR" in message
    assert not Path("data").exists(), "nothing was drawn"
    described = json.loads(Path("run/config.json").read_text())
    del described["inputs"]["drawn"]  # as version 0.1 wrote it
    Path("run/config.json").write_text(json.dumps(described))
    assert cli.main(["evaluate", "--run", "run", "--quiet"]) == 2
    assert "version 0.1 did not note it" in capsys.readouterr().err
    assert evaluate(Path("run"), Path("mine/metal")) == 0


@pytest.mark.slow
def test_evaluate_finds_the_drawn_images_that_a_run_was_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few = {"version": 1, "size": 32, "seed": 0, "train": 2, "good": 1, "defective": 1}
    draw = ["make-data", "metal", "--size", "32", "--train", "2", "--good", "1", "--defective", "1"]
    assert cli.main([*draw, "--quiet"]) == 0
    assert cli.main(training(Path("data/world/metal"), Path("run"))) == 0
    assert cli.main(["evaluate", "--run", "run", "--quiet"]) == 2
    assert "drawn with other settings" in capsys.readouterr().err
    monkeypatch.setattr("destseg_lib.cli.options.default_settings", lambda: few)
    monkeypatch.setattr(
        "destseg_lib.cli.options.write_category", lambda name, world, **_: world / name
    )
    assert cli.main(["evaluate", "--run", "run", "--quiet"]) == 0


# Studies


def study_file(folder: Path, data: Path) -> Path:
    file = folder / "small.toml"
    settings = {"image_size": 32, "batch_size": 2, "model.width": 0.0625, "precision": "fp32"}
    settings |= {"student.steps": 1, "segmentation.steps": 1, "teacher": "random"}
    lines = "\n".join(f'"{key}" = {json.dumps(value)}' for key, value in settings.items())
    file.write_text(
        f'categories = ["{data}"]\nseeds = [0]\n[settings]\n{lines}\n[variants.whole]\n'
        "[variants.without]\nl1 = false\n"
    )
    return file


@pytest.mark.parametrize("name", ["study.json", "records.jsonl", ".lock"])
def test_a_study_is_not_begun_among_a_users_files(name: str, tile: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    command = ["study", "run", str(study_file(tmp_path, tile)), "--out", str(out), "--quiet"]
    assert cli.main(command) == 2
    assert contents(out)[out / name] == b"mine"
    assert cli.main([*command[:-2], str(tile / "study"), "--quiet"]) == 2
    assert not (tile / "study").exists()


@pytest.mark.slow
def test_a_report_replaces_only_an_earlier_report(
    tile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run = ["study", "run", str(study_file(tmp_path, tile)), "--out", str(out), "--device", "cpu"]
    assert cli.main([*run, "--quiet"]) == 0
    report = ["study", "report", str(out)]
    for _ in range(2):
        assert cli.main(report) == 0
    (out / "report" / "report.md").write_text("with my own remarks")
    before = contents(out)
    assert cli.main(report) == 2
    assert "report.md is there already" in capsys.readouterr().err
    assert contents(out) == before
    assert cli.main([*report, "--overwrite"]) == 0
