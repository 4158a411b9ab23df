"""The user's own labelled texts, out of a file or a data frame."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pandas as pd

from sfusion.data.forms import read_file
from sfusion.data.labels import (
    class_name,
    declared_names,
    plain_numbers,
    refuse_similar,
    shown,
    with_names,
)
from sfusion.errors import SfusionError

if TYPE_CHECKING:
    import datasets

    Source: TypeAlias = str | Path | pd.DataFrame | datasets.Dataset


ADDRESS = re.compile(r"[A-Za-z][\w+.-]+://")


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it was read.

    Attributes
    ----------
    frame : DataFrame
    names : sequence of str or None
        Class names that the source declares for the label column.
    where : str
        The source, for messages.
    """

    frame: pd.DataFrame
    names: Sequence[str] | None
    where: str

    def require(self, columns: Iterable[str]) -> None:
        """Refuse a table that has not each of some columns once.

        Parameters
        ----------
        columns : iterable of str

        Raises
        ------
        SfusionError
        """
        present = list(self.frame.columns)
        for column in columns:
            if column not in present:
                listed = ", ".join(map(str, present)) or "none"
                raise SfusionError(
                    f"{self.where} has no column {column!r}: it has {listed}"
                )
            if present.count(column) > 1:
                raise SfusionError(
                    f"{self.where} has {present.count(column)} columns {column!r}: "
                    "keep one of them"
                )


@dataclass(frozen=True, eq=False)
class Rows:
    """Labelled texts as they were given.

    Attributes
    ----------
    frame : DataFrame
        Columns ``text`` and ``label`` (class names), strings.
    names : tuple of str
        Names in the order of the class numbers, where the source declares them.
    where : str
        The source, for messages.
    notes : tuple of str
        What was read otherwise than it is written.
    """

    frame: pd.DataFrame
    names: tuple[str, ...]
    where: str
    notes: tuple[str, ...] = ()


def read_table(source: Source, label: str | None) -> Table:
    """Read a table from a file or from memory.

    Parameters
    ----------
    source : str, Path, DataFrame or datasets.Dataset
    label : str, optional
        Column whose class names may be declared.

    Returns
    -------
    Table

    Raises
    ------
    SfusionError
        When it is none of these, or the file is missing or cannot be read.
    """
    if isinstance(source, pd.DataFrame):
        return Table(source, None, "the data frame")
    if hasattr(source, "to_pandas") and hasattr(source, "features"):
        names = getattr(source.features.get(label), "names", None)
        return Table(source.to_pandas(), names, "the data set")
    if not isinstance(source, str | Path):
        raise SfusionError(
            f"data of type {type(source).__name__}: give a file or a data frame"
        )
    if not str(source):
        raise SfusionError("the name of a file is empty: give its path")
    if ADDRESS.match(str(source)):
        raise SfusionError(
            f"{source} is an address: fetch the file, and give its path here"
        )
    path = Path(source)
    content = read_file(path)
    names = None
    if content.schema is not None:
        names = declared_names(content.schema, label)
    return Table(content.frame, names, str(path))


def read_rows(
    source: Source,
    text_column: str = "text",
    label_column: str | None = "label",
) -> Rows:
    """Read labelled texts, every row of them.

    Parameters
    ----------
    source : str, Path, DataFrame or datasets.Dataset
        A file's form goes by its suffix, see :func:`sfusion.data.forms.read_file`.
    text_column, label_column : str
        Columns; labels are class names, without the blanks around them, or integers,
        where `datasets` declares class names their numbers. Where all labels are whole
        numbers, 1.0 is 1. Without a label column the texts are read alone.

    Returns
    -------
    Rows

    Raises
    ------
    SfusionError
        If the file is missing, unreadable, not UTF-8 or empty, a column is missing or
        there twice, a row has no text or no label, is the header again or holds other
        rows, or labels differ by case, blanks or Unicode form alone.
    """
    table = read_table(source, label_column)
    columns = [text_column]
    if label_column is not None:
        columns.append(label_column)
    table.require(columns)
    if table.frame.empty:
        raise SfusionError(f"{table.where} holds no text")
    texts = table.frame[text_column].tolist()
    for number, text in enumerate(texts, 1):
        _check_text(text, f"{table.where}: row {number}", text_column)
    labels = [""] * len(texts)
    notes = []
    if label_column is not None:
        labels = _read_labels(table, label_column)
        _check_header(table, texts, labels)
        _check_swallowed(table.where, texts, set(labels))
        notes = _note_blanks(table, label_column)
    frame = pd.DataFrame({"text": texts, "label": labels}, dtype=object)
    return Rows(frame, tuple(table.names or ()), table.where, tuple(notes))


def _check_text(text: object, row: str, column: str) -> None:
    if isinstance(text, str) and text.strip():
        return
    if isinstance(text, str) or pd.api.types.is_scalar(text) and pd.isna(text):
        raise SfusionError(f"{row} has no text in column {column!r}: remove such rows")
    raise SfusionError(
        f"{row} has {shown(text)} in column {column!r}, which is not text"
    )


def _read_labels(table: Table, column: str) -> list[str]:
    """Read the column of labels as class names."""
    labels = []
    for number, value in enumerate(table.frame[column].tolist(), 1):
        label = class_name(value)
        if label is None:
            raise SfusionError(
                f"{table.where}: row {number} has the label {shown(value)}: give one "
                "name or integer, or drop it"
            )
        labels.append(label)
    labels = plain_numbers(labels)
    if table.names is not None:
        return with_names(labels, table.names, table.where)
    refuse_similar(labels, table.where)
    return labels


def _check_header(table: Table, texts: Sequence[str], labels: Sequence[str]) -> None:
    """Refuse a row whose text and label are names of columns."""
    names = {str(column).strip().casefold() for column in table.frame.columns}
    for number, row in enumerate(zip(texts, labels, strict=True), 1):
        if all(cell.strip().casefold() in names for cell in row):
            raise SfusionError(
                f"{table.where}: row {number} is the header again: remove it"
            )


def _check_swallowed(where: str, texts: Iterable[str], labels: set[str]) -> None:
    """Refuse a text that is made of rows: a stray quote took them for one field.

    What is left of a row has its label beside a separator, without the blank that
    follows a comma in prose. A line that is the name of a class alone is no row.
    """
    for number, text in enumerate(texts, 1):
        lines = text.splitlines()
        if len(lines) < 2:
            continue
        ends = [_fields(line)[1:][-1:] for line in lines[:-1]]
        starts = [_fields(line)[:-1][:1] for line in lines[1:]]
        if _are_labels(ends, labels) or _are_labels(starts, labels):
            raise SfusionError(
                f"{where}: row {number} has a text of {len(lines)} lines, which are "
                "rows with labels of their own: look for a stray quote before or in it"
            )


def _are_labels(fields: list[list[str]], labels: set[str]) -> bool:
    return all(field and field[0] in labels for field in fields)


def _fields(line: str) -> list[str]:
    """Split a line where a file of rows may."""
    return [field.strip('"\r') for field in re.split(r"[,;\t|]", line)]


def _note_blanks(table: Table, column: str) -> list[str]:
    values = [value for value in table.frame[column] if isinstance(value, str)]
    padded = [value for value in values if value != value.strip()]
    if not padded:
        return []
    return [
        f"{table.where}: {len(padded)} label(s) have blanks around them, "
        f"{padded[0]!r} for one, and were read without"
    ]
