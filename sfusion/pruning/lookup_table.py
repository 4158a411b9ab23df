"""A lookup table of layer sets: what each set reached on other datasets, no signal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sfusion.errors import SfusionError
from sfusion.pruning.path import PruningPath

if TYPE_CHECKING:
    import pandas as pd

    from sfusion.pruning.setting import Setting


@dataclass(frozen=True)
class LookupTable:
    """The mean validation accuracy of every set of layers that can be removed.

    Attributes
    ----------
    accuracies : mapping of frozenset of int to float
        By the layers that are gone; a share, the mean over datasets.
    """

    accuracies: Mapping[frozenset[int], float]

    def accuracy(self, removed: Iterable[int]) -> float:
        """Look up what is left without some layers.

        Parameters
        ----------
        removed : iterable of int

        Returns
        -------
        float
            Minus infinity where a layer is among them that must stay.
        """
        return self.accuracies.get(frozenset(removed), float("-inf"))

    def best(self, count: int) -> tuple[int, ...]:
        """Choose the layers that so many removals take best, whatever went before.

        Parameters
        ----------
        count : int
            Layers to remove.

        Returns
        -------
        tuple of int
            Ascending; of equally accurate sets the one nearest the output (declared
            here).
        """
        sets = [gone for gone in self.accuracies if len(gone) == count]
        order = {gone: sorted(gone, reverse=True) for gone in sets}
        best = max(sets, key=lambda gone: (self.accuracies[gone], order[gone]))
        return tuple(sorted(best))


def make_lookup_table(nodes: pd.DataFrame, setting: Setting) -> LookupTable:
    """Average the exhaustive searches of several datasets.

    Parameters
    ----------
    nodes : DataFrame
        Of one seed and of datasets whose every set of layers was trained: columns
        ``task``, ``path`` and ``validation_accuracy``. Of a set, that path alone is
        read along which the search came to it; see
        :func:`sfusion.pruning.searches.exhaustive`.
    setting : Setting
        Which sets there are.

    Returns
    -------
    LookupTable

    Raises
    ------
    SfusionError
        When a set was not trained on every dataset.
    """
    tasks = max(1, nodes["task"].nunique())
    by_path = nodes.groupby("path")["validation_accuracy"]
    trained = by_path.size()
    # Sums of the same numbers in another order differ in their last digits: these must
    # not decide between sets that are equally accurate.
    means = by_path.mean().round(12)
    accuracies = {}
    for size in range(1, setting.removals + 1):
        for gone in setting.removable_sets(size):
            name = PruningPath.from_the_top(gone).name
            if trained.get(name, 0) < tasks:
                raise SfusionError(
                    "a lookup table needs every set of layers trained on the other "
                    f"datasets; without {name} {trained.get(name, 0)} of {tasks} were: "
                    "name them in the profile's subsets"
                )
            accuracies[frozenset(gone)] = float(means[name])
    return LookupTable(accuracies)
