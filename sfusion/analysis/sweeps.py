"""Notebook 03: how far each strategy gets, and which layers it removes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from sfusion.analysis.appearance import (
    COLUMN,
    strategy_colour,
    strategy_title,
    styled,
)
from sfusion.analysis.costs import strategies_ranked
from sfusion.analysis.drawing import (
    curve_legend,
    depth_axis,
    draw_curves,
    interval_rows,
    one_panel,
    panel_grid,
)
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.scores import (
    protocols,
    redrawn,
    task_means,
    wide,
    with_best_single,
)
from sfusion.analysis.statistics import TIE, bootstrapped, number_text
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import lookup
from sfusion.signals import SIGNALS

if TYPE_CHECKING:
    from sfusion.experiments.results import Results


# What is shown beside the signals, under its heading.
HEADINGS = {
    "random-forest": "Fusions",
    "random-forest-transfer": "Fusions",
    "linear-regression": "Fusions",
    "middle-first": "Fixed orders",
    "alternate": "Fixed orders",
    "bottom-first": "Fixed orders",
    "top-first": "Fixed orders",
    "angular-distance": "Redundancy and search",
    "block-influence": "Redundancy and search",
    "removal-loss": "Redundancy and search",
    "greedy-oracle": "Redundancy and search",
}

# Depths at which leads are shown.
SHOWN_REMOVALS = {1: "one layer removed", 3: "three layers removed"}


def changes_by_depth(results: Results, by_task: bool = False) -> pd.DataFrame:
    """Tabulate what every strategy has cost at each depth.

    Parameters
    ----------
    results : Results
    by_task : bool
        Whether datasets stand apart instead of their mean.

    Returns
    -------
    DataFrame
        A row per ``task``, ``name``, ``strategy`` (random draws apart), ``seed`` and
        ``removed``: ``change``, test accuracy minus the original's in percentage
        points. The mean over datasets has their count as ``task``.
    """
    frame = with_best_single(results.curves())
    originals = frame[frame["removed"] == 0].groupby(UNIT)["test_accuracy"].first()
    frame = frame.join(originals.rename("original"), on=UNIT)
    frame["change"] = 100 * (frame["test_accuracy"] - frame["original"])
    keys = ["name", "strategy", "seed", "removed"]
    if by_task:
        return frame[["task", *keys, "change"]]
    means = frame.groupby(keys, as_index=False)["change"].mean()
    means.insert(0, "task", f"mean over {frame['task'].nunique()} datasets")
    return means


@styled
def _draw_changes(table: pd.DataFrame) -> Figure:
    """Draw :func:`changes_by_depth`, a panel per ``task``."""
    titles = sorted(set(table["task"]))
    is_one = len(titles) == 1
    figure, panels = panel_grid(titles, 3.2 if is_one else 1.9, 0.2 if is_one else 0.6)
    for task, axes, leftmost in panels:
        rows = table[table["task"] == task]
        draw_curves(axes, rows, labelled=is_one)
        depth_axis(axes, rows["removed"], "minus the original (pp)", leftmost)
    if is_one:
        panels[0].axes.set_title("")
        panels[0].axes.set_ylabel("test accuracy minus the original's (pp)")
    else:
        curve_legend(figure, table["name"])
    return figure


@cache
def _against_random(results: Results) -> pd.DataFrame:
    if "random" not in set(results.curves()["name"]):
        raise StudyLacks("this study has no random orders")
    return strategies_ranked(results)


@exhibit
def accuracy_by_depth(results: Results) -> Exhibit:
    """Show what removals cost, layer by layer, as a mean over datasets.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = changes_by_depth(results)
    lead = _against_random(results)
    worse = [strategy_title(name) for name in lead.index[lead["high"] < 0]]
    better = int((lead["low"] > 0).sum())
    scores = protocols(results.curves())
    draws = scores[scores["name"] == "random"].groupby(["seed", "strategy"])
    means = draws["mean_accuracy"].mean()
    finding = (
        f"Of {len(lead)} strategies, {better} are ahead of random orders on average "
        f"over the depths, and {len(worse)} are behind: {', '.join(worse) or 'none'} "
        "(the whole 95% interval lies on one side of 0). There are "
        f"{len(means)} random orders in all for each dataset; the standard error of "
        f"their mean is {100 * means.sem():.1f} pp, which the intervals do not hold."
    )
    caption = (
        "Test accuracy minus the original's, percentage points, means over datasets "
        "and seeds. Grey band: the middle 80% of all other strategies. The panel is "
        "cut where random orders leave it."
    )
    figure = _draw_changes(table)
    return Exhibit("accuracy_by_depth", table, finding, figure, caption)


@exhibit
def accuracy_by_dataset(results: Results) -> Exhibit:
    """Show what removals cost, layer by layer, a panel for each dataset.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = changes_by_depth(results, by_task=True)
    caption = (
        "As the mean at the top of this notebook; every panel has an axis of its own."
    )
    figure = _draw_changes(table)
    return Exhibit("accuracy_by_depth_all", table, "", figure, caption)


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


def _order_text(steps: pd.Series) -> str:
    """Write a mean order of removal, such as "3, 2, 1, 4, 0; keeps 5"."""
    *going, kept = steps.sort_values(kind="stable").index
    return f"{', '.join(map(str, going))}; keeps {kept}"


@exhibit
def removal_order(results: Results) -> Exhibit:
    """Tabulate in which order every signal removes the layers, and what it keeps.

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
    for side, ranked in (("behind", lead["high"] < 0), ("ahead of", lead["low"] > 0)):
        names = lead.index[ranked].intersection(kept_longest.index)
        kept = sorted(set(kept_longest[names]))
        layers = ", ".join(map(str, kept)) or "none"
        sentences.append(
            f"Strategies {side} random orders keep longest, on average, "
            f"{'layer' if len(kept) == 1 else 'layers'} {layers}."
        )
    singles = [name for name in SIGNALS if name in steps.index]
    texts = {strategy_title(name): _order_text(steps.loc[name]) for name in singles}
    shown = pd.Series(texts, name="layers in the order in which they go")
    return Exhibit(
        "removal_order",
        orders,
        " ".join(sentences),
        caption="By the mean step of removal over datasets and seeds.",
        shown=shown.rename_axis("signal").to_frame(),
    )


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
    changes = table["change"].map(number_text)
    listed = ", ".join(f"layer {layer}: {text}" for layer, text in changes.items())
    finding = f"Change of accuracy with one layer left, pp, by that layer: {listed}."
    shown = table.rename_axis("layer that is left").rename(
        columns={"change": "minus the original (pp)", "paths": "pruning paths"}
    )
    return Exhibit("surviving_layer", table, finding, shown=shown.round(1))


@exhibit
def leads_over_random(results: Results) -> Exhibit:
    """Show every strategy's lead over random orders after one and three removals.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    frame = results.curves()
    frame = frame[frame["removed"].isin(SHOWN_REMOVALS)]
    frame = frame[frame["name"].isin([*SIGNALS, *HEADINGS, "random"])]
    scores = redrawn(frame, ["removed", "name"])
    if "random" not in scores.columns.unique("name"):
        raise StudyLacks("this study has no random orders")
    tables = []
    for removed, title in SHOWN_REMOVALS.items():
        if removed not in scores:
            continue
        rivals = scores[removed].drop(columns="random")
        leads = 100 * rivals.sub(scores[removed]["random"], axis=0)
        tables.append(bootstrapped(leads).assign(removed=title))
    table = pd.concat(tables, ignore_index=True).rename(columns={"label": "name"})
    table["title"] = table["name"].map(strategy_title)
    table["heading"] = table["name"].map(HEADINGS).fillna("Single signals")
    turned = _first_good_then_bad(table)
    finding = (
        "Ahead of random orders after one removal and behind them after three: "
        f"{', '.join(turned) or 'none'}."
    )
    colours = {strategy_title(name): strategy_colour(name) for name in table["name"]}
    figure = interval_rows(
        table.sort_values("heading", key=_heading_order, kind="stable"),
        label="title",
        group="heading",
        series="removed",
        sort=True,
        colours=colours,
        margin=1.0,
        sides=("random order ahead", "the strategy ahead"),
        xlabel="test accuracy minus that of random orders (pp)",
    )
    caption = (
        "Means over datasets with 95% intervals; colours are the families of signals "
        "of notebook 01; grey: within 1 pp."
    )
    return Exhibit("leads_over_random", table, finding, figure, caption)


def _heading_order(headings: pd.Series) -> pd.Series:
    order = ["Single signals", *dict.fromkeys(HEADINGS.values())]
    return headings.map(order.index)


def _first_good_then_bad(table: pd.DataFrame) -> list[str]:
    """Name the strategies whose lead is positive at first and then negative."""
    leads = table.pivot(index="title", columns="removed", values="value")
    first, last = SHOWN_REMOVALS.values()
    if last not in leads:
        return []
    return list(leads.index[(leads[first] > 0) & (leads[last] < 0)])


def _compared(results: Results) -> pd.DataFrame:
    """Score all strategies but controls and searches."""
    table = protocols(results.curves())
    return table[~table["group"].isin(["control", "search"])]


@styled
def _draw_maxima(table: pd.DataFrame) -> Figure:
    figure, axes = one_panel(COLUMN + 1, 2.2)
    axes.bar(table["removed"], table["percent"], color="0.4", width=0.6)
    for row in table.itertuples():
        look: dict[str, Any] = {"ha": "center", "va": "bottom"}
        axes.text(row.removed, row.percent, f"{row.percent:.0f}%", **look)
    depth_axis(axes, table["removed"], "of all maxima (%)")
    return figure


@exhibit
def where_maxima_lie(results: Results) -> Exhibit:
    """Show after how many removals the paper's score, a maximum, is reached.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    frame = results.curves()
    pruned = frame[frame["removed"] > 0]
    best = pruned.groupby([*UNIT, "strategy"])["test_accuracy"].idxmax()
    counts = pruned.loc[best, "removed"].value_counts(normalize=True)
    counts = counts.reindex(sorted(pruned["removed"].unique()), fill_value=0.0)
    table = (100 * counts).rename_axis("removed").rename("percent").reset_index()
    finding = (
        f"{table['percent'].iloc[0]:.0f}% of the maxima are reached after one removal: "
        "the score mostly asks which layer goes first."
    )
    caption = (
        "Each strategy on each dataset and seed has one maximum of test accuracy over "
        "the depths; random orders count apart."
    )
    figure = _draw_maxima(table)
    return Exhibit("where_maxima_lie", table, finding, figure, caption)


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
    shown = pd.Series(best, name="best single signal").rename_axis("dataset")
    return Exhibit(
        "maximum_accuracies",
        (100 * scores).round(1).rename_axis("strategy"),
        finding,
        shown=shown.to_frame(),
    )
