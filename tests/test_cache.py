import os
import shutil
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mbutils import cli, files
from mbutils.data import cache, parallel
from mbutils.errors import WorkbookError

SHAPE = (10, 2, 2, 3)
NAME = "made_2_rgb_area_0123456789abcdef.npy"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder for images, in a cache folder of its own."""
    monkeypatch.setenv("MB_CACHE_DIR", str(tmp_path / "cache"))
    return cache.folder(cache.IMAGES)


def images(count=SHAPE[0]):
    return (np.full(SHAPE[1:], number, np.uint8) for number in range(count))


def failing(error):
    yield from images(3)
    raise error


def visible(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_images_are_made_once_and_then_read_from_disk(folder):
    made = []

    def make():
        made.append(1)
        return images()

    for _ in range(2):
        stored = cache.stored_images(folder / NAME, SHAPE, make)
        assert isinstance(stored, np.memmap) and not stored.flags.writeable
        assert stored[:, 0, 0, 0].tolist() == list(range(10))
    assert len(made) == 1
    assert visible(folder) == [NAME]


@pytest.mark.parametrize("damage", [lambda p: p.write_bytes(b""), lambda p: os.truncate(p, 150), lambda p: p.unlink()])
def test_damaged_file_is_made_again(folder, damage):
    cache.stored_images(folder / NAME, SHAPE, images)
    damage(folder / NAME)
    assert cache.stored_images(folder / NAME, SHAPE, images)[9, 0, 0, 0] == 9


@pytest.mark.parametrize("error", [WorkbookError("image 3 is unreadable"), KeyboardInterrupt()])
def test_nothing_half_made_is_left(folder, error):
    with pytest.raises(type(error)):
        cache.stored_images(folder / NAME, SHAPE, lambda: failing(error))
    assert visible(folder) == []
    assert len(cache.stored_images(folder / NAME, SHAPE, images)) == 10  # and the lock is free


def test_disk_that_fills_while_images_are_made_is_named_and_nothing_is_left(folder):
    full = OSError(28, "No space left on device")
    with pytest.raises(WorkbookError, match=r"cannot write .*No space left.*: free some space or set"):
        cache.stored_images(folder / NAME, SHAPE, lambda: failing(full))
    assert visible(folder) == []


def test_disk_that_is_too_small_is_named_before_any_work(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2_000_000_000))
    with pytest.raises(WorkbookError, match=r"14\.0 GiB are needed, and 1\.9 GiB are free"):
        cache.stored_images(folder / NAME, (100_000, 224, 224, 3), lambda: pytest.fail("worked in vain"))


def test_full_disk_of_the_system_is_an_error_not_a_crash(folder, monkeypatch):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, a device that is always full")
    monkeypatch.setattr(cache.Path, "replace", lambda self, target: pytest.fail("a full disk was not noticed"))
    folder.mkdir(parents=True)
    partial = folder / f".{Path(NAME).stem}.{os.getpid()}.npy"
    partial.symlink_to("/dev/full")
    with pytest.raises(WorkbookError, match="No space left on device"):
        cache.stored_images(folder / NAME, SHAPE, images)


def test_two_builders_at_once_do_the_work_once(folder, capsys):
    made, results = [], []

    def slowly():
        made.append(1)
        for image in images():
            time.sleep(0.02)  # long enough for the other threads to find the lock taken
            yield image

    def build():
        results.append(cache.stored_images(folder / NAME, SHAPE, slowly))

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert [result[9, 0, 0, 0] for result in results] == [9, 9, 9]
    assert f"waiting for another process that makes {NAME}" in capsys.readouterr().err


FOREIGN = ("holiday.npy", "index_folder_x.csv", f".{Path(NAME).stem}.99.npy", "untrained/a.tflite")


def fill(folder):
    cache.stored_images(folder / NAME, SHAPE, images)
    ours = [
        cache.folder(cache.TEACHER_SCORES) / "0123456789abcdef.npy",
        cache.folder(cache.INDEX) / "folder_x.csv",
        cache.folder(cache.UNTRAINED) / "a.tflite",
        cache.folder(cache.BENCHMARK) / "digits/train/0/1.jpg",
        folder / f".{Path(NAME).stem}.99.npy",
    ]
    for path in [*ours, *(folder.parent / name for name in FOREIGN)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"12345")


def test_list_shows_what_is_kept_and_changes_nothing(folder, capsys):
    fill(folder)
    for options in ([], ["--list"]):
        assert cli.main(["cache", *options]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert f"images: {NAME}" in lines[0]
        assert len(lines) == 7 and "holiday" not in "".join(lines)
        assert lines[-1].endswith(f"273 bytes in {folder.parent}, times are UTC")
    assert (folder / NAME).exists()


def test_clear_removes_the_workbooks_own_and_nothing_else_whatever_its_name(folder, capsys):
    fill(folder)
    reader = np.load(folder / NAME, mmap_mode="r")
    assert cli.main(["cache", "--clear"]) == 0
    assert "removed 6 of 6" in capsys.readouterr().out
    left = [path for path in folder.parent.rglob("*") if path.is_file()]
    assert sorted(left) == sorted(folder.parent / name for name in FOREIGN)
    assert reader[9, 0, 0, 0] == 9


def test_clear_keeps_what_a_process_is_making(folder, capsys):
    fill(folder)
    with files.locked(folder / NAME):
        assert cli.main(["cache", "--clear"]) == 0
    text = capsys.readouterr().out
    assert "removed 4 of 6" in text and f"images: {NAME}" in text
    assert (folder / NAME).exists() and (folder / f".{Path(NAME).stem}.99.npy").exists()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (3 * 2**20, "3.0 MiB"),
        (2**51, "2,048.0 TiB"),
    ],
)
def test_sizes_are_in_a_unit_that_says_something(count, text):
    assert files.size(count) == text


def test_cache_that_is_not_there_is_empty(folder, capsys):
    assert cli.main(["cache"]) == 0 and cli.main(["cache", "--clear"]) == 0
    assert "0 bytes in" in capsys.readouterr().out
    assert not folder.parent.exists()


def test_list_and_clear_together_are_refused(folder, capsys):
    assert cli.main(["cache", "--list", "--clear"]) == 2
    assert "--clear: not allowed with argument --list" in capsys.readouterr().err


def test_ordered_map_keeps_order_and_works_ahead_by_a_bounded_number():
    started, taken = [], []

    def items():
        for number in range(1000):
            started.append(number)
            yield number

    for result in parallel.ordered_map(lambda number: number * 2, items()):
        taken.append(result)
        assert len(started) - len(taken) < 8 * parallel.available_cores()
    assert taken == [2 * number for number in range(1000)]


def test_who_asks_for_more_of_a_budget_than_is_free_waits_and_for_more_than_there_is_gets_all():
    budget, log = parallel.Budget(10), []

    def take(amount):
        with budget.taken(amount):
            log.append(amount)

    with budget.taken(6):
        large = threading.Thread(target=take, args=(99,))
        large.start()
        take(4)
        large.join(0.05)
        assert log == [4]
    large.join()
    take(10)
    assert log == [4, 99, 10]


def test_ordered_map_raises_in_turn_and_drops_the_rest():
    def invert(number):
        return 1 / number

    results = parallel.ordered_map(invert, [1, 2, 0, 4])
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)
