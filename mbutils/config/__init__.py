"""Every parameter of every notebook: its default, its meaning, its valid values; and the ids of runs.

A notebook's parameters cell repeats the defaults, because papermill wants literals; a test holds the two together.
"""

from mbutils.config.after_training import (
    C_CODE,
    INT8_VARIANTS,
    Budget,
    CompareParameters,
    ConvertParameters,
    DeployParameters,
    EvaluateParameters,
    ExploreParameters,
    FootprintParameters,
    ModelParameters,
)
from mbutils.config.base import Parameters, check_path, check_text, parameter
from mbutils.config.editions import EDITIONS, FIRST_EDITION, NEWEST_EDITION
from mbutils.config.networks import MOBILENET, network_file, network_name
from mbutils.config.paths import PROJECT, RECIPES, cache_dir, full_path, resolve_results_dir
from mbutils.config.preprocessing import (
    COLOR_MODES,
    DECODERS,
    FITS,
    HALF_RANGE,
    INTERPOLATIONS,
    PADDING,
    SCALINGS,
    Preprocessing,
    normalize,
    to_pixels,
)
from mbutils.config.recipes import is_recipe, read_recipe, with_recipe
from mbutils.config.search import SearchParameters
from mbutils.config.suited import reasons, suited
from mbutils.config.training import (
    CLASS_WEIGHTS,
    FOLDER,
    IMAGENET,
    PLANT_VILLAGE_39,
    DataParameters,
    PrepareParameters,
    TrainParameters,
)
from mbutils.config.yaml_files import read_yaml
