"""How many layers go: the models on the path, measured on validation; the choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from sfusion.compression.accuracy import accuracy_interval
from sfusion.compression.request import Target
from sfusion.models.layers import remove_layers
from sfusion.models.size import size
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.strategies import lookup

if TYPE_CHECKING:
    from sfusion.pruning.tree import PruningTree

DISTILLED = "distilled"


@dataclass(frozen=True)
class Candidate:
    """A model that may be written.

    Attributes
    ----------
    path : PruningPath
    is_distilled : bool
    """

    path: PruningPath
    is_distilled: bool = False

    @property
    def condition(self) -> str | None:
        """As :meth:`sfusion.pruning.tree.PruningTree.model` names it."""
        return DISTILLED if self.is_distilled else None


@dataclass(frozen=True, eq=False)
class Choice:
    """What was measured, and what is written.

    Attributes
    ----------
    chosen : Candidate
    accuracies : dict of Candidate to float
        On validation, of all that were measured.
    """

    chosen: Candidate
    accuracies: dict[Candidate, float]


@dataclass(frozen=True)
class Work:
    """The work of a compression by stage: samples times layers.

    Attributes
    ----------
    pruning : int
        Fine-tuning the original, and the recoveries.
    distillation : int
    """

    pruning: int
    distillation: int


def count_work(
    tree: PruningTree, strategy: str, lowest: int, target: Target, distill: bool
) -> Work:
    """Count the work of a compression.

    Parameters
    ----------
    tree : PruningTree
    strategy : str
    lowest : int
        Layers of the smallest model.
    target : Target
    distill : bool

    Returns
    -------
    Work
    """
    removals = tree.depth - lowest
    is_once = lookup(strategy).once
    first = removals if is_once and target.keep is not None else 1
    layers = 0
    for removed in range(first, removals + 1):
        recoveries = removed if is_once else 1
        layers += recoveries * (tree.depth - removed)
    pruning = layers * tree.recipes["recovery"].samples
    if not tree.tuned:
        pruning += tree.depth * tree.recipes["original"].samples
    taught = lowest * tree.recipes["distillation"].samples if distill else 0
    return Work(pruning, taught)


def choose_depth(
    tree: PruningTree, paths: Sequence[PruningPath], target: Target, distill: bool
) -> Choice:
    """Choose on validation how many layers to remove, and distil that model.

    Parameters
    ----------
    tree : PruningTree
    paths : sequence of PruningPath
        From :func:`sfusion.pruning.searches.follow`.
    target : Target
    distill : bool

    Returns
    -------
    Choice
    """
    accuracies = {}
    for path in paths:
        accuracies[Candidate(path)] = tree.evaluate(path, "validation")
    floor = _accuracy_floor(tree, target)
    best = paths[-1]
    if target.keep is None:
        within = [path for path in paths if accuracies[Candidate(path)] >= floor]
        best = within[-1]
    if not distill:
        return Choice(Candidate(best), accuracies)
    # The teacher may bring back what fine-tuning could not: try on while it does.
    for path in paths[max(1, paths.index(best)) :]:
        taught = Candidate(path, is_distilled=True)
        accuracies[taught] = tree.evaluate(path, "validation", DISTILLED)
        tree.trim()
        if max(accuracies[Candidate(path)], accuracies[taught]) < floor:
            break
        best = path
    pruned = Candidate(best)
    taught = Candidate(best, is_distilled=True)
    teaching_helped = accuracies.get(taught, -1.0) >= accuracies[pruned]
    return Choice(taught if teaching_helped else pruned, accuracies)


def _accuracy_floor(tree: PruningTree, target: Target) -> float:
    """Find the least validation accuracy that a smaller model may have."""
    original = tree.evaluate(ORIGINAL, "validation")
    samples = len(tree.task.validation)
    allowed = target.max_drop
    if allowed is None:
        allowed = (original * (1 - original) / samples) ** 0.5  # a standard error
    # A difference of whole samples: rounding of the shares must not decide.
    return original - allowed - 0.5 / samples / 1000


def tabulate(tree: PruningTree, choice: Choice) -> pd.DataFrame:
    """Tabulate what was measured.

    Parameters
    ----------
    tree : PruningTree
    choice : Choice

    Returns
    -------
    DataFrame
        See :class:`sfusion.compression.compress.CompressionResult`.
    """
    rows = []
    samples = len(tree.task.validation)
    by_depth = sorted(choice.accuracies, key=lambda one: len(one.path.removed))
    for candidate in by_depth:
        accuracy = choice.accuracies[candidate]
        model = remove_layers(tree.source(), candidate.path.removed)
        cost = size(model, tree.base["max_length"])
        interval = accuracy_interval(round(accuracy * samples), samples)
        rows.append(
            {
                "layers": cost["layers"],
                "distilled": candidate.is_distilled,
                "chosen": candidate == choice.chosen,
                "path": candidate.path.name,
                "validation_accuracy": accuracy,
                "low": interval.low,
                "high": interval.high,
                "parameters": cost["parameters"],
                "flops": cost["flops"],
            }
        )
    return pd.DataFrame(rows)
