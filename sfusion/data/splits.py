"""Splitting and drawing texts, by the hash of each."""

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sfusion.data.labels import _listed, order_labels
from sfusion.errors import SfusionError

SPLITS = ("train", "validation", "test")

# Held out of an embedded corpus for testing; and of what is left, for validation, where
# neither sizes nor a validation file say how much.
CORPUS_TEST_SHARE, VALIDATION_SHARE = 0.25, 0.2

# Of the user's own texts, where there is no test file; and the most texts for
# validation.
OWN_TEST_SHARE, VALIDATION_LIMIT = 0.2, 2000


def _shuffled(items, salt):
    digests = [hashlib.sha256(f"{salt}\n{item}".encode()).digest() for item in items]
    return sorted(range(len(items)), key=digests.__getitem__)


def allocate(counts, n):
    """Share n places among classes in proportion to their counts.

    Parameters
    ----------
    counts : mapping of str to int
        Items per class.
    n : int
        Places to share.

    Returns
    -------
    dict of str to int
        Places per class: never more than its count, at least one each where n suffices;
        they sum to n, or to all there are.
    """
    n = min(n, sum(counts.values()))
    places = {label: int(n >= len(counts)) for label in counts}
    room = {label: count - places[label] for label, count in counts.items()}
    rest, total = n - sum(places.values()), max(1, sum(room.values()))
    for label in counts:
        places[label] += rest * room[label] // total
    # Largest remainders first; sorted() keeps the order of the classes among equals.
    for label in sorted(counts, key=lambda label: -(rest * room[label] % total))[
        : n - sum(places.values())
    ]:
        places[label] += 1
    return places


def _counts(labels):
    return dict(sorted(Counter(labels).items()))


def hold_out(labels, groups, share, salt):
    """Choose whole groups that hold about a share of every class.

    A group counts as its most frequent class. It is taken while that brings the class
    nearer to its quota, and never if it is the last one of its class. Groups of one
    reach quotas exactly.

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
    main = {
        group: min(held, key=lambda label: (-held[label], label))
        for group, held in members.items()
    }
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


@dataclass(frozen=True, eq=False)
class Pool:
    """All there is of a task.

    Attributes
    ----------
    rest : DataFrame
        What is split by seed: ``text``, ``label`` and maybe more.
    test : DataFrame
        Columns ``text`` and ``label``.
    group : str
        Column of ``rest`` whose equal rows stay together.
    label_names : tuple of str
    validation_share : float
        Of ``rest``, where nothing else is asked for.
    source : str
        As in ``Task``.
    """

    rest: pd.DataFrame
    test: pd.DataFrame
    group: str
    label_names: tuple[str, ...]
    validation_share: float
    source: str


def _held_out(frame, group, share, salt):
    held = hold_out(frame["label"].tolist(), frame[group].tolist(), share, salt)
    return frame[~held], frame[held]


def divide(pool, sizes, seed, where):
    """Divide the rest of a pool into training and validation, and draw from these and its test part.

    Parameters
    ----------
    pool : Pool
    sizes : sequence of 3 ints or None
        Texts of train, validation and test; None, or too many, for all there are.
    seed : int
        Varies the training and validation texts and their order; the test texts stay
        the same.
    where : str
        Source, for the message.

    Returns
    -------
    dict of str to DataFrame
        ``train``, ``validation`` and ``test``: rows in the order drawn, classes in
        proportion.

    Raises
    ------
    SfusionError
        When there are too few texts for one of them.
    """
    share = (
        sizes[1] / (sizes[0] + sizes[1])
        if sizes[0] and sizes[1]
        else pool.validation_share
    )
    parts = *_held_out(pool.rest, pool.group, share, f"validation {seed}"), pool.test
    drawn, salts = {}, (f"train {seed}", f"validation {seed}", "test")
    for name, part, size, salt in zip(SPLITS, parts, sizes, salts, strict=True):
        if part.empty:
            raise SfusionError(f"{where}: too few texts for a {name} split")
        drawn[name] = part.iloc[
            draw(part["label"].tolist(), part["text"].tolist(), size, salt)
        ]
    return drawn


def split_rows(train, test, *, seed, limit):
    """Split labelled texts into training, validation and test, classes in proportion.

    A text is in one split only: texts of the test file are taken out of the training
    file, and of equal training texts the first stays. A test file is kept whole.

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
        When there is one class alone, the test file has a label that the training file
        lacks, or too few texts are left for a split.
    """
    order_labels((), [train.frame], train.where)
    rest = train.frame.drop_duplicates("text", ignore_index=True)
    if test is None:
        rest, held = _held_out(rest, "text", OWN_TEST_SHARE, f"test {seed}")
    else:
        held = test.frame
        known = set(train.frame["label"])
        if strange := [label for label in held["label"] if label not in known]:
            raise SfusionError(
                f"{test.where} has the label {strange[0]!r}, {train.where} has not: it has {_listed(sorted(known))}"
            )
        rest = rest[~rest["text"].isin(held["text"])]
        if rest.empty:
            raise SfusionError(f"{train.where}: every text occurs in {test.where}")
    order_labels((), [rest], train.where)
    share = min(VALIDATION_SHARE, VALIDATION_LIMIT / len(rest))
    parts = divide(
        Pool(rest, held, "text", (), share, train.where),
        (limit, None, None),
        seed,
        train.where,
    )
    # A user's validation and test texts keep the order of the file.
    kept = {name: parts[name].sort_index() for name in ("validation", "test")}
    return {
        name: part.reset_index(drop=True) for name, part in {**parts, **kept}.items()
    }
