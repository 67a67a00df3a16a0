"""What all pictures share: colours, labels, scales."""

import textwrap
from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbutils.columns import by_name

PALETTE = sns.color_palette("colorblind")
VARIANT_COLORS = {
    "float32": PALETTE[7],
    "int8_per_channel": PALETTE[0],
    "int8_per_tensor": PALETTE[1],
    "int4_pointwise": PALETTE[4],
    "C code": PALETTE[2],
}
PART_COLORS = {"train": PALETTE[0], "validation": PALETTE[1], "test": PALETTE[2], "excluded": PALETTE[7]}
PUBLISHED_COLOR = PALETTE[3]
ACCURACY = by_name["top1"].axis
WIDEST = 10.4  # inches: as wide as a page of `render` on a screen, so that no label is made smaller
TEST_ACCURACY = f"{ACCURACY} on test"


def use_style() -> None:
    """Sets the look of every picture. Each notebook calls it once."""
    sns.set_theme(style="whitegrid", rc={"figure.figsize": (7, 4), "figure.dpi": 110, "axes.titlelocation": "left"})
    plt.rcParams["text.parse_math"] = False  # a class name may contain dollar signs


def alpha_color(alpha: float) -> tuple[float, float, float]:
    """Returns the colour of a width multiplier."""
    order = {0.25: 0, 0.5: 1, 0.75: 2, 1.0: 4}
    return PALETTE[order.get(alpha, 5)]


def wrapped(text: str, width: int = 40) -> str:
    """Returns a label in lines of at most so many characters: names of models grow with what differs between them."""
    return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def axes_of_tasks(
    models: pd.DataFrame, width: float, height: Callable[[pd.DataFrame], float]
) -> tuple[Figure, list[tuple[str, pd.DataFrame, Axes]]]:
    """Returns a figure with an axes for each task, below each other: accuracies on different data are not comparable.

    Args:
        models: Rows of `selection.over_seeds`.
        width: That of the figure, in inches.
        height: Returns the height of an axes from the rows of its task, in inches.

    Returns:
        The figure; and the name, the rows and the axes of each task. Where there are no rows the axes is empty.
    """
    tasks = list(models.groupby("task"))
    heights = [height(rows) for _, rows in tasks] or [height(models)]
    figure, axes = plt.subplots(
        len(heights), 1, figsize=(width, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    figure.get_layout_engine().set(hspace=0.05)
    return figure, [(task, rows, ax) for (task, rows), ax in zip(tasks, axes.flat, strict=False)]
