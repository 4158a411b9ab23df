"""Mutual information of continuous values with a discrete target."""

import numpy as np
from scipy.special import digamma


def mutual_information(values, target, neighbours=3):
    """Estimate the mutual information of each column with a discrete target.

    The nearest-neighbour estimator of Ross (2014, doi:10.1371/journal.pone.0087357)
    with exact neighbour counts, for all columns at once. scikit-learn's
    ``mutual_info_classif`` gives the same where classes have 8 samples or more (its
    rounding moves the counts in smaller ones), but the trees it builds for every class
    and column cost more than the model's own passes.

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
    classes, inverse, counts = np.unique(
        target, return_inverse=True, return_counts=True
    )
    kept = counts[inverse] > 1
    if len(np.unique(target[kept])) < 2:
        return np.zeros(values.shape[1])
    columns, inverse = values[kept].T, inverse[kept]
    size = counts[inverse]
    near = np.minimum(neighbours, size - 1)
    same = inverse[:, None] == inverse[None, :]
    counted = []
    for (
        column
    ) in columns:  # one at a time: all pairs of all columns are too many to hold
        distance = np.abs(column[:, None] - column[None, :])
        # Position 0 of the sorted distances within a class is the sample itself.
        ranked = np.sort(np.where(same, distance, np.inf), axis=1)[:, : neighbours + 1]
        within = distance <= ranked[np.arange(len(near)), near][:, None]
        # Closed balls without the sample itself: copies of a text may lie at distance
        # 0.
        counted.append([within.sum(1) - 1, (within & same).sum(1) - 1])
    # Laid out as the values are: sums of another order would round otherwise.
    everyone, alike = np.stack(counted, axis=2).transpose(0, 2, 1)
    constant = digamma(len(size)) - digamma(size).mean()
    return np.maximum(0.0, constant + (digamma(alike) - digamma(everyone)).mean(1))
