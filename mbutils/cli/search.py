"""The command `mb search`: the best model for a device in a given time."""

import argparse
from dataclasses import fields
from typing import Any

from mbutils.cli.options import add_command, add_parameters, parameters_in
from mbutils.config import SearchParameters

_OPTIONS = tuple(spec.name for spec in fields(SearchParameters) if spec.name != "results_dir")


def add_commands(commands: Any) -> None:  # noqa: ANN401
    """Adds it to the parsers of `mb`."""
    search = add_command(
        commands,
        "search",
        _search,
        "the most accurate model for a device, in a given time: its C code, and a page",
        "Costs every model of a space before any is trained, trains those that fit by successive halving, and writes "
        "the C code of the best one, and search.html. After an interruption the same command goes on.",
    )
    add_parameters(search, SearchParameters, *_OPTIONS)
    search.add_argument("--dry-run", action="store_true", help="only show which models fit, and what they cost")


def _search(options: argparse.Namespace) -> int:
    asked = {**vars(options), "results_dir": str(options.results_dir)}
    parameters = SearchParameters(**parameters_in(argparse.Namespace(**asked), SearchParameters))
    from mbutils import search
    from mbutils.report import tables

    if options.dry_run:
        print(tables.search_costs(search.planned(parameters)))
        return 0
    answer = search.run(parameters)
    page = search.page(parameters)
    print(f"\n{tables.search_text(answer.candidates, answer.rows)}\n\nC code: {answer.firmware}\npage: {page}")
    return 0
