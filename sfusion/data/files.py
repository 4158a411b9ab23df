"""The user's own labelled texts: read strictly, split, labels matched."""

import functools
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sfusion import SfusionError
from sfusion.data.sources import class_names, first_line, order_labels
from sfusion.data.splits import draw, hold_out

# Held out for testing where there is no test file, and of what is left, for validation.
TEST_SHARE, VALIDATION_SHARE, VALIDATION_LIMIT = 0.2, 0.2, 2000


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


def _read_csv(path):
    # Every column as it is written: a text "NA" is a text, and a label 01 is not 1.
    frame = pd.read_csv(path, dtype=str, na_filter=False)
    # pandas takes surplus fields at the front of every row for row names.
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError("rows have more fields than the header: put texts with commas in quotes")
    return frame, None


def _read_jsonl(path):
    try:
        frame = pd.read_json(path, lines=True, encoding="utf-8", dtype=False, convert_axes=False)
    except TypeError:
        raise ValueError('a line is no object such as {"text": "...", "label": "..."}') from None
    return frame, None


def _read_parquet(path, label):
    table = pq.read_table(path)
    return table.to_pandas(), class_names(table.schema, label)


def _load(source, label):
    """Give a table, the class names it declares, and what to call it."""
    if isinstance(source, pd.DataFrame):
        return source, None, "the data frame"
    if hasattr(source, "to_pandas") and hasattr(source, "features"):  # a datasets.Dataset
        names = getattr(source.features.get(label), "names", None)
        return source.to_pandas(), names, "the data set"
    if not isinstance(source, str | Path):
        raise SfusionError(f"data of type {type(source).__name__}: give a file or a data frame")
    path = Path(source)
    if not path.is_file():
        raise SfusionError(f"no file {path}")
    read = {
        ".csv": _read_csv,
        ".jsonl": _read_jsonl,
        ".parquet": functools.partial(_read_parquet, label=label),
    }.get(path.suffix)
    if read is None:
        raise SfusionError(f"{path}: the suffix must be .csv, .jsonl or .parquet")
    try:
        return *read(path), str(path)
    except UnicodeDecodeError as error:
        raise SfusionError(f"{path} is no UTF-8 text ({error.reason}): save it as UTF-8") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        kind = "Parquet file" if path.suffix == ".parquet" else "file"
        raise SfusionError(f"{path} is no readable {kind}: {first_line(error)}") from None


def _class_name(value):
    """Write a label as text; None where there is none."""
    if isinstance(value, str):
        return value or None
    if value is None or pd.isna(value):
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    # A column of integers with a gap is read as one of floats.
    if isinstance(value, numbers.Real) and float(value).is_integer():
        return str(int(value))
    raise SfusionError(f"{value!r} is no class")


def read_rows(source, text_column="text", label_column="label"):
    """Read labelled texts, every row of them.

    Parameters
    ----------
    source : str, Path, DataFrame or datasets.Dataset
        A file is CSV, JSONL or Parquet, by its suffix.
    text_column, label_column : str
        Columns; labels are class names or integers, where `datasets` declares class names their
        numbers.

    Returns
    -------
    Rows

    Raises
    ------
    SfusionError
        If the file is missing, unreadable, not UTF-8 or empty, a column is missing, or a row has
        no text or no label.
    """
    raw, names, where = _load(source, label_column)
    for column in (text_column, label_column):
        if column not in raw:
            has = ", ".join(map(str, raw)) or "none"
            raise SfusionError(f"{where} has no column {column!r}: it has {has}")
    if raw.empty:
        raise SfusionError(f"{where} holds no labelled text")
    texts, given = raw[text_column].tolist(), raw[label_column].tolist()
    labels = []
    for number, (text, value) in enumerate(zip(texts, given, strict=True), 1):
        if not isinstance(text, str) or not text.strip():
            raise SfusionError(
                f"{where}: row {number} has no text in column {text_column!r}: remove such rows"
            )
        try:
            label = _class_name(value)
        except (SfusionError, TypeError, ValueError):
            raise SfusionError(
                f"{where}: row {number} has the label {value!r}: give names or integers"
            ) from None
        if label is None:
            raise SfusionError(
                f"{where}: row {number} has no label in column {label_column!r}: remove such rows"
            )
        if names is not None:
            if not (label.isdecimal() and int(label) < len(names)):
                raise SfusionError(f"{where} has label {label}: there are {len(names)} label names")
            label = names[int(label)]
        labels.append(label)
    frame = pd.DataFrame({"text": texts, "label": labels}, dtype=object)
    return Rows(frame, tuple(names or ()), where)


def split_rows(train: Rows, test: Rows | None, *, seed: int, limit: int):
    """Split labelled texts into training, validation and test, classes in proportion.

    A text is in one split only: texts of the test file are taken out of the training file, and
    of equal training texts the first stays. A test file is kept whole.

    Parameters
    ----------
    train : Rows
    test : Rows or None
        Without it a fifth of the training texts is held out.
    seed : int
        Varies the splits.
    limit : int
        Training texts to keep; more are not needed.

    Returns
    -------
    dict of str to DataFrame
        ``train``, ``validation``, ``test``: columns ``text`` and ``label``.

    Raises
    ------
    SfusionError
        When there is one class alone, the test file has a label that the training file lacks, or
        too few texts are left for a split.
    """
    order_labels((), [train.frame], train.where)
    rest = train.frame.drop_duplicates("text", ignore_index=True)
    if test is None:
        rest, held = _held_out(rest, TEST_SHARE, f"test {seed}")
    else:
        held = test.frame
        known = set(train.frame["label"])
        strange = [label for label in held["label"] if label not in known]
        if strange:
            raise SfusionError(
                f"{test.where} has the label {strange[0]!r}, {train.where} has not: "
                f"it has {_listed(sorted(known))}"
            )
        rest = rest[~rest["text"].isin(set(held["text"]))]
        if rest.empty:
            raise SfusionError(f"{train.where}: every text occurs in {test.where}")
    order_labels((), [rest], train.where)
    share = min(VALIDATION_SHARE, VALIDATION_LIMIT / len(rest))
    rest, validation = _held_out(rest, share, f"validation {seed}")
    chosen = draw(rest["label"].tolist(), rest["text"].tolist(), limit, f"train {seed}")
    parts = {"train": rest.iloc[chosen], "validation": validation, "test": held}
    for split, part in parts.items():
        if part.empty:
            raise SfusionError(f"{train.where}: too few texts for a {split} split")
    return {split: part.reset_index(drop=True) for split, part in parts.items()}


def _held_out(frame, share, salt):
    held = hold_out(frame["label"].tolist(), frame["text"].tolist(), share, salt)
    return frame[~held], frame[held]


def _listed(names: Sequence[str], most: int = 8) -> str:
    """Write names in one short line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def resolve_labels(
    found: Sequence[str], own: Sequence[str], where: str, labels: Sequence[str] | None = None
) -> dict[str, int]:
    """Give the labels of the data the numbers that a trained classifier has for them.

    Parameters
    ----------
    found : sequence of str
        Labels of the data: the classifier's names, all or some, or its class numbers, all.
    own : sequence of str
        The classifier's names, in the order of its class numbers.
    where : str
        The data, for messages.
    labels : sequence of str, optional
        The names to use for the classifier's classes, in its order.

    Returns
    -------
    dict of str to int
        Class number of each label of the data.

    Raises
    ------
    SfusionError
        When they do not match: which label is which is never guessed.
    """
    if labels is not None and len(labels) != len(own):
        raise SfusionError(
            f"{len(labels)} labels are given for the model's {len(own)} classes: name each once"
        )
    names = tuple(labels or own)
    strange = [label for label in found if label not in names]
    if not strange:
        return {label: names.index(label) for label in found}
    # All of them: of some, one could not tell whether they are counted from 0 or from 1.
    if set(found) == {str(number) for number in range(len(names))}:
        return {label: int(label) for label in found}
    raise SfusionError(
        f"{where} has the label {strange[0]!r}, the model's classes are {_listed(names)}: name "
        "the data's labels in the model's order (--labels), or train a new head (--new-head)"
    )
