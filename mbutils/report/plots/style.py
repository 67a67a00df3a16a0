"""What all pictures share: colours, labels, scales."""

import matplotlib.pyplot as plt
import seaborn as sns

from mbutils.columns import by_name

PALETTE = sns.color_palette("colorblind")
VARIANT_COLORS = {"float32": PALETTE[7], "int8_per_channel": PALETTE[0], "int8_per_tensor": PALETTE[1]}
PART_COLORS = {"train": PALETTE[0], "validation": PALETTE[1], "test": PALETTE[2], "excluded": PALETTE[7]}
PUBLISHED_COLOR = PALETTE[3]
ACCURACY = by_name["top1"].axis
TEST_ACCURACY = f"{ACCURACY} on test"


def use_style() -> None:
    """Sets the look of every picture. Each notebook calls it once."""
    sns.set_theme(style="whitegrid", rc={"figure.figsize": (7, 4), "figure.dpi": 110, "axes.titlelocation": "left"})
    plt.rcParams["text.parse_math"] = False  # a class name may contain dollar signs


def alpha_color(alpha: float) -> tuple[float, float, float]:
    """Returns the colour of a width multiplier."""
    order = {0.25: 0, 0.5: 1, 0.75: 2, 1.0: 4}
    return PALETTE[order.get(alpha, 5)]


def configuration_label(row: tuple) -> str:
    """Returns a short label for a row of the results table, its seed left out: "tf_flowers 0.25 96 px rgb"."""
    return f"{row.dataset} {row.alpha:g} {row.image_size} px {row.color_mode}"
