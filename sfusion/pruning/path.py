"""Pruning paths: which layers are removed from a model, and in what order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Step = tuple[int, ...]


@dataclass(frozen=True)
class PruningPath:
    """The layers removed so far, step by step, by their number in the original model.

    A step is followed by one recovery. It removes one layer; or several that go at
    once, with as many recoveries' samples in one; or none, which is a recovery of a
    model that loses nothing. The empty path is the original model.

    Attributes
    ----------
    steps : tuple of tuple of int
        The layers of each step.
    """

    steps: tuple[Step, ...] = ()

    @classmethod
    def of(cls, *layers: int) -> PruningPath:
        """Make the path that removes layers one by one, in the order given.

        Parameters
        ----------
        *layers : int

        Returns
        -------
        PruningPath
        """
        return cls(tuple((layer,) for layer in layers))

    @classmethod
    def at_once(cls, layers: Iterable[int]) -> PruningPath:
        """Make the path of one step that removes all layers of a set.

        Parameters
        ----------
        layers : iterable of int

        Returns
        -------
        PruningPath
        """
        return cls((tuple(sorted(layers)),))

    @classmethod
    def from_the_top(cls, layers: Iterable[int]) -> PruningPath:
        """Make the path by which an exhaustive search trains a set: highest first.

        Parameters
        ----------
        layers : iterable of int

        Returns
        -------
        PruningPath
        """
        return cls.of(*sorted(layers, reverse=True))

    @classmethod
    def parse(cls, name: str) -> PruningPath:
        """Read what :attr:`name` wrote.

        Parameters
        ----------
        name : str

        Returns
        -------
        PruningPath

        Raises
        ------
        ValueError
            When the text is no name of a path.
        """
        if not name:
            return cls()
        steps = []
        for part in name.split("-"):
            layers = () if part == "x" else tuple(map(int, part.split("+")))
            steps.append(layers)
        return cls(tuple(steps))

    @property
    def name(self) -> str:
        """Text of the path: ``4-2``; ``1+3-x`` for two at once and a bare recovery."""
        parts = ["+".join(map(str, step)) or "x" for step in self.steps]
        return "-".join(parts)

    @property
    def removed(self) -> tuple[int, ...]:
        """All layers removed, in order."""
        return tuple(layer for step in self.steps for layer in step)

    @property
    def parent(self) -> PruningPath:
        """The path without its last step."""
        return PruningPath(self.steps[:-1])

    @property
    def last(self) -> Step:
        """Layers of the last step."""
        return self.steps[-1]

    @property
    def one_by_one(self) -> bool:
        """Whether every step removes a single layer."""
        return all(len(step) == 1 for step in self.steps)

    @property
    def seed_parts(self) -> tuple[int | Step, ...]:
        """What random numbers derive from: a step of one layer is its bare number."""
        return tuple(step[0] if len(step) == 1 else step for step in self.steps)

    def remaining(self, depth: int) -> tuple[int, ...]:
        """List the layers that are left.

        Parameters
        ----------
        depth : int
            Layers of the original model.

        Returns
        -------
        tuple of int
            Ascending, by their number in the original model.
        """
        gone = set(self.removed)
        return tuple(layer for layer in range(depth) if layer not in gone)

    def then(self, *layers: int) -> PruningPath:
        """Append one step.

        Parameters
        ----------
        *layers : int
            None for a recovery alone.

        Returns
        -------
        PruningPath
        """
        return PruningPath((*self.steps, layers))

    def __len__(self) -> int:
        """Count the steps; the original's path has none and is falsy."""
        return len(self.steps)

    def __str__(self) -> str:
        """Return :attr:`name`."""
        return self.name


ORIGINAL = PruningPath()
