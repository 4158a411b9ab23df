"""The twelve signals of a layer, and three measures of redundancy beside them."""

from sfusion.signals.definitions import MEASURES
from sfusion.signals.registry import REDUNDANCY, SIGNALS

__all__ = ["MEASURES", "REDUNDANCY", "SIGNALS"]
