"""Strategies: which layer goes next."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sfusion.pruning.fusion import FUSION_MODELS, features
from sfusion.signals import REDUNDANCY, SIGNALS

IN_DATASET, TRANSFER = "in-dataset", "leave-one-dataset-out"
DEFAULT_STRATEGY = "random-forest"  # of a compression


@dataclass(frozen=True)
class View:
    """What a strategy may look at when it chooses.

    Attributes
    ----------
    layers : tuple of int
        Layers that are left, by their number in the original model.
    signals : DataFrame
        A row a layer that is left (same order), a column a measure of ``MEASURES``.
    rng : numpy.random.Generator
        Depends on the seed and the strategy's name alone, so a random order is drawn once.
    fusion : object, optional
        The fitted regressor of a fusion strategy.
    depth : int
        Layers of the original model.
    """

    layers: tuple[int, ...]
    signals: pd.DataFrame
    rng: np.random.Generator
    fusion: object
    depth: int


@dataclass(frozen=True)
class Strategy:
    """A rule for choosing the next layer.

    Attributes
    ----------
    name, title, group : str
        Name in code, name in print, and the group it is drawn with.
    score : callable
        ``View -> sequence``: one number a layer that is left; the highest goes first, of equals
        the one nearest the output (declared here).
    learned_from : str, optional
        For fusions: which removals it was fitted on.
    model, reads : str, optional
        For fusions: the regressor, of ``FUSION_MODELS``, and what it reads, see
        :func:`sfusion.pruning.fusion.features`.
    """

    name: str
    title: str
    group: str
    score: Callable
    learned_from: str | None = None
    model: str | None = None
    reads: str = "signals"

    @property
    def first_walk(self):
        """Whether it walks first, so that fusions learn from its removals."""
        return self.learned_from is None and self.group != "search"


def choose(strategy, view):
    """Name the layer that a strategy removes next.

    Parameters
    ----------
    strategy : Strategy
    view : View

    Returns
    -------
    int
        Number of the layer in the original model.
    """
    scores = np.asarray(strategy.score(view), dtype=float)
    return view.layers[len(scores) - 1 - int(np.argmax(scores[::-1]))]


def _by_signal(signal):
    sign = -1.0 if signal.removed_first == "lowest" else 1.0
    return Strategy(
        signal.slug,
        signal.title,
        signal.group,
        lambda view: sign * view.signals[signal.slug].to_numpy(),
    )


def _by_fusion(model, learned_from, reads="signals"):
    control = {"signals": "", "position": ", position alone", "shuffled": ", shuffled signals"}
    transfer = learned_from == TRANSFER
    return Strategy(
        model + ("" if reads == "signals" else f"-{reads}") + ("-transfer" if transfer else ""),
        _FUSION_TITLES[model] + control[reads] + (", transfer" if transfer else ""),
        "fusion" if reads == "signals" else "control",
        lambda view: view.fusion.predict(
            features(view.signals, view.layers, view.depth, reads, view.rng)[
                view.fusion.feature_names_in_
            ]
        ),
        learned_from,
        model,
        reads,
    )


def _random(view):
    order = view.rng.permutation(view.depth)
    return -order[list(view.layers)]


def _looks(view):
    raise NotImplementedError(
        "the greedy oracle chooses after training: see sfusion.pruning.walk.greedy"
    )


_FUSION_TITLES = {"linear-regression": "Linear regression", "random-forest": "Random forest"}

# One line a strategy; every one is a pure function of a View.
STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        *(_by_signal(signal) for signal in SIGNALS.values()),
        *(
            _by_fusion(model, learned_from)
            for learned_from in (IN_DATASET, TRANSFER)
            for model in FUSION_MODELS
        ),
        # What a fusion could know without any signal, and what it makes of noise.
        *(
            _by_fusion("random-forest", learned_from, reads)
            for reads in ("position", "shuffled")
            for learned_from in (IN_DATASET, TRANSFER)
        ),
        Strategy("random", "Random order", "random", _random),
        # Poor Man's BERT, Sajjad et al. 2020, arXiv:2004.03844
        Strategy("top-first", "Top layers first", "position", lambda view: view.layers),
        Strategy(
            "bottom-first",
            "Bottom layers first",
            "position",
            lambda view: [-layer for layer in view.layers],
        ),
        *(_by_signal(measure) for measure in REDUNDANCY.values()),
        # Not a rule but a search: it trains every child and looks, see sfusion.pruning.walk.greedy.
        Strategy("greedy-oracle", "Greedy oracle", "search", _looks),
    )
}


def expand(names, random_orders):
    """List strategies with the random baseline as its several draws.

    Parameters
    ----------
    names : iterable of str
        Names in ``STRATEGIES``.
    random_orders : int
        Draws: ``random-0`` and so on.

    Returns
    -------
    list of str
        Labels for :func:`lookup`.
    """
    return [
        label
        for name in names
        for label in ([f"random-{i}" for i in range(random_orders)] if name == "random" else [name])
    ]


def lookup(label):
    """Find the strategy of a label.

    Parameters
    ----------
    label : str
        A name in ``STRATEGIES``, or ``random-0``, ``random-1`` and so on.

    Returns
    -------
    Strategy
    """
    stem, _, draw = label.rpartition("-")
    return STRATEGIES["random"] if stem == "random" and draw.isdigit() else STRATEGIES[label]
