"""Fetching the public data sets: licence first, checksum always, nothing half unpacked."""

from __future__ import annotations

import hashlib
import lzma
import shutil
import tarfile
import time
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

import requests
from tqdm.auto import tqdm
from urllib3.exceptions import HTTPError as BrokenTransfer

from destseg_lib.errors import DeSTSegError
from destseg_lib.images.datasets import DATASETS, Dataset

_CHUNK = 2**20
_TIMEOUT = (15.0, 60.0)  # seconds to connect, seconds without a byte


def download(name: str, root: Path, url: str | None = None, *, progress: bool = True) -> Path:
    """Fetch ``"mvtec-ad"`` or ``"dtd"`` into ``root``; see ``download_dataset``."""
    if name not in DATASETS:
        raise DeSTSegError(f"There is no data set {name!r}; expected one of {', '.join(DATASETS)}.")
    return download_dataset(DATASETS[name], root, url, progress=progress)


def download_dataset(
    dataset: Dataset,
    root: Path,
    url: str | None = None,
    *,
    progress: bool = True,
    attempts: int = 4,
    pause: float = 3.0,
) -> Path:
    """Fetch, check and unpack a data set below ``root``; return the folder to use.

    What is complete already is returned as it is. An archive that was put into ``root`` by hand
    is used if its checksum fits. An interrupted download resumes where it stopped.

    Args:
        dataset: what to fetch; the licence is printed before anything is.
        root: the folder that receives the archive and the unpacked folder.
        url: another address of the same archive.
        progress: whether to show progress bars.
        attempts: tries in a row without a new byte before giving up.
        pause: seconds between tries.

    Raises:
        DeSTSegError: no connection, a wrong checksum, an unsafe archive or too little room.
    """
    root = Path(root)
    target, archive = root / dataset.folder, root / dataset.archive
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        if missing := _missing(dataset, target):
            raise DeSTSegError(
                f"{target} exists but lacks {missing}. Complete it by hand, or move it away to "
                f"fetch {dataset.title} again."
            )
        print(f"{dataset.title} is already at {target}.")
        return target / dataset.use
    print(f"{dataset.title} ({dataset.homepage})\nLicence: {dataset.licence}", flush=True)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not archive.exists():
            partial = archive.with_name(archive.name + ".partial")
            have = partial.stat().st_size if partial.exists() else 0
            _check_room(root, max(dataset.size - have, 0) + dataset.unpacked)
            _fetch(dataset, url or dataset.url, partial, progress, attempts, pause)
            _check_sum(dataset, partial, progress)
            partial.replace(archive)
        else:
            _check_room(root, dataset.unpacked)
            _check_sum(dataset, archive, progress)
        _unpack(dataset, archive, target, progress)
    except OSError as error:
        raise DeSTSegError(f"{dataset.title} cannot be stored in {root}: {error}.") from error
    print(f"{dataset.title} is at {target}; {archive} is no longer needed.")
    return target / dataset.use


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DeSTSegError(
            f"About {needed / 1e9:.1f} GB are needed in {folder}, which has {free / 1e9:.1f} GB "
            "free. Make room or choose another folder."
        )


def _fetch(
    dataset: Dataset, url: str, partial: Path, progress: bool, attempts: int, pause: float
) -> None:
    """Download with retries; every retry goes on from the bytes there are, if the server can."""
    longest, failures = -1, 0
    while True:
        try:
            return _fetch_rest(url, partial, dataset.title, progress)
        except (requests.RequestException, BrokenTransfer) as error:
            have = partial.stat().st_size if partial.exists() else 0
            failures = 1 if have > longest else failures + 1
            longest = max(have, longest)
            if failures >= attempts or _is_final(error):
                raise DeSTSegError(
                    f"{dataset.title} could not be downloaded from {url}: {error}.\n"
                    + _by_hand(dataset, partial.parent)
                ) from error
        time.sleep(pause)


def _fetch_rest(url: str, partial: Path, title: str, progress: bool) -> None:
    have = partial.stat().st_size if partial.exists() else 0
    # Uncompressed transfer, or the bytes would not be those of the archive.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing is left to fetch; the checksum decides
        response.raise_for_status()
        resumed = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with (
            partial.open("ab" if have else "wb") as file,
            _bar(title, total, progress, have) as bar,
        ):
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                file.write(chunk)
                bar.update(len(chunk))
            if total is not None and file.tell() < total:
                raise requests.ConnectionError(f"cut off after {file.tell()} of {total} bytes")


def _is_final(error: Exception) -> bool:
    """Whether trying again is pointless: a wrong address or a client error other than "busy"."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return 400 <= error.response.status_code < 500 and error.response.status_code not in (
            requests.codes.request_timeout,
            requests.codes.too_many_requests,
        )
    return isinstance(error, ValueError)  # requests: an address that is none


def _by_hand(dataset: Dataset, root: Path) -> str:
    return (
        f"By hand: get {dataset.archive} from {dataset.homepage}, put it into {root} and run this "
        f"again; its SHA-256 must be {dataset.sha256}. Or give another address of the same file "
        "with --url."
    )


def _check_sum(dataset: Dataset, archive: Path, progress: bool) -> None:
    digest = hashlib.sha256()
    size = archive.stat().st_size
    with archive.open("rb") as file, _bar("checksum", size, progress) as bar:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    if digest.hexdigest() != dataset.sha256:
        aside = archive.replace(archive.with_name(dataset.archive + ".wrong"))
        raise DeSTSegError(
            f"The archive of {dataset.title} has a wrong checksum: expected SHA-256 "
            f"{dataset.sha256}, got {digest.hexdigest()}. Nothing was unpacked; the file is now "
            f"{aside}.\n" + _by_hand(dataset, archive.parent)
        )


def _unpack(dataset: Dataset, archive: Path, target: Path, progress: bool) -> None:
    """Unpack beside the target and rename at the end: what is there under its name is whole."""
    draft = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
    draft.mkdir()
    try:
        with (
            archive.open("rb") as file,
            tarfile.open(fileobj=file) as tar,
            _bar("unpacking", archive.stat().st_size, progress) as bar,
        ):
            for member in tar:
                _check_member(member, archive)
                tar.extract(member, draft, filter="data")
                bar.update(file.tell() - bar.n)
        inside = list(draft.iterdir())
        # Some archives wrap everything in one folder of their own.
        content = inside[0] if len(inside) == 1 and _missing(dataset, draft) else draft
        if missing := _missing(dataset, content):
            raise DeSTSegError(f"The archive {archive} lacks {missing}; nothing of it was kept.")
        if target.exists():
            target.rmdir()  # it is empty
        content.replace(target)
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError) as error:
        raise DeSTSegError(f"The archive {archive} cannot be unpacked: {error}.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_member(member: tarfile.TarInfo, archive: Path) -> None:
    """Refuse what a data set never needs and an attack does; tarfile's filter is a second net."""
    posix, windows = PurePosixPath(member.name), PureWindowsPath(member.name)
    if posix.is_absolute() or windows.anchor:
        why = "has an absolute path"
    elif ".." in posix.parts or ".." in windows.parts:
        why = "leads out of the folder"
    elif member.issym() or member.islnk():
        why = "is a link"
    elif not (member.isfile() or member.isdir()):
        why = "is neither a file nor a folder"
    else:
        return
    raise DeSTSegError(
        f"The archive {archive} is unsafe: its member {member.name!r} {why}. Nothing was kept."
    )


def _missing(dataset: Dataset, folder: Path) -> str:
    return ", ".join(name for name in dataset.expected if not (folder / name).exists())


def _bar(what: str, total: int | None, progress: bool, initial: int = 0) -> tqdm[None]:
    return tqdm(
        total=total, initial=initial, desc=what, unit="B", unit_scale=True, disable=not progress
    )
