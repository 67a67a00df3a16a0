"""A search against training all that fits: what is lost in accuracy, and what is saved in time.

`python -m bench.search SPACE.yaml FILE.csv --limits RAM,FLASH,MS --limits ...` trains every model of the space that
fits one of the limits to its end, then searches under each of them in a results folder of its own, and adds a row to
the file for each.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from mbutils import runs
from mbutils.config import SearchParameters
from mbutils.search import Answer, planned, run, space
from mbutils.sweep import records

_TRAININGS = ("rung_", "train")  # how the names of stages begin that train


def main(arguments: list[str] | None = None) -> None:
    """Measures the searches that the arguments name."""
    parser = argparse.ArgumentParser(prog="bench.search", description=__doc__.splitlines()[0])
    parser.add_argument("space", type=Path, metavar="SPACE.yaml")
    parser.add_argument("table", type=Path, metavar="FILE.csv")
    parser.add_argument("--limits", type=_limits, action="append", required=True, metavar="RAM,FLASH,MS")
    parser.add_argument("--hours", type=float, default=100.0, help="hours of each search (default: %(default)s)")
    parser.add_argument("--results-dir", type=Path, default=Path("results/search"), metavar="DIR")
    options = parser.parse_args(arguments)
    searches = [_search(limits, options) for limits in options.limits]
    whole = options.results_dir / "whole"
    _train_all(searches, whole)
    for parameters in searches:
        row = pd.DataFrame([measure(parameters, run(parameters), whole)])
        print(row.to_string(index=False), flush=True)
        row.to_csv(options.table, mode="a", header=not options.table.exists(), index=False)


def _limits(written: str) -> tuple[float, float, float]:
    ram, flash, milliseconds = map(float, written.split(","))
    return ram, flash, milliseconds


def _search(limits: tuple[float, float, float], options: argparse.Namespace) -> SearchParameters:
    ram, flash, milliseconds = limits
    place = options.results_dir / f"{ram:g}_{flash:g}_{milliseconds:g}"
    return SearchParameters(
        ram, flash, milliseconds, hours=options.hours, space=str(options.space), results_dir=str(place)
    )


def _train_all(searches: list[SearchParameters], results_dir: Path) -> None:
    """Trains every model that fits one of the searches to its end, by a sweep."""
    fits = sum(planned(search)["fits"] for search in searches).astype(bool)
    points = [point for point, needed in zip(space.read(searches[0]).points, fits, strict=True) if needed]
    results_dir.mkdir(parents=True, exist_ok=True)
    sweep = results_dir / "sweep.yaml"
    sweep.write_text(yaml.safe_dump({"runs": points, "notebooks": ["train"]}))
    command = [Path(sys.executable).with_name("mb"), "sweep", sweep, "--results-dir", results_dir]
    subprocess.run(command, check=True)


def measure(parameters: SearchParameters, answer: Answer, whole: Path) -> dict[str, Any]:
    """Returns the row of a search that has ended.

    Args:
        parameters: Those of the search.
        answer: Its answer.
        whole: The results folder in which every model is trained to its end.

    Returns:
        The limits, the models and how many fit, the answer's run, its validation accuracy, that of the best model that
        fits, the regret (both float32, fractions), and the seconds of the trainings: `searched`, those of all that fit,
        and `share`, the part.
    """
    costs = planned(parameters)
    fitting = costs.loc[costs["fits"], "run_id"].unique()
    best = max(runs.find(whole, run_id).manifest["validation_top1"] for run_id in fitting)
    chosen = answer.rows["run_id"].iloc[0]
    own = runs.find(Path(parameters.results_dir), chosen).manifest["validation_top1"]
    searched, everything = _seconds(Path(parameters.results_dir)), _seconds(whole, set(fitting))
    return {
        **{name: getattr(parameters, name) for name in ("ram_kib", "flash_kib", "latency_ms")},
        "models": len(costs),
        "fitting": len(fitting),
        "answer": chosen,
        "validation_top1": own,
        "best_validation_top1": best,
        "regret": best - own,
        "searched_seconds": searched,
        "whole_seconds": everything,
        "share": searched / everything,
    }


def _seconds(results_dir: Path, run_ids: set[str] | None = None) -> float:
    """Returns the seconds of the trainings of a results folder, of some runs or of all."""
    known = ((key.split("/"), record) for key, record in records.read_all(results_dir).items())
    return sum(
        record.seconds
        for (run_id, name), record in known
        if name.startswith(_TRAININGS) and not name.endswith(".html") and (run_ids is None or run_id in run_ids)
    )


if __name__ == "__main__":
    main()
