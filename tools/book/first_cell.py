# @title Setup: run this cell first
# The same in every chapter, written by tools/book/notebooks.py.
REPOSITORY, REFERENCE, VERSION = "", "main", "0.2.0"

import os
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

on_colab = "COLAB_RELEASE_TAG" in os.environ

if on_colab and not find_spec("destseg_lib"):
    if not REPOSITORY:
        raise RuntimeError(
            "This notebook does not say where its library is published. Open it from the book's "
            "page, or run 'make colab REPO=owner/name' in the project and upload it again."
        )
    print("Installing the library: about a minute ...", flush=True)
    # Colab's own torch suits its GPU and is loaded fast: nothing may replace it.
    pins = [f"{name}=={version(name)}\n" for name in ("torch", "torchvision", "numpy")]
    Path("colab-versions.txt").write_text("".join(pins))
    wanted = f"destseg_lib[interactive] @ git+https://github.com/{REPOSITORY}@{REFERENCE}"
    command = [sys.executable, "-m", "pip", "install", "-q", "-c", "colab-versions.txt", wanted]
    installed = subprocess.run(command, capture_output=True, text=True)
    if installed.returncode:
        print(installed.stderr, file=sys.stderr)
        raise RuntimeError(
            "The library could not be installed; pip's message is above. Choose Runtime, "
            "then 'Disconnect and delete runtime', and run this cell again."
        )

if on_colab:
    with suppress(ImportError):
        from google.colab import output

        output.enable_custom_widget_manager()  # without it interactives stay blank there

try:
    import destseg_lib
except ImportError as error:
    raise RuntimeError(
        f"The library cannot be imported ({error}). Run 'make install' in the project's folder "
        "and choose the Python in its .venv as this notebook's kernel."
    ) from error
if destseg_lib.__version__ != VERSION:
    raise RuntimeError(
        f"This chapter was written for version {VERSION} of the library, but "
        f"{destseg_lib.__version__} is installed. Take both from the same copy of the project."
    )

from destseg_lib.cli.mode import describe
from destseg_lib.device import describe_device, resolve_device

for package in ("destseg_lib", "torch", "torchvision", "numpy"):
    try:
        print(package, version(package), end="  ")
    except PackageNotFoundError:
        print(package, "not installed as a package", end="  ")
print(f"python {sys.version.split()[0]}")
print("device:", describe_device(resolve_device()))
print(describe())
