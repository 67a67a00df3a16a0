"""Pictures of RAM, flash and latency."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from mbutils.columns import KIB, by_name
from mbutils.config import Budget
from mbutils.deploy import Plan
from mbutils.device.footprint import Footprint
from mbutils.device.memory import Buffer
from mbutils.report import selection
from mbutils.report.labels import short_name
from mbutils.report.plots.style import PALETTE, TEST_ACCURACY, WIDEST, alpha_color, axes_of_tasks, wrapped

_BUFFER_STYLES = {
    "activation": {"facecolor": PALETTE[0], "alpha": 0.55},
    "padding": {"facecolor": PALETTE[8], "hatch": "////", "alpha": 0.75},
    "scratch": {"facecolor": PALETTE[1], "hatch": "....", "alpha": 0.75},
}
_MARK_COLOR = PALETTE[3]
_SHORTEST_LABELLED = 0.2  # fraction of the height of the map
_OVER_STYLE = {"facecolor": "none", "edgecolor": "0.3", "hatch": "///", "linewidth": 0}
_FITS_STYLE = {"facecolor": "none", "edgecolor": _MARK_COLOR, "linewidth": 2.5}
_COLOR_NAMES = {"rgb": "RGB", "gray": "grayscale"}


def memory_map(model: Footprint) -> Axes:
    """Shows where every buffer lies while the ops run, and which op sets the peak.

    A buffer is labelled with the op that writes it. Where two overlap, an op overwrites its input as it goes.

    Args:
        model: What `footprint` returned.
    """
    _, ax = plt.subplots(figsize=(WIDEST, 5.5), layout="constrained")
    peak, top = model.ops[model.peak_op], model.activation_ram_bytes / KIB
    ax.axvspan(peak.index - 0.5, peak.index + 0.5, color=_MARK_COLOR, alpha=0.2, linewidth=0, zorder=0)
    for buffer in model.buffers:
        _draw_buffer(ax, buffer, top)
    ax.axhline(top, color=_MARK_COLOR, linewidth=1.5)
    names = [op.name for op in model.ops]
    in_left_half = peak.index < len(names) / 2
    ax.annotate(
        f"peak at {peak.name}: {top:,.2f} KiB",
        (peak.index, top),
        xytext=(0, 6),
        textcoords="offset points",
        color=_MARK_COLOR,
        weight="bold",
        ha="left" if in_left_half else "right",
    )
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    ax.get_xticklabels()[peak.index].set(color=_MARK_COLOR, weight="bold")
    ax.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, 1.12 * top), xlabel="op, in the order of execution")
    ax.set(ylabel="address in the activation RAM (KiB)", title="Which op sets the activation RAM")
    ax.grid(axis="x", visible=False)
    handles = [Patch(label=kind, edgecolor="0.3", **style) for kind, style in _BUFFER_STYLES.items()]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def arena_map(plan: Plan) -> Axes:
    """Shows where every buffer of the C code lies while its layers run.

    Args:
        plan: The memory of a deployed network.
    """
    _, ax = plt.subplots(figsize=(WIDEST, 5.5), layout="constrained")
    top, names = plan.arena_bytes / KIB, plan.stage_names
    for buffer in plan.buffers:
        _draw_buffer(ax, buffer, top)
    ax.axhline(top, color=_MARK_COLOR, linewidth=1.5)
    ax.annotate(f"{top:,.2f} KiB", (len(names) - 0.6, top), (0, 6), textcoords="offset points", ha="right")
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    ax.set(xlim=(-0.5, len(names) - 0.5), ylim=(0, 1.12 * top), xlabel="layer, in the order of execution")
    ax.set(ylabel="address in the arena (KiB)", title="The arena of the C code, the image included")
    ax.grid(axis="x", visible=False)
    handles = [Patch(label=kind, edgecolor="0.3", **_BUFFER_STYLES[kind]) for kind in ("activation", "scratch")]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def streaming(table: pd.DataFrame, chosen: int) -> Axes:
    """Shows the arena against the number of streamed layers.

    Args:
        table: What `deploy.streaming` returned.
        chosen: The number that was deployed.
    """
    _, ax = plt.subplots(layout="constrained")
    is_chosen = table["streamed_layers"] == chosen
    colors = [_MARK_COLOR if marked else PALETTE[0] for marked in is_chosen]
    ax.bar(table["streamed_layers"], table["arena_bytes"] / KIB, color=colors)
    smallest = table["arena_bytes"].min()
    label = f"smallest: {by_name['arena_bytes'].with_unit(smallest)}"
    ax.axhline(smallest / KIB, color="0.35", linewidth=1, linestyle="--", label=label)
    ax.set(xlabel="streamed layers", ylabel=by_name["arena_bytes"].axis, title="Streamed layers save RAM")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    deployed = [Patch(label="deployed", color=_MARK_COLOR)] if is_chosen.any() else []
    ax.legend(handles=[*deployed, *ax.lines], loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def _draw_buffer(ax: Axes, buffer: Buffer, top: float) -> None:
    bottom, height = buffer.offset / KIB, buffer.size / KIB
    corner, width = (buffer.first_op - 0.5, bottom), buffer.last_op - buffer.first_op + 1
    style = _BUFFER_STYLES[buffer.kind]
    ax.add_patch(Rectangle(corner, width, height, edgecolor="0.3", linewidth=0.6, **style))
    if buffer.kind == "activation" and height >= _SHORTEST_LABELLED * top:
        # In the column of the op that writes it, where no other buffer has its label.
        ax.text(buffer.first_op, bottom + height / 2, buffer.name, ha="center", va="center", fontsize=7, rotation=90)


def cost_grid(grid: pd.DataFrame, budget: Budget, columns: Sequence[str] = selection.COSTS) -> Figure:
    """Shows RAM, flash and latency of every alpha, image size and colour, and what fits a budget.

    Args:
        grid: What `before_training.grid` returned; of models that differ in other ways, the first of each is shown.
        budget: The limits; a frame marks what is within all of them, a hatch what is over the one shown.
        columns: The costs.
    """
    grid = grid.drop_duplicates(["alpha", "image_size", "color_mode"])
    colors = [color for color in _COLOR_NAMES if color in set(grid["color_mode"])]
    size = (WIDEST, 2.6 * len(colors) + 0.6)
    figure, axes = plt.subplots(len(colors), len(columns), figsize=size, squeeze=False, layout="constrained")
    fitting = selection.fits(grid, budget)
    for color, row in zip(colors, axes, strict=True):
        rows = grid[grid["color_mode"] == color]
        for column, ax in zip(columns, row, strict=True):
            limit = budget.limits.get(column, np.inf)
            _draw_heat_map(ax, rows, column, grid[column].max())
            _mark_cells(ax, rows, rows[column] > limit, fitting[rows.index])
            shown = f", limit {limit / by_name[column].scale:g}" if limit < np.inf else ""
            ax.set(title=f"{by_name[column].axis}, {_COLOR_NAMES[color]}{shown}")
    handles = [Patch(label="fits every limit", **_FITS_STYLE), Patch(label="over the limit shown", **_OVER_STYLE)]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_heat_map(ax: Axes, rows: pd.DataFrame, column: str, highest: float) -> None:
    values = rows.pivot(index="alpha", columns="image_size", values=column).astype(float)
    scale = by_name[column].scale
    norm = LogNorm(vmax=highest / scale)
    sns.heatmap(values / scale, ax=ax, cmap="Blues", norm=norm, annot=True, fmt=".0f", cbar=False)
    ax.set(xlabel=by_name["image_size"].axis, ylabel=by_name["alpha"].axis)
    ax.invert_yaxis()
    ax.tick_params(axis="y", rotation=0)


def _mark_cells(ax: Axes, rows: pd.DataFrame, over: pd.Series, fitting: pd.Series) -> None:
    alphas, sizes = sorted(rows["alpha"].unique()), sorted(rows["image_size"].unique())
    for index, row in rows.iterrows():
        corner = (sizes.index(row["image_size"]), alphas.index(row["alpha"]))
        if over[index]:
            ax.add_patch(Rectangle(corner, 1, 1, **_OVER_STYLE))
        if fitting[index]:
            inset = (corner[0] + 0.04, corner[1] + 0.04)
            ax.add_patch(Rectangle(inset, 0.92, 0.92, **_FITS_STYLE))


def pareto(results: pd.DataFrame, column: str, limit: float | None = None) -> Figure:
    """Shows int8 accuracy on test against a cost: the Pareto front as a step line, what it dominates in grey.

    Points are means over the seeds; with several seeds, bars span their range. The models of the front have numbers,
    which the legend explains, so that no label covers a point.

    Args:
        results: What `selection.over_seeds` returns; each task gets its own axes.
        column: The column of the cost; bytes are shown in KiB.
        limit: The budget, in the unit of the column; None for no limit.
    """
    kind = by_name[column]
    models = selection.int8_models(results).dropna(subset=[column])
    figure, tasks = axes_of_tasks(models, 9, lambda rows: 4)
    figure.axes[0].set(xlabel=kind.axis, title="no int8 model of known cost yet")
    for task, rows, ax in tasks:
        rows = rows.assign(cost=rows[column].astype(float) / kind.scale)
        _draw_front(ax, rows, selection.pareto_front(rows, column))
        if limit:
            ax.axvline(limit / kind.scale, color=_MARK_COLOR, linewidth=1.5, label="limit")
        ax.set(xlabel=kind.axis, ylabel=f"{TEST_ACCURACY}, int8", title=f"{task}: accuracy against {kind.label}")
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, title="best for its cost", alignment="left")
    return figure


def _draw_front(ax: Axes, rows: pd.DataFrame, is_front: pd.Series) -> None:
    front, dominated = rows[is_front].sort_values("cost"), rows[~is_front]
    several = rows[rows["seeds"] > 1]
    ax.vlines(several["cost"], several["top1_low"], several["top1_high"], color="0.6", linewidth=2, zorder=1)
    ax.step(front["cost"], front["top1"], where="post", color="0.35", zorder=1)
    for number, (point, models) in enumerate(front.groupby(["cost", "top1"]), 1):
        color, label = alpha_color(models["alpha"].iloc[0]), f"{number}: {_names(models, rows)}"
        ax.scatter(*point, color=color, s=55, zorder=3, label=label)
        ax.annotate(str(number), point, xytext=(-5, 4), textcoords="offset points", ha="right", weight="bold")
    if len(dominated):
        ax.scatter(dominated["cost"], dominated["top1"], color="0.75", zorder=2, label="dominated")
    ax.margins(x=0.08, y=0.12)


def _names(models: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Returns the names of the models of one point, with their variants where the rows have several."""
    variants = models["variant"].str.removeprefix("int8_").str.replace("_", " ")
    names = [short_name(row) for row in models.itertuples()]
    if rows["variant"].nunique() > 1:
        names = [f"{name}, {variant}" for name, variant in zip(names, variants, strict=True)]
    return "\n".join(wrapped(name, 36) for name in names)
