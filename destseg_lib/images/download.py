"""Fetching the public data sets: licence first, checksum always, nothing half unpacked."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import tarfile
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm.auto import tqdm

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.load import check_free_space

_BLOCK = 2**20
_TIMEOUT = 60.0  # seconds without a byte
_ATTEMPTS = 4  # in a row without a new byte before giving up
_PAUSE = 3.0  # seconds between attempts
# What a connection can fail with; a plain OSError is the disk's.
_CONNECTION_ERRORS = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
_FINAL = frozenset(range(400, 500)) - {408, 429}  # HTTP errors that another attempt cannot change


@dataclass(frozen=True)
class Dataset:
    """A data set in one archive.

    Attributes:
        size: of the archive in bytes, rounded up; the unpacked images take about as much.
        folder: the archive is unpacked to it.
        use: the part of ``folder`` that is used: as ``--data`` or as ``--textures``.
        expected: files and folders that the unpacked archive must hold.
    """

    title: str
    url: str
    sha256: str
    size: int
    folder: str
    use: str
    expected: tuple[str, ...]
    homepage: str
    licence: str


DATASETS: dict[str, Dataset] = {
    "mvtec-ad": Dataset(
        title="MVTec AD",
        url=(
            "https://www.mydrive.ch/shares/150996/b52ecdcbf521176e9db9c731f2304b27/download/"
            "420938113-1629960298/mvtec_anomaly_detection.tar.xz"
        ),
        sha256="cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
        size=5_400_000_000,
        folder="mvtec-ad",
        use=".",
        expected=(
            *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut"),
            *("pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper"),
        ),
        homepage="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        licence=(
            "Creative Commons BY-NC-SA 4.0: use it for non-commercial purposes only, name MVTec "
            "and its papers (Bergmann et al., CVPR 2019 and IJCV 2021), pass on what you derive "
            "from it under the same terms."
        ),
    ),
    "dtd": Dataset(
        title="Describable Textures Dataset",
        url="https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
        sha256="e42855a52a4950a3b59612834602aa253914755c95b0cff9ead6d07395f8e205",
        size=700_000_000,
        folder="dtd",
        use="images",
        expected=("images",),
        homepage="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
        licence=(
            "Photographs collected from the web, made available for research; the rights stay "
            "with their owners. Cite Cimpoi et al., CVPR 2014."
        ),
    ),
}


def download(name: str, root: Path, url: str | None = None, *, progress: bool = True) -> Path:
    """Fetch ``"mvtec-ad"`` or ``"dtd"`` into ``root``; see ``download_dataset``."""
    if name not in DATASETS:
        raise DeSTSegError(f"There is no data set {name!r}; expected one of {', '.join(DATASETS)}.")
    return download_dataset(DATASETS[name], root, url, progress=progress)


def download_dataset(
    dataset: Dataset, root: Path, url: str | None = None, *, progress: bool = True
) -> Path:
    """Fetch, check and unpack a data set below ``root``; return the folder to use.

    A complete data set is returned as it is. An archive that was put into ``root`` by hand is
    used if its checksum fits. An interrupted download is continued.

    Args:
        dataset: the data set; its licence is printed before anything is fetched.
        root: the folder that receives the archive and the unpacked folder.
        url: another address of the same archive.
        progress: whether to show progress bars.

    Raises:
        DeSTSegError: no connection, a wrong checksum, an unsafe archive or too little room.
    """
    root = Path(root)
    target, archive = root / dataset.folder, root / dataset.url.rpartition("/")[2]
    # Names that a browser does not use, and that are not cleared away with other partial files.
    partial = root / f"{archive.name}.destseg.download"
    draft = root / f".{target.name}.destseg.unpacking"
    for path in (archive, partial, draft):
        if os.path.lexists(path) and not (path.is_dir() if path == draft else path.is_file()):
            raise DeSTSegError(f"{path} is in the way; move it away, or choose another --root.")
        if path != archive and path.is_symlink():
            raise DeSTSegError(f"{path} is a link; move it away, or choose another --root.")
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        if missing := _missing_parts(dataset, target):
            raise DeSTSegError(
                f"{target} exists but lacks {missing}. Complete it by hand, or move it away to "
                f"fetch {dataset.title} again."
            )
        shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed at its end
        print(f"{dataset.title} is already at {target}.")
        return target / dataset.use
    print(f"{dataset.title} ({dataset.homepage})\nLicence: {dataset.licence}", flush=True)
    try:
        root.mkdir(parents=True, exist_ok=True)
        present = max(_bytes_in(partial), _bytes_in(archive))
        check_free_space(root, 2 * dataset.size - min(present, dataset.size))
        if not archive.exists():
            _fetch(dataset, url or dataset.url, archive, partial, progress)
            partial.replace(archive)
        _check_archive(dataset, archive, progress)
        _unpack(dataset, archive, draft, target, progress)
    except OSError as error:
        raise DeSTSegError(
            f"{dataset.title} cannot be stored in {root}: {error}. Free some space, or "
            "choose another --root."
        ) from error
    print(f"{dataset.title} is at {target}; {archive} is no longer needed.")
    return target / dataset.use


def _fetch(dataset: Dataset, url: str, archive: Path, partial: Path, progress: bool) -> None:
    """Download with retries; each one continues from the bytes there are, if the server can."""
    failures = 0
    while True:
        before = _bytes_in(partial)
        try:
            return _fetch_rest(url, partial, dataset.title, progress)
        except (ValueError, *_CONNECTION_ERRORS) as error:
            failures = 1 if _bytes_in(partial) > before else failures + 1
            status = error.code if isinstance(error, HTTPError) else 500
            # A ValueError is an address that is not one.
            if isinstance(error, ValueError) or status in _FINAL or failures == _ATTEMPTS:
                raise DeSTSegError(
                    f"{dataset.title} could not be downloaded from {url}: {error}.\n"
                    + _by_hand(dataset, archive)
                ) from error
        time.sleep(_PAUSE)


def _fetch_rest(url: str, partial: Path, title: str, progress: bool) -> None:
    present = _bytes_in(partial)
    request = Request(url, headers={"User-Agent": "destseg_lib", "Range": f"bytes={present}-"})
    try:
        response = urlopen(request, timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code == 416:  # nothing is left to fetch; the checksum decides
            return
        raise
    with response:
        if not response.headers.get("Content-Range", "").startswith(f"bytes {present}-"):
            present = 0
        total = present + int(response.headers.get("Content-Length", 0))
        with (
            partial.open("ab" if present else "wb") as file,
            _bar(file, "write", title, progress, total or None, present) as counted,
        ):
            shutil.copyfileobj(response, counted, _BLOCK)
    if _bytes_in(partial) < total:
        raise ConnectionError(f"cut off after {_bytes_in(partial)} of {total} bytes")


def _by_hand(dataset: Dataset, archive: Path) -> str:
    return (
        f"By hand: get {archive.name} from {dataset.homepage}, put it into {archive.parent} and "
        f"run this again; its SHA-256 must be {dataset.sha256}. Or give another address of the "
        "same file with --url."
    )


def _check_archive(dataset: Dataset, archive: Path, progress: bool) -> None:
    digest = hashlib.sha256()
    with (
        archive.open("rb") as file,
        _bar(file, "read", "checksum", progress, _bytes_in(archive)) as counted,
    ):
        while block := counted.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != dataset.sha256:
        aside = archive.with_name(f"{archive.name}.wrong")
        while os.path.lexists(aside):
            aside = aside.with_name(f"{aside.name}.wrong")
        archive.rename(aside)
        raise DeSTSegError(
            f"The archive of {dataset.title} has a wrong checksum: expected SHA-256 "
            f"{dataset.sha256}, got {digest.hexdigest()}. Nothing was unpacked; the file is now "
            f"{aside}.\n" + _by_hand(dataset, archive)
        )


def _unpack(dataset: Dataset, archive: Path, draft: Path, target: Path, progress: bool) -> None:
    """Unpack next to the target and rename at the end: a folder with its name is whole."""
    shutil.rmtree(draft, ignore_errors=True)  # of a process that was killed
    try:
        with (
            archive.open("rb") as file,
            _bar(file, "read", "unpacking", progress, _bytes_in(archive)) as counted,
            tarfile.open(fileobj=counted, mode="r|*", bufsize=_BLOCK) as tar,
        ):
            tar.extractall(draft, filter="data")  # the filter refuses unsafe members
        # Some archives wrap everything in one folder of their own.
        folders = (draft, *draft.iterdir())
        content = min(folders, key=lambda folder: len(_missing_parts(dataset, folder)))
        if missing := _missing_parts(dataset, content):
            raise DeSTSegError(
                f"The archive {archive} lacks {missing}; nothing of it was kept. Delete it, and "
                "give the command again."
            )
        if target.exists():
            target.rmdir()  # it is empty
        content.replace(target)
    except tarfile.TarError as error:
        raise DeSTSegError(
            f"The archive {archive} cannot be unpacked: {error}. Delete it, and "
            "give the command again."
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _missing_parts(dataset: Dataset, folder: Path) -> str:
    return ", ".join(name for name in dataset.expected if not (folder / name).exists())


def _bytes_in(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _bar(
    file: IO[bytes], method: str, title: str, progress: bool, total: int | None, initial: int = 0
) -> AbstractContextManager[IO[bytes]]:
    """Show a bar while a file's ``read`` or ``write`` is called."""
    bar: AbstractContextManager[IO[bytes]] = tqdm.wrapattr(
        file, method, total, desc=title, disable=not progress, initial=initial
    )
    return bar
