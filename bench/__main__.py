"""The command of `make bench`."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from bench import compare, sweeps
from bench.cases import CASES
from mbutils.config import resolve_results_dir
from mbutils.errors import WorkbookError, nearest

SWEEPS = "sweeps"


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmarks and returns 0, 1 if a ratio is below the expected one, or 2 if a case was not measured."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except WorkbookError as error:
        print(f"bench: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted: nothing is written", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measures speed and peak memory of the workbook's way against the stock way, side by side, prints "
        "the ratios and writes bench.csv; then sweeps against a shell loop of papermill: bench_sweeps.csv. Exit status "
        "1 if something is slower than expected, 2 if a case could not be measured.",
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join([*CASES, SWEEPS])} (default: all)")
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="rounds of each side (default: %(default)s)")
    parser.add_argument(
        "--configurations",
        type=int,
        default=sweeps.CONFIGURATIONS,
        metavar="N",
        help=f"configurations of {SWEEPS} (default: %(default)s)",
    )
    parser.add_argument(
        "--results-dir", default="", metavar="DIR", help="results folder (default: the project's results/)"
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    known = [*CASES, SWEEPS]
    names = options.cases or known
    for name in names:
        if name not in known:
            raise WorkbookError(f"unknown case {name!r}: {nearest(name, known)}")
    for option in ("rounds", "configurations"):
        if getattr(options, option) < 1:
            raise WorkbookError(f"--{option} {getattr(options, option)}: the least is 1")
    results_dir = resolve_results_dir(options.results_dir)
    compared = [name for name in names if name != SWEEPS]
    rows = _measured(compared, options.rounds)
    if rows:
        _show(compare.text(rows), rows, results_dir / "bench.csv")
    sweep_rows = _measured_sweeps(options.configurations) if SWEEPS in names else []
    if sweep_rows:
        _show(sweeps.text(sweep_rows), sweep_rows, results_dir / "bench_sweeps.csv")
    if len(rows) < len(compared) or (SWEEPS in names and not sweep_rows):
        return 2
    return 0 if all(map(compare.reached, rows)) and all(map(sweeps.reached, sweep_rows)) else 1


def _show(text: str, rows: list[dict], path: Path) -> None:
    print(f"\n{text}\n")
    _write(rows, path)
    print(f"table: {path}")


def _measured_sweeps(configurations: int) -> list[dict]:
    try:
        return sweeps.measure(configurations)
    except WorkbookError as error:
        print(f"bench: {SWEEPS} is not measured: {error}", file=sys.stderr)
        return []


def _measured(names: list[str], rounds: int) -> list[dict]:
    """Returns the rows of the cases, and prints each ratio once it is known, or why a case cannot be measured."""
    rows = []
    for name in names:
        try:
            rows.append(compare.compare(name, CASES[name], rounds))
            print(f"{name}: {rows[-1]['ratio']:.2f} times as fast as stock", flush=True)
        except WorkbookError as error:
            print(f"bench: {name} is not measured: {error}", file=sys.stderr)
    return rows


def _write(rows: list[dict], path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(path, index=False)
    except OSError as error:
        raise WorkbookError(
            f"cannot write {path} ({error.strerror}): free some space, or give another --results-dir"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
