"""What a strategy is, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sfusion.errors import SfusionError
from sfusion.pruning.fusion import EVERYTHING
from sfusion.signals import REDUNDANCY

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import ArrayLike

# What a lookup table reads in place of signals: which layers are left.
LAYER_SETS = "layer sets"


@dataclass(frozen=True)
class View:
    """What a strategy may look at when it chooses.

    Attributes
    ----------
    layers : tuple of int
        Layers that are left, by their number in the original model.
    signals : DataFrame
        A row per layer of ``layers``, a column per measure of ``MEASURES``; empty where
        the strategy reads none.
    rng : numpy.random.Generator
        Depends on the seed, the task and the strategy's name alone, so a random order
        is drawn once.
    fusion : sklearn regressor, LookupTable or None
        What a strategy learned from other removals.
    depth : int
        Layers of the original model.
    fixed : tuple of int
        Layers that must stay.
    """

    layers: tuple[int, ...]
    signals: pd.DataFrame
    rng: np.random.Generator
    fusion: Any
    depth: int
    fixed: tuple[int, ...] = ()


Score = Callable[[View], "ArrayLike"]
# Layers to remove from the original, given how many.
ChooseSet = Callable[[View, int], Sequence[int]]


@dataclass(frozen=True)
class Strategy:
    """A rule for choosing the next layer.

    Attributes
    ----------
    name, title, group : str
        Name in code, name in print, and the group it is drawn with.
    score : callable or None
        ``View -> numbers``: one per layer; the highest goes first, and ties are
        broken towards the output (declared here). None for a search, which trains
        before it chooses.
    learned_from : str, optional
        For fusions and lookup tables: which removals they were fitted on.
    model, reads : str, optional
        For fusions: the regressor, of ``FUSION_MODELS``, and its features, see
        :func:`sfusion.pruning.fusion.features`. A lookup table has no model and reads
        ``LAYER_SETS``.
    signal : str, optional
        The one measure that it reads, of ``MEASURES``.
    once : bool
        Whether it ranks the layers of the original model once: so many as are to go
        then go at once, with as many recoveries' samples in one.
    choose_set : callable, optional
        For one that goes ``once`` and chooses anew for every number of removals, so
        that its sets need not be nested.
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
    choose_set: ChooseSet | None = None

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
            return self.reads not in ("position", LAYER_SETS)
        return self.signal is not None

    @property
    def measures(self) -> set[str]:
        """Names of the measures that it reads beside the twelve signals."""
        if self.reads in EVERYTHING:
            return set(REDUNDANCY)
        return {name for name in REDUNDANCY if name == self.signal}


STRATEGIES: dict[str, Strategy] = {}


def register(added: Strategy) -> None:
    """Make a strategy known by its name, which no other may have.

    Parameters
    ----------
    added : Strategy

    Raises
    ------
    ValueError
        When there is a strategy of that name.
    """
    if added.name in STRATEGIES:
        raise ValueError(f"strategy {added.name!r} is registered already")
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
        When the strategy reads a signal that the architecture does not have, or is a
        search.
    """
    if chosen.score is None:
        raise SfusionError(f"strategy {chosen.name!r} is a search, not a rule")
    if chosen.signal and view.signals[chosen.signal].isna().any():
        raise SfusionError(
            f"strategy {chosen.name!r}: this architecture has no such signal; "
            "choose another"
        )
    scores = np.asarray(chosen.score(view), dtype=float)
    scores = np.where(np.isin(view.layers, view.fixed), -np.inf, scores)
    from_the_output = int(np.argmax(scores[::-1]))
    return view.layers[len(scores) - 1 - from_the_output]
