"""What a report calls tasks and models, so that no two that it shows have the same name.

A task is what models are compared on: the same classes, and the same images in the same parts, which the fingerprint of
the dataset stands for. Models of different tasks are never ranked, averaged or drawn together. Another validation part
is another task as well: the models are chosen on it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

# What tells apart tasks on data of the same name, in this order.
_TASK_FACTS = {
    "n_classes": "{:.0f} classes",
    "n_train": "{:,.0f} training images",
    "n_test": "{:,.0f} test images",
    "fingerprint": "{}",
}


def labelled(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns rows of a results table with names, which tell apart the models among them.

    Args:
        rows: Rows of `runs.results_table`, or of `selection.over_seeds`.

    Returns:
        The rows with `task` (the name of the data, with what tells it apart from other data of this name, such as
        "folder_leaves (4 classes)"), `settings` (the parameters that tell models of the same task, alpha, size and
        colour apart, such as "epochs 60"; empty if none do), and `model` (all of it, such as "tf_flowers 0.25 96 px
        rgb, epochs 60").
    """
    named = rows.assign(task=_tasks(rows), settings=_settings(rows))
    return named.assign(model=[full_name(row) for row in named.itertuples()])


def full_name(row: Any) -> str:  # noqa: ANN401
    """Returns the name of a model with that of its task: "tf_flowers 0.25 96 px rgb, epochs 60"."""
    return f"{row.task} {short_name(row)}"


def short_name(row: Any) -> str:  # noqa: ANN401
    """Returns the name of a model among those of its task: "0.25 96 px rgb, epochs 60"."""
    return ", ".join(filter(None, [f"{row.alpha:g} {row.image_size} px {row.color_mode}", row.settings]))


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns every parameter of training and conversion that differs between the models of labelled rows.

    Returns:
        One row for each model and a column for each of these parameters, with its values; `model` comes first.
    """
    recorded: dict[str, dict[str, Any]] = {}
    for model, parameters in zip(rows["model"], _recorded(rows), strict=True):
        recorded.setdefault(model, {}).update(parameters)
    names = _differing(recorded.values())
    texts = [[model, *(_text(values.get(name, "")) for name in names)] for model, values in recorded.items()]
    return pd.DataFrame(texts, columns=["model", *names])


def _tasks(rows: pd.DataFrame) -> pd.Series:
    """Returns the name of the task of each row."""
    tasks = rows.drop_duplicates("fingerprint").set_index("fingerprint", drop=False)
    names = tasks["dataset"].copy()
    for column, text in _TASK_FACTS.items():
        for name, same_name in tasks.groupby(names):
            if same_name[column].nunique() > 1:
                names[same_name.index] = [f"{name} ({text.format(value)})" for value in same_name[column]]
    return rows["fingerprint"].map(names.str.replace(") (", ", ", regex=False))


def _settings(rows: pd.DataFrame) -> list[str]:
    """Returns the parameters that tell apart rows of the same task, alpha, size, colour and variant."""
    recorded = _recorded(rows)
    same_size = rows.groupby(["fingerprint", "alpha", "image_size", "color_mode", "variant"]).indices
    shown = {name for group in same_size.values() for name in _differing([recorded[position] for position in group])}
    texts = [
        ", ".join(f"{name} {_text(value)}" for name, value in parameters.items() if name in shown)
        for parameters in recorded
    ]
    # What is known by its content has no text: start weights of the same file name, an edited recipe of a teacher.
    digests = (rows["configuration"] + " " + rows["conversion"].fillna("")).str.strip().tolist()
    for group in same_size.values():
        told = pd.DataFrame({"text": texts, "digest": digests}).iloc[group].drop_duplicates()
        for position in group:
            if (told["text"] == texts[position]).sum() > 1:
                texts[position] = ", ".join(filter(None, [texts[position], digests[position]]))
    return texts


def _recorded(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [json.loads(text) for text in rows["recorded_parameters"].fillna("{}")]


def _differing(recorded: Iterable[dict[str, Any]]) -> list[str]:
    """Returns the names of parameters that have several values."""
    values: dict[str, set[Any]] = {}
    for parameters in recorded:
        for name, value in parameters.items():
            values.setdefault(name, set()).add(value)
    return [name for name, several in values.items() if len(several) > 1]


def _text(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, float):
        return f"{value:g}"
    return Path(value).name or "none" if isinstance(value, str) else str(value)
