"""What the benchmarks time: an experiment of the embedded profile, and seconds."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

from sfusion.errors import SfusionError
from sfusion.experiments.profiles import Profile, load_profile
from sfusion.experiments.store import RecordStore
from sfusion.experiments.trees import Experiment, open_tree
from sfusion.pruning.tree import PruningTree
from sfusion.training.recipes import StrictModel

REPEATS = 5
QUICK: dict[str, Any] = {
    "sizes": {"train": 160, "probe": 32},
    "recovery": {"samples": 64},
}


def seconds(function: Callable[[], Any]) -> float:
    """Time one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def median_seconds(function: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Time several calls, after one that pays for what later ones reuse."""
    function()
    return statistics.median(seconds(function) for _ in range(repeats))


def changed(profile: Profile, **changes: Any) -> Profile:
    """Change a profile: a section by some of its values, all else as a whole."""
    updates = {}
    for name, value in changes.items():
        section = getattr(profile, name)
        if isinstance(section, StrictModel):
            value = section.model_copy(update=value)
        updates[name] = value
    return profile.model_copy(update=updates)


def evaluated_texts(profile: Profile) -> int:
    """Count the texts that every node of a study is evaluated on."""
    sizes = profile.sizes
    if sizes.validation is None or sizes.test is None:
        raise SfusionError(
            f"profile {profile.name!r} takes all texts: give sizes for an estimate"
        )
    return sizes.validation + sizes.test


def make_experiment(*, seed: int = 0, **changes: Any) -> Experiment:
    """Make an experiment of the embedded profile, with some values changed."""
    profile = changed(load_profile("embedded"), **changes)
    alone = changed(profile, tasks=("subject",), seeds=(seed,))
    return Experiment(alone, "subject", seed)


def open_unfiled(experiment: Experiment) -> PruningTree:
    """Open an experiment's tree for its samples and its model; nothing is filed."""
    return open_tree(experiment, RecordStore(tempfile.gettempdir()))
