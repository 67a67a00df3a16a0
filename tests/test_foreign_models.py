"""Int8 models as others make them: what they cost, what they answer, and their C code."""

import pytest
from foreign_models import KINDS, tflite

from mbutils.device.footprint import footprint
from mbutils.tflite.reader import read_graph


@pytest.mark.parametrize("kind", KINDS)
def test_footprint_reads_every_kind(kind):
    model = footprint(tflite(kind))
    assert model.activation_ram_bytes > 0 and model.macs > 0


def test_a_dynamic_batch_is_a_batch_of_1():
    dynamic, fixed = (footprint(tflite(kind)).to_dict() for kind in ("dynamic batch", "fixed batch"))
    assert dynamic.pop("tflite_bytes") != fixed.pop("tflite_bytes")
    assert dynamic == fixed


def test_ops_that_compute_shapes_cost_nothing():
    codes = [op.code for op in read_graph(tflite("shapes computed")).ops]
    assert codes[-6:] == ["MEAN", "RESHAPE", "CONV_2D", "RESHAPE", "SOFTMAX", "DEQUANTIZE"]
    weights = footprint(tflite("dynamic batch")).weights_flash_bytes
    assert footprint(tflite("shapes computed")).weights_flash_bytes == weights
