"""Sets of layers: which are worth keeping, and how far each strategy is from the best."""

import pandas as pd
import seaborn as sns
from scipy.special import comb

from sfusion.analysis.appearance import (
    COLUMN,
    in_registry_order,
    strategy_colour,
    strategy_title,
    styled,
)
from sfusion.analysis.drawing import interval_rows, one_panel
from sfusion.analysis.scores import redrawn, task_means
from sfusion.analysis.statistics import bootstrapped
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath


def subsets(results):
    """Tabulate the accuracy of every set of removed layers that was trained from the top down.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per task, seed and set: ``removed``, ``gone`` (a sorted tuple of layers),
        the accuracies and, where recorded, ``test_correct``; of the sizes of which
        every set was trained: all of them by an exhaustive search, single layers by a
        greedy one.
    """
    nodes = results.with_test_texts(results.nodes[results.nodes["removed"] > 0])
    nodes["gone"] = nodes["path"].map(_gone)
    from_the_top = [PruningPath.from_the_top(gone).name for gone in nodes["gone"]]
    nodes = nodes[nodes["path"] == from_the_top]
    columns = [
        *UNIT,
        "removed",
        "gone",
        *(name for name in nodes if name.startswith(("validation", "test"))),
    ]
    there = nodes.groupby([*UNIT, "removed"])["path"].transform("size")
    whole = there == comb(nodes["removed"] + nodes["layers"], nodes["removed"])
    return nodes.loc[whole, columns].reset_index(drop=True)


def _gone(path):
    return tuple(sorted(PruningPath.parse(path).removed))


def best_sets(results):
    """Choose the set of layers of each size that validation prefers, with more or less of the dataset read.

    Parameters
    ----------
    results : Results
        Of tasks on which every set was trained.

    Returns
    -------
    DataFrame
        Rows of :func:`subsets`, one per task, seed, ``removed`` and ``chosen_on``:
        whose mean validation accuracy chose, that of ``this model`` (an exhaustive
        search), of all seeds of ``this dataset``, or of the ``other datasets`` alone.
        Accuracies are shares. Of equals the first in order of layers. Declared here.
    """
    sets, rows, key = subsets(results), [], [*UNIT, "removed", "gone"]
    seen = sets.pivot_table(
        index=UNIT, columns=["removed", "gone"], values="validation_accuracy"
    )
    for task, seed in seen.index:
        own = seen.index.get_level_values("task") == task
        trees = {
            "this model": [(task, seed)],
            "this dataset": own,
            "other datasets": ~own,
        }
        for name, chosen in trees.items():
            best = seen.loc[chosen].mean().dropna().groupby(level="removed").idxmax()
            rows += [(task, seed, *one, name) for one in best]
    return pd.DataFrame(rows, columns=[*key, "chosen_on"]).merge(sets, on=key)


def reached(results, frame):
    """Look up the set of layers that each path leaves.

    Parameters
    ----------
    results : Results
        Of tasks on which every set was trained.
    frame : DataFrame
        Columns ``task``, ``seed``, ``removed`` and ``path``.

    Returns
    -------
    DataFrame
        The rows whose set is in :func:`subsets`, with its columns in place of the
        frame's own: so sets are compared, each trained from the top down, and not the
        orders in which they were reached.
    """
    sets, key = subsets(results), [*UNIT, "removed", "gone"]
    asked = frame.drop(columns=sets.columns.difference(key), errors="ignore")
    return asked.assign(gone=frame["path"].map(_gone)).merge(sets, on=key)


def regret(results, frame):
    """Compare the set that each strategy leaves with the best set of that size.

    The best set of a task is the one of highest mean validation accuracy over the
    seeds; all sets are read on test, see :func:`reached`. A regret below 0 is chance.

    Parameters
    ----------
    results : Results
    frame : DataFrame
        From :meth:`Results.curves`.

    Returns
    -------
    DataFrame
        A row per task, seed, strategy and number of removed layers: ``name``,
        ``test_accuracy`` of the set that it leaves and ``test_accuracy_best``, shares,
        and their difference, ``regret``.
    """
    best, size = best_sets(results), [*UNIT, "removed"]
    best = best.loc[best["chosen_on"] == "this dataset", [*size, "test_accuracy"]]
    found = reached(results, frame).merge(best, on=size, suffixes=("", "_best"))
    found["regret"] = found["test_accuracy_best"] - found["test_accuracy"]
    return found[
        [*size, "strategy", "name", "test_accuracy", "test_accuracy_best", "regret"]
    ]


def gain_of_keeping(results):
    """Compare the sets of layers that keep a layer with those that lose it, at each depth.

    Parameters
    ----------
    results : Results
        Of tasks on which every set was trained, see :func:`subsets`.

    Returns
    -------
    DataFrame
        A row per task, seed, ``removed`` and ``layer``: ``gain``, mean test accuracy of
        the sets of that size that keep the layer minus that of the sets without it, as
        a share.
    """
    sets, layers = subsets(results), range(int(results.nodes["layers"].max()))
    each = sets.assign(layer=[layers] * len(sets)).explode("layer")
    kept = [
        layer not in gone
        for layer, gone in zip(each["layer"], each["gone"], strict=True)
    ]
    means = (
        each.groupby(["task", "seed", "layer", "removed", kept])["test_accuracy"]
        .mean()
        .unstack()
    )
    return (means[True] - means[False]).rename("gain").reset_index()


def _gain(sets, layer):
    kept = sets["gone"].map(lambda gone: layer not in gone)
    means = redrawn(sets.assign(kept=kept), ["kept", "removed"])
    return means[True] - means[False]


@styled
def kept_layers(gains):
    """Draw what sets of layers gain by keeping a layer, at each depth.

    Parameters
    ----------
    gains : DataFrame
        From :func:`gain_of_keeping`.

    Returns
    -------
    Figure
        Mean over tasks and seeds, percentage points of test accuracy.
    """
    means = (
        gains.groupby(["task", "removed", "layer"])["gain"]
        .mean()
        .groupby(["removed", "layer"])
        .mean()
    )
    means = 100 * means.unstack("layer")
    limit = means.abs().max(axis=None)
    figure, axes = one_panel(COLUMN + 0.8, 0.26 * len(means) + 0.7)
    texts = means.map(lambda v: f"{v:+z.1f}".replace("-", "−"))
    look = {
        "annot": texts,
        "fmt": "",
        "annot_kws": {"fontsize": 6},
        "cbar_kws": {"label": "gain of keeping (pp)"},
    }
    sns.heatmap(means, ax=axes, cmap="RdBu", vmin=-limit, vmax=limit, **look)
    axes.set(xlabel="layer", ylabel="layers removed")
    axes.tick_params(length=0, labelrotation=0)
    return figure


def regret_figure(frame):
    """Draw how far the sets that strategies leave are from the best sets of their size.

    Parameters
    ----------
    frame : DataFrame
        From :func:`regret`.

    Returns
    -------
    Figure
    """
    scores = 100 * frame.pivot_table(index=UNIT, columns="name", values="regret")
    names = in_registry_order(scores)
    scores = scores[names].rename(columns=strategy_title)
    note = "95% bootstrap interval over datasets and seeds; dots: datasets"
    return interval_rows(
        bootstrapped(scores),
        label="label",
        spots=task_means(scores).melt(var_name="label"),
        colours={strategy_title(name): strategy_colour(name) for name in names},
        xlabel=f"regret to the best set (pp of test accuracy)\n{note}",
        width=5.2,
    )
