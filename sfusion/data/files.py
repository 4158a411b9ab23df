"""The user's own files: labelled texts as CSV, JSONL or Parquet."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sfusion.data.labels import _class_name, _named, class_names
from sfusion.errors import SfusionError, first_line


def _require(raw, columns, where):
    for column in columns:
        if column not in raw:
            raise SfusionError(
                f"{where} has no column {column!r}: it has {', '.join(map(str, raw)) or 'none'}"
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


def _load(source, label):
    """Return a table, the class names it declares, and its name in messages."""
    if isinstance(source, pd.DataFrame):
        return source, None, "the data frame"
    if hasattr(source, "to_pandas") and hasattr(
        source, "features"
    ):  # a datasets.Dataset
        return (
            source.to_pandas(),
            getattr(source.features.get(label), "names", None),
            "the data set",
        )
    if not isinstance(source, str | Path):
        raise SfusionError(
            f"data of type {type(source).__name__}: give a file or a data frame"
        )
    path = Path(source)
    if not path.is_file():
        raise SfusionError(f"no file {path}")
    if path.suffix not in (".csv", ".jsonl", ".parquet"):
        raise SfusionError(f"{path}: the suffix must be .csv, .jsonl or .parquet")
    try:
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            return table.to_pandas(), class_names(table.schema, label), str(path)
        if path.suffix == ".jsonl":
            return (
                pd.read_json(
                    path, lines=True, encoding="utf-8", dtype=False, convert_axes=False
                ),
                None,
                str(path),
            )
        # Every column as it is written: a text "NA" is a text, and a label 01 is not 1.
        frame = pd.read_csv(path, dtype=str, na_filter=False)
        # pandas takes surplus fields at the front of every row for row names.
        if not isinstance(frame.index, pd.RangeIndex):
            raise ValueError(
                "rows have more fields than the header: put texts with commas in quotes"
            )
        return frame, None, str(path)
    except TypeError:
        raise SfusionError(
            f'{path}: a line is not an object such as {{"text": "...", "label": "..."}}'
        ) from None
    except UnicodeDecodeError as error:
        raise SfusionError(
            f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8"
        ) from None
    except (OSError, ValueError, pa.ArrowException) as error:
        kind = "Parquet file" if path.suffix == ".parquet" else "file"
        raise SfusionError(
            f"{path} is not a readable {kind}: {first_line(error)}"
        ) from None


def read_rows(source, text_column="text", label_column="label"):
    """Read labelled texts, every row of them.

    Parameters
    ----------
    source : str, Path, DataFrame or datasets.Dataset
        A file is CSV, JSONL or Parquet, by its suffix.
    text_column, label_column : str
        Columns; labels are class names or integers, where `datasets` declares class
        names their numbers. Without a label column the texts are read alone.

    Returns
    -------
    Rows

    Raises
    ------
    SfusionError
        If the file is missing, unreadable, not UTF-8 or empty, a column is missing, or
        a row has no text or no label.
    """
    raw, names, where = _load(source, label_column)
    _require(
        raw,
        [column for column in (text_column, label_column) if column is not None],
        where,
    )
    if raw.empty:
        raise SfusionError(f"{where} holds no text")
    texts, values = (
        raw[text_column].tolist(),
        [""] * len(raw) if label_column is None else raw[label_column].tolist(),
    )
    labels = values if label_column is None else list(map(_class_name, values))
    for number, (text, value, label) in enumerate(
        zip(texts, values, labels, strict=True), 1
    ):
        if not isinstance(text, str) or not text.strip():
            raise SfusionError(
                f"{where}: row {number} has no text in column {text_column!r}: remove such rows"
            )
        if label is None:
            raise SfusionError(
                f"{where}: row {number} has the label {value!r}: give a name or an integer, or drop it"
            )
    if names is not None:
        labels = _named(labels, names, where)
    return Rows(
        pd.DataFrame({"text": texts, "label": labels}, dtype=object),
        tuple(names or ()),
        where,
    )
