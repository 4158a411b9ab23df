"""Fusion: from a layer's twelve signals to the accuracy expected after removing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sfusion.errors import SfusionError
from sfusion.pruning.path import PruningPath
from sfusion.signals import MEASURES, SIGNALS

Regressor = Any  # of scikit-learn: with fit and predict

LABEL = "accuracy_change"
POSITION = ["place_left", "place_original", "share_left"]
EVERYTHING = ("all", "siblings")
NODE = ["task", "seed", "path"]
READS = {
    "signals": list(SIGNALS),
    "position": POSITION,
    "shuffled": list(SIGNALS),
    # What else a fusion could read, and other targets than the change:
    # studies/candidates.py.
    **dict.fromkeys(EVERYTHING, [*MEASURES, *POSITION]),
}
# Tried removals that come with the package, so that a fusion needs no study of the
# user's own.
SHIPPED_ROWS = Path(__file__).with_name("fusion_rows.parquet")
# Of the models in them, see :func:`sfusion.data.pretrained.weights_fingerprint`.
SHIPPED_WEIGHTS = {
    "minilm-l6": "6fceb34132ad726946adc26b588445bcb11811d1a28d8a42a03a6dccf63c1369",
    "mpnet-base": "2770b7e07530aa47919fca3e7d56c70c5a875c923ca896c15459c5df61801837",
}


def _line() -> Regressor:
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def _ridge() -> Regressor:
    from sklearn.linear_model import RidgeCV

    # Some sixty rows of twelve signals that say much the same: the penalty is
    # cross-validated.
    return RidgeCV(np.logspace(-2, 4, 13))


def _forest() -> Regressor:
    from sklearn.ensemble import RandomForestRegressor

    # More threads would add up a forest's trees in the order in which they finish.
    return RandomForestRegressor(
        n_estimators=200, min_samples_leaf=2, random_state=0, n_jobs=1
    )


# Each makes an unfitted model; its library, slow to import, is loaded by then.
# Hyperparameters are declared here: the paper's are not known.
FUSION_MODELS: dict[str, Callable[[], Regressor]] = {
    "linear-regression": _line,
    "ridge-regression": _ridge,
    "random-forest": _forest,
}


def standardise(signals: pd.DataFrame) -> pd.DataFrame:
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
    scaled = _scaled(signals.to_numpy(float))
    return pd.DataFrame(scaled, signals.index, signals.columns)


def _scaled(values: np.ndarray) -> np.ndarray:
    deviations = values - values.mean(0)
    spread = np.sqrt((deviations**2).mean(0))
    # Equal values are found by comparison: their deviations are rounding, not exactly
    # 0.
    spread[~(values.max(0) > values.min(0))] = np.inf
    return np.nan_to_num(deviations / spread)  # a signal that is missing says nothing


def features(
    signals: pd.DataFrame,
    layers: Sequence[int],
    depth: int,
    reads: str = "signals",
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Compute the features that a fusion reads of the layers of one model.

    Parameters
    ----------
    signals : DataFrame
        A row per remaining layer, from the embeddings up, a column per signal; not read
        for the positions.
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
        A row per layer, the columns of ``READS[reads]``; without those of measures that
        ``signals`` does not hold, for they were added after it was recorded.
    """
    names = _columns(signals, reads)
    values = signals[_measures(names)].to_numpy(float)
    generator = rng or np.random.default_rng(0)
    read = _read(values, layers, depth, reads, generator)
    return pd.DataFrame(read, columns=names)


def _columns(signals: pd.DataFrame, reads: str) -> list[str]:
    """List what a fusion reads, as far as the signals hold it."""
    return [name for name in READS[reads] if name in POSITION or name in signals]


def _measures(names: list[str]) -> list[str]:
    return [name for name in names if name not in POSITION]


def _read(
    values: np.ndarray,
    layers: Sequence[int],
    depth: int,
    reads: str,
    rng: np.random.Generator,
) -> np.ndarray:
    """Compute features of measured values of shape (layers, measures)."""
    if reads == "position":
        return _places(layers, depth)
    scaled = _scaled(values)
    if reads == "shuffled":
        return scaled[rng.permutation(len(layers))]
    if reads in EVERYTHING:
        return np.hstack([scaled, _places(layers, depth)])
    return scaled


def _places(layers: Sequence[int], depth: int) -> np.ndarray:
    """Say where layers are, among those left and at first, and how many are left."""
    count = len(layers)
    left = np.arange(count) / max(1, count - 1)
    original = np.asarray(layers) / max(1, depth - 1)
    return np.column_stack([left, original, np.full(count, count / depth)])


def training_table(
    nodes: pd.DataFrame, signals: pd.DataFrame, reads: str = "signals"
) -> pd.DataFrame:
    """Make a row per tried removal: the layer's features and what removing it cost.

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
        parent), ``layer``, those of :func:`features`, and ``accuracy_change``:
        validation accuracy after the removal and the fine-tuning that follows, minus
        the parent's, as a share; of ``"siblings"`` (declared here) minus the mean over
        the parent's tried removals, and none of a parent with a single one.
    """
    edges = _tried_removals(nodes)
    if reads == "siblings":  # what separates the parents orders no layers
        edges = centred(edges, NODE)
    keys = [*NODE, "layer"]
    table = edges.merge(_features_of_nodes(signals, reads), on=keys, validate="1:1")
    columns = [*keys, *_columns(signals, reads), LABEL]
    return table[columns].sort_values(keys, ignore_index=True)


def _tried_removals(nodes: pd.DataFrame) -> pd.DataFrame:
    """List removals of single layers: the cost of several is no one layer's."""
    paths = nodes["path"].map(PruningPath.parse)
    single = paths.map(lambda path: len(path) > 0 and path.one_by_one)
    scores = nodes[[*NODE, "validation_accuracy"]]
    children = scores[single].assign(
        path=paths[single].map(lambda path: path.parent.name),
        layer=paths[single].map(lambda path: path.last[0]).astype(int),
    )
    edges = children.merge(scores, on=NODE, suffixes=("", "_parent"))
    edges[LABEL] = edges["validation_accuracy"] - edges["validation_accuracy_parent"]
    return edges


def _features_of_nodes(signals: pd.DataFrame, reads: str) -> pd.DataFrame:
    """Compute the features of all nodes' layers at once: a frame each is slow."""
    keys = [*NODE, "layer"]
    depth = int(signals["layer"].max()) + 1
    ordered = signals.sort_values(keys, ignore_index=True)
    names = _columns(signals, reads)
    values = ordered[_measures(names)].to_numpy(float)
    layers = ordered["layer"].to_numpy()
    read = np.empty((len(ordered), len(names)))
    for node, rows in ordered.groupby(NODE).indices.items():
        rng = np.random.default_rng(list("/".join(map(str, node)).encode()))
        read[rows] = _read(values[rows], layers[rows], depth, reads, rng)
    return ordered[keys].join(pd.DataFrame(read, columns=names))


def centred(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
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
    relative = table.assign(**{LABEL: table[LABEL] - groups.transform("mean")})
    return relative[groups.transform("size") > 1]


def fit_fusion(
    table: pd.DataFrame, model: str = "random-forest", reads: str = "signals"
) -> Any:
    """Fit a fusion model on removals that were tried.

    Parameters
    ----------
    table : DataFrame
        From :func:`training_table`; its order of rows does not matter.
    model : str
        A name in ``FUSION_MODELS``.
    reads : str
        What the fusion reads, see :func:`features`; what the table does not hold, for
        it was added since the removals were tried, is left out.

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
    names = _columns(table, reads)
    ordered = table.sort_values([*names, LABEL])
    return FUSION_MODELS[model]().fit(ordered[names], ordered[LABEL])


def shipped_rows(reads: str = "signals", without: str | None = None) -> pd.DataFrame:
    """Read the removals that come with the package.

    Parameters
    ----------
    reads : str
        See :func:`features`.
    without : str, optional
        Model whose removals to leave out. Whatever it is called, it is known by its
        weights.

    Returns
    -------
    DataFrame
        See :func:`training_table`; with the column ``model``.
    """
    table = pd.read_parquet(SHIPPED_ROWS)
    if without is not None:
        table = table[table["model"] != _shipped_name(without)]
    return table[table["reads"] == reads].dropna(axis=1, how="all")


def _shipped_name(model: str) -> str | None:
    """Find the name under which a model's removals are shipped."""
    if model in SHIPPED_WEIGHTS:
        return model
    # Rows are read where no model is at hand, and then without its libraries.
    from sfusion.data.pretrained import weights_fingerprint

    names = {weights: name for name, weights in SHIPPED_WEIGHTS.items()}
    return names.get(weights_fingerprint(model))
