"""Forecasts of removals that a fusion has not seen: how good, and by which signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold

from sfusion.analysis.exhibits import StudyLacks
from sfusion.pruning.fusion import FUSION_MODELS, LABEL
from sfusion.signals import recorded

if TYPE_CHECKING:
    from sklearn.base import RegressorMixin

Fit = tuple["RegressorMixin", pd.DataFrame]

# What is held out together, and the columns that tell it: parents of all seeds, whose
# models are much alike.
HELD_OUT = {"parent": ["task", "path"], "task": ["task"]}


def held_out_fits(
    table: pd.DataFrame, model: str, held_out: str = "parent"
) -> list[Fit]:
    """Fit a fusion on all removals but a third, three times.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.pruning.fusion.training_table`.
    model : str
        A name in ``FUSION_MODELS``.
    held_out : {"parent", "task"}
        What stays together: the removals from one model, of all seeds, or all of a
        task. So siblings never leak.

    Returns
    -------
    list of (regressor, DataFrame)
        Each fitted model with the rows that it has not seen.

    Raises
    ------
    StudyLacks
        When there is one parent, or one task, alone.
    """
    names = recorded(table)
    ordered = table.sort_values([*names, LABEL], ignore_index=True)
    groups = ordered.groupby(HELD_OUT[held_out]).ngroup()
    if groups.nunique() < 2:
        raise StudyLacks(f"holding out needs removals from at least two {held_out}s")
    folds = GroupKFold(n_splits=min(3, groups.nunique()))
    fits = []
    for others, rows in folds.split(ordered, groups=groups):
        seen = ordered.iloc[others]
        fitted = FUSION_MODELS[model]().fit(seen[names], seen[LABEL])
        fits.append((fitted, ordered.iloc[rows]))
    return fits


def held_out_predictions(fits: list[Fit]) -> pd.DataFrame:
    """Predict every removal from a fusion that saw neither it nor its siblings.

    Parameters
    ----------
    fits : list of (regressor, DataFrame)
        From :func:`held_out_fits`.

    Returns
    -------
    DataFrame
        Columns ``parent`` (task, seed and path of the siblings' parent), ``observed``
        and ``predicted`` change of accuracy, as shares.
    """
    parts = [
        rows.assign(predicted=fitted.predict(rows[recorded(rows)]))
        for fitted, rows in fits
    ]
    table = pd.concat(parts).sort_index().rename(columns={LABEL: "observed"})
    parent = table["task"] + "/" + table["seed"].astype(str) + "/" + table["path"]
    return table.assign(parent=parent)[["parent", "observed", "predicted"]]


def score(predictions: pd.DataFrame) -> dict[str, float]:
    """Score held-out predictions.

    Parameters
    ----------
    predictions : DataFrame
        From :func:`held_out_predictions`.

    Returns
    -------
    dict
        ``r2``: cross-validated share of the label's variance explained (negative: worse
        than the mean). ``rank_correlation``: Spearman correlation of predicted and
        observed change. Those hold much that tells parents apart. Between siblings
        (same parent), which is what a ranking needs: ``within_r2``, the same share of
        what is left when each parent's mean is taken off; ``pairs_ordered``, share of
        pairs with different labels that are ordered rightly, .5 is chance. ``rows``,
        ``siblings``: counts of rows, and of those with a sibling.
    """
    observed, predicted = predictions["observed"], predictions["predicted"]
    numbers = ["observed", "predicted"]
    parents = predictions.groupby("parent")[numbers]
    centred = predictions[numbers] - parents.transform("mean")
    centred = centred[predictions.groupby("parent").transform("size") > 1]
    within_r2 = np.nan
    if len(centred):
        error = ((centred["observed"] - centred["predicted"]) ** 2).sum()
        within_r2 = 1 - error / (centred["observed"] ** 2).sum()
    pairs = predictions.merge(predictions, on="parent", suffixes=("_a", "_b"))
    pairs = pairs[pairs["observed_a"] > pairs["observed_b"]]
    right = np.sign(pairs["predicted_a"] - pairs["predicted_b"]) / 2 + 0.5
    return {
        "r2": float(r2_score(observed, predicted)),
        "rank_correlation": float(observed.corr(predicted, method="spearman")),
        "within_r2": float(within_r2),
        "pairs_ordered": float(right.mean()),
        "rows": len(predictions),
        "siblings": len(centred),
    }


def importances(fits: list[Fit]) -> pd.DataFrame:
    """Permutation importance of each signal (Breiman 2001), on held-out rows.

    A signal is shuffled three times in each fold.

    Parameters
    ----------
    fits : list of (regressor, DataFrame)
        From :func:`held_out_fits`.

    Returns
    -------
    DataFrame
        Columns ``signal``, ``importance`` and ``spread``: mean and standard deviation,
        over folds and shuffles, of the rise in mean squared error over the label's
        variance. Correlated signals share their importance.
    """
    variance = pd.concat([rows[LABEL] for _, rows in fits]).var(ddof=0)
    losses = []
    for fitted, rows in fits:
        permuted = permutation_importance(
            fitted,
            rows[recorded(rows)],
            rows[LABEL],
            scoring="neg_mean_squared_error",
            n_repeats=3,
            random_state=0,
        )
        losses.append(permuted.importances / variance)
    rises = np.concatenate(losses, axis=1)
    return pd.DataFrame(
        {
            "signal": recorded(fits[0][1]),
            "importance": rises.mean(axis=1),
            "spread": rises.std(axis=1),
        }
    )
