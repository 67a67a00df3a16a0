"""Every parameter of every notebook: its default, its meaning, its valid values; and the ids of runs.

A notebook's parameters cell repeats the defaults, because papermill wants literals; a test holds the two together.
"""

from mbutils.config.after_training import (
    INT8_VARIANTS,
    Budget,
    CompareParameters,
    ConvertParameters,
    DeployParameters,
    EvaluateParameters,
    FootprintParameters,
    ModelParameters,
)
from mbutils.config.base import Parameters, parameter
from mbutils.config.paths import PROJECT, RECIPES, cache_dir, resolve_results_dir
from mbutils.config.recipes import read_recipe, read_yaml
from mbutils.config.training import (
    CLASS_WEIGHTS,
    COLOR_MODES,
    FOLDER,
    INTERPOLATIONS,
    DataParameters,
    PrepareParameters,
    Preprocessing,
    TrainParameters,
)

__all__ = [
    "CLASS_WEIGHTS",
    "COLOR_MODES",
    "FOLDER",
    "INT8_VARIANTS",
    "INTERPOLATIONS",
    "PROJECT",
    "RECIPES",
    "Budget",
    "CompareParameters",
    "ConvertParameters",
    "DataParameters",
    "DeployParameters",
    "EvaluateParameters",
    "FootprintParameters",
    "ModelParameters",
    "Parameters",
    "PrepareParameters",
    "Preprocessing",
    "TrainParameters",
    "cache_dir",
    "parameter",
    "read_recipe",
    "read_yaml",
    "resolve_results_dir",
]
