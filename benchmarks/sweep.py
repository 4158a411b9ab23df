"""The whole single-strategy sweep against the plain script: wall-clock and accuracy.

Both do the same work with the same samples, steps and strategies, each at its best use
of the cores: the plain script in one process with all threads, the package with one
thread per run.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from experiments import make_experiment, open_unfiled, seconds
from plain_signals import PASSES
from plain_trainer import PlainSweep, load, make_trainer, rows
from scipy.stats import t as student

from sfusion.data.pretrained import locate_model
from sfusion.experiments.forest import Forest
from sfusion.experiments.parallel import jobs
from sfusion.experiments.store import RecordStore
from sfusion.experiments.trees import Experiment, open_tree
from sfusion.models.layers import remove_layers
from sfusion.signals import SIGNALS
from sfusion.signals.extraction import extract_signals
from sfusion.training.evaluation import classified
from sfusion.training.loop import fine_tune
from sfusion.training.precision import fixed_threads

LABELS = [*SIGNALS, "random-0"]
# Samples: a third of the embedded profile's, so that the plain script ends in minutes.
FULL = {
    "sizes": {"train": 500, "validation": 100, "test": 140, "probe": 48},
    "original": {"samples": 1500},
    "recovery": {"samples": 128},
}
# The probe holds some class twice, or the plain script's mutual information has no text
# to go by.
QUICK = {
    "sizes": {"train": 64, "validation": 16, "test": 16, "probe": 32},
    "original": {"samples": 64},
    "recovery": {"samples": 32},
}
SEEDS = (0, 1, 2, 3)  # the first is the plain script's, and the one that is timed
STAGES = ["training", "evaluation", "signals"]


def experiment_of(quick: bool, seed: int = 0, model: str = "minilm-l6") -> Experiment:
    """Return the experiment that both sides work on."""
    extent = QUICK if quick else FULL
    return make_experiment(**extent, seed=seed, model=model, random_orders=1)


def run_plain(experiment: Experiment, labels: list[str]) -> tuple[float, pd.DataFrame]:
    """Run the plain script; return its wall-clock and its nodes."""
    profile = experiment.profile
    tree = open_unfiled(experiment)
    directory = locate_model(profile.model)
    probe = tree.task.train.take(tree.probe)
    start = time.perf_counter()
    plain = PlainSweep(directory, tree.task, profile.recovery, probe, experiment.seed)
    nodes = plain.run(profile.original, labels)
    spent = time.perf_counter() - start
    nodes["signals"] = nodes[list(PASSES)].sum(axis=1)
    return spent, nodes


@dataclass(frozen=True)
class PackageRun:
    """A run of the package's search.

    Attributes
    ----------
    seconds : float
        Wall-clock.
    visits : DataFrame
        A row per node of a path, as of the plain script: ``strategy``, ``removed``,
        ``path`` and ``test_accuracy``.
    """

    seconds: float
    visits: pd.DataFrame


def run_package(experiment: Experiment, labels: list[str]) -> PackageRun:
    """Run the search from an empty store, all signals at every node."""
    with tempfile.TemporaryDirectory() as folder:
        store = RecordStore(folder)
        open_tree(experiment, store)  # the plain script gets its samples ready, too
        forest = Forest([experiment], store, quiet=True)
        spent = seconds(lambda: forest.follow(labels, teach=True))
    visits = [
        {
            "strategy": row.label,
            "removed": len(row.path.removed),
            "path": row.path.name,
            "test_accuracy": forest.results[experiment, row.path].test.accuracy,
        }
        for row in forest.trajectories
    ]
    return PackageRun(spent, pd.DataFrame(visits))


def mean_accuracy(visits: pd.DataFrame) -> dict[int, float]:
    """Average test accuracy over the strategies, by number of removed layers."""
    return visits.groupby("removed")["test_accuracy"].mean().round(4).to_dict()


def stage_seconds(experiment: Experiment) -> pd.DataFrame:
    """Time the stages of a node of the full model, a column per side."""
    tree = open_unfiled(experiment)
    task = tree.task
    probe = task.train.take(tree.probe)
    splits = (task.validation, task.test)
    plain_splits = [rows(data) for data in splits]
    ours = remove_layers(tree.source(), ())
    options = {"precision": tree.base["precision"]}
    recipe = experiment.profile.recovery
    directory = locate_model(experiment.profile.model)
    trainer = make_trainer(
        load(directory, task), directory, rows(task.train), recipe, seed=0
    )
    plain = {
        "training": trainer.train,
        "evaluation": lambda: [trainer.predict(data) for data in plain_splits],
        "signals": lambda: [take(trainer.model, probe) for take in PASSES.values()],
    }
    package = {
        "training": lambda: fine_tune(ours, task.train, recipe, seed=0, **options),
        "evaluation": lambda: [classified(ours, data, **options) for data in splits],
        "signals": lambda: extract_signals(ours, probe, **options),
    }
    with fixed_threads(jobs(1)):
        return pd.DataFrame(
            {
                "plain": {stage: seconds(run) for stage, run in plain.items()},
                "package": {stage: seconds(run) for stage, run in package.items()},
            }
        )


def savings(nodes: pd.DataFrame, costs: pd.DataFrame) -> dict[str, Any]:
    """Work out what each change saves alone, from the plain run and the stages' costs.

    Nothing is run again: a change is applied to the plain run's own times, the others
    left out.
    """
    spent = nodes[STAGES].sum()
    faster = spent * costs["package"] / costs["plain"]
    # The original's signals stand in the first strategy's row of it.
    once = nodes.groupby("path")[STAGES].max()
    alone = {
        "shared prefixes": once.to_numpy().sum(),
        "signals in one pass": spent["training"]
        + spent["evaluation"]
        + faster["signals"],
        "step and evaluation": faster["training"]
        + faster["evaluation"]
        + spent["signals"],
    }
    total = spent.sum()
    return {
        "nodes": len(nodes),
        "distinct_nodes": len(once),
        "seconds": spent.round(1).to_dict(),
        "times_faster_alone": {what: round(total / s, 2) for what, s in alone.items()},
    }


def seed_noise(values: list[float]) -> float:
    """Return half the width of the 95% prediction interval of one more such run."""
    count = len(values)
    quantile = student.ppf(0.975, count - 1)
    return float(quantile * np.std(values, ddof=1) * np.sqrt(1 + 1 / count))


def compare(quick: bool = False) -> dict[str, Any]:
    """Run both sides in full; the package with other seeds, too."""
    seeds = SEEDS[:2] if quick else SEEDS
    torch.set_num_threads(jobs(1))
    plain_seconds, plain = run_plain(experiment_of(quick), LABELS)
    runs = [run_package(experiment_of(quick, seed), LABELS) for seed in seeds]
    curves = {"plain": mean_accuracy(plain[plain["strategy"] != "original"])}
    for seed, run in zip(seeds, runs, strict=True):
        curves[f"package, seed {seed}"] = mean_accuracy(run.visits)
    plain_mean, *package_means = pd.DataFrame(curves).mean()
    less = plain_mean - float(np.mean(package_means))
    noise = seed_noise(package_means)
    # A user who wants no fusion leaves out the signals that a strategy has no use for.
    own = sum(plain.loc[plain["strategy"] == name, name].sum() for name in PASSES)
    unused = plain["signals"].sum() - own
    costs = stage_seconds(experiment_of(quick))
    package_seconds = runs[0].seconds
    return {
        "strategies": len(LABELS),
        "plain_seconds": round(plain_seconds, 1),
        "package_seconds": [round(run.seconds, 1) for run in runs],
        "times_faster": round(plain_seconds / package_seconds, 2),
        "times_faster_than_with_own_signals_alone": round(
            (plain_seconds - unused) / package_seconds, 2
        ),
        "test_accuracy_by_removed_layers": curves,
        "accuracy_plain_less_package": round(less, 4),
        "accuracy_seed_noise": round(noise, 4),
        "accuracy_lost": round(max(0.0, less - noise), 4),
        "stage_seconds": costs.round(3).to_dict(),
        "savings": savings(plain, costs),
    }
