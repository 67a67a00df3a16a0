"""How long a sweep will take: a rough rule from the sizes, corrected by what stages like these took here."""

from pathlib import Path
from statistics import median

from mbutils.config import MOBILENET, TrainParameters
from mbutils.sweep import records
from mbutils.sweep.configurations import Configuration
from mbutils.sweep.plan import RENDER, RUNG, Stage

# A training step of MobileNet v1 is bound by memory, and its activations go with alpha times the area of the image:
# 922, 194 and 83 images/s were measured on 2 cores for (0.25, 96 px), (0.25, 224 px) and (0.5, 224 px).
_SECONDS_A_UNIT = 0.9e-6  # with one thread, for one image, alpha 1, and an image of one pixel
_START_SECONDS = {
    "prepare": 20,
    RUNG: 10,
    "train": 12,
    "convert": 25,
    "deploy": 25,
    "evaluate": 12,
    "compare": 30,
    "search": 30,
    RENDER: 2,
}
_SCORING = 1 / 3  # of a training step
_ROUNDED = 2  # times a training step, with the rounding in it
_ALPHA_OF_OTHERS = 2.0  # a network that only teaches takes as long as a MobileNet v1 of about this width


def seconds(stage: Stage) -> float:
    """Returns the seconds of a stage by the rule alone, with one thread."""
    return _START_SECONDS[stage.notebook] + _SECONDS_A_UNIT * _units(stage)


def _units(stage: Stage) -> float:
    if stage.notebook not in ("train", RUNG, "convert") or stage.configuration is None:
        return 0.0
    trained = stage.configuration.parameters("train")
    if stage.notebook == "convert":
        epochs = stage.configuration.parameters("convert").qat_epochs
        return _ROUNDED * epochs * stage.configuration.n_train * trained.alpha * trained.image_size**2
    return _training_units(stage.configuration, stage.start, stage.parameters.get("stop", trained.epochs))


def _training_units(configuration: Configuration, start: int, stop: int) -> float:
    """Returns the units of a training from one epoch up to another."""
    trained = configuration.parameters("train")
    early = max(0, min(trained.early_epochs, stop) - start)
    units = _alpha(trained) * (early * trained.early_image_size**2 + (stop - start - early) * trained.image_size**2)
    if start == 0 and (teacher := configuration.teacher):
        taught_by = teacher.parameters("train")
        units += (trained.teacher_views + trained.late_views) * _SCORING * _alpha(taught_by) * taught_by.image_size**2
    return configuration.n_train * units


def _alpha(trained: TrainParameters) -> float:
    return trained.alpha if trained.network == MOBILENET else _ALPHA_OF_OTHERS


def total(stages: list[Stage], workers: int, factors: list[float]) -> float:
    """Returns the seconds that stages will take.

    Args:
        stages: The stages, each after those that it needs.
        workers: How many there are.
        factors: What `measured_factors` returned; their median corrects the rule.
    """
    factor = median(factors) if factors else 1.0
    ends: dict[str, float] = {}
    for stage in stages:
        ends[stage.key] = max((ends.get(key, 0.0) for key in stage.after), default=0.0) + seconds(stage)
    # Neither the work shared by the workers nor the longest chain of stages that need each other can be undercut.
    return factor * max(sum(map(seconds, stages)) / workers, max(ends.values(), default=0.0))


def measured_factors(stages: list[Stage], results_dir: Path) -> list[float]:
    """Returns the ratios of measured seconds to those of the rule, of the stages that are finished."""
    known = ((stage, records.read(results_dir, stage.key)) for stage in stages if stage.notebook != RENDER)
    return [
        record.seconds / seconds(stage)
        for stage, record in known
        if record and record.status == "finished" and record.seconds
    ]
