"""YAML as users write it: what is odd is named in one line, and nothing takes long or much memory."""

import pytest

from mbutils.config import read_yaml
from mbutils.errors import WorkbookError

BOMB = "a0: &a0 [1, 1]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))


@pytest.fixture
def read(tmp_path):
    def read_text(content):
        path = tmp_path / "a.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_yaml(path, "a recipe")

    return read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("{a: 1, b: 0.5, c: true, d: text, e: [1, two]}", {"a": 1, "b": 0.5, "c": True, "d": "text", "e": [1, "two"]}),
        ("2026-11-24", "2026-11-24"),
        ("base: &base {a: 1, b: 2}\nnew: {<<: *base, b: 3}", {"base": {"a": 1, "b": 2}, "new": {"a": 1, "b": 3}}),
    ],
)
def test_plain_values_are_read(read, text, value):
    assert read(text) == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{a: 1, a: 2}", "'a' occurs twice"),
        ("[1, {b: {a: 1, a: 1}}]", "'a' occurs twice"),
        ("a: [", "is not a YAML file"),
        ("a: !!int abc", "is not a YAML file"),
        ("a: 0b_", "is not a YAML file"),
        ("a: " + "9" * 5000, "is not a YAML file"),
        ("a: 0x" + "f" * 5000, "a number has more than 63 bits"),
        ('a: "\\ud800"', "is not a YAML file"),
        ("a: !!python/object/apply:os.system [id]", "is not a YAML file"),
        ("a: !!binary aGk=", "is not a YAML file"),
        ("a: !!timestamp 2026-11-24", "is not a YAML file"),
        ("? {a: 1}\n: 2", "is not a YAML file"),
        ("a: 1\n---\nb: 2", "is not a YAML file"),
        ("&a [*a]", "a value within itself"),
        (BOMB, "more than 100,000 values"),
        ("[" * 3000 + "]" * 3000, "is nested too deeply"),
        (b"\xff\xfe\xfa", "is not a YAML file"),
        ("a: \x00", "is not a YAML file"),
        ("#" * 1_000_001, "is larger than 1,000,000 bytes"),
    ],
)
def test_odd_yaml_is_named_in_one_line(read, content, message):
    with pytest.raises(WorkbookError, match=message) as caught:
        read(content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_folder_is_not_a_yaml_file(tmp_path):
    with pytest.raises(WorkbookError, match=r"cannot read .*Is a directory.*: give the path of a recipe"):
        read_yaml(tmp_path, "a recipe")
