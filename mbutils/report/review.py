"""What a report shows of single runs: how they learned, what they confuse, how far they are sure, how they were made.

Everything comes from the run folders: a report needs no images.
"""

from pathlib import Path

import pandas as pd

from mbutils import evaluation, runs
from mbutils.errors import WorkbookError
from mbutils.evaluation import Finding, Outcome, confidence
from mbutils.runs import Run

_PROVENANCE_COLUMNS = (
    "run_id",
    "seed",
    "data",
    "trained",
    "train_seconds",
    "git_commit",
    "machine",
    "evaluated_by",
    "note",
)


def histories(results_dir: Path, results: pd.DataFrame, models: pd.DataFrame) -> pd.DataFrame:
    """Returns the training histories of some configurations.

    Args:
        results_dir: The results folder.
        results: What `runs.results_table` returns.
        models: Rows of `selection.over_seeds`: the configurations to return.

    Returns:
        One row for each run and epoch: the columns of `history.csv`, with `configuration`, `seed`, `model`; in the
        order of `models`.
    """
    wanted = models[["configuration", "model"]].drop_duplicates("configuration")
    parts = []
    for row in wanted.merge(results.drop_duplicates("run_id"), on="configuration").itertuples():
        facts = {name: getattr(row, name) for name in ("configuration", "seed", "model")}
        parts.append(_history(_folder(results_dir, row.run_id)).assign(**facts))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def confusions(results_dir: Path, models: pd.DataFrame) -> list[pd.DataFrame]:
    """Returns the confusion matrix of each model on the test images, see `evaluation.confusion`.

    Args:
        results_dir: The results folder.
        models: Rows of `selection.over_seeds`; each stands for the run in its `run_id`.
    """
    matrices = []
    for row in models.itertuples():
        run = _folder(results_dir, row.run_id)
        found = runs.predictions(run, row.variant)
        matrices.append(evaluation.confusion(found.labels, found.scores, tuple(run.manifest["dataset"]["class_names"])))
    return matrices


def calibrations(results_dir: Path, models: pd.DataFrame) -> list[dict[str, pd.DataFrame]]:
    """Returns how often predictions are right by their confidence, for float32 and the variant of each model.

    Args:
        results_dir: The results folder.
        models: Rows with the `run_id` and `variant` of each model.
    """
    tables = []
    for row in models.itertuples():
        run = _folder(results_dir, row.run_id)
        found = {variant: runs.predictions(run, variant) for variant in (runs.FLOAT32, row.variant)}
        tables.append({name: confidence.calibration(own.labels, own.scores) for name, own in found.items()})
    return tables


def findings(run: Run) -> list[Finding]:
    """Returns what stands out about a run: its data, its training, and its predictions, as far as they are recorded."""
    manifest, history = run.manifest, _history(run)
    parts = {part: Outcome(**facts) for part, facts in manifest.get("outcomes", {}).items()}
    variants = sorted(manifest["variants"].items())  # "float32" sorts before "int..."
    tests = {variant: Outcome(**facts["outcome"]) for variant, facts in variants if "outcome" in facts}
    return evaluation.findings.find(manifest["dataset"], history, parts, tests)


def findings_by_run(results_dir: Path, models: pd.DataFrame) -> dict[Finding, list[str]]:
    """Returns what stands out about the runs of some models, each finding with the ids of the runs that it is about."""
    found: dict[Finding, list[str]] = {}
    for run_id in models["run_id"].unique():
        for finding in findings(_folder(results_dir, run_id)):
            found.setdefault(finding, []).append(run_id)
    return found


def provenance(results_dir: Path, results: pd.DataFrame) -> pd.DataFrame:
    """Returns how each run was made.

    Returns:
        One row for each run: `run_id`, `seed`, `data` (fingerprint), `trained` (UTC), `train_seconds`, `git_commit` and
        `machine` of the training, `evaluated_by`, the commit of the evaluation, and `note`. Blank means not recorded.
    """
    rows = []
    for run_id in results["run_id"].unique():
        manifest = _folder(results_dir, run_id).manifest
        rows.append(
            {
                "run_id": run_id,
                "seed": manifest["parameters"]["seed"],
                "data": f"{manifest['dataset']['name']} {manifest['dataset']['fingerprint']}",
                "trained": manifest["finished"][:16].replace("T", " "),
                "train_seconds": manifest["train_seconds"],
                "git_commit": manifest["git_commit"],
                "machine": manifest.get("machine", ""),
                "evaluated_by": manifest.get("evaluated", {}).get("git_commit", ""),
                "note": manifest.get("note", ""),
            }
        )
    return pd.DataFrame(rows, columns=_PROVENANCE_COLUMNS)


def made_by(results_dir: Path, results: pd.DataFrame) -> dict[str, str]:
    """Returns what made this report, and the versions that the runs were made with: several if runs differ."""
    found: dict[str, set[str]] = {}
    for run_id in results["run_id"].unique():
        for name, version in _folder(results_dir, run_id).manifest["versions"].items():
            found.setdefault(name, set()).add(version)
    versions = {name: ", ".join(sorted(several)) for name, several in found.items()}
    report = {"commit of this report": runs.git_commit() or "outside a git checkout", "machine": runs.machine()}
    return {**report, **versions}


def _history(run: Run) -> pd.DataFrame:
    try:
        history = pd.read_csv(run.artefact("history.csv"))
        numbers = history[["epoch", "validation_top1", "seconds"]].dtypes.map(pd.api.types.is_numeric_dtype)
        if history.empty or not numbers.all():
            raise ValueError("no numbers")
    except (ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise WorkbookError(f"run {run.run_id}: history.csv is not that of a training: run train again") from error
    return history


def _folder(results_dir: Path, run_id: str) -> Run:
    return Run(results_dir / "runs" / run_id)
