"""Pools: all there is of a task, in one form whatever its source."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sfusion.data.files import _require
from sfusion.data.labels import _named, order_labels
from sfusion.data.splits import VALIDATION_SHARE, Pool
from sfusion.errors import SfusionError

# Of a larger split a fixed draw of this many rows is read; of a longer text, this many
# characters (some hundreds of tokens).
ROW_LIMIT, TEXT_LIMIT = 50_000, 4_000

ASK_FOLDER = (
    "set SFUSION_DATA to a folder that holds {}/{{train,validation,test}}.parquet"
)


@dataclass(frozen=True)
class TaskSpec:
    """One line of the registry of tasks; without ``repo`` the task is an embedded corpus.

    Attributes
    ----------
    name : str
        Slug.
    repo : str
        Dataset repository on the Hub. Label names come with it.
    text : tuple of str
        Columns that are joined, with a space, into the text.
    label : str
        Column of class numbers (with names in the features) or of class names.
    config : str, optional
        Configuration, for a set that is read from the Hub's own conversion.
    """

    name: str
    repo: str = ""
    text: tuple[str, ...] = ("text",)
    label: str = "label"
    config: str | None = None


def _tidy(raw, text, label, names, where):
    """Bring a table to the columns text and label (class names); rows without either go."""
    _require(raw, (*text, label), where)
    raw = raw[raw[label].notna()]
    texts = [
        " ".join(part for part in parts if isinstance(part, str))[:TEXT_LIMIT].strip()
        for parts in zip(*(raw[column] for column in text), strict=True)
    ]
    labels = (
        raw[label].astype(str).tolist()
        if names is None
        else _named(raw[label].astype(int), names, where)
    )
    frame = pd.DataFrame({"text": texts, "label": labels}, dtype=object)
    return frame[frame["text"] != ""]


def _rows(count):
    """Row numbers to read: all, or the same draw of `ROW_LIMIT` at every seed."""
    return np.sort(np.random.default_rng(0).permutation(count)[:ROW_LIMIT])


def _pooled(splits, text, label, source, where):
    """Join train and validation, without repeats and without texts of the test split.

    ``splits`` holds of each split raw tables, the declared class names and the place
    for messages.
    """
    parts, declared = {}, {}
    for split, (tables, names, place) in splits.items():
        parts[split] = pd.concat(
            [_tidy(raw, text, label, names, place) for raw in tables], ignore_index=True
        )
        declared |= dict.fromkeys(names or ())
    for split in {"train": "", "test": "", **parts}:
        if split not in parts or parts[split].empty:
            raise SfusionError(
                f"{where}: the {split} split is {'empty' if split in parts else 'missing'}"
            )
    test = parts.pop("test")
    rest = pd.concat(parts.values(), ignore_index=True)
    share = (
        len(parts["validation"]) / len(rest)
        if "validation" in parts
        else VALIDATION_SHARE
    )
    rest = rest[~rest["text"].isin(test["text"])].drop_duplicates(
        "text", ignore_index=True
    )
    if rest.empty:
        raise SfusionError(f"{where}: every training text occurs in the test split")
    order_labels((), [rest], f"{where}: the train split")
    return Pool(
        rest, test, "text", order_labels(declared, [rest, test], where), share, source
    )
