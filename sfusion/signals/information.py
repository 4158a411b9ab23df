"""Mutual information of continuous values with a discrete target."""

from __future__ import annotations

import numpy as np
from scipy.special import digamma


def mutual_information(
    values: np.ndarray, target: np.ndarray, neighbours: int = 3
) -> np.ndarray:
    """Estimate the mutual information of each column with a discrete target.

    The nearest-neighbour estimator of Ross (2014, doi:10.1371/journal.pone.0087357)
    with exact neighbour counts, for all columns at once, in memory that grows with the
    samples and not with their pairs. scikit-learn's ``mutual_info_classif`` gives the
    same where classes have 8 samples or more (its rounding moves the counts in smaller
    ones), but the trees it builds for every class and column cost more than the model's
    own passes.

    Parameters
    ----------
    values : ndarray of shape (N, columns)
        Continuous values.
    target : ndarray of shape (N,)
        Class of each sample. A class of a single sample is left out.
    neighbours : int
        Neighbours of the same class; fewer where a class is smaller.

    Returns
    -------
    ndarray of shape (columns,)
        Nats, at least 0; all 0 where fewer than two classes remain.
    """
    _, classes, counts = np.unique(target, return_inverse=True, return_counts=True)
    has_company = counts[classes] > 1
    values = values[has_company]
    classes = classes[has_company]
    if len(np.unique(classes)) < 2:
        return np.zeros(values.shape[1])
    # Class by class, and by value within a class.
    keys = (values, np.broadcast_to(classes[:, None], values.shape))
    order = np.lexsort(keys, axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    in_turn = np.sort(classes)
    first = np.searchsorted(in_turn, in_turn, side="left")
    end = np.searchsorted(in_turn, in_turn, side="right")
    radii = _neighbour_distances(ordered, first, end, neighbours)
    alike = _count_within(radii, ordered, ordered, first, end)
    all_first = np.zeros_like(first)
    all_end = np.full_like(end, len(values))
    everyone = _count_within(
        radii, ordered, np.sort(values, axis=0), all_first, all_end
    )
    terms = np.empty_like(ordered)
    # Back in the samples' own order: sums of another would round otherwise.
    np.put_along_axis(terms, order, digamma(alike) - digamma(everyone), axis=0)
    constant = digamma(len(values)) - digamma(counts[classes]).mean()
    return np.maximum(0.0, constant + terms.mean(0))


def _neighbour_distances(
    ordered: np.ndarray, first: np.ndarray, end: np.ndarray, neighbours: int
) -> np.ndarray:
    """Find how far the last of the asked neighbours of the same class lies.

    In values that are ordered, the nearest stand beside a sample.

    Parameters
    ----------
    ordered : ndarray of shape (N, columns)
        Class by class, and by value within a class.
    first, end : ndarray of shape (N,)
        Where the class of each row begins, and where it ends.
    neighbours : int

    Returns
    -------
    ndarray of shape (N, columns)
    """
    places = np.arange(len(ordered))
    distances = []
    for offset in range(-neighbours, neighbours + 1):
        beside = places + offset
        is_alike = (first <= beside) & (beside < end)
        gaps = np.abs(ordered - ordered[np.where(is_alike, beside, places)])
        distances.append(np.where(is_alike[:, None], gaps, np.inf))
    # The nearest of them is the sample itself.
    nearest = np.minimum(neighbours, end - first - 1)
    ranked = np.sort(distances, axis=0)
    return np.take_along_axis(ranked, nearest[None, :, None], axis=0)[0]


def _count_within(
    radii: np.ndarray,
    centres: np.ndarray,
    ordered: np.ndarray,
    first: np.ndarray,
    end: np.ndarray,
) -> np.ndarray:
    """Count the other values within a radius of each centre, those on the edge too.

    Copies of a text may lie at distance 0.

    Parameters
    ----------
    radii, centres : ndarray of shape (N, columns)
    ordered : ndarray of shape (N, columns)
        Values, in order from ``first`` to ``end``.
    first, end : ndarray of shape (N,)
        The rows that are counted for each centre begin with one and end before the
        other.

    Returns
    -------
    ndarray of shape (N, columns)
    """
    count = len(ordered)
    above = _end_of_reach(radii, centres, ordered, first, end)
    # Seen in a mirror, what lies below lies above.
    below = _end_of_reach(radii, -centres, -ordered[::-1], count - end, count - first)
    return above + below - count - 1


def _end_of_reach(
    radii: np.ndarray,
    centres: np.ndarray,
    ordered: np.ndarray,
    first: np.ndarray,
    end: np.ndarray,
) -> np.ndarray:
    """Find the first row that lies above a centre by more than its radius.

    In steps of halved length, for a search for the sum of the two would round it.
    """
    last = np.broadcast_to(first[:, None] - 1, centres.shape)
    step = 1 << (len(ordered).bit_length() - 1)
    while step:
        ahead = last + step
        values = np.take_along_axis(ordered, np.minimum(ahead, len(ordered) - 1), 0)
        is_within = (ahead < end[:, None]) & (values - centres <= radii)
        last = np.where(is_within, ahead, last)
        step //= 2
    return last + 1
