"""The whole single-strategy sweep against the plain script: wall-clock, accuracy, growth.

Both do the same work with the same samples, steps and strategies, each at its best use
of the cores: the plain script in one process with all threads, the package with one
thread per run.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import plain_trainer
import torch
from joblib import Parallel, delayed
from machine import make_experiment, open_unfiled, seconds
from plain_signals import PASSES
from scipy.stats import t as student
from transformers import AutoTokenizer, BertConfig, BertModel

from sfusion.data.pretrained import locate_model
from sfusion.experiments.forest import Forest
from sfusion.experiments.parallel import jobs
from sfusion.experiments.pruning_study import PruningStudy
from sfusion.experiments.store import RecordStore
from sfusion.experiments.trees import open_tree
from sfusion.models.layers import remove_layers
from sfusion.models.source import load_model
from sfusion.signals import SIGNALS
from sfusion.signals.extraction import extract_signals
from sfusion.training.evaluation import classified
from sfusion.training.loop import fine_tune
from sfusion.training.precision import fixed_threads

LABELS = [*SIGNALS, "random-0"]
# Samples: a third of the embedded profile's, so that the plain script ends in minutes.
FULL = {
    "sizes": {"train": 500, "validation": 100, "test": 140, "probe": 48},
    "samples": {"original": 1500, "recovery": 128},
}
# The probe holds some class twice, or the plain script's mutual information has no text
# to go by.
QUICK = {
    "sizes": {"train": 64, "validation": 16, "test": 16, "probe": 32},
    "samples": {"original": 64, "recovery": 32},
}
SEEDS = (0, 1, 2, 3)  # the first is the plain script's, and the one that is timed
STAGES = ("training", "evaluation", "signals")


def experiment_of(quick, seed=0, model="minilm-l6"):
    """Return the experiment that both sides work on."""
    return make_experiment(
        **QUICK if quick else FULL, seed=seed, model=str(model), random_orders=1
    )


def run_plain(experiment, labels):
    """Run the plain script; return its wall-clock and its nodes."""
    profile, tree = experiment.profile, open_unfiled(experiment)
    options = (
        tree.task,
        labels,
        profile.original,
        profile.recovery,
        tree.task.train.take(tree.probe),
    )
    start = time.perf_counter()
    nodes = plain_trainer.sweep(locate_model(profile.model), *options, experiment.seed)
    return time.perf_counter() - start, nodes


def run_package(experiment, labels):
    """Run the search from an empty store; return its wall-clock, test accuracies and number of nodes."""
    with tempfile.TemporaryDirectory() as folder:
        store = RecordStore(folder)
        open_tree(experiment, store)  # the plain script gets its samples ready, too
        start = time.perf_counter()
        forest = Forest([experiment], store, quiet=True)
        forest.follow(labels, teach=True)  # all signals everywhere, as the plain script
        spent = time.perf_counter() - start
    accuracies = {
        (row.label, len(row.path)): forest.results[experiment, row.path].test.accuracy
        for row in forest.trajectories
    }
    return spent, accuracies, len(forest.results)


def seconds_of(node):
    """Split the time of a plain script's node into training, evaluation and signals."""
    spent = node["seconds"]
    signals = sum(spent.get(name, 0.0) for name in PASSES)
    return np.array([spent.get("training", 0.0), spent.get("evaluation", 0.0), signals])


def mean_accuracy(accuracy_of):
    """Average test accuracy over the strategies, by number of removed layers."""
    return pd.Series(accuracy_of).groupby(level=1).mean().round(4).to_dict()


def _plain_trainer(experiment, **changes):
    """Set a Trainer up for one recovery of the full model."""
    profile, task = experiment.profile, open_unfiled(experiment).task
    directory, train = locate_model(profile.model), plain_trainer.rows(task.train)
    model, tokenizer = (
        plain_trainer.load(directory, task),
        AutoTokenizer.from_pretrained(directory),
    )
    return plain_trainer.make_trainer(
        model, tokenizer, train, profile.recovery, 0, **changes
    )


def _stage_seconds(quick, threads):
    """Time one recovery, one evaluation and one set of signals of the full model, both ways."""
    experiment = experiment_of(quick)
    tree, trainer = open_unfiled(experiment), _plain_trainer(experiment)
    task, precision, probe = (
        tree.task,
        tree.base["precision"],
        tree.task.train.take(tree.probe),
    )
    ours, looked_at = remove_layers(tree.source(), ()), (task.validation, task.test)
    splits = [plain_trainer.rows(data) for data in looked_at]
    calls = {
        "plain": [
            trainer.train,
            lambda: [trainer.predict(samples) for samples in splits],
            lambda: [function(trainer.model, probe) for function in PASSES.values()],
        ],
        "package": [
            lambda: fine_tune(
                ours,
                task.train,
                experiment.profile.recovery,
                seed=0,
                precision=precision,
            ),
            lambda: [classified(ours, data, precision) for data in looked_at],
            lambda: extract_signals(ours, probe, precision=precision),
        ],
    }
    with fixed_threads(threads):
        return {
            side: [seconds(function) for function in functions]
            for side, functions in calls.items()
        }


def stage_costs(quick):
    """Time the stages of both sides in one process of all cores, and in one process per core."""
    cores = jobs(1)
    wide = _stage_seconds(quick, cores)
    narrow = Parallel(n_jobs=cores)(
        delayed(_stage_seconds)(quick, 1) for _ in range(cores)
    )
    means = {side: np.mean([n[side] for n in narrow], 0) / cores for side in wide}
    with fixed_threads(cores):
        bf16 = seconds(_plain_trainer(experiment_of(quick), bf16=True).train)
    return {
        "cores": cores,
        "stages": ("recovery", *STAGES[1:]),
        "one_process": {
            side: [round(s, 3) for s in values] for side, values in wide.items()
        },
        "one_process_per_core": {
            side: [round(s, 3) for s in v] for side, v in means.items()
        },
        "plain_recovery_with_bf16": round(bf16, 3),
    }


def savings(nodes, costs):
    """Work out what each change saves alone, from the times of the plain run and of the stages.

    Nothing is run again: a change is applied to the plain run's own times, the others
    left out.
    """
    total = sum(map(seconds_of, nodes))
    first = {}
    for node in nodes:  # the original's signals stand in the first strategy's row of it
        seen = first.setdefault(node["path"], np.zeros(3))
        np.maximum(seen, seconds_of(node), out=seen)
    plain, package = (
        np.array(costs["one_process"][side]) for side in ("plain", "package")
    )
    per_core = np.array(costs["one_process_per_core"]["plain"])
    faster = total * package / plain
    alone = {
        "shared prefixes": sum(first.values()).sum(),
        "signals in one pass": total[0] + total[1] + faster[2],
        "step and evaluation": faster[0] + faster[1] + total[2],
        "parallel runs": (total * per_core / plain).sum(),
    }
    return {
        "nodes": len(nodes),
        "distinct_nodes": len(first),
        "seconds": dict(zip(STAGES, total.round(1), strict=True)),
        "times_faster_alone": {
            name: round(total.sum() / s, 2) for name, s in alone.items()
        },
    }


def seed_noise(values):
    """Return half the width of the 95% prediction interval of one more run like these."""
    count = len(values)
    return float(
        student.ppf(0.975, count - 1) * np.std(values, ddof=1) * np.sqrt(1 + 1 / count)
    )


def compare(quick=False):
    """Run both sides in full and set them side by side; the package with other seeds, too."""
    seeds = SEEDS[: 2 if quick else None]
    experiment = experiment_of(quick)
    torch.set_num_threads(jobs(1))
    plain_seconds, plain = run_plain(experiment, LABELS)
    runs = [run_package(experiment_of(quick, seed), LABELS) for seed in seeds]
    # A user who wants no fusion would leave out the signals that a strategy has no use
    # for.
    unused = sum(
        node["seconds"].get(name, 0.0)
        for node in plain
        for name in PASSES
        if name != node["strategy"]
    )
    by_plain = {
        (node["strategy"], len(node["path"])): node["test_accuracy"]
        for node in plain[1:]
    }
    curves = {"plain": mean_accuracy(by_plain)} | {
        f"package, seed {seed}": mean_accuracy(scores)
        for seed, (_, scores, _) in zip(seeds, runs, strict=True)
    }
    means = [float(np.mean(list(curve.values()))) for curve in curves.values()]
    less, noise = means[0] - float(np.mean(means[1:])), seed_noise(means[1:])
    costs = stage_costs(quick)
    return {
        "strategies": len(LABELS),
        **(QUICK if quick else FULL),
        "plain_seconds": round(plain_seconds, 1),
        "package_seconds": [round(spent, 1) for spent, *_ in runs],
        "times_faster": round(plain_seconds / runs[0][0], 2),
        "times_faster_than_with_own_signals_alone": round(
            (plain_seconds - unused) / runs[0][0], 2
        ),
        "test_accuracy_by_removed_layers": curves,
        "accuracy_plain_less_package": round(less, 4),
        "accuracy_seed_noise": round(noise, 4),
        "accuracy_lost": round(max(0.0, less - noise), 4),
        "stage_costs": costs,
        "savings": savings(plain, costs),
    }


def _model_of(depth, folder):
    """Save a model of another depth: the first layers of the embedded one, or random weights."""
    directory = locate_model("minilm-l6")
    target = Path(folder) / f"layers-{depth}"
    if depth <= 6:
        model = load_model("minilm-l6", num_labels=2)
        remove_layers(model, range(depth, 6)).base_model.save_pretrained(target)
    else:
        config = BertConfig.from_pretrained(directory, num_hidden_layers=depth)
        BertModel(config).save_pretrained(target)
    AutoTokenizer.from_pretrained(directory).save_pretrained(target)
    return target


def growth_with_layers(depth, folder):
    """Run both sides on a model of some depth, with few samples.

    The package follows all strategies, the plain script two; the time of the others is
    extrapolated, for all their paths are of one length.
    """
    experiment = experiment_of(True, model=_model_of(depth, folder))
    one, _ = run_plain(experiment, LABELS[:1])
    two, _ = run_plain(experiment, LABELS[:2])
    package, _, distinct = run_package(experiment, LABELS)
    plain = two + (len(LABELS) - 2) * (two - one)
    return {
        "plain_seconds_extrapolated": round(plain, 1),
        "package_seconds": round(package, 1),
        "nodes": 1 + len(LABELS) * (depth - 1),
        "distinct_nodes": distinct,
        "times_faster": round(plain / package, 2),
    }


def growth_with_strategies(folder):
    """Run a study of 15 strategies with few samples; sum its nodes' times over the first of them."""
    profile = experiment_of(True).profile
    untaught = profile.distillation.model_copy(update={"removals": ()})
    profile = profile.model_copy(update={"distillation": untaught})
    fused = [*SIGNALS, "random", "linear-regression", "random-forest"]
    results = PruningStudy(profile, fused).run(folder, quiet=True)
    spent = results.nodes.set_index("path")[
        ["training", "evaluation", "extraction"]
    ].sum(axis=1)
    names, found = results.trajectories["strategy"].unique(), {}
    for count in (1, 5, 13, 15):
        paths = results.trajectories.loc[
            results.trajectories["strategy"].isin(names[:count]), "path"
        ]
        found[count] = {
            "nodes": len(paths),
            "distinct_nodes": paths.nunique(),
            "core_seconds": round(float(spent[paths.unique()].sum()), 1),
        }
    return found


def growth(quick=False):
    """Measure how cost grows with layers and with strategies."""
    torch.set_num_threads(jobs(1))
    with tempfile.TemporaryDirectory() as folder:
        layers = {
            depth: growth_with_layers(depth, folder)
            for depth in ((3, 6) if quick else (3, 6, 12))
        }
        return {"layers": layers, "strategies": growth_with_strategies(folder)}
