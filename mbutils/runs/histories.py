"""What is known of a training epoch by epoch: of a finished run, or of one that was stopped to be continued."""

import contextlib
from pathlib import Path

import pandas as pd

from mbutils.errors import WorkbookError
from mbutils.files import atomic_write
from mbutils.runs.folder import Run

_NUMBERS = ("epoch", "validation_top1", "validation_loss", "seconds")


def record_history(results_dir: Path, run_id: str, history: pd.DataFrame) -> None:
    """Keeps the history of a training that was stopped at an epoch.

    Raises:
        WorkbookError: If it cannot be written.
    """
    with atomic_write(of_stopped(results_dir / "runs" / run_id)) as partial:
        history.to_csv(partial, index=False)


def of_stopped(run: Path) -> Path:
    """Returns the file with the history of a training that was stopped, beside where its run folder will be."""
    return run.with_name(f".{run.name}.history.csv")


def history(results_dir: Path, run_id: str) -> pd.DataFrame:
    """Returns the history of a run: a row for each epoch that is known, none where there are none or they are damaged.

    Returns:
        What `training.fit` returned: `epoch` (from 1), `validation_top1`, `validation_loss`, `seconds` and more.
    """
    run = Run(results_dir / "runs" / run_id)
    with contextlib.suppress(OSError, ValueError, KeyError, WorkbookError):
        path = run.artefact("history.csv") if run.path.exists() else of_stopped(run.path)
        found = pd.read_csv(path)
        if found[list(_NUMBERS)].notna().all(axis=None) and found["epoch"].tolist() == list(range(1, len(found) + 1)):
            return found
    return pd.DataFrame(columns=_NUMBERS)
