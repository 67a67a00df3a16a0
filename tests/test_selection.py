"""The model that fits a budget, and the Pareto front."""

import numpy as np
import pandas as pd
import pytest

from mbutils.config import Budget
from mbutils.report import labels, plots, selection, tables

KIB = 1024


def results(*rows):
    """Returns labelled int8 models of a results table: (name, validation top-1, test top-1, RAM KiB, flash KiB, ms)."""
    names = ["run_id", "validation_top1", "top1", "total_ram_bytes", "total_flash_bytes", "latency_ms_stm32h747"]
    table = pd.DataFrame(rows, columns=names).astype({"total_ram_bytes": float, "total_flash_bytes": float})
    table[["total_ram_bytes", "total_flash_bytes"]] *= KIB
    fixed = {"dataset": "digits", "alpha": 0.25, "image_size": 32, "color_mode": "gray", "seed": 0, "conversion": ""}
    fixed |= {"fingerprint": "f", "n_classes": 10, "n_train": 80, "n_test": 100, "recorded_parameters": "{}"}
    interval = {"top1_low": table["top1"] - 0.02, "top1_high": table["top1"] + 0.02}
    table = table.assign(variant="int8_per_channel", configuration=table["run_id"], **fixed, **interval)
    return labels.labelled(table)


SMALL_MIDDLE_LARGE = results(
    ("small", 0.80, 0.81, 50, 300, 30), ("middle", 0.88, 0.86, 100, 300, 90), ("large", 0.92, 0.93, 220, 900, 500)
)


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (Budget(), ["small", "middle", "large"]),
        (Budget(ram_kib=100), ["small", "middle"]),
        (Budget(ram_kib=99.9), ["small"]),
        (Budget(flash_kib=500), ["small", "middle"]),
        (Budget(latency_ms=40), ["small"]),
        (Budget(ram_kib=500, latency_ms=10), []),
    ],
)
def test_a_model_fits_if_it_is_within_every_limit_and_0_is_no_limit(budget, expected):
    table = SMALL_MIDDLE_LARGE
    assert table.loc[selection.fits(table, budget), "run_id"].tolist() == expected


def test_the_most_accurate_model_that_fits_is_the_answer():
    answer = selection.choose(SMALL_MIDDLE_LARGE, Budget(ram_kib=150))
    assert answer.fits
    assert answer.row["run_id"] == "middle"
    assert (answer.fitting, answer.candidates) == (2, 3)


def test_the_choice_depends_on_validation_and_not_on_test_accuracy():
    table = results(("good on validation", 0.9, 0.80, 50, 300, 30), ("good on test", 0.8, 0.95, 50, 300, 30))
    assert selection.choose(table, Budget()).row["run_id"] == "good on validation"


def test_of_two_equally_accurate_models_the_smaller_is_taken():
    table = results(("large", 0.9, 0.9, 80, 300, 30), ("small", 0.9, 0.9, 50, 300, 30))
    assert selection.choose(table, Budget()).row["run_id"] == "small"


def test_float_models_and_models_of_unknown_cost_are_no_candidates():
    table = results(
        ("float", 0.99, 0.99, 10, 10, 1), ("unknown", 0.98, 0.98, None, 300, 30), ("known", 0.5, 0.5, 9, 9, 1)
    )
    table.loc[0, "variant"] = "float32"
    answer = selection.choose(table, Budget())
    assert (answer.row["run_id"], answer.candidates) == ("known", 1)


def test_if_nothing_fits_the_answer_is_the_nearest_miss_and_what_exceeds_the_budget():
    answer = selection.choose(SMALL_MIDDLE_LARGE, Budget(ram_kib=40, flash_kib=1000, latency_ms=25))
    assert not answer.fits
    assert answer.row["run_id"] == "small"
    assert answer.over == pytest.approx({"total_ram_bytes": 1.25, "latency_ms_stm32h747": 1.2})


def test_without_any_model_there_is_no_answer():
    answer = selection.choose(SMALL_MIDDLE_LARGE.iloc[:0], Budget(ram_kib=40))
    assert answer.row is None and not answer.fits


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        (Budget(ram_kib=150), ["int8_per_channel", "2 of 3", "86.00%", "88.00%", "100.0 KiB, limit 150"]),
        (
            Budget(ram_kib=40),
            ["nothing fits; nearest: 0.25", "over in total RAM by 25.0%", "0 of 3", "nearest to the limits"],
        ),
        (Budget(latency_ms=35), ["30.0 ms (estimate, 24.", "limit 35"]),
    ],
)
def test_the_answer_names_model_costs_limits_and_accuracies(budget, words):
    html = tables.answers(SMALL_MIDDLE_LARGE, budget).to_html()
    assert all(word in html for word in words)


def with_another_class():
    """Returns the models, and one on the same data with a class more."""
    more = results(("more", 0.1, 0.1, 50, 300, 30)).assign(fingerprint="another", n_classes=11)
    return labels.labelled(pd.concat([SMALL_MIDDLE_LARGE, more], ignore_index=True))


def test_each_task_gets_its_own_answer():
    answers = tables.answers(with_another_class(), Budget()).data
    assert list(answers) == ["digits (10 classes)", "digits (11 classes)"]
    assert answers.loc["run"].tolist() == ["large", "more"]
    assert answers.loc["fitting"].tolist() == ["3 of 3 int8 models", "1 of 1 int8 models"]


def test_the_report_says_that_tasks_are_not_compared_with_each_other():
    several = tables.budget_sentence(with_another_class(), Budget())
    assert "4 configurations on digits (10 classes) and digits (11 classes), seed 0. These are 2 tasks" in several
    assert "3 configurations on digits, seed 0. Budget" in tables.budget_sentence(SMALL_MIDDLE_LARGE, Budget())


@pytest.mark.parametrize(
    ("budget", "start"),
    [
        (
            Budget(),
            "For digits take **0.25 32 px gray, large**, int8_per_channel: it is right on 93% of 100 test images,",
        ),
        (Budget(ram_kib=10), "Nothing fits for digits; the nearest is **0.25 32 px gray, small**"),
    ],
)
def test_the_answer_in_one_sentence(budget, start):
    sentence = tables.answer_sentences(selection.answers(SMALL_MIDDLE_LARGE, budget))
    assert sentence.startswith(start) and sentence.count(".") == 2  # with that of 0.25


def test_runs_without_costs_must_be_converted_and_evaluated():
    html = tables.answers(SMALL_MIDDLE_LARGE.assign(total_ram_bytes=None), Budget()).to_html()
    assert "run convert and evaluate" in html


def test_pareto_models_are_those_that_none_beats_at_every_cost_and_in_accuracy():
    table = results(
        ("large", 0.92, 0.93, 220, 900, 500),
        ("small", 0.80, 0.81, 50, 300, 30),
        ("wasteful", 0.80, 0.99, 60, 300, 30),  # test accuracy does not count
        ("less flash", 0.80, 0.80, 60, 200, 30),
    )
    assert selection.pareto_models(table)["run_id"].tolist() == ["small", "less flash", "large"]
    assert selection.pareto_models(table.iloc[:0]).empty


def test_pareto_models_of_different_tasks_do_not_compete():
    assert selection.pareto_models(with_another_class())["run_id"].tolist() == ["small", "middle", "large", "more"]


@pytest.mark.parametrize(
    "picture",
    [
        plots.float_against_int8,
        lambda models: plots.pareto(models, "total_ram_bytes"),
        lambda models: plots.accuracy_against(models, "total_ram_bytes"),
    ],
)
def test_every_task_has_its_own_picture(picture):
    first, second = picture(with_another_class().assign(seeds=1)).axes
    titles = [ax.get_title() or ax.get_title(loc="left") for ax in (first, second)]
    assert [title.split(": ")[0] for title in titles] == ["digits (10 classes)", "digits (11 classes)"]
    assert first.get_position().y0 > second.get_position().y1


def test_table_of_pareto_models_shows_cost_and_accuracy():
    html = tables.pareto_models(selection.pareto_models(SMALL_MIDDLE_LARGE)).to_html()
    assert all(word in html for word in ("50 KiB", "900 KiB", "86.0% (84.0% to 88.0%)", "large"))


def test_table_of_costs_is_in_kib_and_has_no_columns_of_code_that_was_not_made():
    recorded = SMALL_MIDDLE_LARGE.assign(tflite_bytes=300 * KIB, macs=7_000_000, measured_ram_bytes=[None, None, 51200])
    unknown = dict.fromkeys(["measured_flash_bytes", "measured_instructions"])
    shown = tables.device_costs(recorded.assign(**unknown)).data
    assert shown["total RAM (KiB)"].tolist() == ["50.0", "100.0", "220.0"]
    assert shown["MACs"].tolist() == ["7,000,000"] * 3
    (measured,) = (name for name in shown if name.startswith("C code"))
    assert shown[measured].tolist() == ["", "", "50.0"]


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 0.5), (2, 0.6), (3, 0.55)], [True, True, False]),
        ([(1, 0.5), (2, 0.5)], [True, False]),  # as accurate, but dearer
        ([(1, 0.5), (1, 0.6)], [False, True]),  # as dear, but more accurate
        ([(1, 0.5), (1, 0.5)], [True, True]),
        ([(3, 0.9), (1, 0.9)], [False, True]),
    ],
)
def test_pareto_front_of_a_few_points(points, front):
    table = pd.DataFrame(points, columns=["cost", "top1"])
    assert selection.pareto_front(table, "cost").tolist() == front


def test_pareto_front_is_what_no_other_model_dominates():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"cost": rng.integers(1, 9, 60), "top1": rng.integers(1, 9, 60) / 10})

    def dominated(row):
        cheaper = (table["cost"] < row["cost"]) & (table["top1"] >= row["top1"])
        better = (table["cost"] <= row["cost"]) & (table["top1"] > row["top1"])
        return (cheaper | better).any()

    expected = ~table.apply(dominated, axis=1)
    assert selection.pareto_front(table, "cost").tolist() == expected.tolist()


def seeded(*rows):
    """Returns a results table: (configuration, seed, top-1, RAM KiB)."""
    runs = [(f"{name}_{seed}", 0.9, top1, ram, 300, 30) for name, seed, top1, ram in rows]
    return results(*runs).assign(configuration=[row[0] for row in rows], seed=[row[1] for row in rows])


def test_seeds_of_a_configuration_become_their_mean_and_range():
    table = seeded(("a", 2, 0.80, 50), ("b", 0, 0.70, 60), ("a", 0, 0.84, 50), ("a", 1, 0.82, 50))
    together = selection.over_seeds(table).set_index("configuration")
    assert together.loc["a", ["top1", "top1_low", "top1_high"]].tolist() == pytest.approx([0.82, 0.80, 0.84])
    assert together.loc["a", ["seed", "seeds"]].tolist() == ["0,1,2", 3]
    # One seed has no range: its interval stays.
    assert together.loc["b", ["top1", "top1_low", "top1_high"]].tolist() == pytest.approx([0.70, 0.68, 0.72])
    assert together.loc["b", ["seed", "seeds"]].tolist() == ["0", 1]


@pytest.mark.parametrize("seeds", [2, 3, 7])
def test_mean_of_equal_seeds_is_their_accuracy_exactly(seeds):
    accuracies = [correct / 734 for correct in range(0, 735, 3)]
    rows = [(str(top1), seed, top1, 50) for top1 in accuracies for seed in range(seeds)]
    together = selection.over_seeds(seeded(*rows).assign(n_test=734))
    for column in ("top1_low", "top1", "top1_high"):
        assert together[column].tolist() == accuracies


def test_a_configuration_is_represented_by_the_run_that_is_best_on_validation():
    table = seeded(("a", 0, 0.80, 50), ("a", 1, 0.70, 50), ("a", 2, 0.90, 50))
    table["validation_top1"] = [0.5, 0.7, 0.6]
    assert selection.over_seeds(table)["run_id"].tolist() == ["a_1"]


def test_variants_are_not_averaged():
    table = seeded(("a", 0, 0.80, 50), ("a", 0, 0.60, 50)).assign(variant=["float32", "int8_per_channel"])
    assert selection.over_seeds(table)["top1"].tolist() == [0.80, 0.60]


def test_seeds_are_averaged_only_within_the_same_conversion():
    table = seeded(("a", 0, 0.80, 50), ("a", 1, 0.60, 50), ("a", 2, 0.70, 50))
    assert selection.over_seeds(table.assign(conversion=["x", "y", "x"]))["top1"].tolist() == pytest.approx([0.75, 0.6])
    blank = table.assign(conversion=["", None, float("nan")])
    assert selection.over_seeds(blank)["seeds"].tolist() == [3]


def test_no_runs_are_no_configurations():
    table = seeded(("a", 0, 0.80, 50)).iloc[:0]
    assert selection.over_seeds(table).empty and "seeds" in selection.over_seeds(table)


def test_range_of_seeds_is_drawn_only_where_there_are_several():
    table = selection.over_seeds(seeded(("a", 0, 0.80, 50), ("a", 1, 0.84, 50), ("b", 0, 0.70, 60)))
    (ax,) = plots.pareto(table, "total_ram_bytes").axes
    (bars,) = [part for part in ax.collections if hasattr(part, "get_segments")]
    assert [sorted(segment[:, 1]) for segment in bars.get_segments()] == [pytest.approx([0.80, 0.84])]


def test_answer_with_4_bits_names_the_flash_of_its_c_code():
    models = SMALL_MIDDLE_LARGE.assign(measured_flash_bytes=[np.nan, np.nan, 140 * KIB])
    answers = selection.answers(models.assign(variant="int4_pointwise"), Budget())
    assert "900 KiB of flash (140 KiB as our C code), and" in tables.answer_sentences(answers)
    assert "900 KiB of flash, and" in tables.answer_sentences(selection.answers(models, Budget()))


def test_flash_of_the_c_code_is_a_cost_where_it_was_measured():
    unmeasured = SMALL_MIDDLE_LARGE.assign(measured_flash_bytes=np.nan)
    assert selection.known_costs(unmeasured) == selection.COSTS
    measured = SMALL_MIDDLE_LARGE.assign(measured_flash_bytes=[100.0, np.nan, 300.0])
    assert selection.known_costs(measured) == (*selection.COSTS, "measured_flash_bytes")


@pytest.mark.parametrize("variant", ["int8_per_tensor", "int4_pointwise"])
def test_every_variant_but_float32_is_an_int8_model(variant):
    models = SMALL_MIDDLE_LARGE.assign(variant=["float32", variant, "int8_per_channel"])
    assert selection.int8_models(models)["run_id"].tolist() == ["middle", "large"]
