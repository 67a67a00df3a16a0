"""Tables of a search: what fits before training, the answer, and what more or less would cost."""

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.columns import by_name
from mbutils.report.tables.style import styled

_MODEL = ("alpha", "image_size", "color_mode", "variant")
_C_CODE = ("streamed_layers", "measured_ram_bytes", "measured_flash_bytes")
_CUBE_AI = ("total_ram_bytes", "total_flash_bytes", "latency_ms_stm32h747")
_COMPARED = ("epoch", "validation_top1", "behind")


def search_costs(table: pd.DataFrame) -> Styler:
    """Returns what each model of a space costs, those that fit first, then by the RAM of the C code.

    Args:
        table: What `search.planned` returns.
    """
    rows = table.sort_values(["fits", "measured_ram_bytes"], ascending=[False, True], kind="stable")
    fits = rows["fits"].map({True: "yes", False: "no"})
    return _table(rows.assign(fits=fits), (*_MODEL, "fits", *_C_CODE, *_CUBE_AI))


def worth_their_cost(front: pd.DataFrame) -> Styler:
    """Returns the models that are worth their cost, and how far each is behind the answer.

    Args:
        front: What `search.pareto` returns.
    """
    return _table(front, (*_MODEL, *_C_CODE, _CUBE_AI[-1], *_COMPARED))


def candidates(table: pd.DataFrame) -> Styler:
    """Returns how far every model that fits came; takes the `candidates` of an answer."""
    return _table(table, (*_MODEL, *_COMPARED, *_C_CODE, *_CUBE_AI))


def search_answer(rows: pd.DataFrame) -> str:
    """Returns the answer of a search and the next best model, in a sentence each; Markdown.

    Args:
        rows: The `rows` of an answer.
    """
    best = rows.iloc[0]
    sentences = [
        f"Take {_name(best, '**')}: it is right on {best['top1']:.0%} of {best['n_test']:,} test images "
        f"({best['validation_top1']:.1%} of the validation images, which it was chosen by), and takes {_costs(best)}."
    ]
    sentences += [
        f"The next best, {_name(row)}, is right on {row['validation_top1']:.1%} of the validation images, and takes "
        f"{_costs(row)}."
        for _, row in rows.iloc[1:2].iterrows()
    ]
    return "\n\n".join(sentences)


def search_text(table: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Returns the candidates and the answer as text for a terminal."""
    return f"{candidates(table)!r}\n\n{search_answer(rows).replace('*', '')}"


def _name(row: pd.Series, mark: str = "") -> str:
    steps = f", {row['streamed_layers']} layers in step" if row["streamed_layers"] else ""
    return f"{mark}{row['alpha']:g} {row['image_size']} px {row['color_mode']}{mark}, {row['variant']}{steps}"


def _costs(row: pd.Series) -> str:
    ram, flash, time = (by_name[name].with_unit(row[name], 0) for name in (*_C_CODE[1:], _CUBE_AI[-1]))
    return f"{ram} of RAM and {flash} of flash as C code, and about {time} on an STM32H747"


def _table(rows: pd.DataFrame, names: tuple[str, ...]) -> Styler:
    shown = rows[[*names]].copy()
    in_bytes = [name for name in names if name.endswith("_bytes")]
    for name in in_bytes:
        shown[name] = [by_name[name].scaled(value, 1) for value in rows[name]]
    return styled(shown.rename(columns={name: by_name[name].axis for name in in_bytes}))
