"""The `mb` command: sweeps, reports, runs, C code, the cache, and models on photographs.

Modules that import TensorFlow or pandas are imported by the commands that need them, so that `mb --help` is quick.
"""

import argparse
import io
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from mbutils.cli import check, evaluate, models, predict, runs, search, sweeps
from mbutils.config import resolve_results_dir
from mbutils.errors import WorkbookError


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 if a configuration failed, 2 for bad input."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, cleanly
    if isinstance(sys.stdout, io.TextIOWrapper):  # what the terminal cannot show is escaped, as in standard error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _refuse_gone_folder()
        given = _parser().parse_args(arguments)
        if [] in vars(given).values():  # argparse's answer to --option=--
            raise WorkbookError("-- is no value of an option: leave it out")
        status = given.command(given)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except WorkbookError as error:
        print(f"mb: error: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mb: interrupted: what is finished is kept, and the same command continues from there", file=sys.stderr)
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the options in one line, as everything else does."""

    def error(self, message: str) -> NoReturn:
        """Raises the error; called by argparse."""
        raise WorkbookError(f"{message}; see {self.prog} --help")


def _refuse_gone_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise WorkbookError("the working directory does not exist: change to another one") from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mb", description="The MobileNet v1 int8 workbook from the shell.")
    parser.add_argument("--version", action="version", version=f"mb {version('mobilenet-v1-int8-workbook')}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    parser.set_defaults(results_dir=resolve_results_dir(""))
    for group in (sweeps, search, runs, evaluate, predict, models, check):
        group.add_commands(commands)
    return parser
