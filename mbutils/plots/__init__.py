"""Pictures: a DataFrame or images in, matplotlib Axes or a Figure out. The same colour is the same thing everywhere."""

from mbutils.plots.accuracy import (
    accuracy_against,
    accuracy_against_published,
    confusion,
    float_against_int8,
    history,
    schedule,
)
from mbutils.plots.cost import arena_map, cost_grid, in_step, memory_map, pareto
from mbutils.plots.data import class_counts, image_grid, image_sizes
from mbutils.plots.quantization import accuracy_by_calibration, channel_ranges, signal_to_noise
from mbutils.plots.style import PART_COLORS, VARIANT_COLORS, run_label, use_style

__all__ = [
    "PART_COLORS",
    "VARIANT_COLORS",
    "accuracy_against",
    "accuracy_against_published",
    "accuracy_by_calibration",
    "arena_map",
    "channel_ranges",
    "class_counts",
    "confusion",
    "cost_grid",
    "float_against_int8",
    "history",
    "image_grid",
    "image_sizes",
    "in_step",
    "memory_map",
    "pareto",
    "run_label",
    "schedule",
    "signal_to_noise",
    "use_style",
]
