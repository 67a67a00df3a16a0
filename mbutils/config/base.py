"""What every set of parameters has in common: defaults, meanings and valid values, checked when it is made."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from mbutils.errors import WorkbookError, nearest


def parameter(
    default: Any,  # noqa: ANN401
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    determines_result: bool = True,
    neutral: Any = None,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Declares one parameter of a `Parameters` class.

    Args:
        default: The value where none is given; its type is the parameter's type.
        help: What it is, in a few words; the comment beside it in the notebooks.
        choices: The valid strings; any, where empty.
        low: The smallest valid number.
        high: The largest valid number.
        determines_result: Whether the trained model depends on it, and so the run id.
        neutral: The value that changes nothing. The run id leaves it out, and so is that of runs from before there was
            such a parameter.
    """
    return field(
        default=default,
        metadata={
            "help": help,
            "choices": choices,
            "low": low,
            "high": high,
            "determines_result": determines_result,
            "neutral": neutral,
        },
    )


@dataclass(frozen=True)
class Parameters:
    """Base of the parameters of one notebook: checks types and values when made.

    Raises:
        WorkbookError: If a value has the wrong type or is impossible.
    """

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = _checked(spec.name, getattr(self, spec.name), spec.type, spec.metadata)
            object.__setattr__(self, spec.name, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Makes the parameters from names and values, defaults for the rest.

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
        """Makes the parameters from a notebook's `globals()`, after its parameters cell has run.

        papermill injects whatever name it is given, so the names are read from the source of the cell that ran last
        before this one and only assigns literals: papermill's cell, or the parameters cell edited by hand.

        Raises:
            WorkbookError: If a name is unknown or missing, or a value is invalid.
        """
        names = [spec.name for spec in fields(cls)]
        assigned = _names_in_last_parameters_cell(namespace.get("In", []), set(names))
        missing = [name for name in names if name not in namespace]
        cls.from_dict({name: namespace[name] for name in assigned if name in namespace})
        if missing:
            raise WorkbookError(f"parameter {missing[0]!r} is missing: restore its line in the parameters cell")
        return cls(**{name: namespace[name] for name in names})


def _checked(name: str, value: Any, kind: type, rules: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        hint = " (write 0.001 instead of 1e-3)" if kind is float and isinstance(value, str) else ""
        raise WorkbookError(f"{name}: expected {kind.__name__}, got {type(value).__name__} {value!r}{hint}")
    if rules["choices"] and value not in rules["choices"]:
        raise WorkbookError(f"{name}: unknown value {value!r}: {nearest(value, rules['choices'])}")
    low, high = rules["low"], rules["high"]
    # `not <=` rather than `>`, so that NaN is refused too.
    if low is not None and not low <= value:
        raise WorkbookError(f"{name}: {value} is too small: the least is {low}")
    if high is not None and not value <= high:
        raise WorkbookError(f"{name}: {value} is too large: the most is {high}")
    return value


def _names_in_last_parameters_cell(sources: list[str], known: set[str]) -> list[str]:
    for source in reversed(sources):
        try:
            statements = ast.parse(source).body
        except SyntaxError:
            continue
        names = [_assigned_name(statement) for statement in statements]
        injected = source.startswith("# Parameters")
        if names and all(names) and (injected or known.intersection(names)):
            return names
    return []


def _assigned_name(statement: ast.stmt) -> str | None:
    """Returns the name that `name = literal` or `name: type = literal` assigns, None for any other statement."""
    target = statement.target if isinstance(statement, ast.AnnAssign) else getattr(statement, "targets", [None])[0]
    if not isinstance(statement, ast.Assign | ast.AnnAssign) or not isinstance(target, ast.Name):
        return None
    try:
        ast.literal_eval(statement.value)
    except (ValueError, TypeError):
        return None
    return target.id
