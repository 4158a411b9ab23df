"""Notebook 03: how far each strategy gets, and which layers it removes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sfusion.analysis.appearance import (
    BASELINE,
    BLUES,
    LINE,
    ORIGINAL,
    PAGE,
    PlainFigure,
    in_registry_order,
    strategy_colour,
    strategy_title,
    styled,
)
from sfusion.analysis.costs import strategies_ranked
from sfusion.analysis.drawing import (
    curve_legend,
    depth_axis,
    draw_curves,
    draw_heat_map,
    draw_intervals,
    one_panel,
    panel_grid,
)
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.scores import protocols, task_means, wide, with_best_single
from sfusion.analysis.statistics import TIE, bootstrapped
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import lookup
from sfusion.signals import SIGNALS

if TYPE_CHECKING:
    from sfusion.experiments.results import Results


def accuracies_by_depth(results: Results, by_task: bool = False) -> pd.DataFrame:
    """Tabulate the curves of every strategy, and of the best single signal.

    Parameters
    ----------
    results : Results
    by_task : bool
        Whether datasets stand apart instead of their mean.

    Returns
    -------
    DataFrame
        A row per ``task``, ``name``, ``strategy`` (random draws apart), ``seed`` and
        ``removed``: ``accuracy`` on test and ``tfidf``, that of the baseline, in per
        cent. The mean over datasets has their count as ``task``.
    """
    frame = with_best_single(results.curves())
    frame["accuracy"] = 100 * frame["test_accuracy"]
    baseline = 100 * results.tasks.groupby("task")["tfidf_accuracy"].mean()
    keys = ["name", "strategy", "seed", "removed"]
    if by_task:
        table = frame[["task", *keys, "accuracy"]]
        return table.assign(tfidf=table["task"].map(baseline))
    means = frame.groupby(keys, as_index=False)["accuracy"].mean()
    means.insert(0, "task", f"mean over {len(baseline)} datasets")
    return means.assign(tfidf=baseline.mean())


@styled
def _draw_accuracies(table: pd.DataFrame) -> Figure:
    """Draw :func:`accuracies_by_depth`, a panel per ``task``."""
    titles = sorted(set(table["task"]))
    height = 2.9 if len(titles) == 1 else 1.75
    figure, panels = panel_grid(titles, height, 0.75)
    for task, axes, leftmost in panels:
        curves = table[table["task"] == task]
        original = curves.loc[curves["removed"] == 0, "accuracy"].mean()
        axes.axhline(original, **ORIGINAL)
        axes.axhline(curves["tfidf"].iloc[0], **BASELINE)
        draw_curves(axes, curves)
        depth_axis(axes, curves["removed"], "test accuracy (%)", leftmost)
    note = "means over seeds; band: middle 80% of random orders"
    curve_legend(figure, table, 5, note, [ORIGINAL, BASELINE])
    return figure


@cache
def _against_random(results: Results) -> pd.DataFrame:
    if "random" not in set(results.curves()["name"]):
        raise StudyLacks("this study has no random orders")
    return strategies_ranked(results)


@exhibit
def accuracy_by_depth(results: Results) -> Exhibit:
    """Show test accuracy over the layers removed, the mean over datasets.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = accuracies_by_depth(results)
    lead = _against_random(results)
    worse = [strategy_title(name) for name in lead.index[lead["high"] < 0]]
    better = int((lead["low"] > 0).sum())
    scores = protocols(results.curves())
    draws = scores[scores["name"] == "random"].groupby(["seed", "strategy"])
    means = draws["mean_accuracy"].mean()
    finding = (
        f"{better} of {len(lead)} strategies have a higher mean accuracy over depths "
        "than random orders (the whole 95% interval lies above 0), "
        f"{len(worse)} a lower one: {', '.join(worse) or 'none'}. "
        f"There are {len(means)} random orders in all for each dataset; the standard "
        f"error of their mean is {100 * means.sem():.1f} pp, which the intervals do "
        "not hold."
    )
    figure = _draw_accuracies(table)
    return Exhibit("accuracy_by_depth", table, finding, figure)


@exhibit
def accuracy_by_dataset(results: Results) -> Exhibit:
    """Show test accuracy over the layers removed, a panel for each dataset.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = accuracies_by_depth(results, by_task=True)
    return Exhibit("accuracy_by_depth_all", table, figure=_draw_accuracies(table))


def removal_orders(frame: pd.DataFrame) -> pd.DataFrame:
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
    one_by_one = [not lookup(name).once for name in frame["name"]]
    last = _last_rows(frame[one_by_one])
    rows = []
    for row in last.itertuples():
        path = PruningPath.parse(row.path)
        order = [*path.removed, *path.remaining(row.removed + row.layers)]
        for step, layer in enumerate(order, start=1):
            rows.append((row.task, row.seed, row.strategy, row.name, layer, step))
    return pd.DataFrame(rows, columns=[*UNIT, "strategy", "name", "layer", "step"])


def _last_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the row of each curve where it ends."""
    return frame.loc[frame.groupby([*UNIT, "strategy"])["removed"].idxmax()]


@styled
def _draw_orders(orders: pd.DataFrame) -> Figure:
    names = in_registry_order(orders["name"])
    depth = int(orders["step"].max())
    by_task = orders.groupby(["task", "name", "layer"])["step"].mean()
    steps = by_task.groupby(["name", "layer"]).mean().unstack("layer").loc[names]
    figure, axes = one_panel(2.6 + 0.3 * max(depth, 8), 0.16 * len(names) + 0.6)
    bar = {"label": f"mean step of removal (1 first, {depth} kept)", "aspect": 40}
    texts = steps.map("{:.1f}".format)
    draw_heat_map(axes, steps, texts, cmap="viridis", cbar_kws=bar)
    axes.set_xlabel("layer")
    return figure


@exhibit
def removal_order(results: Results) -> Exhibit:
    """Show at which step each strategy removes each layer.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    orders = removal_orders(results.curves())
    lead = _against_random(results)
    steps = orders.groupby(["name", "layer"])["step"].mean().unstack()
    kept_longest = steps.idxmax(axis=1)
    sentences = []
    for side, ranked in (("below", lead["high"] < 0), ("above", lead["low"] > 0)):
        names = lead.index[ranked].intersection(kept_longest.index)
        kept = sorted(set(kept_longest[names]))
        layers = ", ".join(map(str, kept)) or "none"
        sentences.append(
            f"Strategies {side} random orders keep longest, on average, "
            f"{'layer' if len(kept) == 1 else 'layers'} {layers}."
        )
    finding = " ".join(sentences)
    caption = "Means over datasets and seeds; random orders are averaged"
    return Exhibit("removal_order", orders, finding, _draw_orders(orders), caption)


@exhibit
def surviving_layer(results: Results) -> Exhibit:
    """Tabulate what is lost with one layer left, by that layer.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    frame = results.curves()
    last = _last_rows(frame)
    if last["layers"].max() > 1:
        raise StudyLacks("this study does not prune down to one layer")
    orders = removal_orders(frame)
    kept = orders[orders["step"] == orders["step"].max()]
    paths = last.merge(kept[[*UNIT, "strategy", "layer"]], on=[*UNIT, "strategy"])
    originals = frame[frame["removed"] == 0].groupby(UNIT)["test_accuracy"].first()
    paths = paths.join(originals.rename("original"), on=UNIT)
    paths["change"] = 100 * (paths["test_accuracy"] - paths["original"])
    table = paths.groupby("layer")["change"].agg(["mean", "size"])
    table.columns = ["change", "paths"]
    changes = table["change"].map("{:+.1f}".format).str.replace("-", "−")
    listed = ", ".join(f"layer {layer}: {text}" for layer, text in changes.items())
    finding = f"Change of accuracy with one layer left, pp, by that layer: {listed}."
    return Exhibit("surviving_layer", table, finding, shown=table.round(1))


def _compared(results: Results) -> pd.DataFrame:
    """Score all strategies but controls and searches."""
    table = protocols(results.curves())
    return table[~table["group"].isin(["control", "search"])]


@styled
def _draw_maxima(table: pd.DataFrame) -> Figure:
    scores = 100 * wide(table, "test_selected")
    means = task_means(scores).T
    figure = PlainFigure(figsize=(PAGE, 0.19 * len(means) + 0.9))
    left, right = figure.subplots(1, 2, width_ratios=[2.2, 1])
    spread = (means.max() - means.min()).replace(0, 1.0)
    relative = (means - means.min()) / spread
    bar = {"label": "worst to best strategy", "location": "top", "ticks": []}
    texts = means.map("{:.1f}".format)
    scale = {"cmap": BLUES, "vmin": 0, "vmax": 1, "cbar_kws": {"aspect": 60, **bar}}
    draw_heat_map(left, relative, texts, **scale)
    places = np.arange(len(means.columns)) + 0.5
    left.set_xticks(places, means.columns, rotation=30, ha="right")
    left.set_xlabel("maximum test accuracy (%)")
    right.axvline(0, **LINE)
    colours = {name: strategy_colour(name) for name in means.index}
    lead = bootstrapped(scores.sub(scores["random"], axis=0))
    draw_intervals(right, lead, label="label", colours=colours)
    right.set_yticks([])
    right.set_xlabel("minus random order, pp\n(95% over datasets, seeds)")
    return figure


@exhibit
def maximum_accuracy(results: Results) -> Exhibit:
    """Show the paper's score: every strategy's highest test accuracy over the depths.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = _compared(results)
    if "random" not in set(table["name"]):
        raise StudyLacks("this study has no random orders")
    frame = results.curves()
    pruned = frame[frame["removed"] > 0]
    best = pruned.groupby([*UNIT, "strategy"])["test_accuracy"].idxmax()
    early = (pruned.loc[best, "removed"] == 1).mean()
    finding = f"{early:.0%} of the maxima are reached after one removal."
    caption = (
        "Left: means over seeds, colours from the worst to the best strategy of each "
        "dataset. Right: the mean lead over random orders, with its 95% interval"
    )
    figure = _draw_maxima(table)
    return Exhibit("maximum_accuracy", table, finding, figure, caption)


@exhibit
def best_signals(results: Results) -> Exhibit:
    """Name the signals of the highest maximum accuracy on each dataset, ties included.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
        Its table has the maximum accuracy of every strategy, in per cent, a column per
        dataset.
    """
    scores = task_means(wide(_compared(results), "test_selected")).T
    singles = scores[scores.index.isin(SIGNALS)]
    best = {}
    for task in singles:
        winners = singles.index[singles[task] >= singles[task].max() - TIE]
        best[task] = ", ".join(map(strategy_title, winners))
    finding = (
        f"{len(set(best.values()))} different signals, or ties of them, are best on "
        "some dataset."
    )
    return Exhibit(
        "maximum_accuracies",
        (100 * scores).round(1).rename_axis("strategy"),
        finding,
        shown=pd.Series(best, name="best single signal").to_frame(),
    )
