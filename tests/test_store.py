"""Images decoded once: in memory and in a file, whole and interrupted, readable and not."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image

from destseg_lib.errors import DeSTSegError
from destseg_lib.images import cache, decoding
from destseg_lib.images.folders import read_image
from destseg_lib.images.load import load_images

SIZE = 8


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Forty small pictures, no two alike."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    found = [folder / f"{index:02}.png" for index in range(40)]
    for path in found:
        Image.fromarray(rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(path)
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files decoded, in chunks of ten images by two workers."""
    names: list[str] = []

    def counting(path: Path, size: int) -> np.ndarray:
        names.append(path.name)
        return read_image(path, size)

    monkeypatch.setattr(decoding, "read_image", counting)
    monkeypatch.setattr(decoding, "_CHUNK_BYTES", 10 * SIZE * SIZE * 3)
    monkeypatch.setattr(decoding, "_WORKERS", 2)
    return names


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make decoding fail at one file with what is no fault of the file."""
    counting = decoding.read_image

    def stopping(path: Path, size: int) -> np.ndarray:
        if path.name == name:
            raise KeyboardInterrupt
        return counting(path, size)

    monkeypatch.setattr(decoding, "read_image", stopping)


def to_disk(paths: list[Path], folder: Path, **options: bool) -> np.ndarray:
    return load_images(
        paths, SIZE, cache_dir=folder, memory_share=0, progress=False, **options
    ).pixels


def test_images_are_decoded_in_order(paths: list[Path], decoded: list[str]) -> None:
    images = load_images(paths[::-1], SIZE, progress=False)
    assert len(images) == 40
    assert images.paths == tuple(paths[::-1])
    assert images.skipped == ()
    assert images.pixels.dtype == np.uint8
    assert not isinstance(images.pixels, np.memmap)
    expected = np.stack([read_image(path, SIZE) for path in paths[::-1]])
    np.testing.assert_array_equal(images.pixels, expected)
    assert sorted(decoded) == [path.name for path in paths]


def test_memory_and_file_hold_the_same(paths: list[Path], tmp_path: Path) -> None:
    memory = load_images(paths, SIZE, progress=False)
    pixels = to_disk(paths, tmp_path / "cache")
    assert isinstance(pixels, np.memmap)
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(pixels, memory.pixels)


def test_the_file_is_taken_as_soon_as_memory_is_short(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 40 * SIZE * SIZE * 3
    for available, kind in ((4 * needed, np.ndarray), (4 * needed - 4, np.memmap)):
        monkeypatch.setattr(
            psutil, "virtual_memory", lambda free=available: SimpleNamespace(available=free)
        )
        images = load_images(paths, SIZE, cache_dir=tmp_path / "cache", progress=False)
        assert type(images.pixels) is kind


def test_an_unchanged_file_is_reused(paths: list[Path], tmp_path: Path, decoded: list[str]) -> None:
    first = to_disk(paths, tmp_path / "cache")
    assert len(decoded) == 40
    again = to_disk(paths, tmp_path / "cache")
    assert len(decoded) == 40
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("change", ["content", "order", "size", "folder"])
def test_what_changed_is_decoded_anew(
    paths: list[Path], tmp_path: Path, decoded: list[str], change: str
) -> None:
    to_disk(paths, tmp_path / "cache")
    size = SIZE
    match change:
        case "content":
            Image.new("RGB", (12, 10), "red").save(paths[3])
        case "order":
            paths = paths[::-1]
        case "size":
            size = 4
        case "folder":
            moved = paths[0].parent.rename(tmp_path / "moved")
            paths = [moved / path.name for path in paths]
    images = load_images(paths, size, cache_dir=tmp_path / "cache", memory_share=0, progress=False)
    assert len(decoded) == 80
    expected = np.stack([read_image(path, size) for path in paths])
    np.testing.assert_array_equal(images.pixels, expected)


def test_an_interrupted_decoding_resumes(
    paths: list[Path], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cache"
    with monkeypatch.context() as patch:
        stop_at(patch, "25.png")
        with pytest.raises(KeyboardInterrupt):
            to_disk(paths, folder)
    assert not list(folder.glob("*.npy")), "half a file must not pass for a whole one"
    decoded.clear()
    pixels = to_disk(paths, folder)
    assert sorted(decoded) == [path.name for path in paths[20:]]  # two chunks of ten were kept
    np.testing.assert_array_equal(pixels, np.stack([read_image(p, SIZE) for p in paths]))
    assert not list(folder.glob("*.partial"))


def test_data_behind_the_noted_progress_is_written_again(
    paths: list[Path], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the power fails between a chunk's data and its note."""
    folder = tmp_path / "cache"
    with monkeypatch.context() as patch:
        stop_at(patch, "25.png")
        with pytest.raises(KeyboardInterrupt):
            to_disk(paths, folder)
    (partial,) = folder.glob("*.partial")
    with partial.open("ab") as file:
        file.write(b"\xff" * 700)
    pixels = to_disk(paths, folder)
    np.testing.assert_array_equal(pixels, np.stack([read_image(p, SIZE) for p in paths]))


@pytest.mark.parametrize("loss", ["note", "garbled note", "partial", "short partial", "whole"])
def test_a_damaged_store_is_made_anew(
    paths: list[Path],
    tmp_path: Path,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
    loss: str,
) -> None:
    folder = tmp_path / "cache"
    if loss == "whole":
        to_disk(paths, folder)
        (whole,) = folder.glob("*.npy")
        whole.write_bytes(whole.read_bytes()[:-1])
    else:
        with monkeypatch.context() as patch:
            stop_at(patch, "25.png")
            with pytest.raises(KeyboardInterrupt):
                to_disk(paths, folder)
        (note,), (partial,) = folder.glob("*.json"), folder.glob("*.partial")
        match loss:
            case "note":
                note.unlink()
            case "garbled note":
                note.write_text('{"done": ')
            case "partial":
                partial.unlink()
            case "short partial":
                partial.write_bytes(partial.read_bytes()[:200])
    decoded.clear()
    pixels = to_disk(paths, folder)
    assert len(decoded) == 40
    np.testing.assert_array_equal(pixels, np.stack([read_image(p, SIZE) for p in paths]))


@pytest.mark.parametrize("share", [0, 1])
def test_an_unreadable_file_stops_the_loading(
    paths: list[Path], tmp_path: Path, share: float
) -> None:
    paths[7].write_text("no image")
    with pytest.raises(DeSTSegError, match=r"07\.png cannot be decoded"):
        load_images(paths, SIZE, cache_dir=tmp_path / "cache", memory_share=share, progress=False)


@pytest.mark.parametrize("share", [0, 1])
def test_unreadable_files_are_skipped_on_demand_and_listed(
    paths: list[Path], tmp_path: Path, share: float, decoded: list[str]
) -> None:
    for index in (0, 7, 39):
        paths[index].write_text("no image")
    good = [path for index, path in enumerate(paths) if index not in (0, 7, 39)]
    for _ in range(2):  # the second time from the file
        images = load_images(
            paths, SIZE, cache_dir=tmp_path / "cache", memory_share=share,
            skip_unreadable=True, progress=False,
        )  # fmt: skip
        assert len(images) == 37
        assert images.paths == tuple(good)
        assert [path for path, _ in images.skipped] == [paths[0], paths[7], paths[39]]
        assert all("cannot be decoded" in reason for _, reason in images.skipped)
        expected = np.stack([read_image(path, SIZE) for path in good])
        np.testing.assert_array_equal(images.pixels, expected)
    assert len(decoded) == (40 if share == 0 else 80)


def test_resuming_after_skipped_files_keeps_rows_and_paths_together(
    paths: list[Path], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in (2, 13, 30):
        paths[index].write_text("no image")
    with monkeypatch.context() as patch:
        stop_at(patch, "25.png")
        with pytest.raises(KeyboardInterrupt):
            to_disk(paths, tmp_path / "cache", skip_unreadable=True)
    images = load_images(
        paths, SIZE, cache_dir=tmp_path / "cache", memory_share=0,
        skip_unreadable=True, progress=False,
    )  # fmt: skip
    expected = np.stack([read_image(path, SIZE) for path in images.paths])
    np.testing.assert_array_equal(images.pixels, expected)
    assert [path for path, _ in images.skipped] == [paths[2], paths[13], paths[30]]


def test_what_was_skipped_once_is_not_skipped_silently_later(
    paths: list[Path], tmp_path: Path
) -> None:
    good = paths[7].read_bytes()
    paths[7].write_bytes(b"x" * len(good))
    status = paths[7].stat()
    to_disk(paths, tmp_path / "cache", skip_unreadable=True)
    with pytest.raises(DeSTSegError, match=r"07\.png cannot be decoded"):
        to_disk(paths, tmp_path / "cache")
    # Mended without a change of size or date, as when only the right to read was missing.
    paths[7].write_bytes(good)
    os.utime(paths[7], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(to_disk(paths, tmp_path / "cache")) == 40


@pytest.mark.parametrize("share", [0, 1])
def test_nothing_readable_is_an_error(paths: list[Path], tmp_path: Path, share: float) -> None:
    for path in paths:
        path.write_text("no image")
    with pytest.raises(DeSTSegError, match=r"None of the 40 images can be read.*00\.png"):
        load_images(
            paths, SIZE, cache_dir=tmp_path / "cache", memory_share=share,
            skip_unreadable=True, progress=False,
        )  # fmt: skip


def test_nothing_to_load_and_a_wrong_size_are_errors(paths: list[Path]) -> None:
    with pytest.raises(DeSTSegError, match="no images to load"):
        load_images([], SIZE)
    with pytest.raises(DeSTSegError, match="image size is 0"):
        load_images(paths, 0)


def test_a_full_disk_is_told_before_decoding(
    paths: list[Path], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=7679))
    with pytest.raises(DeSTSegError, match=r"need 0\.0 GB in .*cache, which has 0\.0 GB free"):
        to_disk(paths, tmp_path / "cache")
    assert decoded == []
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=7680))
    assert len(to_disk(paths, tmp_path / "cache")) == 40


def test_a_disk_that_fills_up_midway_keeps_what_is_done(
    paths: list[Path], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync: Callable[[int], None] = os.fsync
    calls = iter((False, False, True))

    def fsync(file: int) -> None:
        if next(calls):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DeSTSegError, match=r"cannot be kept in .*cache: .*No space left"):
            to_disk(paths, tmp_path / "cache")
    decoded.clear()
    pixels = to_disk(paths, tmp_path / "cache")
    assert len(decoded) == 20
    np.testing.assert_array_equal(pixels, np.stack([read_image(p, SIZE) for p in paths]))


def test_a_cache_folder_that_is_a_file_is_named(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(DeSTSegError, match=r"cannot be kept in .*cache: .*another cache folder"):
        to_disk(paths, tmp_path / "cache")


def test_runs_at_the_same_time_decode_once(
    paths: list[Path], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = decoding.read_image

    def slow(path: Path, size: int) -> np.ndarray:
        time.sleep(0.04)
        return counting(path, size)

    monkeypatch.setattr(decoding, "read_image", slow)
    results: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: results.append(to_disk(paths, tmp_path / "cache")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 40
    np.testing.assert_array_equal(results[0], results[1])


def test_the_number_of_images_in_flight_is_bounded(
    paths: list[Path], tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory while decoding to a file is one chunk, however many images there are."""
    ahead: list[int] = []
    save_note = cache._save_note

    def noting(note: Path, state: decoding.Progress) -> None:
        ahead.append(len(decoded) - state.done)
        save_note(note, state)

    monkeypatch.setattr(cache, "_save_note", noting)
    to_disk(paths, tmp_path / "cache")
    assert ahead == [0, 0, 0, 0]


def test_progress_is_shown_and_counts_what_was_resumed(
    paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        load_images(paths, SIZE, cache_dir=tmp_path / "cache", memory_share=0, description="tiles")
        shown = capsys.readouterr().err
        assert "tiles" in shown
        assert "40/40" in shown
    load_images(paths, SIZE, progress=False)
    assert capsys.readouterr().err == ""
