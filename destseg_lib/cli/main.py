"""The parser of all commands, and what happens when one of them fails.

A mistake that the user can correct ends with its message and exit status 2; a run that was stopped
and saved ends with status 130.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence

from destseg_lib.cli.download import add_download, run_download
from destseg_lib.cli.evaluate import add_evaluate, run_evaluate
from destseg_lib.cli.export import add_export, run_export
from destseg_lib.cli.make_data import add_make_data, run_make_data
from destseg_lib.cli.mode import describe
from destseg_lib.cli.page import add_page, run_page
from destseg_lib.cli.predict import add_predict, run_predict
from destseg_lib.cli.reproduce import add_reproduce, run_reproduce
from destseg_lib.cli.study import add_study, run_study_command
from destseg_lib.cli.train import add_train, run_train
from destseg_lib.errors import DeSTSegError
from destseg_lib.runs.checkpoint import InterruptedRunError

AddOptions = Callable[[argparse.ArgumentParser], None]
Run = Callable[[argparse.Namespace], int]

# Name, purpose, the function that adds its options and the one that runs it.
COMMANDS: tuple[tuple[str, str, AddOptions, Run], ...] = (
    ("train", "Learn what good photographs look like.", add_train, run_train),
    ("evaluate", "Measure a run on labelled test images.", add_evaluate, run_evaluate),
    ("predict", "Score photographs and outline defects.", add_predict, run_predict),
    ("export", "Write a run as one ONNX file.", add_export, run_export),
    ("page", "Write a run as a web page that judges photographs.", add_page, run_page),
    ("make-data", "Draw categories that need no download.", add_make_data, run_make_data),
    ("study", "Compare variants over categories and seeds.", add_study, run_study_command),
    ("reproduce", "Run the paper's tables 4 to 6 on MVTec AD.", add_reproduce, run_reproduce),
    ("download", "Fetch MVTec AD or the Describable Textures.", add_download, run_download),
)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; ``command`` of its result is the name of the one given."""
    parser = argparse.ArgumentParser(
        prog="destseg", description="Find and outline defects after seeing only good photographs."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, purpose, add_options, _ in COMMANDS:
        add_options(commands.add_parser(name, help=purpose, description=purpose))
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal may know neither a dash nor the bytes of a file's name.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    options = build_parser().parse_args(arguments)
    try:
        print(describe(), flush=True)
        (run,) = (run for name, _, _, run in COMMANDS if name == options.command)
        return run(options)
    except (InterruptedRunError, KeyboardInterrupt) as stopped:
        print(f"destseg: {str(stopped) or 'stopped'}", file=sys.stderr)
        return 130
    except (DeSTSegError, OSError) as error:  # an OSError names the file and what is wrong with it
        print(f"destseg: {error}", file=sys.stderr)
        return 2
