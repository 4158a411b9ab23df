"""The study: every stage of the paper, on every task and seed of a profile."""

import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sfusion import SfusionError
from sfusion.models.loading import layer_stack, load_tokenizer, remove_layers, size
from sfusion.pruning.distillation import ARMS, compute_distillation, distillation_spec
from sfusion.pruning.fusion import READS, fit_fusion, training_table
from sfusion.pruning.nodes import (
    Unit,
    fixed_threads,
    node_spec,
    path_name,
    remaining,
    unit_model,
    unit_task,
)
from sfusion.pruning.strategies import IN_DATASET, STRATEGIES, expand
from sfusion.pruning.walk import greedy, subsets, walk
from sfusion.records.parallel import dismiss, jobs, pool, progress
from sfusion.records.profiles import ROOT
from sfusion.records.results import STAGES, Results
from sfusion.records.store import RecordStore, content_key, versions
from sfusion.signals import MEASURES
from sfusion.training import default_device, resolve_precision

DISTILLED_STRATEGY = "random-forest"  # the path that claim C3 speaks of
TASK_COLUMNS = [
    *("task", "seed", "classes", "train", "validation", "test", "fingerprint", "source"),
    *("majority_accuracy", "tfidf_accuracy"),
]


def compute_task(unit, store):
    """Describe the samples of a unit and measure the floor, unless the record is there.

    Parameters
    ----------
    unit : Unit
    store : RecordStore

    Returns
    -------
    dict
        The columns of ``Results.tasks``.
    """
    spec = {**node_spec(unit, ()), "kind": "task"}
    record = store.get(spec)
    if record is not None:
        return record
    task, tokenizer = unit_task(unit), load_tokenizer(unit.profile.model)
    texts = {
        split: tokenizer.batch_decode(data.input_ids, skip_special_tokens=True)
        for split, data in (("train", task.train), ("test", task.test))
    }
    floor = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LogisticRegression(max_iter=1000)
    )
    with fixed_threads(unit.profile.threads):
        floor.fit(texts["train"], task.train.labels.numpy())
        accuracy = floor.score(texts["test"], task.test.labels.numpy())
    majority = task.train.labels.mode().values
    record = {
        "classes": len(task.label_names),
        "train": len(task.train),
        "validation": len(task.validation),
        "test": len(task.test),
        "fingerprint": task.fingerprint,
        "source": task.source,
        "majority_accuracy": float((task.test.labels == majority).double().mean()),
        "tfidf_accuracy": float(accuracy),
    }
    store.put(spec, record)
    return record


def machine(profile):
    """Describe what the numbers depend on besides the inputs.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    dict
        Processor (name, instruction sets, caches), device, precision, threads, versions: equal
        descriptions promise equal numbers.
    """
    able = torch.cpu.get_capabilities()
    device = default_device()
    return {
        "processor": {
            "architecture": platform.machine(),
            "name": able.get("cpu_name", ""),
            "caches": [able.get("l1d_cache_size", 0), able.get("l2_cache_size", 0)],
            "instructions": sorted(name for name, has in able.items() if has is True),
        },
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "precision": resolve_precision(profile.precision, device),
        "threads": profile.threads,
        "versions": {**versions(), "datasets": version("datasets")},
    }


def _revision():
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _sizes(unit, depth):
    base, tokens = unit_model(unit), unit.profile.max_length
    return {
        left: size(remove_layers(base, range(left, depth)), tokens) for left in range(1, depth + 1)
    }


def _frames(units, records):
    """Turn ``(unit, path) -> record`` into the frames of nodes and of signals."""
    depth = len(layer_stack(unit_model(units[0])))
    cost = {}
    for unit in units:
        if unit.task not in cost:  # the head differs from task to task
            cost[unit.task] = _sizes(unit, depth)
    nodes, signals = [], []
    for (unit, path), record in records.items():
        key = {"task": unit.task, "seed": unit.seed, "path": path_name(path)}
        left = remaining(path, depth)
        seconds = record["seconds"]
        nodes.append(
            {
                **key,
                "removed": len(path),
                "validation_accuracy": record["validation_accuracy"],
                "test_accuracy": record["test_accuracy"],
                "training": seconds["training"],
                "evaluation": seconds["evaluation"],
                "extraction": seconds["signals"],
                **cost[unit.task][len(left)],
            }
        )
        signals += [
            {**key, "layer": layer, **{slug: record["signals"][slug][i] for slug in MEASURES}}
            for i, layer in enumerate(left)
        ]
    return pd.DataFrame(nodes), pd.DataFrame(signals)


def _fit_fusions(units, labels, nodes, signals):
    """Fit each fusion strategy for each unit: on its own tree, or on all other tasks' trees.

    Of the others, those of the same seed: so seeds are replicates of the fusion too, and no
    unit's fusion depends on which other seeds are run.
    """
    wanted = {STRATEGIES[label].reads for label in labels}
    tables = {reads: training_table(nodes, signals, reads) for reads in READS if reads in wanted}
    fusions, seconds = {}, dict.fromkeys(labels, 0.0)
    for unit in units:
        for label in labels:
            strategy = STRATEGIES[label]
            table = tables[strategy.reads]
            table = table[table["seed"] == unit.seed]
            own = table["task"] == unit.task
            rows = own if strategy.learned_from == IN_DATASET else ~own
            start = time.process_time()
            fusions[unit, label] = fit_fusion(table[rows], strategy.model)
            seconds[label] += (time.process_time() - start) / len(units)
    return fusions, {label: round(spent, 4) for label, spent in seconds.items()}


def _distillation_calls(units, visits):
    """List (unit, path, arm) of everything the distillation stage trains."""
    calls = []
    chosen = visits[visits["strategy"] == DISTILLED_STRATEGY]
    for unit in units:
        mine = chosen[(chosen["task"] == unit.task) & (chosen["seed"] == unit.seed)]
        wanted = mine[mine["removed"].isin(unit.profile.distillation.removals)]
        for arm, (who, _) in ARMS.items():
            paths = (
                [()]
                if who == "original"
                else [tuple(map(int, path.split("-"))) for path in wanted["path"]]
            )
            calls += [(unit, path, arm) for path in paths]
    return calls


def compute(profile, folder, *, upto=STAGES[-1], strategies=None, quiet=None):
    """Run the stages of a study, as far as their records are not there yet.

    Parameters
    ----------
    profile : Profile
    folder : Path
        Records go to ``<folder>/store``; the same call goes on where a killed one stopped.
    upto : str
        Last stage, of ``STAGES``.
    strategies : iterable of str, optional
        Names in ``STRATEGIES``; by default all. Fusions learn from the walks of the others.
    quiet : bool, optional
        See :func:`sfusion.records.parallel.progress`.

    Returns
    -------
    Results

    Raises
    ------
    SfusionError
        For an unknown strategy or task, distillation after more removals than the model has
        layers for, an unwritable folder, or data that cannot be had.
    """
    start = time.monotonic()
    store = RecordStore(Path(folder) / "store")
    resumed = (store.folder / "records").exists()
    units = [Unit(profile, task, seed) for task in profile.tasks for seed in profile.seeds]
    names = _known_strategies(STRATEGIES if strategies is None else strategies, profile)
    _check_removals(profile, len(layer_stack(unit_model(units[0]))))
    plain = [name for name in names if STRATEGIES[name].first_walk]
    fused = [name for name in names if STRATEGIES[name].learned_from is not None]
    labels = [] if upto == "signals" else expand(plain, profile.random_orders)
    records, visits = walk(units, labels, store, title="single strategies", quiet=quiet)
    fit_seconds = {}
    if upto in ("fusion", "distillation") and fused:
        if not labels:
            raise SfusionError("fusions learn from the walks of other strategies: name some too")
        fusions, fit_seconds = _fit_fusions(units, fused, *_frames(units, records))
        more, choices = walk(
            units, fused, store, fusions=fusions, title="fusion strategies", quiet=quiet
        )
        records, visits = {**records, **more}, pd.concat([visits, choices], ignore_index=True)
    # The fusions learn from the first walk alone: the searches would show them the answer.
    if upto != "signals" and "greedy-oracle" in names:
        more, choices = greedy(units, store, quiet=quiet)
        records, visits = {**records, **more}, pd.concat([visits, choices], ignore_index=True)
    searched = [unit for unit in units if unit.task in profile.subsets]
    if upto != "signals" and searched:
        records |= subsets(searched, store, quiet=quiet)
    nodes, signals = _frames(units, records)
    dismiss()  # a distillation needs more memory, which those who walked have not given back
    with pool(profile.threads) as run:
        tasks = list(run(compute_task, [(unit, store) for unit in units]))
        calls = _distillation_calls(units, visits) if upto == "distillation" else []
        with progress(len(calls), "distillation", quiet) as bar:
            taught = []
            keyed = [(*call, store, content_key(distillation_spec(*call))) for call in calls]
            for record in run(compute_distillation, keyed):
                taught.append(record)
                bar.update()
    dismiss()
    columns = [
        "task",
        "seed",
        "path",
        "removed",
        "condition",
        "validation_accuracy",
        "test_accuracy",
    ]
    distillation = pd.DataFrame(
        [
            {
                "task": u.task,
                "seed": u.seed,
                "path": path_name(p),
                "removed": len(p),
                "condition": a,
                **r,
            }
            for (u, p, a), r in zip(calls, taught, strict=True)
        ],
        columns=columns,
    )
    return Results(
        tasks=pd.DataFrame(
            [{"task": u.task, "seed": u.seed, **t} for u, t in zip(units, tasks, strict=True)],
            columns=TASK_COLUMNS,
        ),
        nodes=nodes,
        signals=signals,
        trajectories=visits,
        distillation=distillation,
        manifest={
            "profile": profile.model_dump(mode="json"),
            "machine": machine(profile),
            "revision": _revision(),
            "jobs": jobs(profile.threads),
            "fit_seconds": fit_seconds,  # of the processor, a unit
            # Of the whole study: a part's would pass for it.
            "wall_seconds": None if resumed else round(time.monotonic() - start, 1),
        },
    )


def _check_removals(profile, depth):
    removals = profile.distillation.removals
    if any(removed >= depth for removed in removals):
        raise SfusionError(
            f"profile {profile.name!r}: distillation.removals = {list(removals)}: the model has "
            f"{depth} layers, give numbers below that"
        )


def _known_strategies(names, profile):
    names = list(names)
    for name in names:
        if name not in STRATEGIES:
            raise SfusionError(
                f"strategy {name!r} is not known: use one of {', '.join(STRATEGIES)}"
            )
    if len(profile.tasks) < 2:
        # There is no other dataset to learn from.
        names = [n for n in names if STRATEGIES[n].learned_from in (None, IN_DATASET)]
    return names
