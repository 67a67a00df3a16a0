"""The columns of every table, once: name, label, unit, format and meaning.

The names in `results.csv`, the data dictionary in `results/README.md`, headers of tables, labels of axes, names of
limits in sentences, and how numbers are written: all come from here. `python -m mbutils.columns` writes the dictionary.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KIB = 1024
_FORMATS = {"bytes": ",.0f", "fraction": ".2%", "ms": ",.1f", "s": ".0f"}  # by unit
_COUNT = ",.0f"
_SIGNED = "+.2%"
_END = "<!-- end -->\n"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its name in the file or DataFrame.
        label: What headers, axes and sentences call it, without a unit.
        unit: The unit of its values; fractions are shown as percent, and bytes, where they are scaled, as KiB.
        format: How a value is written in its own unit, a format specification; by default that of the unit.
        meaning: What it is and how it is computed, for the data dictionary; Markdown.
    """

    name: str
    label: str = ""
    unit: str = ""
    format: str = ""
    meaning: str = ""

    @property
    def header(self) -> str:
        """The label with the unit of the values, such as "total RAM (bytes)"."""
        return self._labelled("" if self.unit == "fraction" else self.unit)

    @property
    def axis(self) -> str:
        """The label with the unit that scaled values are shown in, such as "total RAM (KiB)"."""
        return self._labelled(self._scaled_unit)

    @property
    def scale(self) -> int:
        """By what values are divided to be shown scaled: 1024 for bytes, 1 for all others."""
        return KIB if self.unit == "bytes" else 1

    def text(self, value: Any) -> str:  # noqa: ANN401
        """Returns a value in its own unit, such as "206,992"; blank where it is missing."""
        return "" if _is_missing(value) else format(value, self.format or _FORMATS.get(self.unit, ""))

    def scaled(self, value: float | None, digits: int = 2) -> str:
        """Returns a number scaled, such as "202.14"; blank where it is missing."""
        return "" if _is_missing(value) else f"{value / self.scale:,.{digits}f}"

    def with_unit(self, value: float | None, digits: int = 2) -> str:
        """Returns a number scaled, with its unit, such as "202.14 KiB"; blank where it is missing."""
        return "" if _is_missing(value) else f"{self.scaled(value, digits)} {self._scaled_unit}"

    @property
    def _scaled_unit(self) -> str:
        return {"bytes": "KiB", "fraction": ""}.get(self.unit, self.unit)

    def _labelled(self, unit: str) -> str:
        label = self.label or self.name
        return f"{label} ({unit})" if unit else label


def _is_missing(value: Any) -> bool:  # noqa: ANN401
    return value is None or value != value


_CORTEX_M7 = "of the C code that `deploy` writes, compiled for Cortex-M7 by arm-none-eabi-gcc at `-O2`"
_ERRORS = "how far it may be off is in [docs/figures.md](../docs/figures.md)"

RESULTS = (
    Column("run_id", "run", meaning="folder of the run; ends with a hash of everything that determines its result"),
    Column(
        "dataset",
        "dataset",
        meaning="name in the registry of datasets; for `folder`, `folder_` and the folder's name, or "
        "`plant_village_39` if its classes are those of the published edition",
    ),
    Column("n_train", "training images", "", _COUNT, "images trained on"),
    Column("n_test", "test images", "", _COUNT, "images of the test part, never used for any choice"),
    Column("n_classes", "classes", meaning="classes of the dataset"),
    Column("alpha", "alpha", "", "g", "width multiplier"),
    Column("image_size", "image size", "px", meaning="height and width of the input"),
    Column("color_mode", "colour", meaning="`rgb` or `gray`"),
    Column("seed", "seed", meaning="seed of initial weights, shuffling and augmentation"),
    Column("variant", "variant", meaning="`float32` (the Keras model), `int8_per_channel` or `int8_per_tensor`"),
    Column(
        "top1",
        "top-1 accuracy",
        "fraction",
        meaning="test images whose highest score is that of the right class, of all test images; the next two columns "
        "bound what chance in the choice of the test images may account for",
    ),
    Column("top1_low", "low", "fraction", meaning="lower end of the 95 % Wilson score interval of `top1`"),
    Column("top1_high", "high", "fraction", meaning="upper end"),
    Column("param_count", "parameters", "", _COUNT, "parameters of the Keras model, batch normalization included"),
    Column(
        "macs", "MACs", "", _COUNT, "multiply-accumulate operations of one inference: convolutions and the classifier"
    ),
    Column("tflite_bytes", ".tflite file", "bytes", meaning="size of the .tflite file; blank for `float32`"),
    Column(
        "weights_flash_bytes", "weights flash", "bytes", meaning="constants that the compute ops of the .tflite read"
    ),
    Column(
        "activation_ram_bytes",
        "activation RAM",
        "bytes",
        meaning="peak of the activation buffers by the rules of STM32Cube.AI 7.3.0",
    ),
    Column("runtime_ram_bytes", "runtime RAM", "bytes", meaning=f"RAM of the runtime, an estimate: {_ERRORS}"),
    Column(
        "code_flash_bytes", "code flash", "bytes", meaning="flash of the runtime's code, an estimate: see the same page"
    ),
    Column("total_ram_bytes", "total RAM", "bytes", meaning="activation and runtime RAM"),
    Column("total_flash_bytes", "total flash", "bytes", meaning="weights and code flash"),
    Column(
        "latency_ms_stm32h747",
        "latency on STM32H747",
        "ms",
        meaning=f"time of one inference on STM32H747 at 400 MHz, an estimate fitted to published times: {_ERRORS}",
    ),
    Column(
        "latency_ms_stm32mp157",
        "latency on STM32MP157",
        "ms",
        meaning="the same on STM32MP157 at 800 MHz with two cores",
    ),
    Column("train_seconds", "training", "s", meaning="wall-clock time of the training loop"),
    Column("git_commit", "commit", meaning="commit of the workbook; ends with `-dirty` if changes were uncommitted"),
    Column(
        "validation_top1",
        "validation accuracy",
        "fraction",
        meaning="top-1 on the validation part: of `float32` at the last epoch, of int8 measured by `evaluate`",
    ),
    Column(
        "drop_from_float",
        "drop",
        "fraction",
        _SIGNED,
        "`top1` of `float32` minus that of the variant, on the same images",
    ),
    Column(
        "agreement_with_float",
        "agreement",
        "fraction",
        meaning="test images for which the variant and `float32` predict the same class, right or wrong",
    ),
    Column(
        "macro_recall",
        "macro recall",
        "fraction",
        meaning="recall of each class on the test images, averaged over the classes: rare classes count as much as "
        "frequent ones",
    ),
    Column(
        "configuration",
        "configuration",
        meaning="hash of everything that determines the trained model except the seed: runs of one configuration "
        "differ only in their seeds",
    ),
    Column(
        "conversion",
        "conversion",
        meaning="hash of the parameters of the conversion; blank for `float32`. Seeds are averaged only within the "
        "same configuration and conversion",
    ),
    Column(
        "measured_ram_bytes",
        "C code: RAM",
        "bytes",
        meaning=f"RAM {_CORTEX_M7}: arena, `.data`, `.bss` and stack; exact for that compiler, blank if not measured",
    ),
    Column(
        "measured_stack_bytes",
        "C code: stack",
        "bytes",
        meaning="largest stack of one inference, measured under QEMU",
    ),
    Column("measured_flash_bytes", "C code: flash", "bytes", meaning="`.text`, `.rodata` and `.data` of the network"),
    Column("measured_code_bytes", "C code: machine code", "bytes", meaning="`.text` of the network"),
    Column(
        "measured_instructions",
        "C code: instructions",
        "",
        _COUNT,
        "instructions of one inference with the DSP extension, counted by QEMU; instruction counts are not time",
    ),
)

# Columns of tables that notebooks show, and of no file.
_SHOWN = (
    Column("low", "low", "fraction"),
    Column("high", "high", "fraction"),
    Column("drop", "drop", "fraction", _SIGNED),
    Column("agreement", "agreement", "fraction"),
    Column("only_float32", "only float32 right", "", ".0f"),
    Column("only_int8", "only int8 right", "", ".0f"),
    Column("p_value", "p-value", "", ".3f"),
    Column("precision", "precision", "fraction"),
    Column("recall", "recall", "fraction"),
    Column("parameters", "parameters", "", _COUNT),
    Column("bytes", "size", "bytes"),
    Column("weight_bytes", "weights", "bytes"),
    Column("activation_bytes", "input and output", "bytes"),
    Column("live_bytes", "in use", "bytes"),
    Column("arena_bytes", "arena", "bytes"),
    Column("patch_macs", "MACs of two patches", "", _COUNT),
    Column("rows", "published times"),
    Column("mean_error", "mean error", "fraction", ".1%"),
    Column("worst_error", "worst error", "fraction", ".1%"),
    Column("error_factor", "error factor", "", ".2f"),
)
by_name: Mapping[str, Column] = {column.name: column for column in (*RESULTS, *_SHOWN)}


def names(columns: Iterable[Column]) -> tuple[str, ...]:
    """Returns the names of columns."""
    return tuple(column.name for column in columns)


def dictionary(columns: Iterable[Column]) -> str:
    """Returns the meaning of columns as a Markdown table."""
    return markdown(
        ("column", "unit", "what it is, and how it is computed"),
        ((f"`{column.name}`", column.unit, column.meaning) for column in columns),
    )


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Returns a Markdown table."""
    head, *body = (f"| {' | '.join(cells)} |\n" for cells in (header, *rows))
    return head + "|" + "---|" * (head.count("|") - 1) + "\n" + "".join(body)


def with_table(text: str, mark: str, table: str) -> str:
    """Returns a text with a table put between the line `mark`, a comment, and the next end mark."""
    before, rest = text.split(f"<!-- {mark} -->\n")
    _, after = rest.split(_END, 1)
    return f"{before}<!-- {mark} -->\n{table}{_END}{after}"


def with_dictionaries(text: str) -> str:
    """Returns the text of `results/README.md` with the data dictionaries of all files."""
    from bench import compare, sweeps  # in the project's folder, not in the package

    for file, columns in (("results", RESULTS), ("bench", compare.COLUMNS), ("bench_sweeps", sweeps.COLUMNS)):
        text = with_table(text, f"columns of {file}.csv, made by `make format`", dictionary(columns))
    return text


if __name__ == "__main__":
    readme = Path("results/README.md")
    readme.write_text(with_dictionaries(readme.read_text()))
