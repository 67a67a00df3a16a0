"""Datasets of tensorflow-datasets, through their real builders, on small data prepared in a temporary TFDS_DATA_DIR."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.download import download_manager

from mbutils.config import DataParameters, Preprocessing, TrainParameters, read_recipe, suited
from mbutils.data import datasets, preprocessing
from mbutils.data.photographs import prepared
from mbutils.errors import WorkbookError
from mbutils.model import training
from mbutils.runs import teachers

PER_CLASS = 5


@pytest.fixture(autouse=True)
def data_dir(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("tfds")
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    monkeypatch.setenv("MB_CACHE_DIR", str(folder / "cache"))
    return folder


def extracted(monkeypatch, folder):
    """Replaces the download by a folder; the builders generate their examples from it as usual."""
    monkeypatch.setattr(download_manager.DownloadManager, "download_and_extract", lambda self, url: str(folder))


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture
def leaves(tmp_path, monkeypatch):
    names = tfds.builder("plant_village", data_dir=str(tmp_path / "none")).info.features["label"].names
    for label, name in enumerate(names):
        for image in range(PER_CLASS):
            folder = tmp_path / "Plant_leave_diseases_dataset_without_augmentation" / name
            picture(folder / f"{image}.jpg", 100 * label + image)
    extracted(monkeypatch, tmp_path)


@pytest.fixture
def food(tmp_path, monkeypatch):
    names = tfds.builder("food101:2.0.0", data_dir=str(tmp_path / "none")).info.features["label"].names
    listed = {"train": {}, "test": {}}
    for label, name in enumerate(names):
        for image in range(3):
            picture(tmp_path / "food-101" / "images" / name / f"{image}.jpg", 100 * label + image)
            listed["test" if image == 2 else "train"].setdefault(name, []).append(f"{name}/{image}")
    # A copy, in train, of an image of the test part.
    picture(tmp_path / "food-101" / "images" / names[0] / "copy.jpg", 2)
    listed["train"][names[0]].append(f"{names[0]}/copy")
    (tmp_path / "food-101" / "meta").mkdir()
    for part, images in listed.items():
        (tmp_path / "food-101" / "meta" / f"{part}.json").write_text(json.dumps(images))
    extracted(monkeypatch, tmp_path)


def test_plant_village_has_38_classes_and_every_class_in_every_part(leaves):
    dataset = datasets.load(DataParameters(dataset="plant_village"))
    assert dataset.n_classes == 38 and len(dataset.examples) == 38 * PER_CLASS
    counts = dataset.counts().drop(index="total")
    assert (counts["test"] == 1).all() and (counts["validation"] == 1).all() and (counts["train"] == 3).all()
    images = preprocessing.cached_images(dataset, Preprocessing(32, "rgb", "area"))
    some = np.array([150, 3])
    for position, data in zip(some, dataset.encoded(some), strict=True):
        assert np.array_equal(images[position], prepared(data, Preprocessing(32, "rgb", "area")))


def test_split_of_plant_village_depends_on_the_seed_alone(leaves):
    first, again, other = (
        datasets.load(DataParameters(dataset="plant_village", split_seed=seed)).fingerprint for seed in (0, 0, 1)
    )
    assert first == again != other


def test_food101_keeps_its_official_test_part_and_loses_copies_of_it_in_train(food):
    dataset = datasets.load(DataParameters(dataset="food101"))
    total = dataset.counts().loc["total"]
    assert dataset.n_classes == 101 and total["test"] == 101 and total["excluded"] == 1
    assert total["train"] + total["validation"] == 202 and total["validation"] > 5
    labels = dataset.labels[dataset.positions("test")]
    assert sorted(labels) == list(range(101))


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "fixture"), [("plant_village", "leaves"), ("food101", "food")])
def test_recipe_trains_on_data_of_its_classes_by_a_teacher(recipe, fixture, request, tmp_path):
    request.getfixturevalue(fixture)
    teacher = tmp_path / "teacher.yaml"
    network = "{recipe: teacher, network: efficientnet_lite0, image_size: 32, epochs: 1, initial_classifier: random}"
    teacher.write_text(network)
    short = {"epochs": 3, "early_epochs": 1, "late_epochs": 1, "teacher_views": 2, "alpha": 0.25, "weights": "none"}
    asked = TrainParameters.from_dict(read_recipe(recipe) | short | {"image_size": 48, "teacher": str(teacher)})
    dataset = datasets.load(asked)
    parameters = suited(asked, dataset.n_train)
    lesson = teachers.teacher_lesson(parameters, dataset, tmp_path / "results")
    assert lesson.scores.shape == (3, dataset.n_train, dataset.n_classes)
    images = preprocessing.cached_images(dataset, parameters.preprocessing)
    history = training.fit(training.build_model(parameters, dataset), images, dataset, parameters, lesson)
    assert history["image_size"].tolist() == [160, 48, 48] and history["whole"].tolist() == [False, False, True]


def test_images_are_read_once(food, monkeypatch):
    first = datasets.load(DataParameters(dataset="food101"))
    monkeypatch.setattr(datasets.tfds.index, "of_images", lambda *_: pytest.fail("read again"))
    assert datasets.load(DataParameters(dataset="food101")).fingerprint == first.fingerprint


@pytest.mark.parametrize("name", ["plant_village", "food101", "tf_flowers"])
def test_missing_network_is_named_with_the_way_out_and_leaves_nothing(name, monkeypatch, data_dir):
    def offline(self, url):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(download_manager.DownloadManager, "download_and_extract", offline)
    with pytest.raises(WorkbookError) as caught:
        datasets.load(DataParameters(dataset=name))
    message = str(caught.value)
    assert message.startswith(f"{name} is neither prepared in {data_dir} nor downloadable (ConnectionError)")
    assert "set TFDS_DATA_DIR" in message and "\n" not in message
    assert not (data_dir / "cache").exists()
