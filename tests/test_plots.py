"""Figures on fabricated results of the real shape: few and many tasks, one seed and several."""

import zlib

import numpy as np
import pandas as pd
import pytest

from sfusion import plots
from sfusion.analysis import (
    curves,
    distilled,
    protocols,
    removal_orders,
    signal_correlations,
    standardised_signals,
)
from sfusion.claims import ratio_readings, scoreboard
from sfusion.results import Results
from sfusion.signals import SIGNALS
from sfusion.strategies import STRATEGIES, TRANSFER, expand

NINE = ("newsgroup", "dbpedia", "arxiv", "patent", "yahoo", "yelp", "agnews", "imdb", "amazon")
ARMS = ("distilled", "same-steps", "original-same-steps")


def _rng(*words):
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def _node(task, seed, order, layers):
    best = _rng(task).uniform(0.5, 0.95)
    cost = sum(0.02 + 0.1 * abs(layer / (layers - 1) - 0.5) for layer in order)
    noise = _rng(task, seed, order).normal(0, 0.012, 2)
    validation, test = np.clip(best - cost * 6 / layers + noise, 0.05, 1)
    encoder = 1_774_464 * (layers - len(order))
    return {
        "task": task,
        "seed": seed,
        "path": "-".join(map(str, order)),
        "removed": len(order),
        "validation_accuracy": validation,
        "test_accuracy": test,
        "training": 1.0,
        "evaluation": 0.4,
        "probing": 0.8,
        "layers": layers - len(order),
        "parameters": 12_067_972 + encoder,
        "encoder_parameters": encoder,
        "bytes": 4 * (12_067_972 + encoder) + 400,
        "flops": 114_868_736 * (layers - len(order)) + 295_680,
    }


def make_results(tasks, seeds, layers=6, draws=5):
    """Fabricate what a study finds, with every strategy and every depth."""
    nodes, signals, visits, arms = {}, [], [], []
    for task in tasks:
        for seed in range(seeds):
            for place in range(layers):
                at = {"task": task, "seed": seed, "path": "", "layer": place}
                drawn = _rng(task, seed, place).normal(place, 2, len(SIGNALS))
                signals.append(at | dict(zip(SIGNALS, drawn, strict=True)))
            for label in expand(STRATEGIES, draws):
                order = _rng(task, seed, label).permutation(layers)
                if label.startswith(("random-forest", "linear")):
                    order = np.argsort(abs(np.arange(layers) - layers / 2 + _rng(label).random()))
                for removed in range(layers):
                    node = _node(task, seed, tuple(order[:removed].tolist()), layers)
                    nodes[task, seed, node["path"]] = node
                    visit = {"strategy": label, "removed": removed, "path": node["path"]}
                    visits.append({"task": task, "seed": seed} | visit)
                    if label != "random-forest":
                        continue
                    for arm in ARMS:
                        if arm.startswith("original") == (removed == 0):
                            keys = ("task", "seed", "path", "removed", "validation_accuracy")
                            more = 0.02 * (arm == "distilled") + 0.01
                            more += _rng(arm, task, seed, removed).normal(0, 0.006)
                            taught = {"arm": arm, "test_accuracy": node["test_accuracy"] + more}
                            arms.append({key: node[key] for key in keys} | taught)
    pool = [
        {"task": task, "seed": seed, "classes": 4, "floor_accuracy": _rng(task).uniform(0.4, 0.6)}
        for task in tasks
        for seed in range(seeds)
    ]
    frames = map(pd.DataFrame, (pool, list(nodes.values()), signals, visits, arms))
    return Results(*frames, manifest={})


def _by_signal(task, **columns):
    rng = _rng("fusion", task)
    drawn = {name: spread * rng.normal(size=len(SIGNALS)) for name, spread in columns.items()}
    return pd.DataFrame({"signal": list(SIGNALS), **drawn})


def make_drawings(results):
    """List every figure as (name, function, frame, further arguments)."""
    frame, tasks = curves(results), list(dict.fromkeys(results.tasks["task"]))
    table, orders, taught = protocols(frame), removal_orders(frame), distilled(results)
    models = ["Linear regression", "Random forest"]
    weights = [_by_signal(m, importance=0.3).assign(fusion=m, spread=0.05) for m in models]
    fits = [_by_signal(task, coefficient=0.02).assign(task=task) for task in tasks]
    observed = _rng("observed").normal(-0.03, 0.03, 150)
    guesses = [
        pd.DataFrame({"fusion": m, "observed": observed, "predicted": _guess(m, observed)})
        for m in models
    ]
    return [
        ("signal_profile", plots.signal_profile, standardised_signals(results), {}),
        ("signal_correlation", plots.signal_correlation, signal_correlations(results), {}),
        ("accuracy_by_depth", plots.accuracy_by_depth, frame, {"floors": results.tasks}),
        ("maximum_accuracy", plots.maximum_accuracy, table, {}),
        ("honest_accuracy", plots.maximum_accuracy, table, {"column": "honest"}),
        ("removal_order", plots.removal_order, orders, {}),
        ("removal_order_mean", plots.removal_order, orders, {"average": True}),
        ("fusion_importance", plots.fusion_importance, pd.concat(weights), {}),
        ("fusion_coefficients", plots.fusion_coefficients, pd.concat(fits), {}),
        ("fusion_fit", plots.fusion_fit, pd.concat(guesses), {}),
        ("distillation_by_depth", plots.distillation_by_depth, taught, {}),
        ("distillation_gain", plots.distillation_gain, taught, {}),
        ("accuracy_to_size", plots.accuracy_to_size, frame, {}),
        ("ratio_by_denominator", plots.ratio_by_denominator, ratio_readings(results), {}),
        ("protocol_gap", plots.protocol_gap, table, {}),
        ("scoreboard", plots.scoreboard, scoreboard(results), {}),
    ]


def _guess(model, observed):
    return 0.5 * observed - 0.015 + _rng(model).normal(0, 0.01, len(observed))
