"""The user's own files: labelled texts as CSV, JSONL or Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sfusion.data.labels import (
    class_name,
    declared_names,
    refuse_similar,
    with_names,
)
from sfusion.errors import SfusionError, first_line

if TYPE_CHECKING:
    import datasets

    Source: TypeAlias = str | Path | pd.DataFrame | datasets.Dataset


LONGEST_FIELD = 2**31 - 1  # characters of a CSV file's field: no limit


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
    """

    frame: pd.DataFrame
    names: tuple[str, ...]
    where: str


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
    path = Path(source)
    if not path.is_file():
        raise SfusionError(f"no file {path}")
    kind = path.suffix.lower()
    if kind not in (".csv", ".jsonl", ".parquet"):
        raise SfusionError(f"{path}: the suffix must be .csv, .jsonl or .parquet")
    try:
        if kind == ".parquet":
            table = pq.read_table(path)
            return Table(table.to_pandas(), declared_names(table, label), str(path))
        read = _read_csv if kind == ".csv" else _read_jsonl
        return Table(read(path), None, str(path))
    except UnicodeDecodeError as error:
        raise SfusionError(
            f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8"
        ) from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SfusionError(f"{path} cannot be read: {first_line(error)}") from None


def _read_csv(path: Path) -> pd.DataFrame:
    _check_quotes(path)
    # Every column as it is written: a text "NA" is a text, and a label 01 is not 1.
    frame = pd.read_csv(path, dtype=str, na_filter=False, encoding="utf-8-sig")
    # pandas takes surplus fields at the front of every row for row names.
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(
            "rows have more fields than the header: put texts with commas in quotes"
        )
    if str(frame.columns[0]).startswith("sep="):
        raise ValueError("remove its first line, sep=, which Excel alone reads")
    return frame


def _check_quotes(path: Path) -> None:
    """Refuse a quote that is closed in a later line, with text behind it.

    It was meant as a character, and the rows between would become one text.
    """
    csv.field_size_limit(LONGEST_FIELD)
    with open(path, newline="", encoding="utf-8-sig") as stream:
        rows = csv.reader(stream, strict=True)
        first_line_of_row = 1
        while True:
            try:
                if next(rows, None) is None:
                    return
            except csv.Error:
                if rows.line_num > first_line_of_row:
                    raise ValueError(
                        f"a quote in line {first_line_of_row} spans rows up to line "
                        f"{rows.line_num}: put the whole text in quotes, those in it "
                        "doubled"
                    ) from None
            first_line_of_row = rows.line_num + 1


def _read_jsonl(path: Path) -> pd.DataFrame:
    content = path.read_text("utf-8-sig")
    is_array = content.lstrip().startswith("[")
    try:
        return pd.read_json(
            StringIO(content),
            lines=not is_array,
            dtype=False,
            convert_axes=False,
        )
    except ValueError as error:
        raise ValueError(f"not one object per line ({first_line(error)})") from None
    except TypeError:
        raise ValueError(
            'a line is not an object such as {"text": "...", "label": "..."}'
        ) from None


def read_rows(
    source: Source,
    text_column: str = "text",
    label_column: str | None = "label",
) -> Rows:
    """Read labelled texts, every row of them.

    Parameters
    ----------
    source : str, Path, DataFrame or datasets.Dataset
        A file is CSV, JSONL or Parquet, by its suffix.
    text_column, label_column : str
        Columns; labels are class names, without the blanks around them, or integers,
        where `datasets` declares class names their numbers. Without a label column the
        texts are read alone.

    Returns
    -------
    Rows

    Raises
    ------
    SfusionError
        If the file is missing, unreadable, not UTF-8 or empty, a column is missing or
        there twice, a row has no text or no label or is the header again, or labels
        differ by case alone.
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
    if label_column is not None:
        labels = _read_labels(table, label_column)
        header = (text_column, label_column)
        _check_header(table.where, header, zip(texts, labels, strict=True))
    frame = pd.DataFrame({"text": texts, "label": labels}, dtype=object)
    return Rows(frame, tuple(table.names or ()), table.where)


def _check_text(text: object, row: str, column: str) -> None:
    if isinstance(text, str) and text.strip():
        return
    if isinstance(text, str) or pd.api.types.is_scalar(text) and pd.isna(text):
        raise SfusionError(f"{row} has no text in column {column!r}: remove such rows")
    raise SfusionError(f"{row} has {text!r} in column {column!r}, which is not text")


def _read_labels(table: Table, column: str) -> list[str]:
    """Read the column of labels as class names."""
    labels = []
    for number, value in enumerate(table.frame[column].tolist(), 1):
        label = class_name(value)
        if label is None:
            raise SfusionError(
                f"{table.where}: row {number} has the label {value!r}: give a name or "
                "an integer, or drop it"
            )
        labels.append(label)
    if table.names is not None:
        return with_names(labels, table.names, table.where)
    refuse_similar(labels, table.where)
    return labels


def _check_header(
    where: str, header: tuple[str, str], rows: Iterable[tuple[str, str]]
) -> None:
    for number, row in enumerate(rows, 1):
        if row == header:
            raise SfusionError(f"{where}: row {number} is the header again: remove it")
