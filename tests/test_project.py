"""What holds the project together: its layout, its dependencies, its lock file."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from mbutils import columns
from mbutils.config import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text())
# Each module imports only from those before it.
LAYERS = [
    "errors",
    "files",
    "backend",
    "progress",
    "config",
    "columns",
    "tflite",
    "device",
    "data",
    "model",
    "evaluation",
    "quantization",
    "runs",
    "deploy",
    "report",
    "explore",
    "sweep",
    "search",
    "cli",
]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "mbutils":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mbutils."):
            yield node.module.split(".")[1]


def module_files():
    package = PROJECT / "mbutils"
    return [path for path in sorted(package.rglob("*.py")) if path != package / "__init__.py"]


@pytest.mark.parametrize("path", module_files(), ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_go_one_way(path):
    module = path.relative_to(PROJECT / "mbutils").parts[0].removesuffix(".py")
    below = LAYERS[: LAYERS.index(module) + 1]
    assert set(imported_modules(path)) <= set(below)


@pytest.mark.parametrize(("library", "room"), [("ai_edge_litert", "tflite"), ("jinja2", "deploy")])
def test_a_library_is_used_in_one_room(library, room):
    users = {path for path in module_files() if re.search(rf"^\s*(from|import) {library}\b", path.read_text(), re.M)}
    assert {path.relative_to(PROJECT / "mbutils").parts[0] for path in users} == {room}


def test_environment_yml_is_the_dependencies_of_pyproject():
    environment = yaml.safe_load((PROJECT / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert pip[0] == "--constraint requirements.lock" and pip[-1] == "--editable ."
    assert [Requirement(line) for line in pip[1:-1]] == [Requirement(x) for x in PYPROJECT["project"]["dependencies"]]
    (python,) = (entry for entry in environment["dependencies"] if str(entry).startswith("python="))
    assert SpecifierSet(PYPROJECT["project"]["requires-python"]).contains(python.removeprefix("python="))


def test_lock_file_satisfies_pyproject_and_names_no_host():
    text = (PROJECT / "requirements.lock").read_text()
    assert "://" not in text and "index" not in text
    locked = {}
    for requirement in (Requirement(line) for line in text.splitlines() if line):
        locked.setdefault(requirement.name, []).append(requirement)
    project = PYPROJECT["project"]
    for wanted in map(Requirement, project["dependencies"] + project["optional-dependencies"]["dev"]):
        for requirement in locked[wanted.name]:
            (pin,) = requirement.specifier
            assert pin.operator == "==" and wanted.specifier.contains(pin.version)


def test_gpu_extra_is_tensorflow_with_cuda():
    (extra,) = map(Requirement, PYPROJECT["project"]["optional-dependencies"]["gpu"])
    (cpu,) = (r for r in map(Requirement, PYPROJECT["project"]["dependencies"]) if r.name == "tensorflow")
    assert extra.extras == {"and-cuda"} and extra.specifier == cpu.specifier


def test_light_commands_do_not_import_tensorflow():
    code = "import sys; from mbutils import cli; cli._parser().format_help(); print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_data_dictionary_is_made_from_the_columns():
    text = (PROJECT / "results" / "README.md").read_text()
    assert columns.with_dictionaries(text) == text


@pytest.mark.parametrize("column", columns.RESULTS, ids=lambda column: column.name)
def test_every_column_of_the_results_has_a_label_and_a_meaning(column):
    assert column.label and column.meaning
