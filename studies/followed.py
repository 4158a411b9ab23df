"""Strategies that a study left out, followed on its records; nothing is trained.

Every signal reversed, and rankings of the original whose layers go at once, among them
forests that learned from the removals of another model, choose layers as far as the
records hold signals of the models that they come to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sfusion.experiments.results import UNIT, Results
from sfusion.experiments.study import Row
from sfusion.pruning.fusion import fit_fusion, shipped_rows
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.registry import Strategy, View, choose
from sfusion.pruning.strategies import STRATEGIES
from sfusion.signals import SIGNALS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

RANKED_ONCE = (
    "random-forest-other-model",
    "random-forest-position-other-model",
    "angular-distance",
    "middle-first",
)
FOLLOWED = [f"reversed-{name}" for name in SIGNALS]
FOLLOWED += [f"one-shot-{name}" for name in RANKED_ONCE]

Chooser = Callable[[str, int], Strategy | None]


def ranked_once(name: str, model: str) -> Chooser:
    """Make a strategy rank the original's layers once.

    Parameters
    ----------
    name : str
        Of a strategy; a forest has learned from other models' removals.
    model : str
        Whose removals a forest has not seen; nor has it seen those of the dataset.

    Returns
    -------
    callable
        ``(task, seed) -> Strategy``, or None where the other models have no removals of
        the seed.
    """
    strategy = replace(STRATEGIES[name], once=True)
    if strategy.learned_from is None:
        return lambda task, seed: strategy
    assert strategy.model is not None and strategy.score is not None  # of a fusion
    regressor = strategy.model
    rank = strategy.score
    rows = shipped_rows(strategy.reads, without=model)

    def fitted(task: str, seed: int) -> Strategy | None:
        learned = rows[(rows["task"] != task) & (rows["seed"] == seed)]
        if learned.empty:
            return None
        fusion = fit_fusion(learned, regressor, strategy.reads)

        def score(view: View) -> ArrayLike:
            return rank(replace(view, fusion=fusion))

        return replace(strategy, score=score)

    return fitted


def followed_paths(results: Results, name: str) -> list[Row]:
    """Follow one strategy on the records of a study.

    Parameters
    ----------
    results : Results
    name : str
        Of ``FOLLOWED``.

    Returns
    -------
    list of dict
        See :func:`follow`, with ``strategy``.
    """
    if name in STRATEGIES and name.startswith("reversed-"):
        strategy = STRATEGIES[name]
        if strategy.signal not in results.signals:
            return []  # the signal was added after the study
        rows = follow(results, lambda task, seed: strategy)
    else:
        model = results.manifest["profile"]["model"]
        rows = follow(results, ranked_once(name.removeprefix("one-shot-"), model))
    return [{**row, "strategy": name} for row in rows]


def follow(results: Results, chooser: Chooser) -> list[Row]:
    """Let a strategy that was not studied choose every layer from the original down.

    Parameters
    ----------
    results : Results
    chooser : callable
        ``(task, seed) -> Strategy or None``, which goes nowhere.

    Returns
    -------
    list of dict
        A row per task, seed and number of layers ``removed``, at least one: ``path``.
        Where a path has no signals in the records, those of the first path that removes
        the same layers in another order are read; where there is none, the path ends.
        One that ranks once reads the original alone.
    """
    depth = results.depth
    ordered = results.signals.sort_values([*UNIT, "path", "layer"])
    rows = []
    for (task, seed), part in ordered.groupby(UNIT, sort=False):
        strategy = chooser(task, seed)
        if strategy is None:
            continue
        nodes = {}
        for name, frame in part.groupby("path"):
            nodes[PruningPath.parse(name)] = frame.reset_index(drop=True)
        for path in _walk(strategy, nodes, depth):
            row = {"task": task, "seed": int(seed)}
            rows.append({**row, "removed": len(path), "path": path.name})
    return rows


def _walk(
    strategy: Strategy, nodes: dict[PruningPath, pd.DataFrame], depth: int
) -> list[PruningPath]:
    """List the paths that a strategy comes to, from one removal on."""
    paths = []
    path = ORIGINAL
    while len(path) < depth - 1:
        read = ORIGINAL if strategy.once else path
        gone = path.removed if strategy.once else ()
        alike = [other for other in nodes if set(other.removed) == set(read.removed)]
        if not alike:
            break
        signals = nodes[read if read in alike else alike[0]]
        layers = tuple(signals["layer"])
        rng = np.random.default_rng(0)  # no strategy that is followed draws
        view = View(layers, signals, rng, None, depth, gone)
        path = path.then(choose(strategy, view))
        paths.append(path)
    return paths
