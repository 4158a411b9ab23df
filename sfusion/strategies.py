"""Strategies: which layer goes next."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sfusion.fusion import FUSION_MODELS, standardise
from sfusion.signals import SIGNALS

IN_DATASET, TRANSFER = "in-dataset", "leave-one-dataset-out"


@dataclass(frozen=True)
class View:
    """What a strategy may look at when it chooses.

    Attributes
    ----------
    layers : tuple of int
        Layers that are left, by their number in the original model.
    signals : DataFrame
        A row a layer that is left (same order), a column a signal.
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
    """

    name: str
    title: str
    group: str
    score: Callable
    learned_from: str | None = None


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


def _by_fusion(name, title, learned_from):
    return Strategy(
        name,
        title,
        "fusion",
        lambda view: view.fusion.predict(standardise(view.signals)),
        learned_from,
    )


def _random(view):
    order = view.rng.permutation(view.depth)
    return -order[list(view.layers)]


_FUSION_TITLES = {"linear-regression": "Linear regression", "random-forest": "Random forest"}

# One line a strategy; every one is a pure function of a View.
STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        *(_by_signal(signal) for signal in SIGNALS.values()),
        *(_by_fusion(name, _FUSION_TITLES[name], IN_DATASET) for name in FUSION_MODELS),
        *(
            _by_fusion(f"{name}-transfer", f"{_FUSION_TITLES[name]}, transfer", TRANSFER)
            for name in FUSION_MODELS
        ),
        Strategy("random", "Random order", "random", _random),
        Strategy("top-first", "Top layers first", "position", lambda view: view.layers),
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
