"""Strategies: which layer goes next.

A strategy is a function of a :class:`View`, which gives one number per layer; the layer
of the highest number goes. To add one, write that function under a line of
``@strategy``. Strategies that are alike but for a signal, a regressor or an order are
registered in loops below.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sfusion.errors import SfusionError
from sfusion.pruning.fusion import EVERYTHING, FUSION_MODELS, features
from sfusion.signals import REDUNDANCY, SIGNALS

if TYPE_CHECKING:
    import pandas as pd

    from sfusion.signals.definitions import Signal

IN_DATASET = "in-dataset"
TRANSFER = "leave-one-dataset-out"
OTHER_MODEL = "leave-one-model-out"
# Which removals a fusion learned from, and what its name ends in.
LEARNED_FROM = {IN_DATASET: "", TRANSFER: "transfer", OTHER_MODEL: "other-model"}

# What a fusion reads in place of the twelve signals, and how its title says so.
READ_TITLES = {
    "all": "all features",
    "siblings": "siblings",
    "position": "position alone",
    "shuffled": "permuted signals",
}


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
    fusion: Any
    depth: int
    fixed: tuple[int, ...] = ()


Score = Callable[[View], Sequence[float]]


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
    score: Score | None
    learned_from: str | None = None
    model: str | None = None
    reads: str = "signals"
    signal: str | None = None
    once: bool = False

    @property
    def teaches_fusions(self) -> bool:
        """Whether fusions may learn from its removals.

        A fusion or a search would show them the answer, a control adds nothing.
        """
        chooses_alone = self.learned_from is None and self.score is not None
        return chooses_alone and not self.once and self.group != "reversed"

    @property
    def reads_signals(self) -> bool:
        """Whether its choice needs the pass that extracts the signals."""
        if self.learned_from is not None:
            return self.reads != "position"
        return self.signal is not None

    @property
    def measures(self) -> set[str]:
        """Names of the measures that it reads beside the twelve signals."""
        if self.reads in EVERYTHING:
            return set(REDUNDANCY)
        return {self.signal} & set(REDUNDANCY)


STRATEGIES: dict[str, Strategy] = {}


def register(added: Strategy) -> None:
    """Make a strategy known by its name.

    Parameters
    ----------
    added : Strategy
    """
    STRATEGIES[added.name] = added


def strategy(
    name: str, title: str, group: str, **needs: Any
) -> Callable[[Score], Score]:
    """Register the function below as a strategy.

    Parameters
    ----------
    name, title, group : str
        See :class:`Strategy`.
    **needs
        What else it is made of: ``signal`` where it reads one.

    Returns
    -------
    callable
        The decorator; the function stays as it is.
    """

    def add(score: Score) -> Score:
        register(Strategy(name, title, group, score, **needs))
        return score

    return add


def _by_signal(signal: Signal) -> Strategy:
    sign = 1.0 if signal.removed_first == "highest" else -1.0

    def score(view: View) -> Sequence[float]:
        return sign * view.signals[signal.slug].to_numpy()

    return Strategy(signal.slug, signal.title, signal.group, score, signal=signal.slug)


def _reversed(ordered: Strategy) -> Strategy:
    return replace(
        ordered,
        name=f"reversed-{ordered.name}",
        title=f"{ordered.title}, reversed",
        group="reversed",
        score=lambda view: -ordered.score(view),
    )


def _by_fusion(model: str, learned_from: str, reads: str = "signals") -> Strategy:
    def score(view: View) -> Sequence[float]:
        table = features(view.signals, view.layers, view.depth, reads, view.rng)
        return view.fusion.predict(table[view.fusion.feature_names_in_])

    name = [model]
    title = [model.capitalize()]
    if reads in READ_TITLES:
        name.append(reads)
        title.append(READ_TITLES[reads])
    if LEARNED_FROM[learned_from]:
        name.append(LEARNED_FROM[learned_from])
        title.append(LEARNED_FROM[learned_from])
    return Strategy(
        "-".join(name),
        ", ".join(title).replace("-", " "),
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


@strategy("random", "Random order", "random")
def random(view: View) -> Sequence[float]:
    """Follow one order, drawn once."""
    order = view.rng.permutation(view.depth)
    return order[list(view.layers)]


@strategy("random-keep-last", "Random, last layer stays", "random")
def random_keep_last(view: View) -> Sequence[float]:
    """Follow one order, drawn once, at whose end the last layer is."""
    last = view.depth - 1
    scores = zip(view.layers, random(view), strict=True)
    return [-math.inf if layer == last else score for layer, score in scores]


# The orders: Poor Man's BERT, Sajjad et al. 2020, arXiv:2004.03844; that the last layer
# stays, declared here.
@strategy("top-first", "Top layers first", "position")
def top_first(view: View) -> Sequence[float]:
    """Go down from the output."""
    return view.layers


@strategy("bottom-first", "Bottom layers first", "position")
def bottom_first(view: View) -> Sequence[float]:
    """Go up from the embeddings."""
    return [-layer for layer in view.layers]


@strategy("symmetric", "Middle layers first", "position")
def symmetric(view: View) -> Sequence[float]:
    """Go from the middle outwards; of two as far out the upper one goes first."""
    middle = (view.depth - 1) / 2
    return [-abs(layer - middle) for layer in view.layers]


@strategy("middle-first", "Middle first, last layer stays", "position")
def middle_first(view: View) -> Sequence[float]:
    """Go from the middle outwards, the last layer at the end."""
    last = view.depth - 1
    scores = zip(view.layers, symmetric(view), strict=True)
    return [-math.inf if layer == last else score for layer, score in scores]


@strategy("alternate", "Every second layer first", "position")
def alternate(view: View) -> Sequence[float]:
    """Take every second layer from below the last on, then every second of the rest."""
    order: list[int] = []
    left = list(range(view.depth))
    while len(left) > 1:
        order += left[-2::-2]
        left = [layer for layer in left if layer not in order]
    order += left
    return [-order.index(layer) for layer in view.layers]


for _signal in REDUNDANCY.values():
    register(_by_signal(_signal))
for _signal in SIGNALS.values():
    register(_reversed(STRATEGIES[_signal.slug]))
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
            title=f"{_stepwise.title}, one-shot",
            once=True,
        )
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
# The reasons, on validation: docs/choosing.md.
DEFAULT_STRATEGY = "one-shot-middle-first"


def choose(chosen: Strategy, view: View) -> int:
    """Choose the layer that a strategy removes next.

    Parameters
    ----------
    chosen : Strategy
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
    if chosen.signal and view.signals[chosen.signal].isna().any():
        raise SfusionError(
            f"strategy {chosen.name!r}: this architecture has no such signal; "
            "choose another"
        )
    scores = np.asarray(chosen.score(view), dtype=float)
    scores = np.where(np.isin(view.layers, view.fixed), -np.inf, scores)
    from_the_output = int(np.argmax(scores[::-1]))
    return view.layers[len(scores) - 1 - from_the_output]


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
    """
    if label in STRATEGIES:
        return STRATEGIES[label]
    return STRATEGIES[label.rpartition("-")[0]]
