"""Where things are: the project, its recipes, results, the cache."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
RECIPES = PROJECT / "params" / "runs"
NETWORKS = PROJECT / "params" / "networks"


def full_path(path: str) -> Path:
    """Returns a path that a user wrote, without links: `~` is the home folder, relative ones count from here."""
    return Path(os.path.realpath(Path(path).expanduser()))


def resolve_results_dir(results_dir: str) -> Path:
    """Returns the results folder: relative paths count from the working directory, empty means the project's own."""
    return full_path(results_dir) if results_dir else PROJECT / "results"


def cache_dir() -> Path:
    """Returns the folder for what can be made again: the one that `MB_CACHE_DIR` names, or `~/.cache/mbutils`."""
    return Path(os.environ.get("MB_CACHE_DIR") or Path.home() / ".cache" / "mbutils").expanduser()
