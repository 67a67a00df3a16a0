"""The costs that models are chosen by: those of our C code, or of a version of STM32Cube.AI."""

import pandas as pd
import pytest

from mbutils import runs
from mbutils.config import C_CODE, EDITIONS, FIRST_EDITION
from mbutils.deploy import beforehand
from mbutils.device import costs
from mbutils.device.footprint import footprint
from mbutils.report import tools
from mbutils.report.selection import COSTS


@pytest.fixture
def results(tiny_results):
    return runs.results_table(tiny_results)


def of_int8(table):
    return table.set_index("variant").loc["int8_per_channel", list(COSTS)].astype(float)


def test_costs_are_those_that_were_measured_of_the_c_code(results, tiny_results):
    measured = results.assign(measured_ram_bytes=1000, measured_flash_bytes=2000)
    found = tools.with_costs_of(measured, tiny_results, C_CODE)
    assert of_int8(found).tolist() == [1000, 2000, of_int8(results)["latency_ms_stm32h747"]]
    assert found.loc[found["variant"] == "float32", list(COSTS)].isna().all(axis=None)


def test_code_of_a_model_that_was_not_deployed_is_measured_for_it(results, tiny_results, monkeypatch):
    monkeypatch.setattr(beforehand, "sizes", lambda *_: {"measured_ram_bytes": 3, "measured_flash_bytes": 4})
    blank = results.assign(measured_ram_bytes=None, measured_flash_bytes=None)
    assert of_int8(tools.with_costs_of(blank, tiny_results, C_CODE)).tolist()[:2] == [3, 4]


def test_recorded_costs_are_those_of_the_first_edition(results, tiny_results):
    pd.testing.assert_frame_equal(tools.with_costs_of(results, tiny_results, FIRST_EDITION), results)


@pytest.mark.parametrize("edition", list(EDITIONS)[-1:])
def test_costs_of_an_edition_are_predicted_from_the_model(results, tiny_results, edition):
    model = footprint(runs.find(tiny_results).artefact("int8_per_channel.tflite"))
    expected = costs.columns(model, edition)
    found = of_int8(tools.with_costs_of(results, tiny_results, edition))
    assert found.to_dict() == pytest.approx({column: expected[column] for column in COSTS})
    assert found["total_flash_bytes"] < of_int8(results)["total_flash_bytes"]
