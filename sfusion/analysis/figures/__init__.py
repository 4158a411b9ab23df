"""Figures: each is a pure function of a tidy frame, ``frame -> Figure``."""

from sfusion.analysis.figures.compression import compression_curve
from sfusion.analysis.figures.distillation import distillation_by_depth, distillation_gain
from sfusion.analysis.figures.evidence import contrasts, overhead, regret
from sfusion.analysis.figures.fusion import fusion_coefficients, fusion_fit, fusion_importance
from sfusion.analysis.figures.look import (
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
from sfusion.analysis.figures.outcome import (
    accuracy_to_size,
    protocol_gap,
    ratio_by_denominator,
    scoreboard,
)
from sfusion.analysis.figures.signals import signal_correlation, signal_profile
from sfusion.analysis.figures.sweeps import accuracy_by_depth, maximum_accuracy, removal_order

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
