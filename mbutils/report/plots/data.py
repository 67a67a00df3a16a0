"""Pictures of a dataset."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mbutils.report.pictures import Pictures
from mbutils.report.plots.style import PALETTE, PART_COLORS, wrapped


def image_grid(images: Sequence[np.ndarray], titles: Sequence[str] = (), columns: int = 8) -> Figure:
    """Shows images, uint8 of shape (height, width, channels), in rows of `columns`, with a title over each."""
    rows, titles = -(-len(images) // columns), [wrapped(title, 18) for title in titles]
    height = 1.2 + 0.14 * (_lines(titles) or 1)
    size = (1.3 * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for index, (ax, image) in enumerate(zip(axes.flat, images, strict=False)):
        ax.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
        if len(titles):
            ax.set_title(titles[index], fontsize=8, loc="center")
    return figure


def picture_rows(names: Sequence[str], rows: Sequence[Pictures], columns: int = 6) -> Figure:
    """Shows some pictures of each model, below each other, at most two lines of each; without any only the captions."""
    captions = [wrapped(f"{name}: {row.caption}", 15 * columns) for name, row in zip(names, rows, strict=True)]
    titles = [[wrapped(title, 20) for title in row.titles[: 2 * columns]] for row in rows]
    lines = [-(-len(own) // columns) for own in titles]
    heights = [
        0.25 + 0.16 * _lines([caption]) + count * (1.6 + 0.14 * _lines(own))
        for caption, own, count in zip(captions, titles, lines, strict=True)
    ]
    figure = plt.figure(figsize=(1.5 * columns, sum(heights)), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08)
    parts = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, caption, row, own, count in zip(parts, captions, rows, titles, lines, strict=True):
        part.suptitle(caption, x=0.01, ha="left", fontsize=9)
        axes = part.subplots(count, columns, squeeze=False).ravel() if count else []
        for ax in axes:
            ax.axis("off")
        for ax, image, title in zip(axes, row.images, own, strict=False):
            ax.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
            ax.set_title(title, fontsize=8, loc="center")
    return figure


def _lines(texts: Sequence[str]) -> int:
    """Returns the lines of the longest of some texts."""
    return max((text.count("\n") + 1 for text in texts), default=0)


def image_scores(image: np.ndarray, scores: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Shows an image, uint8 of shape (height, width, channels), and its scores, the highest ten."""
    order = np.argsort(-scores, kind="stable")[:10]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), width_ratios=(1, 1.6), layout="constrained")
    left.imshow(np.squeeze(image), cmap="gray", vmin=0, vmax=255)
    left.axis("off")
    right.barh([class_names[index] for index in order], scores[order], color=PALETTE[0])
    right.invert_yaxis()
    right.set(xlabel="score", title="Scores of this image", xlim=(0, 1))
    right.xaxis.set_major_formatter(PercentFormatter(1))
    return figure


def class_counts(counts: pd.DataFrame) -> Axes:
    """Shows how many images each class has in each part, stacked; takes what `Dataset.counts` returns."""
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
    sns.scatterplot(sizes, x="width", y="height", ax=ax, alpha=0.3, linewidth=0, color=PALETTE[0])
    ax.plot(
        image_size, image_size, marker="s", linestyle="", color=PALETTE[3], label=f"the model takes {image_size} px"
    )
    ax.set(xlabel="width (px)", ylabel="height (px)", title="Size of the original images", xlim=0, ylim=0)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return ax
