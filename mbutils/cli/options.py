"""Options of commands: checked when they are read, most of them as the parameters of the notebooks that they are."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from mbutils.config import Parameters, check_path, resolve_results_dir

_METAVARS = {int: "N", float: "X", str: "TEXT"}


def add_command(
    commands: Any,  # noqa: ANN401
    name: str,
    command: Callable[[argparse.Namespace], int],
    help_text: str,
    description: str,
    of_results: bool = True,
) -> argparse.ArgumentParser:
    """Adds a command to the parsers of `mb` and returns its parser.

    Args:
        commands: The parsers.
        name: What it is called by.
        command: What it does with the options; returns the exit status.
        help_text: What it does, in a line among the other commands.
        description: The same in its own help.
        of_results: Whether it has the option `--results-dir`.
    """
    parser = commands.add_parser(name, help=help_text, description=description)
    parser.set_defaults(command=command)
    if of_results:
        parser.add_argument(
            "--results-dir",
            type=results_folder,
            default=argparse.SUPPRESS,  # it may stand before a sub-command: the parser of `mb` has the default
            metavar="DIR",
            help="results folder (default: the project's own)",
        )
    return parser


def add_parameters(
    parser: argparse.ArgumentParser, kind: type[Parameters], *names: str, default: str | None = None
) -> None:
    """Adds an option for each of some parameters; the value of one that is left out is None.

    Args:
        parser: Where to add them.
        kind: The class that declares the parameters.
        *names: Which of them.
        default: What applies where an option is left out, in words, if that is not the parameter's default.
    """
    specs = {spec.name: spec for spec in fields(kind)}
    for spec in (specs[name] for name in names):
        option = f"--{spec.name.replace('_', '-')}"
        help_text, _, if_empty = spec.metadata["help"].replace("%", "%%").partition(", empty for ")
        if spec.type is bool:
            parser.add_argument(option, action="store_true", default=None, help=help_text)
            continue
        choices = spec.metadata["choices"]
        shown = default or if_empty or ("" if spec.default in ("", None) else f"{spec.default}")
        parser.add_argument(
            option,
            type=_value(kind, spec),
            metavar=f"{{{','.join(choices)}}}" if choices else _METAVARS[spec.type],
            help=help_text + (f" (default: {shown})" if shown else ""),
        )


def _value(kind: type[Parameters], spec: Field) -> Callable[[str], Any]:
    def value(written: str) -> Any:  # noqa: ANN401
        return kind.checked(spec.name, spec.type(given(written)))

    value.__name__ = spec.type.__name__  # argparse names it where the text is no number
    return value


def parameters_in(options: argparse.Namespace, kind: type[Parameters]) -> dict[str, Any]:
    """Returns the parameters among the options, those left out not included."""
    named = {spec.name: getattr(options, spec.name, None) for spec in fields(kind)}
    return {name: value for name, value in named.items() if value is not None}


def given(written: str) -> str:
    """Returns what an option gives, which is never empty."""
    if not written:
        raise argparse.ArgumentTypeError("is empty: leave it out, or give a value")
    return written


def text(written: str) -> str:
    """Returns the name or path that an option gives; the file need not exist."""
    check_path("path", given(written))
    return written


def path(written: str) -> Path:
    """Returns the path of a file that an option gives; the file need not exist."""
    if not Path(text(written)).name:
        raise argparse.ArgumentTypeError(f"{written} is a folder: give a file")
    return Path(written)


def results_folder(written: str) -> Path:
    """Returns the results folder that an option gives."""
    return resolve_results_dir(text(written))


def print_damaged(results_dir: Path) -> None:
    """Prints the runs that all commands leave out, and why, on standard error."""
    from mbutils import runs

    for damage in runs.damaged(results_dir).values():
        print(f"left out: {damage}", file=sys.stderr)
