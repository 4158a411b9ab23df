"""Splitting and drawing texts, by the hash of each."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sfusion.data.files import Rows
from sfusion.data.labels import list_names, order_labels
from sfusion.errors import SfusionError

SPLITS = ("train", "validation", "test")

# Held out of an embedded corpus for testing; and of what is left, for validation, where
# neither sizes nor a validation file say how much.
CORPUS_TEST_SHARE = 0.25
VALIDATION_SHARE = 0.2

# Of the user's own texts, where there is no test file; and the most texts for
# validation.
OWN_TEST_SHARE = 0.2
VALIDATION_LIMIT = 2000


def _shuffle(items: Iterable[object], salt: str) -> list[int]:
    """Order positions by the hash of each item."""
    digests = [hashlib.sha256(f"{salt}\n{item}".encode()).digest() for item in items]
    return sorted(range(len(digests)), key=digests.__getitem__)


def allocate(counts: Mapping[str, int], places: int) -> dict[str, int]:
    """Share places among classes in proportion to their counts.

    Parameters
    ----------
    counts : mapping of str to int
        Items per class.
    places : int
        Places to share.

    Returns
    -------
    dict of str to int
        Places per class: never more than its count, at least one each where there are
        enough; they sum to ``places``, or to all there are.
    """
    places = min(places, sum(counts.values()))
    first = 1 if places >= len(counts) else 0
    room = {label: count - first for label, count in counts.items()}
    whole = max(1, sum(room.values()))
    rest = places - first * len(counts)
    shared = {label: first + rest * room[label] // whole for label in counts}
    # Largest remainders first; sorted() keeps the order of the classes among equals.
    by_remainder = sorted(counts, key=lambda label: -(rest * room[label] % whole))
    for label in by_remainder[: places - sum(shared.values())]:
        shared[label] += 1
    return shared


def count_classes(labels: Iterable[str]) -> dict[str, int]:
    """Count the items of each class, in the order of their names.

    Parameters
    ----------
    labels : iterable of str

    Returns
    -------
    dict of str to int
    """
    return dict(sorted(Counter(labels).items()))


def hold_out(
    labels: Sequence[str], groups: Sequence[Hashable], share: float, salt: str
) -> np.ndarray:
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
    members: defaultdict[Hashable, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        members[group][label] += 1
    quota = allocate(count_classes(labels), round(share * len(labels)))
    main = {
        group: min(held, key=lambda label: (-held[label], label))
        for group, held in members.items()
    }
    left = Counter(main.values())
    taken: Counter[str] = Counter()
    chosen = set()
    names = list(members)
    for position in _shuffle(names, salt):
        group = names[position]
        label = main[group]
        nearer = taken[label] + members[group].total() / 2 <= quota[label]
        if left[label] > 1 and nearer:
            chosen.add(group)
            left[label] -= 1
            taken += members[group]
    return np.array([group in chosen for group in groups], dtype=bool)


def draw(
    labels: Sequence[str], items: Sequence[object], count: int | None, salt: str
) -> list[int]:
    """Draw items, classes in proportion.

    Parameters
    ----------
    labels, items : sequence, length N
        Class and identity of each item.
    count : int or None
        Items to draw; all of them, shuffled, where it is None or too large.
    salt : str
        Names the draw.

    Returns
    -------
    list of int
        Positions, in the order drawn.
    """
    places = allocate(count_classes(labels), len(labels) if count is None else count)
    chosen = []
    for position in _shuffle(items, salt):
        label = labels[position]
        if places[label]:
            places[label] -= 1
            chosen.append(position)
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


def part_off(
    frame: pd.DataFrame, group: str, share: float, salt: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Part a share of every class from a frame, see :func:`hold_out`.

    Parameters
    ----------
    frame : DataFrame
        Column ``label`` and that of the groups.
    group : str
        Column whose equal rows stay together.
    share, salt
        See :func:`hold_out`.

    Returns
    -------
    tuple of DataFrame
        What stays, and what is held out.
    """
    held = hold_out(frame["label"].tolist(), frame[group].tolist(), share, salt)
    return frame[~held], frame[held]


def divide(
    pool: Pool, sizes: Sequence[int | None], seed: int, where: str
) -> dict[str, pd.DataFrame]:
    """Divide a pool into training, validation and test, and draw from each.

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
    share = pool.validation_share
    if sizes[0] and sizes[1]:
        share = sizes[1] / (sizes[0] + sizes[1])
    salts = {"train": f"train {seed}", "validation": f"validation {seed}"}
    train, validation = part_off(pool.rest, pool.group, share, salts["validation"])
    parts = {"train": train, "validation": validation, "test": pool.test}
    drawn = {}
    for (split, part), size in zip(parts.items(), sizes, strict=True):
        if part.empty:
            raise SfusionError(
                f"{where}: too few texts for a {split} split: give more of them"
            )
        labels = part["label"].tolist()
        rows = draw(labels, part["text"].tolist(), size, salts.get(split, split))
        drawn[split] = part.iloc[rows]
    return drawn


def split_rows(
    train: Rows, test: Rows | None, *, seed: int, limit: int
) -> dict[str, pd.DataFrame]:
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
        lacks, or all texts of a class, or too few texts are left for a split.
    """
    order_labels((), [train.frame], train.where)
    rest = train.frame.drop_duplicates("text", ignore_index=True)
    if test is None:
        rest, held = part_off(rest, "text", OWN_TEST_SHARE, f"test {seed}")
    else:
        held = test.frame
        _refuse_strange(test, train)
        rest = rest[~rest["text"].isin(held["text"])]
        if rest.empty:
            raise SfusionError(
                f"{train.where}: every text occurs in {test.where} too, and texts that "
                "are tested must not be trained on: give other texts"
            )
        _refuse_taken(rest, train, test)
    order_labels((), [rest], train.where)
    share = min(VALIDATION_SHARE, VALIDATION_LIMIT / len(rest))
    pool = Pool(rest, held, "text", (), share, train.where)
    parts = divide(pool, (limit, None, None), seed, train.where)
    # A user's validation and test texts keep the order of the file.
    for split in ("validation", "test"):
        parts[split] = parts[split].sort_index()
    return {split: part.reset_index(drop=True) for split, part in parts.items()}


def _refuse_taken(rest: pd.DataFrame, train: Rows, test: Rows) -> None:
    """Refuse a class whose texts all stand in the test file."""
    left = set(rest["label"])
    for label in train.frame["label"]:
        if label not in left:
            raise SfusionError(
                f"{train.where}: every text of the class {label!r} occurs in "
                f"{test.where}, none is left to train on: take some out of that file"
            )


def _refuse_strange(test: Rows, train: Rows) -> None:
    known = set(train.frame["label"])
    for label in test.frame["label"]:
        if label not in known:
            raise SfusionError(
                f"{test.where} has the label {label!r}, {train.where} has not: it has "
                f"{list_names(sorted(known))}"
            )
