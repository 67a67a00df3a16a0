"""Executes the workbook's notebooks."""

import contextlib
import logging
import math
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mbutils.config import PROJECT
from mbutils.errors import WorkbookError
from mbutils.progress import duration
from mbutils.sweep import kernels, private

NOTEBOOKS = PROJECT / "notebooks"
_WATCH_SECONDS = 0.5


def execute(
    notebook: Path,
    output: Path,
    parameters: dict[str, Any],
    *,
    environment: dict[str, str],
    folder: Path,
    log: Path,
    preload: tuple[str, ...] = kernels.PRELOADED,
    time_limit: float,
    is_unwanted: Callable[[], bool],
) -> None:
    """Runs one notebook through papermill.

    Args:
        notebook: The notebook.
        output: Where the executed notebook is saved, also when it fails.
        parameters: The values that override its parameters cell.
        environment: Environment variables of the kernel, added to those of this process.
        folder: The kernel's working directory.
        log: The file to which what the notebook prints, and the traceback of its error, are appended.
        preload: The modules that kernels find imported.
        time_limit: The longest that it may take, in seconds from the start of its kernel.
        is_unwanted: Asked twice a second; the kernel is killed when it returns True.

    Raises:
        WorkbookError: If the notebook raises, its kernel dies, it takes too long, or nobody wants it any more.
        OSError: If the disk is full.
    """
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # the errors that it logs are raised as well
    output.parent.mkdir(parents=True, exist_ok=True)
    watch = _Watch(time_limit, is_unwanted)
    with (
        tempfile.TemporaryDirectory(dir=private.folder(), ignore_cleanup_errors=True) as own,
        log.open("a") as lines,
        # Jupyter would leave this thread's loop open. Python complains about that when it ends.
        contextlib.closing(ensure_event_loop()),
        watch.watching(),
    ):
        launch = kernels.Launch(folder, environment, log, Path(own), preload)
        try:
            papermill.execute_notebook(
                _literal(notebook),
                _literal(output),
                parameters,
                progress_bar=False,
                kernel_manager_class=kernels.manager(launch, watch.begin),
                shutdown_kernel="immediate",
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                stdout_file=lines,
                stderr_file=lines,
            )
        except papermill.PapermillExecutionError as error:
            lines.write(_without_colors("\n".join(error.traceback)) + "\n")
            message = error.evalue if error.ename == WorkbookError.__name__ else f"{error.ename}: {error.evalue}"
            raise WorkbookError(f"{notebook.stem}: {message}") from error
        except (DeadKernelError, RuntimeError) as error:  # RuntimeError: it died while it started
            raise WorkbookError(f"{notebook.stem}: {watch.cause_of_death() or error}") from error


class _Watch:
    """Watches a kernel from another thread, and kills it when there is a reason to."""

    def __init__(self, time_limit: float, is_unwanted: Callable[[], bool]) -> None:
        self._time_limit, self._is_unwanted = time_limit, is_unwanted
        self._deadline = math.inf
        self._kernel: kernels.Kernel | None = None
        self._reason = ""
        self._over = threading.Event()

    def begin(self, kernel: kernels.Kernel) -> None:
        self._kernel = kernel
        self._deadline = time.monotonic() + self._time_limit

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
            if self._kernel:
                self._kernel.kill()  # with the processes that it left behind

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_SECONDS):
            if self._is_unwanted():
                self._reason = "stopped"
            elif time.monotonic() > self._deadline:
                self._reason = f"it took longer than the limit of {duration(self._time_limit)}"
            if self._reason and self._kernel:
                self._kernel.kill()

    def cause_of_death(self) -> str:
        """Returns why the kernel ended, empty where it did not."""
        status = self._kernel and self._kernel.poll()
        if self._reason or status is None:
            return self._reason
        if status == -signal.SIGKILL:
            return "the kernel was killed, most likely because memory ran out"
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
        return f"the kernel died with {how}"


def _literal(path: Path) -> str:
    """Returns a path for papermill, which puts the values of parameters where a path has their names in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _without_colors(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
