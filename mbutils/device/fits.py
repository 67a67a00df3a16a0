"""Linear fits to published values: non-negative, on relative errors, checked on networks that are left out."""

from collections.abc import Sequence
from math import exp

import numpy as np
import pandas as pd
from scipy.optimize import nnls

# What makes a network: classes only change its last layer, so models that differ in nothing else are left out together.
NETWORK = ["network", "alpha", "image_size", "channels"]


def coefficients(rows: pd.DataFrame, features: Sequence[str], target: str) -> np.ndarray:
    """Returns non-negative coefficients that minimize the sum of squared relative errors.

    So a model of 5 ms weighs as much as one of 500.
    """
    relative = rows[list(features)].to_numpy(float) / rows[target].to_numpy(float)[:, np.newaxis]
    scale = np.abs(relative).max(axis=0)
    scale[scale == 0] = 1.0
    return nnls(relative / scale, np.ones(len(rows)))[0] / scale


def leave_one_network_out(rows: pd.DataFrame, features: Sequence[str], target: str) -> pd.DataFrame:
    """Returns the rows, each with what a fit to all other networks predicts.

    Returns:
        `rows` with the columns `estimated`, and `error` as a fraction of the published value.
    """
    groups = rows.groupby(NETWORK, dropna=False).ngroup()
    fits = {group: coefficients(rows[groups != group], features, target) for group in groups.unique()}
    estimated = (rows[list(features)].to_numpy(float) * np.array([fits[group] for group in groups])).sum(axis=1)
    return rows.assign(estimated=estimated, error=estimated / rows[target] - 1)


def error_factor(errors: pd.Series) -> float:
    """Returns the factor f of the error band: the true value should lie between estimate / f and estimate * f.

    The largest ratio between estimated and published value, in either direction. With n errors it is also the
    ceil(0.9 * (n + 1))-th smallest for n of 8 to 18, so about 90 % of new models like these should fall inside (the
    jackknife); so few rows do not support a finer statement.
    """
    return exp(np.abs(np.log1p(errors)).max())
