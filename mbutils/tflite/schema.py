"""Decodes the bytes of a .tflite file into its tables, or raises one clear error. Schema: that of `ai_edge_litert`."""

import stat
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from mbutils.errors import WorkbookError
from mbutils.tflite import sharing

CONVERT_HINT = (
    "convert it with tf.lite.TFLiteConverter, a representative dataset and "
    "supported_ops TFLITE_BUILTINS_INT8 (notebooks/convert.ipynb does)"
)

_LARGEST_BYTES = 2**29
_LONGEST_DETAIL = 200  # characters of a message that come from a file
_LONGEST_NAME = 1000  # characters


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if isinstance(value, int)}


OP_NAMES = _names(schema.BuiltinOperator)
DTYPE_NAMES = _names(schema.TensorType)
PADDING_NAMES = _names(schema.Padding)
ACTIVATION_NAMES = _names(schema.ActivationFunctionType)


def load(source: Path | str | bytes, label: str = "model") -> tuple[str, bytes]:
    """Returns what to call the model in messages, and its bytes.

    Args:
        source: The path of a .tflite file, or the bytes of one.
        label: What messages call the bytes.

    Raises:
        WorkbookError: If there is no such file, or it is empty or larger than 512 MiB.
    """
    if isinstance(source, bytes | bytearray):
        return label, bytes(source)
    path = Path(source)
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise WorkbookError(f"{path}: not a file: give the path of a .tflite file")
        if found.st_size > _LARGEST_BYTES:
            raise WorkbookError(f"{path}: larger than {_LARGEST_BYTES // 2**20} MiB: use a smaller model")
        data = path.read_bytes()
    except OSError as error:
        raise WorkbookError(f"{path}: cannot be read ({error.strerror}): give the path of a .tflite file") from None
    if not data:
        raise WorkbookError(f"{path}: the file is empty: convert the model again")
    return str(path), data


def decode(data: bytes) -> schema.ModelT:
    """Decodes every table of the file, so that a missing end is noticed, whichever part of the file it holds.

    Raises:
        WorkbookError: If this is not TFLite, or truncated or corrupted, or has not exactly one subgraph.
    """
    if not data[4:8] == b"TFL3":
        raise WorkbookError("not a .tflite file (no TFL3 identifier): use a model converted to TensorFlow Lite")
    try:
        root = schema.Model.GetRootAs(data, 0)
        subgraphs = root.SubgraphsLength()
        # Decode no further than needed for the message: many subgraphs may be many times the work.
        if subgraphs == 1:
            sharing.check(root, len(data))
            model = schema.ModelT.InitFromObj(root)
    except WorkbookError:
        raise
    except Exception as error:
        raise damaged(error) from None
    if subgraphs != 1:
        raise WorkbookError(f"{subgraphs} subgraphs (control flow or signatures): export a plain model with one")
    return model


def damaged(cause: Exception) -> WorkbookError:
    """Returns the error for a file whose offsets or values cannot be right."""
    detail = str(cause).splitlines()[0][:_LONGEST_DETAIL] if str(cause) else type(cause).__name__
    return WorkbookError(f"truncated or corrupted .tflite ({detail}): copy or convert it again")


def op_name(model: schema.ModelT, operator: schema.OperatorT) -> str:
    """Returns the name of an op, such as "CONV_2D"; of a custom op, the name it was registered under."""
    code = model.operatorCodes[operator.opcodeIndex]
    # Old files only have the 8-bit field, new files mirror small codes into it.
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    name = OP_NAMES.get(number, f"op code {number}")
    return text(code.customCode) if name == "CUSTOM" and code.customCode else name


def text(value: bytes | str | None) -> str:
    """Returns the first 1000 characters of a flatbuffer string as str, printable and never None."""
    decoded = value.decode(errors="replace") if isinstance(value, bytes) else value or ""
    return "".join(c if c.isprintable() else "?" for c in decoded[:_LONGEST_NAME])


def numbers(values: Any) -> tuple[int, ...]:  # noqa: ANN401
    """Returns a flatbuffer vector of numbers (an array, or None or 0 where it is absent) as a tuple."""
    return () if values is None or isinstance(values, int) else tuple(int(v) for v in values)
