"""The `mb` command: sweeps, reports, C code, the cache, and scoring and sizing of models.

Modules that import TensorFlow or pandas are imported by the commands that need them, so that `mb --help` is quick.
"""

import argparse
import os
import signal
import sys

from mbutils.cli import evaluate, models, sweeps
from mbutils.errors import WorkbookError


def main(arguments: list[str] | None = None) -> int:
    """Runs the command and returns its exit status: 0, 1 if a configuration failed, 2 for bad input."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, cleanly
    try:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mb", description="The MobileNet v1 int8 workbook from the shell.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    results = argparse.ArgumentParser(add_help=False)
    results.add_argument("--results-dir", default="", metavar="DIR", help="results folder (default: the project's own)")
    sweeps.add_commands(commands, results)
    evaluate.add_command(commands, results)
    models.add_commands(commands, results)
    return parser
