"""Pictures: a DataFrame or images in, matplotlib Axes or a Figure out. The same colour is the same thing everywhere."""

from mbutils.report.plots.accuracy import (
    accuracy_against,
    accuracy_against_published,
    confusion,
    curves,
    float_against_int8,
    halving,
    history,
    schedule,
)
from mbutils.report.plots.confidence import coverage, reliability
from mbutils.report.plots.cost import arena_map, cost_grid, memory_map, pareto, streaming
from mbutils.report.plots.data import class_counts, image_grid, image_scores, image_sizes, picture_rows
from mbutils.report.plots.photograph import before_and_after, occlusion, scores_by_model
from mbutils.report.plots.quantization import accuracy_by_calibration, channel_ranges, rounded_kernel, signal_to_noise
from mbutils.report.plots.style import PART_COLORS, VARIANT_COLORS, use_style
