"""Where a training step's and a node's time goes.

usage: python benchmarks/step.py
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from experiments import QUICK, make_experiment, median_seconds, open_unfiled
from joblib import Parallel, delayed
from machine import Operators, best_product_rate, memory_rate
from torch.utils.flop_counter import FlopCounterMode

from sfusion.experiments.store import RecordStore, content_key
from sfusion.experiments.trees import Experiment, open_tree, visit_node
from sfusion.models.architectures import embedding_parameters
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.searches import Request
from sfusion.signals.extraction import extract_signals
from sfusion.training.loop import fine_tune
from sfusion.training.precision import cast, fixed_threads

Found = dict[str, Any]


def recovery(experiment: Experiment) -> Callable[[], float]:
    """Return a function that fine-tunes a copy of the model as after a removal."""
    tree = open_unfiled(experiment)
    recipe = experiment.profile.recovery
    precision = tree.base["precision"]

    def train() -> float:
        model = copy.deepcopy(tree.source())
        return fine_tune(model, tree.task.train, recipe, seed=0, precision=precision)

    return train


def step(quick: bool = False) -> Found:
    """Compare a fine-tuning step with the machine, and the signals with a pass."""
    experiment = make_experiment(**(QUICK if quick else {}))
    threads = experiment.profile.threads
    samples = experiment.profile.recovery.samples
    precision = open_unfiled(experiment).base["precision"]
    train = recovery(experiment)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    with fixed_threads(threads):
        signals = signals_over_pass(experiment)
        median = median_seconds(train, 3)
        with Operators() as operators:
            train()
        with FlopCounterMode(display=False) as counter:
            train()
        products = median_seconds(operators.run)
        best = best_product_rate(dtype)
        stream = memory_rate()
    flops = counter.get_total_flops()
    return {
        "precision": precision,
        "threads": threads,
        "matrix_gflops_per_second": round(flops / products / 1e9, 1),
        "best_product_gflops_per_second": round(best / 1e9, 1),
        "memory_gb_per_second": round(stream / 1e9, 1),
        "training_samples_per_second": round(samples / median, 1),
        "share_of_matrix_rate": round(products / median, 3),
        "share_of_best_product_rate": round(flops / median / best, 3),
        "share_of_memory_rate": round(operators.bytes / median / stream, 3),
        "signals_over_forward_backward": signals,
    }


def signals_over_pass(experiment: Experiment) -> float:
    """Compare all signals with one forward and backward pass over the probe set."""
    tree = open_unfiled(experiment)
    model = tree.source()
    precision = tree.base["precision"]
    probe = tree.task.train.take(tree.probe)
    passes = cast(copy.deepcopy(model), precision)
    for parameter in embedding_parameters(passes):
        parameter.requires_grad_(False)

    def forward_backward() -> None:
        batches = torch.arange(len(probe)).split(experiment.profile.recovery.batch_size)
        for batch in map(probe.take, batches):
            logits = passes(batch.input_ids, batch.attention_mask).logits.float()
            torch.nn.functional.cross_entropy(logits, batch.labels).backward()
            passes.zero_grad()

    base = median_seconds(forward_backward)
    signals = median_seconds(lambda: extract_signals(model, probe, precision=precision))
    return round(signals / base, 2)


def node(quick: bool = False) -> Found:
    """Share the time of a node: layer 2 removed, the parent's weights cached."""
    experiment = make_experiment(
        **{"original": {"samples": 64}, **(QUICK if quick else {})}
    )
    with tempfile.TemporaryDirectory() as folder:
        store = RecordStore(folder)
        key = content_key(open_tree(experiment, store).base)
        visit_node(experiment, Request(ORIGINAL, signals=True), store, key)
        asked = Request(PruningPath.of(2), signals=True)
        start = time.process_time()
        result = visit_node(experiment, asked, store, key)
        total = time.process_time() - start
    shares = {
        "fine-tuning, with reading and writing weights": result.training / total,
        "evaluation": result.evaluation / total,
        "signals": result.extraction / total,
    }
    shares["the rest"] = 1 - sum(shares.values())
    rounded = {part: round(share, 3) for part, share in shares.items()}
    return {"seconds": round(total, 2), "shares_of_time": rounded}


def threads(quick: bool = False) -> Found:
    """Compare two runs of one thread side by side with one run of two threads."""
    apart = Parallel(n_jobs=2)(delayed(_samples_per_second)(quick, 1) for _ in range(2))
    together = _samples_per_second(quick, 2)
    return {
        "two_runs_of_one_thread": round(sum(apart), 1),
        "one_run_of_two_threads": round(together, 1),
        "ratio": round(sum(apart) / together, 2),
    }


def _samples_per_second(quick: bool, threads: int) -> float:
    experiment = make_experiment(**(QUICK if quick else {}))
    with fixed_threads(threads):
        median = median_seconds(recovery(experiment), 3)
    return experiment.profile.recovery.samples / median


if __name__ == "__main__":
    for measure in (step, node, threads):
        print(json.dumps(measure(), indent=1))
