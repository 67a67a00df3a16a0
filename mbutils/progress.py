"""One progress bar with the time left, in a notebook and in a terminal, whose state can be followed in a file."""

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mbutils.errors import WorkbookError
from mbutils.files import atomic_write

IS_PROGRESS = "is_progress"  # in the metadata of an output of a notebook: pages leave it out
PROGRESS_FILE = "MB_PROGRESS_FILE"  # the environment variable that names the file for the state of a notebook's bar


def progress(total: int, description: str, unit: str, initial: int = 0) -> tqdm:
    """Returns a bar for a `with` statement: `update(n)` advances it, and `set_postfix_str` sets its note.

    It begins at `initial`, for work that continues. A saved notebook keeps its last state only. Outside notebooks and
    terminals nothing is shown.
    """
    if _in_notebook():
        return _NotebookBar(total=total, desc=description, unit=unit, initial=initial)
    return tqdm(total=total, desc=description, unit=unit, initial=initial, disable=None)


def duration(seconds: float) -> str:
    """Returns a duration in words, such as "2 h 05 min", "12 min" or "40 s"."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _NotebookBar(tqdm):
    """Shows tqdm's line as one output that is updated, instead of a stream of lines or a widget that needs scripts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        from IPython.display import display

        self._handle = display(_Line(""), display_id=True, metadata={IS_PROGRESS: True})
        super().__init__(*args, ncols=100, gui=False, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Replaces the line shown in the notebook; called by tqdm."""
        self._handle.update(_Line(msg if msg is not None else str(self)), metadata={IS_PROGRESS: True})
        if file := os.environ.get(PROGRESS_FILE):
            _write(self.format_dict, Path(file))

    def close(self) -> None:
        """Shows the final state, with the total time."""
        if not self.disable:
            self.disable = True
            self.display()


def _write(state: dict[str, Any], file: Path) -> None:
    """Writes the description of a bar, how far it is, its note, and the seconds left."""
    done = state["n"] - state["initial"]
    left = (state["total"] - state["n"]) * state["elapsed"] / done if done else None
    written = {name: state[name] for name in ("unit", "n", "total")}
    written |= {"what": state["prefix"], "note": state["postfix"], "left": left}
    # A training does not stop because its progress cannot be written.
    with contextlib.suppress(WorkbookError), atomic_write(file) as partial:
        partial.write_text(json.dumps(written))


class _Line:
    """Text that a notebook shows in a fixed-width font."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text
