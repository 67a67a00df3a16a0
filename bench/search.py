"""A search against training the whole space: what is lost in accuracy, and what is saved in time.

`python -m bench.search SPACE.yaml FILE.csv --limits RAM,FLASH,MS --limits ...` trains every model of the space to its
end, then searches under each of the limits in a results folder of its own, and adds a row to the file for each.
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
    _train_all(searches[0], whole)
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


def _train_all(parameters: SearchParameters, results_dir: Path) -> None:
    """Trains every model of the space to its end, by a sweep."""
    results_dir.mkdir(parents=True, exist_ok=True)
    sweep = results_dir / "sweep.yaml"
    sweep.write_text(yaml.safe_dump({"runs": list(space.read(parameters).points), "notebooks": ["train"]}))
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
        fits, the regret (both float32, fractions), and the seconds of the trainings: of the search, of all that fit and
        of the whole space, with the parts that the search took of both.
    """
    costs = planned(parameters)
    fitting = costs.loc[costs["fits"], "run_id"].unique()
    best = max(runs.find(whole, run_id).manifest["validation_top1"] for run_id in fitting)
    chosen = answer.rows["run_id"].iloc[0]
    own_folder = Path(parameters.results_dir)
    own = runs.find(own_folder, chosen).manifest["validation_top1"]
    searched, of_fitting, of_all = _seconds(own_folder), _seconds(whole, set(fitting)), _seconds(whole)
    return {
        **{name: getattr(parameters, name) for name in ("ram_kib", "flash_kib", "latency_ms")},
        "models": len(costs),
        "fitting": len(fitting),
        "answer": chosen,
        "validation_top1": own,
        "best_validation_top1": best,
        "regret": best - own,
        "searched_seconds": searched,
        "fitting_seconds": of_fitting,
        "whole_seconds": of_all,
        "share_of_fitting": searched / of_fitting,
        "share_of_whole": searched / of_all,
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
