"""Pictures of trainings and of accuracy."""

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mbutils.plots.style import PALETTE, PART_COLORS, PUBLISHED_COLOR, VARIANT_COLORS, alpha_color, run_label


def schedule(steps: pd.DataFrame) -> Axes:
    """Shows the learning rate over the epochs, a line for each image size; takes what `training.schedule` returns."""
    _, ax = plt.subplots(figsize=(7, 2.6))
    for color, (size, part) in zip(PALETTE, steps.groupby("image_size"), strict=False):
        ax.plot(part["epoch"], part["learning_rate"], color=color, label=f"{size} px")
    ax.set(xlabel="epoch", ylabel="learning rate", title="Learning rate", ylim=0)
    ax.legend(title="image size", frameon=False)
    return ax


def history(record: pd.DataFrame) -> Figure:
    """Shows loss and top-1 accuracy over the epochs, training and validation; takes what `training.fit` returns."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for part, prefix in (("train", ""), ("validation", "validation_")):
        left.plot(record["epoch"], record[f"{prefix}loss"], color=PART_COLORS[part], label=part)
        right.plot(record["epoch"], record[f"{prefix}top1"], color=PART_COLORS[part], label=part)
    left.set(xlabel="epoch", ylabel="cross-entropy", title="Loss", ylim=0)
    right.set(xlabel="epoch", ylabel="top-1 accuracy", title="Accuracy", ylim=(0, 1))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.legend(loc="lower right")
    return figure


def confusion(matrices: dict[str, pd.DataFrame]) -> Figure:
    """Shows confusion matrices side by side, one for each variant; takes what `evaluation.confusion` returns."""
    n_classes = len(next(iter(matrices.values())))
    side = 1.6 + 0.5 * min(n_classes, 12)
    figure, axes = plt.subplots(
        1, len(matrices), figsize=(side * len(matrices), side), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, (variant, matrix) in zip(axes.flat, matrices.items(), strict=True):
        sns.heatmap(matrix, ax=ax, cmap="Blues", cbar=False, square=True, annot=n_classes <= 12, fmt="d")
        ax.set(title=variant, xlabel="predicted class", ylabel="true class" if ax is axes.flat[0] else "")
        ax.tick_params("x", rotation=45)
        ax.tick_params("y", rotation=0)
    return figure


def accuracy_against(results: pd.DataFrame, column: str, label: str, variant: str) -> Axes:
    """Shows test accuracy against a cost, one point for each configuration: the mean of its seeds and their range.

    Where there is one seed, the bar is the 95 % interval.

    Args:
        results: What `selection.over_seeds` returns.
        column: The column of the cost.
        label: The axis label of the cost, with its unit.
        variant: The variant whose accuracy is shown.
    """
    rows = results[results["variant"] == variant].dropna(subset=[column])
    _, ax = plt.subplots()
    for (alpha, color_mode), group in rows.groupby(["alpha", "color_mode"]):
        group = group.sort_values(column)
        marker = "o" if color_mode == "rgb" else "s"
        color = alpha_color(alpha)
        error = [group["top1"] - group["top1_low"], group["top1_high"] - group["top1"]]
        ax.errorbar(
            group[column], group["top1"], error, marker=marker, color=color, capsize=3, label=f"{alpha:g} {color_mode}"
        )
    for row in rows.itertuples():
        ax.annotate(
            f"{row.image_size} px", (getattr(row, column), row.top1), xytext=(6, -11), textcoords="offset points"
        )
    ax.set(xlabel=label, ylabel="top-1 accuracy on test", title=f"Accuracy against cost, {variant}", xscale="log")
    ax.margins(x=0.15)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(title="alpha, colour", loc="lower right")
    return ax


def float_against_int8(results: pd.DataFrame) -> Axes:
    """Shows top-1 of each configuration's variants on one line, so that the drop is the distance between the points.

    Points are means over the seeds; where there are several, bars span the range of each variant.

    Args:
        results: What `selection.over_seeds` returns.
    """
    wide = results.pivot(index="run_id", columns="variant", values="top1")
    wide = wide.rename(index={row.run_id: run_label(row) for row in results.itertuples()})
    _, ax = plt.subplots(figsize=(7, 1.2 + 0.4 * len(wide)))
    ax.hlines(wide.index, wide.min(axis=1), wide.max(axis=1), color="0.7", zorder=1)
    for variant in wide:
        ax.scatter(wide[variant], wide.index, color=VARIANT_COLORS[variant], label=variant, zorder=2)
    for row in results[results["seeds"] > 1].itertuples():
        ax.hlines(
            run_label(row), row.top1_low, row.top1_high, color=VARIANT_COLORS[row.variant], linewidth=5, alpha=0.4
        )
    ax.set(xlabel="top-1 accuracy on test", title="What int8 costs in accuracy", ylim=(len(wide) - 0.5, -0.5))
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def accuracy_against_published(rows: pd.DataFrame) -> Axes:
    """Shows our accuracy beside the published one; takes what `published.accuracy_beside` returns."""
    _, ax = plt.subplots(figsize=(7, 1.2 + 0.45 * len(rows)))
    labels = [f"{row.alpha:g} {row.image_size} px {row.color_mode} {row.variant}" for row in rows.itertuples()]
    ax.hlines(labels, rows["top1_low"], rows["top1_high"], color=PALETTE[0], linewidth=3, alpha=0.4)
    ax.scatter(rows["top1"], labels, color=PALETTE[0], label="ours, with 95 % interval or range of seeds", zorder=2)
    ax.scatter(rows["published"], labels, marker="D", color=PUBLISHED_COLOR, label="published", zorder=2)
    ax.scatter(
        rows["published_later"], labels, marker="D", facecolors="none", edgecolors=PUBLISHED_COLOR, label="later page"
    )
    ax.set(xlabel="top-1 accuracy on test", title="Ours beside the published accuracy", ylim=(len(rows) - 0.5, -0.5))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
