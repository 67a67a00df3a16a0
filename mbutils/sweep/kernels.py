"""Kernels that start at once: forked from a process that has imported what the notebooks import.

Importing TensorFlow takes seconds, a fork takes milliseconds, and each kernel still has a process of its own. The
process that they are forked from is the fork server of `multiprocessing`. A kernel ends when the process that started
it does, however suddenly.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

from mbutils.sweep import private

PRELOADED = ("mbutils.sweep.preloaded",)
_CONTEXT = multiprocessing.get_context("forkserver")
_LOCK = threading.Lock()  # a process is started, and asked whether it ended, by one thread at a time


@dataclass(frozen=True)
class Launch:
    """How a kernel is started.

    Attributes:
        folder: Its working directory.
        environment: Environment variables, added to those of this process.
        log: The file to which what native code prints is appended.
        private: A folder for its sockets and temporary files, in `private.folder()`.
        preload: The modules that the process it is forked from imports. The first launch decides for all later ones.
    """

    folder: Path
    environment: dict[str, str]
    log: Path
    private: Path
    preload: tuple[str, ...] = PRELOADED


class Kernel:
    """The process of one kernel, with the methods of `subprocess.Popen` that Jupyter needs."""

    stdin = stdout = stderr = None

    def __init__(self, launch: Launch, arguments: list[str]) -> None:
        environment = os.environ | launch.environment | {"TMPDIR": str(launch.private)}
        self._process = _CONTEXT.Process(target=_become_kernel, args=(launch, arguments, environment))
        _CONTEXT.set_forkserver_preload(list(launch.preload))
        # Libraries read the number of their threads when the fork server imports them, which has the folder of all.
        with _LOCK, _environment_set(launch.environment | {"TMPDIR": str(private.folder())}):
            self._process.start()
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Returns None while the process lives, then its exit code, or the negative number of the signal it died of."""
        with _LOCK:
            return self._process.exitcode

    def wait(self) -> int:
        """Waits for the end of the process and returns what `poll` does."""
        while (status := self.poll()) is None:
            time.sleep(0.05)
        return status

    def send_signal(self, number: int) -> None:
        """Sends a signal to the kernel; one that has ended takes none."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills the kernel and the processes it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


def manager(launch: Launch, started: Callable[[Kernel], None]) -> type[AsyncKernelManager]:
    """Returns a class of kernel managers for nbclient, to start one kernel.

    Args:
        launch: How it is started.
        started: Called with the kernel as soon as it has a process.
    """

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
            self.process = Kernel(launch, cmd[cmd.index("-f") :])
            self.pid = self.pgid = self.process.pid
            started(self.process)
            return self.connection_info

    class Manager(AsyncKernelManager):
        def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
            # Sockets in the file system: no ports that parallel kernels could collide on, nothing on the network.
            super().__init__(transport="ipc", connection_file=str(launch.private / "kernel.json"), **kwargs)
            self.provisioner = Provisioner(parent=self, kernel_spec=self.kernel_spec, kernel_id="")

    return Manager


@contextlib.contextmanager
def _environment_set(variables: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _become_kernel(launch: Launch, arguments: list[str], environment: dict[str, str]) -> None:
    os.setsid()  # a group of its own, to be killed with the processes it starts; Ctrl-C in the terminal is not for it
    threading.Thread(target=_end_with_parent, args=(launch.private.parent,), daemon=True).start()
    multiprocessing.set_start_method(None, force=True)  # what a notebook starts is up to the notebook
    os.environ.clear()
    # ipykernel ends with the process of this id, should it be the fork server that is killed.
    os.environ.update(environment | {"JPY_PARENT_PID": str(os.getppid())})
    tempfile.tempdir = None  # to be looked up again
    os.chdir(launch.folder)
    log = os.open(launch.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    from ipykernel import kernelapp
    from ipykernel.iostream import IOPubThread

    # With a pipe, it opens a TCP port to which processes that the notebook forks send their output.
    kernelapp.IOPubThread = lambda socket, pipe, **options: IOPubThread(socket, pipe=False, **options)
    kernelapp.IPKernelApp.launch_instance(argv=arguments)


def _end_with_parent(left: Path) -> None:
    wait([multiprocessing.parent_process().sentinel])
    shutil.rmtree(left, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
