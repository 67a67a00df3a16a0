"""Whether the C code fits the memory of a target, and how many bytes are missing."""

from collections.abc import Callable

from mbutils.config import DeployParameters
from mbutils.deploy.figures import streaming
from mbutils.deploy.measure import Measurement
from mbutils.deploy.memory import Plan
from mbutils.deploy.network import Network
from mbutils.errors import WorkbookError


def check(network: Network, memory: Plan, measured: Measurement | None, parameters: DeployParameters) -> None:
    """Refuses what does not fit `parameters.ram_kib` and `flash_kib`: as far as it is known without a measurement.

    Raises:
        WorkbookError: If something is too small; it says by how many bytes, and what they are for.
    """
    ram = {"arena": memory.arena_bytes}
    flash = {"weights and biases": network.constant_bytes}
    if measured:
        ram |= {"stack": measured.stack_bytes, "data": measured.data_bytes + measured.bss_bytes}
        flash = {"code": measured.text_bytes, "constants": measured.rodata_bytes, "data": measured.data_bytes}
    missing = [
        *_missing("RAM", parameters.ram_kib, ram, lambda short: _way_out(network, memory, short)),
        *_missing("flash", parameters.flash_kib, flash, lambda short: "choose a smaller model"),
    ]
    if missing:
        raise WorkbookError("; ".join(missing))


def _missing(name: str, kib: float, parts: dict[str, int], way_out: Callable[[int], str]) -> list[str]:
    short = sum(parts.values()) - int(kib * 1024)
    if not kib or short <= 0:
        return []
    needed = ", ".join(f"{part} {size:,}" for part, size in parts.items())
    return [f"{kib:g} KiB of {name} are too small by {short:,} bytes ({needed}): {way_out(short)}"]


def _way_out(network: Network, memory: Plan, short: int) -> str:
    smallest = streaming(network).sort_values("arena_bytes").iloc[0]
    if memory.arena_bytes - smallest["arena_bytes"] < short:
        return "choose a smaller model"
    return f"{smallest['streamed_layers']} streamed layers need an arena of {smallest['arena_bytes']:,} bytes"
