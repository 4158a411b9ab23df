"""Strategic fusion of layer signals for compressing transformer text classifiers."""

import importlib


class SfusionError(Exception):
    """Input or state that a person can put right; the message is one line and says how."""


_EXPORTS = {
    # name: module that holds it; of a module itself, its room. Loaded on first use: a replay of
    # the records needs neither torch nor transformers.
    "CompressionResult": "compression.compress",
    "MEASURES": "signals",
    "SIGNALS": "signals",
    "STRATEGIES": "pruning.strategies",
    "TRANSFER": "pruning.strategies",
    "claims": "analysis",
    "compress": "compression.compress",
    "costs": "analysis",
    "distill": "pruning.distillation",
    "extract_signals": "signals.extraction",
    "figures": "analysis",
    "fine_tune": "training",
    "fit_fusion": "pruning.fusion",
    "load_model": "models.loading",
    "load_profile": "records.profiles",
    "load_report": "records.results",
    "load_results": "records.results",
    "load_task": "data.tasks",
    "open_results": "analysis.tables",
    "remove_layers": "models.loading",
    "save_table": "notebooks",
    "statistics": "analysis",
    "sweep": "analysis.tables",
    "tables": "analysis",
    "training_table": "pruning.fusion",
}

__all__ = sorted([*_EXPORTS, "SfusionError"])


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = importlib.import_module(f"{__name__}.{_EXPORTS[name]}")
    value = getattr(room, name, None) or importlib.import_module(f"{room.__name__}.{name}")
    globals()[name] = value
    return value


def __dir__():
    return __all__
