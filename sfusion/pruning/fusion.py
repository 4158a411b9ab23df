"""Fusion: from a layer's twelve signals to the accuracy expected after removing it."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, RidgeCV

from sfusion.errors import SfusionError
from sfusion.pruning.path import PruningPath
from sfusion.signals import MEASURES, SIGNALS

LABEL = "accuracy_change"
POSITION = ["place_left", "place_original", "share_left"]
EVERYTHING = "all", "siblings"
READS = {
    "signals": list(SIGNALS),
    "position": POSITION,
    "shuffled": list(SIGNALS),
    # What else a fusion could read, and other targets than the change:
    # benchmarks/fusions.py.
    **dict.fromkeys(EVERYTHING, [*MEASURES, *POSITION]),
}
# Tried removals that come with the package, so that a fusion needs no study of the
# user's own.
SHIPPED_ROWS = Path(__file__).with_name("fusion_rows.parquet")

FUSION_MODELS = {
    # Hyperparameters are declared here: the paper's are not known. More threads would
    # add up a forest's trees in the order in which they finish.
    "linear-regression": LinearRegression(),
    # Some sixty rows of twelve signals that say much the same: the penalty is
    # cross-validated.
    "ridge-regression": RidgeCV(np.logspace(-2, 4, 13)),
    "random-forest": RandomForestRegressor(
        n_estimators=200, min_samples_leaf=2, random_state=0, n_jobs=1
    ),
}


def standardise(signals):
    """Centre and scale each signal over the layers of one model.

    Scales of the signals differ between tasks and depths by orders of magnitude; a
    ranking of layers needs only their order within one model, and transfer to another
    task needs a common scale. Declared here.

    Parameters
    ----------
    signals : DataFrame
        A row per layer, a column per signal.

    Returns
    -------
    DataFrame
        Mean 0 and standard deviation 1 per column; 0 where all layers agree.
    """
    return pd.DataFrame(
        _scaled(signals.to_numpy(float)), signals.index, signals.columns
    )


def _scaled(values):
    centred = values - values.mean(0)
    # Equal values are found by comparison: their deviations are rounding, not exactly
    # 0.
    spread = np.where(
        values.max(0) > values.min(0), np.sqrt((centred**2).mean(0)), np.inf
    )
    return np.nan_to_num(centred / spread)  # a signal that does not exist says nothing


def features(signals, layers, depth, reads="signals", rng=None):
    """Compute the features that a fusion reads of the layers of one model.

    Parameters
    ----------
    signals : DataFrame or None
        A row per remaining layer, from the embeddings up, a column per signal; the
        positions need none.
    layers : sequence of int
        Their numbers in the original model.
    depth : int
        Layers of the original model.
    reads : {"signals", "all", "siblings", "position", "shuffled"}
        The twelve signals standardised over the layers; with the measures of redundancy
        and where the layer is; the same, for a fusion that learns to order siblings.
        The controls: where the layer is and nothing else; and the twelve signals
        permuted across the layers.
    rng : numpy.random.Generator, optional
        Permutes the signals.

    Returns
    -------
    DataFrame
        A row per layer, the columns of ``READS[reads]``.
    """
    values = None if reads == "position" else signals[_measures(reads)].to_numpy(float)
    return pd.DataFrame(_read(values, layers, depth, reads, rng), columns=READS[reads])


def _measures(reads):
    return [name for name in READS[reads] if name not in POSITION]


def _read(values, layers, depth, reads, rng):
    count = len(layers)
    left = np.arange(count) / max(1, count - 1)
    place = np.column_stack(
        [left, np.asarray(layers) / max(1, depth - 1), [count / depth] * count]
    )
    if reads == "position":
        return place
    scaled = _scaled(values)[
        rng.permutation(count) if reads == "shuffled" else slice(None)
    ]
    return np.hstack([scaled, place]) if reads in EVERYTHING else scaled


def training_table(nodes, signals, reads="signals"):
    """Make one row per tried removal: the features of the layer and what its removal cost.

    Parameters
    ----------
    nodes : DataFrame
        Columns ``task``, ``seed``, ``path`` and ``validation_accuracy``.
    signals : DataFrame
        Columns ``task``, ``seed``, ``path``, ``layer`` and the measures.
    reads : str
        What the fusion reads, see :func:`features`; signals are permuted the same way
        whatever other rows there are.

    Returns
    -------
    DataFrame
        A row per removal of one layer: columns ``task``, ``seed``, ``path`` (of the
        parent), ``layer``, those of ``READS[reads]``, and ``accuracy_change``:
        validation accuracy after the removal and the fine-tuning that follows, minus
        the parent's, as a share; of ``"siblings"`` (declared here) minus the mean over
        the parent's tried removals, and none of a parent with a single one.
    """
    names, node, depth = (
        READS[reads],
        ["task", "seed", "path"],
        int(signals["layer"].max()) + 1,
    )
    ordered = signals.sort_values([*node, "layer"], ignore_index=True)
    values, layers = (
        ordered[_measures(reads)].to_numpy(float),
        ordered["layer"].to_numpy(),
    )
    read = np.empty((len(ordered), len(names)))
    for key, rows in ordered.groupby(node).indices.items():  # a frame per node is slow
        rng = np.random.default_rng(list("/".join(map(str, key)).encode()))
        read[rows] = _read(values[rows], layers[rows], depth, reads, rng)
    scaled = ordered[[*node, "layer"]].join(pd.DataFrame(read, columns=names))
    # Of single layers: what a step of several costs is no one layer's.
    paths = nodes["path"].map(PruningPath.parse)
    single = paths.map(lambda path: len(path) > 0 and path.one_by_one)
    children = nodes.loc[single, [*node, "validation_accuracy"]].assign(
        path=paths[single].map(lambda path: path.parent.name),
        layer=paths[single].map(lambda path: path.last[0]),
    )
    edges = children.merge(
        nodes[[*node, "validation_accuracy"]], on=node, suffixes=("", "_parent")
    )
    edges[LABEL] = edges["validation_accuracy"] - edges["validation_accuracy_parent"]
    edges = (
        centred(edges, node) if reads == "siblings" else edges
    )  # what separates the parents orders no layers
    table = edges.merge(scaled, on=[*node, "layer"], validate="one_to_one")
    return table[[*node, "layer", *names, LABEL]].sort_values(
        [*node, "layer"], ignore_index=True
    )


def centred(table, by):
    """Subtract from each change of accuracy the mean of its group (declared here).

    Parameters
    ----------
    table : DataFrame
        A row per tried removal, with ``accuracy_change``, a share.
    by : list of str
        Columns that rows of a group share.

    Returns
    -------
    DataFrame
        The rows of groups of more than one: a single one would teach nothing.
    """
    groups = table.groupby(by)[LABEL]
    return table.assign(**{LABEL: table[LABEL] - groups.transform("mean")})[
        groups.transform("size") > 1
    ]


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
        ``predict`` takes the table's feature columns, ``feature_names_in_``, and gives
        the expected change of accuracy.

    Raises
    ------
    SfusionError
        For an unknown model or fewer than two rows.
    """
    if model not in FUSION_MODELS:
        raise SfusionError(
            f"fusion {model!r} is not known: use one of {', '.join(FUSION_MODELS)}"
        )
    if len(table) < 2:
        raise SfusionError(
            f"a fusion needs at least two tried removals; there are {len(table)}"
        )
    # Not all of them: a signal that was added since is not in the removals that are
    # shipped.
    names = max(
        ([name for name in names if name in table] for names in READS.values()), key=len
    )
    table = table.sort_values([*names, LABEL])
    return clone(FUSION_MODELS[model]).fit(table[names], table[LABEL])


def shipped_rows(reads="signals", without=None):
    """Read the removals that come with the package.

    Parameters
    ----------
    reads : str
        See :func:`features`.
    without : str, optional
        Model whose removals to leave out, by the name that its profile gives it.

    Returns
    -------
    DataFrame
        See :func:`training_table`; with the column ``model``.
    """
    table = pd.read_parquet(SHIPPED_ROWS)
    return table[(table["reads"] == reads) & (table["model"] != without)].dropna(
        axis=1, how="all"
    )
