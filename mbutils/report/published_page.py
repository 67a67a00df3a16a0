"""The published page, cell by cell: the published value, ours, how they differ, and a verdict.

The first edition is always there; one that is chosen stands next to it. The verdicts are `VERDICTS`. An accuracy is
matched if the published one lies within the 95 % interval of ours, and better or worse otherwise. RAM and flash are
matched within `TOLERANCE`. A figure that rests on a fit is an estimate, however close it comes; a figure that no run of
the results folder has is not run here.
"""

import pandas as pd
from scipy import stats

from mbutils.config import FIRST_EDITION, NEWEST_EDITION, PLANT_VILLAGE_39
from mbutils.device import costs as device_costs
from mbutils.device import published
from mbutils.report import before_training
from mbutils.report.labels import full_name

MATCHED, BETTER, WORSE, ESTIMATE, NOT_RUN = VERDICTS = ("matched", "better", "worse", "estimate", "not run here")
TOLERANCE = 0.001  # of RAM and flash: the page rounds to 0.01 KiB
# What follows from rules and not from a fit: of the first edition, and of the later ones.
_EXACT = ("activation_ram_bytes", "weights_flash_bytes")
_EXACT_LATER = ("weights_flash_bytes",)
_KEYS = ["dataset", "n_classes", "alpha", "image_size", "color_mode", "variant"]
# What makes the missing runs.
_COMMANDS = {
    "tf_flowers": "make flowers",
    "food101": "mb sweep params/sweeps/food101.yaml",
    PLANT_VILLAGE_39: "the 39-class edition, with dataset folder: see docs/data.md",
}


def accuracies(configurations: pd.DataFrame, edition: str = NEWEST_EDITION) -> pd.DataFrame:
    """Returns the published accuracies with ours.

    Args:
        configurations: What `selection.over_seeds` returns.
        edition: The edition that stands next to the first.

    Returns:
        One row for each published model and each of ours that is one: `model`, `variant`, `published` and
        `published_edition` (the first edition, and the one named in `edition`), `ours` (the mean of the seeds) with its
        95 % Wilson interval `low` and `high`, all fractions, `seeds`, `difference` and `verdict`, `difference_edition`
        and `verdict_edition`, and `note`: what to run where ours is missing.
    """
    ours = configurations[[*_KEYS, "model", "top1", "n_test", "seeds"]].rename(columns={"top1": "ours"})
    rows = published.accuracies(edition).merge(ours, on=_KEYS, how="left")
    theirs = rows.assign(task=rows["dataset"], settings="")
    rows["model"] = rows["model"].fillna(pd.Series([full_name(row) for row in theirs.itertuples()]))
    ends = [_wilson(*cell) for cell in zip(rows["ours"], rows["n_test"], strict=True)]
    rows[["low", "high"]] = pd.DataFrame(ends, index=rows.index, columns=["low", "high"], dtype=float)
    for end in ("", "_edition"):
        rows[f"difference{end}"] = rows["ours"] - rows[f"published{end}"]
        rows[f"verdict{end}"] = [
            _accuracy_verdict(*cell) for cell in zip(rows["low"], rows["high"], rows[f"published{end}"], strict=True)
        ]
    return rows.assign(edition=edition, note=rows["dataset"].map(_COMMANDS).where(rows["ours"].isna(), ""))


def _wilson(top1: float, total: float) -> tuple[float, float]:
    if pd.isna(top1):
        return float("nan"), float("nan")
    return stats.binomtest(round(top1 * total), int(total)).proportion_ci(0.95, method="wilson")


def _accuracy_verdict(low: float, high: float, theirs: float) -> str:
    if pd.isna(theirs):
        return ""
    if pd.isna(low):
        return NOT_RUN
    return BETTER if theirs < low else WORSE if theirs > high else MATCHED


def costs(results: pd.DataFrame, edition: str = FIRST_EDITION) -> pd.DataFrame:
    """Returns the published RAM, flash and latency with ours: predicted, and measured of our C code.

    Args:
        results: What `runs.results_table` returns.
        edition: The edition that stands next to the first.

    Returns:
        What `device.costs.with_published` returns for both, with `edition`, `verdict` for what was predicted, and for
        the C code `measured` (blank if it was not deployed, and for latency), `difference_measured` and
        `verdict_measured`.
    """
    pages = dict.fromkeys((FIRST_EDITION, edition))
    return pd.concat([_costs(results, page) for page in pages], ignore_index=True)


def _costs(results: pd.DataFrame, edition: str) -> pd.DataFrame:
    ours = before_training.published_configurations(results, edition)
    rows = device_costs.with_published(ours, edition)
    measured = ours.assign(**_measured(ours)).melt(["alpha", "image_size", "color_mode"], _measured(ours))
    measured["column"] = measured["variable"].str.removesuffix("_measured")
    keys = ["alpha", "image_size", "color_mode", "column"]
    rows = rows.merge(measured[[*keys, "value"]].rename(columns={"value": "measured"}), on=keys, how="left")
    rows["measured"] = rows["measured"].astype(float)
    rows["difference_measured"] = rows["measured"] / rows["published"] - 1
    exact = _EXACT if edition == FIRST_EDITION else _EXACT_LATER
    rows["verdict"] = [_cost_verdict(row.difference) if row.column in exact else ESTIMATE for row in rows.itertuples()]
    return rows.assign(edition=edition, verdict_measured=rows["difference_measured"].map(_cost_verdict))


def _measured(ours: pd.DataFrame) -> dict[str, pd.Series]:
    """Returns what the C code takes, by the columns of the page that it corresponds to."""
    names = (f"measured_{part}_bytes" for part in ("ram", "stack", "flash", "code"))
    known = ours.reindex(columns=list(names)).astype(float)
    ram, stack, flash, code = (known[column] for column in known)
    values = {
        "activation_ram_bytes": ram - stack,
        "runtime_ram_bytes": stack,
        "total_ram_bytes": ram,
        "weights_flash_bytes": flash - code,
        "code_flash_bytes": code,
        "total_flash_bytes": flash,
    }
    return {f"{column}_measured": value for column, value in values.items()}


def _cost_verdict(difference: float) -> str:
    if pd.isna(difference):
        return NOT_RUN
    return MATCHED if abs(difference) <= TOLERANCE else BETTER if difference < 0 else WORSE
