"""The twelve signals of a layer, and three measures of redundancy beside them."""

from sfusion.signals.definitions import MEASURES, REDUNDANCY, SIGNALS

__all__ = ["MEASURES", "REDUNDANCY", "SIGNALS"]
