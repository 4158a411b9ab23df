"""Strategies: which layer goes next."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sfusion.errors import SfusionError
from sfusion.pruning.fusion import EVERYTHING, FUSION_MODELS, features
from sfusion.signals import REDUNDANCY, SIGNALS

IN_DATASET, TRANSFER, OTHER_MODEL = LEARNED_FROM = (
    "in-dataset",
    "leave-one-dataset-out",
    "leave-one-model-out",
)
_TOLD_BY = dict(
    zip(LEARNED_FROM, ("", "transfer", "other-model"), strict=True)
)  # in names


@dataclass(frozen=True)
class View:
    """What a strategy may look at when it chooses.

    Attributes
    ----------
    layers : tuple of int
        Layers that are left, by their number in the original model.
    signals : DataFrame or None
        A row per layer of ``layers``, a column per measure of ``MEASURES``; None where
        the strategy reads none.
    rng : numpy.random.Generator
        Depends on the seed, the task and the strategy's name alone, so a random order
        is drawn once.
    fusion : sklearn regressor or None
        The fitted model of a fusion.
    depth : int
        Layers of the original model.
    fixed : tuple of int
        Layers that must stay.
    """

    layers: tuple[int, ...]
    signals: pd.DataFrame | None
    rng: np.random.Generator
    fusion: object
    depth: int
    fixed: tuple[int, ...] = ()


@dataclass(frozen=True)
class Strategy:
    """A rule for choosing the next layer.

    Attributes
    ----------
    name, title, group : str
        Name in code, name in print, and the group it is drawn with.
    score : callable or None
        ``View -> sequence``: one number per layer; the highest goes first, and ties are
        broken towards the output (declared here). None for a search, which trains
        before it chooses.
    learned_from : str, optional
        For fusions: which removals it was fitted on.
    model, reads : str, optional
        For fusions: the regressor, of ``FUSION_MODELS``, and its features, see
        :func:`sfusion.pruning.fusion.features`.
    signal : str, optional
        The one measure that it reads, of ``MEASURES``.
    once : bool
        Whether it ranks the layers of the original model once: so many as are to go
        then go at once, with as many recoveries' samples in one.
    """

    name: str
    title: str
    group: str
    score: Callable | None
    learned_from: str | None = None
    model: str | None = None
    reads: str = "signals"
    signal: str | None = None
    once: bool = False

    @property
    def teaches_fusions(self):
        """Whether fusions may learn from its removals: a fusion or a search would leak, a control add nothing."""
        return (
            self.learned_from is None
            and self.score is not None
            and not self.once
            and self.group != "reversed"
        )

    @property
    def reads_signals(self):
        """Whether its choice needs the pass that extracts the signals."""
        return self.signal is not None or (
            self.learned_from is not None and self.reads != "position"
        )

    @property
    def measures(self):
        """Names of the measures that it reads beside the twelve signals."""
        return set(REDUNDANCY) & (
            set(REDUNDANCY) if self.reads in EVERYTHING else {self.signal}
        )


def _by_signal(signal, turned=False):
    sign = -1.0 if (signal.removed_first == "lowest") != turned else 1.0
    names = signal.slug, signal.title, signal.group
    if turned:
        names = f"reversed-{signal.slug}", f"{signal.title}, reversed", "reversed"
    return Strategy(
        *names,
        lambda view: sign * view.signals[signal.slug].to_numpy(),
        signal=signal.slug,
    )


_TITLES = {
    "all": "all features",
    "siblings": "siblings",
    "position": "position alone",
    "shuffled": "permuted signals",
}


def _by_fusion(model, learned_from, reads="signals"):
    def score(view):
        table = features(view.signals, view.layers, view.depth, reads, view.rng)
        return view.fusion.predict(table[view.fusion.feature_names_in_])

    told, group = (
        _TOLD_BY[learned_from],
        "control" if reads in ("position", "shuffled") else "fusion",
    )
    name = "-".join(filter(None, (model, reads * (reads != "signals"), told)))
    title = ", ".join(
        filter(None, (model.capitalize(), _TITLES.get(reads), told))
    ).replace("-", " ")
    return Strategy(name, title, group, score, learned_from, model, reads)


def _random(view, keep=None):
    order = view.rng.permutation(view.depth)
    return [-math.inf if layer == keep else order[layer] for layer in view.layers]


def _by_order(name, title, order):
    """Turn a function of the depth, which lists the layers in the order they go, into a strategy."""
    return Strategy(
        name,
        title,
        "position",
        lambda view: [-order(view.depth).index(n) for n in view.layers],
    )


def _middle_first(depth, last_stays=False):
    """Go from the middle outwards, of two as far out the upper one first."""
    return sorted(
        range(depth),
        key=lambda n: (last_stays and n == depth - 1, abs(n - (depth - 1) / 2), -n),
    )


def _alternate(depth):
    """List every second layer from below the last on, then every second of what is left, and so on."""
    order: list[int] = []
    left = list(range(depth))
    while gone := left[-2::-2]:
        order, left = order + gone, left[1 - len(left) % 2 :: 2]
    return order + left


# One line per strategy; every score is a pure function of a View.
STRATEGIES = {
    strategy.name: strategy
    for strategy in (
        *(_by_signal(signal) for signal in SIGNALS.values()),
        *(
            _by_fusion(model, source)
            for source in LEARNED_FROM
            for model in FUSION_MODELS
        ),
        # A fusion that reads the measures of redundancy and the position too; what one
        # could know without any signal, and what it makes of noise.
        *(
            _by_fusion("random-forest", source, reads)
            for reads in _TITLES
            for source in LEARNED_FROM
            if reads not in EVERYTHING
            or source != OTHER_MODEL  # no rows of them are shipped
        ),
        Strategy("random", "Random order", "random", _random),
        Strategy(
            "random-keep-last",
            "Random, last layer stays",
            "random",
            lambda v: _random(v, v.depth - 1),
        ),
        # Poor Man's BERT, Sajjad et al. 2020, arXiv:2004.03844; that the last layer
        # stays, declared here.
        _by_order("top-first", "Top layers first", lambda depth: range(depth)[::-1]),
        _by_order("bottom-first", "Bottom layers first", range),
        _by_order("symmetric", "Middle layers first", _middle_first),
        _by_order(
            "middle-first",
            "Middle first, last layer stays",
            lambda depth: _middle_first(depth, True),
        ),
        _by_order("alternate", "Every second layer first", _alternate),
        *(_by_signal(measure) for measure in REDUNDANCY.values()),
        *(_by_signal(signal, turned=True) for signal in SIGNALS.values()),
        # No rule but a search: trains every child, see sfusion.pruning.searches.
        Strategy("greedy-oracle", "Greedy search", "search", None),
    )
}
_RANKED_ONCE = (
    "top-first",
    "middle-first",
    "angular-distance",
    "random-forest",
    "random-forest-other-model",
)
for one in [STRATEGIES[name] for name in _RANKED_ONCE]:
    STRATEGIES[f"one-shot-{one.name}"] = replace(
        one, name=f"one-shot-{one.name}", title=f"{one.title}, one-shot", once=True
    )
# Without the forests of another model: its removals must have been recorded before.
STUDIED = [
    name
    for name, one in STRATEGIES.items()
    if one.group != "reversed" and not one.once and one.learned_from != OTHER_MODEL
]
# What a compression offers: no searches and no controls, and each fusion once, for it
# always learned from the removals that come with the package; these lack the measures
# that one of all features reads.
COMPRESSION_STRATEGIES = [
    name
    for name, one in STRATEGIES.items()
    if one.score
    and one.reads == "signals"
    and one.learned_from in (None, IN_DATASET)
    and one.group != "reversed"
]
DEFAULT_STRATEGY = (
    "one-shot-middle-first"  # the reasons, on validation: docs/choosing.md
)


def choose(strategy, view):
    """Choose the layer that a strategy removes next.

    Parameters
    ----------
    strategy : Strategy
    view : View

    Returns
    -------
    int
        Number of the layer in the original model.

    Raises
    ------
    SfusionError
        When the strategy reads a signal that the architecture does not have.
    """
    if strategy.signal and view.signals[strategy.signal].isna().any():
        raise SfusionError(
            f"strategy {strategy.name!r}: this architecture has no such signal; choose another"
        )
    scores = np.asarray(strategy.score(view), dtype=float)
    scores = np.where(np.isin(view.layers, view.fixed), -np.inf, scores)
    return view.layers[len(scores) - 1 - int(np.argmax(scores[::-1]))]


def expand(names, random_orders):
    """List strategies with the random baselines as their several draws.

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
    draws = {
        name: [f"{name}-{i}" for i in range(random_orders)]
        for name in ("random", "random-keep-last")
    }
    return [label for name in names for label in draws.get(name, [name])]


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
    return STRATEGIES[stem if draw.isdigit() else label]
