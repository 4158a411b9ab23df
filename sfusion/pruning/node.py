"""What a node of a pruning tree yields."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def pack(correct: np.ndarray) -> str:
    """Write which texts were classified rightly as hexadecimal digits.

    Parameters
    ----------
    correct : ndarray of bool, shape (N,)

    Returns
    -------
    str
        Eight texts a byte.
    """
    return np.packbits(correct).tobytes().hex()


def unpack(digits: str, count: int) -> np.ndarray:
    """Read what :func:`pack` wrote.

    Parameters
    ----------
    digits : str
    count : int
        Texts.

    Returns
    -------
    ndarray of shape (count,)
        Zeros and ones.
    """
    content = np.frombuffer(bytes.fromhex(digits), np.uint8)
    return np.unpackbits(content, count=count)


@dataclass(frozen=True)
class Outcome:
    """Which texts of a split a model classifies rightly.

    Attributes
    ----------
    digits : str
        See :func:`pack`.
    texts : int
    seconds : float
        Of the evaluation.
    """

    digits: str
    texts: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of the texts."""
        return float(unpack(self.digits, self.texts).mean())

    @property
    def correct(self) -> bytes:
        """A bit per text."""
        return bytes.fromhex(self.digits)


@dataclass(frozen=True, eq=False)
class NodeResult:
    """What was found at a node.

    Attributes
    ----------
    validation, test : Outcome
    training : float
        Seconds.
    signals : DataFrame or None
        A row per remaining layer, a column per measure; None where nothing reads them.
    extraction : float
        Seconds that the signals took; NaN without them.
    """

    validation: Outcome
    test: Outcome
    training: float
    signals: pd.DataFrame | None = None
    extraction: float = math.nan

    @property
    def evaluation(self) -> float:
        """Seconds of both evaluations."""
        return self.validation.seconds + self.test.seconds

    def with_signals_of(self, other: NodeResult | None) -> NodeResult:
        """Keep the signals that another visit extracted, where this one did not.

        Parameters
        ----------
        other : NodeResult or None

        Returns
        -------
        NodeResult
        """
        if self.signals is not None or other is None:
            return self
        return replace(self, signals=other.signals, extraction=other.extraction)
