"""Bad input by the hundred at every door: an answer or one line, exit status 0, 1 or 2, and nothing left behind."""

import contextlib
import io
import json
import tempfile
from dataclasses import fields

import numpy as np
import pytest
import yaml
from bad_values import SCALARS, TEXTS, VALUES, damaged, with_odd_parts, with_snippets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_records import finished, rewrite

from mbutils import cli, config, runs
from mbutils.data import datasets
from mbutils.deploy import folder as deployed
from mbutils.errors import WorkbookError
from mbutils.files import sha256
from mbutils.model.weights import read_model
from mbutils.report import pictures, review, selection
from mbutils.sweep import records

pytestmark = pytest.mark.slow

DOORS = {}  # by name: how many inputs are tried, and the function that returns their strategy and what tries one
KINDS = [kind for kind in config.Parameters.__subclasses__() for kind in (kind, *kind.__subclasses__())]
PICTURES = (pictures.one_of_each_class, pictures.surest_errors, pictures.confused, pictures.changed_by_int8)
NAMES = sorted({spec.name for kind in KINDS for spec in fields(kind)})


def door(examples):
    def register(function):
        DOORS[function.__name__] = examples, function
        return function

    return register


class World:
    """A folder with a finished run, and what is needed to try bad input on it."""

    def __init__(self, folder, digits, tiny_results):
        self.folder, self.results, self.tiny = folder, folder / "results", tiny_results
        self.run = finished(digits, self.results, seed=0)
        finished(digits, self.results, seed=1)

    def mb(self, *arguments):
        """Runs `mb`, and sees that it answers as it should."""
        before = self.contents()
        err = io.StringIO()
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            try:
                status = cli.main([str(argument) for argument in arguments])
            except SystemExit as stop:  # argparse
                status = stop.code
        lines = err.getvalue().splitlines()
        assert status in (0, 1, 2), lines
        assert len([line for line in lines if "error:" in line]) == (status == 2), lines
        assert "Traceback" not in err.getvalue() and max(map(len, lines), default=0) < 10_000
        assert self.contents() == before

    def contents(self):
        return {path for path in self.folder.rglob("*") if not path.name.endswith(".lock")}

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content)
        return path


@pytest.fixture(scope="module")
def world(digits, tiny_results, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield World(folder, digits, tiny_results)
    tempfile.tempdir = before


@door(150)
def parameters(world):
    def attempt(kind_and_values):
        kind, values = kind_and_values
        with contextlib.suppress(WorkbookError):
            made = kind.from_dict(values)
            json.dumps(vars(made), allow_nan=False).encode()

    return st.sampled_from(KINDS).flatmap(_kind_and_values), attempt


def _kind_and_values(kind):
    names = st.sampled_from([spec.name for spec in fields(kind)])
    return st.tuples(st.just(kind), st.dictionaries(names, VALUES, min_size=1, max_size=2))


def _sweep_texts():
    parts = st.dictionaries(st.sampled_from(NAMES) | TEXTS, SCALARS | VALUES, max_size=2)
    content = st.fixed_dictionaries(
        {"defaults": parts.map(lambda some: {"dataset": "digits", "weights": "none"} | some)},
        optional={
            "grid": st.dictionaries(st.sampled_from(NAMES), st.lists(SCALARS, max_size=3) | VALUES, max_size=2),
            "runs": st.lists(parts, max_size=2) | VALUES,
            "seeds": st.lists(st.integers(0, 5), max_size=3) | VALUES,
            "include": VALUES,
            "notebooks": st.lists(st.sampled_from(("train", "convert", "trian"))) | VALUES,
        },
    )
    return (content | VALUES).map(yaml.safe_dump).flatmap(with_snippets)


@door(150)
def sweep_files(world):
    def attempt(content):
        world.mb("sweep", world.write("sweep.yaml", content), "--results-dir", world.results, "--dry-run")

    return _sweep_texts(), attempt


@door(50)
def recipes(world):
    file = world.write("sweep.yaml", b"")

    def attempt(use_and_content):
        use, content = use_and_content
        recipe = str(world.write("recipe.yaml", content))
        use = {"include": recipe} if use == "include" else {"defaults": {"dataset": "digits", use: recipe}}
        file.write_text(yaml.safe_dump(use))
        world.mb("sweep", file, "--results-dir", world.results, "--dry-run")

    values = st.dictionaries(st.sampled_from(NAMES), SCALARS, max_size=3).map(yaml.safe_dump).flatmap(with_snippets)
    return st.tuples(st.sampled_from(["include", "recipe", "teacher", "weights"]), values), attempt


@door(80)
def command_lines(world):
    sweep = world.write("sweep.yaml", b"defaults: {dataset: digits}")
    model = next(world.tiny.glob("runs/*/int8_per_channel.tflite"))
    commands = {
        ("sweep", sweep, "--dry-run"): (
            "workers",
            "threads",
            "time-limit",
            "seeds",
            "scheduler",
            "tls-ca",
            "results-dir",
        ),
        ("status",): ("results-dir",),
        ("footprint", model): ("alpha", "image-size", "color-mode", "n-classes"),
        ("deploy", "no_such_run"): ("variant", "out", "streamed-layers", "vectors", "ram-kib", "results-dir"),
        ("evaluate", "no_such_run"): ("dataset", "data-dir", "part", "batch-size", "image-size", "class-order"),
        ("render", "no_such.ipynb"): ("out",),
    }
    choices = [(command, option) for command, options in commands.items() for option in options]

    def attempt(choice_and_value):
        (command, option), value = choice_and_value
        world.mb(*command, f"--{option}={value}")

    return st.tuples(st.sampled_from(choices), SCALARS.filter(_is_argument)), attempt


def _is_argument(value):
    """Returns whether a process can get it as an argument: any bytes but null."""
    with contextlib.suppress(UnicodeEncodeError):
        return ("\0" not in str(value) and bool(str(value).encode(errors="surrogateescape"))) or value == ""
    return False


@door(80)
def manifests(world):
    file = world.run.path / "manifest.json"
    valid = file.read_bytes()

    def attempt(content):
        file.write_bytes(content)
        try:
            _review(world.results)
            world.mb("status", "--results-dir", world.results)
            world.mb("deploy", world.run.run_id, "--results-dir", world.results, "--ram-kib=-1")
        finally:
            file.write_bytes(valid)

    return with_odd_parts(json.loads(valid)) | damaged(valid), attempt


def _review(results_dir):
    """Makes what a report shows of a results folder."""
    table = runs.results_table(results_dir)
    runs.damaged(results_dir), runs.unfinished(results_dir)
    models = selection.over_seeds(table)
    selection.choose(table, config.Budget()), selection.pareto_models(models)
    int8 = selection.int8_models(models)
    for look in (review.histories, review.provenance, review.made_by):
        look(results_dir, table, *[models] * (look is review.histories))
    for look in (review.confusions, review.calibrations, review.findings_by_run, *PICTURES):
        look(results_dir, int8)


@door(50)
def records_of_stages(world):
    key = f"{world.run.run_id}/train"
    records.write(world.results, key, records.running(1))
    json_file, bar = (records.path(world.results, key, suffix) for suffix in (".json", ".progress"))
    valid = {json_file: json_file.read_bytes()}
    valid[bar] = b'{"unit": "epoch", "n": 1, "total": 4, "what": "train", "note": "", "left": 3.5}'

    def attempt(which_and_content):
        which, content = which_and_content
        for file, intact in valid.items():
            file.write_bytes(content if file == which else intact)
        world.mb("status", "--results-dir", world.results)

    choices = [st.tuples(st.just(f), with_odd_parts(json.loads(v)) | damaged(v)) for f, v in valid.items()]
    return st.one_of(choices), attempt


@door(60)
def artefacts(world):
    names = [
        "history.csv",
        "predictions_float32.npz",
        "predictions_int8_per_channel.npz",
        "test_images.npz",
    ]
    valid = {name: (world.run.path / name).read_bytes() for name in ["manifest.json", *names]}

    def attempt(damage):
        name, content, is_recorded = damage
        (world.run.path / name).write_bytes(content)
        if is_recorded:  # as if it had been written so
            facts = {"sha256": sha256(world.run.path / name), "bytes": len(content)}
            rewrite(world.run.path / "manifest.json", lambda manifest: manifest["artefacts"].update({name: facts}))
        try:
            with contextlib.suppress(WorkbookError):
                _review(world.results)
        finally:
            for name, content in valid.items():
                (world.run.path / name).write_bytes(content)

    choices = [st.tuples(st.just(name), damaged(valid[name]), st.booleans()) for name in names]
    return st.one_of(choices), attempt


@door(50)
def notebooks(world):
    (source,) = world.tiny.glob("runs/*/train.ipynb")
    valid = json.loads(source.read_text())
    valid["cells"] = valid["cells"][:12]
    file, html = world.write("a.ipynb", b""), world.write("a.html", b"<!doctype html>")

    def attempt(content):
        file.write_bytes(content)
        world.mb("render", file)
        html.write_bytes(b"<!doctype html>")

    return with_odd_parts(valid) | damaged(json.dumps(valid).encode()), attempt


@door(30)
def deployments(world):
    out = world.folder / "out"
    out.mkdir(exist_ok=True)
    valid = {"run_id": "a", "files": {"network.c": "a" * 64}}
    mine = world.write("out/mine.c", b"mine")

    def attempt(content):
        (out / "deploy.json").write_bytes(content)
        with contextlib.suppress(WorkbookError):
            deployed.check_target(out)
        assert mine.read_bytes() == b"mine"

    return with_odd_parts(valid) | damaged(json.dumps(valid).encode()), attempt


@door(40)
def images(world):
    photos = world.folder / "photos"
    rng = np.random.default_rng(0)
    for number in range(20):
        path = photos / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path)
    pictures = [path.read_bytes() for path in (photos / "a").iterdir()][:2]
    jpeg = io.BytesIO()
    Image.open(io.BytesIO(pictures[0])).save(jpeg, "jpeg")

    def attempt(content):
        (photos / "a" / "bad.jpg").write_bytes(content)
        for skip in (False, True):
            with contextlib.suppress(WorkbookError):
                datasets.load(config.DataParameters(dataset="folder", data_dir=str(photos), skip_corrupt=skip))

    return damaged(pictures[0]) | damaged(jpeg.getvalue()), attempt


@door(15)
def keras_files(world):
    (source,) = world.tiny.glob("runs/*/model.keras")
    valid = source.read_bytes()

    def attempt(content):
        with contextlib.suppress(WorkbookError):
            read_model(world.write("model.keras", content))

    return damaged(valid), attempt


@pytest.mark.parametrize("name", DOORS)
def test_bad_input_gets_an_answer_or_one_line(world, name):
    examples, function = DOORS[name]
    strategy, attempt = function(world)
    tried = []

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),  # documents are large, and a command takes a moment
    )
    @given(strategy)
    def every(value):
        tried.append(value)
        attempt(value)

    before = world.contents()
    every()
    assert len(tried) >= examples
    assert {path for path in world.contents() - before if path.name.startswith((".", "mb-", "tmp"))} == set()


def test_there_are_at_least_400_of_them():
    assert sum(examples for examples, _ in DOORS.values()) >= 400
