"""Parameters of a search for the best model that fits a device."""

from dataclasses import dataclass

from mbutils.config.after_training import Budget
from mbutils.config.base import parameter
from mbutils.config.paths import PROJECT
from mbutils.errors import WorkbookError

DEFAULT_SPACE = PROJECT / "params" / "searches" / "default.yaml"
_MOST_KIB = 16_384  # of RAM or flash, far more than a microcontroller has


@dataclass(frozen=True)
class SearchParameters(Budget):
    """Parameters of `search.ipynb`, and the options of `mb search`: a device, a time, and the images."""

    ram_kib: float = parameter(
        0.0, "RAM of the target for arena, stack and data in KiB, 0 for no limit", low=0.0, group="the device"
    )
    flash_kib: float = parameter(0.0, "flash of the target for code and constants in KiB, 0 for no limit", low=0.0)
    hours: float = parameter(2.0, "hours until the answer is there", low=0.01, high=1000.0, group="the search")
    dataset: str = parameter("", "the dataset, or folder for your own, empty for that of the space")
    data_dir: str = parameter("", "for folder, a folder with one folder of images per class")
    space: str = parameter("", "YAML file of models and rungs, empty for params/searches/default.yaml")
    out: str = parameter("", "folder for the C code, empty for firmware in the results folder", group="results")
    results_dir: str = parameter("", "empty for the project's own results folder")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("ram_kib", "flash_kib"):
            value = getattr(self, name)
            if value > _MOST_KIB:
                raise WorkbookError(
                    f"{name}: {value:g} KiB are {value / 1024:g} MiB, more than a microcontroller has: "
                    f"{value:g} bytes are {value / 1024:g} KiB"
                )

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are set, on the C code: by column of `results.csv`, in its units."""
        ours = {"total_ram_bytes": "measured_ram_bytes", "total_flash_bytes": "measured_flash_bytes"}
        return {ours.get(column, column): limit for column, limit in super().limits.items()}
