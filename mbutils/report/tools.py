"""What the models of a results table cost with each way to run them: our C code, or a version of STM32Cube.AI."""

from pathlib import Path

import pandas as pd

from mbutils import runs
from mbutils.config import C_CODE, FIRST_EDITION
from mbutils.deploy import beforehand
from mbutils.device import costs
from mbutils.device.footprint import footprint
from mbutils.report.selection import COSTS
from mbutils.runs import FLOAT32


def with_costs_of(results: pd.DataFrame, results_dir: Path, tool: str) -> pd.DataFrame:
    """Returns a results table whose total RAM, total flash and latency on STM32H747 are those of one tool.

    Args:
        results: What `runs.results_table` returns; its own costs are those of the first edition.
        results_dir: Its results folder.
        tool: `config.C_CODE` for our C code: what was measured, or for a model that was not deployed what
            `deploy.beforehand` measures, in about 5 seconds or from the cache. Its time takes a board, so that of
            STM32Cube.AI stays. Otherwise an edition of the published values, for the tool of it.
    """
    if tool == FIRST_EDITION:
        return results
    rows = results["variant"] != FLOAT32
    found = [_costs_of(row, results_dir, tool) for row in results[rows].to_dict("records")]
    table = results.copy()
    table.loc[rows, list(COSTS)] = pd.DataFrame(found, index=table.index[rows], columns=list(COSTS))
    return table


def _costs_of(row: dict, results_dir: Path, tool: str) -> dict[str, float]:
    measured = {name: row[f"measured_{name.removeprefix('total_')}"] for name in COSTS[:2]}
    if tool == C_CODE and not pd.isna(list(measured.values())).any():
        return row | measured
    run = runs.find(results_dir, row["run_id"])
    model = run.artefact(f"{row['variant']}.tflite")
    if tool != C_CODE:
        return costs.columns(footprint(model), tool)
    sizes = beforehand.sizes(model.read_bytes(), run.parameters.preprocessing)
    return row | {name: sizes[f"measured_{name.removeprefix('total_')}"] for name in COSTS[:2]}
