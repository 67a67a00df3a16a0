"""Where the stages run: on threads of this process, or on the workers of any Dask scheduler."""

import contextlib
import logging
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError, run

import dask
import psutil
from dask.system import CPU_COUNT
from distributed import Client, Scheduler, SpecCluster, Worker
from distributed.security import Security

from mbutils.errors import WorkbookError
from mbutils.sweep import private
from mbutils.sweep.stages import free_gpus

_CONNECT_SECONDS = 15


@dataclass(frozen=True)
class Remote:
    """A scheduler that is already running.

    Attributes:
        address: Such as "tls://HOST:8786".
        certificate: The files of the certificate authority, this client's certificate and its key.
        insecure: Whether the connection may be unencrypted.
    """

    address: str
    certificate: tuple[Path | None, Path | None, Path | None] = (None, None, None)
    insecure: bool = False


def physical_cores() -> int:
    """Returns the physical cores that this process may use."""
    return max(1, min(psutil.cpu_count(logical=False) or CPU_COUNT, CPU_COUNT))


def gpus() -> tuple[str, ...]:
    """Returns the names of the NVIDIA GPUs of this machine, as `CUDA_VISIBLE_DEVICES` has them."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return tuple(name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1"))
    try:
        listed = run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, CalledProcessError):
        return ()
    return tuple(str(number) for number in range(len(listed)))


def suited_workers(runs: int, gpus: tuple[str, ...]) -> int:
    """Returns how many stages of so many runs are best done at a time: one for each GPU, or else physical core."""
    return min(len(gpus) or physical_cores(), max(1, runs))


class _WithoutPages:
    """Serves no web pages: other users of this machine could open them."""

    def start_http_server(self, *args: object, **options: object) -> None:
        """Does nothing. Dask would open a port even without its dashboard."""


class _Scheduler(_WithoutPages, Scheduler):
    pass


class _Worker(_WithoutPages, Worker):
    pass


@contextlib.contextmanager
def local(workers: int, gpus: tuple[str, ...] = ()) -> Iterator[Client]:
    """Starts a scheduler and a worker of several threads within this process, which nobody else can reach.

    Kernels are processes of their own, so threads are enough to start and follow them.

    Args:
        workers: How many stages are done at a time.
        gpus: The names of the GPUs that the stages share, at least as many as there are workers, if any.
    """
    for name in gpus:
        free_gpus.put(name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Couldn't detect a suitable IP address")  # without a network
        dask.config.set({"distributed.worker.profile.enabled": False, "temporary-directory": str(private.folder())})
        inside = {"protocol": "inproc://"}
        # The kernels' memory is not the worker's, and limiting it is up to the operating system.
        options = inside | {"nthreads": workers, "memory_limit": 0}
        cluster = SpecCluster(
            scheduler={"cls": _Scheduler, "options": inside | {"dashboard": False}},
            workers={0: {"cls": _Worker, "options": options}},
            silence_logs=logging.CRITICAL,
        )
        with cluster, Client(cluster) as client:
            yield client


@contextlib.contextmanager
def remote(scheduler: Remote, results_dir: Path) -> Iterator[Client]:
    """Connects to a scheduler and waits for its first worker.

    Raises:
        WorkbookError: If it is not encrypted but must be, does not answer, or its workers cannot do stages.
    """
    try:
        client = Client(scheduler.address, security=_security(scheduler), timeout=_CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise WorkbookError(
            f"no scheduler answers at {scheduler.address} ({' '.join(str(error).split())}): check the address, the "
            "certificates, and that dask scheduler runs there"
        ) from error
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            print(f"waiting for a worker of {scheduler.address}", file=sys.stderr)
            client.wait_for_workers(1)
        _check_workers(client, results_dir)
        yield client


def _security(scheduler: Remote) -> Security | None:
    if not scheduler.address.startswith("tls://"):
        if not scheduler.insecure:
            raise WorkbookError(
                f"{scheduler.address} is not encrypted, and whoever reaches it can run anything on its machines: use "
                "a tls:// address with --tls-ca, --tls-cert and --tls-key, or add --insecure in a network you trust"
            )
        print(
            f"warning: {scheduler.address} is not encrypted: whoever reaches it can run anything on its machines",
            file=sys.stderr,
        )
        return None
    for option, file in zip(("--tls-ca", "--tls-cert", "--tls-key"), scheduler.certificate, strict=True):
        if file is None or not file.is_file():
            raise WorkbookError(f"{option}: {file or 'no file'}: a tls:// scheduler needs a PEM file for it")
    authority, certificate, key = map(str, scheduler.certificate)
    return Security(tls_ca_file=authority, tls_client_cert=certificate, tls_client_key=key, require_encryption=True)


def _check_workers(client: Client, results_dir: Path) -> None:
    try:
        problems = client.run(_problem, str(results_dir))
    except Exception as error:  # anything can be wrong with another machine
        raise WorkbookError(
            f"a worker cannot run the workbook ({type(error).__name__}: {' '.join(str(error).split())}): install the "
            "same version of it on each machine"
        ) from error
    for address, problem in problems.items():
        if problem:
            raise WorkbookError(f"worker {address} {problem}")


def _problem(folder: str) -> str:
    """Returns why this worker cannot do stages, empty if it can."""
    from mbutils.sweep import kernels  # noqa: F401  (so that a worker without the workbook fails here)

    if multiprocessing.current_process().daemon:
        return "runs below a nanny, so it may not start kernels: start it with dask worker --no-nanny"
    if not Path(folder).is_dir():
        return f"does not see {folder}: put --results-dir on a file system that all machines share under the same path"
    return ""
