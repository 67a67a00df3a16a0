"""Reads YAML that a user wrote: text, numbers, true and false, lists and mappings, and nothing else."""

from pathlib import Path
from typing import Any, ClassVar

import yaml

from mbutils.errors import WorkbookError

_MOST_BYTES = 1_000_000
_MOST_VALUES = 100_000  # with what aliases repeat: a few lines of aliases can stand for billions


def read_yaml(path: Path, what: str) -> Any:  # noqa: ANN401
    """Reads a YAML file.

    Args:
        path: The file.
        what: What it should hold, for the error, such as "a recipe".

    Raises:
        WorkbookError: If it cannot be read, is not YAML, is too large, or has a key twice or another kind of value.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # a ValueError for a null character
        raise WorkbookError(
            f"cannot read {path} ({getattr(error, 'strerror', error)}): give the path of {what}"
        ) from error
    if len(content) > _MOST_BYTES:
        raise WorkbookError(f"{path} is larger than {_MOST_BYTES:,} bytes: give the path of {what}")
    try:
        node = yaml.compose(content.decode(), _Loader)
        if node is None:
            return None
        _refuse_many(node, {})
        return _Loader("").construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # numbers and Unicode that are malformed are ValueErrors
        raise WorkbookError(f"{path} is not a YAML file ({' '.join(str(error).split())[:300]})") from error
    except RecursionError as error:
        raise WorkbookError(f"{path} is nested too deeply: give the path of {what}") from error


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which refuses a key that occurs twice and text that cannot be written; dates are text."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns a mapping whose keys all differ."""
        texts = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)[1]
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:  # noqa: ANN401
        """Returns the text of a value, which must be Unicode."""
        text = super().construct_scalar(node)
        text.encode()
        return text

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Returns a whole number of at most 63 bits."""
        number = super().construct_yaml_int(node)
        if abs(number) >= 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a number has more than 63 bits", node.start_mark)
        return number


def _refuse_many(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Returns the number of values in a node, aliases counted as often as they occur."""
    if node not in known:
        known[node] = _MOST_VALUES + 1  # where it is met again within itself
        parts = [part for entry in node.value for part in entry] if isinstance(node, yaml.MappingNode) else node.value
        inner = [] if isinstance(node, yaml.ScalarNode) else parts
        known[node] = 1 + sum(_refuse_many(part, known) for part in inner)
    if known[node] > _MOST_VALUES:
        raise yaml.YAMLError(f"more than {_MOST_VALUES:,} values, or a value within itself")
    return known[node]


for _kind in ("timestamp", "binary", "omap", "pairs", "set"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", yaml.SafeLoader.construct_undefined)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
