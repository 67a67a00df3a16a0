"""Every parameter of every notebook: its default, its meaning, its valid values; and the ids of runs.

A notebook's parameters cell repeats the defaults, because papermill wants literals; a test holds the two together.
"""

import ast
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import yaml

from mbutils.errors import WorkbookError, nearest

PROJECT = Path(__file__).resolve().parent.parent
RECIPES = PROJECT / "params" / "runs"
INTERPOLATIONS = ("area", "bilinear", "bilinear_antialias", "nearest")
COLOR_MODES = ("rgb", "gray")
CLASS_WEIGHTS = ("none", "balanced")
INT8_VARIANTS = ("int8_per_channel", "int8_per_tensor")
FOLDER = "folder"  # the dataset that is the user's own


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


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing contract: what happens to an image before the model, on the laptop and on the device alike.

    1. Decode to 8 bits a sample: of 16-bit samples the high byte, of several frames the first. Colour profiles are not
       applied.
    2. Put what is transparent on white: `round((colour * alpha + 255 * (255 - alpha)) / 255)`, to one level.
    3. Turn as the EXIF orientation says.
    4. Convert to `color_mode`. To RGB: gray three times, CMYK as `(255 - C) * (255 - K) / 255`. To gray: ITU-R 601 luma
       of RGB.
    5. Resize to a square without keeping the aspect ratio, and round to uint8 in 0..255.

    A float model is fed `pixel / 127.5 - 1`.

    Attributes:
        image_size: Height and width in pixels.
        color_mode: "rgb" or "gray".
        interpolation: "area" (mean of the covered pixels), "bilinear" (2x2 taps, no antialiasing),
            "bilinear_antialias" (triangle filter widened by the reduction), or "nearest".
    """

    image_size: int
    color_mode: str
    interpolation: str

    @property
    def channels(self) -> int:
        """The number of colour channels: 3 or 1."""
        return 3 if self.color_mode == "rgb" else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: (height, width, channels)."""
        return self.image_size, self.image_size, self.channels


@dataclass(frozen=True)
class DataParameters(Parameters):
    """Which images, and how their parts are made. The run id has a digest of what comes of it."""

    dataset: str = parameter("tf_flowers", "tf_flowers, plant_village, food101, digits, or folder for your own")
    data_dir: str = parameter("", "for folder, a folder with a folder of images a class", determines_result=False)
    validation_fraction: float = parameter(0.1, "part of the training images kept for validation", low=0.01, high=0.5)
    test_fraction: float = parameter(
        0.2, "part kept for the test, where the data has none", low=0.01, high=0.5, determines_result=False
    )
    split_seed: int = parameter(0, "draws another test part, where the data has none", low=0, determines_result=False)
    skip_corrupt: bool = parameter(False, "leave unreadable images out, and list them", determines_result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset == FOLDER and not self.data_dir:
            raise WorkbookError("dataset folder needs data_dir: a folder that holds a folder of images for each class")
        if self.data_dir and self.dataset != FOLDER:
            raise WorkbookError(f"data_dir is for dataset folder, not for {self.dataset}: give dataset folder as well")
        if self.data_dir:  # found again from any working directory
            object.__setattr__(self, "data_dir", str(Path(self.data_dir).expanduser().absolute()))

    @property
    def data_name(self) -> str:
        """The name of the data in run ids and tables: the dataset, or "folder_" and the name of the folder."""
        if self.dataset != FOLDER:
            return self.dataset
        return "folder_" + re.sub(r"[^\w.-]+", "-", Path(self.data_dir).name)[:40]


@dataclass(frozen=True)
class PrepareParameters(DataParameters):
    """Parameters of `prepare.ipynb`: the data, the preprocessing contract, the augmentation."""

    image_size: int = parameter(96, "height and width in pixels, 32 to 512", low=32, high=512)
    color_mode: str = parameter("rgb", "rgb or gray", choices=COLOR_MODES)
    interpolation: str = parameter("area", "area, bilinear, bilinear_antialias or nearest", choices=INTERPOLATIONS)
    min_crop_area: float = parameter(0.4, "smallest random crop, fraction of the image area", low=0.05, high=1.0)
    horizontal_flip: bool = parameter(True, "mirror half of the training images")
    color_jitter: float = parameter(0.2, "random change of brightness and contrast, 0 for none", low=0.0, high=1.0)
    mixup: float = parameter(0.0, "MixUp of pairs of images, parameter of its beta distribution, 0 for none", low=0.0)
    seed: int = parameter(0, "seed of every random choice", low=0)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing contract of these parameters."""
        return Preprocessing(self.image_size, self.color_mode, self.interpolation)


@dataclass(frozen=True)
class TrainParameters(PrepareParameters):
    """Parameters of `train.ipynb`: those of `prepare.ipynb`, the model and the optimization."""

    alpha: float = parameter(0.25, "width multiplier, 0.1 to 2", low=0.1, high=2.0)
    weights: str = parameter("imagenet", "imagenet, none, or the path of a .keras or .weights.h5 file")
    dropout: float = parameter(0.1, "dropout before the classifier", low=0.0, high=0.9)
    batch_norm_momentum: float = parameter(0.99, "lower for short trainings from scratch", low=0.0, high=0.9999)
    epochs: int = parameter(30, "passes over the training images", low=1)
    batch_size: int = parameter(64, "images a training step", low=1)
    learning_rate: float = parameter(0.004, "peak of the cosine schedule", low=0.0, high=10.0)
    warmup_epochs: float = parameter(2.0, "epochs of linear warm-up", low=0.0)
    weight_decay: float = parameter(0.01, "decoupled weight decay of AdamW", low=0.0, high=1.0)
    label_smoothing: float = parameter(0.1, "label smoothing of the cross-entropy", low=0.0, high=0.9)
    class_weight: str = parameter(
        "none", "none, or balanced to make rare classes count as much", choices=CLASS_WEIGHTS, neutral="none"
    )
    early_epochs: int = parameter(0, "first epochs, on images of another size", low=0)
    early_image_size: int = parameter(160, "height and width in those epochs, in pixels", low=32, high=512)
    teacher: str = parameter("", "recipe in params/runs whose model teaches this one, empty for none")
    teacher_weight: float = parameter(1.0, "share of the teacher's scores in the targets", low=0.0, high=1.0)
    teacher_views: int = parameter(16, "augmented views of each image that the teacher scores", low=1)
    results_dir: str = parameter("", "empty for the project's own results folder", determines_result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher:
            _refuse_circles(self)

    @property
    def teacher_parameters(self) -> Self | None:
        """The parameters that the teacher is trained with: its recipe, on the same data with the same seed."""
        if not self.teacher:
            return None
        shared = {name: getattr(self, name) for name in (*(spec.name for spec in fields(DataParameters)), "seed")}
        return type(self).from_dict({**read_recipe(self.teacher), **shared})

    def run_id(self, dataset_fingerprint: str) -> str:
        """Returns the readable id of the run, ending with a hash of all that determines its result.

        Args:
            dataset_fingerprint: The digest of identities, labels and parts of the dataset.
        """
        determining = {spec.name: getattr(self, spec.name) for spec in fields(self) if _determines_result(self, spec)}
        if self.teacher:
            determining["teacher"] = self.teacher_parameters.run_id(dataset_fingerprint)
        digest = hashlib.sha256(json.dumps([determining, dataset_fingerprint], sort_keys=True).encode()).hexdigest()
        model = f"mobilenet_v1_{self.alpha:g}_{self.image_size}_{self.color_mode}"
        return f"{self.data_name}_{model}_s{self.seed}_{digest[:8]}"


def _refuse_circles(parameters: TrainParameters) -> None:
    seen, recipe = [], parameters.teacher
    while recipe:
        if recipe in seen:
            raise WorkbookError(f"teacher: {' is taught by '.join([*seen, recipe])}: a recipe cannot teach itself")
        seen.append(recipe)
        recipe = read_recipe(recipe).get("teacher", "")


def read_recipe(name: str) -> dict[str, Any]:
    """Reads the parameters of a single run.

    Args:
        name: The name of a file in params/runs without ".yaml", or the path of a .yaml file.

    Raises:
        WorkbookError: If there is no such file, or it is no mapping.
    """
    path = Path(name).expanduser() if name.endswith((".yaml", ".yml")) else RECIPES / f"{name}.yaml"
    if not path.is_file() and path.parent == RECIPES:
        names = tuple(sorted(known.stem for known in RECIPES.glob("*.yaml")))
        raise WorkbookError(f"no recipe {name!r} in {RECIPES}: {nearest(name, names)}")
    values = read_yaml(path, "a recipe")
    if not isinstance(values, dict):
        raise WorkbookError(f"{path}: a recipe is a mapping of parameters, such as alpha: 0.5")
    return values


def read_yaml(path: Path, what: str) -> Any:  # noqa: ANN401
    """Reads a YAML file.

    Args:
        path: The file.
        what: What it should hold, for the error, such as "a recipe".

    Raises:
        WorkbookError: If it cannot be read or is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise WorkbookError(f"cannot read {path} ({error.strerror}): give the path of {what}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WorkbookError(f"{path} is no YAML file ({' '.join(str(error).split())})") from error


def _determines_result(parameters: Parameters, spec: Field) -> bool:
    neutral = spec.metadata["neutral"]
    return spec.metadata["determines_result"] and (neutral is None or getattr(parameters, spec.name) != neutral)


@dataclass(frozen=True)
class ConvertParameters(Parameters):
    """Parameters of `convert.ipynb`."""

    run_id: str = parameter("", "empty for the newest finished run")
    variant: str = parameter("int8_per_channel", "int8_per_channel or int8_per_tensor", choices=INT8_VARIANTS)
    calibration_images: int = parameter(500, "training images that calibrate the ranges", low=1)
    equalize: bool = parameter(True, "scale channels to weights of like size, where ReLU6 allows it")
    bias_correction: bool = parameter(True, "take the mean rounding error of each channel out of its bias")
    qat_epochs: int = parameter(3, "epochs of quantization-aware fine-tuning, 0 for none", low=0)
    qat_learning_rate: float = parameter(0.0001, "its learning rate at the start", low=0.0, high=1.0)
    calibration_draws: int = parameter(3, "draws for accuracy against number of images, 0 to skip it", low=0)
    results_dir: str = parameter("", "empty for the project's own results folder")

    @property
    def recipe(self) -> dict[str, Any]:
        """The parameters that determine how the int8 model is made, by name: recorded with it."""
        names = ("calibration_images", "equalize", "bias_correction", "qat_epochs", "qat_learning_rate")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class EvaluateParameters(Parameters):
    """Parameters of `evaluate.ipynb`."""

    run_id: str = parameter("", "empty for the newest finished run")
    batch_size: int = parameter(64, "images scored at a time", low=1)
    sensitivity_images: int = parameter(1000, "test images that are also prepared wrongly, 0 for none", low=0)
    results_dir: str = parameter("", "empty for the project's own results folder")


@dataclass(frozen=True)
class DeployParameters(Parameters):
    """Parameters of `deploy.ipynb`, and the options of `mb deploy`."""

    run_id: str = parameter("", "empty for the newest finished run")
    variant: str = parameter("int8_per_channel", "int8_per_channel or int8_per_tensor", choices=INT8_VARIANTS)
    out: str = parameter("", "output folder, empty for a folder in that of the run")
    layers_in_step: int = parameter(0, "first layers that run row by row together, for less RAM, 0 for none", low=0)
    vectors: int = parameter(8, "test images with expected scores, 1 to 100", low=1, high=100)
    ram_kib: float = parameter(0.0, "RAM of the target for the arena in KiB, 0 for no limit", low=0.0)
    results_dir: str = parameter("", "empty for the project's own results folder")

    @property
    def choices(self) -> dict[str, int]:
        """What determines the C code of a model."""
        return {"layers_in_step": self.layers_in_step, "vectors": self.vectors}


@dataclass(frozen=True)
class Budget(Parameters):
    """What a model may cost on the device: 0 for no limit."""

    ram_kib: float = parameter(0.0, "most total RAM in KiB, 0 for no limit", low=0.0)
    flash_kib: float = parameter(0.0, "most total flash in KiB, 0 for no limit", low=0.0)
    latency_ms: float = parameter(0.0, "longest inference on STM32H747 in ms, 0 for no limit", low=0.0)

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, by column of `results.csv`, in its units: bytes and milliseconds."""
        limits = {
            "total_ram_bytes": self.ram_kib * 1024,
            "total_flash_bytes": self.flash_kib * 1024,
            "latency_ms_stm32h747": self.latency_ms,
        }
        return {column: limit for column, limit in limits.items() if limit}


@dataclass(frozen=True)
class FootprintParameters(Budget):
    """Parameters of `footprint.ipynb`: the budget, here with an example, and the classes of the untrained models."""

    ram_kib: float = parameter(256.0, "most total RAM in KiB, 0 for no limit", low=0.0)
    flash_kib: float = parameter(1024.0, "most total flash in KiB, 0 for no limit", low=0.0)
    n_classes: int = parameter(5, "classes of the classifier, 2 to 10000", low=2, high=10000)


@dataclass(frozen=True)
class CompareParameters(Budget):
    """Parameters of `compare.ipynb`: the results folder, and the budget that the answer must fit."""

    results_dir: str = parameter("", "empty for the project's own results folder")


@dataclass(frozen=True)
class ModelParameters(Parameters):
    """What fixes ops, shapes and weights of an untrained model, and so its cost: the options of `mb footprint`."""

    alpha: float = parameter(0.25, "width multiplier, 0.1 to 2", low=0.1, high=2.0)
    image_size: int = parameter(96, "height and width in pixels, 32 to 512", low=32, high=512)
    color_mode: str = parameter("rgb", "rgb or gray", choices=COLOR_MODES)
    n_classes: int = parameter(5, "classes of the classifier, 2 to 10000", low=2, high=10000)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one image: (height, width, channels)."""
        return self.image_size, self.image_size, 3 if self.color_mode == "rgb" else 1


def resolve_results_dir(results_dir: str) -> Path:
    """Returns the results folder: relative paths count from the working directory, empty means the project's own."""
    return Path(results_dir).expanduser().resolve() if results_dir else PROJECT / "results"


def cache_dir() -> Path:
    """Returns the folder for what can be made again: the one that `MB_CACHE_DIR` names, or `~/.cache/mbutils`."""
    return Path(os.environ.get("MB_CACHE_DIR") or Path.home() / ".cache" / "mbutils").expanduser()
