"""Strategic fusion of layer signals for compressing transformer text classifiers."""

import importlib


class SfusionError(Exception):
    """A problem that the user can mend: one line with what, which value and what to do.

    The command line prints the line on stderr and ends with exit code 2.
    """


def first_line(error):
    """Shorten an error's message to its first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_EXPORTS = {
    # module that holds them: names; modules of a room are exported too. Loaded on first use: a
    # replay of the records needs neither torch nor transformers.
    "analysis": ("claims", "costs", "figures", "statistics", "tables"),
    "analysis.figures": ("save_figure",),
    "compression.compress": ("CompressionResult", "compress"),
    "data.tasks": ("load_task",),
    "models.layers": ("remove_layers",),
    "models.loading": ("load_model",),
    "notebooks": ("save_table",),
    "pruning.fusion": ("fit_fusion", "training_table"),
    "pruning.strategies": ("STRATEGIES", "TRANSFER"),
    "records.profiles": ("load_profile",),
    "records.results": ("load_report", "load_results", "open_results"),
    "signals": ("MEASURES", "SIGNALS"),
    "signals.extraction": ("extract_signals",),
    "study": ("sweep",),
    "training": ("distill", "fine_tune"),
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
