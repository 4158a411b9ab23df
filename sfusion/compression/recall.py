"""Accuracy class by class: a class that is lost hardly shows in the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

LOST = 0.5  # share of a class's right answers that are gone
FEWEST = 3  # right answers before, below which nothing is said


def recall_per_class(
    predicted: torch.Tensor, labels: torch.Tensor, names: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count the texts of each class, and those that were found.

    Parameters
    ----------
    predicted, labels : LongTensor, shape (N,)
        Class numbers.
    names : sequence of str
        In the order of the class numbers.

    Returns
    -------
    dict of str to dict
        ``found`` and ``texts`` of each class that occurs; their ratio is the recall.
    """
    right = labels[predicted == labels].numpy()
    found = np.bincount(right, minlength=len(names))
    texts = np.bincount(labels.numpy(), minlength=len(names))
    return {
        name: {"found": int(found[number]), "texts": int(texts[number])}
        for number, name in enumerate(names)
        if texts[number]
    }


def lost_classes(recalls: Mapping[str, Mapping[str, dict[str, int]]]) -> list[str]:
    """Say which classes the smaller model hardly finds any more.

    Parameters
    ----------
    recalls : mapping of str to mapping
        ``before`` and ``after``: see :func:`recall_per_class`.

    Returns
    -------
    list of str
        A line per class of which fewer than half of what was found is found again.
    """
    lines = []
    for name, before in recalls["before"].items():
        found = recalls["after"][name]["found"]
        if before["found"] >= FEWEST and found < LOST * before["found"]:
            lines.append(
                f"the class {name!r} was lost: {found} of its {before['texts']} test "
                f"texts are found, {before['found']} before"
            )
    return lines
