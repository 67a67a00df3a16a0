"""JupyterLab as `make lab` starts it: running a notebook is no change to git."""

import contextlib
import subprocess
from pathlib import Path
from typing import Any


def saved(model: dict[str, Any], os_path: str, **_: Any) -> None:  # noqa: ANN401
    """Tells git that a notebook is unchanged, where its filter finds no difference but outputs; called after a save.

    Until a file of another size is added, `git status` takes it for a changed one without asking the filter.
    """
    path = Path(os_path)
    git, notebook = ["git", "-C", str(path.parent)], ["--", path.name]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):  # no git, no checkout, or a change
        if model["type"] == "notebook":
            subprocess.run([*git, "diff", "--quiet", *notebook], check=True, capture_output=True)
            subprocess.run([*git, "add", "--update", *notebook], check=True, capture_output=True)
