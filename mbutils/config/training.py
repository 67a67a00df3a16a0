"""Parameters of a training: the data, the preprocessing contract, the augmentation, the model, the optimization."""

import re
from dataclasses import dataclass, fields
from pathlib import Path

from mbutils.config.base import Parameters, parameter
from mbutils.config.networks import MOBILENET
from mbutils.config.preprocessing import COLOR_MODES, DECODERS, FITS, INTERPOLATIONS, Preprocessing
from mbutils.errors import WorkbookError

CLASS_WEIGHTS = ("none", "balanced")
IMAGENET = "imagenet"  # the weights of Keras
IMAGENET_ALPHAS = (0.25, 0.5, 0.75, 1.0)
BATCH_NORM_STATISTICS = ("batch", "frozen")
INITIAL_CLASSIFIERS = ("random", "probe")
FOLDER = "folder"  # the dataset that is the user's own
# PlantVillage with a class of background, 39 classes, from Mendeley Data (doi:10.17632/tywbtsjrjv): the published
# figures are on it. tensorflow-datasets' `plant_village` lacks that class: other data, and never compared.
PLANT_VILLAGE_39 = "plant_village_39"


@dataclass(frozen=True)
class DataParameters(Parameters):
    """Which images, and how they are split into parts. The run id includes a fingerprint of the outcome."""

    dataset: str = parameter(
        "tf_flowers", "tf_flowers, plant_village, food101, digits, or folder for your own", group="data"
    )
    data_dir: str = parameter("", "for folder, a folder with one folder of images per class", determines_result=False)
    validation_fraction: float = parameter(0.1, "part of the training images kept for validation", low=0.01, high=0.5)
    test_fraction: float = parameter(
        0.2, "part kept for the test, where the data has none", low=0.01, high=0.5, determines_result=False
    )
    split_seed: int = parameter(0, "draws another test part, where the data has none", low=0, determines_result=False)
    skip_corrupt: bool = parameter(False, "leave unreadable images out, and list them", determines_result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dataset == FOLDER and not self.data_dir:
            raise WorkbookError("dataset folder needs data_dir: a folder that holds one folder of images per class")
        if self.data_dir and self.dataset != FOLDER:
            raise WorkbookError(
                f"data_dir is for dataset folder, not for {self.dataset}: set dataset to folder as well"
            )
        if self.data_dir:  # found again from any working directory
            object.__setattr__(self, "data_dir", str(Path(self.data_dir).expanduser().absolute()))

    @property
    def data(self) -> "DataParameters":
        """Those of the parameters that are about the data."""
        return DataParameters(**{spec.name: getattr(self, spec.name) for spec in fields(DataParameters)})

    @property
    def data_name(self) -> str:
        """The name of the data in run ids and tables: the dataset, or "folder_" and the name of the folder."""
        if self.dataset != FOLDER:
            return self.dataset
        return "folder_" + re.sub(r"[^\w.-]+", "-", Path(self.data_dir).name)[:40]


@dataclass(frozen=True)
class PrepareParameters(DataParameters):
    """Parameters of `prepare.ipynb`: the data, the preprocessing contract, the augmentation."""

    image_size: int = parameter(
        96, "height and width in pixels, 32 to 512", low=32, high=512, group="preprocessing, on the device as well"
    )
    color_mode: str = parameter("rgb", "rgb or gray", choices=COLOR_MODES)
    interpolation: str = parameter("area", "area, bilinear, bilinear_antialias or nearest", choices=INTERPOLATIONS)
    fit: str = parameter(
        "stretch", "how an image becomes a square: stretch, crop or pad", choices=FITS, neutral="stretch"
    )
    decoder: str = parameter("pillow", "whose JPEG decoder: pillow or tensorflow", choices=DECODERS, neutral="pillow")
    min_crop_area: float = parameter(
        0.4, "smallest random crop, fraction of the image area", low=0.05, high=1.0, group="augmentation"
    )
    horizontal_flip: bool = parameter(None, "mirror half of the training images, None to suit the data")
    vertical_flip: bool = parameter(False, "mirror half of the training images top to bottom", neutral=False)
    rotation: float = parameter(0.0, "largest random rotation in degrees", low=0.0, high=180.0, neutral=0.0)
    translation: float = parameter(
        0.0, "largest random shift, also beyond the edges, fraction of the side", low=0.0, high=0.5, neutral=0.0
    )
    zoom_out: float = parameter(
        0.0, "largest random zoom out, 0.5 shows 1.5 times the side; crops zoom in", low=0.0, high=1.0, neutral=0.0
    )
    shear: float = parameter(0.0, "largest random shear, fraction of the side", low=0.0, high=0.5, neutral=0.0)
    blur: float = parameter(
        0.0, "largest random blur, standard deviation as fraction of the side", low=0.0, high=0.1, neutral=0.0
    )
    noise: float = parameter(
        0.0, "largest random noise, standard deviation as fraction of 255", low=0.0, high=0.5, neutral=0.0
    )
    color_jitter: float = parameter(0.2, "random change of brightness and contrast, 0 for none", low=0.0, high=1.0)
    mixup: float = parameter(0.0, "MixUp of pairs of images, parameter of its beta distribution, 0 for none", low=0.0)
    seed: int = parameter(0, "seed of every random choice", low=0, high=2**32 - 1)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing contract of these parameters."""
        return Preprocessing(self.image_size, self.color_mode, self.interpolation, self.fit, self.decoder)


@dataclass(frozen=True)
class TrainParameters(PrepareParameters):
    """Parameters of `train.ipynb`: those of `prepare.ipynb`, the model and the optimization."""

    network: str = parameter(
        MOBILENET,
        "mobilenet_v1; a teacher: efficientnet_lite0, one of keras.applications, a .keras file",
        neutral=MOBILENET,
        group="model",
    )
    alpha: float = parameter(0.25, "width multiplier, 0.1 to 2", low=0.1, high=2.0)
    weights: str = parameter(IMAGENET, "imagenet, none, or the path of a .keras or .weights.h5 file")
    dropout: float = parameter(None, "dropout before the classifier, None to suit the data", low=0.0, high=0.9)
    batch_norm_momentum: float = parameter(
        None, "share of the statistics kept at each step, None to suit the data", low=0.0, high=0.9999
    )
    batch_norm_statistics: str = parameter(
        None,
        "batch, or frozen at those of the start weights, None to suit the data",
        choices=BATCH_NORM_STATISTICS,
        neutral="batch",
    )
    initial_classifier: str = parameter(
        None,
        "random, or probe for the linear probe, None to suit the data",
        choices=INITIAL_CLASSIFIERS,
        neutral="random",
    )
    epochs: int = parameter(None, "passes over the training images, None to suit the data", low=1, group="optimization")
    batch_size: int = parameter(None, "images per training step, None to suit the data", low=1)
    learning_rate: float = parameter(None, "peak of the cosine schedule, None to suit the data", low=1e-6, high=10.0)
    warmup_epochs: float = parameter(None, "epochs of linear warm-up, None to suit the data", low=0.0)
    weight_decay: float = parameter(0.01, "decoupled weight decay of AdamW", low=0.0, high=1.0)
    label_smoothing: float = parameter(0.1, "label smoothing of the cross-entropy", low=0.0, high=0.9)
    class_weight: str = parameter(
        "none", "none, or balanced to make rare classes count as much", choices=CLASS_WEIGHTS, neutral="none"
    )
    early_epochs: int = parameter(0, "first epochs, on images of another size", low=0)
    early_image_size: int = parameter(
        160, "height and width in those epochs, in pixels", low=32, high=512, only_with="early_epochs"
    )
    late_epochs: int = parameter(0, "last epochs, on whole images instead of crops", low=0, neutral=0)
    teacher: str = parameter(
        "", "what teaches this model: a recipe, a run folder, or a network as above; empty for none", group="teacher"
    )
    teacher_weight: float = parameter(
        1.0, "share of the teacher's scores in the targets", low=0.0, high=1.0, only_with="teacher"
    )
    teacher_features: float = parameter(
        2.0, "weight of the teacher's features in the loss, 0 for none", low=0.0, only_with="teacher", neutral=0.0
    )
    teacher_views: int = parameter(
        16, "augmented views of each image that the teacher scores", low=1, only_with="teacher"
    )
    recipe: str = parameter(
        "",
        "recipe in params/runs whose values stand in for the defaults, empty for none",
        group="recipe and results",
        determines_result=False,
    )
    results_dir: str = parameter("", "empty for the project's own results folder", determines_result=False)
    tensorboard: str = parameter("", "folder for TensorBoard logs, empty for none", determines_result=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network != MOBILENET and self.color_mode != "rgb":
            raise WorkbookError(f"network {self.network} takes colour images: set color_mode rgb")
        if self.network == MOBILENET and self.weights == IMAGENET and self.alpha not in IMAGENET_ALPHAS:
            allowed = ", ".join(map(str, IMAGENET_ALPHAS))
            raise WorkbookError(f"no ImageNet weights for alpha {self.alpha:g}: choose {allowed}, or weights none")
        for name, value in (("batch_norm_statistics", "frozen"), ("initial_classifier", "probe")):
            if self.weights == "none" and getattr(self, name) == value:
                raise WorkbookError(f"{name} {value} needs start weights: choose weights other than none")
        for name in ("warmup_epochs", "early_epochs", "late_epochs"):
            value = getattr(self, name)
            if None not in (value, self.epochs) and value > self.epochs:
                raise WorkbookError(f"{name}: {value:g} of {self.epochs} epochs: lower {name}, or raise epochs")

    @property
    def late_views(self) -> int:
        """The views of whole images that the teacher scores after its `teacher_views`."""
        return min(self.late_epochs, self.teacher_views)
