"""What is left of fusion: which features and which target choose the next layer best.

Nothing is trained but fusions: the script reads a profile's committed records. It asks
at every parent whose children were all tried, and whose signals were extracted, which
layer a candidate removes next. Regret is the accuracy of the best child minus that of
the chosen one. Every candidate is fitted as a transfer fusion of the study is, on the
removals of the other datasets and of the same seed; only `greedy` has seen the
children, for it takes the one that is best on validation. Candidates are to be chosen
on validation regret; test regret says what it is worth.

Targets: `change`, of accuracy from parent to child; `siblings`, that change minus its
mean over the parent's tried children; `scaled`, the same over its standard deviation in
the task; `depth`, the change minus its mean over the task's removals from as many
layers, which needs no siblings; `pairs`, which of two siblings does better, from the
differences of their features. Candidates with `searches` learn from the other datasets'
greedy searches too: few other parents had all of their children tried. A signal of a
child that was fine-tuned is no candidate: its training costs as much as trying it.
Removal-loss, where the records hold it, is that signal before the fine-tuning.

With `--followed` strategies that the study left out choose every layer of a pruning
path, for every task and seed, as far as the records hold signals of the models that
they come to: every signal reversed, and rankings of the original whose layers go at
once, among them forests that learned from the removals of another model.

Minutes on one core; nearly all of it fits forests.

usage: python benchmarks/fusions.py [--profile nine] [--out results/fusions.csv]
       [--followed FILE]
"""

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from sfusion.analysis.tables import fusion_nodes
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from sfusion.experiments.profiles import ROOT
from sfusion.experiments.results import UNIT, open_results
from sfusion.pruning.fusion import (
    FUSION_MODELS,
    LABEL,
    POSITION,
    READS,
    centred,
    fit_fusion,
    shipped_rows,
    training_table,
)
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.strategies import STRATEGIES, View, choose
from sfusion.signals import MEASURES, REDUNDANCY, SIGNALS
from sfusion.training.precision import fixed_threads

PARENT = [*UNIT, "path"]
BOTH, ALL = list(MEASURES), READS["all"]
NEIGHBOURS = [f"{name}, {side}" for side in ("below", "above") for name in BOTH]
CLASSIFIERS = {  # of pairs; declared, not tuned
    "logistic-regression": LogisticRegression(
        C=0.1, fit_intercept=False, max_iter=1000
    ),
    "boosting": HistGradientBoostingClassifier(
        max_iter=100, min_samples_leaf=10, random_state=0
    ),
}
CANDIDATES = {
    # name: features, target, model
    "position": (POSITION, "change", "random-forest"),
    "signals": ([*SIGNALS], "change", "random-forest"),
    "redundancy": ([*REDUNDANCY], "change", "random-forest"),
    "signals+redundancy": (BOTH, "change", "random-forest"),
    "signals+position": ([*SIGNALS, *POSITION], "change", "random-forest"),
    "redundancy+position": ([*REDUNDANCY, *POSITION], "change", "random-forest"),
    "all": (ALL, "change", "random-forest"),
    "all+neighbours": ([*BOTH, *NEIGHBOURS, *POSITION], "change", "random-forest"),
    "position, siblings": (POSITION, "siblings", "random-forest"),
    "signals, siblings": ([*SIGNALS], "siblings", "random-forest"),
    "signals+redundancy, siblings": (BOTH, "siblings", "random-forest"),
    "redundancy+position, siblings": (
        [*REDUNDANCY, *POSITION],
        "siblings",
        "random-forest",
    ),
    "all, siblings": (ALL, "siblings", "random-forest"),
    "all+neighbours, siblings": (
        [*BOTH, *NEIGHBOURS, *POSITION],
        "siblings",
        "random-forest",
    ),
    "all, scaled": (ALL, "scaled", "random-forest"),
    "all, depth": (ALL, "depth", "random-forest"),
    "position, searches": (POSITION, "change", "random-forest"),
    "all, searches": (ALL, "change", "random-forest"),
    "all, siblings, searches": (ALL, "siblings", "random-forest"),
    "all, siblings, ridge": (ALL, "siblings", "ridge-regression"),
    "all, pairs, logistic": (ALL, "pairs", "logistic-regression"),
    "all, pairs, boosting": (ALL, "pairs", "boosting"),
}

RANKED = (
    "random-forest-other-model",
    "random-forest-position-other-model",
    "angular-distance",
    "middle-first",
)


def removals(results):
    """Tabulate all tried removals with every feature.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Columns ``task``, ``seed``, ``path`` (of the parent), ``layer``, the features of
        the candidates as far as the records hold them, ``accuracy_change``, both
        accuracies of the child, ``removed`` (by the parent), ``teaches`` (whether
        fusions learn from it) and ``complete`` (whether all siblings were tried).
    """
    signals = results.signals.reindex(columns=[*PARENT, "layer", *MEASURES])
    keys = [*PARENT, "layer"]
    table = training_table(results.nodes, signals, "all").merge(
        _neighbours(signals), on=keys
    )
    missing = [name for name in MEASURES if signals[name].isna().all()]
    table = table.drop(
        columns=[name for name in table if name.split(",")[0] in missing]
    )
    table["child"] = [
        PruningPath.parse(path).then(layer).name
        for path, layer in zip(table["path"], table["layer"], strict=True)
    ]
    child = results.nodes[[*PARENT, "removed", "validation_accuracy", "test_accuracy"]]
    child = child.rename(columns={"path": "child"})
    table = table.merge(child, on=[*UNIT, "child"], validate="one_to_one")
    learned = (
        fusion_nodes(results)[PARENT]
        .rename(columns={"path": "child"})
        .assign(teaches=True)
    )
    table = table.merge(learned, on=[*UNIT, "child"], how="left")
    table["teaches"] = table["teaches"].eq(True)
    tried = table.groupby(PARENT)["layer"].transform("size")
    left = (
        signals.groupby(PARENT)
        .size()
        .reindex(pd.MultiIndex.from_frame(table[PARENT]))
        .to_numpy()
    )
    table["complete"] = (tried == left) & (tried > 1)
    return table.assign(removed=table["removed"] - 1).sort_values(
        keys, ignore_index=True
    )


def _neighbours(signals):
    """Subtract from each layer's standardised measures those of the layer below and of that above."""
    ordered = signals.sort_values([*PARENT, "layer"], ignore_index=True)
    groups = ordered.groupby(PARENT)[BOTH]
    spread = groups.transform("std", ddof=0).replace(0, np.inf)
    scaled = ((ordered[BOTH] - groups.transform("mean")) / spread).fillna(0)
    shifted = scaled.groupby([ordered[key] for key in PARENT])
    # The lowest layer has none below and the highest none above: no difference.
    steps = {
        side: (scaled - shifted.shift(by)).fillna(0)
        for side, by in (("below", 1), ("above", -1))
    }
    named = [
        frame.set_axis([f"{name}, {side}" for name in BOTH], axis=1)
        for side, frame in steps.items()
    ]
    return pd.concat([ordered[[*PARENT, "layer"]], *named], axis=1)


def _relative(train, target):
    """Centre the changes within a parent or a depth."""
    train = centred(train, [*UNIT, "removed"] if target == "depth" else PARENT)
    spread = (
        train.groupby("task")[LABEL].transform("std").clip(lower=1e-6)
        if target == "scaled"
        else 1
    )
    return train, train[LABEL] / spread


def _pairs(train, names):
    """Take the differences of siblings' features, both ways round, and which does better; no ties."""
    rows = []
    for _, part in train.groupby(PARENT):
        values, label = part[names].to_numpy(), part[LABEL].to_numpy()
        rows += [
            (values[i] - values[j], label[i] > label[j])
            for i, j in itertools.permutations(range(len(part)), 2)
            if label[i] != label[j]
        ]
    return np.array([row for row, _ in rows]), np.array([better for _, better in rows])


def fit(train, names, target, model):
    """Fit a candidate.

    Parameters
    ----------
    train : DataFrame
        Rows of :func:`removals`.
    names : list of str
    target, model : str
        See ``CANDIDATES``.

    Returns
    -------
    callable
        Takes rows of layers and gives a score per row; only the order within a parent
        counts.
    """
    names = [name for name in names if name in train]
    train = train.sort_values([*names, LABEL])  # as fit_fusion does
    if target == "pairs":
        fitted = clone(CLASSIFIERS[model]).fit(*_pairs(train, names))
        return lambda asked: _wins(fitted, asked, names)
    if target == "change":
        label = train[LABEL]
    else:
        train, label = _relative(train, target)
    fitted = clone(FUSION_MODELS[model]).fit(train[names], label)
    return lambda asked: fitted.predict(asked[names])


def _wins(fitted, asked, names):
    """Score layers by expected wins minus losses against their siblings."""
    scores = pd.Series(0.0, asked.index)
    for _, part in asked.groupby(PARENT):
        values, count = part[names].to_numpy(), len(part)
        differences = (values[:, None] - values[None]).reshape(count * count, -1)
        better = fitted.predict_proba(differences)[:, 1].reshape(count, count)
        scores[part.index] = better.sum(1) - better.sum(0)
    return scores.to_numpy()


def regrets(asked, scores):
    """Compute each parent's regret, in pp, of the child of the highest score.

    Parameters
    ----------
    asked : DataFrame
        Rows of :func:`removals`, of complete parents.
    scores : array-like or None
        One per row; ties are broken towards the output. None for a choice by chance.

    Returns
    -------
    DataFrame
        Index ``task``, ``seed``, ``path``, ``removed``; columns ``validation`` and
        ``test``.
    """
    frame = asked[
        [*PARENT, "removed", "layer", "validation_accuracy", "test_accuracy"]
    ].assign(score=scores)
    groups = frame.groupby([*PARENT, "removed"])[
        ["validation_accuracy", "test_accuracy"]
    ]
    if scores is None:
        chosen = groups.mean()
    else:
        frame = frame.sort_values(["score", "layer"])
        chosen = frame.groupby([*PARENT, "removed"])[
            ["validation_accuracy", "test_accuracy"]
        ].last()
    found = 100 * (groups.max() - chosen)
    return found.rename(columns=lambda name: name.removesuffix("_accuracy"))


def measure(table):
    """Let every candidate choose at every complete parent.

    Parameters
    ----------
    table : DataFrame
        From :func:`removals`.

    Returns
    -------
    dict
        Candidate -> :func:`regrets`.
    """
    asked = table[table["complete"]]
    scores = {"greedy": asked["validation_accuracy"]}
    scores |= {name: -asked[name] for name in REDUNDANCY if name in asked}
    for name, (names, target, model) in CANDIDATES.items():
        scores[name] = pd.Series(0.0, asked.index)
        for (task, seed), part in asked.groupby(UNIT):
            score = fit(_others(table, name, task, seed), names, target, model)
            scores[name].loc[part.index] = score(part)
    return {name: regrets(asked, score) for name, score in scores.items()} | {
        "chance": regrets(asked, None)
    }


def _others(table, name, task, seed):
    """Take the removals that a candidate learns from: of the other datasets and the same seed."""
    others = (table["seed"] == seed) & (table["task"] != task)
    return table[others if name.endswith("searches") else others & table["teaches"]]


def ranked_once(name, model):
    """Make a strategy rank the original's layers once; a forest has learned from other models' removals.

    Parameters
    ----------
    name : str
        Of a strategy.
    model : str
        Whose removals a forest has not seen; nor has it seen those of the dataset.

    Returns
    -------
    callable
        ``(task, seed) -> Strategy``, or None where the other models have no removals of
        the seed.
    """
    one = replace(STRATEGIES[name], once=True)
    rows = shipped_rows(one.reads, without=model) if one.learned_from else None

    def fitted(task, seed):
        if rows is None:
            return one
        if seed not in set(rows["seed"]):
            return None
        fusion = fit_fusion(
            rows[(rows["task"] != task) & (rows["seed"] == seed)], one.model
        )
        return replace(one, score=lambda view: one.score(replace(view, fusion=fusion)))

    return fitted


def follow(results, strategy):
    """Let a strategy that was not studied choose every layer from the original down.

    Parameters
    ----------
    results : Results
    strategy : callable
        ``(task, seed) -> Strategy or None``, which goes nowhere.

    Returns
    -------
    DataFrame
        A row per task, seed and number of layers ``removed``, at least one: ``path``.
        Where a path has no signals in the records, those of the first path that removes
        the same layers in another order are read; where there is none, the path ends.
        One that ranks once reads the original alone.
    """
    depth, rows = int(results.nodes["layers"].max()), []
    for (task, seed), part in results.signals.sort_values([*PARENT, "layer"]).groupby(
        UNIT, sort=False
    ):
        nodes = {
            PruningPath.parse(path): frame.reset_index(drop=True)
            for path, frame in part.groupby("path")
        }
        chosen, path = strategy(task, seed), ORIGINAL
        while chosen and len(path) < depth - 1:
            read, gone = path, ()
            if chosen.once:
                read, gone = ORIGINAL, path.removed
            alike = [
                other for other in nodes if set(other.removed) == set(read.removed)
            ]
            if not alike:
                break
            signals = nodes[read if read in alike else alike[0]]
            view = View(tuple(signals["layer"]), signals, None, None, depth, gone)
            path = path.then(choose(chosen, view))
            rows.append((task, seed, len(path), path.name))
    return pd.DataFrame(rows, columns=[*UNIT, "removed", "path"])


def summary(found):
    """Average over parents, with 95% intervals over tasks.

    Parameters
    ----------
    found : dict
        From :func:`measure`.

    Returns
    -------
    DataFrame
        A row per candidate and number of layers removed before (``all``: whichever):
        ``parents``, and for validation and for test the mean ``regret`` in pp and its
        ``minus_position``, the paired difference from the fusion that reads the
        position alone, each with ``low`` and ``high``.
    """
    rows = []
    for name, frame in found.items():
        for removed in ["all", *sorted(set(frame.index.get_level_values("removed")))]:
            asked = (
                slice(None)
                if removed == "all"
                else frame.index.get_level_values("removed") == removed
            )
            part, base = frame[asked], found["position"][asked]
            row = {"candidate": name, "removed": removed, "parents": len(part)}
            for split, (what, values) in itertools.product(
                ("validation", "test"),
                (("regret", part), ("minus_position", part - base)),
            ):
                mean, low, high = _interval(values[split])
                row |= {
                    f"{split}_{what}": mean,
                    f"{split}_{what}_low": low,
                    f"{split}_{what}_high": high,
                }
            rows.append(row)
    return pd.DataFrame(rows)


def _interval(values, resamples=2000):
    """Average over parents and give an interval: tasks are drawn, each with all of its parents."""
    sums = values.groupby(level="task").agg(["sum", "size"]).to_numpy()
    drawn = np.random.default_rng(0).integers(len(sums), size=(resamples, len(sums)))
    totals = sums[drawn].sum(1)
    return values.mean(), *np.quantile(totals[:, 0] / totals[:, 1], [0.025, 0.975])


def paths(results):
    """Follow every signal reversed, and what ranks the original once."""
    turned = (f"reversed-{name}" for name in SIGNALS)
    followed = {name: lambda task, seed, name=name: STRATEGIES[name] for name in turned}
    for name in RANKED:
        followed[f"one-shot-{name}"] = ranked_once(
            name, results.manifest["profile"]["model"]
        )
    return pd.concat(
        follow(results, one).assign(strategy=name) for name, one in followed.items()
    )


def main():
    """Measure all candidates on a profile's records and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="nine")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "fusions.csv")
    parser.add_argument("--followed", type=Path, help="where the paths go")
    options = parser.parse_args()
    results = open_results(options.profile)
    with fixed_threads(1):  # boosting's threads wait for each other beside other work
        made = {options.out: (table := summary(measure(removals(results))))}
        if options.followed:
            made[options.followed] = paths(results)
    for file, frame in made.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        frame.to_csv(file, index=False, float_format="%.4g", lineterminator="\n")
    shown = table[table["removed"].isin(["all", 0])].set_index(["candidate", "removed"])
    print(
        shown.filter(regex="parents|(regret|position)$").unstack().round(2).to_string()
    )


if __name__ == "__main__":
    main()
