"""Splitting and drawing by the hash of each item.

The same on every machine and for every version of every library, whatever the order in which the
items come.
"""

import hashlib
from collections import Counter, defaultdict

import numpy as np


def _shuffled(items, salt):
    digests = [hashlib.sha256(f"{salt}\n{item}".encode()).digest() for item in items]
    return sorted(range(len(items)), key=digests.__getitem__)


def allocate(counts, n):
    """Share n places among classes in proportion to their counts.

    Parameters
    ----------
    counts : mapping of str to int
        Items a class.
    n : int
        Places to share.

    Returns
    -------
    dict of str to int
        Places a class: never more than its count, at least one each where n suffices; they sum
        to n, or to all there are.
    """
    n = min(n, sum(counts.values()))
    places = {label: int(n >= len(counts)) for label in counts}
    room = {label: count - places[label] for label, count in counts.items()}
    rest, total = n - sum(places.values()), max(1, sum(room.values()))
    for label in counts:
        places[label] += rest * room[label] // total
    # Largest remainders first; sorted() keeps the order of the classes among equals.
    by_remainder = sorted(counts, key=lambda label: -(rest * room[label] % total))
    for label in by_remainder[: n - sum(places.values())]:
        places[label] += 1
    return places


def _counts(labels):
    return dict(sorted(Counter(labels).items()))


def hold_out(labels, groups, share, salt):
    """Choose whole groups that hold about a share of every class.

    A group counts as its most frequent class. It is taken while that brings the class nearer to
    its quota, and never if it is the last one of its class. Groups of one reach quotas exactly.

    Parameters
    ----------
    labels, groups : sequence, length N
        Class and group of each item.
    share : float
        Share to hold out.
    salt : str
        Names the draw.

    Returns
    -------
    numpy.ndarray of bool, shape (N,)
        Whether an item is held out.
    """
    members = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        members[group][label] += 1
    quota = allocate(_counts(labels), round(share * len(labels)))
    main = {group: min(held, key=lambda label: (-held[label], label)) for group, held in members.items()}
    left, taken, chosen = Counter(main.values()), Counter(), set()
    names = list(members)
    for group in (names[i] for i in _shuffled(names, salt)):
        label, size = main[group], members[group].total()
        if left[label] > 1 and taken[label] + size / 2 <= quota[label]:
            chosen.add(group)
            left[label] -= 1
            taken += members[group]
    return np.array([group in chosen for group in groups], dtype=bool)


def draw(labels, items, n, salt):
    """Draw n items, classes in proportion; all of them, shuffled, where n is None or too large.

    Parameters
    ----------
    labels, items : sequence, length N
        Class and identity of each item.
    n : int or None
        Items to draw.
    salt : str
        Names the draw.

    Returns
    -------
    list of int
        Positions, in the order drawn.
    """
    places = allocate(_counts(labels), len(labels) if n is None else n)
    chosen = []
    for i in _shuffled(items, salt):
        if places[labels[i]]:
            places[labels[i]] -= 1
            chosen.append(i)
    return chosen
