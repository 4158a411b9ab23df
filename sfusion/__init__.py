"""Strategic fusion of layer signals for compressing transformer text classifiers."""

import importlib

_EXPORTS = {
    # name: module. Loaded on first use: a replay of the records needs neither torch nor models.
    "CompressionResult": "compression",
    "MEASURES": "signals",
    "SIGNALS": "signals",
    "STRATEGIES": "strategies",
    "SfusionError": "errors",
    "TRANSFER": "strategies",
    "analysis": None,
    "claims": None,
    "compress": "compression",
    "contrasts": None,
    "distill": "distillation",
    "extract_signals": "probe",
    "fine_tune": "training",
    "fit_fusion": "fusion",
    "fusion": None,
    "guidance": None,
    "load_model": "models",
    "load_profile": "profiles",
    "load_report": "results",
    "load_results": "results",
    "load_task": "tasks",
    "open_results": "analysis",
    "plots": None,
    "remove_layers": "models",
    "scrutiny": None,
    "save_table": "artefacts",
    "sweep": "analysis",
    "training_table": "fusion",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_EXPORTS[name] or name}")
    value = getattr(module, name) if _EXPORTS[name] else module
    globals()[name] = value
    return value


def __dir__():
    return __all__
