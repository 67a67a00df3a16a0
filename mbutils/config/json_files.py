"""Reads the JSON files that the workbook keeps its records in, and checks them against a schema."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from mbutils.errors import WorkbookError

_MOST_CHARACTERS = 200  # of what is wrong, in a message
# In JSON Schema 5.0 is an integer; here a whole number is an `int`.
_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, value: type(value) is int),
)

TEXT = {"type": "string"}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**53}
AMOUNT = {"type": "number", "minimum": 0, "maximum": 2**53}
FRACTION = {"type": "number", "minimum": 0, "maximum": 1}


def validator(schema: Mapping[str, Any]) -> Draft202012Validator:
    """Returns a checker for a JSON Schema, to be made once for many files."""
    return _Validator(schema)


def parse(content: bytes, schema: Draft202012Validator) -> Any:  # noqa: ANN401
    """Returns the content of a JSON file that matches a schema.

    Raises:
        WorkbookError: If it is not JSON, has a value that is no number or text that cannot be written, or does not
            match the schema; the message says in one line what is wrong, and not in which file.
    """
    try:
        parsed = json.loads(content, parse_constant=_refuse_constant)
        text = json.dumps(parsed, ensure_ascii=False, allow_nan=False)
        text.encode()  # fails for halves of characters, which escapes can stand for
        if r"\u0000" in text:
            raise ValueError("it has a null character")
    except (ValueError, RecursionError) as error:
        raise WorkbookError(f"it is not readable JSON ({_shortened(str(error))})") from error
    if error := next(schema.iter_errors(parsed), None):
        place = ".".join(map(str, error.absolute_path))
        raise WorkbookError(_shortened(f"{place}: {error.message}" if place else error.message))
    return parsed


def read_json(path: Path, schema: Draft202012Validator) -> Any:  # noqa: ANN401
    """Returns the content of a JSON file that matches a schema.

    Raises:
        WorkbookError: As `parse`, or if it cannot be read; the file is named.
    """
    try:
        return parse(path.read_bytes(), schema)
    except OSError as error:
        raise WorkbookError(f"cannot read {path} ({error.strerror})") from error
    except WorkbookError as error:
        raise WorkbookError(f"{path}: {error}") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]} ..."
