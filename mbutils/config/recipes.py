"""Recipes: the parameters of single runs, in YAML files that may build on each other."""

from pathlib import Path
from typing import Any

from mbutils.config.paths import RECIPES
from mbutils.config.yaml_files import read_yaml
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


def is_recipe(name: str) -> bool:
    """Returns whether a name is that of a recipe."""
    return name.endswith((".yaml", ".yml")) or (RECIPES / f"{name}.yaml").is_file()


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
