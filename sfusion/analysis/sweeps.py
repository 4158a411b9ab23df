"""Notebook 02: how far each strategy gets, layer by layer."""

import numpy as np
import pandas as pd

from sfusion.analysis.appearance import (
    BASELINE,
    BLUES,
    LINE,
    ORIGINAL,
    PAGE,
    PlainFigure,
    in_registry_order,
    strategy_colour,
    styled,
)
from sfusion.analysis.drawing import (
    curve_legend,
    depth_axis,
    draw_curves,
    draw_heat_map,
    draw_intervals,
    interval_rows,
    one_panel,
    panel_grid,
)
from sfusion.analysis.scores import protocols, wide, with_best_single
from sfusion.analysis.statistics import bootstrapped
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import lookup


def removal_orders(frame):
    """List when each strategy removes each layer.

    Parameters
    ----------
    frame : DataFrame
        From :meth:`Results.curves`.

    Returns
    -------
    DataFrame
        Columns ``task``, ``seed``, ``strategy``, ``name``, ``layer``, ``step``: 1 for
        the layer that goes first; the layer that stays has the original's layer count.
        Of strategies that remove one layer at a time.
    """
    frame = frame[~frame["name"].map(lambda name: lookup(name).once)]
    last = frame.loc[frame.groupby([*UNIT, "strategy"])["removed"].idxmax()]
    rows = []
    for row in last.itertuples():
        path = PruningPath.parse(row.path)
        order = [*path.removed, *path.remaining(row.removed + row.layers)]
        key = row.task, row.seed, row.strategy, row.name
        rows += [(*key, layer, step) for step, layer in enumerate(order, start=1)]
    return pd.DataFrame(rows, columns=[*UNIT, "strategy", "name", "layer", "step"])


def gains_by_surviving_layer(frame, strategy="random-forest"):
    """Compare a strategy with every random order, beside the layer that the order keeps to the end.

    Parameters
    ----------
    frame : DataFrame
        From :meth:`Results.curves`.
    strategy : str

    Returns
    -------
    DataFrame
        A row per task, seed and ``strategy`` (a draw): ``layer`` and ``gain``, mean
        accuracy over depths of the strategy minus that of the order, as a share.
    """
    orders = removal_orders(frame)
    kept = orders[
        (orders["name"] == "random") & (orders["step"] == orders["step"].max())
    ]
    means = protocols(frame)[[*UNIT, "strategy", "mean_accuracy"]]
    own = (
        means[means["strategy"] == strategy]
        .set_index(UNIT)["mean_accuracy"]
        .rename("own")
    )
    pair = (
        kept[[*UNIT, "strategy", "layer"]]
        .merge(means, on=[*UNIT, "strategy"])
        .join(own, on=UNIT)
    )
    return pair.assign(gain=pair["own"] - pair["mean_accuracy"])[
        [*UNIT, "strategy", "layer", "gain"]
    ]


@styled
def accuracy_by_depth(frame, tasks, *, by_task=False):
    """Draw test accuracy over the layers removed.

    Parameters
    ----------
    frame : DataFrame
        From :meth:`Results.curves`, or some of its strategies.
    tasks : DataFrame
        ``Results.tasks``, for the TF-IDF baseline.
    by_task : bool
        A panel per task instead of one with the mean over tasks.

    Returns
    -------
    Figure
        Means over seeds; the grey band holds the middle 80% of the random orders.
    """
    shown = with_best_single(frame).assign(accuracy=lambda f: 100 * f["test_accuracy"])
    baseline = 100 * tasks.groupby("task")["tfidf_accuracy"].mean()
    if not by_task:
        keys = ["name", "strategy", "seed", "removed"]
        title = f"mean over {frame['task'].nunique()} tasks"
        shown = (
            shown.groupby(keys, as_index=False)["accuracy"].mean().assign(task=title)
        )
        baseline = pd.Series({title: baseline.mean()})
    names = sorted(set(shown["task"]))
    figure, panels = panel_grid(names, 1.75 if by_task else 2.9, 0.75)
    for task, axes, leftmost in panels:
        part = shown[shown["task"] == task]
        axes.axhline(part.loc[part["removed"] == 0, "accuracy"].mean(), **ORIGINAL)
        axes.axhline(baseline[task], **BASELINE)
        draw_curves(axes, part)
        depth_axis(axes, part["removed"], "test accuracy (%)", leftmost)
    note = "means over seeds; band: middle 80% of random orders"
    curve_legend(figure, shown, 5, note, [ORIGINAL, BASELINE])
    return figure


@styled
def removal_order(orders):
    """Draw at which step each strategy removes each layer, averaged over tasks.

    Parameters
    ----------
    orders : DataFrame
        From :func:`removal_orders`.

    Returns
    -------
    Figure
    """
    names, depth = in_registry_order(orders["name"]), int(orders["step"].max())
    means = (
        orders.groupby(["task", "name", "layer"])["step"]
        .mean()
        .groupby(["name", "layer"])
    )
    steps = means.mean().unstack("layer").loc[names]
    figure, axes = one_panel(2.6 + 0.3 * max(depth, 8), 0.16 * len(names) + 0.6)
    label = {"label": f"mean step of removal (1 first, {depth} kept)", "aspect": 40}
    draw_heat_map(
        axes, steps, steps.map("{:.1f}".format), cmap="viridis", cbar_kws=label
    )
    axes.set_xlabel("layer")
    return figure


def gain_by_surviving_layer(gains):
    """Draw the lead over random orders by the layer that the order keeps to the end.

    Parameters
    ----------
    gains : DataFrame
        From :func:`gains_by_surviving_layer`.

    Returns
    -------
    Figure
        Mean over tasks with its 95% bootstrap interval over tasks and seeds.
    """
    parts = {}
    for layer, orders in gains.groupby("layer"):
        title = f"ends on layer {layer} ({len(orders)} paths)"
        parts[title] = 100 * orders.groupby(UNIT)["gain"].mean()
    return interval_rows(
        bootstrapped(parts),
        label="label",
        xlabel="lead over random orders, mean accuracy over depths\n"
        "(pp, 95% interval over datasets and seeds)",
    )


@styled
def maximum_accuracy(table):
    """Draw every strategy's score on every task, and its lead over random orders.

    Parameters
    ----------
    table : DataFrame
        From :func:`protocols`.

    Returns
    -------
    Figure
        Highest test accuracy over the depths. Numbers are means over seeds; colours run
        from the worst to the best strategy of each task. Right: the mean lead over the
        random orders of the same task and seed, with its 95% bootstrap interval over
        both.
    """
    scores = 100 * wide(table, "test_selected")
    means = scores.groupby(level="task").mean().T
    figure = PlainFigure(figsize=(PAGE, 0.19 * len(means) + 0.9))
    left, right = figure.subplots(1, 2, width_ratios=[2.2, 1])
    relative = (means - means.min()) / (means.max() - means.min()).replace(0, 1.0)
    label = dict(label="worst to best strategy", location="top", ticks=[], aspect=60)
    draw_heat_map(
        left,
        relative,
        means.map("{:.1f}".format),
        cmap=BLUES,
        vmin=0,
        vmax=1,
        cbar_kws=label,
    )
    left.set_xticks(
        np.arange(len(means.columns)) + 0.5, means.columns, rotation=30, ha="right"
    )
    left.set_xlabel("maximum test accuracy (%)")
    lead = bootstrapped(scores.sub(scores["random"], axis=0)[means.index])
    right.axvline(0, **LINE)
    colours = {name: strategy_colour(name) for name in means.index}
    draw_intervals(right, lead, label="label", colours=colours)
    right.set_yticks([])
    right.set_xlabel("minus random order, pp\n(95% over datasets, seeds)")
    return figure
