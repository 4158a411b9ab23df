"""Labels: their names, their order, and a classifier's numbers for them."""

import json
import numbers
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from sfusion.errors import SfusionError


def class_name(value: object) -> str | None:
    """Write a label as text, without the blanks around it.

    Parameters
    ----------
    value : object

    Returns
    -------
    str or None
        None where there is none, or it is neither a name nor an integer.
    """
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    # A column of integers with a gap is read as one of floats.
    if isinstance(value, numbers.Real) and float(value).is_integer():
        return str(int(float(value)))
    if isinstance(value, str) and value.strip():
        return value.strip()
    return None


def declared_names(table: pa.Table, label: str | None) -> list[str] | None:
    """Read the names of a ClassLabel column from the metadata that `datasets` writes.

    Parameters
    ----------
    table : pyarrow.Table
        Of a Parquet file.
    label : str
        Column.

    Returns
    -------
    list of str or None
    """
    metadata = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(label, {})
    return feature.get("names") if isinstance(feature, dict) else None


def with_names(
    class_numbers: Iterable[object], names: Sequence[str], where: str
) -> list[str]:
    """Look up the names of class numbers.

    Parameters
    ----------
    class_numbers : iterable of int or str
    names : sequence of str
        In the order of the class numbers.
    where : str
        The source, for the message.

    Returns
    -------
    list of str

    Raises
    ------
    SfusionError
        When a number has no name.
    """
    known = {str(number): name for number, name in enumerate(names)}
    found = [str(number) for number in class_numbers]
    for number in found:
        if number not in known:
            raise SfusionError(
                f"{where} has label {number}: there are {len(names)} label names"
            )
    return [known[number] for number in found]


def refuse_similar(labels: Iterable[str], where: str) -> None:
    """Refuse labels that differ by case alone: nobody means two classes by them.

    Parameters
    ----------
    labels : iterable of str
    where : str
        The source, for the message.

    Raises
    ------
    SfusionError
    """
    first_of: dict[str, str] = {}
    for label in labels:
        first = first_of.setdefault(label.casefold(), label)
        if first != label:
            raise SfusionError(
                f"{where} has the labels {first!r} and {label!r}, which differ only by "
                "case: write them alike"
            )


def order_labels(
    declared: Iterable[str], frames: Sequence[pd.DataFrame], where: str
) -> tuple[str, ...]:
    """Put class names in order: as declared, else sorted, numbers by value.

    Parameters
    ----------
    declared : iterable of str
        Names in the order of the class numbers; they count if they cover all that are
        used.
    frames : sequence of DataFrame
        Columns text and label.
    where : str
        Source, for the message.

    Returns
    -------
    tuple of str

    Raises
    ------
    SfusionError
        When fewer than two classes are used.
    """
    used = {name for frame in frames for name in frame["label"]}
    if len(used) < 2:
        raise SfusionError(f"{where} has {len(used)} class(es): at least 2 are needed")
    if used <= set(declared):
        return tuple(declared)
    whole_numbers = [name for name in used if name.isdecimal()]
    words = sorted(used.difference(whole_numbers))
    return (*sorted(whole_numbers, key=lambda name: (int(name), name)), *words)


def list_names(names: Sequence[str], most: int = 8) -> str:
    """Write names in one short line.

    Parameters
    ----------
    names : sequence of str
    most : int
        How many to write out.

    Returns
    -------
    str
    """
    listed = ", ".join(map(repr, names[:most]))
    if len(names) > most:
        return f"{listed} and {len(names) - most} more"
    return listed


def resolve_labels(
    used: Sequence[str],
    own: Sequence[str],
    where: str,
    labels: Sequence[str] | None = None,
) -> dict[str, int]:
    """Map the labels of the data to the numbers that a trained classifier has for them.

    Parameters
    ----------
    used : sequence of str
        Labels of the data: the classifier's names, all or some, or its class numbers,
        all.
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
            f"{len(labels)} labels are given for the model's {len(own)} classes: name "
            "each once"
        )
    names = tuple(labels or own)
    strange = [label for label in used if label not in names]
    if not strange:
        return {label: names.index(label) for label in used}
    # All of them: of some, one could not tell whether they are counted from 0 or 1.
    if set(used) == {str(number) for number in range(len(names))}:
        return {label: int(label) for label in used}
    raise SfusionError(
        f"{where} has the label {strange[0]!r}, the model's classes are "
        f"{list_names(names)}: name the data's labels in the model's order (--labels), "
        "or train a new head (--new-head)"
    )
