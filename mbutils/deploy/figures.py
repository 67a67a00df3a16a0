"""What the C code needs compared with STM32Cube.AI, and what streamed layers save."""

from typing import Any

import pandas as pd

from mbutils.config import FIRST_EDITION, NEWEST_EDITION
from mbutils.deploy.measure import Measurement
from mbutils.deploy.memory import Plan, arena_bytes, deepest
from mbutils.deploy.network import Network
from mbutils.device import costs, latency, published
from mbutils.device.footprint import Footprint, operation_counts
from mbutils.tflite.graph import Op

_CONFIGURATION = ("alpha", "image_size", "color_mode", "n_classes")
COMPARED = (FIRST_EDITION, NEWEST_EDITION)
_PAIRS = {
    "activation_ram_bytes": "arena",
    "runtime_ram_bytes": "stack, .data, .bss",
    "total_ram_bytes": "RAM",
    "weights_flash_bytes": ".rodata",
    "code_flash_bytes": ".text",
    "total_flash_bytes": "flash",
}


def columns(memory: Plan, measured: Measurement | None) -> dict[str, int]:
    """Returns what was measured by the columns of `results.csv`; nothing without the tools."""
    if measured is None:
        return {}
    return {
        "measured_ram_bytes": memory.arena_bytes + _other_ram(measured),
        "measured_stack_bytes": measured.stack_bytes,
        "measured_flash_bytes": measured.text_bytes + _constants(measured),
        "measured_code_bytes": measured.text_bytes,
        "measured_instructions": measured.instructions,
    }


def comparison(
    configuration: tuple[float, int, str, int] | None, predicted: Footprint, memory: Plan, measured: Measurement | None
) -> pd.DataFrame:
    """Returns RAM and flash of the C code next to those of the vendor's tool of `COMPARED` editions.

    Args:
        configuration: (alpha, image_size, color_mode, n_classes); None for a model that is no run's.
        predicted: The model as the tool sees it.
        memory: The arena of the C code.
        measured: What was measured; None without the tools.

    Returns:
        One row for each figure, in bytes: `figure` (a column of `results.csv`), `c_code` (its counterpart in C),
        `measured` (blank without the tools), and for each edition, such as 1.0, `published_1.0` (blank where this
        configuration is not) and `predicted_1.0`.
    """
    values: dict[str, int] = {"activation_ram_bytes": memory.arena_bytes}
    if measured:
        values |= {
            "runtime_ram_bytes": _other_ram(measured),
            "total_ram_bytes": memory.arena_bytes + _other_ram(measured),
            "weights_flash_bytes": _constants(measured),
            "code_flash_bytes": measured.text_bytes,
            "total_flash_bytes": measured.text_bytes + _constants(measured),
        }
    table = pd.DataFrame({"figure": list(_PAIRS), "c_code": list(_PAIRS.values())})
    table["measured"] = table["figure"].map(values)
    for edition in COMPARED:
        page = published.flowers(published.footprint_bytes(edition)).to_dict("records")
        known = {tuple(row[key] for key in _CONFIGURATION): row for row in page}
        table[f"published_{edition}"] = table["figure"].map(known.get(configuration, {}))
        table[f"predicted_{edition}"] = table["figure"].map(costs.columns(predicted, edition))
    return table


def stages(memory: Plan, ops: tuple[Op, ...]) -> list[dict[str, Any]]:
    """Returns what runs one after the other: `name`, `macs`, and `estimated_ms` by board.

    The estimates are parts of that of the whole network, for STM32Cube.AI.
    """
    by_name = {op.name: op for op in ops}
    layers = [(), *(tuple(by_name[step.layer.name] for step in stage) for stage in memory.stages), ()]
    counts = [operation_counts(those) for those in layers]
    return [
        {
            "name": name,
            "macs": own["macs"],
            "estimated_ms": {board: latency.estimate(own, board).milliseconds for board in latency.boards()},
        }
        for name, own in zip(memory.stage_names, counts, strict=True)
    ]


def streaming(network: Network) -> pd.DataFrame:
    """Returns the arena for every number of streamed layers.

    No row is computed twice, so the MACs stay the same. Patches that are computed one after the other, as in MCUNetV2
    (arXiv:2110.15352), compute the rows where they overlap again; `patch_macs` is how many MACs that would take with
    two patches, the upper and the lower half of the last map.

    Returns:
        One row for each: `streamed_layers`, `last` (the name of the last of them, "" for none), `arena_bytes`, `macs`,
        `patch_macs`.
    """
    macs = sum(layer.macs for layer in network.layers)
    rows = []
    for count in (0, *range(2, deepest(network) + 1)):
        last = network.layers[count - 1].name if count else ""
        rows.append((count, last, arena_bytes(network, count), macs, macs + _computed_twice(network, count)))
    return pd.DataFrame(rows, columns=["streamed_layers", "last", "arena_bytes", "macs", "patch_macs"])


def _computed_twice(network: Network, count: int) -> int:
    """Returns the MACs of the rows that both the upper and the lower half of the last of `count` layers need."""
    if not count:
        return 0
    half = network.layers[count - 1].output_shape[0] // 2
    upper, lower = half, half  # rows 0..upper are one patch, rows lower.. the other
    extra = 0
    for layer in reversed(network.layers[:count]):
        extra += layer.macs // layer.output_shape[0] * (upper - lower)
        upper = min((upper - 1) * layer.stride[0] - layer.padding[0] + layer.window[0], layer.input_shape[0])
        lower = max(lower * layer.stride[0] - layer.padding[0], 0)
    return extra


def _other_ram(measured: Measurement) -> int:
    return measured.data_bytes + measured.bss_bytes + measured.stack_bytes


def _constants(measured: Measurement) -> int:
    return measured.rodata_bytes + measured.data_bytes
