"""Kernels that start at once: forked from a process that has imported what the notebooks import.

Importing TensorFlow takes seconds, a fork takes milliseconds, and each kernel still has a process of its own. A kernel
lives as long as the connection that asked for it: when its owner dies, however suddenly, it is killed.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self
from uuid import uuid4

from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

# What the notebooks import. TensorFlow starts its threads at the first op, not when it is imported, so forking is safe;
# it would not be on a GPU, whose driver is asked for devices on import.
MODULES = (
    "mbutils.model.distillation",
    "mbutils.evaluation",
    "mbutils.report.plots",
    "mbutils.quantization",
    "mbutils.report.tables",
    "mbutils.model.training",
    "mbutils.report.before_training",
    "sklearn.datasets",
    "tensorflow_datasets",
)
_START_SECONDS = 300  # the longest that importing all of them may take, on a slow network file system


class Kernel:
    """The process of one kernel, with the methods of `subprocess.Popen` that Jupyter needs."""

    stdin = stdout = stderr = None

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._answers = connection.makefile("r")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Returns None while the process lives, then its exit code, or the negative number of the signal it died of."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            # Nothing to read means that the process that minds the kernel was killed; the kernel ends with it.
            self.returncode = int(self._answers.readline() or -signal.SIGKILL)
            self._answers.close()
            self._connection.close()
        return self.returncode

    def wait(self) -> int:
        """Waits for the end of the process and returns what `poll` does."""
        while self.poll() is None:
            time.sleep(0.05)
        return self.returncode

    def send_signal(self, signal_number: int) -> None:
        """Sends a signal to the kernel and the processes it started."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal_number)

    def kill(self) -> None:
        """Kills the kernel and the processes it started."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Asks the kernel to end."""
        self.send_signal(signal.SIGTERM)


class KernelServer:
    """The process that kernels are forked from. It ends with the process that made it.

    Args:
        modules: What it imports before the first fork; a kernel imports the rest itself.
        environment: Environment variables besides those of this process. Libraries read the number of their threads
            when they are imported.
    """

    def __init__(self, modules: Iterable[str] = (), environment: Mapping[str, str] = MappingProxyType({})) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mb-"))  # short: the paths of sockets may have 107 characters
        self._address = str(self._folder / "server")
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(os.getpid()), self._address, *modules],
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("w"),
            start_new_session=True,  # Ctrl-C in the terminal is not for kernels
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def start(self, arguments: list[str], folder: Path, environment: dict[str, str], log: Path | None = None) -> Kernel:
        """Starts a kernel.

        Args:
            arguments: Those of `ipykernel_launcher`.
            folder: Its working directory.
            environment: Its environment variables.
            log: Where what native code prints is appended.

        Raises:
            OSError: If the server does not answer.
        """
        connection = self._connected()
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "log": str(log or os.devnull),
        }
        connection.sendall(json.dumps(request).encode() + b"\n")
        return Kernel(connection)

    def wait(self) -> None:
        """Waits until it has imported everything.

        Raises:
            OSError: If it cannot.
        """
        self._connected().close()

    def _connected(self) -> socket.socket:
        deadline = time.monotonic() + _START_SECONDS
        while self.is_alive and time.monotonic() < deadline:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self._address)
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
                time.sleep(0.05)
        raise OSError(f"the process that kernels start from ended: {(self._folder / 'log').read_text()[-2000:]}")

    def manager(
        self, environment: dict[str, str], log: Path | None, started: Callable[[Kernel], None]
    ) -> type[AsyncKernelManager]:
        """Returns a class of kernel managers for nbclient that start their kernels here.

        Args:
            environment: The kernel's environment variables.
            log: Where what native code prints is appended.
            started: Called with the kernel as soon as it has a process.
        """
        server, folder = self, self._folder

        class Provisioner(LocalProvisioner):
            async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
                arguments = cmd[cmd.index("-f") :]
                self.process = server.start(arguments, Path(kwargs.get("cwd") or Path.cwd()), environment, log)
                self.pid = self.pgid = self.process.pid
                started(self.process)
                return self.connection_info

        class Manager(AsyncKernelManager):
            def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401
                # Sockets in the file system: no ports that parallel kernels could collide on, nothing on the network.
                super().__init__(transport="ipc", connection_file=str(folder / f"{uuid4().hex}.json"), **kwargs)
                self.provisioner = Provisioner(parent=self, kernel_spec=self.kernel_spec, kernel_id="")

        return Manager

    def close(self) -> None:
        """Ends the process, and with it every kernel."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    """Forks a process for each connection, which forks the kernel and minds it."""

    block_on_close = False
    max_children = sys.maxsize

    def __init__(self, address: str, owner: int) -> None:
        super().__init__(address, _Minder)
        self._owner = owner

    def service_actions(self) -> None:
        super().service_actions()
        if os.getppid() != self._owner:
            sys.exit()


class _Minder(socketserver.StreamRequestHandler):
    """Minds one kernel: kills it when its connection closes or the server ends, tells the exit code when it ends."""

    def handle(self) -> None:
        line = self.rfile.readline()
        if not line:  # it was only asked whether it is ready
            return
        request = json.loads(line)
        pid = os.fork()
        if not pid:
            try:
                os.close(self.connection.fileno())
                self.server.socket.close()
                _become_kernel(**request)
            finally:
                os._exit(1)
        self.wfile.write(f"{pid}\n".encode())
        status, server = None, os.getppid()
        while status is None:
            if select.select([self.connection], [], [], 0.1)[0] or os.getppid() != server:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return
            ended, code = os.waitpid(pid, os.WNOHANG)
            status = os.waitstatus_to_exitcode(code) if ended else None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # processes that the kernel left behind
        self.wfile.write(f"{status}\n".encode())


def _become_kernel(arguments: list[str], folder: str, environment: dict[str, str], log: str) -> None:
    os.setsid()
    # ipykernel ends when this process does, should it be killed before it can kill the kernel.
    environment["JPY_PARENT_PID"] = str(os.getppid())
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    from ipykernel.kernelapp import IPKernelApp

    IPKernelApp.launch_instance(argv=arguments)


def _serve(owner: int, address: str, modules: list[str]) -> None:
    # As ipykernel sets it, which then comes too late: matplotlib reads it when it is imported.
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    for module in ("ipykernel.kernelapp", *modules):
        importlib.import_module(module)
    gc.freeze()  # so that a fork does not copy what is only counted
    try:
        with _Server(address, owner) as server:
            server.serve_forever()
    finally:
        shutil.rmtree(Path(address).parent, ignore_errors=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
