"""The linear probe: logistic regression on the pooled features of a network that is not trained further.

It is what a user would try first. Training pays where it gets above the probe. A training that begins with the probe as
classifier keeps the features of the start weights better than one that begins with a random classifier: Kumar et al.
2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", arXiv:2202.10054.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mbutils.backend import keras, tf
from mbutils.config import normalize
from mbutils.data.dataset import Dataset
from mbutils.model import networks
from mbutils.progress import progress

# The most images that it learns from, and is validated with: for large data it then takes seconds as well.
MOST_IMAGES = 3000
_INVERSE_REGULARIZATION = 0.1  # the best of 0.001 to 10 on average over 8 folders of 24 to 500 images
_MOST_ITERATIONS = 1000


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear classifier of pooled features.

    Attributes:
        kernel: float32, shape (n_features, n_classes).
        bias: float32, shape (n_classes,).
        n_train: The images that it learned from.
        top1: The fraction of them that it classifies correctly.
        validation_top1: The same of the validation images, of at most `MOST_IMAGES`.
    """

    kernel: np.ndarray
    bias: np.ndarray
    n_train: int
    top1: float
    validation_top1: float


def linear_probe(network: keras.Model, images: np.ndarray, dataset: Dataset) -> LinearProbe:
    """Learns a linear probe on training images, equally many of each class where there are more than `MOST_IMAGES`.

    Args:
        network: A model made by `training.build_model`, with start weights; it is not changed.
        images: The cached images of the whole dataset: uint8, shape (n, height, width, channels).
        dataset: The parts and labels; the test part is not used.
    """
    chosen = {part: _at_most(dataset, part) for part in ("train", "validation")}
    features = {part: _features(network, images, positions) for part, positions in chosen.items()}
    labels = {part: dataset.labels[positions] for part, positions in chosen.items()}
    kernel, bias = _regression(features["train"], labels["train"])
    top1 = {part: float(((features[part] @ kernel + bias).argmax(axis=1) == labels[part]).mean()) for part in chosen}
    return LinearProbe(kernel, bias, len(chosen["train"]), top1["train"], top1["validation"])


def _at_most(dataset: Dataset, part: str) -> np.ndarray:
    """Returns the positions of the images of a part; of the first ones of each class, where there are too many."""
    positions = dataset.positions(part)
    if len(positions) <= MOST_IMAGES:
        return positions
    labels = dataset.examples["label"].iloc[positions]
    of_its_class = labels.groupby(labels).cumcount().to_numpy()
    return positions[of_its_class < max(1, MOST_IMAGES // dataset.n_classes)]


def _features(network: keras.Model, images: np.ndarray, positions: np.ndarray, batch_size: int = 64) -> np.ndarray:
    """Returns the pooled features of images: float32, shape (len(positions), n_features)."""
    pooled = keras.Model(network.input, networks.pooled(network))
    compute = tf.function(lambda batch: pooled(batch, training=False), reduce_retracing=True)
    batches = []
    with progress(len(positions), "linear probe", "image") as bar:
        for start in range(0, len(positions), batch_size):
            batches.append(compute(normalize(images[positions[start : start + batch_size]])).numpy())
            bar.update(len(batches[-1]))
    return np.concatenate(batches)


def _regression(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel and bias of a softmax classifier: multinomial logistic regression with an L2 penalty."""
    found = _logistic_regression().fit(features, labels)
    kernel, bias = found.coef_.T, found.intercept_
    if len(found.classes_) == 2:  # scikit-learn has one logit for two classes: half of it for one, against the other
        kernel, bias = np.hstack([-kernel / 2, kernel / 2]), np.concatenate([-bias / 2, bias / 2])
    return kernel.astype(np.float32), bias.astype(np.float32)


def _logistic_regression() -> Any:  # noqa: ANN401
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=_INVERSE_REGULARIZATION, max_iter=_MOST_ITERATIONS)


def held_out_scores(network: keras.Model, images: np.ndarray, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Scores training images by linear probes that did not learn from them: five-fold cross-validation.

    A wrong label shows here; a network that is trained on few images learns it by heart. Arguments: see `linear_probe`.

    Returns:
        The positions of the images, of classes that have at least two, int64, shape (n,); and their scores, shape
        (n, n_classes).
    """
    from sklearn.model_selection import cross_val_predict

    positions = _at_most(dataset, "train")
    labels = dataset.labels[positions]
    counts = np.bincount(labels, minlength=dataset.n_classes)
    kept = counts[labels] >= 2
    positions, labels = positions[kept], labels[kept]
    folds = min(5, *counts[counts >= 2])
    features = _features(network, images, positions)
    found = cross_val_predict(_logistic_regression(), features, labels, cv=folds, method="predict_proba")
    scores = np.zeros((len(positions), dataset.n_classes), np.float32)
    scores[:, np.unique(labels)] = found
    return positions, scores


def start_from_probe(network: keras.Model, images: np.ndarray, dataset: Dataset) -> None:
    """Gives the classifier of a network the weights of its linear probe, in place; arguments as of `linear_probe`."""
    probe = linear_probe(network, images, dataset)
    network.get_layer("classifier").set_weights([probe.kernel, probe.bias])
