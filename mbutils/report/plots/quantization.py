"""Pictures of what int8 costs, and where."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from mbutils.report.plots.style import ACCURACY, PALETTE, VARIANT_COLORS, WIDEST


def signal_to_noise(tables: dict[str, pd.DataFrame]) -> Axes:
    """Shows the signal-to-noise ratio of every layer, worst first, for one conversion or several.

    Args:
        tables: What `quantization.signal_to_noise` returned, by the name of the conversion; the first gives the order.
    """
    first = next(iter(tables.values()))
    _, ax = plt.subplots(figsize=(7, 1.2 + 0.2 * len(first)), layout="constrained")
    wide = pd.concat({name: table.set_index("layer")["snr_db"] for name, table in tables.items()}, axis="columns")
    wide = wide.loc[first["layer"]]
    ax.hlines(wide.index, wide.min(axis=1), wide.max(axis=1), color="0.7", zorder=1)
    for name, color, marker in zip(tables, PALETTE, "oDs", strict=False):
        ax.scatter(wide[name], wide.index, color=color, marker=marker, s=28, label=name, zorder=2)
    ax.set(xlabel="signal-to-noise ratio of the output (dB)", title="Which layers int8 hurts most")
    ax.set(ylim=(len(wide) - 0.5, -0.5))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax


def channel_ranges(tables: dict[str, pd.DataFrame]) -> Figure:
    """Shows the largest weight and activation of every channel of each convolution, for one model or several.

    Args:
        tables: What `quantization.channel_ranges` returned, by the name of the model.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDEST, 7), sharex=True, layout="constrained")
    layers = next(iter(tables.values()))["layer"].unique()
    for number, (name, table) in enumerate(tables.items()):
        offset = 0.35 * (number - (len(tables) - 1) / 2)
        x = table["layer"].map({layer: position for position, layer in enumerate(layers)}) + offset
        for ax, column in zip(axes, ("weight", "activation"), strict=True):
            ax.scatter(x, table[column], s=9, alpha=0.45, linewidth=0, color=PALETTE[number], label=name)
    axes[0].set(yscale="log", ylim=_log_limits(tables), ylabel="largest absolute weight")
    # The default formatters write TeX, which `use_style` switches off.
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].yaxis.set_minor_formatter(NullFormatter())
    axes[0].set(title="Weights: a channel far below the largest of its layer has few int8 values in one scale")
    axes[1].set(ylabel="largest activation", title="Activations: ReLU6 bounds them", xlabel="layer", ylim=(-0.2, 6.3))
    axes[1].set_xticks(range(len(layers)), layers, rotation=90, fontsize=8)
    axes[0].legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, markerscale=2)
    for ax in axes:
        ax.grid(axis="x", visible=False)
    return figure


def _log_limits(tables: dict[str, pd.DataFrame]) -> tuple[float, float]:
    """Returns limits of a log axis that leave out channels that are practically zero."""
    weights = pd.concat([table["weight"] for table in tables.values()])
    return max(weights.max() * 1e-5, weights.min() / 2), weights.max() * 2


def rounded_kernel(table: pd.DataFrame) -> Figure:
    """Shows the weights of one channel on the grid of integers, before and after rounding, and the rounding errors.

    Args:
        table: What `quantization.rounded_kernel` returned.
    """
    figure, (grid, errors) = plt.subplots(1, 2, figsize=(10, 4), width_ratios=(3, 2), layout="constrained")
    first, exact, rounded = table.iloc[0], table["weight"] / table["scale"], table["integer"]
    most, furthest = first["largest"], max(0.55, 1.1 * (rounded - exact).abs().max())
    grid.scatter(table.index, exact, facecolor="none", edgecolor=PALETTE[0], s=90, label="float")
    grid.scatter(table.index, rounded, color=PALETTE[1], s=36, linewidth=0, label="rounded")
    grid.set(xlabel="weight of the kernel", ylabel=f"integer value (one step is {first['scale']:.2g})")
    grid.set(title=f"{first['layer']}, channel {first['channel']}: {rounded.nunique()} of {2 * most + 1} values")
    grid.set(ylim=(1.06 * min(exact.min(), -most), 1.06 * max(exact.max(), most)))
    grid.set_yticks((-most, -(most // 2 + 1), 0, most // 2 + 1, most))
    grid.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    errors.vlines(table.index, 0, rounded - exact, color=PALETTE[1])
    errors.scatter(table.index, rounded - exact, color=PALETTE[1], s=36, linewidth=0)
    errors.set(
        xlabel="weight of the kernel", ylabel="error (steps)", title="Rounding errors", ylim=(-furthest, furthest)
    )
    return figure


def accuracy_by_calibration(table: pd.DataFrame, float_top1: float, variant: str) -> Axes:
    """Shows accuracy on validation images against the number of calibration images: each draw, and their mean.

    Args:
        table: What `quantization.accuracy_by_calibration` returned.
        float_top1: The accuracy of the float model on the same images.
        variant: The int8 variant.
    """
    _, ax = plt.subplots(layout="constrained")
    color = VARIANT_COLORS[variant]
    means = table.groupby("images")["top1"].mean()
    ax.axhline(float_top1, color=VARIANT_COLORS["float32"], linestyle="--", label="float32")
    ax.scatter(table["images"], table["top1"], color=color, alpha=0.5, linewidth=0, label=f"{variant}, each draw")
    ax.plot(means.index, means, color=color, label="mean of the draws")
    ax.set(xscale="log", xlabel="calibration images", ylabel=f"{ACCURACY} on validation")
    ax.set(title="How many calibration images are enough")
    ax.set_xticks(means.index, [f"{count}" for count in means.index])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
