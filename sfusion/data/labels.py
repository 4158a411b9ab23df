"""Labels: their names, their order, and a classifier's numbers for them."""

import json
import numbers
import re
import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa

from sfusion.errors import SfusionError

WHOLE_NUMBER = re.compile(r"[+-]?\d+(\.0*)?")

# Unicode categories of what is not seen: blanks, and marks such as a joiner's.
UNSEEN = ("Zs", "Zl", "Zp", "Cc", "Cf")


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


def plain_numbers(labels: Sequence[str]) -> list[str]:
    """Write whole numbers without a fraction, where all labels are numbers.

    Parameters
    ----------
    labels : sequence of str

    Returns
    -------
    list of str
        "1.0" becomes "1"; where a label is no whole number, all stay as they are.
    """
    if all(WHOLE_NUMBER.fullmatch(label) for label in labels):
        return [_without_fraction(label) for label in labels]
    return list(labels)


def _without_fraction(number: str) -> str:
    return number.partition(".")[0]


def shown(value: object, most: int = 60) -> str:
    """Write any value in one short line.

    Parameters
    ----------
    value : object
    most : int
        Characters.

    Returns
    -------
    str
    """
    line = " ".join(repr(value).split())
    return line if len(line) <= most else f"{line[:most]}..."


def declared_names(schema: pa.Schema, label: str | None) -> list[str] | None:
    """Read the names of a ClassLabel column from the metadata that `datasets` writes.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of a Parquet file.
    label : str
        Column.

    Returns
    -------
    list of str or None
    """
    noted = (schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        names = json.loads(noted)["info"]["features"][label]["names"]
    except (ValueError, LookupError, TypeError):  # another writer's, or none
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else None


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
    """Refuse labels that differ by what nobody means two classes by.

    Parameters
    ----------
    labels : iterable of str
    where : str
        The source, for the message.

    Raises
    ------
    SfusionError
        When two differ only by case, blanks, Unicode form or the zeros of a fraction.
    """
    first_of: dict[str, str] = {}
    for label in dict.fromkeys(labels):
        first = first_of.setdefault(_essence(label), label)
        if first != label:
            raise SfusionError(
                f"{where} has the labels {_spelled(first)} and {_spelled(label)}, "
                f"which differ only by {_difference(first, label)}: write them alike"
            )


def _essence(label: str) -> str:
    """Reduce a label to what tells classes apart."""
    if WHOLE_NUMBER.fullmatch(label):
        return _without_fraction(label)
    folded = unicodedata.normalize("NFKC", label).casefold()
    visible = [char for char in folded if unicodedata.category(char) not in UNSEEN]
    return unicodedata.normalize("NFKC", "".join(visible))


def _difference(one: str, other: str) -> str:
    if one.casefold() == other.casefold():
        return "case"
    if "".join(one.split()) == "".join(other.split()):
        return "blanks"
    if WHOLE_NUMBER.fullmatch(one):
        return "the zeros of a fraction"
    return "case, blanks or Unicode form"


def _spelled(label: str) -> str:
    """Write a label so that no character looks like another."""
    return repr(label) if label.isascii() else f"{label!r} ({ascii(label)})"


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


def counted(count: int, noun: str) -> str:
    """Write a number of things, such as ``1 text`` or ``2 classes``.

    Parameters
    ----------
    count : int
    noun : str
        Of one thing.

    Returns
    -------
    str
    """
    if count == 1:
        return f"1 {noun}"
    ending = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


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
    otherwise: str = "",
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
    otherwise : str
        What else could be done, for the message.

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
    names = tuple(plain_numbers(labels or own))
    strange = [label for label in used if label not in names]
    if not strange:
        return {label: names.index(label) for label in used}
    # All of them: of some, one could not tell whether they are counted from 0 or 1.
    if set(used) == {str(number) for number in range(len(names))}:
        return {label: int(label) for label in used}
    raise SfusionError(
        f"{where} has the label {strange[0]!r}, the model's classes are "
        f"{list_names(names)}: name the data's labels in the model's order, such as "
        f"--labels {','.join(used[:3])}{otherwise}"
    )
