"""One progress bar with the time left, in a notebook and in a terminal."""

import sys
from typing import Any

from tqdm import tqdm


def progress(total: int, description: str, unit: str) -> tqdm:
    """Returns a bar to `update(n)`, to give facts with `set_postfix_str`, and to use in a `with` statement.

    A saved notebook keeps its last state alone; without a terminal it says nothing.
    """
    if _in_notebook():
        return _NotebookBar(total=total, desc=description, unit=unit)
    return tqdm(total=total, desc=description, unit=unit, disable=None)


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _NotebookBar(tqdm):
    """Shows tqdm's line as one output that is updated, instead of a stream of lines or a widget that needs scripts."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        from IPython.display import display

        self._handle = display(_Line(""), display_id=True)
        super().__init__(*args, ncols=100, gui=False, **kwargs)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Replaces the line shown in the notebook; called by tqdm."""
        self._handle.update(_Line(msg if msg is not None else str(self)))

    def close(self) -> None:
        """Shows the final state, with the total time."""
        if not self.disable:
            self.disable = True
            self.display()


class _Line:
    """Text that a notebook shows in a fixed-width font."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text
