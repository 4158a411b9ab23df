"""The drawings that serve all figures: intervals, curves, heat maps and panels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
import seaborn.objects as so
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sfusion.analysis.appearance import (
    BAND,
    COLOURS,
    COLUMN,
    HIGHLIGHTED,
    LINE,
    OTHER,
    PAGE,
    PlainFigure,
    in_registry_order,
    strategy_title,
    styled,
)
from sfusion.pruning.strategies import STRATEGIES

# Of two series in a row, the first is drawn full and the second open.
MARKERS = ["o", "s"]
FILLED = [True, False]


def one_panel(width: float, height: float) -> tuple[PlainFigure, Axes]:
    """Make a figure of one panel.

    Parameters
    ----------
    width, height : float
        Inches.

    Returns
    -------
    PlainFigure
    Axes
    """
    figure = PlainFigure(figsize=(width, height))
    return figure, figure.subplots()


def draw_intervals(
    axes: Axes,
    table: pd.DataFrame,
    *,
    label: str,
    value: str = "value",
    low: str = "low",
    high: str = "high",
    series: str | None = None,
    colours: Mapping[str, str] | None = None,
) -> None:
    """Draw a row of intervals for each label.

    Parameters
    ----------
    axes : Axes
    table : DataFrame
        Tidy: a row per label and series.
    label : str
        Column that names the rows, drawn in order of appearance from the top.
    value, low, high : str
        Columns of the number and of the ends of its interval.
    series : str, optional
        Column of what stands beside each other in a row: two values at most.
    colours : mapping of str to str, optional
        A colour for each label; by default that of fusions.
    """
    labels = list(dict.fromkeys(table[label]))
    if colours is None:
        colours = dict.fromkeys(labels, COLOURS["fusion"])
    shown = table.assign(row=table[label], beside="")
    if series is not None:
        shown["beside"] = table[series]
    beside = list(dict.fromkeys(shown["beside"]))
    dodge = so.Dodge(by=["marker"])
    columns = {"x": value, "xmin": low, "xmax": high, "y": label}
    looks = {"color": "row", "marker": "beside", "fill": "beside"}
    plot = so.Plot(shown, **columns, **looks)
    plot = plot.add(so.Range(linewidth=1.0), dodge, orient="y", legend=False)
    plot = plot.add(so.Dot(pointsize=4, stroke=0.9), dodge, orient="y", legend=False)
    plot = plot.scale(
        y=so.Nominal(order=labels),
        color=dict(colours),
        marker=dict(zip(beside, MARKERS, strict=False)),
        fill=dict(zip(beside, FILLED, strict=False)),
    )
    plot = plot.label(x="", y="").theme(dict(mpl.rcParams))
    with warnings.catch_warnings():
        # seaborn 0.13 still passes an argument that pandas 3 no longer needs.
        warnings.filterwarnings("ignore", "The copy keyword is deprecated")
        plot.on(axes).plot()
    axes.tick_params(axis="y", length=0)


@styled
def interval_rows(
    table: pd.DataFrame,
    *,
    label: str,
    xlabel: str,
    value: str = "value",
    low: str = "low",
    high: str = "high",
    series: str | None = None,
    colours: Mapping[str, str] | None = None,
    spots: pd.DataFrame | None = None,
    zero: float = 0.0,
    zero_line: Mapping[str, Any] = LINE,
    margin: float | None = None,
    note: str = "",
    width: float = COLUMN + 0.6,
) -> PlainFigure:
    """Draw a figure of intervals, a row for each label.

    Parameters
    ----------
    table, label, value, low, high, series, colours
        See :func:`draw_intervals`.
    xlabel : str
        What the numbers are, with their unit.
    spots : DataFrame, optional
        Columns ``label`` and ``value``: a grey dot under its row for each of its rows,
        such as the single datasets.
    zero : float
        Where the vertical line stands that the intervals are compared with.
    zero_line : mapping of str to object
        Its look; with a ``label`` it is in the legend.
    margin : float, optional
        Half the width of a grey band around ``zero``.
    note : str
        Stands over the legend.
    width : float
        Inches.

    Returns
    -------
    PlainFigure
    """
    labels = list(dict.fromkeys(table[label]))
    height = 0.19 if series is None else 0.34
    figure, axes = one_panel(width, height * len(labels) + 0.8)
    axes.axvline(zero, **zero_line)
    if margin is not None:
        axes.axvspan(zero - margin, zero + margin, color="0.6", **BAND)
    columns = {"label": label, "value": value, "low": low, "high": high}
    draw_intervals(axes, table, **columns, series=series, colours=colours)
    if spots is not None:
        places = [labels.index(name) + 0.3 for name in spots[label]]
        axes.scatter(spots[value], places, color="0.6", s=4, linewidth=0)
    axes.set_xlabel(xlabel)
    handles = []
    if series is not None:
        look = {"color": COLOURS["fusion"], "linewidth": 1.0, "markersize": 4}
        for name, marker, filled in zip(
            dict.fromkeys(table[series]), MARKERS, FILLED, strict=False
        ):
            fill = "full" if filled else "none"
            handles.append(
                Line2D([], [], label=name, marker=marker, fillstyle=fill, **look)
            )
    if "label" in zero_line:
        handles.append(Line2D([], [], **zero_line))
    if handles or note:
        figure_legend(figure, handles, 2, note)
    return figure


def draw_heat_map(
    axes: Axes,
    values: pd.DataFrame,
    texts: pd.DataFrame | None = None,
    **look: Any,
) -> None:
    """Draw a heat map whose rows are strategies, their titles in their groups' colours.

    Parameters
    ----------
    axes : Axes
    values : DataFrame
        Index: names of strategies or signals.
    texts : DataFrame, optional
        Written into the cells.
    **look
        Passed to :func:`seaborn.heatmap`.
    """
    sns.heatmap(values, ax=axes, annot=texts, fmt="", annot_kws={"fontsize": 6}, **look)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0)
    titles = [strategy_title(name) for name in values.index]
    axes.set_yticks(np.arange(len(values)) + 0.5, titles, rotation=0)
    for text, name in zip(axes.get_yticklabels(), values.index, strict=True):
        text.set_color(COLOURS[STRATEGIES[name].group])


class Panel(NamedTuple):
    """One panel of :func:`panel_grid`.

    Attributes
    ----------
    title : str
    axes : Axes
    leftmost : bool
        Whether it stands in the first column, where the names of rows belong.
    """

    title: str
    axes: Axes
    leftmost: bool


def panel_grid(
    titles: Sequence[str], height: float, extra: float
) -> tuple[PlainFigure, list[Panel]]:
    """Lay out a panel for each title over the width of a page.

    Parameters
    ----------
    titles : sequence of str
    height : float
        Of a row of panels, inches.
    extra : float
        Height for legends, inches.

    Returns
    -------
    PlainFigure
    list of Panel
    """
    columns = 2 if len(titles) == 4 else min(3, len(titles))
    rows = -(-len(titles) // columns)
    figure = PlainFigure(figsize=(PAGE, height * rows + extra))
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for spare in grid.flat[len(titles) :]:
        spare.remove()
    panels = []
    for place, (title, axes) in enumerate(zip(titles, grid.flat, strict=False)):
        axes.set_title(title)
        panels.append(Panel(title, axes, leftmost=place % columns == 0))
    return figure, panels


def figure_legend(
    figure: PlainFigure, handles: Sequence[Line2D], columns: int, title: str = ""
) -> None:
    """Put a legend under all panels.

    Parameters
    ----------
    figure : PlainFigure
    handles : sequence of Line2D
    columns : int
    title : str
        Stands over it.
    """
    place = "outside lower center"
    figure.legend(handles=handles, loc=place, ncols=columns, title=title or None)


def depth_axis(
    axes: Axes, removed: Iterable[int], ylabel: str, leftmost: bool = True
) -> None:
    """Label a panel whose horizontal axis counts the layers removed.

    Parameters
    ----------
    axes : Axes
    removed : iterable of int
        Where a tick stands.
    ylabel : str
    leftmost : bool
        Whether the panel shows ``ylabel``.
    """
    axes.set_xticks(sorted(set(removed)))
    place = axes.get_subplotspec()
    if place is not None and place.is_last_row():
        axes.set_xlabel("layers removed")
    axes.set_ylabel(ylabel if leftmost else "")


def draw_curves(axes: Axes, frame: pd.DataFrame, x: str = "removed") -> None:
    """Draw accuracy over the layers removed: highlighted strategies, the rest grey.

    Parameters
    ----------
    axes : Axes
    frame : DataFrame
        Columns ``name`` (strategies), ``accuracy`` and ``x``; rows that agree in name
        and ``x`` are averaged, and a band holds the middle 80% of random orders.
    x : str
        Column of the horizontal axis.
    """
    means = frame.groupby(["name", x])["accuracy"].mean()
    for name, curve in means.groupby(level="name"):
        if name not in HIGHLIGHTED:
            axes.plot(curve.droplevel("name"), zorder=1, **OTHER)
    for name in in_registry_order(HIGHLIGHTED.keys() & means.index.unique("name")):
        look = {"markersize": 4, "markeredgewidth": 0, **HIGHLIGHTED[name]}
        axes.plot(means[name], **look)
        if name == "random" and x == "removed":
            draws = frame[frame["name"] == name].groupby(x)["accuracy"]
            ends = draws.quantile([0.1, 0.9]).unstack()
            axes.fill_between(ends.index, *ends.T.to_numpy(), fc=look["color"], **BAND)


def curve_legend(
    figure: PlainFigure,
    frame: pd.DataFrame,
    columns: int,
    title: str,
    lines: Sequence[Mapping[str, Any]] = (),
) -> None:
    """List the highlighted strategies that a frame has.

    Parameters
    ----------
    figure : PlainFigure
    frame : DataFrame
        Column ``name``.
    columns : int
    title : str
    lines : sequence of mappings of str to object
        Looks of horizontal lines, listed first.
    """
    handles = [Line2D([], [], **look) for look in lines]
    present = set(frame["name"])
    for name, look in HIGHLIGHTED.items():
        if name in present:
            label = strategy_title(name)
            handles.append(Line2D([], [], label=label, markersize=4, **look))
    handles.append(Line2D([], [], label="Other strategies", **OTHER))
    figure_legend(figure, handles, columns, title)
