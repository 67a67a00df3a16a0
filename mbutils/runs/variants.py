"""The record of the variants of a run: conversion, evaluation, deployment."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mbutils.columns import RESULTS, names
from mbutils.config import DeployParameters
from mbutils.runs.folder import Run, written
from mbutils.runs.predictions import Predictions, write_predictions
from mbutils.runs.provenance import made_by

if TYPE_CHECKING:
    from mbutils.evaluation import Outcome

MEASURED_COLUMNS = tuple(name for name in names(RESULTS) if name.startswith("measured_"))
# Columns of `evaluation.accuracy_table` that the manifest keeps.
RECORDED_ACCURACY = (
    "top1",
    "top1_low",
    "top1_high",
    "drop_from_float",
    "p_value",
    "agreement_with_float",
    "macro_recall",
)


def record_outcomes(run: Run, outcomes: Mapping[str, "Outcome"]) -> None:
    """Records how the trained model predicts the images of "train", not augmented, and of "validation"."""
    run.update(outcomes={part: asdict(result) for part, result in outcomes.items()})


def save_variant(run: Run, variant: str, tflite: bytes, conversion: Mapping[str, Any], **costs: float) -> None:
    """Saves a converted model as `<variant>.tflite`; an earlier evaluation of the variant is forgotten.

    Args:
        run: The run.
        variant: One of `config.INT8_VARIANTS`.
        tflite: The model.
        conversion: The parameters that determine it, by name.
        **costs: What it takes on the device, by the columns of `results.csv`.
    """
    name = f"{variant}.tflite"
    with run.changing() as manifest:
        manifest["artefacts"][name] = written(run.new(name), lambda path: path.write_bytes(tflite))
        manifest["variants"][variant] = {"conversion": dict(conversion), **costs, "tflite_bytes": len(tflite)}


def record_evaluation(
    run: Run,
    accuracies: pd.DataFrame,
    identities: np.ndarray,
    labels: np.ndarray,
    scores: dict[str, np.ndarray],
    validation_top1: Mapping[str, float] | None = None,
) -> None:
    """Saves the test predictions of each variant and records its accuracy.

    Args:
        run: The run.
        accuracies: What `evaluation.accuracy_table` returned.
        identities: The identities of the test images, shape (n,).
        labels: Their true classes: int64, shape (n,).
        scores: The scores of each variant: float32, shape (n, n_classes).
        validation_top1: The accuracy of variants on the validation images, fractions. Those left out have the float32
            accuracy that training ended with.
    """
    from mbutils.evaluation import outcome  # and with it TensorFlow, which reading runs does not need

    with run.changing() as manifest:
        for variant, values in scores.items():
            manifest["artefacts"] |= write_predictions(run, variant, Predictions(labels, values, identities))
        variants, class_names = manifest["variants"], manifest["dataset"]["class_names"]
        for row in accuracies.to_dict("records"):
            facts = {name: row[name] for name in RECORDED_ACCURACY if not pd.isna(row[name])}
            facts["outcome"] = asdict(outcome(labels, scores[row["variant"]], class_names))
            variants[row["variant"]] = {**variants.get(row["variant"], {}), **facts}
        for variant, top1 in (validation_top1 or {}).items():
            variants[variant]["validation_top1"] = top1
        manifest["evaluated"] = made_by()


def record_deployment(run: Run, parameters: DeployParameters, measured: Mapping[str, int]) -> None:
    """Records how a variant was deployed, and what its C code takes by `MEASURED_COLUMNS`; replaces earlier records."""
    with run.changing() as manifest:
        facts = manifest["variants"][parameters.variant]
        kept = {name: value for name, value in facts.items() if name not in MEASURED_COLUMNS}
        manifest["variants"][parameters.variant] = {**kept, **measured, "deployment": parameters.choices}
