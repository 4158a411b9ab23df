"""Fusion under scrutiny: how far greedy choices are from the best set of layers, and their cost."""

import pandas as pd

from sfusion.analysis.statistics import BEST_SINGLE, measured
from sfusion.analysis.tables import UNIT, bootstrap
from sfusion.pruning.strategies import IN_DATASET, STRATEGIES, lookup
from sfusion.signals import MEASURES, SIGNALS


def _gone(path):
    return tuple(sorted(int(layer) for layer in path.split("-") if layer))


def sets(results):
    """Tabulate the accuracy of every set of removed layers that was trained from the top down.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row a task, seed and set: ``removed``, ``gone`` (a sorted tuple of layers) and the
        accuracies; of the tasks on which every set was trained.
    """
    nodes = results.nodes[results.nodes["removed"] > 0].copy()
    nodes["gone"] = nodes["path"].map(_gone)
    canonical = nodes["path"] == ["-".join(map(str, reversed(gone))) for gone in nodes["gone"]]
    columns = [*UNIT, "removed", "gone", "validation_accuracy", "test_accuracy"]
    tasks = results.manifest["profile"].get("subsets", ())
    return nodes.loc[canonical & nodes["task"].isin(tasks), columns].reset_index(drop=True)


def regret(results, frame):
    """Hold the set that each strategy leaves against the best set of that size.

    The best set of a task is the one of highest mean validation accuracy over the seeds; all
    sets are read on test, each trained along its own path from the top down, so that sets are
    compared and not the orders in which strategies reached them. A regret below 0 is chance.

    Parameters
    ----------
    results : Results
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`.

    Returns
    -------
    DataFrame
        A row a task, seed, strategy and number of removed layers: ``name``, ``set_accuracy``,
        ``best_accuracy``, ``regret`` (their difference, shares of test accuracy) and ``place``,
        the share of the other sets of that size that validation ranks below (1 for the best).
    """
    table = sets(results)
    columns = [*UNIT, "strategy", "name", "removed"]
    if table.empty:
        return pd.DataFrame(columns=[*columns, "set_accuracy", "best_accuracy", "regret", "place"])
    means = table.groupby(["task", "removed", "gone"], as_index=False)["validation_accuracy"].mean()
    groups = means.groupby(["task", "removed"])["validation_accuracy"]
    means["place"] = (groups.rank(method="average") - 1) / (groups.transform("size") - 1)
    best = means.loc[groups.idxmax(), ["task", "removed", "gone"]]
    best = best.merge(table, on=["task", "removed", "gone"])
    best = best.rename(columns={"test_accuracy": "best_accuracy"})
    walked = frame.loc[frame["removed"] > 0, [*columns, "path"]].copy()
    walked["gone"] = walked["path"].map(_gone)
    keys = [*UNIT, "removed", "gone"]
    walked = walked.merge(table[[*keys, "test_accuracy"]], on=keys)
    walked = walked.rename(columns={"test_accuracy": "set_accuracy"})
    walked = walked.merge(best[[*UNIT, "removed", "best_accuracy"]], on=[*UNIT, "removed"])
    walked = walked.merge(
        means[["task", "removed", "gone", "place"]], on=["task", "removed", "gone"]
    )
    walked["regret"] = walked["best_accuracy"] - walked["set_accuracy"]
    return walked[[*columns, "set_accuracy", "best_accuracy", "regret", "place"]]


def _costs(results):
    """Give FLOPs and seconds of a recovery, a probe and a look at validation, by layers left."""
    profile = results.manifest["profile"]
    nodes = results.nodes
    pruned = nodes[nodes["removed"] > 0]
    flops = nodes.groupby("layers")["flops"].mean()
    probe = profile["sizes"]["probe"]
    looked, tested = results.tasks[["validation", "test"]].mean()
    seen = looked / (looked + tested)  # both are in the record
    # A backward pass costs two forward passes. Medians of the times, for the first node of a
    # worker pays for loading, and one whose parent's weights were dropped for its parents.
    return {
        ("flops", "recovery"): 3 * flops * profile["recovery"]["samples"],
        ("flops", "probe"): 3 * flops * probe,
        ("flops", "look"): flops * looked,
        ("seconds", "recovery"): pruned.groupby("layers")["training"].median(),
        ("seconds", "probe"): nodes.groupby("layers")["extraction"].median(),
        ("seconds", "look"): nodes.groupby("layers")["evaluation"].median() * seen,
    }


def _walked(results, depth, which):
    """List the layer counts of the models that strategies trained, and of pruned parents."""
    taken = results.trajectories["strategy"].map(lambda label: which(lookup(label)))
    visits = results.trajectories[taken & (results.trajectories["removed"] > 0)]
    children = visits[[*UNIT, "path"]].drop_duplicates()
    parents = children.assign(path=children["path"].str.rpartition("-")[0]).drop_duplicates()
    parents = parents[parents["path"] != ""]
    return [(depth - 1 - paths["path"].str.count("-")).tolist() for paths in (children, parents)]


def ledger(results, frame):
    """Count what each strategy costs on the way down to one layer, and what that buys.

    Counted is what a user would run who wants this strategy alone, from a fine-tuned model on.
    A signal costs the one pass that gives all twelve, at every model with a choice left; a
    fusion learned in the dataset costs, on top of its own way, the walks that gave its labels,
    and the pass at their models where it reads signals; one learned elsewhere brings its labels
    along; the oracle trains every child; finding the best single signal takes the walks of all
    twelve. A label, and a child of the oracle, is a recovery and a look at the validation split.

    Parameters
    ----------
    results : Results
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`.

    Returns
    -------
    DataFrame
        Index ``strategy`` (names, ``best-single`` last). ``training``, ``signals``,
        ``labels``: TFLOPs, closed form; ``seconds``: the same as measured, of one processor core
        or of the card; ``fit``: seconds of fitting the fusion; ``times``: all TFLOPs over those of
        top-first; ``gain`` with ``low`` and ``high``: mean test accuracy over the depths less that
        of top-first, in points, with its 95% bootstrap interval.
    """
    cost, depth = _costs(results), int(results.nodes["layers"].max())
    units = len(results.tasks)
    area = 100 * measured(frame)["area"].unstack("name")
    area = area[[name for name in (*STRATEGIES, BEST_SINGLE) if name in area]]
    fits = results.manifest.get("fit_seconds", {})
    down, probed = list(range(1, depth)), list(range(2, depth + 1))
    rows = {}
    for name in area:
        strategy = STRATEGIES.get(name)
        trained, seen, labelled, asked = down, [], [], []  # of all units: labelled and asked
        if name == BEST_SINGLE:
            trained, seen = [], [depth]  # its way is among those of the twelve
            labelled, asked = _walked(results, depth, lambda one: one.name in SIGNALS)
        elif name == "greedy-oracle":
            trained = []  # its way is among the children: every one of every model on it
            labelled = [left - 1 for left in probed for _ in range(left)] * units
        else:
            if name in MEASURES or (strategy.learned_from and strategy.reads != "position"):
                seen = probed
            if strategy.learned_from == IN_DATASET:
                labelled, parents = _walked(results, depth, lambda one: one.first_walk)
                asked = parents if seen else []
        flops, seconds = (
            {
                "training": sum(cost[kind, "recovery"][n] for n in trained),
                "signals": sum(cost[kind, "probe"][n] for n in seen)
                + sum(cost[kind, "probe"][n] for n in asked) / units,
                "labels": sum(cost[kind, "recovery"][n] + cost[kind, "look"][n] for n in labelled)
                / units,
            }
            for kind in ("flops", "seconds")
        )
        gain, low, high = bootstrap(area[name] - area["top-first"])
        rows[name] = {
            **{part: number / 1e12 for part, number in flops.items()},
            "seconds": sum(seconds.values()),
            "fit": fits.get(name, 0.0),
            "times": sum(flops.values()) / sum(cost["flops", "recovery"][n] for n in down),
            "gain": gain,
            "low": low,
            "high": high,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
