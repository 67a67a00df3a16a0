import numpy as np
import pytest
from scipy import stats

from mbutils import evaluation
from mbutils.backend import keras, tf
from mbutils.config import normalize
from mbutils.errors import WorkbookError
from mbutils.tflite.interpreter import TFLiteModel


def scores_of(predicted, n_classes=3):
    return np.eye(n_classes, dtype=np.float32)[predicted]


@pytest.mark.parametrize(("correct", "total"), [(0, 10), (7, 10), (10, 10), (634, 734)])
def test_accuracy_has_the_wilson_interval(correct, total):
    labels = np.zeros(total, int)
    result = evaluation.accuracy(labels, scores_of([0] * correct + [1] * (total - correct)))
    # Wilson 1927, written out.
    z, p = stats.norm.ppf(0.975), correct / total
    middle = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    assert result.top1 == p
    assert (result.low, result.high) == pytest.approx((middle - half, middle + half), abs=1e-9)


def test_comparison_counts_the_images_that_only_one_model_gets_right():
    labels = np.array([0, 0, 0, 0, 1, 1])
    first, second = scores_of([0, 0, 0, 1, 1, 2]), scores_of([0, 1, 2, 0, 1, 0])
    result = evaluation.compare(labels, first, second)
    assert (result.only_first, result.only_second) == (2, 1)
    assert result.drop == pytest.approx(1 / 6)
    assert result.agreement == pytest.approx(2 / 6)
    assert evaluation.changed_sides(labels, first, second).tolist() == [1, 2, 3]


@pytest.mark.parametrize(("only_first", "only_second"), [(0, 0), (1, 0), (9, 1), (5, 5), (12, 3)])
def test_mcnemar_test_is_exact(only_first, only_second):
    labels = np.zeros(40, int)
    changed = only_first + only_second
    first = scores_of([0] * only_first + [1] * only_second + [0] * (40 - changed))
    second = scores_of([1] * only_first + [0] * only_second + [0] * (40 - changed))
    fewer = min(only_first, only_second)
    expected = min(1.0, 2 * stats.binom.cdf(fewer, changed, 0.5)) if changed else 1.0
    assert evaluation.compare(labels, first, second).p_value == pytest.approx(expected)


def test_confusion_has_true_classes_as_rows():
    matrix = evaluation.confusion(np.array([0, 0, 1]), scores_of([0, 2, 1]), ("a", "b", "c"))
    assert matrix.loc["a", "c"] == 1
    assert matrix.to_numpy().sum() == 3
    assert matrix.loc["c"].sum() == 0


def test_precision_of_a_class_that_is_never_predicted_is_zero():
    table = evaluation.per_class(np.array([0, 0, 1, 2]), scores_of([0, 1, 1, 1]), ("a", "b", "c"))
    assert table["precision"].tolist() == pytest.approx([1, 1 / 3, 0])
    assert table["recall"].tolist() == [0.5, 1, 0]
    assert table["images"].tolist() == [2, 1, 1]


def test_macro_recall_counts_rare_classes_as_much_as_frequent_ones():
    labels = np.array([0] * 8 + [1] * 2)
    scores = scores_of([0] * 8 + [0, 1])
    assert evaluation.accuracy(labels, scores).top1 == 0.9
    assert evaluation.macro_recall(labels, scores) == pytest.approx((1 + 0.5) / 2)  # class 2 has no images


def test_titles_name_the_true_class_and_both_predictions():
    lines = evaluation.prediction_titles(np.array([0]), scores_of([0]), scores_of([2]), ("a", "b", "c"))
    assert lines == ["a:\na \u2192 c"]


def coloured_images(count, seed):
    """Images of one colour each, with noise: uint8, shape (count, 8, 8, 3)."""
    rng = np.random.default_rng(seed)
    return (rng.uniform(0, 255, (count, 1, 1, 3)) * rng.uniform(0.5, 1, (count, 8, 8, 3))).astype(np.uint8)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A small Keras classifier that scores colours differently, exported for the converter."""
    keras.utils.set_random_seed(0)
    image = keras.layers.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, activation="relu6")(image))
    scores = keras.layers.Dense(3, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(0, 4))(x)
    model, folder = keras.Model(image, scores), str(tmp_path_factory.mktemp("exported"))
    signature = [keras.InputSpec(shape=(1, 8, 8, 3), dtype="float32")]
    model.export(folder, format="tf_saved_model", verbose=False, input_signature=signature)
    return model, folder


def converted(folder, ends):
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if ends != tf.float32:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        data = normalize(coloured_images(100, seed=0))
        converter.representative_dataset = lambda: ([sample[None]] for sample in data)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = ends
    return converter.convert()


@pytest.mark.parametrize("ends", [tf.float32, tf.uint8, tf.int8])
def test_tflite_models_of_every_type_score_like_keras_in_any_batch_size(classifier, ends):
    model, folder = classifier
    tflite = TFLiteModel(converted(folder, ends))
    assert (tflite.image_shape, tflite.n_classes) == ((8, 8, 3), 3)
    images = coloured_images(10, seed=1)
    expected = evaluation.predict_keras(model, images, batch_size=3)
    assert (np.ptp(expected, axis=0) > 0.5).all()
    for batch_size in (1, 4, 10, 64):
        scores = tflite.predict(images, batch_size)
        assert scores.dtype == np.float32
        assert np.abs(scores - expected).max() < (1e-5 if ends == tf.float32 else 0.05)


def test_model_without_an_image_input_is_refused(tmp_path):
    dense = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
    signature = [keras.InputSpec(shape=(1, 4), dtype="float32")]
    dense.export(str(tmp_path), format="tf_saved_model", verbose=False, input_signature=signature)
    with pytest.raises(WorkbookError, match="it must have one image input and one output"):
        TFLiteModel(converted(str(tmp_path), tf.float32))


@pytest.mark.parametrize("content", [b"", b"no model", b"\x1c\x00\x00\x00TFL3" + b"\x00" * 40])
def test_file_that_is_not_a_tflite_model_is_named(tmp_path, content):
    (tmp_path / "bad.tflite").write_bytes(content)
    with pytest.raises(WorkbookError, match=r"bad.tflite: (the file is empty|not a .tflite that LiteRT can run)"):
        TFLiteModel(tmp_path / "bad.tflite")


def test_missing_model_file_is_named(tmp_path):
    with pytest.raises(WorkbookError, match=r"gone.tflite: cannot be read \(No such file or directory\)"):
        TFLiteModel(tmp_path / "gone.tflite")


def test_images_of_a_class_are_whole_numbers_also_where_no_prediction_is_right():
    table = evaluation.per_class(np.array([0, 0, 1]), np.eye(3)[[1, 2, 2]], ("a", "b", "c"))
    assert table["images"].to_dict() == {"a": 2, "b": 1, "c": 0} and table["images"].dtype.kind == "i"
