"""Strategic fusion of layer signals for compressing transformer text classifiers."""

import importlib

from sfusion.errors import SfusionError as SfusionError

_EXPORTS = {
    # module that holds them: names; modules of a room are exported too. Loaded on first
    # use: a replay of the records needs neither torch nor transformers.
    "analysis": (
        "alternatives",
        "between_models",
        "beyond_position",
        "candidates",
        "ceiling",
        "choices",
        "compressing",
        "contrasts",
        "controls",
        "costs",
        "defaults",
        "directions",
        "doses",
        "forecasts",
        "layer_sets",
        "overview",
        "pruning_step",
        "published",
        "rankings",
        "scoreboard",
        "scores",
        "settings",
        "sizes",
        "statistics",
        "sweeps",
        "teacher_rates",
        "teaching",
        "twelve_layers",
    ),
    "analysis.exhibits": ("save_to", "show"),
    "compression.comparison": ("compare_classifiers",),
    "compression.compress": ("CompressionResult", "compress"),
    "data.tasks": ("load_task",),
    "models.layers": ("remove_layers",),
    "models.source": ("load_model",),
    "pruning.fusion": ("fit_fusion", "training_table"),
    "pruning.strategies": ("STRATEGIES", "TRANSFER"),
    "experiments.profiles": ("load_profile",),
    "experiments.results": ("load_report", "load_results", "open_results"),
    "signals": ("MEASURES", "SIGNALS"),
    "signals.extraction": ("extract_signals",),
    "experiments.pruning_study": ("sweep",),
    "training.distillation": ("distill",),
    "training.loop": ("fine_tune",),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = sorted([*_HOME, "SfusionError"])


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOME[name]}"
    if name in _EXPORTS["analysis"]:
        value = importlib.import_module(f"{home}.{name}")
    else:
        value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
