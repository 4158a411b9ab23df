"""Labels: their names, their order, and a classifier's numbers for them."""

import json
import numbers

import numpy as np

from sfusion.errors import SfusionError


def _named(numbers, names, where):
    """Look up the names of class numbers."""
    known = {str(number): name for number, name in enumerate(names)}
    if wrong := [number for number in numbers if str(number) not in known]:
        raise SfusionError(
            f"{where} has label {wrong[0]}: there are {len(names)} label names"
        )
    return [known[str(number)] for number in numbers]


def order_labels(declared, frames, where):
    """Put class names in order: as declared, else sorted, numbers by value.

    Parameters
    ----------
    declared : sequence of str
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
    found = {name for frame in frames for name in frame["label"]}
    if len(found) < 2:
        raise SfusionError(f"{where} has {len(found)} class(es): at least 2 are needed")
    if set(declared) >= found:
        return tuple(declared)
    return tuple(
        sorted(
            found,
            key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name),
        )
    )


def class_names(schema, label):
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
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(label, {})
    return feature.get("names") if isinstance(feature, dict) else None


def _class_name(value):
    """Write a label as text; None where there is none, or it is neither a name nor an integer."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    # A column of integers with a gap is read as one of floats.
    if isinstance(value, numbers.Real) and float(value).is_integer():
        return str(int(value))
    return value or None if isinstance(value, str) else None


def _listed(names, most=8):
    """Write names in one short line."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def resolve_labels(found, own, where, labels=None):
    """Map the labels of the data to the numbers that a trained classifier has for them.

    Parameters
    ----------
    found : sequence of str
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
            f"{len(labels)} labels are given for the model's {len(own)} classes: name each once"
        )
    names = tuple(labels or own)
    strange = [label for label in found if label not in names]
    if not strange:
        return {label: names.index(label) for label in found}
    # All of them: of some, one could not tell whether they are counted from 0 or from
    # 1.
    if set(found) == {str(number) for number in range(len(names))}:
        return {label: int(label) for label in found}
    raise SfusionError(
        f"{where} has the label {strange[0]!r}, the model's classes are {_listed(names)}: name "
        "the data's labels in the model's order (--labels), or train a new head (--new-head)"
    )
