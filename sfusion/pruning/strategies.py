"""Strategies: which layer goes next.

A strategy is a function of a :class:`View`, which gives one number per layer; the layer
of the highest number goes. To add one, write that function under a line of
``@strategy``. Strategies that are alike but for a signal, a regressor or an order are
registered in loops below.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sfusion.errors import SfusionError
from sfusion.pruning.fusion import EVERYTHING, FUSION_MODELS, features
from sfusion.pruning.registry import (
    LAYER_SETS,
    STRATEGIES,
    Strategy,
    View,
    register,
    strategy,
)
from sfusion.signals import REDUNDANCY, SIGNALS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from sfusion.signals.registry import Signal

IN_DATASET = "in-dataset"
TRANSFER = "leave-one-dataset-out"
OTHER_MODEL = "leave-one-model-out"
# Which removals a fusion learned from, and what its name ends in.
LEARNED_FROM = {IN_DATASET: "", TRANSFER: "transfer", OTHER_MODEL: "other-model"}

# How the title of a fusion says what it learned from.
SOURCE_TITLES = {
    IN_DATASET: "Own {}",
    TRANSFER: "Transferred {}",
    OTHER_MODEL: "Another model's {}",
}
MODEL_TITLES = {"random-forest": "forest"}

# What a fusion reads in place of the twelve signals, and how its title says so.
READ_TITLES = {
    "all": " of all measures",
    "siblings": " ordering siblings",
    "position": ", position alone",
    "shuffled": ", permuted signals",
}


def _by_signal(signal: Signal, turned: bool = False) -> Strategy:
    highest_first = (signal.removed_first == "highest") != turned
    sign = 1.0 if highest_first else -1.0

    def score(view: View) -> ArrayLike:
        return sign * view.signals[signal.slug].to_numpy()

    forward = Strategy(
        signal.slug, signal.title, signal.group, score, signal=signal.slug
    )
    if not turned:
        return forward
    return replace(
        forward,
        name=f"reversed-{forward.name}",
        title=f"{forward.title}, reversed",
        group="reversed",
    )


def _by_fusion(model: str, learned_from: str, reads: str = "signals") -> Strategy:
    def score(view: View) -> ArrayLike:
        table = features(view.signals, view.layers, view.depth, reads, view.rng)
        return view.fusion.predict(table[view.fusion.feature_names_in_])

    kind = MODEL_TITLES.get(model, model.replace("-", " "))
    title = SOURCE_TITLES[learned_from].format(kind)
    name = [model]
    if reads in READ_TITLES:
        name.append(reads)
        title += READ_TITLES[reads]
    if LEARNED_FROM[learned_from]:
        name.append(LEARNED_FROM[learned_from])
    return Strategy(
        "-".join(name),
        title,
        "control" if reads in ("position", "shuffled") else "fusion",
        score,
        learned_from,
        model,
        reads,
    )


for _signal in SIGNALS.values():
    register(_by_signal(_signal))
for _source in LEARNED_FROM:
    for _model in FUSION_MODELS:
        register(_by_fusion(_model, _source))
# A forest that reads the measures of redundancy and the position too; what one could
# know without any signal, and what it makes of noise. Of another model's removals those
# measures are not shipped.
for _reads in READ_TITLES:
    for _source in LEARNED_FROM:
        if _source != OTHER_MODEL or _reads not in EVERYTHING:
            register(_by_fusion("random-forest", _source, _reads))


def _last_at_the_end(view: View, scores: ArrayLike) -> ArrayLike:
    last = np.asarray(view.layers) == view.depth - 1
    return np.where(last, -np.inf, scores)


@strategy("random", "Random order", "random")
def random(view: View) -> ArrayLike:
    """Follow one order, drawn once."""
    return view.rng.permutation(view.depth)[list(view.layers)]


@strategy("random-keep-last", "Random order that keeps the last layer", "random")
def random_keep_last(view: View) -> ArrayLike:
    """Follow one order, drawn once, at whose end the last layer is."""
    return _last_at_the_end(view, random(view))


# The orders: Poor Man's BERT, Sajjad et al. 2020, arXiv:2004.03844; that the last layer
# stays, declared here.
@strategy("top-first", "Top layers first", "position")
def top_first(view: View) -> ArrayLike:
    """Go down from the output."""
    return view.layers


@strategy("bottom-first", "Bottom layers first", "position")
def bottom_first(view: View) -> ArrayLike:
    """Go up from the embeddings."""
    return [-layer for layer in view.layers]


@strategy("symmetric", "Middle first, last layer may go", "position")
def symmetric(view: View) -> ArrayLike:
    """Go from the middle outwards; of two as far out the upper one goes first."""
    middle = (view.depth - 1) / 2
    return [-abs(layer - middle) for layer in view.layers]


@strategy("middle-first", "Middle first", "position")
def middle_first(view: View) -> ArrayLike:
    """Go from the middle outwards, the last layer at the end."""
    return _last_at_the_end(view, symmetric(view))


@strategy("alternate", "Every second layer first", "position")
def alternate(view: View) -> ArrayLike:
    """Take every second layer from below the last on, then every second of the rest."""
    order: list[int] = []
    left = list(range(view.depth))
    while len(left) > 1:
        order += left[-2::-2]
        left = [layer for layer in left if layer not in order]
    order += left
    return [-order.index(layer) for layer in view.layers]


# What is known of sets of layers from other datasets, without any signal: a control of
# every fusion that is transferred.
@strategy(
    "lookup",
    "Lookup table of layer sets",
    "control",
    learned_from=TRANSFER,
    reads=LAYER_SETS,
)
def lookup_step(view: View) -> ArrayLike:
    """Take the layer without which the others do best on other datasets."""
    gone = set(range(view.depth)) - set(view.layers)
    return [view.fusion.accuracy({*gone, layer}) for layer in view.layers]


def _lookup_set(view: View, count: int) -> Sequence[int]:
    return view.fusion.best(count)


register(
    replace(
        STRATEGIES["lookup"],
        name="one-shot-lookup",
        title="Lookup table of layer sets, at once",
        once=True,
        choose_set=_lookup_set,
    )
)

for _signal in REDUNDANCY.values():
    register(_by_signal(_signal))
for _signal in SIGNALS.values():
    register(_by_signal(_signal, turned=True))
# No rule but a search: trains every child, see sfusion.pruning.searches.
GREEDY = "greedy-oracle"
register(Strategy(GREEDY, "Greedy search", "search", None))

RANKED_ONCE = (
    "top-first",
    "middle-first",
    "angular-distance",
    "random-forest",
    "random-forest-other-model",
)
for _name in RANKED_ONCE:
    _stepwise = STRATEGIES[_name]
    register(
        replace(
            _stepwise,
            name=f"one-shot-{_name}",
            title=f"{_stepwise.title}, at once",
            once=True,
        )
    )

# Without the forests of another model, whose removals must have been recorded before,
# and without the lookup table, which needs every set of layers trained.
STUDIED = [
    name
    for name, one in STRATEGIES.items()
    if one.group != "reversed"
    and not one.once
    and one.learned_from != OTHER_MODEL
    and one.reads != LAYER_SETS
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
# The reasons, on validation: docs/choosing.md.
DEFAULT_STRATEGY = "one-shot-middle-first"


def expand(names: Iterable[str], random_orders: int) -> list[str]:
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
    labels = []
    for name in names:
        if STRATEGIES[name].group == "random":
            labels += [f"{name}-{draw}" for draw in range(random_orders)]
        else:
            labels.append(name)
    return labels


def lookup(label: str) -> Strategy:
    """Find the strategy of a label.

    Parameters
    ----------
    label : str
        A name in ``STRATEGIES``, or ``random-0``, ``random-1`` and so on.

    Returns
    -------
    Strategy

    Raises
    ------
    SfusionError
        For a label that is none.
    """
    for name in (label, label.rpartition("-")[0]):
        if name in STRATEGIES:
            return STRATEGIES[name]
    raise SfusionError(f"strategy {label!r} is not known")
