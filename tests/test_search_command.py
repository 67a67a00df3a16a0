"""The command `mb search` over stand-in notebooks, and what a kill leaves behind."""

import json

import pytest
from sweeping import Search, ran, wait_for

from mbutils import cli

SPACE = """
defaults: {dataset: digits, weights: none, epochs: 4, warmup_epochs: 0.5}
grid: {alpha: [0.25, 0.5], image_size: [32, 48, 64]}
rungs: [0.5, 1]
"""
LIMITS = ("--ram-kib", 50, "--hours", 1)


@pytest.fixture(scope="module")
def search(tmp_path_factory):
    made = Search(tmp_path_factory.mktemp("search"), SPACE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def ended(search):
    """A search that was not disturbed: its results folder, its exit status, and what it printed."""
    return search.folder / "ended", *search.run(search.folder / "ended", *LIMITS)


def facts(results):
    """Returns what a search decided, and its C code."""
    (journal,) = results.glob("searches/*.json")
    kept = json.loads(journal.read_text())
    return kept["share"], kept["entered"], json.loads((results / "firmware" / "deploy.json").read_text())


def test_a_search_ends_with_the_best_model_that_fits_its_c_code_and_a_page(ended):
    results, status, out, err = ended
    assert (status, err) == (0, "")
    assert "Take 0.5 48 px rgb, int8_per_channel" in out and "The next best, 0.5 32 px rgb" in out
    _, entered, deployed = facts(results)
    assert entered == [[0, 1, 3, 4], [4, 3]]
    assert "0.5_48_rgb" in deployed["run_id"] and deployed["ram_kib"] == 50
    assert f"page: {results / 'search.html'}" in out and (results / "search.html").exists()


def test_two_of_the_four_that_fit_are_trained_to_their_end_and_the_best_is_deployed(ended):
    names = [line.rpartition(" ")[0] for line in ran(ended[0])]
    counts = {name: names.count(name) for name in names}
    of_two = {"train": 2, "convert int8_per_channel": 2, "evaluate": 2}
    assert counts == {"rung 2": 4, **of_two, "deploy int8_per_channel": 1}
    assert len(list(ended[0].glob("runs/.*.history.csv"))) == 2  # of those that were stopped, to go on if asked


@pytest.mark.slow
@pytest.mark.parametrize("notebooks", [1, 3, 5, 8, 11])
def test_a_search_that_was_killed_goes_on_and_ends_with_the_same_answer(search, ended, notebooks):
    results = search.folder / f"killed_{notebooks}"
    process = search.start(results, *LIMITS)
    wait_for(lambda: (results / "ran.txt").exists() and len(ran(results)) >= notebooks, seconds=300)
    process.kill()
    process.wait()
    status, out, err = search.run(results, *LIMITS)
    assert (status, err) == (0, "")
    assert facts(results) == facts(ended[0])
    assert out.splitlines()[-12:-3] == ended[2].splitlines()[-12:-3]  # the candidates and the answer
    assert len(ran(results)) <= len(ran(ended[0])) + 2  # two were running


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--ram-kib", 16),
            "none of the 6 models fits: the nearest, alpha 0.25, 32 px, rgb, needs C code: RAM 32.00 KiB",
        ),
        (("--ram-kib", 65536), "ram_kib: 65536 KiB are 64 MiB"),
        (("--hours", 0), "hours: 0.0 is too small"),
        (("--latency-ms", "fast"), "invalid float value: 'fast'"),
        (("--dataset", "folder"), "dataset folder needs data_dir"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(search, tmp_path, options, message):
    status, _, err = search.run(tmp_path / "results", *options)
    assert status == 2 and len(err.splitlines()) == 1 and message in err
    assert not (tmp_path / "results").exists()


def test_help_names_every_option(capsys):
    with pytest.raises(SystemExit):
        cli.main(["search", "--help"])
    out = capsys.readouterr().out
    assert all(name in out for name in ("--ram-kib", "--flash-kib", "--latency-ms", "--hours", "--data-dir", "--space"))
