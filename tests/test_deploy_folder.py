"""The folder of C code: deploying again loses nothing of the user's, whenever it is stopped."""

import hashlib
import json
import os
import signal
import sys

import pytest

from mbutils import files
from mbutils.config import full_path
from mbutils.deploy import folder
from mbutils.errors import WorkbookError


def contents(edition):
    return {name: f"{name}, {edition} edition".encode() for name in folder.generated()}


def tree(path):
    """What lies in a folder: the contents of files, and where links lead."""
    return {
        str(one.relative_to(path)): str(one.readlink()) if one.is_symlink() else one.is_file() and one.read_bytes()
        for one in path.rglob("*")
    }


@pytest.fixture
def out(tmp_path):
    """A deployment in which a user has built and added files."""
    path = tmp_path / "firmware" / "network"
    folder.write(path, contents("first"), {"edition": 1})
    (path / "build" / "host").mkdir(parents=True)
    (path / "build" / "host" / "network").write_bytes(b"\x7fELF")
    (path / "build" / "main.c").write_text("not the one that deploy wrote")
    (path / "my_main.c").write_text("mine")
    (path / "my_main.c").chmod(0o600)
    (path / "latest").symlink_to("build/host")
    (path / "gone").symlink_to("nowhere")
    os.mkfifo(path / "pipe")
    return path


USER_FILES = {"build", "build/host", "build/host/network", "build/main.c", "my_main.c", "latest", "gone", "pipe"}


def deployed(path):
    """Returns which edition a folder holds, where it holds one whole and all that the user added."""
    facts = json.loads((path / folder.FACTS).read_text())
    found = tree(path)
    edition = {1: "first", 2: "second"}[facts["edition"]]
    expected = contents(edition)
    assert {name: found[name] for name in expected} == expected
    assert facts["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in expected.items()}
    assert found.keys() == {*expected, folder.FACTS, *USER_FILES}
    assert (found["my_main.c"], found["build/host/network"]) == (b"mine", b"\x7fELF")
    assert (found["latest"], found["gone"]) == ("build/host", "nowhere")
    assert found["build/main.c"] == b"not the one that deploy wrote"
    assert (path / "pipe").is_fifo() and (path / "my_main.c").stat().st_mode & 0o777 == 0o600
    return edition


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("in_one_step", [True, False])
def test_what_the_user_added_stays(out, force, in_one_step, monkeypatch):
    if not in_one_step:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    folder.write(out, contents("second"), {"edition": 2}, force)
    assert deployed(out) == "second"
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_files_are_copied_where_the_file_system_has_no_hard_links(out, monkeypatch):
    (out / "pipe").unlink()
    before = tree(out)
    monkeypatch.setattr(os, "link", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "not permitted")))
    folder.write(out, contents("second"), {"edition": 2})
    kept = {name: content for name, content in tree(out).items() if name in USER_FILES}
    assert kept == {name: content for name, content in before.items() if name in USER_FILES}
    os.mkfifo(out / "pipe")
    with pytest.raises(WorkbookError, match=r"cannot keep .*/pipe: move it elsewhere"):
        folder.write(out, contents("first"), {"edition": 1})
    assert json.loads((out / folder.FACTS).read_text())["edition"] == 2 and (out / "pipe").is_fifo()


EDITS = {
    "edited": lambda path: path.write_text("mine"),
    "a link": lambda path: (path.unlink(), path.symlink_to("my_main.c")),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_edited_files_are_refused_by_name_and_replaced_when_told_to(out, edit):
    edit(out / "main.c")
    before = tree(out)
    with pytest.raises(WorkbookError, match=r"network holds edited files \(main.c\): .* --force") as error:
        folder.write(out, contents("second"), {"edition": 2})
    assert "\n" not in str(error.value) and tree(out) == before
    folder.write(out, contents("second"), {"edition": 2}, force=True)
    assert deployed(out) == "second"


def test_a_folder_of_the_user_in_place_of_a_file_is_never_lost(out):
    (out / "main.c").unlink()
    (out / "main.c").mkdir()
    (out / "main.c" / "mine").write_text("mine")
    before = tree(out)
    for force in (False, True):
        with pytest.raises(WorkbookError, match=r"main\.c"):
            folder.write(out, contents("second"), {"edition": 2}, force)
        assert tree(out) == before


def test_few_of_many_edited_files_are_named(out):
    for name in folder.generated():
        (out / name).write_text("mine")
    more = len(folder.generated()) - 3
    with pytest.raises(WorkbookError, match=f"\\(Makefile, README.md, board.h and {more} more\\)"):
        folder.check_target(out)


def test_deleted_files_come_back(out):
    (out / "main.c").unlink()
    folder.write(out, contents("second"), {"edition": 2})
    assert deployed(out) == "second"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "listed",
    [
        {"keep.me": hashlib.sha256(b"mine").hexdigest()},
        {"../keep.me": hashlib.sha256(b"mine").hexdigest(), "/etc/hostname": ""},
        {"keep.me": 3, "main.c": ["a"], "build": None},
        ["keep.me", "main.c"],
        "keep.me",
        None,
    ],
    ids=str,
)
def test_a_record_that_lists_other_files_deletes_none(out, listed, force):
    for path in (out / "keep.me", out.parent / "keep.me"):
        path.write_text("mine")
    (out / folder.FACTS).write_text(json.dumps({"files": listed}))
    before = tree(out.parent)
    if force and isinstance(listed, dict):
        folder.write(out, contents("second"), {"edition": 2}, force)
    else:
        with pytest.raises(WorkbookError) as error:
            folder.write(out, contents("second"), {"edition": 2}, force)
        assert "\n" not in str(error.value) and tree(out.parent) == before
    assert (out / "keep.me").read_text() == (out.parent / "keep.me").read_text() == "mine"


@pytest.mark.parametrize(
    "record",
    [b"", b"mine", b"\xff\xfe", b"[]", b"{}", b"7", b"[" * 100_000, b'{"files": ' + b"7" * 6000 + b"}", b" " * 2**24],
    ids=lambda record: repr(record[:10]),
)
def test_a_record_that_is_none_is_refused(out, record):
    (out / folder.FACTS).write_bytes(record)
    before = tree(out)
    for force in (False, True):
        with pytest.raises(WorkbookError, match=r"deploy\.json does not list the files of a deployment") as error:
            folder.write(out, contents("second"), {"edition": 2}, force)
        assert "\n" not in str(error.value)
    assert tree(out) == before


def test_a_pipe_as_record_is_refused_at_once(out):
    (out / folder.FACTS).unlink()
    os.mkfifo(out / folder.FACTS)
    with pytest.raises(WorkbookError, match=r"deploy\.json does not list the files"):
        folder.check_target(out, force=True)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("name", ["notes.txt", "main.c", ".git"])
def test_a_folder_with_other_files_and_no_record_is_refused(tmp_path, name, force):
    (tmp_path / name).write_text("mine")
    with pytest.raises(WorkbookError, match=f"holds other files \\({name}\\)"):
        folder.write(tmp_path, contents("first"), {}, force)
    assert tree(tmp_path) == {name: b"mine"}


@pytest.mark.parametrize("path", ["HERE/main.c/c", "HERE/loop/c", "/proc/mine"])
def test_a_folder_that_cannot_be_made_is_named(out, path):
    (out / "loop").symlink_to("loop")
    path = full_path(path.replace("HERE", str(out)))
    with pytest.raises(WorkbookError, match=f"^cannot write {path} .* choose another output folder$"):
        folder.write(path, contents("first"), {})


def test_the_working_directory_is_not_replaced(out, monkeypatch):
    monkeypatch.chdir(out / "build")
    with pytest.raises(WorkbookError, match="holds the working directory: run the command elsewhere"):
        folder.check_target(out)


@pytest.mark.parametrize("stride", [10, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_kill_at_any_step_leaves_the_old_folder_or_the_new_one(out, in_one_step, stride, monkeypatch):
    """Each try is killed some steps later, and must leave one edition whole; the next one goes on from there."""
    if not in_one_step:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    seen, editions = [], {"first": ("second", 2), "second": ("first", 1)}
    for step in range(0, 1000, stride):
        before = deployed(out)
        name, number = editions[before]
        if not _killed_at(step, lambda: folder.write(out, contents(name), {"edition": number})):  # noqa: B023
            break
        if not in_one_step:
            files.finish_replacing(out)
        seen.append(deployed(out) == before)
    assert True in seen and (False in seen or stride > 1) and len(seen) > 100 / stride
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def _killed_at(step, write):
    """Calls a function in a process that is killed at a step, which is a call of the file system, if it gets there."""
    steps = iter(range(step))

    def count(event, _):
        is_step = event == "open" or (event.startswith(("os.", "shutil.")) and event != "os.kill")
        if is_step and next(steps, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    status = _forked(lambda: (sys.addaudithook(count), write()))()
    assert status in (0, -signal.SIGKILL)
    return status != 0


def _forked(function):
    """Calls a function in another process; returns what waits for its exit status."""
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return lambda: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_deployments_into_one_folder_at_the_same_time_wait_for_each_other(out):
    def deploy_often(edition, number):
        for _ in range(10):
            folder.write(out, contents(edition), {"edition": number})

    waits = [_forked(lambda one=one: deploy_often(*one)) for one in (("first", 1), ("second", 2)) * 2]
    assert [wait() for wait in waits] == [0] * 4
    assert deployed(out) and [path.name for path in out.parent.iterdir()] == [out.name]
