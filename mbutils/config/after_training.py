"""Parameters of what follows a training, or needs none: conversion, evaluation, deployment, comparison, costs."""

from dataclasses import dataclass
from typing import Any

from mbutils.config.base import Parameters, parameter
from mbutils.config.editions import EDITIONS, FIRST_EDITION, NEWEST_EDITION
from mbutils.config.preprocessing import COLOR_MODES
from mbutils.errors import WorkbookError, nearest

C_CODE = "c_code"  # ours; the other ways to run a model are the tools of `EDITIONS`
# All have int8 activations; the last one has weights of 4 bits in pointwise convolutions, of 8 bits elsewhere.
INT8_VARIANTS = ("int8_per_channel", "int8_per_tensor", "int4_pointwise")
POINTWISE_LAYERS = tuple(f"conv_pw_{block}" for block in range(1, 14))
# Epochs and learning rate of fine-tuning: steps of 4 bits are 18 times as large.
_FINE_TUNING = {"int4_pointwise": (8, 0.0002)}


@dataclass(frozen=True)
class ConvertParameters(Parameters):
    """Parameters of `convert.ipynb`."""

    run_id: str = parameter("", "empty for the newest finished run")
    variant: str = parameter(
        "int8_per_channel", "int8_per_channel, int8_per_tensor or int4_pointwise", choices=INT8_VARIANTS
    )
    int8_layers: str = parameter(
        "", "pointwise layers that int4_pointwise keeps at 8 bits, such as conv_pw_1,conv_pw_2"
    )
    calibration_images: int = parameter(500, "training images that calibrate the ranges", low=1)
    equalize: bool = parameter(True, "scale channels to weights of similar size, where ReLU6 allows it")
    bias_correction: bool = parameter(True, "take the mean rounding error of each channel out of its bias")
    qat_epochs: int = parameter(
        None, "epochs of quantization-aware fine-tuning, 0 for none, None to suit the variant", low=0
    )
    qat_learning_rate: float = parameter(
        None, "its learning rate at the start, None to suit the variant", low=1e-7, high=1.0
    )
    calibration_draws: int = parameter(3, "draws for accuracy against number of images, 0 to skip it", low=0)
    results_dir: str = parameter("", "empty for the project's own results folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        for layer in self.kept_at_int8:
            if layer not in POINTWISE_LAYERS:
                raise WorkbookError(f"int8_layers: no pointwise layer {layer!r}: {nearest(layer, POINTWISE_LAYERS)}")
        epochs, learning_rate = _FINE_TUNING.get(self.variant, (3, 0.0001))
        for name, value in {"qat_epochs": epochs, "qat_learning_rate": learning_rate}.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    @property
    def kept_at_int8(self) -> tuple[str, ...]:
        """The pointwise layers that keep 8 bits, by name."""
        return tuple(name.strip() for name in self.int8_layers.split(",") if name.strip())

    @property
    def conversion(self) -> dict[str, Any]:
        """The parameters that determine the int8 model, by name: recorded with it."""
        names = ["calibration_images", "equalize", "bias_correction", "qat_epochs", "qat_learning_rate"]
        names += ["int8_layers"] if self.kept_at_int8 and self.variant == "int4_pointwise" else []
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class EvaluateParameters(Parameters):
    """Parameters of `evaluate.ipynb`."""

    run_id: str = parameter("", "empty for the newest finished run")
    batch_size: int = parameter(64, "images scored at a time", low=1)
    mistake_images: int = parameter(1000, "test images that are also preprocessed wrongly, 0 for none", low=0)
    precision: float = parameter(
        0.95, 'right answers wished for; below which confidence is the answer "unknown"?', low=0.0, high=1.0
    )
    results_dir: str = parameter("", "empty for the project's own results folder")


@dataclass(frozen=True)
class ExploreParameters(Parameters):
    """Parameters of `explore.ipynb`: what is chosen at first."""

    run_id: str = parameter("", "empty for the newest finished run")
    other_run_id: str = parameter("", "a second run to compare with, empty for none")
    photo: str = parameter("", "path of a photograph, empty for a test image")
    test_image: int = parameter(0, "number of the test image, of a hundred spread over the classes", low=0)
    results_dir: str = parameter("", "empty for the project's own results folder")


@dataclass(frozen=True)
class DeployParameters(Parameters):
    """Parameters of `deploy.ipynb`, and the options of `mb deploy`."""

    run_id: str = parameter("", "empty for the newest finished run")
    variant: str = parameter(
        "int8_per_channel", "int8_per_channel, int8_per_tensor or int4_pointwise", choices=INT8_VARIANTS
    )
    out: str = parameter("", "output folder, empty for a folder in that of the run")
    streamed_layers: int = parameter(0, "first layers that run row by row together, for less RAM, 0 for none", low=0)
    vectors: int = parameter(8, "test images with expected scores, 1 to 100", low=1, high=100)
    ram_kib: float = parameter(0.0, "RAM of the target for arena, stack and data in KiB, 0 for no limit", low=0.0)
    flash_kib: float = parameter(0.0, "flash of the target for code and constants in KiB, 0 for no limit", low=0.0)
    min_confidence: float = parameter(
        0.0, "answer unknown (-1) below this score, 0 to answer always; see evaluate", low=0.0, high=0.99
    )
    force: bool = parameter(False, "replace generated files that were edited since")
    results_dir: str = parameter("", "empty for the project's own results folder")

    @property
    def choices(self) -> dict[str, float]:
        """What determines the C code of a model."""
        threshold = {"min_confidence": self.min_confidence} if self.min_confidence else {}
        return {"streamed_layers": self.streamed_layers, "vectors": self.vectors, **threshold}


@dataclass(frozen=True)
class Budget(Parameters):
    """What a model may cost on the device: 0 for no limit."""

    ram_kib: float = parameter(0.0, "most total RAM in KiB, 0 for no limit", low=0.0)
    flash_kib: float = parameter(0.0, "most total flash in KiB, 0 for no limit", low=0.0)
    latency_ms: float = parameter(0.0, "longest inference on STM32H747 in ms, 0 for no limit", low=0.0)

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by column of `results.csv`, in its units: bytes and milliseconds."""
        limits = {
            "total_ram_bytes": self.ram_kib * 1024,
            "total_flash_bytes": self.flash_kib * 1024,
            "latency_ms_stm32h747": self.latency_ms,
        }
        return {column: limit for column, limit in limits.items() if limit}


@dataclass(frozen=True)
class FootprintParameters(Budget):
    """Parameters of `footprint.ipynb`: the budget, here with an example, and the classes of the untrained models."""

    ram_kib: float = parameter(256.0, "most total RAM in KiB, 0 for no limit", low=0.0)
    flash_kib: float = parameter(1024.0, "most total flash in KiB, 0 for no limit", low=0.0)
    n_classes: int = parameter(5, "classes of the classifier, 2 to 10000", low=2, high=10000)
    costs_of: str = parameter(
        FIRST_EDITION,
        "whose tool: that of edition 1.0, STM32Cube.AI 7.3.0, to 4.1, ST Edge AI Core 4.0.0",
        choices=tuple(EDITIONS),
    )


@dataclass(frozen=True)
class CompareParameters(Budget):
    """Parameters of `compare.ipynb`: the results folder, and the budget that the answer must fit."""

    costs_of: str = parameter(
        C_CODE,
        "whose RAM and flash must fit: c_code for ours, or the tool of edition 1.0 to 4.1",
        choices=(C_CODE, *EDITIONS),
    )
    edition: str = parameter(
        NEWEST_EDITION,
        "published values to stand next to, besides the first: edition 1.0 to 4.1",
        choices=tuple(EDITIONS),
    )
    test_images: bool = parameter(True, "show test images; False for a report without photographs, to publish")
    results_dir: str = parameter("", "empty for the project's own results folder")


@dataclass(frozen=True)
class ModelParameters(Parameters):
    """What fixes ops, shapes and weights of an untrained model, and so its cost: the options of `mb footprint`."""

    alpha: float = parameter(0.25, "width multiplier, 0.1 to 2", low=0.1, high=2.0)
    image_size: int = parameter(96, "height and width in pixels, 32 to 512", low=32, high=512)
    color_mode: str = parameter("rgb", "rgb or gray", choices=COLOR_MODES)
    n_classes: int = parameter(5, "classes of the classifier, 2 to 10000", low=2, high=10000)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: (height, width, channels)."""
        return self.image_size, self.image_size, 3 if self.color_mode == "rgb" else 1
