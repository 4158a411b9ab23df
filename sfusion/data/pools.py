"""Pools: all there is of a task, in one form whatever its source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from sfusion.data.files import Table
from sfusion.data.labels import order_labels, with_names
from sfusion.data.splits import VALIDATION_SHARE, Pool
from sfusion.errors import SfusionError

# Of a larger split a fixed draw of this many rows is read; of a longer text, this many
# characters (some hundreds of tokens).
ROW_LIMIT = 50_000
TEXT_LIMIT = 4_000

ASK_FOLDER = (
    "set SFUSION_DATA to a folder that holds {}/{{train,validation,test}}.parquet"
)


@dataclass(frozen=True)
class TaskSpec:
    """One line of the registry of tasks; without ``repo``, an embedded corpus.

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


def row_numbers(count: int) -> np.ndarray:
    """Choose the rows to read: all, or the same draw of `ROW_LIMIT` at every seed.

    Parameters
    ----------
    count : int
        Rows there are.

    Returns
    -------
    ndarray of int
    """
    return np.sort(np.random.default_rng(0).permutation(count)[:ROW_LIMIT])


def _join(parts: Sequence[object]) -> str:
    """Join the columns of one text; those that are missing are left out."""
    written = " ".join(part for part in parts if isinstance(part, str))
    return written[:TEXT_LIMIT].strip()


def _tidy(table: Table, text: Sequence[str], label: str) -> pd.DataFrame:
    """Bring a table to the columns text and label; rows without either go."""
    table.require((*text, label))
    frame = table.frame[table.frame[label].notna()]
    columns = [frame[column] for column in text]
    texts = [_join(parts) for parts in zip(*columns, strict=True)]
    if table.names is None:
        labels = frame[label].astype(str).tolist()
    else:
        labels = with_names(frame[label].astype(int), table.names, table.where)
    tidy = pd.DataFrame({"text": texts, "label": labels}, dtype=object)
    return tidy[tidy["text"] != ""]


def pool_splits(
    splits: Mapping[str, Iterable[Table]],
    text: Sequence[str],
    label: str,
    source: str,
    where: str | Path,
) -> Pool:
    """Join train and validation, without repeats and without texts of the test split.

    Parameters
    ----------
    splits : mapping of str to iterable of Table
        The tables of each split.
    text : sequence of str
        Columns that are joined into the text.
    label : str
        Column.
    source : str
        As in ``Task``.
    where : str or Path
        Place, for messages.

    Returns
    -------
    Pool

    Raises
    ------
    SfusionError
        When a split is missing or empty, or too little is left to train on.
    """
    parts = {}
    declared = {}  # in the order in which they are found
    for split, tables in splits.items():
        frames = []
        for table in tables:
            frames.append(_tidy(table, text, label))
            declared.update(dict.fromkeys(table.names or ()))
        parts[split] = pd.concat(frames, ignore_index=True)
    for split in ("train", "test"):
        if split not in parts:
            raise SfusionError(f"{where}: the {split} split is missing")
    for split, part in parts.items():
        if part.empty:
            raise SfusionError(f"{where}: the {split} split is empty")
    test = parts.pop("test")
    rest = pd.concat(parts.values(), ignore_index=True)
    validation_share = VALIDATION_SHARE
    if "validation" in parts:
        validation_share = len(parts["validation"]) / len(rest)
    rest = rest[~rest["text"].isin(test["text"])]
    rest = rest.drop_duplicates("text", ignore_index=True)
    if rest.empty:
        raise SfusionError(f"{where}: every training text occurs in the test split")
    order_labels((), [rest], f"{where}: the train split")
    names = order_labels(declared, [rest, test], str(where))
    return Pool(rest, test, "text", names, validation_share, source)
