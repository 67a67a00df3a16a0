"""Fills in the templates of the generated files, and writes data as C literals for them."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

_COLUMNS = 118
_C_TYPES = {"int8": "int8_t", "uint8": "uint8_t", "int32": "int32_t", "float32": "float"}


def render(name: str, **values: object) -> str:
    """Returns the contents of a file.

    Args:
        name: The file; its template is `templates/<name>.j2`.
        values: What the template uses.

    Raises:
        jinja2.UndefinedError: If the template uses a value that is not among them.
    """
    return _ENVIRONMENT.get_template(f"{name}.j2").render(values)


def array(values: np.ndarray, name: str, attribute: str = "") -> str:
    """Returns the definition of a constant array, with what stands before it."""
    texts = [repr(value) for value in values.ravel().tolist()]
    each = max(_COLUMNS // (max(map(len, texts)) + 2), 1)
    rows = (texts[i : i + each] for i in range(0, len(texts), each))
    # INT32_MIN has no literal of its own in C.
    numbers = "".join(f"    {', '.join(row)},\n" for row in rows).replace("-2147483648", "-2147483647 - 1")
    return f"{attribute}static const {_C_TYPES[values.dtype.name]} {name}[{values.size}] = {{\n{numbers}}};"


def braced(values: Iterable[object], suffix: str = "") -> str:
    """Returns an initializer, with a suffix behind each value."""
    return f"{{{', '.join(f'{value}{suffix}' for value in values)}}}"


def string_literal(text: str) -> str:
    """Returns a C string literal in UTF-8; what is not printable ASCII is escaped."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def markdown(text: str) -> str:
    """Returns text as Markdown that shows it: in one line, and without HTML, links or emphasis."""
    return re.sub(r"([\\`*_\[\]<>&|~$])", r"\\\1", " ".join(text.split()))


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {"array": array, "braced": braced, "string_literal": string_literal, "markdown": markdown}
