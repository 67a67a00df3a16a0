"""What a model costs on the device, by the columns of `results.csv`: each figure, and its band if it is an estimate.

No TensorFlow is needed: everything comes from the .tflite, through `footprint` and `latency`.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from mbutils.columns import KIB, by_name
from mbutils.device import estimates, latency, published
from mbutils.device.footprint import Footprint

INT4_NOTE = (
    "Weights of 4 bits: STM32Cube.AI has no kernels for them on Cortex-M and gives them 8 bits, so these figures are "
    "those of int8. The C code that mb deploy writes keeps them at 4 bits."
)
# In the order in which one reads them.
FOOTPRINT_COLUMNS = (
    "activation_ram_bytes",
    "runtime_ram_bytes",
    "total_ram_bytes",
    "weights_flash_bytes",
    "code_flash_bytes",
    "total_flash_bytes",
)
LATENCY_COLUMNS = tuple(board.column for board in latency.BOARDS.values())


@dataclass(frozen=True)
class Cost:
    """One figure of the results table.

    Attributes:
        column: Its column of `results.csv`.
        value: Bytes or milliseconds.
        low, high: Where the true value should lie; both None where the figure is not an estimate.
        note: How far it holds.
    """

    column: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def is_estimate(self) -> bool:
        """Whether the figure is an estimate, with a band."""
        return self.low is not None


def label(column: str) -> str:
    """Returns what a column of costs is called, a latency with the processors and clock that it holds for."""
    engines = {board.column: f" ({board.engine})" for board in latency.BOARDS.values()}
    return by_name[column].label + engines.get(column, "")


def costs(model: Footprint) -> tuple[Cost, ...]:
    """Returns RAM, flash and latency of a model, in the order in which one reads them."""
    figures = [_bytes(model, column) for column in FOOTPRINT_COLUMNS]
    return (*figures, *(_latency(model, board) for board in latency.BOARDS))


def columns(model: Footprint) -> dict[str, float]:
    """Returns the same figures by the columns of `results.csv`: bytes as integers, milliseconds."""
    return {cost.column: cost.value for cost in costs(model)}


def bands(model: Footprint) -> dict[str, float]:
    """Returns the bands of the estimates, by column with "_low" or "_high" added."""
    estimated = [cost for cost in costs(model) if cost.is_estimate]
    return {f"{cost.column}_{end}": getattr(cost, end) for cost in estimated for end in ("low", "high")}


def record(model: Footprint) -> dict[str, Any]:
    """Returns all figures and bands as JSON; those without constant channels, if there are any, under "alive"."""
    figures = model.to_dict() | columns(model) | bands(model)
    return figures | {"alive": record(model.alive)} if model.alive else figures


def notes(model: Footprint) -> list[str]:
    """Returns how far the figures of a model hold, in sentences."""
    latencies = [f"Latency: {latency.estimate(model, board).note}." for board in latency.BOARDS]
    planner = [planner_note(), *([other_networks_note()] if "activation_ram_bytes" in model.ranges else [])]
    packed = [INT4_NOTE] if any(tensor.dtype == "INT4" for op in model.ops for tensor in op.weights) else []
    return [*planner, *latencies, *packed, *([constant_channels_note(model)] if model.alive else [])]


def constant_channels_note(model: Footprint) -> str:
    """Returns what a model costs without the channels that are the same for every image."""
    ram, flash = (
        by_name[name].with_unit(getattr(model.alive, name)) for name in ("activation_ram_bytes", "weights_flash_bytes")
    )
    return (
        f"{model.constant_channels:,} channels are the same for every image, or are not read. STM32Cube.AI 7.3.0 keeps "
        "them, and so do these figures; from 8.1 on it leaves out those of zero filters. Without them, as mb deploy "
        f"writes the code: activation RAM {ram}, weights flash {flash}, {model.alive.macs:,} MACs."
    )


def general_notes() -> str:
    """Returns how far the figures of MobileNet v1 hold on STM32H7, in sentences."""
    board = latency.BOARDS["STM32H747I-DISCO"]
    ram, flash = (100 * error["mobilenet_v1"] for error in (estimates.RUNTIME_RAM_ERROR, estimates.CODE_FLASH_ERROR))
    return (
        f"{planner_note()} Runtime RAM and code flash are estimates, off by at most {ram:.1f} % and {flash:.1f} % on "
        f"the published models; latency is an estimate within a factor of {latency.error_factor(board.name):.2f}. With "
        f"more than {board.internal_ram_bytes // KIB} KiB of total RAM the STM32H747 needs its external RAM, and is up "
        f"to {100 * latency.external_ram_slowdown(board.name):.0f} % slower."
    )


def planner_note() -> str:
    """Returns which planner activation RAM follows, and what later ones report for the same model."""
    table = published.footprint().set_index(["alpha", "image_size", "channels"])
    return (
        "Activation RAM follows the rules of STM32Cube.AI 7.3.0. Later versions plan it differently: 9.1 and 10.0 "
        f"report {published.LATER_ACTIVATION_RAM_KIB} KiB for alpha 0.25 at 224 px, where 7.3.0 reports "
        f"{table.loc[(0.25, 224, 3), 'activation_ram_kib']} KiB."
    )


def other_networks_note() -> str:
    """Returns how far activation RAM holds for other networks than MobileNet v1."""
    error = 100 * estimates.ACTIVATION_RAM_ERROR["other"]
    return (
        "For MobileNet v2, ResNet v1 and SqueezeNet these rules give the published activation RAM; for two other small "
        f"networks, one of them with shortcuts, they are off by 2.5 and {error:.0f} %."
    )


def text(model: Footprint) -> str:
    """Returns the figures with their bands and notes as text for a terminal."""
    lines = [f"parameters {model.param_count:,}   MACs {model.macs:,}   .tflite {model.tflite_bytes:,} bytes", ""]
    lines.append(f"{'':46}{'KiB':>10}{'bytes':>12}   low .. high")
    lines += [_line(cost) for cost in costs(model) if cost.column in FOOTPRINT_COLUMNS]
    lines.append(f"\n{'':46}{'ms':>10}{'':12}   low .. high")
    lines += [_line(cost) for cost in costs(model) if cost.column in LATENCY_COLUMNS]
    peak = model.ops[model.peak_op]
    return "\n".join([*lines, "", f"Most activation RAM is in use at {peak.name} (op {peak.index}).", *notes(model)])


def _line(cost: Cost) -> str:
    column, in_bytes = by_name[cost.column], cost.column in FOOTPRINT_COLUMNS
    value, low, high = (column.scaled(number, 2 if in_bytes else 1) for number in (cost.value, cost.low, cost.high))
    band = f"   {low} .. {high}   estimate" if cost.is_estimate else ""
    return f"{label(cost.column):46}{value:>10}{column.text(cost.value) if in_bytes else '':>12}{band}"


def _bytes(model: Footprint, column: str) -> Cost:
    band = model.ranges.get(column)
    note = "estimate" if band else "by the rules of STM32Cube.AI 7.3.0"
    if column == "activation_ram_bytes":
        note = other_networks_note() if band else planner_note()
    return Cost(column, getattr(model, column), band and band.low, band and band.high, note)


def _latency(model: Footprint, board: str) -> Cost:
    estimate = latency.estimate(model, board)
    return Cost(latency.BOARDS[board].column, estimate.milliseconds, estimate.low, estimate.high, estimate.note)


def with_published(ours: pd.DataFrame) -> pd.DataFrame:
    """Returns every cell of the published footprint and latency tables with our figure.

    Args:
        ours: One row for each of `published.footprint_configurations()`: its `alpha`, `image_size` and `color_mode`,
            the costs by the columns of `results.csv`, and `source`.

    Returns:
        One row for each published cell: `alpha`, `image_size`, `color_mode`, `source`, `column` (of `results.csv`),
        `published` and `ours` (bytes or milliseconds), `difference` (ours relative to published, a fraction), and
        `note`: why a published cell is inconsistent, blank for the others. A cell in kB is converted.
    """
    cells = pd.concat([_footprint_cells(), _latency_cells()], ignore_index=True)
    cells["color_mode"] = cells["channels"].map(published.COLOR_MODES)
    keys = ["alpha", "image_size", "color_mode"]
    long = ours.melt([*keys, "source"], cells["column"].unique(), "column", "ours")
    table = cells.merge(long, on=[*keys, "column"], how="left")
    table["difference"] = table["ours"].astype(float) / table["published"] - 1
    return table[[*keys, "source", "column", "published", "ours", "difference", "note"]]


def _footprint_cells() -> pd.DataFrame:
    cells = published.footprint_bytes().melt(
        ["alpha", "image_size", "channels", "note"], list(FOOTPRINT_COLUMNS), "column", "published"
    )
    # Runtime RAM and code flash are rounded to KiB on the page, too coarse to show their unit.
    in_kb = ~cells["column"].isin(["runtime_ram_bytes", "code_flash_bytes"])
    return cells.assign(note=cells["note"].where(in_kb, ""))


def _latency_cells() -> pd.DataFrame:
    cells = published.latency().rename(columns={"latency_ms": "published"})
    cells["column"] = cells["board"].map({name: board.column for name, board in latency.BOARDS.items()})
    return cells.assign(note=cells["note"].where(cells["note"].str.contains("outlier", na=False), ""))
