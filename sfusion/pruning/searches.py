"""Searches of one pruning tree: by strategies, greedy, exhaustive.

A search is a generator. It asks for the nodes of a wave, which need nothing of each
other, is sent what they yield, and returns which strategy came past which node. Who
computes the nodes, and beside which other trees, is none of its business.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.registry import View, choose
from sfusion.pruning.setting import Setting
from sfusion.pruning.strategies import GREEDY, lookup
from sfusion.training.seeds import derive_seed

if TYPE_CHECKING:
    from sfusion.pruning.node import NodeResult
    from sfusion.pruning.tree import PruningTree


@dataclass(frozen=True)
class Request:
    """A node that a search asks for.

    Attributes
    ----------
    path : PruningPath
    signals : bool
        Whether its signals are read.
    shared_by : int
        Strategies that stand at it.
    """

    path: PruningPath
    signals: bool = False
    shared_by: int = 1


@dataclass(frozen=True)
class Visit:
    """A strategy at a node of its pruning path."""

    label: str
    path: PruningPath


Found = Mapping[PruningPath, "NodeResult"]
Search = Generator[list[Request], Found, list[Visit]]


def next_path(
    label: str,
    path: PruningPath,
    signals: Callable[[PruningPath], pd.DataFrame],
    setting: Setting,
    fusion: Any = None,
) -> PruningPath:
    """Let one strategy remove one layer more.

    Parameters
    ----------
    label : str
        Of a strategy, see :func:`sfusion.pruning.strategies.expand`.
    path : PruningPath
        Layers removed so far.
    signals : callable
        ``path -> DataFrame``, see :meth:`PruningTree.signals`; asked for the node that
        the strategy reads, if it reads one.
    setting : Setting
    fusion : sklearn regressor, optional
        For a fusion.

    Returns
    -------
    PruningPath
        Of a one-shot strategy, which reads the original alone, a single step.
    """
    strategy = lookup(label)
    parent = path
    fixed = setting.fixed
    if strategy.once:
        parent = ORIGINAL
        fixed = (*fixed, *path.removed)
    view = View(
        layers=parent.remaining(setting.depth),
        signals=signals(parent) if strategy.reads_signals else pd.DataFrame(),
        rng=np.random.default_rng(
            derive_seed("strategy", setting.seed, setting.task, label)
        ),
        fusion=fusion,
        depth=setting.depth,
        fixed=fixed,
    )
    if strategy.choose_set is not None:
        return PruningPath.at_once(strategy.choose_set(view, len(path.removed) + 1))
    layer = choose(strategy, view)
    if strategy.once:
        return PruningPath.at_once((*path.removed, layer))
    return path.then(layer)


def pruning_path(
    label: str,
    signals: Callable[[PruningPath], pd.DataFrame],
    setting: Setting,
    fusion: Any = None,
) -> Iterator[PruningPath]:
    """Go from the original down to the fewest layers, as one strategy chooses.

    Parameters
    ----------
    label, signals, setting, fusion
        See :func:`next_path`.

    Yields
    ------
    PruningPath
        The original's first.
    """
    path = ORIGINAL
    yield path
    for _ in range(setting.removals):
        path = next_path(label, path, signals, setting, fusion)
        yield path


def follow(
    tree: PruningTree, label: str, layers: int, fusion: Any = None, every: bool = True
) -> list[PruningPath]:
    """Follow one strategy until so many layers are left.

    Parameters
    ----------
    tree : PruningTree
    label : str
        See :func:`next_path`.
    layers : int
    fusion : sklearn regressor, optional
    every : bool
        Whether a one-shot strategy, whose models owe nothing to each other, makes those
        between the original and the last one too.

    Returns
    -------
    list of PruningPath
        The original's first; each model has been evaluated on validation.
    """
    evaluated = []
    skipping = lookup(label).once and not every
    for path in pruning_path(label, tree.signals, tree.setting, fusion):
        left = len(path.remaining(tree.depth))
        if left in (layers, tree.depth) or not skipping:
            tree.evaluate(path, "validation")
            tree.trim()
            evaluated.append(path)
        if left == layers:
            break
    return evaluated


def by_strategies(
    labels: Sequence[str],
    setting: Setting,
    fusions: Mapping[str, Any] | None = None,
    *,
    teach: bool = False,
) -> Search:
    """Take strategies from the original down to the fewest layers, side by side.

    Strategies that agree so far stand at the same node and share all of its work. One
    that reads a signal which the architecture does not have is left out with a warning.

    Parameters
    ----------
    labels : sequence of str
        Strategies, see :func:`sfusion.pruning.strategies.expand`.
    setting : Setting
    fusions : mapping of str to sklearn regressor, optional
        For the fusions among them.
    teach : bool
        Whether fusions will learn from these removals: then all signals are extracted.

    Returns
    -------
    Search
    """
    fitted = fusions or {}
    found: dict[PruningPath, NodeResult] = {}
    visits: list[Visit] = []

    def signals_at(path: PruningPath) -> pd.DataFrame:
        return found[path].signals

    standing = {ORIGINAL: list(labels)}
    for removed in range(setting.removals + 1):
        at_the_end = removed == setting.removals
        found |= yield [
            Request(
                path,
                signals=not at_the_end and (teach or _read_signals(here, path)),
                shared_by=len(here),
            )
            for path, here in standing.items()
        ]
        if not removed:
            standing[ORIGINAL] = _possible(labels, found[ORIGINAL].signals)
        visits += [
            Visit(label, path) for path, here in standing.items() for label in here
        ]
        if at_the_end:
            break
        following = defaultdict(list)
        for path, here in standing.items():
            for label in here:
                fusion = fitted.get(label)
                after = next_path(label, path, signals_at, setting, fusion)
                following[after].append(label)
        standing = following
    return visits


def _read_signals(labels: Sequence[str], path: PruningPath) -> bool:
    """Check whether any of the strategies at a node reads its signals."""
    strategies = [lookup(label) for label in labels]
    return any(one.reads_signals and not (path and one.once) for one in strategies)


def _possible(labels: Sequence[str], signals: pd.DataFrame | None) -> list[str]:
    """Leave out strategies whose signal the architecture does not have."""
    if signals is None:
        return list(labels)
    missing = signals.columns[signals.isna().any()]
    lacking = [label for label in labels if lookup(label).signal in missing]
    if lacking:
        warnings.warn(
            f"left out, for the model has no such signal: {lacking}", stacklevel=2
        )
    return [label for label in labels if label not in lacking]


def greedy(setting: Setting) -> Search:
    """Train every child of a node; go on with that of highest validation accuracy.

    No signal can choose a next layer better than this; and it costs as many trainings
    as there are layers left, at every step. Ties are broken towards the output
    (declared here).

    Parameters
    ----------
    setting : Setting

    Returns
    -------
    Search
    """
    path = ORIGINAL
    visits = [Visit(GREEDY, path)]
    for _ in range(setting.removals):
        children = [path.then(layer) for layer in setting.removable(path)]
        found = yield [Request(child) for child in children]
        accuracies = {child: found[child].validation.accuracy for child in children}
        path = max(children, key=lambda child: (accuracies[child], child.last))
        visits.append(Visit(GREEDY, path))
    return visits


def greedy_size(setting: Setting) -> int:
    """Count the nodes that :func:`greedy` asks for.

    Parameters
    ----------
    setting : Setting

    Returns
    -------
    int
    """
    removable = setting.depth - len(setting.fixed)
    return sum(removable - step for step in range(setting.removals))


def exhaustive(setting: Setting) -> Search:
    """Train every set of layers that can be left, each along one path.

    The path of a set removes its layers from the top down, so that sets share their
    prefixes and every one costs a single recovery; top-down, because the steps that
    follow the loss of the last layer then help the head to read another (declared
    here).

    Parameters
    ----------
    setting : Setting

    Returns
    -------
    Search
    """
    for size in range(1, setting.removals + 1):
        sets = setting.removable_sets(size)
        yield [Request(PruningPath.from_the_top(gone)) for gone in sets]
    return []
