"""The twelve signals of a layer, and three measures of redundancy beside them."""

from sfusion.signals.definitions import MEASURES
from sfusion.signals.registry import (
    PAPER_SIGNALS,
    REDUNDANCY,
    SIGNALS,
    recorded,
    signal,
)

__all__ = ["MEASURES", "PAPER_SIGNALS", "REDUNDANCY", "SIGNALS", "recorded", "signal"]
