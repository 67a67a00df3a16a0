"""What all parameters have in common: defaults, meanings and valid values, which are checked."""

import math
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from mbutils.config.recipes import read_recipe
from mbutils.errors import WorkbookError, nearest


def parameter(
    default: Any,  # noqa: ANN401
    help: str,
    *,
    group: str = "",
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    determines_result: bool = True,
    neutral: Any = None,  # noqa: ANN401
    only_with: str = "",
) -> Any:  # noqa: ANN401
    """Declares one parameter of a `Parameters` class.

    Args:
        default: Its default value, of the parameter's type; None for a value that suits the data, see `suited`.
        help: What it is, in a few words; the comment in the notebooks and the help of an option.
        group: The heading of the group that begins with it.
        choices: The valid strings; any, where empty.
        low: The smallest valid number.
        high: The largest valid number.
        determines_result: Whether the trained model depends on it, and so the run id.
        neutral: The value that changes nothing. It is left out of the run id, so that a new parameter does not change
            the ids of runs that do not use it.
        only_with: The parameter without which (empty or 0) this one changes nothing.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "group": group,
            "choices": choices,
            "low": low,
            "high": high,
            "determines_result": determines_result,
            "neutral": neutral,
            "only_with": only_with,
        },
    )


@dataclass(frozen=True)
class Parameters:
    """Base of the parameters of a notebook; checks types and values.

    Raises:
        WorkbookError: If a value has the wrong type or is impossible.
    """

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            if value is not None or spec.default is not None:
                object.__setattr__(self, spec.name, _checked(spec.name, value, spec.type, spec.metadata))

    @classmethod
    def checked(cls, name: str, value: Any) -> Any:  # noqa: ANN401
        """Returns a value of one parameter, as its type.

        Raises:
            WorkbookError: If it has the wrong type or is impossible.
        """
        spec = next(spec for spec in fields(cls) if spec.name == name)
        return _checked(name, value, spec.type, spec.metadata)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Returns parameters with the values of a mapping, and defaults for the rest.

        Raises:
            WorkbookError: If a name is unknown (the nearest valid one is named) or a value is invalid.
        """
        names = [spec.name for spec in fields(cls)]
        for name in values:
            if name not in names:
                raise WorkbookError(f"unknown parameter {name!r}: {nearest(name, names)}")
        return cls(**values)

    @classmethod
    def from_notebook(cls, namespace: Mapping[str, Any]) -> Self:
        """Returns parameters with the values in a notebook's `globals()`, after its parameters cell has run.

        papermill injects any name, so those of the cell that it adds are checked. Where the parameter `recipe` names a
        recipe, its values stand in for the defaults; values that papermill injects, or that differ from their default,
        take precedence.

        Raises:
            WorkbookError: If a name is unknown or missing, or a value is invalid.
        """
        names = [spec.name for spec in fields(cls)]
        injected = _injected_names(namespace.get("In", []))
        for name in injected:
            if name not in names:
                raise WorkbookError(f"unknown parameter {name!r}: {nearest(name, names)}")
        for name in names:
            if name not in namespace:
                raise WorkbookError(f"parameter {name!r} is missing: restore its line in the parameters cell")
        values = {name: namespace[name] for name in names}
        if recipe := values.get("recipe"):
            chosen = {s.name for s in fields(cls) if s.name in injected or values[s.name] != s.default}
            values = read_recipe(recipe) | {name: values[name] for name in names if name in chosen}
        return cls.from_dict(values)

    @property
    def determining(self) -> dict[str, Any]:
        """The values that determine the result: one that changes nothing is left out, or stands at its default."""
        kept = [spec for spec in fields(self) if spec.metadata["determines_result"] and not self._is_neutral(spec)]
        return {spec.name: self._in_effect(spec) for spec in kept}

    def _is_neutral(self, spec: Field) -> bool:
        neutral = spec.metadata["neutral"]
        return neutral is not None and (getattr(self, spec.name) == neutral or not self._has_effect(spec))

    def _has_effect(self, spec: Field) -> bool:
        condition = spec.metadata["only_with"]
        return not condition or bool(getattr(self, condition))

    def _in_effect(self, spec: Field) -> Any:  # noqa: ANN401
        return getattr(self, spec.name) if self._has_effect(spec) else spec.default


def _injected_names(sources: list[str]) -> list[str]:
    """Returns the names that the last cell added by papermill assigns: it begins with a comment and has one a line."""
    cells = [source for source in sources if source.startswith("# Parameters\n")]
    return re.findall(r"^(\w+) = ", cells[-1], re.MULTILINE) if cells else []


def check_text(name: str, text: str) -> None:
    """Checks text that a user wrote.

    Raises:
        WorkbookError: If it has a control character, such as a line break, or is no Unicode.
    """
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise WorkbookError(f"{name}: {text[:80]!r} has a control character, or is no Unicode: give other text")


def check_path(name: str, path: str) -> None:
    """Checks the name or path of something; it need not exist.

    Raises:
        WorkbookError: If no file can have it.
    """
    check_text(name, path)
    names = os.fsencode(path).split(os.fsencode(os.sep))
    if max(map(len, names)) > os.pathconf("/", "PC_NAME_MAX") or len(path) > os.pathconf("/", "PC_PATH_MAX"):
        raise WorkbookError(f"{name}: {path[:80]!r}... is too long for a path: give a shorter one")
    try:
        Path(path).expanduser()
    except RuntimeError as error:
        raise WorkbookError(f"{name}: {path!r} begins with the home folder of an unknown user") from error


def _checked(name: str, value: Any, kind: type, rules: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if isinstance(value, int) and abs(value) >= 2**63:
        raise WorkbookError(f"{name}: the number has {value.bit_length():,} bits, the most is 63")
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is float and str(value) in rules["choices"]:
        value = str(value)  # papermill takes -p edition 4.0 for a number
    if type(value) is not kind:
        shown = "" if isinstance(value, list | dict) else f" {value!r:.80}"
        hint = " (write 0.001 instead of 1e-3)" if kind is float and isinstance(value, str) else ""
        raise WorkbookError(f"{name}: expected {kind.__name__}, got {type(value).__name__}{shown}{hint}")
    if kind is str:
        check_path(name, value)
    if rules["choices"] and value not in rules["choices"]:
        raise WorkbookError(f"{name}: unknown value {value!r}: {nearest(value, rules['choices'])}")
    if kind is float and not math.isfinite(value):
        raise WorkbookError(f"{name}: {value} is not a finite number: give one")
    low, high = rules["low"], rules["high"]
    if low is not None and value < low:
        raise WorkbookError(f"{name}: {value} is too small: the minimum is {low}")
    if high is not None and value > high:
        raise WorkbookError(f"{name}: {value} is too large: the maximum is {high}")
    return value
