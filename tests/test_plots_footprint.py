"""What the pictures of costs show: the peak, what fits, the front."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.patches import Rectangle
from tflite_models import tflite

from mbutils.config import Budget
from mbutils.device.footprint import footprint
from mbutils.report import plots, tables


@pytest.fixture(scope="module")
def model():
    return footprint(tflite("mobilenet_v1 0.25/224/3"))


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def rectangles(ax):
    return [patch for patch in ax.patches if isinstance(patch, Rectangle)]


def test_memory_map_draws_every_buffer_where_it_lies(model):
    ax = plots.memory_map(model)
    drawn = {(r.get_x() + 0.5, r.get_y() * 1024, r.get_width(), r.get_height() * 1024) for r in rectangles(ax)}
    for buffer in model.buffers:
        assert (buffer.first_op, buffer.offset, buffer.last_op - buffer.first_op + 1, buffer.size) in drawn


def test_memory_map_names_the_peak_and_every_op(model):
    ax = plots.memory_map(model)
    assert "peak at conv_dw_2: 202.14 KiB" in [text.get_text() for text in ax.texts]
    assert [label.get_text() for label in ax.get_xticklabels()] == [op.name for op in model.ops]


def test_memory_map_distinguishes_activations_padding_and_scratch(model):
    legend = plots.memory_map(model).get_legend()
    looks = {text.get_text(): patch.get_hatch() for text, patch in zip(legend.texts, legend.get_patches(), strict=True)}
    assert len(set(looks.values())) == len(looks) == 3


def grid():
    rows = [
        (alpha, size, color, alpha * size * 1024, alpha * 1000 * 1024, alpha * size)
        for alpha in (0.25, 0.5)
        for size in (96, 128)
        for color in ("rgb", "gray")
    ]
    names = ["alpha", "image_size", "color_mode", "total_ram_bytes", "total_flash_bytes", "latency_ms_stm32h747"]
    return pd.DataFrame(rows, columns=names)


@pytest.mark.parametrize(
    ("budget", "framed", "hatched"),
    [
        (Budget(), 4, [0, 0, 0]),
        (Budget(ram_kib=40), 2, [2, 0, 0]),
        (Budget(ram_kib=40, flash_kib=100), 0, [2, 4, 0]),
        (Budget(latency_ms=25), 1, [0, 0, 3]),
    ],
)
def test_cost_grid_frames_what_fits_and_hatches_what_is_over_the_limit_shown(budget, framed, hatched):
    axes = plots.cost_grid(grid(), budget).axes
    assert len(axes) == 6  # three costs, two colours
    for ax, expected in zip(axes, hatched * 2, strict=True):
        cells = rectangles(ax)
        assert sum(cell.get_hatch() is None for cell in cells) == framed
        assert sum(cell.get_hatch() is not None for cell in cells) == expected


def results():
    rows = [("a", 0.8, 100), ("b", 0.9, 200), ("c", 0.85, 300)]
    table = pd.DataFrame(rows, columns=["run_id", "top1", "total_ram_bytes"])
    table["total_ram_bytes"] *= 1024
    fixed = {"variant": "int8_per_channel", "dataset": "digits", "alpha": 0.25, "color_mode": "rgb"}
    fixed |= {"task": "digits", "settings": "", "seeds": 1, "top1_low": 0.7, "top1_high": 0.95}
    return table.assign(**fixed, image_size=[96, 128, 224], total_flash_bytes=1, latency_ms_stm32h747=1.0)


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_pareto_numbers_the_front_in_kib_and_shows_the_rest_in_grey():
    (ax,) = plots.pareto(results(), "total_ram_bytes", limit=150 * 1024).axes
    assert [text.get_text() for text in ax.texts] == ["1", "2"]
    assert legend_of(ax) == ["1: 0.25 96 px rgb", "2: 0.25 128 px rgb", "dominated", "limit"]
    step, limit = ax.lines
    assert step.get_xdata().tolist() == [100, 200]
    assert list(limit.get_xdata()) == [150, 150]
    assert ax.get_xlabel() == "total RAM (KiB)"


def test_pareto_names_every_model_at_a_point():
    same = results().iloc[[0, 0]].assign(settings=["epochs 30", "epochs 60"])
    (ax,) = plots.pareto(same, "total_ram_bytes").axes
    assert legend_of(ax) == ["1: 0.25 96 px rgb, epochs 30\n0.25 96 px rgb, epochs 60"]


def test_pareto_without_models_has_a_title_that_says_so():
    (ax,) = plots.pareto(results().iloc[:0], "total_ram_bytes").axes
    assert "no int8 model" in (ax.get_title(loc="left") or ax.get_title())


def test_tables_show_bands_and_the_op_at_the_peak(model):
    html = tables.costs_of(model).to_html()
    assert "202.14 KiB" in html and "C code" not in html and "within a factor of 1.22" in html
    layers = tables.layers(model)._compute()
    assert {row for (row, _), style in layers.ctx.items() if ("font-weight", "bold") in style} == {model.peak_op}
