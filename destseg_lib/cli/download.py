"""``destseg download``: its options and what it does."""

from __future__ import annotations

import argparse
from pathlib import Path

from destseg_lib.cli.options import add_quiet
from destseg_lib.images.download import DATASETS, download


def add_download(parser: argparse.ArgumentParser) -> None:
    """The options of ``destseg download``."""
    add = parser.add_argument
    add("dataset", choices=DATASETS, help="data set to fetch")
    root = "folder to unpack it into (default: data)"
    add("--root", type=Path, default=Path("data"), metavar="DIR", help=root)
    add("--url", help="another address of the same archive; the checksum stays the same")
    add_quiet(parser)


def run_download(options: argparse.Namespace) -> int:
    """``destseg download``: fetch, check and unpack one data set."""
    print(download(options.dataset, options.root, options.url, progress=not options.quiet))
    return 0
