"""Notebook 03: how the signals are fused into a forecast of what a removal costs, and how well."""

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from sfusion.analysis.appearance import in_registry_order, strategy_title
from sfusion.analysis.drawing import interval_rows
from sfusion.errors import SfusionError
from sfusion.experiments.results import UNIT
from sfusion.pruning.fusion import FUSION_MODELS, LABEL
from sfusion.pruning.strategies import lookup
from sfusion.signals import SIGNALS


def fusion_nodes(results):
    """Keep the nodes that fusions may learn from: those of strategies that learn nothing.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Rows of ``results.nodes``.
    """
    plain = results.trajectories["strategy"].map(
        lambda label: lookup(label).teaches_fusions
    )
    keys = [*UNIT, "path"]
    return results.nodes.merge(
        results.trajectories.loc[plain, keys].drop_duplicates(), on=keys
    )


# What is held out together, and the columns that tell it: parents of all seeds, whose
# models are much alike.
HELD_OUT = {"parent": ["task", "path"], "task": ["task"]}


def _folds(table, held_out="parent"):
    """Order rows by content and group them, so that siblings never leak."""
    ordered = table.sort_values([*SIGNALS, LABEL], ignore_index=True)
    groups = ordered.groupby(HELD_OUT[held_out]).ngroup()
    if groups.nunique() < 2:
        raise SfusionError(f"holding out needs removals from at least two {held_out}s")
    return ordered, groups, GroupKFold(n_splits=min(3, groups.nunique()))


def held_out_predictions(table, model, held_out="parent"):
    """Predict every removal from a fusion that saw neither it nor its siblings.

    Parameters
    ----------
    table : DataFrame
        From :func:`training_table`.
    model : str
        A name in ``FUSION_MODELS``.
    held_out : {"parent", "task"}
        What is predicted by a fusion that has not seen it: the removals from one model,
        of all seeds, or all of a task.

    Returns
    -------
    DataFrame
        Columns ``parent`` (task, seed and path of the siblings' parent), ``observed``
        and ``predicted`` change of accuracy, as shares.
    """
    ordered, groups, folds = _folds(table, held_out)
    features, label = ordered[list(SIGNALS)], ordered[LABEL]
    predicted = cross_val_predict(
        FUSION_MODELS[model], features, label, groups=groups, cv=folds
    )
    parent = ordered["task"] + "/" + ordered["seed"].astype(str) + "/" + ordered["path"]
    return pd.DataFrame({"parent": parent, "observed": label, "predicted": predicted})


def quality(predictions):
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
    groups = predictions.groupby("parent")
    family = predictions[groups["observed"].transform("size") > 1]
    centred = family - family.groupby("parent")[["observed", "predicted"]].transform(
        "mean"
    )
    error = ((centred["observed"] - centred["predicted"]) ** 2).sum()
    pairs = predictions.merge(predictions, on="parent", suffixes=("_a", "_b"))
    pairs = pairs[pairs["observed_a"] > pairs["observed_b"]]
    right = (pairs["predicted_a"] > pairs["predicted_b"]).astype(float)
    right[pairs["predicted_a"] == pairs["predicted_b"]] = 0.5
    return {
        "r2": float(r2_score(predictions["observed"], predictions["predicted"])),
        "rank_correlation": float(
            predictions["observed"].corr(predictions["predicted"], method="spearman")
        ),
        "within_r2": float(1 - error / (centred["observed"] ** 2).sum())
        if len(family)
        else np.nan,
        "pairs_ordered": float(right.mean()),
        "rows": len(predictions),
        "siblings": len(family),
    }


def importances(table, model, repeats=3):
    """Permutation importance of each signal (Breiman 2001), on rows held out of the fit.

    Parameters
    ----------
    table : DataFrame
        From :func:`training_table`.
    model : str
        A name in ``FUSION_MODELS``.
    repeats : int
        Shuffles a signal, in each of the folds of :func:`held_out_predictions`.

    Returns
    -------
    DataFrame
        Index signal; ``importance`` and ``spread``: mean and standard deviation, over
        folds and shuffles, of the rise in mean squared error over the label's variance.
        Correlated signals share their importance.
    """
    ordered, groups, folds = _folds(table)
    features, label = ordered[list(SIGNALS)], ordered[LABEL]
    losses = []
    for train, held_out in folds.split(features, label, groups):
        fitted = clone(FUSION_MODELS[model]).fit(
            features.iloc[train], label.iloc[train]
        )
        test = features.iloc[held_out], label.iloc[held_out]
        options = {
            "scoring": "neg_mean_squared_error",
            "n_repeats": repeats,
            "random_state": 0,
        }
        losses.append(
            permutation_importance(fitted, *test, **options).importances
            / label.var(ddof=0)
        )
    losses = np.concatenate(losses, axis=1)
    return pd.DataFrame(
        {"importance": losses.mean(1), "spread": losses.std(1)},
        index=pd.Index(list(SIGNALS), name="signal"),
    )


def fusion_importance(importances):
    """Draw the permutation importance of the signals, for each fusion.

    Parameters
    ----------
    importances : DataFrame
        Columns ``signal``, ``fusion`` (title), ``importance`` and ``spread``, as from
        :func:`importances`.

    Returns
    -------
    Figure
    """
    names = in_registry_order(importances["signal"])
    value = importances["importance"]
    spread = importances["spread"]
    table = importances.assign(low=value - spread, high=value + spread)
    table["title"] = table["signal"].map(strategy_title)
    return interval_rows(
        table.set_index("signal").loc[names],
        label="title",
        value="importance",
        series="fusion",
        xlabel="rise in squared error when permuted, share of the variance\n(± 1 s.d.)",
    )
