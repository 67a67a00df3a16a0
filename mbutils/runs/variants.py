"""The record of the variants of a run: conversion, evaluation, deployment."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mbutils.columns import RESULTS, names
from mbutils.config import DeployParameters
from mbutils.runs.folder import Run, changed_name, predictions_name, written
from mbutils.runs.provenance import made_by

if TYPE_CHECKING:
    from mbutils.evaluation import Outcome

MEASURED_COLUMNS = tuple(name for name in names(RESULTS) if name.startswith("measured_"))
CHANGED_KEPT = 12  # images that int8 changed, kept of each variant
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
        variant: "int8_per_channel" or "int8_per_tensor".
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
            name = predictions_name(variant)
            write = partial(_write_predictions, identities=identities, labels=labels, scores=values)
            manifest["artefacts"][name] = written(run.new(name), write)
        variants, class_names = manifest["variants"], manifest["dataset"]["class_names"]
        for row in accuracies.to_dict("records"):
            facts = {name: row[name] for name in RECORDED_ACCURACY if not pd.isna(row[name])}
            facts["outcome"] = asdict(outcome(labels, scores[row["variant"]], class_names))
            variants[row["variant"]] = {**variants.get(row["variant"], {}), **facts}
        for variant, top1 in (validation_top1 or {}).items():
            variants[variant]["validation_top1"] = top1
        manifest["evaluated"] = made_by()


def save_changed(run: Run, variant: str, positions: np.ndarray, images: np.ndarray) -> None:
    """Saves which test images an int8 variant changed, and the first of them, so that a report can show them.

    Args:
        run: The run.
        variant: The variant.
        positions: The positions among the test images that exactly one of float32 and the variant gets right.
        images: The images at the first `CHANGED_KEPT` of them: uint8, shape (n, height, width, channels).
    """
    name = changed_name(variant)
    write = partial(np.savez_compressed, positions=positions, images=images)
    with run.changing() as manifest:
        manifest["artefacts"][name] = written(run.new(name), write)


def _write_predictions(path: Path, identities: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> None:
    np.savez_compressed(path, identities=identities.astype("U32"), labels=labels, scores=scores)


def record_deployment(run: Run, parameters: DeployParameters, measured: Mapping[str, int]) -> None:
    """Records how a variant was deployed, and what its C code takes by `MEASURED_COLUMNS`; replaces earlier records."""
    with run.changing() as manifest:
        facts = manifest["variants"][parameters.variant]
        kept = {name: value for name, value in facts.items() if name not in MEASURED_COLUMNS}
        manifest["variants"][parameters.variant] = {**kept, **measured, "deployment": parameters.choices}
