"""Executes the workbook's notebooks."""

import contextlib
import logging
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mbutils.config import PROJECT
from mbutils.errors import WorkbookError

NOTEBOOKS = PROJECT / "notebooks"
_WATCH_SECONDS = 0.5


def execute(
    notebook: Path,
    output: Path,
    parameters: dict[str, Any],
    *,
    server: Any = None,  # noqa: ANN401
    environment: dict[str, str] | None = None,
    folder: Path | None = None,
    log: Path | None = None,
    reason_to_stop: Callable[[], str] = str,
) -> None:
    """Runs one notebook through papermill.

    Args:
        notebook: The notebook.
        output: Where the executed notebook is saved, also when it fails.
        parameters: What its parameters cell is overridden with.
        server: The `kernels.KernelServer` that its kernel starts from; one for this notebook alone, if None.
        environment: Environment variables of the kernel, besides those of this process.
        folder: The kernel's working directory (default: that of this process).
        log: A file to which what the notebook prints, and the traceback of its error, are appended.
        reason_to_stop: Asked twice a second; the kernel is killed when it returns a reason.

    Raises:
        WorkbookError: If the notebook raises, its kernel dies, or there is a reason to stop it.
        OSError: If the disk is full.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    from mbutils.sweep.kernels import KernelServer

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it logs of errors is raised as well
    output.parent.mkdir(parents=True, exist_ok=True)
    watch = _Watch(reason_to_stop)
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context((log or Path(os.devnull)).open("a"))
        server = server or stack.enter_context(KernelServer())
        stack.enter_context(watch.watching())
        try:
            papermill.execute_notebook(
                notebook,
                output,
                parameters,
                progress_bar=False,
                cwd=folder,
                kernel_manager_class=server.manager(os.environ | (environment or {}), log, watch.begin),
                shutdown_kernel="immediate",
                extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                stdout_file=lines,
                stderr_file=lines,
            )
        except papermill.PapermillExecutionError as error:
            lines.write(_without_colors("\n".join(error.traceback)) + "\n")
            said = error.evalue if error.ename == WorkbookError.__name__ else f"{error.ename}: {error.evalue}"
            raise WorkbookError(f"{notebook.stem}: {said}") from error
        except (DeadKernelError, RuntimeError) as error:  # RuntimeError: it died while it started
            raise WorkbookError(f"{notebook.stem}: {watch.cause_of_death() or error}") from error


class _Watch:
    """Watches a kernel from another thread, and kills it when there is a reason to."""

    def __init__(self, reason_to_stop: Callable[[], str]) -> None:
        self._reason_to_stop = reason_to_stop
        self._kernel: Any = None
        self._reason = ""
        self._over = threading.Event()

    def begin(self, kernel: Any) -> None:  # noqa: ANN401
        self._kernel = kernel

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_SECONDS):
            self._reason = self._reason or self._reason_to_stop()
            if self._reason and self._kernel:
                self._kernel.kill()

    def cause_of_death(self) -> str:
        """Returns why the kernel ended, empty where it did not."""
        status = self._kernel and self._kernel.returncode
        if self._reason or status is None:
            return self._reason
        if status == -signal.SIGKILL:
            return "the kernel was killed, most likely for want of memory"
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
        return f"the kernel died with {how}"


def _without_colors(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)
