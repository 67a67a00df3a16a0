"""The command `mb check`: the C code on a board."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mbutils.cli import named_model
from mbutils.cli.options import add_command, add_parameters, parameters_in, text
from mbutils.config import Parameters, full_path, parameter
from mbutils.errors import WorkbookError


@dataclass(frozen=True)
class Link(Parameters):
    """The serial port of a board: options of `mb check`."""

    baud: int = parameter(115200, "bits per second", low=300, high=20_000_000)
    timeout: float = parameter(30.0, "seconds to wait for an inference", low=0.1)


def add_commands(commands: Any) -> None:  # noqa: ANN401
    """Adds it to the parsers of `mb`."""
    check = add_command(
        commands,
        "check",
        _check,
        "the C code on a board over its serial port, bit for bit, and the time of each layer",
        "Sends the test images of a deployed folder to a board that runs check.c, compares every output "
        "with those of the TensorFlow Lite reference kernels bit for bit, and shows the time of each layer beside the "
        "estimates. Exit status 1 if an output differs.",
    )
    check.add_argument(
        "deployed",
        type=text,
        nargs="?",
        metavar="RUN|FOLDER",
        help="a folder that mb deploy wrote, or a run (default: the newest finished run)",
    )
    check.add_argument("--port", type=text, required=True, metavar="DEVICE", help="such as /dev/ttyACM0 or COM3")
    add_parameters(check, Link, "baud", "timeout")


def _check(options: argparse.Namespace) -> int:
    from mbutils.deploy import board
    from mbutils.report import tables

    link = Link(**parameters_in(options, Link))
    session = board.check(_folder(options), options.port, link.baud, link.timeout)
    print(tables.board_text(session))
    return int(session.wrong.any())


def _folder(options: argparse.Namespace) -> Path:
    """Returns the deployed folder that is named, or that of a run."""
    from mbutils.deploy import folder

    given = full_path(options.deployed) if options.deployed else None
    if given and (given / folder.FACTS).is_file():
        return given
    if given and given.is_dir() and not (given / "manifest.json").is_file():
        raise WorkbookError(f"{options.deployed} is no folder that mb deploy wrote, and no run")
    run = named_model.named_run(options, options.deployed)
    found = sorted(path.parent for path in run.path.glob(f"*/{folder.FACTS}"))
    if len(found) == 1:
        return found[0]
    names = f"choose {' or '.join(map(str, found))}" if found else "give the folder that mb deploy wrote"
    raise WorkbookError(f"run {run.run_id} holds {len(found)} folders of C code: {names}")
