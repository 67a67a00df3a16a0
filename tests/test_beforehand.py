"""What C code takes before training is what it takes afterwards."""

from dataclasses import replace

import pytest

from mbutils import quantization
from mbutils.config import INT8_VARIANTS, ModelParameters, Preprocessing
from mbutils.deploy import beforehand, measure
from mbutils.report import before_training

CONTRACT = Preprocessing(32, "rgb", "area")
needs_tools = pytest.mark.skipif(bool(measure.missing_tools()), reason="no arm-none-eabi-gcc or QEMU")


@pytest.fixture(scope="module", params=INT8_VARIANTS)
def models(request, small_network, noise_images):
    """The same network untrained, and with weights and statistics as after a training."""
    untrained = before_training.tflite(ModelParameters(0.25, 32, "rgb", 5), request.param)
    if request.param == "int4_pointwise":
        rounded = quantization.fake_quantize(quantization.fold(small_network), noise_images[:8], request.param)
        return untrained, quantization.to_int8_with_ranges(rounded)
    return untrained, quantization.to_int8(small_network, noise_images[:8], request.param)


@needs_tools
def test_the_c_code_of_an_untrained_model_takes_what_that_of_a_trained_one_does(models):
    untrained, trained = (beforehand.sizes(model, CONTRACT) for model in models)
    assert untrained["measured_ram_bytes"] == pytest.approx(trained["measured_ram_bytes"], abs=64)
    assert untrained["measured_flash_bytes"] == pytest.approx(trained["measured_flash_bytes"], rel=0.002)


@needs_tools
def test_layers_run_in_step_only_where_the_model_does_not_fit_otherwise():
    model, contract = before_training.tflite(ModelParameters(0.25, 96, "rgb", 5)), replace(CONTRACT, image_size=96)
    whole = beforehand.sizes(model, contract)
    assert whole["streamed_layers"] == 0
    assert beforehand.sizes(model, contract, whole["measured_ram_bytes"]) == whole
    fewer = whole["measured_ram_bytes"] - 1
    streamed = beforehand.sizes(model, contract, fewer)
    assert streamed["streamed_layers"] > 0 and streamed["measured_ram_bytes"] <= fewer


@needs_tools
@pytest.mark.slow
def test_a_network_of_more_than_4_mib_is_measured_too():
    model, contract = before_training.tflite(ModelParameters(1.0, 96, "rgb", 1000)), replace(CONTRACT, image_size=96)
    assert 4 << 20 < beforehand.sizes(model, contract)["measured_flash_bytes"] < 5 << 20


@needs_tools
def test_where_nothing_fits_the_smallest_is_returned(models):
    smallest = beforehand.sizes(models[0], CONTRACT, 1)
    assert 1 < smallest["measured_ram_bytes"] <= beforehand.sizes(models[0], CONTRACT)["measured_ram_bytes"]


def test_without_the_tools_machine_code_and_stack_are_left_out(models, monkeypatch):
    monkeypatch.setattr(measure, "missing_tools", lambda: ["arm-none-eabi-gcc"])
    found = beforehand.sizes(models[0], CONTRACT)
    assert found["measured_ram_bytes"] % 4 == 0 and found["measured_flash_bytes"] > 100_000


@needs_tools
def test_a_damaged_file_in_the_cache_is_made_again(models):
    found = beforehand.sizes(models[0], CONTRACT)
    for path in beforehand.cache.folder(beforehand.cache.UNTRAINED).glob("c_code_*.json"):
        path.write_text("{")
    assert beforehand.sizes(models[0], CONTRACT) == found
