"""Accuracy and its statistics, and what preprocessing mistakes would cost."""

from mbutils.evaluation.findings import Finding, Outcome, outcome
from mbutils.evaluation.metrics import (
    Accuracy,
    Comparison,
    accuracy,
    accuracy_table,
    changed_sides,
    compare,
    confusion,
    lowest_scores,
    macro_recall,
    per_class,
    predict_keras,
    predict_keras_on_batch,
    prediction_titles,
    predictions,
)
