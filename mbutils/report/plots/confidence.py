"""Pictures of how far scores can be trusted."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mbutils.evaluation import confidence
from mbutils.evaluation.confidence import Threshold
from mbutils.report.plots.style import PART_COLORS, VARIANT_COLORS


def reliability(tables: dict[str, pd.DataFrame]) -> Figure:
    """Shows how often predictions are right against their confidence, and how many images have it.

    Args:
        tables: What `confidence.calibration` returned, by the name of the variant.
    """
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 4.8), height_ratios=(3, 1), sharex=True, layout="constrained"
    )
    top.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="right as often as sure")
    width = 0.08 / len(tables)
    for number, (variant, table) in enumerate(tables.items()):
        color, error = VARIANT_COLORS[variant], confidence.calibration_error(table)
        label = f"{variant}, off by {error:.1%} in the mean"
        top.plot(table["confidence"], table["top1"], marker="o", color=color, label=label)
        shift = (number - (len(tables) - 1) / 2) * width
        bottom.bar((table["low"] + table["high"]) / 2 + shift, table["images"], width=width, color=color)
    top.set(ylabel="right predictions", title="Is a sure answer right?", ylim=(-0.02, 1.02))
    top.yaxis.set_major_formatter(PercentFormatter(1))
    top.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    bottom.set(xlabel="confidence: the highest score", ylabel="images", xlim=(0, 1))
    bottom.xaxis.set_major_formatter(PercentFormatter(1))
    return figure


def coverage(tables: dict[str, pd.DataFrame], precision: float, chosen: Threshold | None) -> Axes:
    """Shows how many images are answered and how much of it is right, as the threshold for "unknown" falls.

    Args:
        tables: What `confidence.coverage` returned, by part.
        precision: The wished fraction of right answers, drawn as a line.
        chosen: The threshold chosen on the validation images, None where there is none.
    """
    _, ax = plt.subplots(layout="constrained")
    for part, table in tables.items():
        ax.step(table["coverage"], table["precision"], where="post", color=PART_COLORS[part], label=part)
    ax.axhline(precision, color="0.5", linestyle="--", linewidth=1, label=f"wished: {precision:.0%}")
    if chosen:
        ax.scatter(chosen.coverage, chosen.precision, color=PART_COLORS["validation"], s=55, zorder=3, label="chosen")
    ax.set(xlabel="images that are answered", ylabel="right answers", title='What "unknown" buys', xlim=(0, 1.02))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
