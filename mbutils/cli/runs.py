"""The commands `mb runs`: the finished runs of a results folder are listed, noted and deleted."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbutils.cli.options import add_command, given, print_damaged
from mbutils.errors import WorkbookError, printable

if TYPE_CHECKING:
    from mbutils.runs import Run


def add_commands(commands: Any) -> None:  # noqa: ANN401
    """Adds them to the parsers of `mb`."""
    listed = add_command(
        commands,
        "runs",
        _list,
        "list the finished runs, keep notes about them, delete some",
        "Without an action, lists the finished runs of a results folder, the newest last: test accuracy of each "
        "model, when it was trained, its note. A terminal shows as many columns as it has room for.",
    )
    actions = listed.add_subparsers(metavar="[ACTION]")
    noted = add_command(
        actions,
        "note",
        _note,
        "keep a note with a run",
        "Keeps a line of text with a run, in the place of an earlier one. `mb runs` and the report show it.",
    )
    noted.add_argument("run", type=_run_id, metavar="RUN", help="its id")
    noted.add_argument("text", metavar="TEXT", help="the note; empty to remove it")
    deleted = add_command(
        actions,
        "delete",
        _delete,
        "delete runs with all that is in their folders",
        "Deletes runs, damaged ones too: their models and results, their executed notebooks, pages and C code, and the "
        "logs of sweeps about them. Says what that is, and asks before it does so.",
    )
    deleted.add_argument("runs", type=_run_id, nargs="+", metavar="RUN", help="its id")
    deleted.add_argument("--yes", action="store_true", help="do not ask")


def _run_id(written: str) -> str:
    if Path(given(written)).name != written or written == "..":
        raise argparse.ArgumentTypeError(f"{printable(written)} is a path: give the id of a run, as mb runs lists it")
    return written


def _list(options: argparse.Namespace) -> int:
    from mbutils import runs

    intact, damaged = runs.all_runs(options.results_dir), runs.damaged(options.results_dir)
    if not intact and not damaged:
        raise runs.no_run(options.results_dir)
    if intact:
        print(runs.listing(intact))
    print(f"{len(intact)} run{'s' * (len(intact) != 1)} in {options.results_dir}, with their test accuracy")
    sys.stdout.flush()
    print_damaged(options.results_dir)
    return 0


def _note(options: argparse.Namespace) -> int:
    from mbutils import runs

    runs.annotate(runs.named(options.results_dir, options.run), options.text)
    return 0


def _delete(options: argparse.Namespace) -> int:
    from mbutils import runs

    results_dir = options.results_dir
    chosen = [runs.named(results_dir, run_id) for run_id in dict.fromkeys(options.runs)]
    for run in chosen:
        _print_contents(results_dir, run)
    if not options.yes and not _confirmed(len(chosen)):
        print("nothing is deleted")
        return 1
    runs.delete(chosen)
    print(f"deleted {len(chosen)}")
    if (results_dir / "results.csv").exists():
        print("results.csv and report.html still have them until mb report makes them again")
    return 0


def _print_contents(results_dir: Path, run: "Run") -> None:
    from mbutils import runs

    print(printable(run.run_id))
    for name in (*runs.beside_artefacts(run), *([run.logs.relative_to(results_dir)] if run.logs.exists() else [])):
        print(f"    {name}")
    if students := runs.students(results_dir, run):
        print(f"    it taught {', '.join(students)}: finished as they are, but to be trained again they need it")


def _confirmed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise WorkbookError("nobody can be asked here, and nothing is deleted: give --yes")
    try:
        return input(f"delete {'this run' if count == 1 else f'these {count} runs'}? [y/N] ").lower() in ("y", "yes")
    except EOFError:
        return False
