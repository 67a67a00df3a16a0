"""Options of commands that are parameters: same names, types, valid values and meanings as in the notebooks."""

import argparse
from dataclasses import fields
from typing import Any

from mbutils.config import Parameters


def add_parameters(
    parser: argparse.ArgumentParser, kind: type[Parameters], *names: str, default: str | None = None
) -> None:
    """Adds an option for each of some parameters.

    Args:
        parser: Where to add them.
        kind: The class that declares the parameters.
        *names: Which of them.
        default: What applies where an option is left out, in words, if that is not the parameter's default; the value
            is then None.
    """
    specs = {spec.name: spec for spec in fields(kind)}
    for spec in (specs[name] for name in names):
        shown = default or ("" if spec.default in ("", None) else f"{spec.default}")
        help_text = spec.metadata["help"] + (f" (default: {shown})" if shown else "")
        parser.add_argument(
            f"--{spec.name.replace('_', '-')}",
            type=spec.type,
            choices=spec.metadata["choices"] or None,
            default=None if default else spec.default,
            metavar=None if spec.metadata["choices"] else {int: "N", float: "X", str: "TEXT"}[spec.type],
            help=help_text.replace("%", "%%"),
        )


def parameters_in(options: argparse.Namespace, kind: type[Parameters]) -> dict[str, Any]:
    """Returns the parameters among the options, those left out without a value not included."""
    named = {spec.name: getattr(options, spec.name, None) for spec in fields(kind)}
    return {name: value for name, value in named.items() if value is not None}
