"""What `explore.ipynb` shows: one photograph, its models with the C code among them, and two runs."""

import io
import shutil
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from deploy_models import images, tflite
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib import pyplot as plt
from PIL import Image

from mbutils import evaluation, explore, runs
from mbutils.config import ExploreParameters
from mbutils.deploy import host
from mbutils.deploy.host import HostNetwork
from mbutils.errors import WorkbookError
from mbutils.evaluation.occlusion import occlusion_map
from mbutils.explore import chosen, two_runs
from mbutils.explore import explorer as explorer_module
from mbutils.report import plots
from mbutils.tflite.interpreter import reference_outputs

needs_compiler = pytest.mark.skipif(not host.has_compiler(), reason="no C compiler")


@pytest.fixture(scope="module")
def results(tiny_results, tmp_path_factory):
    """A results folder that holds the run of `tiny_results` twice."""
    folder = tmp_path_factory.mktemp("two")
    run = runs.find(tiny_results)
    for name in ("first", "second"):
        copy = shutil.copytree(run.path, folder / "runs" / name)
        (copy / "manifest.json").write_text((run.path / "manifest.json").read_text().replace(run.run_id, name))
    return folder


@pytest.fixture(scope="module")
def opened():
    return cache(chosen.opened)


@pytest.fixture(scope="module")
def first(results, opened):
    return opened(runs.find(results, "first"))


def png(pixels):
    photo = io.BytesIO()
    Image.fromarray(pixels).save(photo, "PNG")
    return photo.getvalue()


@needs_compiler
@pytest.mark.parametrize("variant", ["int8_per_channel", "int8_per_tensor"])
def test_c_code_on_this_computer_gives_the_scores_of_the_reference_kernels(variant):
    content, pictures = tflite(0.25, 32, 3, 5, variant), images(6, (32, 32, 3))
    assert np.array_equal(HostNetwork(content).predict_on_batch(pictures), reference_outputs(content, pictures)[1])


def test_without_a_compiler_the_c_code_is_left_out_with_a_reason(results, monkeypatch):
    monkeypatch.setattr(host.shutil, "which", lambda name: None)
    run = chosen.opened(runs.find(results, "first"))
    look = chosen.choose(run, *run.test_image(0))
    assert list(look.scores.columns) == ["float32", "int8_per_channel"]
    assert look.models_left_out == "C code is left out: no C compiler, `cc`, is installed."
    with pytest.raises(WorkbookError, match="no C compiler, cc, is installed: install one"):
        HostNetwork(tflite(0.25, 32, 3, 5))


@needs_compiler
def test_photograph_is_scored_by_every_model_of_the_run_and_the_c_code(first):
    look = chosen.choose(first, *first.test_image(0))
    assert list(look.scores.columns) == ["float32", "int8_per_channel", "C code"]
    assert look.models_left_out == "" and look.answer == look.scores["int8_per_channel"].idxmax()


def test_test_images_are_spread_over_the_classes(first):
    classes = [name for _, name in first.test_images]
    assert len(classes) == 100 and set(pd.Series(classes).value_counts()) == {10}
    assert first.test_image(99) == (first.test_images[99][0], "test image 99: 9")
    with pytest.raises(WorkbookError, match="test_image: 100 is too large: the maximum is 99"):
        first.test_image(100)


def test_map_shows_where_the_patch_covers_what_the_score_rests_on():
    image = np.zeros((48, 48, 3), np.uint8)
    image[4:8, 36:40] = 255

    def bright_corner(batch):
        light = batch[:, 4:8, 36:40].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - light, light], axis=1)

    falls = occlusion_map(bright_corner, image, 1)
    rows, columns = np.nonzero(falls > 0.4)
    assert set(rows) <= {0, 1, 2} and set(columns) <= {8, 9, 10} and falls[1, 9] == pytest.approx(1 - 128 / 255)
    assert (falls[5:] == 0).all() and (falls[:, :6] == 0).all()
    assert np.array_equal(occlusion_map(bright_corner, image, 0), -falls)


def test_photograph_prepared_otherwise_differs_and_is_scored(first):
    look = chosen.choose(first, png(images(1, (40, 60, 3))[0]), "noise")
    pictures, titles = look.prepared_otherwise()
    assert len(pictures) == len(titles) == len(set(titles))
    assert np.array_equal(pictures[0], look.image) and titles[0].startswith(f"as trained:\n{look.answer} ")
    assert all(picture.shape == look.image.shape for picture in pictures)
    assert {"nearest instead of bilinear", "pad instead of stretch", "half the resolution first"} <= {
        title.split(":")[0] for title in titles
    }
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


def test_only_a_jpeg_is_prepared_by_the_other_decoder_too(first):
    encoded = io.BytesIO()
    Image.fromarray(images(1, (40, 60, 3))[0]).save(encoded, "JPEG", quality=50)
    contract = replace(first.classifier.contract, color_mode="rgb")
    other = "tensorflow's JPEG decoder instead of pillow"
    pictures = chosen._otherwise(encoded.getvalue(), contract)
    assert not np.array_equal(pictures[other], pictures["as trained"])
    assert other not in chosen._otherwise(png(images(1, (40, 60, 3))[0]), contract)


def test_colour_photograph_is_also_prepared_gray(first):
    contract = replace(first.classifier.contract, color_mode="rgb")
    gray = chosen._otherwise(png(images(1, (40, 60, 3))[0]), contract)["gray instead of rgb"]
    assert gray.shape == (32, 32, 3) and (gray == gray[..., :1]).all()


@pytest.fixture(scope="module")
def second(results, first):
    """A run that gets other test images right; its predictions are in another order."""
    run = runs.find(results, "second")
    saved = np.load(run.path / "predictions_int8_per_channel.npz")
    order = np.random.default_rng(0).permutation(len(saved["labels"]))
    labels = saved["labels"][order]
    always = np.tile(np.eye(10, dtype=np.float32)[7], (len(labels), 1))
    scores = {"float32": always, "int8_per_channel": always}
    accuracies = evaluation.accuracy_table(labels, scores)
    runs.record_evaluation(run, accuracies, saved["identities"][order], labels, scores)
    return run


def test_two_runs_are_compared_image_by_image(first, second):
    labels, scores = (np.load(first.run.path / "predictions_int8_per_channel.npz")[x] for x in ("labels", "scores"))
    is_right = scores.argmax(axis=1) == labels
    names, rows = two_runs.only_one_right(first.run, second, first.dataset, 3)
    assert names == ["first", "second"]
    totals = [(is_right & (labels != 7)).sum(), (~is_right & (labels == 7)).sum()]
    assert [row.caption for row in rows] == [f"{total} test images that only this run gets right" for total in totals]
    assert len(rows[0].images) == 3 and all(title.endswith("\u2192 7") for title in rows[0].titles)
    for title in rows[0].titles:
        true, answer = title.split(" \u2192 ")[0].split(":\n")
        assert true == answer


def test_images_of_two_runs_belong_to_their_titles(first, second):
    _, rows = two_runs.only_one_right(first.run, second, first.dataset, 5)
    positions = first.dataset.positions("test")
    photos = first.dataset.encoded(positions)
    known = {chosen.choose(first, photo, "").image.tobytes(): number for number, photo in enumerate(photos)}
    for row in rows:
        for image, title in zip(row.images, row.titles, strict=True):
            label = first.dataset.labels[positions[known[image.tobytes()]]]
            assert title.startswith(f"{label}:")


def test_runs_on_other_data_are_not_compared(first, results):
    other = runs.find(results, "second")
    facts = other.manifest["dataset"]
    other.update(dataset={**facts, "fingerprint": "0" * 16})
    with pytest.raises(WorkbookError, match="first and second have different images, classes or parts: choose two"):
        two_runs.only_one_right(first.run, other, first.dataset, 3)
    other.update(dataset=facts)


@pytest.fixture
def shell(opened, monkeypatch):
    monkeypatch.setattr(explorer_module, "opened", opened)
    with capture_output():
        yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.fixture
def explorer(results, second, shell):
    return explore.Explorer(ExploreParameters(run_id="first", results_dir=str(results)))


def send(upload, name, content):
    """Sends a file as the browser does, in two parts."""
    half = len(content) // 2
    for number, part in enumerate((content[:half], content[half:])):
        message = {"name": name, "first": number == 0, "last": number == 1}
        upload._handle_custom_msg(message, [memoryview(part)])


def message(explorer):
    return explorer.controls.children[-1].value


def test_outputs_follow_the_choice(explorer, first):
    run, other, sources, _ = explorer.controls.children
    upload, test_image, camera = sources.children
    seen = []
    explorer.show(lambda look: seen.append((look.title, look.opened.run.run_id, look.other and look.other.run.run_id)))
    test_image.value = 5
    photo = first.test_image(42)[0]
    send(upload, "a.png", photo)
    send(upload, "a.png", photo)  # chosen again
    camera.frame = memoryview(first.test_image(43)[0])
    other.value = runs.find(first.run.path.parent.parent, "second")
    run.value = other.value
    assert seen == [
        ("test image 0: 0", "first", None),
        ("test image 5: 0", "first", None),
        ("a.png", "first", None),
        ("a.png", "first", None),
        ("camera", "first", None),
        ("camera", "first", "second"),
        ("camera", "second", "second"),
    ]
    assert message(explorer).startswith("camera. The model says: ")


def test_what_is_no_image_changes_nothing_and_is_named(explorer):
    upload = explorer.controls.children[2].children[0]
    before = explorer.chosen
    send(upload, "<b>.txt", b"text")
    assert explorer.chosen is before
    assert message(explorer).startswith("&lt;b&gt;.txt: the photograph is unreadable (not a JPEG")


def test_a_view_that_is_impossible_shows_the_reason(explorer, shell):
    with capture_output() as shown:
        explorer.show(lambda look: plots.picture_rows(*look.only_one_right(6)))
    (output,) = shown.outputs
    assert output.data["text/plain"] == "no second run is chosen: choose one above, or set other_run_id"


def test_a_picture_is_shown_once(explorer):
    explorer.show(lambda look: plots.scores_by_model(look.scores))
    assert plt.get_fignums() == []


def test_photograph_of_the_parameters_is_shown_first(results, shell, tmp_path, first):
    (tmp_path / "mine.png").write_bytes(first.test_image(7)[0])
    made = explore.Explorer(
        ExploreParameters(run_id="first", photo=str(tmp_path / "mine.png"), results_dir=str(results))
    )
    assert made.chosen.title == "mine.png" and made.chosen.photo == first.test_image(7)[0]


def test_run_whose_images_are_gone_still_takes_photographs(results, shell, opened, tmp_path, first, monkeypatch):
    (tmp_path / "mine.png").write_bytes(first.test_image(7)[0])

    def gone(run):
        raise WorkbookError("the images are gone: put them back")

    monkeypatch.setattr(explorer_module, "opened", lambda run: replace(opened(run)))
    monkeypatch.setattr(chosen, "load_dataset", gone)
    made = explore.Explorer(
        ExploreParameters(run_id="first", photo=str(tmp_path / "mine.png"), results_dir=str(results))
    )
    assert made.controls.children[2].children[1].disabled
    assert message(made).endswith("the images are gone: put them back")
    with pytest.raises(WorkbookError, match="the images are gone"):
        explore.Explorer(ExploreParameters(run_id="first", results_dir=str(results)))
