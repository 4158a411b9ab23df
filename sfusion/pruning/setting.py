"""What a strategy's choice depends on besides the signals of a node."""

import itertools
from dataclasses import dataclass

from sfusion.pruning.path import ORIGINAL, PruningPath


@dataclass(frozen=True)
class Setting:
    """What a choice depends on besides the signals of a node.

    Attributes
    ----------
    depth : int
        Layers of the original model.
    fixed : tuple of int
        Layers that must stay.
    seed : int
    task : str
        Fingerprint of its texts: random orders are drawn anew for every seed and task.
    """

    depth: int
    fixed: tuple[int, ...]
    seed: int
    task: str

    @property
    def lowest(self) -> int:
        """Fewest layers that can be left."""
        return max(1, len(self.fixed))

    @property
    def removals(self) -> int:
        """Most layers that can be removed."""
        return self.depth - self.lowest

    def removable(self, path: PruningPath) -> list[int]:
        """List the layers that can go next, ascending.

        Parameters
        ----------
        path : PruningPath

        Returns
        -------
        list of int
        """
        left = path.remaining(self.depth)
        return [layer for layer in left if layer not in self.fixed]

    def removable_sets(self, size: int) -> list[tuple[int, ...]]:
        """List the sets of so many layers that can be removed.

        Parameters
        ----------
        size : int

        Returns
        -------
        list of tuple of int
            Each from the top down.
        """
        layers = self.removable(ORIGINAL)[::-1]
        return list(itertools.combinations(layers, size))
