"""Parameters from YAML files."""

from pathlib import Path
from typing import Any

import yaml

from mbutils.config.paths import RECIPES
from mbutils.errors import WorkbookError, nearest

BASE = "recipe"  # the key that names the recipe which a recipe differs from


def read_recipe(name: str) -> dict[str, Any]:
    """Reads the parameters of a single run: those of the recipe that it builds on, and its own over them.

    Args:
        name: The name of a file in params/runs without ".yaml", or the path of a .yaml file.

    Raises:
        WorkbookError: If there is no such file, it is not a mapping, or it builds on itself.
    """
    return _read(name, ())


def with_recipe(values: dict[str, Any]) -> dict[str, Any]:
    """Returns parameters in which `recipe`, if it is among them, is replaced by what that recipe holds."""
    return _over_base(values, ())


def _read(name: str, above: tuple[str, ...]) -> dict[str, Any]:
    if name in above:
        raise WorkbookError(f"recipe {' builds on '.join([*above, name])}: a recipe cannot build on itself")
    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file() and path.parent == RECIPES:
        names = tuple(sorted(known.stem for known in RECIPES.glob("*.yaml")))
        raise WorkbookError(f"no recipe {name!r} in {RECIPES}: {nearest(name, names)}")
    values = read_yaml(path, "a recipe")
    if not isinstance(values, dict):
        raise WorkbookError(f"{path}: a recipe is a mapping of parameters, such as alpha: 0.5")
    return _over_base(values, (*above, name))


def _over_base(values: dict[str, Any], above: tuple[str, ...]) -> dict[str, Any]:
    own = {name: value for name, value in values.items() if name != BASE}
    return _read(str(values[BASE]), above) | own if values.get(BASE) else own


def read_yaml(path: Path, what: str) -> Any:  # noqa: ANN401
    """Reads a YAML file.

    Args:
        path: The file.
        what: What it should hold, for the error, such as "a recipe".

    Raises:
        WorkbookError: If it cannot be read or is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise WorkbookError(f"cannot read {path} ({error.strerror}): give the path of {what}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WorkbookError(f"{path} is not a YAML file ({' '.join(str(error).split())})") from error
