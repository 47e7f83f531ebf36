"""The command line: argparse and nothing else, one module per command."""

from destseg_lib.cli.main import build_parser, main

__all__ = ["build_parser", "main"]
