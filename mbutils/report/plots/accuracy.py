"""Pictures of trainings and of accuracy."""

from collections.abc import Sequence
from itertools import cycle, pairwise

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from mbutils.columns import by_name
from mbutils.config import FIRST_EDITION
from mbutils.report import selection
from mbutils.report.labels import short_name
from mbutils.report.plots.style import (
    ACCURACY,
    PALETTE,
    PART_COLORS,
    PUBLISHED_COLOR,
    TEST_ACCURACY,
    VARIANT_COLORS,
    WIDEST,
    alpha_color,
    axes_of_tasks,
    wrapped,
)

# Of the lines of a configuration.
_OFFSETS = {"float32": -0.3, "int8_per_channel": -0.1, "int8_per_tensor": 0.1, "int4_pointwise": 0.3}
_FEW_CLASSES = 12  # as many have room for numbers and for names of several lines in a matrix
_NARROWEST = 0.02  # range of accuracies, so that a chance difference does not look large


def schedule(steps: pd.DataFrame) -> Axes:
    """Shows the learning rate over the epochs, a line for each image size; epochs on whole images are shaded.

    Args:
        steps: What `training.schedule` returns.
    """
    _, ax = plt.subplots(figsize=(7, 2.6))
    for color, (size, part) in zip(PALETTE, steps.groupby("image_size"), strict=False):
        ax.plot(part["epoch"], part["learning_rate"], color=color, label=f"{size} px")
    whole = steps.loc[steps["whole"], "epoch"]
    if len(whole):
        ax.axvspan(whole.min(), whole.max(), color="0.9", zorder=0, label="whole, not crops")
    ax.set(xlabel="epoch", ylabel="learning rate", title="Learning rate", ylim=0)
    ax.legend(title="images", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def history(record: pd.DataFrame) -> Figure:
    """Shows loss and top-1 accuracy over the epochs, training and validation; takes what `training.fit` returns."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for part, prefix in (("train", ""), ("validation", "validation_")):
        line = {"color": PART_COLORS[part], "label": part, "marker": _marker(record)}
        left.plot(record["epoch"], record[f"{prefix}loss"], **line)
        right.plot(record["epoch"], record[f"{prefix}top1"], **line)
    left.set(xlabel="epoch", ylabel="cross-entropy", title="Loss", ylim=0)
    right.set(xlabel="epoch", ylabel=ACCURACY, title="Accuracy", ylim=(0, 1))
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for ax in (left, right):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _mark_images(ax, record)
    _legend_of_parts(figure)
    return figure


def _marker(record: pd.DataFrame) -> str:
    """Returns the marker of a curve: one epoch is a point and no line."""
    return "o" if len(record) == 1 else ""


def _mark_images(ax: Axes, record: pd.DataFrame) -> None:
    """Marks where the training images change, and the curves jump; histories of older runs do not say where."""
    known = record.reindex(columns=["epoch", "image_size", "whole"]).dropna()
    for before, after in pairwise(known.itertuples()):
        changes = []
        if before.image_size != after.image_size:
            changes.append(f"images {before.image_size:g} → {after.image_size:g} px")
        if after.whole and not before.whole:
            changes.append("whole images")
        if changes:
            at = before.epoch + 0.5
            ax.axvline(at, color="0.5", linestyle=":", linewidth=1)
            near = {"xycoords": ax.get_xaxis_transform(), "xytext": (2, 4), "textcoords": "offset points"}
            ax.annotate(", ".join(changes), (at, 0), **near, rotation=90, fontsize=8, color="0.3")


def _legend_of_parts(figure: Figure) -> None:
    handles = [Line2D([], [], color=PART_COLORS[part], label=part) for part in ("train", "validation")]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


def curves(histories: pd.DataFrame) -> Figure:
    """Shows how configurations learned: top-1 over the epochs, an axes for each, a line for each seed.

    Args:
        histories: What `review.histories` returns.
    """
    groups = list(histories.groupby("configuration", sort=False))
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.7 * columns, 2.6 * rows + 0.4), sharey=True, squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(groups) :]:
        ax.axis("off")
    for ax, (_, runs) in zip(axes.flat, groups, strict=False):
        for _, run in runs.groupby("seed"):
            for part, column in (("train", "top1"), ("validation", "validation_top1")):
                line = {"color": PART_COLORS[part], "linewidth": 1.2, "alpha": 0.8, "marker": _marker(run)}
                ax.plot(run["epoch"], run[column], **line)
        _mark_images(ax, run)
        ax.set(xlabel="epoch", title=wrapped(runs["model"].iloc[0]))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    for ax in axes[:, 0]:
        ax.set_ylabel(ACCURACY)
    _legend_of_parts(figure)
    return figure


def halving(histories: pd.DataFrame) -> Axes:
    """Shows successive halving: validation accuracy over the epochs, a line for each model up to where it stopped.

    Args:
        histories: The `histories` of an answer of a search.
    """
    _, ax = plt.subplots(figsize=(WIDEST, 4.5), layout="constrained")
    for _, line in histories[histories["place"] == 0].groupby("run_id"):
        ax.plot(line["epoch"], line["validation_top1"], color="0.7", linewidth=1)
        ax.plot(line["epoch"].iloc[-1:], line["validation_top1"].iloc[-1:], "x", color="0.5", markersize=5)
    ends = histories.groupby("run_id")["epoch"].max().unique()
    for epoch in ends[ends < histories["epoch"].max()]:
        ax.axvline(epoch, color="0.5", linewidth=1, linestyle=":")
    for (place, model), line in histories[histories["place"] > 0].groupby(["place", "model"]):
        ax.plot(line["epoch"], line["validation_top1"], color=PALETTE[place - 1], label=f"{place}. {model}")
    ax.set(xlabel="epoch", ylabel=f"{ACCURACY} on validation")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="lower right")
    return ax


def confusion(titles: Sequence[str], matrices: Sequence[pd.DataFrame]) -> Figure:
    """Shows confusion matrices side by side; each is what `evaluation.confusion` returns."""
    n_classes = max(map(len, matrices))
    many = n_classes > _FEW_CLASSES
    names = {name: _shortened(str(name)) if many else wrapped(str(name), 18) for matrix in matrices for name in matrix}
    longest = max(len(line) for name in names.values() for line in name.splitlines())
    side = 1.0 + 0.08 * longest + 0.4 * min(n_classes, _FEW_CLASSES)
    rows = -(-len(matrices) // max(2, int(WIDEST / side)))
    columns = -(-len(matrices) // rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=(side * columns, side * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(matrices) :]:
        ax.axis("off")
    for ax, title, matrix in zip(axes.flat, titles, matrices, strict=False):
        matrix = matrix.rename(index=names, columns=names)
        labelled = -(-len(matrix) // 40)  # every so many classes
        ticks = {"xticklabels": labelled, "yticklabels": labelled}
        few = len(matrix) <= _FEW_CLASSES
        sns.heatmap(matrix, ax=ax, cmap="Blues", cbar=False, square=True, annot=few, fmt="d", **ticks)
        ax.set_title(wrapped(title), fontsize=10)
        ax.set(xlabel="predicted class", ylabel="true class")
        ax.tick_params("x", rotation=90 if longest > 2 else 0)
        ax.tick_params("y", rotation=0)
        ax.tick_params(labelsize=7 if many else 10)
    return figure


def _shortened(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def accuracy_against(results: pd.DataFrame, column: str) -> Figure:
    """Shows test accuracy against a cost, one point for each int8 model: the mean of its seeds and their range.

    With one seed, the bar is the 95 % interval.

    Args:
        results: What `selection.over_seeds` returns; each task gets its own axes.
        column: The column of the cost.
    """
    kind = by_name[column]
    figure, tasks = axes_of_tasks(selection.int8_models(results), 9, lambda rows: 4)
    for task, rows, ax in tasks:
        _draw_lines(ax, rows, column)
        ax.set(xlabel=kind.header, ylabel=f"{TEST_ACCURACY}, int8")
        ax.set(title=f"{task}: accuracy against {kind.label}, by image size")
    return figure


def _draw_lines(ax: Axes, rows: pd.DataFrame, column: str) -> None:
    """Draws a line over the image sizes for each alpha, colour, settings and variant."""
    names = ["color_mode", "settings", "variant"]
    kinds = rows.sort_values(names, ascending=[False, True, True])[names].drop_duplicates()
    markers = dict(zip(kinds.itertuples(index=False, name=None), cycle("osD^vPX"), strict=False))
    several = rows["variant"].nunique() > 1
    for (alpha, color_mode, settings, variant), group in rows.groupby(["alpha", *names]):
        group = group.sort_values(column)
        error = [group["top1"] - group["top1_low"], group["top1_high"] - group["top1"]]
        label = wrapped(", ".join(filter(None, [f"{alpha:g} {color_mode}", settings, variant if several else ""])))
        marker, color = markers[color_mode, settings, variant], alpha_color(alpha)
        ax.errorbar(group[column], group["top1"], error, marker=marker, color=color, capsize=3, label=label)
    # Models of one size and cost are above each other, and share a label.
    for row in rows.sort_values("top1").drop_duplicates([column, "image_size"], keep="last").itertuples():
        ax.annotate(f"{row.image_size} px", (getattr(row, column), row.top1), (6, -12), textcoords="offset points")
    ax.set_xscale("log")
    ax.margins(x=0.25)  # room for the label of the last point
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(EngFormatter(sep=" "))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(title="alpha, colour", loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def float_against_int8(results: pd.DataFrame) -> Figure:
    """Shows top-1 of each configuration's variants below each other, so that their distance is the drop.

    Points are means over the seeds; with several seeds, bars span the range of each variant.

    Args:
        results: What `selection.over_seeds` returns; each task gets its own axes.
    """
    models = _with_lines(results)
    figure, tasks = axes_of_tasks(models, 9, lambda rows: 1.2 + 0.6 * rows["line"].nunique())
    for task, rows, ax in tasks:
        _draw_variants(ax, rows)
        ax.set(xlabel=TEST_ACCURACY, title=f"{task}: what int8 costs in accuracy")
    return figure


def _with_lines(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows with `line`, the name of the int8 model; float32 once for each conversion."""
    named = results.assign(line=[short_name(row) for row in results.itertuples()])
    is_float = named["variant"] == "float32"
    converted = named.loc[~is_float, ["configuration", "line"]].drop_duplicates()
    floats = named[is_float].merge(converted, on="configuration", how="left", suffixes=("_own", ""))
    floats["line"] = floats["line"].fillna(floats.pop("line_own"))
    return pd.concat([floats, named[~is_float]], ignore_index=True)


def _draw_variants(ax: Axes, rows: pd.DataFrame) -> None:
    lines = {name: height for height, name in enumerate(rows["line"].unique())}
    for variant, group in rows.groupby("variant"):
        color, heights = VARIANT_COLORS[variant], group["line"].map(lines).to_numpy(float) + _OFFSETS[variant]
        several = (group["seeds"] > 1).to_numpy()
        ends = group["top1_low"][several], group["top1_high"][several]
        ax.scatter(group["top1"], heights, color=color, label=variant, zorder=2)
        ax.hlines(heights[several], *ends, color=color, linewidth=4, alpha=0.4)
    ax.set_yticks(range(len(lines)), map(wrapped, lines))
    ax.set_ylim(len(lines) - 0.5, -0.5)
    low, high = ax.get_xlim()
    if high - low < _NARROWEST:
        ax.set_xlim((low + high - _NARROWEST) / 2, (low + high + _NARROWEST) / 2)
    ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def accuracy_against_published(rows: pd.DataFrame) -> Axes:
    """Shows our accuracy next to the published one; takes the rows of `published_page.accuracies` that have ours."""
    labels = [wrapped(f"{row.model}, {row.variant}", 60) for row in rows.itertuples()]
    lines = max(label.count("\n") + 1 for label in labels)
    _, ax = plt.subplots(figsize=(7, 1.2 + max(0.45, 0.22 * lines) * len(rows)))
    ax.hlines(labels, rows["low"], rows["high"], color=PALETTE[0], linewidth=3, alpha=0.4)
    ax.scatter(rows["ours"], labels, color=PALETTE[0], label="ours, with 95 % interval", zorder=2)
    pages = {"published": (FIRST_EDITION, PUBLISHED_COLOR), "published_edition": (rows["edition"].iloc[0], "none")}
    for column, (edition, color) in pages.items():
        style = {"marker": "D", "facecolors": color, "edgecolors": PUBLISHED_COLOR, "zorder": 2}
        ax.scatter(rows[column], labels, label=f"published, edition {edition}", **style)
    ax.set(xlabel=TEST_ACCURACY, title="Our accuracy and the published one", ylim=(len(rows) - 0.5, -0.5))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
