"""The commands of ``destseg``: argparse and nothing else, a module per command."""

from destseg_lib.cli.main import main

__all__ = ["main"]
