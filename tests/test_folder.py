"""The user's own images: small real files in temporary folders, good ones and every kind of bad one."""

import contextlib
import io
import os
import shutil
import socket

import numpy as np
import pandas as pd
import pytest
from pictures import png
from PIL import Image

from mbutils.config import PLANT_VILLAGE_39, PROJECT, DataParameters, Preprocessing
from mbutils.data import datasets, folder, preprocessing
from mbutils.data.decoding import decode
from mbutils.data.photographs import prepared
from mbutils.errors import WorkbookError

CLASSES = ("daisy", "rose")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MB_CACHE_DIR", str(tmp_path / "cache"))


def picture(number, size=12):
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (size, size + 3, 3), np.uint8))


def write(path, number, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(number).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path):
    """Two classes of 20 images each, in every format that is read."""
    kinds = ("jpg", "PNG", "bmp", "webp", "JPEG")
    for label, name in enumerate(CLASSES):
        for number in range(20):
            write(tmp_path / "data" / name / f"{number:02}.{kinds[number % 5]}", 100 * label + number)
    return tmp_path / "data"


def load(root, **parameters):
    return datasets.load(DataParameters(dataset="folder", data_dir=str(root), **parameters))


def refused(root, **parameters):
    with pytest.raises(WorkbookError) as caught:
        load(root, **parameters)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def part_of_identity(dataset):
    return dict(zip(dataset.examples["identity"], dataset.examples["part"], strict=True))


def test_classes_are_the_folders_and_every_class_is_in_every_part_in_proportion(root):
    (root / "rose" / "notes.txt").write_text("not an image: passed over")
    (root / ".hidden").mkdir()
    (root / "rose" / ".DS_Store").write_bytes(b"x")
    dataset = load(root)
    assert dataset.class_names == CLASSES and dataset.name == "folder_data"
    counts = dataset.counts().loc[list(CLASSES)]
    assert counts["test"].tolist() == [4, 4] and counts["validation"].tolist() == [2, 2]
    assert counts["train"].tolist() == [14, 14] and counts["excluded"].tolist() == [0, 0]


def test_images_come_in_the_order_of_the_examples_however_they_are_read(root):
    dataset = load(root)
    streamed, chosen = list(dataset.read()), np.array([7, 3, 30])
    assert dataset.encoded(chosen) == [streamed[position] for position in chosen]
    assert streamed[0] == (root / "daisy" / "00.jpg").read_bytes()
    images = preprocessing.cached_images(dataset, Preprocessing(32, "rgb", "area"))
    assert np.array_equal(images[30], prepared(streamed[30], Preprocessing(32, "rgb", "area")))
    assert dataset.image_sizes().drop_duplicates().to_numpy().tolist() == [[15, 12]]


def test_images_to_look_at_are_as_they_are_and_large_ones_smaller(root):
    picture(1, 1021).save(root / "daisy" / "00.jpg")
    small, large = preprocessing.originals(load(root), np.array([21, 0]))
    assert np.array_equal(small, decode((root / "rose" / "01.PNG").read_bytes()))
    assert large.shape == (510, 512, 3)


def test_split_depends_on_the_seed_and_not_on_where_the_folder_is(root, tmp_path):
    first = load(root)
    shutil.copytree(root, tmp_path / "moved")
    moved = load(tmp_path / "moved")
    assert moved.fingerprint == first.fingerprint
    other = load(root, split_seed=1)
    assert part_of_identity(other) != part_of_identity(first)
    assert other.counts()["test"].tolist() == first.counts()["test"].tolist()


@pytest.mark.parametrize("spelling", [("train", "val", "test"), ("Train", "validation", "Test")])
def test_folders_of_parts_are_respected(tmp_path, spelling):
    for number, part in enumerate(spelling):
        for label, name in enumerate(CLASSES):
            for image in range(3):
                write(tmp_path / "parts" / part / name / f"{image}.png", 100 * number + 10 * label + image)
    dataset = load(tmp_path / "parts")
    assert dataset.class_names == CLASSES
    for number, part in enumerate(("train", "validation", "test")):
        numbers = [100 * number + 10 * label + image for label in (0, 1) for image in range(3)]
        expected = {hash(picture(number).tobytes()) for number in numbers}
        seen = {hash(Image.open(io.BytesIO(data)).tobytes()) for data in dataset.encoded(dataset.positions(part))}
        assert seen == expected


@pytest.mark.parametrize(
    ("folders", "counts"),
    [
        (["train", "test"], {"train": 18, "validation": 2, "test": 20}),
        (["train", "val"], {"train": 16, "validation": 20, "test": 4}),
        (["train"], {"train": 14, "validation": 2, "test": 4}),
    ],
)
def test_parts_that_are_missing_are_drawn_from_train(tmp_path, folders, counts):
    for number, part in enumerate(folders):
        for label, name in enumerate(CLASSES):
            for image in range(20):
                write(tmp_path / "parts" / part / name / f"{image}.png", 1000 * number + 100 * label + image)
    table = load(tmp_path / "parts").counts().loc["daisy"]
    assert {part: table[part] for part in counts} == counts


@pytest.mark.parametrize(
    ("folders", "part", "scored"),
    [
        (["."], "all", {"test": 2}),
        (["test"], "all", {"test": 2}),
        (["test"], "test", {"test": 2}),
        (["val", "test"], "validation", {"validation": 2, "test": 2}),
        (["train", "val", "test"], "all", {"test": 6}),
        (["train", "val", "test"], "test", {"train": 2, "validation": 2, "test": 2}),
    ],
)
def test_images_to_score_need_no_training_part(tmp_path, folders, part, scored):
    for number, name in enumerate(folders):
        for label, of_class in enumerate(CLASSES):
            write(tmp_path / "new" / name / of_class / "only.png", 10 * number + label)
    parameters = DataParameters(dataset="folder", data_dir=str(tmp_path / "new"))
    assert folder.load_to_score(parameters, part).examples["part"].value_counts().to_dict() == scored


def test_images_to_score_may_be_of_one_class_and_twice_the_same(tmp_path):
    write(tmp_path / "new" / "rose" / "a.png", 1)
    write(tmp_path / "new" / "rose" / "b.bmp", 1)
    dataset = folder.load_to_score(DataParameters(dataset="folder", data_dir=str(tmp_path / "new")), "all")
    assert dataset.class_names == ("rose",) and len(dataset.positions("test")) == 2


def test_train_among_other_folders_is_a_class(tmp_path):
    for label, name in enumerate(("bus", "train")):
        for image in range(3):
            write(tmp_path / "vehicles" / name / f"{image}.png", 10 * label + image)
    assert load(tmp_path / "vehicles").class_names == ("bus", "train")


def test_copies_by_bytes_and_by_pixels_are_found_and_leave_the_other_parts(tmp_path):
    root = tmp_path / "data"
    for part, shift in (("train", 0), ("val", 1000), ("test", 2000)):
        for label, name in enumerate(CLASSES):
            for image in range(4):
                write(root / part / name / f"{image}.png", shift + 100 * label + image)
    shutil.copy(root / "test" / "rose" / "0.png", root / "train" / "rose" / "same_bytes.png")
    write(root / "train" / "rose" / "same_pixels.bmp", 2101)
    write(root / "train" / "daisy" / "other_label.bmp", 2102)
    write(root / "train" / "rose" / "of_validation.bmp", 1100)
    dataset = load(root)
    assert len(dataset.positions("excluded")) == 4
    assert dataset.counts().loc["total", "test"] == 8
    found = dataset.duplicates()
    assert sorted(found["same"]) == ["bytes", "pixels", "pixels", "pixels"]
    assert found.loc[found["contradicting"], "classes"].tolist() == ["daisy, rose"]
    assert dataset.copies(100).size == 8 and dataset.copies(3).size == 3
    first, second = dataset.copies(2)  # those that contradict each other come first
    assert set(dataset.labels[[first, second]]) == {0, 1}


def test_copies_are_never_drawn_into_different_parts(root):
    for number in range(10):
        write(root / "daisy" / f"copy_{number:02}.bmp", number)
    dataset = load(root, test_fraction=0.5)
    parts = dataset.examples[dataset.examples["part"] != "excluded"].groupby("pixels")["part"].nunique()
    assert (parts == 1).all()
    test = dataset.examples.iloc[dataset.positions("test")]
    assert not test["pixels"].duplicated().any()


def test_images_are_read_again_only_when_they_change(root, monkeypatch):
    before = load(root)
    from mbutils.data import index

    read = []
    describe = index.describe
    monkeypatch.setattr(index, "describe", lambda image: read.append(1) or describe(image))
    assert load(root).fingerprint == before.fingerprint and read == []
    write(root / "rose" / "00.jpg", 4711)
    write(root / "rose" / "new.png", 4712)
    (root / "rose" / "01.PNG").unlink()
    after = load(root)
    assert len(read) == 2
    assert after.fingerprint != before.fingerprint and len(after.examples) == 40


def test_image_cache_is_rebuilt_when_images_change(root):
    contract = Preprocessing(32, "rgb", "area")
    before = np.array(preprocessing.cached_images(load(root), contract))
    write(root / "daisy" / "00.jpg", 4711)
    after = preprocessing.cached_images(load(root), contract)
    assert not np.array_equal(before[0], after[0]) and np.array_equal(before[1:], after[1:])


@pytest.mark.parametrize(
    "name",
    ["two words", "crème brûlée", "日本", 'it\'s "quoted"', "half\u2044and\u2215half", "$a$ <b>&", "Pepper,_bell"],
)
def test_class_names_may_be_anything_that_can_be_printed(root, name):
    (root / "daisy").rename(root / name)
    dataset = load(root)
    assert set(dataset.class_names) == {name, "rose"}
    assert load(root).fingerprint == dataset.fingerprint  # read back from the index


def test_class_name_is_the_same_in_composed_and_decomposed_unicode(root, tmp_path):
    (root / "daisy").rename(root / "cr\u00e8me")
    composed = load(root)
    (root / "cr\u00e8me").rename(root / "cre\u0300me")
    assert load(root).fingerprint == composed.fingerprint
    write(root / "cr\u00e8me" / "a.png", 1)
    assert "are the same class" in refused(root)


@pytest.mark.parametrize("name", ["new\nline", os.fsdecode(b"latin\xe9"), "  "])
def test_class_name_that_cannot_be_printed_is_refused(root, name):
    (root / "daisy").rename(root / name)
    assert "rename it" in refused(root)


def damage_text(path):
    path.write_text("this is a text")


def damage_half(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def damage_empty(path):
    path.write_bytes(b"")


def damage_bomb(path):
    path.write_bytes(png(30_000, 30_000, 8, 0, b""))


def damage_gif(path):
    path.unlink()
    picture(1).save(path.with_suffix(".gif"))


def damage_link(path):
    path.unlink()
    path.symlink_to("gone.jpg")


def damage_link_loop(path):
    path.unlink()
    path.symlink_to(path.name)


def damage_fifo(path):
    path.unlink()
    os.mkfifo(path)


def damage_socket(path):
    path.unlink()
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)


DAMAGES = {
    damage_text: "not a JPEG, PNG, BMP or WebP image",
    damage_half: "damaged",
    damage_empty: "an empty file",
    damage_bomb: "more than 128 million pixels",
    damage_gif: "not a JPEG, PNG, BMP or WebP image",
    damage_link: "No such file or directory",
    damage_link_loop: "Too many levels of symbolic links",
    damage_fifo: "not a regular file",
    damage_socket: "not a regular file",
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_unreadable_image_stops_the_run_or_is_skipped_and_listed(root, damage, reason):
    damage(root / "rose" / "05.jpg")
    message = refused(root)
    assert "1 of 40 images cannot be read: rose/05." in message and reason in message
    assert message.endswith("remove or replace them, or set skip_corrupt")
    dataset = load(root, skip_corrupt=True)
    assert len(dataset.examples) == 39 == len(list(dataset.read()))
    assert len(dataset.skipped) == 1 and dataset.skipped[0].startswith("rose/05.")
    assert preprocessing.cached_images(dataset, Preprocessing(32, "gray", "area")).shape == (39, 32, 32, 1)


def test_the_first_of_many_unreadable_images_are_named(root):
    for path in sorted((root / "rose").iterdir())[:8]:
        damage_empty(path)
    assert "8 of 40 images cannot be read: rose/00.jpg (an empty file), " in refused(root)
    assert "rose/04.JPEG (an empty file) and 3 more: " in refused(root)
    assert "rose/05" not in refused(root)


def test_image_that_vanishes_later_is_named(root):
    dataset = load(root)
    (root / "rose" / "05.jpg").unlink()
    with pytest.raises(WorkbookError, match=r"cannot read .*rose/05.jpg \(No such file or directory\): restore it"):
        preprocessing.cached_images(dataset, Preprocessing(32, "rgb", "area"))


@pytest.mark.parametrize(
    ("name", "shown"), [("new\nline.jpg", "new\\nline.jpg"), (os.fsdecode(b"latin\xe9.jpg"), "latin\\udce9.jpg")]
)
def test_image_whose_name_cannot_be_printed_is_used_and_named_in_one_line(root, name, shown):
    shutil.copy(root / "rose" / "00.jpg", root / "rose" / name)
    (root / "daisy" / name).write_text("not an image")
    assert f"1 of 42 images cannot be read: daisy/{shown} (not a" in refused(root)
    for _ in range(2):  # read back from the index
        dataset = load(root, skip_corrupt=True)
        assert f"rose/{shown}" in dataset.duplicates()["files"].item() and dataset.skipped[0].startswith(
            f"daisy/{shown} "
        )
    position = dataset.examples["file"].tolist().index(f"rose/{shown}")
    assert dataset.encoded(np.array([position])) == [(root / "rose" / "00.jpg").read_bytes()]
    (root / "rose" / name).unlink()
    with pytest.raises(WorkbookError) as caught:
        list(dataset.read())
    assert f"rose/{shown} (No such file" in str(caught.value)


def become_another(path):
    write(path, 4711)


def become_fifo(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [(become_another, "rose/05.jpg has changed since it was checked"), (become_fifo, "05.jpg (not a regular file)")],
)
def test_image_that_changes_after_it_was_checked_is_not_used(root, change, message):
    dataset = load(root)
    change(root / "rose" / "05.jpg")
    with pytest.raises(WorkbookError) as caught:
        preprocessing.cached_images(dataset, Preprocessing(32, "rgb", "area"))
    assert message in str(caught.value)


def only_class(root):
    shutil.rmtree(root / "rose")


def no_images(root):
    shutil.rmtree(root)
    root.mkdir()


def empty_class(root):
    (root / "tulip").mkdir()


def two_images(root):
    for path in sorted((root / "rose").iterdir())[2:]:
        path.unlink()


def two_different_images(root):
    two_images(root)
    for number in range(5):
        shutil.copy(root / "rose" / "00.jpg", root / "rose" / f"copy{number}.jpg")


def link_out(root):
    shutil.move(root / "rose" / "00.jpg", root.parent / "outside.jpg")
    (root / "rose" / "00.jpg").symlink_to(root.parent / "outside.jpg")


def class_link_out(root):
    shutil.move(root / "rose", root.parent / "rose_outside")
    (root / "rose").symlink_to(root.parent / "rose_outside")


def loose_image(root):
    write(root / "loose.png", 1)


def nested(root):
    write(root / "rose" / "red" / "a.png", 1)


def one_too_deep(root):
    shutil.move(root, root.parent / "moved")
    root.mkdir()
    shutil.move(root.parent / "moved", root / "flowers")


def folder_named_as_an_image(root):
    (root / "rose" / "x.jpg").mkdir()


def loop_of_folders(root):
    (root / "rose" / "again").symlink_to("..")


def class_link_to_itself(root):
    (root / "tulip").symlink_to("tulip")


def loose_fifo(root):
    os.mkfifo(root / "loose.png")


def mixed_parts(root):
    for part in ("train", "test"):
        write(root / part / "rose" / "a.png", 1)


def class_missing_in_test(root):
    shutil.move(root, root.parent / "moved")
    shutil.move(root.parent / "moved", root / "train")
    write(root / "test" / "rose" / "a.png", 999)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_images, "holds no images: give a folder that holds a folder of images for each class"),
        (only_class, "holds only one class, 'daisy'"),
        (empty_class, "data/tulip holds no images: add some, or remove it"),
        (two_images, "class 'rose' has 2 different readable images and none for"),
        (two_different_images, "class 'rose' has 2 different readable images and none for"),
        (link_out, "rose/00.jpg is a link that leaves"),
        (class_link_out, "data/rose is a link that leaves"),
        (loose_image, "loose.png is not in a class folder: move it into one, or away"),
        (nested, "rose holds a folder, red: give a folder that holds a folder of images for each class"),
        (one_too_deep, "flowers holds a folder, daisy: give a folder"),
        (folder_named_as_an_image, "rose holds a folder, x.jpg: give a folder"),
        (loop_of_folders, "rose holds a folder, again: give a folder"),
        (class_link_to_itself, "tulip is a link that leads nowhere: repair or remove it"),
        (loose_fifo, "loose.png is not in a class folder"),
        (mixed_parts, "holds parts and other folders (daisy, rose): move the others out of it"),
        (class_missing_in_test, "class 'daisy' has 20 different readable images and none for test"),
    ],
)
def test_folder_that_is_laid_out_wrongly_is_refused(root, change, message):
    change(root)
    assert message in refused(root)


def test_links_inside_the_folder_are_followed(root):
    (root / "rose" / "link.jpg").symlink_to(root / "rose" / "00.jpg")
    assert load(root).duplicates()["copies"].tolist() == [2]


def test_data_dir_that_does_not_exist_is_named_with_the_nearest(root, tmp_path):
    assert "dato does not exist: did you mean 'data'?" in refused(tmp_path / "dato")
    (tmp_path / "data.zip").write_bytes(b"PK")
    assert "data.zip is a file: unpack it" in refused(tmp_path / "data.zip")


@pytest.mark.parametrize(
    ("data_dir", "message"),
    [
        ("fifo", "fifo is not a folder: give"),
        ("loop", "cannot read data_dir"),
        ("/dev/null", "/dev/null is not a folder"),
        ("/proc", "/proc"),
    ],
)
def test_data_dir_that_is_no_folder_of_images_is_refused(tmp_path, data_dir, message):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    assert message in refused(tmp_path / data_dir)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "folder"}, "dataset folder needs data_dir"),
        ({"dataset": "digits", "data_dir": "x"}, "data_dir is for dataset folder, not for digits"),
        ({"dataset": "folder", "data_dir": "x", "test_fraction": 0.9}, "test_fraction: 0.9 is too large"),
    ],
)
def test_parameters_that_do_not_belong_together_are_refused(values, message):
    with pytest.raises(WorkbookError, match=message):
        DataParameters(**values)


def test_the_published_39_classes_are_known_by_their_names_and_only_by_all_of_them(tmp_path):
    names = pd.read_csv(PROJECT / "mbutils" / "data" / "plant_village_39.csv")["class"]
    assert len(names) == 39 and "Background_without_leaves" in set(names)
    for number, name in enumerate(names):
        for image in range(3):
            write(tmp_path / "leaves" / name / f"{image}.png", 10 * number + image)
    assert load(tmp_path / "leaves").name == PLANT_VILLAGE_39
    shutil.rmtree(tmp_path / "leaves" / "Background_without_leaves")
    assert load(tmp_path / "leaves").name == "folder_leaves"
