"""A trained model next to its linear probe."""

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.evaluation.metrics import accuracy_of
from mbutils.model.probe import MOST_IMAGES, LinearProbe
from mbutils.report.tables.style import styled, with_notes


def against_probe(history: pd.DataFrame, probe: LinearProbe | None, n_validation: int) -> Styler:
    """Returns the top-1 of a training, and that of the linear probe of its start weights, with 95 % intervals.

    Args:
        history: What `training.fit` returned.
        probe: What `training.probe_of_start` returned.
        n_validation: The number of validation images.
    """
    last = history.iloc[-1]
    rows = [("trained model", last["top1"], last["validation_top1"], "training images are augmented")]
    if probe:
        note = f"logistic regression on {probe.n_train:,} training images, at most {MOST_IMAGES:,}"
        rows.append(("linear probe", probe.top1, probe.validation_top1, note))
    else:
        rows.append(("linear probe", None, None, "none: there are no start weights whose features it could use"))
    table = pd.DataFrame(rows, columns=["classifier", "training top-1", "validation top-1", "note"])
    table.insert(3, "95 % interval", [_interval(top1, n_validation) for top1 in table["validation top-1"]])
    percent = dict.fromkeys(["training top-1", "validation top-1"], "{:.2%}")
    return with_notes(styled(table)).format(percent, na_rep="")


def _interval(top1: float | None, total: int) -> str:
    if pd.isna(top1):
        return ""
    known = accuracy_of(round(top1 * total), total)
    return f"{known.low:.1%} to {known.high:.1%}"
