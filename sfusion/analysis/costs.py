"""Costs: what a strategy costs and gains, and what each removed layer costs in accuracy."""

import numpy as np
import pandas as pd
from matplotlib.ticker import FixedLocator, NullLocator

from sfusion.analysis.appearance import (
    HIGHLIGHTED,
    LINE,
    PAGE,
    strategy_colour,
    strategy_title,
    styled,
)
from sfusion.analysis.drawing import one_panel
from sfusion.analysis.scores import BEST_SINGLE, measured, redrawn, with_best_single
from sfusion.analysis.statistics import bootstrap
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import IN_DATASET, STRATEGIES, lookup
from sfusion.signals import MEASURES, SIGNALS

DEFAULT = (
    "middle-first"  # in whose order `compress` removes layers, unless asked otherwise
)


def _costs(results):
    """Return the FLOPs of a recovery, a probe, an evaluation and a label, by layers left."""
    profile, flops = (
        results.manifest["profile"],
        results.nodes.groupby("layers")["flops"].mean(),
    )
    # A backward pass costs two forward passes.
    samples = {
        "recovery": 3 * profile["recovery"]["samples"],
        "probe": 3 * profile["sizes"]["probe"],
    }
    samples["evaluation"] = results.tasks["validation"].mean()
    samples["label"] = samples["recovery"] + samples["evaluation"]
    return {kind: flops * count for kind, count in samples.items()}


def _tried(results, depth, which):
    """List the layer counts of the models that strategies trained, and of pruned parents."""
    taken = results.trajectories["strategy"].map(lambda label: which(lookup(label)))
    rows = results.trajectories[taken & (results.trajectories["removed"] > 0)]
    children = rows[[*UNIT, "path"]].drop_duplicates()
    trained = children["path"].map(PruningPath.parse)
    parents = children.assign(path=trained.map(lambda path: path.parent))
    asked = [path for path in parents.drop_duplicates()["path"] if path]
    return [[depth - len(path) for path in paths] for paths in (trained, asked)]


def compute_costs(results, frame):
    """Compute what each strategy costs on its pruning path to one layer, and what that gains.

    Counted is what a user would run who wants this strategy alone, from a fine-tuned
    model on. A signal costs the one pass that gives all twelve, at every model with a
    choice left; a fusion learned in the dataset costs, on top of its own path, the
    trajectories that gave its labels, and the pass at their models where it reads
    signals; one learned elsewhere brings its labels along; greedy search trains every
    child; finding the best single signal takes the paths of all twelve. A label, and a
    child of the search, is a recovery and one evaluation on the validation split.

    Parameters
    ----------
    results : Results
    frame : DataFrame
        From :meth:`Results.curves`.

    Returns
    -------
    DataFrame
        Index ``strategy`` (names, ``best-single`` last). ``training``, ``signals``,
        ``labels``: TFLOPs, closed form; ``times``: all of them over those of top-first;
        ``gain`` with ``low`` and ``high``: mean accuracy over depths minus that of
        top-first, in percentage points, with its 95% bootstrap interval.
    """
    cost, depth = _costs(results), int(results.nodes["layers"].max())
    units = len(results.tasks)
    means = 100 * measured(with_best_single(frame))["mean_accuracy"]
    iterative = [name for name, strategy in STRATEGIES.items() if not strategy.once]
    means = means[[name for name in (*iterative, BEST_SINGLE) if name in means]]
    down, probed = list(range(1, depth)), list(range(2, depth + 1))
    rows = {}
    for name in means:
        strategy = STRATEGIES.get(name)
        trained, seen, labelled, asked = (
            down,
            [],
            [],
            [],
        )  # of all units: labelled and asked
        if name == BEST_SINGLE:
            trained, seen = [], [depth]  # its path is among those of the twelve
            labelled, asked = _tried(results, depth, lambda one: one.name in SIGNALS)
        elif name == "greedy-oracle":
            trained = []  # its path is among the children: every one of every model on it
            labelled = [left - 1 for left in probed for _ in range(left)] * units
        else:
            if name in MEASURES or (
                strategy.learned_from and strategy.reads != "position"
            ):
                seen = probed
            if strategy.learned_from == IN_DATASET:
                labelled, parents = _tried(
                    results, depth, lambda one: one.teaches_fusions
                )
                asked = parents if seen else []
        flops = {
            "training": sum(cost["recovery"][n] for n in trained),
            "signals": sum(cost["probe"][n] for n in seen)
            + sum(cost["probe"][n] for n in asked) / units,
            "labels": sum(cost["label"][n] for n in labelled) / units,
        }
        rows[name] = {
            **{part: number / 1e12 for part, number in flops.items()},
            "times": sum(flops.values()) / sum(cost["recovery"][n] for n in down),
            **dict(
                zip(
                    ("gain", "low", "high"),
                    bootstrap(means[name] - means["top-first"]),
                    strict=True,
                )
            ),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")


def _contrast(differences):
    """Average over tasks and seeds, in percentage points, with the 95% bootstrap interval."""
    return dict(
        zip(("points", "low", "high"), bootstrap(100 * differences), strict=True)
    )


def cost_of_depth(results, strategy=DEFAULT):
    """Tabulate what a strategy's removals cost, layer by layer.

    Parameters
    ----------
    results : Results
    strategy : str

    Returns
    -------
    DataFrame
        Index ``layers left``; ``parameters`` and ``flops``, shares of the original's;
        ``points``, percentage points of test accuracy against the original, ``low`` and
        ``high``: mean over tasks and seeds.
    """
    frame = results.curves()
    frame = frame[frame["name"] == strategy]
    accuracy, rows = redrawn(frame, ["layers"]), {}
    sizes = {
        name: frame.pivot_table(index=UNIT, columns="layers", values=name)
        for name in ("parameters", "flops")
    }
    for left in sorted(accuracy, reverse=True)[1:]:
        shares = {
            name: (size[left] / size[max(size)]).mean() for name, size in sizes.items()
        }
        rows[left] = shares | _contrast(accuracy[left] - accuracy[max(accuracy)])
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layers left")


def strategies_ranked(results, against="random"):
    """Rank the strategies by mean accuracy over depths, against one of them.

    Parameters
    ----------
    results : Results
    against : str
        A strategy; it is left out. Differences are paired by task and seed.

    Returns
    -------
    DataFrame
        Index ``strategy``, best first; ``points``, ``low`` and ``high``.
    """
    frame = results.curves()
    means = redrawn(frame[frame["removed"] > 0], ["name"])
    names = [
        name
        for name in STRATEGIES
        if name in means and name != against and STRATEGIES[name].group != "control"
    ]
    rows = {name: _contrast(means[name] - means[against]) for name in names}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
    return table.sort_values("points", ascending=False, kind="stable")


@styled
def overhead(table):
    """Draw the gain of each strategy against its compute cost.

    Parameters
    ----------
    table : DataFrame
        From :func:`compute_costs`.

    Returns
    -------
    Figure
        Across, all FLOPs as a multiple of those of dropping the top layers; up, mean
        accuracy over depths minus that of dropping the top layers, with its 95%
        bootstrap interval.
    """
    figure, axes = one_panel(PAGE, 3.4)
    axes.axhline(0, **LINE)
    named = [
        "random-forest-transfer",
        "random-forest-position-transfer",
        "linear-regression",
        *HIGHLIGHTED,
    ]
    colours = [
        strategy_colour(name) if name in named else "0.75" for name in table.index
    ]
    axes.vlines(table["times"], table["low"], table["high"], colours, linewidth=0.8)
    axes.scatter(table["times"], table["gain"], s=14, zorder=3, linewidth=0, c=colours)
    shown = table[table.index.isin(named)].sort_values("gain")
    step, placed = 0.05 * (table["high"].max() - table["low"].min()), []
    for name, row in shown.iterrows():
        x, y = row["times"], row["gain"]
        while any(abs(np.log(x / a)) < 0.7 and abs(y - b) < step for a, b in placed):
            y += step / 4
        placed.append((x, y))
        axes.text(
            1.05 * x, y, strategy_title(name), color=strategy_colour(name), va="center"
        )
    axes.set_xscale("log")
    axes.xaxis.set(
        major_locator=FixedLocator([1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 48]),
        major_formatter="{x:g}",
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.93, 1.6 * table["times"].max())
    axes.set_xlabel("compute cost: FLOPs as a multiple of dropping the top layers")
    axes.set_ylabel(
        "mean accuracy over depths minus that of\ndropping the top layers (pp, 95%)"
    )
    return figure
