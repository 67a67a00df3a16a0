"""Inference times from operation counts: how well the fit predicts rows left out, and its estimates of new models."""

import numpy as np
import pytest

from mbutils.config import PROJECT
from mbutils.device import costs, estimates, latency, published
from mbutils.errors import WorkbookError

H7, MP1 = "STM32H747I-DISCO", "STM32MP157F-DK2"
ROWS = published.latency_rows()


@pytest.mark.parametrize(("board", "rows", "mean", "worst"), [(H7, 10, 0.10, 0.22), (MP1, 13, 0.09, 0.18)])
def test_leave_one_out_error_is_small(board, rows, mean, worst):
    errors = latency.leave_one_out(board)["error"]
    assert len(errors) == rows
    assert errors.abs().mean() <= mean
    assert errors.abs().max() <= worst


@pytest.mark.parametrize("board", [H7, MP1])
def test_leaving_one_out_means_that_the_row_is_not_seen(board):
    rows = latency.training_rows(board)
    others = rows.drop(index=0)
    relative = others[list(latency.FEATURES)].to_numpy(float) / others["latency_ms"].to_numpy()[:, None]
    unconstrained = np.linalg.lstsq(relative, np.ones(len(others)), rcond=None)[0]
    residual = np.square(relative @ np.array(latency.coefficients(board)) - 1).sum()
    assert residual >= np.square(relative @ unconstrained - 1).sum()  # the full fit is no better on the others
    in_sample = rows[list(latency.FEATURES)].to_numpy(float) @ latency.coefficients(board) / rows["latency_ms"] - 1
    assert latency.leave_one_out(board)["error"].abs().mean() > in_sample.abs().mean()


@pytest.mark.parametrize("board", [H7, MP1])
def test_coefficients_are_not_negative(board):
    assert min(latency.coefficients(board)) >= 0


def test_rows_from_external_ram_do_not_train_the_model():
    assert not latency.training_rows(H7)["fits_internal_ram"].eq(0).any()
    assert (ROWS["board"] == H7).sum() > len(latency.training_rows(H7))


@pytest.mark.parametrize("board", [H7, MP1])
def test_the_band_holds_every_published_time_even_of_rows_left_out(board):
    rows, factor = latency.leave_one_out(board), latency.error_factor(board)
    assert (rows["estimated_ms"] / factor <= rows["latency_ms"] * (1 + 1e-9)).all()
    assert (rows["latency_ms"] <= rows["estimated_ms"] * factor * (1 + 1e-9)).all()


@pytest.mark.parametrize("row", published.latency().itertuples(), ids=lambda r: f"{r.alpha}-{r.image_size}-{r.board}")
def test_the_published_times_of_mobilenet_v1_lie_in_the_band(row):
    counts = ROWS[(ROWS["architecture"] == "mobilenet_v1") & (ROWS["board"] == row.board)]
    counts = counts[(counts["alpha"] == row.alpha) & (counts["image_size"] == row.image_size)]
    estimate = latency.estimate(counts[counts["channels"] == row.channels].iloc[0], row.board)
    assert estimate.low <= row.latency_ms <= estimate.high
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
    note = "does not fit the internal RAM (448 KiB): expect it to be up to 20 % slower from external RAM"
    assert (note in estimate.note) is not fits
    assert latency.estimate(counts, MP1).fits_internal_ram is None


def test_the_note_of_an_estimate_calls_it_one():
    estimate = latency.estimate(dict.fromkeys(latency.FEATURES, 1_000_000), MP1)
    assert "estimate" in estimate.note and "factor of 1.22" in estimate.note


def test_summary_has_one_row_for_each_board():
    summary = latency.error_summary().set_index("board")
    assert list(summary.index) == list(latency.BOARDS)
    assert summary.loc[H7, "mean_error"] == pytest.approx(0.0995, abs=0.0005)
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
    for figure in ("272.96 KiB", "202.14 KiB", "2.8 % and 2.3 %", "factor of 1.22", "448 KiB", "20 % slower"):
        assert figure in text


def test_the_page_on_figures_quotes_the_errors_of_the_code():
    page = " ".join((PROJECT / "docs" / "figures.md").read_text().split())
    ram, flash = estimates.RUNTIME_RAM_ERROR, estimates.CODE_FLASH_ERROR
    small, other = ([f"{100 * error[family]:.1f} %" for error in (ram, flash)] for family in ("mobilenet_v1", "other"))
    assert f"at most {' and '.join(small)} for MobileNet v1, {' and '.join(other)} for other networks" in page
    summary = latency.error_summary()
    mean, worst = ([f"{100 * error:.1f} %" for error in summary[column]] for column in ("mean_error", "worst_error"))
    assert f"off by {' and '.join(mean)} in the mean, {' and '.join(worst)} at worst" in page
    assert f"{published.LATER_ACTIVATION_RAM_KIB} KiB for 0.25 at 224 px" in page
