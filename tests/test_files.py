"""Files are whole or not there; a line that a kill cut short costs no other line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import IO

import pytest

from destseg_lib.errors import DeSTSegError
from destseg_lib.files import (
    append_json_line,
    read_json,
    read_json_lines,
    remove_partial_files,
    write_json,
    write_whole,
)


@pytest.mark.skipif(os.name != "posix", reason="an open file may be replaced on POSIX only")
def test_while_a_file_is_written_the_old_one_is_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, lambda file: file.write(b"old"))

    def write(file: IO[bytes]) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    with path.open("rb") as reader:
        write_whole(path, write)
        assert reader.read() == b"old", "the new file replaces the old; it is not written into it"
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            DeSTSegError,
            r"file could not be written \(.*No space.*previous file is kept",
        ),
        (RuntimeError("unexpected pos 64"), DeSTSegError, "unexpected pos 64.*Free some space"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
    ids=["disk full", "torch's error of a full disk", "interrupted"],
)
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, error: BaseException, raised: type[BaseException], message: str | None
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file: IO[bytes]) -> None:
        file.write(b"half of the ne")
        raise error

    with pytest.raises(raised, match=message):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_not_there_is_an_error_that_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeSTSegError, match=r"could not be written.*nothing was kept.*Free some"):
        write_whole(tmp_path / "nowhere" / "file", lambda file: file.write(b"new"))


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_file_gets_the_mode_that_any_new_file_would_get(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "plain").write_bytes(b"")
        write_whole(tmp_path / "ours", lambda file: file.write(b""))
    finally:
        os.umask(before)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_comes_back_and_what_is_not_json_replaces_nothing(tmp_path: Path) -> None:
    path, values = tmp_path / "values.json", {"a": [1, 0.1, None], "b": "ü"}
    write_json(path, values)
    assert read_json(path) == values == json.loads(path.read_text())
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == values


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_json_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DeSTSegError, match=r"config\.json could not be read.*destseg train --out"):
        read_json(path)


def test_only_partial_files_of_this_library_are_removed(tmp_path: Path) -> None:
    others = {"checkpoint.pt", "partial", "setup.exe.partial", "video.mp4.1a2b3c4d.partial"}
    for name in others:
        (tmp_path / name).touch()
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "checkpoint.pt", lambda file: killed(tmp_path))
    remove_partial_files(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == others


def killed(folder: Path) -> None:
    """Leave a second link to the file that is being written, as a kill would leave the file."""
    (partial,) = folder.glob("checkpoint.pt.*")
    os.link(partial, partial.with_name(partial.name.replace("checkpoint", "copy")))
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["ü" * 127, "x" * 255])
def test_a_name_may_be_as_long_as_the_system_lets_it(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, lambda file: file.write(b"new"))
    assert (tmp_path / name).read_bytes() == b"new"


@pytest.mark.parametrize("cut", [b"", b'{"step": 2', b"\xff\0\0", b'{"step": 2}'])
def test_a_line_that_a_kill_cut_short_is_dropped_and_costs_no_other_line(
    tmp_path: Path, cut: bytes
) -> None:
    path = tmp_path / "log.jsonl"
    assert read_json_lines(path) == []
    append_json_line(path, {"step": 1})
    whole = path.read_bytes()
    path.write_bytes(whole + cut)
    assert read_json_lines(path) == [{"step": 1}]
    append_json_line(path, {"step": 3})
    assert path.read_bytes() == whole + b'{"step": 3}\n'


def test_a_damaged_line_is_named_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(DeSTSegError, match=r"log\.jsonl, line 2 is not a record; remove the line"):
        read_json_lines(path)


def test_an_appended_line_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, sync, seen = tmp_path / "log.jsonl", os.fsync, []

    def spy(descriptor: int) -> None:
        sync(descriptor)
        seen.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", spy)
    append_json_line(path, 1)
    assert seen == [b"1\n"]


def test_a_full_disk_under_an_appended_line_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeSTSegError, match=r"log\.jsonl could not be written.*No space.*--resume"):
        append_json_line(tmp_path / "log.jsonl", 1)
