"""The `mb` command: sweeps, reports, C code, the cache, and scoring and sizing of models.

Modules that import TensorFlow or pandas are imported by the commands that need them, so that `mb --help` is quick.
"""

import argparse
import io
import os
import signal
import sys
from pathlib import Path

from mbutils.cli import evaluate, models, sweeps
from mbutils.errors import WorkbookError


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 if a configuration failed, 2 for bad input."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, cleanly
    if isinstance(sys.stdout, io.TextIOWrapper):  # what the terminal cannot show is escaped, as in standard error
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _refuse_gone_folder()
        status = options.command(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except WorkbookError as error:
        print(f"mb: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mb: interrupted: what is finished is kept, and the same command continues from there", file=sys.stderr)
        return 130


def _refuse_gone_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise WorkbookError("the working directory does not exist: change to another one") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mb", description="The MobileNet v1 int8 workbook from the shell.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    results = argparse.ArgumentParser(add_help=False)
    results.add_argument("--results-dir", default="", metavar="DIR", help="results folder (default: the project's own)")
    sweeps.add_commands(commands, results)
    evaluate.add_command(commands, results)
    models.add_commands(commands, results)
    return parser
