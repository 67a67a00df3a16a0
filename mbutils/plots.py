"""Pictures: a DataFrame or images in, matplotlib Axes or a Figure out. The same colour is the same thing everywhere."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

_PALETTE = sns.color_palette("colorblind")
VARIANT_COLORS = {"float32": _PALETTE[7], "int8_per_channel": _PALETTE[0], "int8_per_tensor": _PALETTE[1]}
PART_COLORS = {"train": _PALETTE[0], "validation": _PALETTE[1], "test": _PALETTE[2], "excluded": _PALETTE[7]}
_PUBLISHED_COLOR = _PALETTE[3]


def use_style() -> None:
    """Sets the look of every picture; called once in each notebook."""
    sns.set_theme(style="whitegrid", rc={"figure.figsize": (7, 4), "figure.dpi": 110, "axes.titlelocation": "left"})


def image_grid(images: Sequence[np.ndarray], titles: Sequence[str] = (), columns: int = 8) -> Figure:
    """Shows images, uint8 of shape (height, width, channels), in rows of `columns`, with a title over each."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.3 * columns, 1.5 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for index, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        ax.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
        if len(titles):
            ax.set_title(titles[index], fontsize=8, loc="center")
    return figure


def class_counts(counts: pd.DataFrame) -> Axes:
    """Shows the images of each class and part, stacked; takes what `Dataset.counts` returns."""
    parts = counts.drop(index="total", columns="total")
    parts = parts.loc[:, parts.sum() > 0]
    ax = parts.plot.barh(stacked=True, color=PART_COLORS, width=0.75, figsize=(7, 1 + 0.3 * len(parts)))
    ax.invert_yaxis()
    ax.set(xlabel="images", ylabel="", title="Images of each class and part")
    ax.legend(title="", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def image_sizes(sizes: pd.DataFrame, image_size: int) -> Axes:
    """Shows width and height of the original images, in pixels, and the size that the model takes."""
    _, ax = plt.subplots()
    sns.scatterplot(sizes, x="width", y="height", ax=ax, alpha=0.3, linewidth=0, color=_PALETTE[0])
    ax.plot(
        image_size, image_size, marker="s", linestyle="", color=_PALETTE[3], label=f"the model takes {image_size} px"
    )
    ax.set(xlabel="width (px)", ylabel="height (px)", title="Size of the original images", xlim=0, ylim=0)
    ax.legend(loc="lower right")
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
    return figure


def accuracy_against(results: pd.DataFrame, column: str, label: str, variant: str) -> Axes:
    """Shows test accuracy with its 95 % interval against a cost, one point for each run.

    Args:
        results: What `runs.results_table` returns.
        column: The column of the cost.
        label: The axis label of the cost, with its unit.
        variant: The variant whose accuracy is shown.
    """
    rows = results[results["variant"] == variant].dropna(subset=[column])
    _, ax = plt.subplots()
    for (alpha, color_mode), group in rows.groupby(["alpha", "color_mode"]):
        group = group.sort_values(column)
        marker = "o" if color_mode == "rgb" else "s"
        color = _alpha_color(alpha)
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


def _alpha_color(alpha: float) -> tuple[float, float, float]:
    order = {0.25: 0, 0.5: 1, 0.75: 2, 1.0: 4}
    return _PALETTE[order.get(alpha, 5)]


def float_against_int8(results: pd.DataFrame) -> Axes:
    """Shows top-1 of each run's variants on one line, so that the drop is the distance between the points."""
    wide = results.pivot(index="run_id", columns="variant", values="top1")
    wide.index = [
        run_label(row) for row in results.drop_duplicates("run_id").set_index("run_id").loc[wide.index].itertuples()
    ]
    _, ax = plt.subplots(figsize=(7, 1.2 + 0.4 * len(wide)))
    ax.hlines(wide.index, wide.min(axis=1), wide.max(axis=1), color="0.7", zorder=1)
    for variant in wide:
        ax.scatter(wide[variant], wide.index, color=VARIANT_COLORS[variant], label=variant, zorder=2)
    ax.invert_yaxis()
    ax.set(xlabel="top-1 accuracy on test", title="What int8 costs in accuracy")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def run_label(row: tuple) -> str:
    """Returns a short label for a row of the results table, such as "tf_flowers 0.25 96 px rgb s0"."""
    return f"{row.dataset} {row.alpha:g} {row.image_size} px {row.color_mode} s{row.seed}"


def accuracy_against_published(rows: pd.DataFrame) -> Axes:
    """Shows our accuracy beside the published one; takes what `published.accuracy_beside` returns."""
    _, ax = plt.subplots(figsize=(7, 1.2 + 0.45 * len(rows)))
    labels = [f"{row.alpha:g} {row.image_size} px {row.color_mode} {row.variant}" for row in rows.itertuples()]
    ax.hlines(labels, rows["top1_low"], rows["top1_high"], color=_PALETTE[0], linewidth=3, alpha=0.4)
    ax.scatter(rows["top1"], labels, color=_PALETTE[0], label="ours, with 95 % interval", zorder=2)
    ax.scatter(rows["published"], labels, marker="D", color=_PUBLISHED_COLOR, label="published", zorder=2)
    ax.scatter(
        rows["published_later"], labels, marker="D", facecolors="none", edgecolors=_PUBLISHED_COLOR, label="later page"
    )
    ax.invert_yaxis()
    ax.set(xlabel="top-1 accuracy on test", title="Ours beside the published accuracy")
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
