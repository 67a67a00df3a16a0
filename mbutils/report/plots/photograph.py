"""Pictures of one photograph: what a model sees, what it answers, and where it looks."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mbutils.config import Preprocessing
from mbutils.report.plots.style import VARIANT_COLORS, wrapped

_CLASSES = 6  # with scores in a picture


def before_and_after(photograph: np.ndarray, image: np.ndarray, title: str, contract: Preprocessing) -> Figure:
    """Shows a photograph, and next to it what the model sees; both uint8, shape (height, width, channels)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    _show(left, photograph)
    left.set_title(wrapped(title), fontsize=10)
    _show(right, image)
    size = contract.image_size
    color, fit = contract.color_mode, contract.fit
    right.set_title(f"What the model sees: {size} x {size} px, {color},\n{contract.interpolation}, {fit}", fontsize=10)
    return figure


def scores_by_model(scores: pd.DataFrame) -> Figure:
    """Shows the scores of several models for the first classes of a table; takes what `Classifier.predict` returns."""
    shown = scores.head(_CLASSES)
    height = 0.8 + 0.16 * (len(shown) * (scores.shape[1] + 1))
    figure, ax = plt.subplots(figsize=(8, height), layout="constrained")
    width = 0.85 / scores.shape[1]
    for number, model in enumerate(scores.columns):
        places = np.arange(len(shown)) + (number - (scores.shape[1] - 1) / 2) * width
        bars = ax.barh(places, shown[model], width, label=model, color=VARIANT_COLORS[model])
        ax.bar_label(bars, [f"{score:.1%}" for score in shown[model]], padding=3, fontsize=7)
    ax.set_yticks(np.arange(len(shown)), [wrapped(name, 24) for name in shown.index])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set(xlabel="score", title="Which class is it?", xlim=(0, 1.08))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def occlusion(image: np.ndarray, falls: np.ndarray, answer: str) -> Figure:
    """Shows an image, and beside it how far the score of its class falls where a patch covers it.

    Args:
        image: uint8, shape (height, width, channels).
        falls: What `occlusion_map` returns.
        answer: The class.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
    _show(left, image)
    left.set_title("What the model sees", fontsize=10)
    height, width, _ = image.shape
    limit = max(0.01, float(np.abs(falls).max()))
    _show(right, image)
    colors = right.imshow(
        falls, extent=(-0.5, width - 0.5, height - 0.5, -0.5), cmap="PuOr_r", vmin=-limit, vmax=limit, alpha=0.75
    )
    right.set_title(wrapped(f"Without this part, {answer} loses"), fontsize=10)
    figure.colorbar(colors, ax=right, format=PercentFormatter(1, decimals=0), label="fall of the score")
    return figure


def _show(ax: plt.Axes, image: np.ndarray) -> None:
    ax.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
    ax.axis("off")
