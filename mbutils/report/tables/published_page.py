"""The published tables, cell by cell; see `mbutils.report.published_page`."""

import pandas as pd
from pandas.io.formats.style import Styler

from mbutils.columns import by_name
from mbutils.config import C_CODE, EDITIONS, FIRST_EDITION, CompareParameters
from mbutils.device import costs
from mbutils.report.tables.style import styled, with_notes, with_verdicts

_INCONSISTENT = "outline: 2px dashed rgba(213, 94, 0, 0.7); outline-offset: -3px"


def edition_name(edition: str) -> str:
    """Returns what tables and pictures call the published values of an edition."""
    return f"edition {edition}"


def editions_sentence(parameters: CompareParameters, accuracies: pd.DataFrame) -> str:
    """Returns which published values a report has, if any, and by whose RAM and flash it chooses.

    Args:
        parameters: The edition, and the tool.
        accuracies: What `published_page.accuracies` returns.
    """
    tool = "our C code" if parameters.costs_of == C_CODE else EDITIONS[parameters.costs_of]
    chosen_by = f"Models are chosen by RAM and flash with {tool}."
    if accuracies["ours"].isna().all():
        return chosen_by
    editions = dict.fromkeys((FIRST_EDITION, parameters.edition))
    pages = " and ".join(f"{edition_name(edition)} ({EDITIONS[edition]})" for edition in editions)
    return f"Published values: {pages} of the STM32 model zoo. {chosen_by}"


def published_accuracies(rows: pd.DataFrame) -> Styler:
    """Returns the published accuracies next to ours; takes what `published_page.accuracies` returns."""
    percent = by_name["top1"].text
    # Headers that are repeated differ by a space: a table needs distinct names.
    (edition,) = rows["edition"].unique()
    other = {
        edition_name(edition): rows["published_edition"].map(percent),
        "points ": rows["difference_edition"].map(_points, na_action="ignore"),
        " ": rows["verdict_edition"],
    }
    table = pd.DataFrame(
        {
            "model": rows["model"],
            "variant": rows["variant"],
            edition_name(FIRST_EDITION): rows["published"].map(percent),
            "ours": rows["ours"].map(percent),
            "points": rows["difference"].map(_points, na_action="ignore"),
            "": rows["verdict"],
            **({} if edition == FIRST_EDITION else other),
            "note": rows["note"],
        }
    )
    verdicts = [name for name in ("", " ") if name in table]
    style = with_verdicts(styled(table.fillna(""), left=["model", "variant"]), verdicts)
    return with_notes(style).set_table_attributes('class="cells accuracy"')


def published_costs(rows: pd.DataFrame) -> Styler:
    """Returns published costs next to ours; takes rows of what `published_page.costs` returns.

    Cells that contradict the rest of the page have a dashed frame, and the reason in the note.
    """
    rows = rows.sort_values(["image_size", "alpha", "color_mode"], ascending=False, kind="stable")
    table = pd.DataFrame(
        {
            "model": _models(rows),
            "figure": rows["column"].map(costs.label),
            "published": _with_units(rows, "published"),
            "predicted": _with_units(rows, "ours"),
            "off by": rows["difference"].map("{:+.2%}".format),
            "": rows["verdict"],
            "C code": _with_units(rows, "measured"),
            "off by ": rows["difference_measured"].map("{:+.2%}".format, na_action="ignore"),
            " ": rows["verdict_measured"],
            "note": _notes(rows),
        }
    ).fillna("")
    measured = bool(table["C code"].any())  # never a time: that takes a board
    if not measured:
        table = table.drop(columns=["C code", "off by ", " "])
    style = styled(table, left=["model", "figure"])
    style = with_notes(with_verdicts(style, ["", " "] if measured else [""]))
    style = style.set_table_attributes(f'class="cells {"measured" if measured else "costs"}"')
    return style.apply(
        lambda row: [_INCONSISTENT if row["note"] and name == "published" else "" for name in table], axis=1
    )


def _models(rows: pd.DataFrame) -> list[str]:
    names = zip(rows["alpha"], rows["image_size"], rows["color_mode"], rows["edition"], strict=True)
    return [f"{alpha:g} {size} px {color}, {edition_name(edition)}" for alpha, size, color, edition in names]


def _notes(rows: pd.DataFrame) -> pd.Series:
    """Returns the notes, each written out once for each model."""
    again = rows.duplicated(["alpha", "image_size", "color_mode", "edition", "note"]) & (rows["note"] != "")
    return rows["note"].mask(again, "as above")


def _with_units(rows: pd.DataFrame, name: str) -> list[str]:
    return [by_name[column].with_unit(value) for value, column in zip(rows[name], rows["column"], strict=True)]


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"
