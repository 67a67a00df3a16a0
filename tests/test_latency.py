"""Inference times from operation counts: how well the fit predicts rows left out, and its estimates of new models."""

import numpy as np
import pytest

from mbutils.config import EDITIONS, PROJECT
from mbutils.device import costs, estimates, fits, latency, versions
from mbutils.errors import WorkbookError

H7, MP1 = "STM32H747I-DISCO", "STM32MP157F-DK2"
MP135, MP257, N6 = "STM32MP135F-DK2", "STM32MP257F-DK2", "STM32N6570-DK"
TIMES = [(board, edition) for edition in EDITIONS for board in latency.boards(edition)]


@pytest.mark.parametrize(
    ("board", "edition", "rows", "mean", "worst"),
    [
        (H7, "1.0", 11, 0.09, 0.22),
        (MP1, "1.0", 14, 0.08, 0.18),
        (H7, "4.0", 16, 0.04, 0.08),
        (H7, "4.1", 9, 0.04, 0.11),
        (MP1, "4.0", 10, 0.06, 0.15),
        (MP135, "4.0", 9, 0.03, 0.08),
        (MP257, "4.0", 10, 0.08, 0.15),
        (N6, "4.0", 16, 0.06, 0.15),
    ],
)
def test_error_on_networks_left_out_is_small(board, edition, rows, mean, worst):
    errors = latency.leave_one_out(board, edition)["error"]
    assert len(errors) == rows
    assert errors.abs().mean() <= mean
    assert errors.abs().max() <= worst


def test_no_board_is_off_by_more_than_a_tenth_in_the_mean_in_any_edition():
    assert max(latency.error_summary(edition)["mean_error"].max() for edition in EDITIONS) <= 0.1


def test_an_edition_has_the_boards_that_were_measured_until_then():
    assert latency.boards("1.0") == (H7, MP1)
    assert latency.boards("4.1") == tuple(latency.BOARDS)
    with pytest.raises(WorkbookError, match=r"no times of STM32N6570-DK in edition 2\.1: choose a newer one"):
        latency.training_rows(N6, "2.1")


def test_the_runtime_of_the_mpu_became_twice_as_fast():
    counts = latency.training_rows(MP1).iloc[0]
    old, new = (latency.estimate(counts, MP1, edition).milliseconds for edition in ("1.0", "2.1"))
    assert 1.7 < old / new < 2.4


def test_models_of_one_network_with_other_classes_are_left_out_together():
    rows = (
        latency.leave_one_out(H7, "4.0")
        .set_index(["network", "alpha", "image_size", "channels", "n_classes"])
        .sort_index()
    )
    own = rows.loc[("mobilenet_v1", 0.25, 224, 3)]
    assert len(own) == 2
    others = rows.drop(index=("mobilenet_v1", 0.25, 224, 3))
    expected = own[list(latency.FEATURES)] @ fits.coefficients(others, latency.FEATURES, "ms")
    assert own["estimated"].tolist() == pytest.approx(expected.tolist())


def test_int8_per_tensor_is_another_model():
    assert "per-tensor" not in set(latency.training_rows(MP1, "4.0")["quantization"])


@pytest.mark.parametrize("board", [H7, MP1])
def test_leaving_one_out_means_that_the_row_is_not_seen(board):
    rows = latency.training_rows(board)
    others = rows.drop(index=0)
    relative = others[list(latency.FEATURES)].to_numpy(float) / others["ms"].to_numpy()[:, None]
    unconstrained = np.linalg.lstsq(relative, np.ones(len(others)), rcond=None)[0]
    residual = np.square(relative @ np.array(latency.coefficients(board)) - 1).sum()
    assert residual >= np.square(relative @ unconstrained - 1).sum()  # the full fit is no better on the others
    in_sample = rows[list(latency.FEATURES)].to_numpy(float) @ latency.coefficients(board) / rows["ms"] - 1
    assert latency.leave_one_out(board)["error"].abs().mean() > in_sample.abs().mean()


@pytest.mark.parametrize(("board", "edition"), TIMES)
def test_coefficients_are_not_negative(board, edition):
    assert min(latency.coefficients(board, edition)) >= 0


def test_rows_from_external_ram_do_not_train_the_model():
    assert latency.training_rows(H7)["fits_internal_ram"].eq(1).all()
    assert latency.external_ram_slowdown(H7) > 0.2


def test_rows_from_external_ram_train_the_model_of_later_editions():
    assert latency.training_rows(H7, "4.0")["fits_internal_ram"].eq(0).any()
    assert latency.external_ram_slowdown(H7, "4.0") == 0


@pytest.mark.parametrize(("board", "edition"), TIMES)
def test_the_band_holds_every_published_time_even_of_rows_left_out(board, edition):
    rows, factor = latency.leave_one_out(board, edition), latency.error_factor(board, edition)
    assert (rows["estimated"] / factor <= rows["ms"] * (1 + 1e-9)).all()
    assert (rows["ms"] <= rows["estimated"] * factor * (1 + 1e-9)).all()


@pytest.mark.parametrize(("board", "edition"), TIMES)
def test_the_published_times_of_mobilenet_v1_lie_in_the_band(board, edition):
    rows = latency.training_rows(board, edition)
    for _, row in rows[rows["network"] == "mobilenet_v1"].iterrows():
        estimate = latency.estimate(row, board, edition)
        assert estimate.low <= row["ms"] <= estimate.high
        assert estimate.low < estimate.milliseconds < estimate.high


@pytest.mark.parametrize("board", [H7, MP1])
def test_more_work_takes_longer(board):
    one = dict.fromkeys(latency.FEATURES, 1_000_000)
    two = dict.fromkeys(latency.FEATURES, 2_000_000)
    assert latency.estimate(two, board).milliseconds == pytest.approx(2 * latency.estimate(one, board).milliseconds)


@pytest.mark.parametrize(("total_kib", "fits"), [(425.43, True), (470, False)])
def test_a_model_beyond_the_internal_ram_has_a_note(total_kib, fits):
    counts = {**dict.fromkeys(latency.FEATURES, 1_000_000), "total_ram_bytes": total_kib * 1024}
    estimate = latency.estimate(counts, H7)
    assert estimate.fits_internal_ram is fits
    note = "does not fit the internal RAM (448 KiB): expect it to be up to 22 % slower from external RAM"
    assert (note in estimate.note) is not fits
    assert latency.estimate(counts, MP1).fits_internal_ram is None


def test_the_note_of_an_estimate_calls_it_one():
    estimate = latency.estimate(dict.fromkeys(latency.FEATURES, 1_000_000), MP1)
    assert "estimate" in estimate.note and "factor of 1.22" in estimate.note


def test_summary_has_one_row_for_each_board():
    summary = latency.error_summary().set_index("board")
    assert list(summary.index) == [H7, MP1]
    assert summary.loc[H7, "mean_error"] == pytest.approx(0.0883, abs=0.0005)
    assert summary.loc[MP1, "worst_error"] == pytest.approx(0.178, abs=0.0005)


def test_an_unknown_board_is_named_with_the_nearest():
    with pytest.raises(WorkbookError, match="STM32H747I-DISCO"):
        latency.estimate(dict.fromkeys(latency.FEATURES, 1), "STM32H747-DISCO")


def test_changing_a_returned_table_changes_nothing_else():
    rows = latency.leave_one_out(H7)
    rows["error"] = 9.0
    assert latency.error_factor(H7) < 2


def test_general_notes_hold_every_limit_of_the_figures():
    text = costs.general_notes()
    figures = ("272.96 KiB", "271.04 KiB", "202.14 KiB", "2.8 % and 2.3 %", "factor of 1.22", "448 KiB", "22 % slower")
    for figure in figures:
        assert figure in text


def test_the_page_on_figures_quotes_the_errors_of_the_code():
    page = " ".join((PROJECT / "docs" / "figures.md").read_text().split())
    ram, flash = estimates.RUNTIME_RAM_ERROR, estimates.CODE_FLASH_ERROR
    small, other = ([f"{100 * error[family]:.1f} %" for error in (ram, flash)] for family in ("mobilenet_v1", "other"))
    assert f"at most {' and '.join(small)} for MobileNet v1, {' and '.join(other)} for other networks" in page
    summary = latency.error_summary()
    mean, worst = ([f"{100 * error:.1f} %" for error in summary[column]] for column in ("mean_error", "worst_error"))
    assert f"off by {' and '.join(mean)} in the mean, {' and '.join(worst)} at worst" in page
    assert all(figure in page for figure in ("272.96 KiB", "271.04 KiB", "202.14 KiB"))


def quoted(errors):
    return f"{100 * errors.abs().mean():.1f}, {100 * errors.abs().max():.1f} %"


@pytest.mark.parametrize("edition", ["2.0", "2.1", "3.2", "4.0"])
def test_the_page_on_figures_quotes_the_errors_of_each_version(edition):
    columns = ("activation_ram_bytes", "code_flash_bytes", "runtime_ram_bytes")
    errors = (quoted(versions.leave_one_out(column, edition)["error"]) for column in columns)
    page = (PROJECT / "docs" / "figures.md").read_text()
    assert f"| {EDITIONS[edition]} | {' | '.join(errors)}" in page


@pytest.mark.parametrize("board", [H7, MP1, MP135, MP257, N6])
def test_the_page_on_figures_quotes_the_errors_of_each_board(board):
    page = (PROJECT / "docs" / "figures.md").read_text()
    assert f"| {quoted(latency.leave_one_out(board, '4.0')['error'])} |" in page
