"""Forms of a table in a file: CSV and its kin, JSON in three shapes, Parquet."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sfusion.data.labels import shown
from sfusion.errors import SfusionError, first_line, one_line

LONGEST_FIELD = 2**31 - 1  # characters of a CSV file's field: no limit

# What a CSV file without a comma in its header may separate its fields with.
SEPARATORS = (";", "\t", "|")

# Longest first: the mark of UTF-16 begins that of UTF-32.
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)

DELIMITED = (".csv", ".tsv")
JSON_LINES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*DELIMITED, *JSON_LINES, ".parquet")


class Content(NamedTuple):
    """What a file holds.

    Attributes
    ----------
    frame : DataFrame
    schema : pyarrow.Schema or None
        Of a Parquet file, for what its writer noted there.
    """

    frame: pd.DataFrame
    schema: pa.Schema | None = None


def read_file(path: Path) -> Content:
    """Read a table in the form that its suffix names, also compressed (.gz).

    Parameters
    ----------
    path : Path

    Returns
    -------
    Content
        Of a CSV file every column as it is written: a text "NA" is a text, and a label
        01 is not 1.

    Raises
    ------
    SfusionError
        When it is missing, of another form, not Unicode text, or cannot be read.
    """
    # A name may be too long to be asked for, or hold what no name can.
    with one_line(f"{shown(str(path))} cannot be read"):
        if path.is_dir():
            raise SfusionError(f"{path} is a directory: give one file")
        if not path.is_file():
            raise SfusionError(f"no file {path}")
        if path.stat().st_size == 0:
            raise SfusionError(f"{path} is empty")
    kind = form_of(path)
    if kind not in SUFFIXES:
        raise SfusionError(
            f"{path}: the suffix must be .csv, .tsv, .jsonl, .json or .parquet, as it "
            "is or with .gz behind it"
        )
    try:
        if kind == ".parquet":
            table = pq.read_table(path)
            return Content(table.to_pandas(), table.schema)
        text = _read_text(path)
        if kind in JSON_LINES:
            return Content(_parse_json(text))
        return Content(_parse_delimited(text, kind))
    except UnicodeDecodeError as error:
        raise SfusionError(
            f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8"
        ) from None
    except Exception as error:  # of three libraries, without a common base
        raise SfusionError(f"{path} cannot be read: {first_line(error)}") from error


def form_of(path: Path) -> str:
    """Name the form of a file: its suffix in small letters, .gz left out.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read_text(path: Path) -> str:
    """Read a file as text, by its byte order mark; without one as UTF-8."""
    content = path.read_bytes()
    if path.suffix.lower() == ".gz":
        content = gzip.decompress(content)
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    text = content.decode()
    if "\0" in text:
        raise ValueError("it holds zero bytes, which no text has: save it as UTF-8")
    return text


def _parse_delimited(text: str, kind: str) -> pd.DataFrame:
    header, _, rest = text.partition("\n")
    if header.startswith("sep="):  # which Excel writes and reads
        separator = header.removeprefix("sep=").rstrip("\r")
        text = rest
    else:
        separator = _separator_of(header, kind)
    if len(separator) != 1:
        raise ValueError(
            f"its first line is {header.strip()!r}: give one separator there"
        )
    names = _check_rows(text, separator)
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise ValueError(f"it has the column {min(doubled)!r} twice: keep one of them")
    frame = pd.read_csv(StringIO(text), sep=separator, dtype=str, na_filter=False)
    # pandas takes surplus fields at the front of every row for row names.
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(
            "rows have more fields than the header: put texts with commas in quotes"
        )
    frame.columns = [str(name).strip() for name in frame.columns]
    return frame


def _separator_of(header: str, kind: str) -> str:
    if kind == ".tsv":
        return "\t"
    if "," in header:
        return ","
    for separator in SEPARATORS:
        if separator in header:
            return separator
    return ","


def _check_rows(text: str, separator: str) -> list[str]:
    """Read the header, and refuse a quote closed in a later line, with text behind it.

    It was meant as a character, and the rows between would become one text.
    """
    header = None
    csv.field_size_limit(LONGEST_FIELD)
    stream = StringIO(text, newline="")
    rows = csv.reader(stream, strict=True, delimiter=separator)
    first_line_of_row = 1
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return header or []
            header = header or [name.strip() for name in row]
        except csv.Error:
            if rows.line_num > first_line_of_row:
                raise ValueError(
                    f"a quote in line {first_line_of_row} spans rows up to line "
                    f"{rows.line_num}: put the whole text in quotes, those in it "
                    "doubled"
                ) from None
        first_line_of_row = rows.line_num + 1


def _parse_json(text: str) -> pd.DataFrame:
    """Read objects: one a line, spread over lines, or in an array."""
    values = list(_json_values(text))
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    example = '{"text": "...", "label": "..."}'
    for number, value in enumerate(values, 1):
        if not isinstance(value, dict):
            raise ValueError(f"row {number} is not an object such as {example}")
    if len(values) == 1 and _holds_columns(values[0]):
        raise ValueError(
            f"it is one object that holds all rows: write {example}, one object per "
            "line"
        )
    # Cells of every type: numbers and names may stand in one column.
    return pd.DataFrame(values, dtype=object)


def _json_values(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    position = _skip_blanks(text, 0)
    while position < len(text):
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"not one object per line (line {error.lineno}: {error.msg})"
            ) from None
        yield value
        position = _skip_blanks(text, end)


def _skip_blanks(text: str, start: int) -> int:
    found = re.compile(r"\S").search(text, start)
    return found.start() if found else len(text)


def _holds_columns(value: dict[str, Any]) -> bool:
    """Check whether a single object is a table of its own."""
    cells = value.values()
    return len(cells) > 0 and all(isinstance(cell, list | dict) for cell in cells)
