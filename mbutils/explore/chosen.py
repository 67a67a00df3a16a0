"""One photograph and the runs that look at it."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from PIL import Image

from mbutils.config import DECODERS, Preprocessing
from mbutils.data import photographs
from mbutils.data.dataset import Dataset
from mbutils.data.decoding import decode
from mbutils.data.preprocessing import resize
from mbutils.deploy import host
from mbutils.errors import WorkbookError
from mbutils.evaluation.occlusion import occlusion_map
from mbutils.evaluation.preprocessing_mistakes import mistakes
from mbutils.explore import two_runs
from mbutils.report.pictures import Pictures
from mbutils.runs import FLOAT32, Run, classifiers, load_dataset
from mbutils.runs.classifiers import Classifier

C_CODE = "C code"
_TEST_IMAGES = 100  # of the test part, to choose from
_LONGEST = 512  # side of a photograph that is shown, in pixels


@dataclass(frozen=True, eq=False)
class Opened:
    """A finished run with all that looks at photographs: its models, and its int8 model as C code.

    Attributes:
        run: The run.
        classifier: Its models; "C code" is that of the first int8 model, and missing where there is no C compiler.
    """

    run: Run
    classifier: Classifier

    @cached_property
    def dataset(self) -> Dataset:
        """The data of the run."""
        return load_dataset(self.run)

    @cached_property
    def test_images(self) -> list[tuple[bytes, str]]:
        """At most a hundred images of the test part with their class, spread evenly over the classes."""
        positions = self.dataset.spread("test", _TEST_IMAGES)
        names = [self.dataset.class_names[label] for label in self.dataset.labels[positions]]
        return list(zip(self.dataset.encoded(positions), names, strict=True))

    def answer(self, photo: bytes) -> str:
        """Returns the class that the first int8 model predicts, with its score; float32 where there is none."""
        scores = self.classifier.predict(photo)[self.classifier.main_model]
        return f"{scores.index[0]} {scores.iloc[0]:.1%}"

    def test_image(self, number: int) -> tuple[bytes, str]:
        """Returns one of `test_images`, with a title.

        Raises:
            WorkbookError: If there is none of that number.
        """
        if number >= len(self.test_images):
            raise WorkbookError(f"test_image: {number} is too large: the maximum is {len(self.test_images) - 1}")
        photo, name = self.test_images[number]
        return photo, f"test image {number}: {name}"


def opened(run: Run) -> Opened:
    """Returns a run with its models."""
    classifier = classifiers.of_run(run)
    variant = classifier.main_model
    if variant != FLOAT32 and host.has_compiler():
        network = host.HostNetwork(run.artefact(f"{variant}.tflite").read_bytes())
        classifier = replace(classifier, models={**classifier.models, C_CODE: network.predict_on_batch})
    return Opened(run, classifier)


@dataclass(frozen=True, eq=False)
class Chosen:
    """One photograph and the run that looks at it.

    Attributes:
        opened: The run.
        photo: The bytes of the photograph.
        title: What to call it.
        image: What the model sees: uint8, shape (image_size, image_size, channels).
        other: A second run to compare with.
    """

    opened: Opened
    photo: bytes
    title: str
    image: np.ndarray
    other: Opened | None = None

    @cached_property
    def photograph(self) -> np.ndarray:
        """The photograph, upright and no larger than needed to look at it: uint8, shape (height, width, 3)."""
        picture = Image.fromarray(decode(self.photo))
        picture.thumbnail((_LONGEST, _LONGEST))
        return np.asarray(picture)

    @property
    def contract(self) -> Preprocessing:
        """How the photograph is prepared."""
        return self.opened.classifier.contract

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The scores of all models, see `Classifier.predict`."""
        return self.opened.classifier.predict(self.photo)

    @cached_property
    def answer(self) -> str:
        """The class that the first int8 model predicts; float32 where there is none."""
        return self.scores.index[0]

    @property
    def models_left_out(self) -> str:
        """Says which models `scores` lacks, and why; empty where it lacks none."""
        models = self.opened.classifier.models
        if C_CODE in models:
            return ""
        if self.opened.classifier.main_model == FLOAT32:
            return "The run has no int8 model: run the convert notebook."
        return "C code is left out: no C compiler, `cc`, is installed."

    @property
    def answers(self) -> dict[str, str]:
        """The class that each run predicts, with its score, by run id."""
        return {one.run.run_id: one.answer(self.photo) for one in (self.opened, self.other) if one}

    def occlusion(self) -> np.ndarray:
        """Returns how far the score of the answer falls where a patch covers the image, see `occlusion_map`."""
        classifier = self.opened.classifier
        label = classifier.class_names.index(self.answer)
        return occlusion_map(classifier.models[classifier.main_model], self.image, label)

    def prepared_otherwise(self) -> tuple[list[np.ndarray], list[str]]:
        """Returns the image prepared in other ways, each with a title: what differs, the answer and its score."""
        images = _otherwise(self.photo, self.contract)
        classifier = self.opened.classifier
        scores = classifier.models[classifier.main_model](np.ascontiguousarray(list(images.values())))
        answers = [f"{classifier.class_names[row.argmax()]} {row.max():.0%}" for row in scores]
        return list(images.values()), [f"{name}:\n{answer}" for name, answer in zip(images, answers, strict=True)]

    def only_one_right(self, count: int) -> tuple[list[str], list[Pictures]]:
        """Returns the test images that only one of the two runs gets right, see `two_runs.only_one_right`.

        Raises:
            WorkbookError: If no second run is chosen, or the runs cannot be compared.
        """
        if self.other is None:
            raise WorkbookError("no second run is chosen: choose one above, or set other_run_id")
        return two_runs.only_one_right(self.opened.run, self.other.run, self.opened.dataset, count)


def choose(run: Opened, photo: bytes, title: str, other: Opened | None = None) -> Chosen:
    """Returns a photograph with the runs that look at it.

    Raises:
        WorkbookError: If it is no image, a damaged one, or one that is too large.
    """
    try:
        image = photographs.prepared(photo, run.classifier.contract)
    except WorkbookError as error:
        raise WorkbookError(f"{title}: {error}") from None
    return Chosen(run, photo, title, image, other)


def _otherwise(photo: bytes, contract: Preprocessing) -> dict[str, np.ndarray]:
    decoded = {decoder: decode(photo, contract.color_mode, decoder) for decoder in DECODERS}
    right = decoded[contract.decoder]
    images = {
        name: mistake(resize(decoded[used.decoder], used))
        for name, (used, mistake) in mistakes(contract).items()
        if used.decoder == contract.decoder or not np.array_equal(decoded[used.decoder], right)  # as all are but JPEG
    }
    small = resize(right, replace(contract, image_size=contract.image_size // 2))
    images["half the resolution first"] = resize(small, contract)
    if contract.color_mode == "rgb":
        gray = resize(decode(photo, "gray", contract.decoder), replace(contract, color_mode="gray"))
        images["gray instead of rgb"] = np.repeat(gray, 3, axis=2)
    return images
