"""The comparisons, and the ratio that is expected of each."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One comparison of the workbook's way with the stock way.

    Attributes:
        module: The module whose `ours` and `stock` are compared, imported by the worker processes.
        arguments: The arguments of both functions.
        stock_arguments: Further arguments of `stock` alone.
        expected: The least ratio of images per second, ours to stock; None if no ratio is expected.
    """

    module: str
    arguments: dict[str, Any]
    stock_arguments: dict[str, Any] = field(default_factory=dict)
    expected: float | None = None


BUILD = {"count": 1000, "side": 512}
CASES = {
    "step_0.25_96": Case("bench.step", {"alpha": 0.25, "image_size": 96}, expected=1.6),
    "step_0.25_224": Case("bench.step", {"alpha": 0.25, "image_size": 224}, expected=1.8),
    "step_0.5_224": Case("bench.step", {"alpha": 0.5, "image_size": 224}, expected=1.7),
    "epoch_0.25_96": Case("bench.epoch", {"alpha": 0.25, "image_size": 96}, expected=2.0),
    "epoch_0.25_96_stock_cached": Case("bench.epoch", {"alpha": 0.25, "image_size": 96}, {"cached": True}),
    "cache_build_96": Case("bench.cache_build", BUILD | {"image_size": 96}),
    "cache_build_224": Case("bench.cache_build", BUILD | {"image_size": 224}),
    "cache_build_224_stock_resized": Case(
        "bench.cache_build", BUILD | {"image_size": 224}, {"resized": True}, expected=0.9
    ),
    "cache_read_96": Case("bench.cache_read", {"image_size": 96, "count": 10_000, "side": 96}),
}
