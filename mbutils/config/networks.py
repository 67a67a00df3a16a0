"""The networks that can be trained: MobileNet v1, and by name or file those that teach it."""

from pathlib import Path

from mbutils.config.paths import NETWORKS
from mbutils.errors import WorkbookError, nearest

MOBILENET = "mobilenet_v1"  # the network that this workbook is about; others only teach it


def network_name(network: str) -> str:
    """Returns the name of a network in run ids."""
    return Path(network).stem.lower()


def network_file(network: str) -> Path | None:
    """Returns the file of a network; None for one of `keras.applications`.

    Args:
        network: Its name, or the path of a .keras file.

    Raises:
        WorkbookError: If there is no such network.
    """
    if network.endswith(".keras"):
        path = Path(network).expanduser()
        if not path.is_file():
            raise WorkbookError(f"network: no file {path}: give the path of a .keras file")
        return path
    path = NETWORKS / f"{network}.keras"
    if path.is_file():
        return path
    known = [MOBILENET, *sorted(file.stem for file in NETWORKS.glob("*.keras")), *_applications()]
    if network not in known:
        raise WorkbookError(f"network: unknown {network!r}: {nearest(network, known)}")
    return None


def _applications() -> list[str]:
    from mbutils.backend import keras  # late: it takes seconds

    return [name for name, value in vars(keras.applications).items() if callable(value)]
