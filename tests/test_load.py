"""Images decoded once: in memory and in a file, whole and interrupted, readable and not."""

from __future__ import annotations

import errno
import functools
import os
import resource
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
from destseg_lib.images import load
from destseg_lib.images.load import decode_files, load_images
from destseg_lib.images.read import read_image

SIZE = 8
UNREADABLE = (0, 7, 39)  # unreadable in some tests: at the start, in between and at the end


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

    def counting(path: Path, *how: int) -> np.ndarray:
        names.append(path.name)
        return read_image(path, *how)

    monkeypatch.setattr(load, "read_image", counting)
    monkeypatch.setattr(load, "_CHUNK_BYTES", 10 * SIZE * SIZE * 3)
    monkeypatch.setattr(load, "_WORKERS", 2)
    return names


@pytest.fixture
def to_disk(tmp_path: Path) -> Callable[..., load.ImageSet]:
    """``load_images`` into a file below the test's folder."""
    return functools.partial(
        load_images, size=SIZE, cache_dir=tmp_path / "cache", memory_share=0, progress=False
    )


@pytest.fixture
def interrupt(to_disk: Callable[..., load.ImageSet], monkeypatch: pytest.MonkeyPatch):
    """Load images and interrupt the decoding at file 25: two chunks of ten are in the file."""

    def run(paths: list[Path], **options: bool) -> None:
        counting = load.read_image

        def stopping(path: Path, *how: int) -> np.ndarray:
            if path.name == "25.png":
                raise KeyboardInterrupt
            return counting(path, *how)

        with monkeypatch.context() as patch:
            patch.setattr(load, "read_image", stopping)
            with pytest.raises(KeyboardInterrupt):
                to_disk(paths, **options)

    return run


def spoil(paths: list[Path], *indices: int) -> None:
    for index in indices:
        paths[index].write_text("no image")


def assert_pixels(images: load.ImageSet, paths: list[Path], size: int = SIZE) -> None:
    assert images.paths == tuple(paths)
    np.testing.assert_array_equal(images.pixels, np.stack([read_image(p, size) for p in paths]))


def test_memory_and_file_hold_the_images_in_order(paths, decoded, to_disk) -> None:
    images = load_images(paths[::-1], SIZE, progress=False)
    assert (len(images), images.skipped, images.pixels.dtype) == (40, (), np.uint8)
    assert not isinstance(images.pixels, np.memmap)
    assert_pixels(images, paths[::-1])
    assert sorted(decoded) == [path.name for path in paths]
    kept = to_disk(paths[::-1])
    assert isinstance(kept.pixels, np.memmap)
    assert not kept.pixels.flags.writeable
    assert_pixels(kept, paths[::-1])


def test_the_file_is_taken_as_soon_as_memory_is_short(paths, tmp_path, monkeypatch) -> None:
    needed = 40 * SIZE * SIZE * 3
    for available, kind in ((4 * needed, np.ndarray), (4 * needed - 4, np.memmap)):
        monkeypatch.setattr(
            psutil, "virtual_memory", lambda free=available: SimpleNamespace(available=free)
        )
        images = load_images(paths, SIZE, cache_dir=tmp_path / "cache", progress=False)
        assert type(images.pixels) is kind


@pytest.mark.parametrize("change", ["nothing", "content", "order", "size", "folder"])
def test_only_what_changed_is_decoded_again(paths, tmp_path, decoded, to_disk, change) -> None:
    to_disk(paths)
    size = 4 if change == "size" else SIZE
    match change:
        case "content":
            Image.new("RGB", (12, 10), "red").save(paths[3])
        case "order":
            paths = paths[::-1]
        case "folder":
            moved = paths[0].parent.rename(tmp_path / "moved")
            paths = [moved / path.name for path in paths]
    assert_pixels(to_disk(paths, size=size), paths, size)
    assert len(decoded) == (40 if change == "nothing" else 80)


def test_an_interrupted_decoding_is_continued(paths, tmp_path, decoded, to_disk, interrupt) -> None:
    interrupt(paths)
    assert not list(tmp_path.glob("cache/*.npy")), "half a file must not pass for a whole one"
    # As when the power fails between a chunk's data and its note.
    (partial,) = tmp_path.glob("cache/*.partial")
    with partial.open("r+b") as file:
        file.seek(-20 * SIZE * SIZE * 3, os.SEEK_END)
        file.write(b"\xff" * 700)
    decoded.clear()
    assert_pixels(to_disk(paths), paths)
    assert sorted(decoded) == [path.name for path in paths[20:]]
    assert not list(tmp_path.glob("cache/*.partial"))


@pytest.mark.parametrize("loss", ["note", "garbled note", "partial", "short partial", "whole"])
def test_a_damaged_file_is_made_again(paths, tmp_path, decoded, to_disk, interrupt, loss) -> None:
    if loss == "whole":
        to_disk(paths)
        (whole,) = tmp_path.glob("cache/*.npy")
        whole.write_bytes(whole.read_bytes()[:-1])
    else:
        interrupt(paths)
        (note,), (partial,) = tmp_path.glob("cache/*.json"), tmp_path.glob("cache/*.partial")
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
    assert_pixels(to_disk(paths), paths)
    assert len(decoded) == 40


@pytest.mark.parametrize("share", [0, 1])
def test_unreadable_files_are_refused_or_skipped_and_listed(paths, decoded, to_disk, share) -> None:
    spoil(paths, *UNREADABLE)
    for _ in range(2):  # the second time from the file
        images = to_disk(paths, memory_share=share, skip_unreadable=True)
        assert_pixels(images, [path for index, path in enumerate(paths) if index not in UNREADABLE])
        assert [path for path, _ in images.skipped] == [paths[index] for index in UNREADABLE]
        assert all("cannot be decoded" in reason for _, reason in images.skipped)
    # What could not be read is tried again.
    assert len(decoded) == (43 if share == 0 else 80)
    with pytest.raises(DeSTSegError, match=r"00\.png cannot be decoded"):
        to_disk(paths, memory_share=share)
    spoil(paths, *range(40))
    with pytest.raises(DeSTSegError, match=r"None of the 40 images can be read.*00\.png"):
        to_disk(paths, memory_share=share, skip_unreadable=True)


def test_continuing_after_skipped_files_keeps_rows_and_paths_together(
    paths, decoded, to_disk, interrupt
) -> None:
    spoil(paths, 2, 13, 30)
    interrupt(paths, skip_unreadable=True)
    images = to_disk(paths, skip_unreadable=True)
    assert_pixels(images, [path for i, path in enumerate(paths) if i not in (2, 13, 30)])
    assert [path for path, _ in images.skipped] == [paths[2], paths[13], paths[30]]


def test_what_was_skipped_once_is_not_skipped_silently_later(paths, to_disk) -> None:
    good = paths[7].read_bytes()
    paths[7].write_bytes(b"x" * len(good))
    status = paths[7].stat()
    to_disk(paths, skip_unreadable=True)
    with pytest.raises(DeSTSegError, match=r"07\.png cannot be decoded"):
        to_disk(paths)
    # Repaired without a change of size or date, as when only the right to read was missing.
    paths[7].write_bytes(good)
    os.utime(paths[7], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert_pixels(to_disk(paths), paths)


def test_nothing_to_load_and_a_wrong_size_are_errors(paths) -> None:
    with pytest.raises(DeSTSegError, match="no images to load"):
        load_images([], SIZE)
    with pytest.raises(DeSTSegError, match="image size is 0"):
        load_images(paths, 0)


def test_a_full_disk_is_told_before_decoding(paths, decoded, to_disk, monkeypatch) -> None:
    monkeypatch.setattr(load.shutil, "disk_usage", lambda _: SimpleNamespace(free=7679))
    with pytest.raises(DeSTSegError, match=r"0\.0 GB are needed in .*cache, which has 0\.0 GB"):
        to_disk(paths)
    assert decoded == []
    monkeypatch.setattr(load.shutil, "disk_usage", lambda _: SimpleNamespace(free=7680))
    assert_pixels(to_disk(paths), paths)


def test_a_disk_that_fills_up_midway_keeps_what_is_done(
    paths, decoded, to_disk, monkeypatch
) -> None:
    sync: Callable[[int], None] = os.fsync

    def fsync(file: int) -> None:
        if len(decoded) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DeSTSegError, match=r"cannot be kept in .*cache: .*No space left"):
            to_disk(paths)
    decoded.clear()
    assert_pixels(to_disk(paths), paths)
    assert len(decoded) == 20


def test_a_file_that_may_not_grow_is_an_error_and_not_a_crash(paths, to_disk) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 * SIZE * SIZE * 3, limits[1]))
    try:
        with pytest.raises(DeSTSegError, match=r"cannot be kept in .*cache: .*File too large"):
            to_disk(paths)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_cache_folder_that_is_a_file_is_named(paths, tmp_path, to_disk) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(DeSTSegError, match=r"cannot be kept in .*cache: .*another folder"):
        to_disk(paths)


def test_runs_at_the_same_time_decode_once(paths, decoded, to_disk, monkeypatch) -> None:
    counting = load.read_image
    monkeypatch.setattr(load, "read_image", lambda *a: (time.sleep(0.04), counting(*a))[1])
    results: list[load.ImageSet] = []
    threads = [threading.Thread(target=lambda: results.append(to_disk(paths))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == 40
    for images in results:
        assert_pixels(images, paths)
    assert len(results) == 2


def test_the_number_of_images_in_flight_is_bounded(paths, decoded) -> None:
    """Memory while decoding to a file does not grow with the number of images."""
    images = decode_files(paths * 10, SIZE)
    for taken, _ in enumerate(images, 1):
        assert len(decoded) - taken < load._AHEAD


def test_progress_is_shown_and_counts_what_was_there(paths, to_disk, capsys) -> None:
    spoil(paths, 7)
    for _ in range(2):
        to_disk(paths, description="tiles", progress=True, skip_unreadable=True)
        shown = capsys.readouterr().err
        assert "tiles" in shown
        assert "40/40" in shown
    to_disk(paths, skip_unreadable=True)
    assert capsys.readouterr().err == ""
