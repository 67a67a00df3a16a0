"""The tables of the reference results: each published flowers model that was run, with each kind of weights."""

from collections.abc import Iterator

import pandas as pd

from mbutils.columns import by_name, markdown
from mbutils.config import NEWEST_EDITION
from mbutils.device import published
from mbutils.errors import WorkbookError
from mbutils.report import selection
from mbutils.runs import FLOAT32

_WEIGHTS = {
    FLOAT32: "float32",
    "int8_per_channel": "8 bits",
    "int8_per_tensor": "8 bits, per tensor",
    "int4_pointwise": "pointwise 4 bits",
}
_SHORT = tuple(name for name in _WEIGHTS if name != "int8_per_tensor")  # in the README
_KEYS = ["alpha", "image_size", "color_mode"]


def beside_published(results: pd.DataFrame) -> str:
    """Returns a results table as Markdown: each published flowers model that was run, and each of its weights.

    Accuracies are means over the seeds, with their range; RAM and flash are totals in KiB, ours those of the C code.

    Raises:
        WorkbookError: If a model was run with several recipes or conversions.
    """
    top1 = published.accuracies().set_index([*_KEYS, "dataset", "variant"])["published_edition"]
    costs = published.flowers(published.footprint_bytes(NEWEST_EDITION)).set_index(_KEYS)
    header = (
        "model",
        "weights",
        f"top-1, edition {NEWEST_EDITION}",
        "top-1, ours",
        f"RAM: edition {NEWEST_EDITION}, ours",
        f"flash: edition {NEWEST_EDITION}, ours",
    )
    rows = []
    for name, ours in _models(results, _SHORT):
        key = tuple(ours[_KEYS])
        theirs = top1.get((*key, "tf_flowers", ours["variant"]))
        sizes = (
            _sizes(costs.loc[key, f"total_{part}_bytes"] if theirs else None, ours[f"measured_{part}_bytes"])
            for part in ("ram", "flash")
        )
        rows.append((name, _WEIGHTS[ours["variant"]], f"{theirs:.2%}" if theirs else "", _accuracy(ours), *sizes))
    return markdown(header, rows)


def in_full(results: pd.DataFrame) -> str:
    """Returns a results table as Markdown: what each kind of weights costs each model in accuracy, and on Cortex-M7.

    Raises:
        WorkbookError: If a model was run with several recipes or conversions.
    """
    header = (
        "model",
        "weights",
        "top-1",
        "drop in points: mean, each seed",
        "p of McNemar's test, each seed",
        "RAM",
        "flash",
        "million instructions",
        "training, min",
    )
    rows = []
    for name, ours in _models(results, tuple(_WEIGHTS)):
        seeds = _seeds_of(ours, results)
        is_float = ours["variant"] == FLOAT32
        drops = "" if is_float else _mean_and_each(100 * seeds["drop_from_float"])
        p_values = "" if is_float else _listed(seeds["p_value"], ".2f")
        costs = [_sizes(None, ours[f"measured_{part}_bytes"]) for part in ("ram", "flash")]
        millions = ours["measured_instructions"] / 1e6
        costs.append("" if pd.isna(millions) else f"{millions:.2f}")
        minutes = f"{ours['train_seconds'] / 60:.0f}" if is_float else ""
        rows.append((name, _WEIGHTS[ours["variant"]], _accuracy(ours), drops, p_values, *costs, minutes))
    return markdown(header, rows)


def _models(results: pd.DataFrame, variants: tuple[str, ...]) -> Iterator[tuple[str, pd.Series]]:
    """Yields the name and the row, averaged over the seeds, of each published model and each of these variants."""
    known = published.flowers(published.footprint_bytes(NEWEST_EDITION)).set_index(_KEYS).index
    for key, own in selection.over_seeds(results).groupby(_KEYS):
        own, name = own.set_index("variant", drop=False), "{:g}, {} px, {}".format(*key)
        if own.index.has_duplicates:
            raise WorkbookError(f"{name}: several recipes or conversions: run each model with one")
        if key in known:
            yield from ((name, own.loc[variant]) for variant in variants if variant in own.index)


def _seeds_of(averaged: pd.Series, results: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of each seed that a row was averaged from."""
    same = results[["configuration", "variant"]] == averaged[["configuration", "variant"]].astype(object)
    return results[same.all(axis=1)].sort_values("seed")


def _mean_and_each(values: pd.Series) -> str:
    each = f": {_listed(values)}" if len(values) > 1 else ""
    return f"{values.mean():+.2f}{each}"


def _listed(values: pd.Series, form: str = "+.2f") -> str:
    return ", ".join(format(value, form) for value in values)


def _accuracy(row: pd.Series) -> str:
    if row["seeds"] == 1:
        return f"{row['top1']:.2%}"
    return f"**{row['top1']:.2%}** ({100 * row['top1_low']:.2f} to {100 * row['top1_high']:.2f})"


def _sizes(theirs: float | None, ours: float) -> str:
    if pd.isna(ours):
        return ""
    sizes = [by_name["total_ram_bytes"].with_unit(size, 1) for size in (theirs, ours) if size is not None]
    return ", ".join([*sizes[:-1], f"**{sizes[-1]}**"])
