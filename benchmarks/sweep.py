"""The whole single-strategy sweep against the plain script: wall-clock, accuracy, growth.

Both do the same work with the same samples, steps and strategies, each at its best use of the
cores: the plain script in one process with all threads, the package with one thread a run.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import plain_trainer
import torch
from joblib import Parallel, delayed
from machine import setting
from plain_signals import PASSES
from scipy.stats import t as student
from sfusion.pruning.nodes import Unit, unit_model, unit_task
from sfusion.pruning.walk import walk
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertModel

from sfusion.models.layers import remove_layers
from sfusion.models.loading import load_model, locate_model
from sfusion.pruning.strategies import path_name
from sfusion.records.parallel import jobs
from sfusion.records.store import RecordStore
from sfusion.signals import SIGNALS
from sfusion.signals.extraction import extract_signals
from sfusion.study import compute
from sfusion.training import accuracies, fine_tune, fixed_threads

LABELS = [*SIGNALS, "random-0"]
# Samples: a third of the embedded profile's, so that the plain script ends in minutes.
SIZES = {"train": 500, "validation": 100, "test": 140, "probe": 48}
SAMPLES = {"original": 1500, "recovery": 128}
SEEDS = (0, 1, 2, 3)  # the first is the plain script's, and the one that is timed
QUICK_SIZES = {"train": 64, "validation": 16, "test": 16, "probe": 16}
QUICK_SAMPLES = {"original": 64, "recovery": 32}


def unit_of(quick, seed=0, model="minilm-l6"):
    """Give the unit that both sides work on."""
    unit, precision = setting(model=str(model))
    profile, samples = unit.profile, QUICK_SAMPLES if quick else SAMPLES
    recipes = {
        stage: getattr(profile, stage).model_copy(update={"samples": count}) for stage, count in samples.items()
    }
    sizes = profile.sizes.model_copy(update=QUICK_SIZES if quick else SIZES)
    profile = profile.model_copy(update={**recipes, "sizes": sizes, "random_orders": 1, "seeds": (seed,)})
    return Unit(profile, unit.task, seed), precision


def run_plain(unit, labels):
    """Run the plain script; return its wall-clock and its visits."""
    profile, task = unit.profile, unit_task(unit)
    probe = task.train.take(range(profile.sizes.probe))
    recipes = profile.original, profile.recovery
    start = time.perf_counter()
    visits = plain_trainer.sweep(locate_model(profile.model), task, labels, *recipes, probe, unit.seed)
    return time.perf_counter() - start, visits


def run_package(unit, labels):
    """Run the walk from an empty store; return its wall-clock, records and visits."""
    unit_task(unit)  # the plain script gets its samples ready, too
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        records, visits = walk([unit], labels, RecordStore(Path(folder)), quiet=True)
        return time.perf_counter() - start, {p: r for (_, p), r in records.items()}, visits


def seconds_of(visit):
    """Split a plain visit's time into training, evaluation and signals."""
    spent = visit["seconds"]
    signals = sum(spent.get(name, 0.0) for name in PASSES)
    return np.array([spent.get("training", 0.0), spent.get("evaluation", 0.0), signals])


def mean_accuracy(accuracy_of, strategies):
    """Average test accuracy over the strategies, by number of removed layers."""
    return {
        removed: round(float(np.mean([accuracy_of[name, removed] for name in strategies])), 4)
        for removed in sorted({removed for _, removed in accuracy_of})
    }


def accuracy(visits, records):
    table = visits.set_index(["strategy", "removed"])["path"]
    paths = {path_name(path): record["test_accuracy"] for path, record in records.items()}
    return {key: paths[path] for key, path in table.items()}


def _plain_units(quick, threads):
    """Time one recovery, one evaluation and one set of signals of the full model, both ways."""
    unit, precision = unit_of(quick)
    profile, task = unit.profile, unit_task(unit)
    directory, data = locate_model(profile.model), task.train
    probe = data.take(range(profile.sizes.probe))
    tokenizer = AutoTokenizer.from_pretrained(directory)
    plain = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=len(task.label_names))
    ours = remove_layers(unit_model(unit), ())
    trainer = plain_trainer.make_trainer(plain, tokenizer, plain_trainer.rows(data), profile.recovery, 0)
    splits = [plain_trainer.rows(task.validation), plain_trainer.rows(task.test)]
    calls = {
        "plain": [
            trainer.train,
            lambda: [trainer.predict(samples) for samples in splits],
            lambda: [function(plain, probe) for function in PASSES.values()],
        ],
        "package": [
            lambda: fine_tune(ours, data, profile.recovery, seed=0, precision=precision),
            lambda: accuracies(ours, task, precision),
            lambda: extract_signals(ours, probe, precision=precision),
        ],
    }
    found = {}
    with fixed_threads(threads):
        for side, functions in calls.items():
            found[side] = []
            for function in functions:
                start = time.perf_counter()
                function()
                found[side].append(time.perf_counter() - start)
    return found


def unit_costs(quick):
    """Time both sides' units in one process of all cores, and in a process a core."""
    cores = jobs(1)
    wide = _plain_units(quick, cores)
    narrow = Parallel(n_jobs=cores)(delayed(_plain_units)(quick, 1) for _ in range(cores))
    means = {side: np.mean([n[side] for n in narrow], 0) / cores for side in wide}
    bf16 = _plain_bf16(quick, cores)
    return {
        "cores": cores,
        "parts": ["recovery", "evaluation", "signals"],
        "one_process": {side: [round(s, 3) for s in values] for side, values in wide.items()},
        "a_process_a_core": {side: [round(s, 3) for s in v] for side, v in means.items()},
        "plain_recovery_with_bf16": round(bf16, 3),
    }


def _plain_bf16(quick, threads):
    """Time the plain recovery with ``bf16=True``."""
    unit, _ = unit_of(quick)
    task, directory = unit_task(unit), locate_model(unit.profile.model)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory, num_labels=len(task.label_names))
    trainer = plain_trainer.make_trainer(
        model, tokenizer, plain_trainer.rows(task.train), unit.profile.recovery, 0, bf16=True
    )
    with fixed_threads(threads):
        start = time.perf_counter()
        trainer.train()
        return time.perf_counter() - start


def savings(visits, costs):
    """Work out what each means saves alone, from the plain run's times and the units' costs.

    Nothing is run again: a means is applied to the plain run's own times, the others left out.
    """
    total = sum(map(seconds_of, visits))
    first = {}
    for visit in visits:  # the root's signals stand in the first strategy's visit of it
        seen = first.setdefault(visit["path"], np.zeros(3))
        np.maximum(seen, seconds_of(visit), out=seen)
    plain, package = (np.array(costs["one_process"][side]) for side in ("plain", "package"))
    apart = np.array(costs["a_process_a_core"]["plain"])
    faster = total * package / plain
    alone = {
        "shared prefixes": sum(first.values()).sum(),
        "signals in one pass": total[0] + total[1] + faster[2],
        "step and evaluation": faster[0] + faster[1] + total[2],
        "parallel runs": (total * apart / plain).sum(),
    }
    return {
        "visits": len(visits),
        "distinct_nodes": len(first),
        "seconds": dict(zip(("training", "evaluation", "signals"), total.round(1), strict=True)),
        "times_faster_alone": {name: round(total.sum() / s, 2) for name, s in alone.items()},
    }


def seed_noise(values):
    """Give half the width of the 95% prediction interval of one more run like these."""
    count = len(values)
    spread = float(np.std(values, ddof=1)) * np.sqrt(1 + 1 / count)
    return float(student.ppf(0.975, count - 1)) * spread


def compare(quick=False):
    """Run both sides in full and set them side by side; the package with other seeds, too."""
    seeds = SEEDS[: 2 if quick else None]
    unit, _ = unit_of(quick)
    torch.set_num_threads(jobs(1))
    plain_seconds, plain = run_plain(unit, LABELS)
    runs = [run_package(unit_of(quick, seed)[0], LABELS) for seed in seeds]
    # A user who wants no fusion would leave out the signals that a strategy has no use for.
    unused = sum(
        seconds
        for visit in plain
        for name, seconds in visit["seconds"].items()
        if name in PASSES and name != visit["strategy"]
    )
    by_plain = {(v["strategy"], len(v["path"])): v["test_accuracy"] for v in plain[1:]}
    curves = {"plain": mean_accuracy(by_plain, LABELS)} | {
        f"package, seed {seed}": mean_accuracy(accuracy(visits, records), LABELS)
        for seed, (_, records, visits) in zip(seeds, runs, strict=True)
    }
    means = [float(np.mean(list(curve.values()))) for curve in curves.values()]
    less, noise = means[0] - float(np.mean(means[1:])), seed_noise(means[1:])
    costs = unit_costs(quick)
    return {
        "strategies": len(LABELS),
        "sizes": {**unit.profile.sizes.model_dump(), **(QUICK_SAMPLES if quick else SAMPLES)},
        "plain_seconds": round(plain_seconds, 1),
        "package_seconds": [round(seconds, 1) for seconds, *_ in runs],
        "times_faster": round(plain_seconds / runs[0][0], 2),
        "times_faster_than_with_own_signals_alone": round((plain_seconds - unused) / runs[0][0], 2),
        "test_accuracy_by_removed_layers": curves,
        "accuracy_plain_less_package": round(less, 4),
        "accuracy_seed_noise": round(noise, 4),
        "accuracy_lost": round(max(0.0, less - noise), 4),
        "unit_costs": costs,
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


def growth(quick=False):
    """Measure how cost grows with layers and with strategies.

    The package walks in full, with few samples. The plain script walks two strategies; the time
    of the others is extrapolated, for all their paths are of one length.
    """
    found = {"layers": {}, "strategies": {}}
    torch.set_num_threads(jobs(1))
    with tempfile.TemporaryDirectory() as folder:
        for depth in (3, 6) if quick else (3, 6, 12):
            unit, _ = unit_of(True, model=_model_of(depth, folder))
            one, _ = run_plain(unit, LABELS[:1])
            two, _ = run_plain(unit, LABELS[:2])
            seconds, records, _ = run_package(unit, LABELS)
            plain = two + (len(LABELS) - 2) * (two - one)
            found["layers"][depth] = {
                "plain_seconds_extrapolated": round(plain, 1),
                "package_seconds": round(seconds, 1),
                "visits": 1 + len(LABELS) * (depth - 1),
                "nodes": len(records),
                "times_faster": round(plain / seconds, 2),
            }
        unit, _ = unit_of(True)
        fused = [*SIGNALS, "random", "linear-regression", "random-forest"]
        compute(unit.profile, Path(folder), upto="fusion", strategies=fused, quiet=True)
        results = compute(unit.profile, Path(folder), upto="fusion", strategies=fused, quiet=True)
    nodes = results.nodes.set_index("path")[["training", "evaluation", "extraction"]].sum(axis=1)
    names = list(dict.fromkeys(results.trajectories["strategy"]))
    for count in (1, 5, 13, 15):
        chosen = results.trajectories[results.trajectories["strategy"].isin(names[:count])]
        paths = chosen["path"].unique()
        found["strategies"][count] = {
            "nodes": len(paths),
            "visits": len(chosen),
            "core_seconds": round(float(nodes[paths].sum()), 1),
        }
    return found
