"""What a model costs on the device, by the columns of `results.csv`: each figure, and its band if it is an estimate.

No TensorFlow is needed: everything comes from the .tflite, through `footprint` and `latency`.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from mbutils.columns import KIB, by_name
from mbutils.config import EDITIONS, FIRST_EDITION
from mbutils.device import estimates, latency, published, versions
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
LATENCY_COLUMNS = tuple(latency.BOARDS[board].column for board in latency.boards())


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


def costs(model: Footprint, edition: str = FIRST_EDITION) -> tuple[Cost, ...]:
    """Returns RAM, flash and latency of a model, in the order in which one reads them.

    Args:
        model: The model.
        edition: Of the published values: with whose tool and runtimes.
    """
    figures = _bytes(model) if edition == FIRST_EDITION else _bytes_of_version(model, edition)
    seen = model if edition == FIRST_EDITION else model.alive or model
    return (*figures, *(_latency(seen, board, edition) for board in latency.boards(edition)))


def columns(model: Footprint, edition: str = FIRST_EDITION) -> dict[str, float]:
    """Returns the same figures by the columns of `results.csv`: bytes as integers, milliseconds."""
    return {cost.column: cost.value for cost in costs(model, edition)}


def bands(model: Footprint, edition: str = FIRST_EDITION) -> dict[str, float]:
    """Returns the bands of the estimates, by column with "_low" or "_high" added."""
    estimated = [cost for cost in costs(model, edition) if cost.is_estimate]
    return {f"{cost.column}_{end}": getattr(cost, end) for cost in estimated for end in ("low", "high")}


def record(model: Footprint, edition: str = FIRST_EDITION) -> dict[str, Any]:
    """Returns all figures and bands as JSON; those without constant channels, if there are any, under "alive"."""
    figures = model.to_dict() | columns(model, edition) | bands(model, edition)
    return figures | {"alive": record(model.alive, edition)} if model.alive else figures


def notes(model: Footprint, edition: str = FIRST_EDITION) -> list[str]:
    """Returns how far the figures of a model hold, in sentences."""
    ram = [planner_note(), *([other_networks_note()] if "activation_ram_bytes" in model.ranges else [])]
    if edition != FIRST_EDITION:
        ram = [version_note(edition, model.is_mobilenet_v1)]
    latencies = [f"Latency: {latency.estimate(model, board, edition).note}." for board in latency.boards(edition)]
    packed = [INT4_NOTE] if any(tensor.dtype == "INT4" for op in model.ops for tensor in op.weights) else []
    return [*ram, *latencies, *packed, *([constant_channels_note(model)] if model.alive else [])]


def version_note(edition: str, is_mobilenet_v1: bool = True) -> str:
    """Returns how far RAM and flash hold for the tool of an edition after the first."""
    errors = [versions.leave_one_out(column, edition, is_mobilenet_v1)["error"].abs() for column in versions.ESTIMATED]
    means = ", ".join(
        f"{by_name[column].label} by {error.mean():.1%} in the mean and {error.max():.1%} at worst"
        for column, error in zip(versions.ESTIMATED, errors, strict=True)
    )
    return (
        f"RAM and flash are estimates for {EDITIONS[edition]}, whose planner is not known: off on published networks "
        f"that are left out of the fit, {means}. Weights are exact."
    )


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


def general_notes(edition: str = FIRST_EDITION) -> str:
    """Returns how far the figures of MobileNet v1 hold on STM32H7, in sentences."""
    board = latency.BOARDS["STM32H747I-DISCO"]
    factor = latency.error_factor(board.name, edition)
    if edition != FIRST_EDITION:
        return f"{version_note(edition)} Latency is an estimate within a factor of {factor:.2f}."
    ram, flash = (100 * error["mobilenet_v1"] for error in (estimates.RUNTIME_RAM_ERROR, estimates.CODE_FLASH_ERROR))
    return (
        f"{planner_note()} Runtime RAM and code flash are estimates, off by at most {ram:.1f} % and {flash:.1f} % on "
        f"the published models; latency is an estimate within a factor of {factor:.2f}. With "
        f"more than {board.internal_ram_bytes // KIB} KiB of total RAM the STM32H747 needs its external RAM, and is up "
        f"to {100 * latency.external_ram_slowdown(board.name):.0f} % slower."
    )


def planner_note() -> str:
    """Returns which planner activation RAM follows, and what later ones report for the same model."""
    first, *later = (
        (EDITIONS[edition], _published_activation_ram(edition)) for edition in (FIRST_EDITION, "2.1", "4.0")
    )
    reported = " and ".join(f"{tool} reports {ram}" for tool, ram in later)
    return (
        f"Activation RAM follows the rules of {first[0]}. Later versions plan it differently: for alpha 0.25 at 224 px "
        f"{reported}, where 7.3.0 reports {first[1]}."
    )


def _published_activation_ram(edition: str) -> str:
    table = published.flowers(published.footprint_bytes(edition)).set_index(["alpha", "image_size", "color_mode"])
    return by_name["activation_ram_bytes"].with_unit(table.loc[(0.25, 224, "rgb"), "activation_ram_bytes"])


def other_networks_note() -> str:
    """Returns how far activation RAM holds for other networks than MobileNet v1."""
    error = 100 * estimates.ACTIVATION_RAM_ERROR["other"]
    return (
        "For MobileNet v2, ResNet v1 and SqueezeNet these rules give the published activation RAM; for two other small "
        f"networks, one of them with shortcuts, they are off by 2.5 and {error:.0f} %."
    )


def text(model: Footprint, edition: str = FIRST_EDITION) -> str:
    """Returns the figures with their bands and notes as text for a terminal."""
    figures = costs(model, edition)
    lines = [f"parameters {model.param_count:,}   MACs {model.macs:,}   .tflite {model.tflite_bytes:,} bytes", ""]
    lines.append(f"{EDITIONS[edition]:46}{'KiB':>10}{'bytes':>12}   low .. high")
    lines += [_line(cost) for cost in figures if cost.column in FOOTPRINT_COLUMNS]
    lines.append(f"\n{'':46}{'ms':>10}{'':12}   low .. high")
    lines += [_line(cost) for cost in figures if cost.column not in FOOTPRINT_COLUMNS]
    peak = f"Most activation RAM is in use at {model.ops[model.peak_op].name} (op {model.peak_op})."
    return "\n".join([*lines, "", *([peak] if edition == FIRST_EDITION else []), *notes(model, edition)])


def _line(cost: Cost) -> str:
    column, in_bytes = by_name[cost.column], cost.column in FOOTPRINT_COLUMNS
    value, low, high = (column.scaled(number, 2 if in_bytes else 1) for number in (cost.value, cost.low, cost.high))
    band = f"   {low} .. {high}   estimate" if cost.is_estimate else ""
    return f"{label(cost.column):46}{value:>10}{column.text(cost.value) if in_bytes else '':>12}{band}"


def _bytes(model: Footprint) -> list[Cost]:
    """Returns RAM and flash with the tool of the first edition, whose rules are known."""
    costs = []
    for column in FOOTPRINT_COLUMNS:
        band = model.ranges.get(column)
        note = "estimate" if band else "by the rules of STM32Cube.AI 7.3.0"
        if column == "activation_ram_bytes":
            note = other_networks_note() if band else planner_note()
        costs.append(Cost(column, getattr(model, column), band and band.low, band and band.high, note))
    return costs


def _bytes_of_version(model: Footprint, edition: str) -> list[Cost]:
    figures = versions.footprint(model, edition)
    notes = dict.fromkeys(figures, "estimate") | {"activation_ram_bytes": version_note(edition, model.is_mobilenet_v1)}
    weights = Cost("weights_flash_bytes", figures.pop("weights_flash_bytes").bytes, note="exact")
    ranges = {column: Cost(column, r.bytes, r.low, r.high, notes[column]) for column, r in figures.items()}
    return [(ranges | {weights.column: weights})[column] for column in FOOTPRINT_COLUMNS]


def _latency(model: Footprint, board: str, edition: str) -> Cost:
    estimate = latency.estimate(model, board, edition)
    return Cost(latency.BOARDS[board].column, estimate.milliseconds, estimate.low, estimate.high, estimate.note)


def with_published(ours: pd.DataFrame, edition: str = FIRST_EDITION) -> pd.DataFrame:
    """Returns every published cell of the models on flowers in an edition, with our figure.

    Args:
        ours: One row for each of `published.footprint_configurations()`: its `alpha`, `image_size` and `color_mode`,
            the costs in that edition by the columns of `results.csv`, and `source`.
        edition: The edition.

    Returns:
        One row for each published cell: `alpha`, `image_size`, `color_mode`, `source`, `column` (of `results.csv`, or
        of another board), `published` and `ours` (bytes or milliseconds), `difference` (ours relative to published, a
        fraction), and `note`: why a printed cell contradicts the rest, and was corrected, blank for the others.
    """
    keys = ["alpha", "image_size", "color_mode"]
    cells = pd.concat([_footprint_cells(edition), _latency_cells(edition)], ignore_index=True)
    long = ours.melt([*keys, "source"], cells["column"].unique(), "column", "ours")
    table = cells.merge(long, on=[*keys, "column"], how="left")
    table["difference"] = table["ours"].astype(float) / table["published"] - 1
    return table[[*keys, "source", "column", "published", "ours", "difference", "note"]]


def _footprint_cells(edition: str) -> pd.DataFrame:
    table = published.flowers(published.footprint_bytes(edition))
    keys = ["alpha", "image_size", "color_mode", "corrected"]
    cells = table.melt(keys, list(FOOTPRINT_COLUMNS), "column", "published")
    notes = [reasons.get(column, "") for reasons, column in zip(cells["corrected"], cells["column"], strict=True)]
    return cells.drop(columns="corrected").assign(note=notes)


def _latency_cells(edition: str) -> pd.DataFrame:
    times = published.up_to(published.flowers(published.latency()), edition)
    cells = times.drop_duplicates([*published.MODEL, "board"], keep="last").sort_index()
    columns = {name: board.column for name, board in latency.BOARDS.items()}
    notes = [reasons.get("ms", "") for reasons in cells["corrected"]]
    cells = cells.assign(column=cells["board"].map(columns), published=cells["ms"], note=notes)
    return cells[["alpha", "image_size", "color_mode", "column", "published", "note"]]
