"""Fusion: from a layer's twelve signals to the accuracy expected after removing it."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from sfusion import SfusionError
from sfusion.signals import SIGNALS

LABEL = "accuracy_change"
READS = {
    "signals": list(SIGNALS),
    "position": ["place_left", "place_original", "share_left"],
    "shuffled": list(SIGNALS),
}
# Tried removals that come with the package, so that a fusion needs no study of the user's own.
SHIPPED_ROWS = Path(__file__).with_name("fusion_rows.parquet")

FUSION_MODELS = {
    # Hyperparameters are declared here: the paper's are not known.
    "linear-regression": LinearRegression(),
    "random-forest": RandomForestRegressor(
        n_estimators=200,
        min_samples_leaf=2,
        random_state=0,
        n_jobs=1,  # threads would add up the trees in the order in which they finish
    ),
}


def standardise(signals):
    """Centre and scale each signal over the layers of one model.

    Scales of the signals differ between tasks and depths by orders of magnitude; a ranking of
    layers needs only their order within one model, and transfer to another task needs a common
    scale. Declared here.

    Parameters
    ----------
    signals : DataFrame
        A row a layer, a column a signal.

    Returns
    -------
    DataFrame
        Mean 0 and standard deviation 1 a column; 0 where all layers agree.
    """
    return pd.DataFrame(_scaled(signals.to_numpy(float)), signals.index, signals.columns)


def _scaled(values):
    centred = values - values.mean(0)
    # Equal values are told by comparison: their deviations are rounding, not exactly 0.
    spread = np.where(values.max(0) > values.min(0), np.sqrt((centred**2).mean(0)), np.inf)
    return np.nan_to_num(centred / spread)  # a signal that does not exist says nothing


def features(signals, layers, depth, reads="signals", rng=None):
    """Make what a fusion reads of the layers of one model.

    Parameters
    ----------
    signals : DataFrame
        A row a layer that is left, from the embeddings up, a column a signal.
    layers : sequence of int
        Their numbers in the original model.
    depth : int
        Layers of the original model.
    reads : {"signals", "position", "shuffled"}
        The twelve signals standardised over the layers. The controls: where the layer is and
        nothing else; and the twelve signals dealt anew to the layers.
    rng : numpy.random.Generator, optional
        Deals the shuffled signals.

    Returns
    -------
    DataFrame
        A row a layer, the columns of ``READS[reads]``.
    """
    values = signals[list(SIGNALS)].to_numpy(float)
    return pd.DataFrame(_read(values, layers, depth, reads, rng), signals.index, READS[reads])


def _read(values, layers, depth, reads, rng):
    if reads == "position":
        count = len(layers)
        left = np.arange(count) / max(1, count - 1)
        return np.column_stack([left, np.asarray(layers) / (depth - 1), [count / depth] * count])
    scaled = _scaled(values)
    return scaled[rng.permutation(len(scaled))] if reads == "shuffled" else scaled


def training_table(nodes, signals, reads="signals"):
    """Make one row of every removal that was tried: what a fusion reads and what it cost.

    Parameters
    ----------
    nodes : DataFrame
        Columns ``task``, ``seed``, ``path`` and ``validation_accuracy``.
    signals : DataFrame
        Columns ``task``, ``seed``, ``path``, ``layer`` and the twelve signals.
    reads : str
        What the fusion reads, see :func:`features`; shuffled signals are dealt the same way
        whatever other rows there are.

    Returns
    -------
    DataFrame
        Columns ``task``, ``seed``, ``path`` (of the parent), ``layer``, those of
        ``READS[reads]``, and ``accuracy_change``: validation accuracy after the removal and the
        fine-tuning that follows, less the parent's, as a share.
    """
    unit = ["task", "seed"]
    names = READS[reads]
    depth = int(signals["layer"].max()) + 1
    ordered = signals.sort_values([*unit, "path", "layer"], ignore_index=True)
    values, layers = ordered[list(SIGNALS)].to_numpy(float), ordered["layer"].to_numpy()
    read = np.empty((len(ordered), len(names)))
    for key, rows in ordered.groupby([*unit, "path"]).indices.items():  # frames a node are slow
        rng = np.random.default_rng(list("/".join(map(str, key)).encode()))
        read[rows] = _read(values[rows], layers[rows], depth, reads, rng)
    scaled = ordered[[*unit, "path", "layer"]].join(pd.DataFrame(read, columns=names))
    children = nodes.loc[nodes["path"] != "", [*unit, "path", "validation_accuracy"]].copy()
    split = [path.rpartition("-") for path in children["path"]]
    children["layer"] = pd.Series([int(last) for *_, last in split], children.index, dtype=int)
    children["path"] = pd.Series([before for before, *_ in split], children.index, dtype="str")
    parents = nodes[[*unit, "path", "validation_accuracy"]]
    edges = children.merge(parents, on=[*unit, "path"], suffixes=("", "_parent"))
    edges[LABEL] = edges["validation_accuracy"] - edges["validation_accuracy_parent"]
    table = edges.merge(scaled, on=[*unit, "path", "layer"], validate="one_to_one")
    keys = [*unit, "path", "layer"]
    return table[[*keys, *names, LABEL]].sort_values(keys, ignore_index=True)


def _check_model(model):
    if model not in FUSION_MODELS:
        raise SfusionError(f"fusion {model!r} is not known: use one of {', '.join(FUSION_MODELS)}")


def fit_fusion(table, model="random-forest"):
    """Fit a fusion model on removals that were tried.

    Parameters
    ----------
    table : DataFrame
        From :func:`training_table`; its order of rows does not matter.
    model : str
        A name in ``FUSION_MODELS``.

    Returns
    -------
    sklearn regressor
        ``predict`` takes the table's feature columns, ``feature_names_in_``, and gives the
        expected change of accuracy.

    Raises
    ------
    SfusionError
        For an unknown model or fewer than two rows.
    """
    _check_model(model)
    if len(table) < 2:
        raise SfusionError(f"a fusion needs at least two tried removals; there are {len(table)}")
    # Not all of them: a signal that was added since is not in the removals that are shipped.
    names = next(kept for names in READS.values() if (kept := [n for n in names if n in table]))
    table = table.sort_values([*names, LABEL])
    return clone(FUSION_MODELS[model]).fit(table[names], table[LABEL])


HELD_OUT = {
    # what is held out together: the columns that tell it
    "parent": ["task", "path"],  # of all seeds, whose models are much alike
    "task": ["task"],
}


def _folds(table, model, held_out="parent"):
    """Order rows by content and group them, so that siblings never leak."""
    _check_model(model)
    ordered = table.sort_values([*SIGNALS, LABEL], ignore_index=True)
    groups = ordered.groupby(HELD_OUT[held_out]).ngroup()
    if groups.nunique() < 2:
        raise SfusionError(f"holding out needs removals from at least two {held_out}s")
    return ordered, groups, GroupKFold(n_splits=min(5, groups.nunique()))


def held_out_predictions(table, model, held_out="parent", within=()):
    """Predict every removal from a fusion that saw neither it nor its siblings.

    Parameters
    ----------
    table : DataFrame
        From :func:`training_table`.
    model : str
        A name in ``FUSION_MODELS``.
    held_out : {"parent", "task"}
        What is predicted by a fusion that has not seen it: the removals from one model, of all
        seeds, or all of a task.
    within : list of str
        Columns that part the table first: each part is learned and predicted alone.

    Returns
    -------
    DataFrame
        Columns ``parent`` (number of the group of siblings), ``observed`` and ``predicted``
        change of accuracy, as shares.
    """
    if within:
        alone = [held_out_predictions(rows, model, held_out) for _, rows in table.groupby(within)]
        found = pd.concat(alone, keys=range(len(alone)), names=["part", None]).reset_index("part")
        found["parent"] = found.groupby(["part", "parent"]).ngroup()
        return found.drop(columns="part").reset_index(drop=True)
    ordered, groups, folds = _folds(table, model, held_out)
    features, label = ordered[list(SIGNALS)], ordered[LABEL]
    predicted = cross_val_predict(FUSION_MODELS[model], features, label, groups=groups, cv=folds)
    parent = ordered.groupby(["task", "seed", "path"]).ngroup()
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
        ``r2``: cross-validated share of the label's variance explained (negative: worse than
        the mean). ``rank_correlation``: Spearman correlation of predicted and observed change.
        Those hold much that tells parents apart. Between siblings (same parent), which is what a
        ranking needs: ``within_r2``, the same share of what is left when each parent's mean is
        taken off; ``pairs_ordered``, share of pairs with different labels that are ordered
        rightly, .5 is chance. ``rows``, ``siblings``: counts of rows, and of those with a sibling.
    """
    groups = predictions.groupby("parent")
    family = predictions[groups["observed"].transform("size") > 1]
    centred = family - family.groupby("parent")[["observed", "predicted"]].transform("mean")
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
        "within_r2": float(1 - error / (centred["observed"] ** 2).sum()) if len(family) else np.nan,
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
        Index signal; ``importance`` and ``spread``: mean and standard deviation, over folds and
        shuffles, of the rise in mean squared error over the label's variance. Correlated
        signals share their importance.
    """
    ordered, groups, folds = _folds(table, model)
    features, label = ordered[list(SIGNALS)], ordered[LABEL]
    losses = []
    for train, held_out in folds.split(features, label, groups):
        fitted = clone(FUSION_MODELS[model]).fit(features.iloc[train], label.iloc[train])
        result = permutation_importance(
            fitted,
            features.iloc[held_out],
            label.iloc[held_out],
            scoring="neg_mean_squared_error",
            n_repeats=repeats,
            random_state=0,
        )
        losses.append(result.importances / label.var(ddof=0))
    losses = np.concatenate(losses, axis=1)
    return pd.DataFrame(
        {"importance": losses.mean(1), "spread": losses.std(1)},
        index=pd.Index(list(SIGNALS), name="signal"),
    )
