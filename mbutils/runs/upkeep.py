"""What becomes of finished runs: they are listed, noted and deleted."""

import contextlib
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import Timeout

from mbutils import files
from mbutils.columns import aligned, by_name, terminal_width
from mbutils.config import INT8_VARIANTS, MOBILENET, check_text
from mbutils.errors import WorkbookError, printable
from mbutils.runs import manifest as manifests
from mbutils.runs.folder import DELETED, FLOAT32, LOGS_LOCK, Run, all_runs, remove_deleted

_NAMED = ("dataset", "alpha", "image_size", "color_mode", "seed")  # facts that are in the id too


def listing(runs: Sequence[Run]) -> str:
    """Returns runs as text for a terminal, the newest last, each with its note below.

    There are as many columns as are wide enough; those that only repeat what the id says come last.
    """
    records = sorted((run.manifest for run in runs), key=lambda manifest: manifest["finished"])
    variants = [name for name in (FLOAT32, *INT8_VARIANTS) if any(name in record["variants"] for record in records)]
    header = ["run", *variants, "trained (UTC)", *(by_name[name].axis for name in _NAMED)]
    rows = [[*_facts(record, variants)] for record in records]
    first, *lines = aligned([header, *rows], terminal_width())
    return "\n".join([first, *(line + _note(record) for line, record in zip(lines, records, strict=True))])


def _facts(manifest: dict[str, Any], variants: Sequence[str]) -> list[str]:
    named = {**manifest["parameters"], "dataset": manifest["dataset"]["name"]}
    if named.get("network", MOBILENET) != MOBILENET:
        named["alpha"] = math.nan  # it has no width multiplier
    return [
        manifest["run_id"],
        *(_accuracy(manifest["variants"].get(variant)) for variant in variants),
        manifest["finished"][:16].replace("T", " "),
        *(printable(by_name[name].text(named[name])) for name in _NAMED),
    ]


def _accuracy(variant: dict[str, Any] | None) -> str:
    if variant is None:
        return ""
    return by_name["top1"].text(variant["top1"]) if "top1" in variant else "none yet"


def _note(manifest: dict[str, Any]) -> str:
    indent = "\n    "
    lines = textwrap.wrap(printable(manifest.get("note", "")), max(20, terminal_width() - len(indent)))
    return "".join(indent + line for line in lines)


def annotate(run: Run, note: str) -> None:
    """Keeps a note of the user in the record of a run, in the place of an earlier one; an empty one removes it.

    Raises:
        WorkbookError: If it is more than a line, or cannot be written.
    """
    check_text("note", note)
    with run.changing() as manifest:
        manifest.pop("note", None)
        if note.strip():
            manifest["note"] = note.strip()


def students(results_dir: Path, run: Run) -> list[str]:
    """Returns the ids of the runs that were taught by a run."""
    others = [other.manifest for other in all_runs(results_dir)]
    return [other["run_id"] for other in others if (other.get("teacher") or {}).get("run_id") == run.run_id]


def beside_artefacts(run: Run) -> list[str]:
    """Returns what is in the folder of a run besides what its record names: notebooks, pages, C code, files of others.

    Of a damaged run, whose record cannot be read, everything is.
    """
    try:
        own = {manifests.NAME, *run.manifest["artefacts"]}
    except WorkbookError:
        own = set()
    return sorted(printable(path.name) for path in run.path.iterdir() if path.name not in own)


def delete(runs: Sequence[Run]) -> None:
    """Removes runs, damaged ones too, with all that is in their folders, and the logs of sweeps about them.

    Each goes in one step, so that it is whole or gone if this process is killed; what is left of it on the disk goes
    when somebody looks for runs again.

    Raises:
        WorkbookError: If a process works on one of them, and then all are kept; or if one cannot be removed.
    """
    with contextlib.ExitStack() as held:
        for run in runs:
            for lock in (files.lock_of(run.path), files.Lock(run.logs / LOGS_LOCK)):
                try:
                    held.enter_context(lock.acquire(timeout=0))
                except Timeout:
                    raise WorkbookError(f"a process works on run {run.run_id}: wait for its end, or stop it") from None
        for run in runs:
            _delete(run)


def _delete(run: Run) -> None:
    try:
        # The logs first: a run without them is whole.
        for path, name in ((run.logs, f".{run.run_id}.logs{DELETED}"), (run.path, f".{run.run_id}{DELETED}")):
            path.rename(run.path.with_name(name))
        Path(files.lock_of(run.path).lock_file).unlink(missing_ok=True)
    except OSError as error:
        raise WorkbookError(f"cannot remove {run.path} ({error.strerror}): check its permissions") from error
    remove_deleted(run.path.parent)
