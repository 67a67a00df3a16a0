"""One side of a comparison in its own process, which works on command and is idle otherwise."""

import importlib
import multiprocessing
import os
import resource
import signal
import sys
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from mbutils.errors import WorkbookError


class Worker:
    """A process that prepares the work of one side and does a round of it on command.

    Args:
        module: The name of the module of the function.
        function: Prepares the work and returns a function that does a round of it: "ours" or "stock".
        arguments: The arguments of the function.

    Raises:
        WorkbookError: If the process cannot do the work, or ends unexpectedly.
    """

    def __init__(self, module: str, function: str, arguments: dict[str, Any]) -> None:
        self._name = f"{module}.{function}"
        # Spawned, not forked: TensorFlow does not survive a fork, and a fork would inherit the memory of this process.
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, module, function, arguments))
        self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process: at once if it waits for a command, by force if it is working."""
        self._pipe.close()
        self._process.join(timeout=2)
        self._process.terminate()
        self._process.join()

    def round(self) -> float:
        """Does one round of the work and returns images per second."""
        self._pipe.send("round")
        return self._answer()

    def peak_memory(self) -> int:
        """Returns the largest resident set of the process so far, in bytes."""
        self._pipe.send("peak_memory")
        return self._answer()

    def _answer(self) -> Any:  # noqa: ANN401
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            self._process.join()
            raise WorkbookError(
                f"the process of {self._name} ended with exit code {self._process.exitcode}: "
                "-9 means too little memory, any other error is printed above"
            ) from error
        if isinstance(answer, WorkbookError):
            raise answer
        return answer


def _serve(pipe: Connection, module: str, function: str, arguments: dict[str, Any]) -> None:
    """Prepares the work, then answers commands until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the process that sends the commands
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # two processes cannot share a GPU, and the ratios are those of a CPU
    try:
        commands = {
            "round": getattr(importlib.import_module(module), function)(**arguments),
            "peak_memory": _peak_memory,
        }
        pipe.send("ready")
        while True:
            pipe.send(commands[pipe.recv()]())
    except WorkbookError as error:
        pipe.send(error)
    except EOFError:
        pass


def _peak_memory() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
