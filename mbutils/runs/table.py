"""The results table, derived from the manifests of a results folder."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from mbutils.columns import RESULTS, names
from mbutils.config import MOBILENET, TrainParameters
from mbutils.files import atomic_write
from mbutils.runs.folder import FLOAT32, all_runs, no_run
from mbutils.runs.identity import digest_of

RESULT_COLUMNS = names(RESULTS)


def results_table(results_dir: Path) -> pd.DataFrame:
    """Returns one row for each evaluated variant of each run, with the columns of `results/README.md`."""
    rows = [row for run in all_runs(results_dir) for row in _rows(run.manifest)]
    return pd.DataFrame(rows, columns=RESULT_COLUMNS)


def _rows(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    shared = {**manifest["parameters"], **manifest["dataset"], **manifest, "dataset": manifest["dataset"]["name"]}
    for variant, facts in sorted(manifest["variants"].items()):  # "float32" sorts before "int..."
        if "top1" in facts:
            conversion = digest_of(facts["conversion"]) if "conversion" in facts else None
            recorded = _determining(manifest["parameters"]) | facts.get("conversion", {})
            row = {**shared, **facts, "variant": variant, "conversion": conversion}
            row["recorded_parameters"] = json.dumps(recorded)
            yield {column: row.get(column) for column in RESULT_COLUMNS}


def _determining(recorded: dict[str, Any]) -> dict[str, Any]:
    """Returns the parameters that determine a model and have no column of their own, as far as they are recorded."""
    specs = [spec for spec in fields(TrainParameters) if spec.metadata["determines_result"]]
    values = {
        spec.name: recorded.get(spec.name, spec.metadata["neutral"])
        for spec in specs
        if spec.name not in RESULT_COLUMNS and recorded.get(spec.metadata["only_with"], True)
    }
    return {name: value for name, value in values.items() if value is not None}


def write_results(results_dir: Path) -> Path:
    """Writes `results.csv` from the manifests and returns its path.

    Raises:
        WorkbookError: If there is no run that is not damaged, or it cannot be written.
    """
    if not all_runs(results_dir):
        raise no_run(results_dir)
    path = results_dir / "results.csv"
    with atomic_write(path) as partial:
        results_table(results_dir).to_csv(partial, index=False)
    return path


def unfinished(results_dir: Path) -> pd.DataFrame:
    """Returns the runs that lack a stage: `run_id`, and `missing`, the first stage that is to be run."""
    rows = [{"run_id": run.run_id, "missing": _missing_stage(run.manifest)} for run in all_runs(results_dir)]
    return pd.DataFrame([row for row in rows if row["missing"]], columns=["run_id", "missing"])


def _missing_stage(manifest: dict[str, Any]) -> str:
    if manifest["parameters"].get("network", MOBILENET) != MOBILENET:  # it only teaches
        return ""
    int8 = [facts for variant, facts in manifest["variants"].items() if variant != FLOAT32]
    if not int8:
        return "convert"
    return "" if all("top1" in facts for facts in int8) else "evaluate"
