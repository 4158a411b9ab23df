"""Figures: each is a pure function of a tidy frame, ``frame -> Figure``."""

from sfusion.plots.compression import compression_curve
from sfusion.plots.distillation import distillation_by_depth, distillation_gain
from sfusion.plots.evidence import contrasts, overhead, regret
from sfusion.plots.fusion import fusion_coefficients, fusion_fit, fusion_importance
from sfusion.plots.look import (
    ARM_STYLES,
    ARM_TITLES,
    COLOURS,
    DENOMINATOR_STYLES,
    PAGE,
    VERDICTS,
    appearance,
    interval_text,
    save_figure,
)
from sfusion.plots.outcome import accuracy_to_size, protocol_gap, ratio_by_denominator, scoreboard
from sfusion.plots.signals import signal_correlation, signal_profile
from sfusion.plots.sweeps import accuracy_by_depth, maximum_accuracy, removal_order

__all__ = [
    "ARM_STYLES",
    "ARM_TITLES",
    "COLOURS",
    "DENOMINATOR_STYLES",
    "PAGE",
    "VERDICTS",
    "accuracy_by_depth",
    "accuracy_to_size",
    "appearance",
    "compression_curve",
    "contrasts",
    "distillation_by_depth",
    "distillation_gain",
    "fusion_coefficients",
    "fusion_fit",
    "fusion_importance",
    "interval_text",
    "maximum_accuracy",
    "overhead",
    "protocol_gap",
    "ratio_by_denominator",
    "regret",
    "removal_order",
    "save_figure",
    "scoreboard",
    "signal_correlation",
    "signal_profile",
]
