"""Figures of the evidence beyond the paper: contrasts, regret, overhead."""

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from sfusion.analysis.figures.look import (
    COLOURS,
    FOLDS,
    PAGE,
    ZERO,
    PlainFigure,
    appearance,
    bounds,
    legend_below,
    name_rows,
    ordered,
    separate,
    styled,
)
from sfusion.analysis.statistics import MEASURES
from sfusion.analysis.tables import UNIT

_PAIR = (
    {"marker": "o", "markerfacecolor": COLOURS["fusion"]},
    {"marker": "s", "markerfacecolor": "white"},
)


@styled
def contrasts(table, by="measure"):
    """Draw every contrast as an interval, and how probable an improvement is.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.statistics.contrasts` or :func:`sfusion.analysis.statistics.across`.
    by : {"measure", "study"}
        What stands beside each other in a row: two measures or two studies.

    Returns
    -------
    Figure
        Left the difference in points of test accuracy, right the probability that the first is
        better on a task and seed drawn at random; 95% bootstrap intervals over tasks and seeds.
    """
    titles = list(dict.fromkeys(table["contrast"]))
    pair = MEASURES if by == "measure" else {name: name for name in table[by].unique()}
    looks = [{**look, "color": COLOURS["fusion"], "markersize": 4} for look in _PAIR]
    figure = PlainFigure(figsize=(PAGE, 0.36 * len(titles) + 1.0))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.6, 1])
    left.axvline(0, **ZERO)
    right.axvline(0.5, **ZERO)
    columns = (
        (left, 100, ("difference", "low", "high")),
        (right, 1, ("improvement", "improvement_low", "improvement_high")),
    )
    for shift, name, look in zip((-0.15, 0.15), pair, looks, strict=True):
        part = table[table[by] == name]
        rows = [titles.index(title) + shift for title in part["contrast"]]
        for axes, scale, (middle, low, high) in columns:
            axes.hlines(rows, scale * part[low], scale * part[high], color=look["color"], lw=0.9)
            axes.plot(scale * part[middle], rows, linestyle="", **look)
    left.set_yticks(range(len(titles)), titles)
    left.set_ylim(len(titles) - 0.5, -0.5)
    right.set_xlim(-0.03, 1.03)
    left.set_xlabel("difference in test accuracy (points)")
    right.set_xlabel("probability of improvement")
    handles = [
        Line2D([], [], label=title, **look)
        for title, look in zip(pair.values(), looks, strict=True)
    ]
    which = "test accuracy" if by == "measure" else "mean test accuracy over the depths"
    legend_below(figure, handles, 2, f"{which}, 95% bootstrap interval over tasks and seeds")
    return figure


@styled
def regret(frame):
    """Draw how far the sets that strategies leave are from the best sets of their size.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.costs.regret`.

    Returns
    -------
    Figure
        Left the regret in points of test accuracy, mean over depths and tasks with its 95%
        bootstrap interval over tasks and seeds, a small dot a task; right the place among all
        sets of that size by validation.
    """
    names = ordered(frame["name"])
    means = frame.groupby([*UNIT, "name"])[["regret", "place"]].mean()
    figure = PlainFigure(figsize=(PAGE, 0.17 * len(names) + 0.8))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[1.4, 1])
    left.axvline(0, **ZERO)
    right.axvline(50, **ZERO)
    for row, name in enumerate(names):
        one = 100 * means.xs(name, level="name")
        look = appearance(name) | {"linestyle": ""}
        for axes, column in ((left, "regret"), (right, "place")):
            spots = one[column].groupby(level="task").mean()
            axes.plot(spots, [row + 0.22] * len(spots), "o", color="0.6", markersize=1.6)
            mean, *arms = bounds([one[column]])
            axes.errorbar(mean, [row], xerr=arms, **look)
    name_rows(left, names)
    for axes in (left, right):
        separate(axes, names, color="0.85", linewidth=0.6)
    left.set_xlabel("regret to the best set (points)\nmean over depths, 95% interval")
    right.set_xlabel("sets of that size ranked below it (%)\n50: chance")
    return figure


@styled
def overhead(table):
    """Draw what each strategy costs against what it buys.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.costs.ledger`.

    Returns
    -------
    Figure
        Left all FLOPs as a multiple of those of dropping the top layers; right the mean test
        accuracy over the depths less that of dropping the top layers, with its 95% bootstrap
        interval over tasks and seeds.
    """
    names = ordered(table.index)
    figure = PlainFigure(figsize=(PAGE, 0.17 * len(names) + 0.8))
    left, right = figure.subplots(1, 2, sharey=True)
    left.axvline(1, **ZERO)
    right.axvline(0, **ZERO)
    for row, name in enumerate(names):
        one, look = table.loc[name], appearance(name) | {"linestyle": ""}
        left.plot([one["times"]], [row], **look)
        right.hlines(row, one["low"], one["high"], color=look["color"], linewidth=0.9)
        right.plot([one["gain"]], [row], **look)
    left.set_xscale("log")
    highest = table["times"].max()
    ticks = [fold for fold in (*FOLDS, 16, 24, 32) if 0.9 <= fold <= 1.3 * highest]
    left.xaxis.set_major_locator(FixedLocator(ticks))
    left.xaxis.set_minor_locator(NullLocator())
    left.xaxis.set_major_formatter("{x:g}")
    name_rows(left, names)
    for axes in (left, right):
        separate(axes, names, color="0.85", linewidth=0.6)
    left.set_xlabel("cost: FLOPs as a multiple of\ndropping the top layers")
    right.set_xlabel(
        "what it buys: mean test accuracy over the\ndepths, less the same (points, 95% interval)"
    )
    return figure
