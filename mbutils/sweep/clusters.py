"""Where the stages run: Dask workers on this machine, or those of any Dask scheduler."""

import contextlib
import logging
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
from distributed import Client, Nanny, Scheduler, SpecCluster
from distributed.security import Security

from mbutils.errors import WorkbookError

_LOOPBACK = "127.0.0.1"
_DASHBOARD = f"{_LOOPBACK}:8787"
_CONNECT_SECONDS = 15
_CLOSE_SECONDS = 5


@dataclass(frozen=True)
class Remote:
    """A scheduler that runs already.

    Attributes:
        address: Such as "tls://HOST:8786".
        certificate: The files of the certificate authority, this client's certificate and its key.
        insecure: Whether it may be unencrypted.
    """

    address: str
    certificate: tuple[Path | None, Path | None, Path | None] = (None, None, None)
    insecure: bool = False


def physical_cores() -> int:
    """Returns the physical cores that this process may use."""
    return max(1, min(psutil.cpu_count(logical=False) or CPU_COUNT, CPU_COUNT))


def gpus() -> int:
    """Returns the number of NVIDIA GPUs of this machine."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return len([name for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name not in ("", "-1")])
    try:
        return len(run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True).stdout.splitlines())
    except (OSError, CalledProcessError):
        return 0


@contextlib.contextmanager
def local(workers: int, on_gpu: bool) -> Iterator[Client]:
    """Starts workers on this machine, each for one stage at a time, that only this machine can reach.

    Args:
        workers: How many.
        on_gpu: Whether each gets a GPU of its own.
    """
    names = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(workers)))).split(",")

    def options(number: int) -> dict:
        own = {"resources": {"GPU": 1}, "env": {"CUDA_VISIBLE_DEVICES": names[number]}} if on_gpu else {}
        # The kernels' memory is not the workers', and limiting it is up to the operating system.
        return {"host": _LOOPBACK, "nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL, **own}

    dask.config.set({"distributed.worker.profile.enabled": False})
    scheduler = {"host": _LOOPBACK, "port": 0, "dashboard": True, "dashboard_address": _DASHBOARD}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Port .* is already in use")  # the dashboard then takes another one
        cluster = SpecCluster(
            workers={number: {"cls": Nanny, "options": options(number)} for number in range(workers)},
            scheduler={"cls": Scheduler, "options": scheduler},
            silence_logs=logging.CRITICAL,
        )
    try:
        with Client(cluster) as client:
            yield client
    finally:
        workers = psutil.Process().children(recursive=True)  # a kernel ends with its worker
        with contextlib.suppress(TimeoutError):
            cluster.close(timeout=_CLOSE_SECONDS)
        for process in psutil.wait_procs(workers, timeout=1)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


@contextlib.contextmanager
def remote(scheduler: Remote, results_dir: Path) -> Iterator[Client]:
    """Connects to a scheduler and waits for a first worker.

    Raises:
        WorkbookError: If it is not encrypted though it must be, does not answer, or its workers lack what they need.
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
                f"{scheduler.address} is not encrypted, and whoever reaches it can run anything on its machines: give "
                "a tls:// address with --tls-ca, --tls-cert and --tls-key, or add --insecure in a network you trust"
            )
        print(
            f"warning: {scheduler.address} is not encrypted: whoever reaches it can run anything on its machines",
            file=sys.stderr,
        )
        return None
    for option, file in zip(("--tls-ca", "--tls-cert", "--tls-key"), scheduler.certificate, strict=True):
        if file is None or not file.is_file():
            raise WorkbookError(f"{option}: {file or 'no file is given'}: a tls:// scheduler takes a PEM file for it")
    authority, certificate, key = map(str, scheduler.certificate)
    return Security(tls_ca_file=authority, tls_client_cert=certificate, tls_client_key=key, require_encryption=True)


def _check_workers(client: Client, results_dir: Path) -> None:
    try:
        sees = client.run(_sees, str(results_dir))
    except Exception as error:  # whatever is wrong with the other machine
        raise WorkbookError(
            f"a worker cannot run the workbook ({type(error).__name__}: {' '.join(str(error).split())}): install the "
            "same version of it on each machine"
        ) from error
    for address, result in sees.items():
        if not result:
            raise WorkbookError(
                f"worker {address} does not see {results_dir}: put --results on a file system that all machines share "
                "under the same path"
            )


def _sees(folder: str) -> bool:
    from mbutils.sweep import kernels  # noqa: F401  (so that a worker without the workbook is told)

    return Path(folder).is_dir()
