"""The drawings that serve all figures: intervals, curves, heat maps and panels.

One encoding holds in all of them: a colour is the family of what is drawn, a filled
mark the six-layer model or the only series of a figure, a hollow one its second series,
and a grey band what counts as none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sfusion.analysis.appearance import (
    BAND,
    COLOURS,
    HIGHLIGHTED,
    LINE,
    PAGE,
    PlainFigure,
    in_registry_order,
    strategy_title,
    styled,
)
from sfusion.analysis.statistics import interval_text
from sfusion.pruning.strategies import STRATEGIES

# Of two series in a row, the first is drawn filled and the second hollow.
MARKERS = ["o", "s"]
FILLED = [True, False]

# Half the distance of two series in a row, where rows are 1 apart.
DODGE = 0.2

# An interval that reaches this many times as far as most is cut off with an arrow.
FAR = 5.0


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


@dataclass(frozen=True)
class _Mark:
    """One interval of a figure: where it stands and how it looks."""

    place: float
    value: float
    low: float
    high: float
    marker: str
    filled: bool
    colour: str

    def draw(self, axes: Axes, lowest: float, highest: float) -> None:
        """Draw the interval, with arrows where it leaves the panel."""
        ends = np.clip([self.low, self.high], lowest, highest)
        axes.hlines(self.place, *ends, color=self.colour, linewidth=1.2, zorder=2)
        arrow: dict[str, Any] = {
            "color": self.colour,
            "markersize": 5,
            "clip_on": False,
            "zorder": 3,
        }
        if self.low < lowest:
            axes.plot(lowest, self.place, marker="<", **arrow)
        if self.high > highest:
            axes.plot(highest, self.place, marker=">", **arrow)
        if lowest <= self.value <= highest:
            fill = self.colour if self.filled else "white"
            look: dict[str, Any] = {
                "markerfacecolor": fill,
                "markersize": 5.5,
                "zorder": 4,
            }
            axes.plot(self.value, self.place, self.marker, color=self.colour, **look)


def _visible_range(marks: Sequence[_Mark], zero: float) -> tuple[float, float]:
    """Choose the ends of an axis that holds ``zero`` and most intervals in full."""
    ends = np.array([(mark.low, mark.high) for mark in marks])
    reach = FAR * np.median(np.abs(ends - zero).max(axis=1))
    lowest = max(min(ends.min(), zero), zero - reach)
    highest = min(max(ends.max(), zero), zero + reach)
    margin = 0.04 * (highest - lowest) or 1.0
    return lowest - margin, highest + margin


def _rows(
    table: pd.DataFrame, headings: Sequence[str], label: str, group: str | None
) -> list[tuple[str, str]]:
    """List a figure's rows from the top: each heading, then the labels under it."""
    rows = []
    for heading in headings:
        if heading:
            rows.append((heading, ""))
        under = table[table[group] == heading] if group else table
        for name in dict.fromkeys(under[label]):
            rows.append((heading, name))
    return rows


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
    group: str | None = None,
    sort: bool = False,
    colours: Mapping[str, str] | None = None,
    spots: pd.DataFrame | None = None,
    zero: float = 0.0,
    zero_line: Mapping[str, Any] = LINE,
    margin: float | None = None,
    sides: tuple[str, str] | None = None,
    digits: int | None = 1,
    width: float = PAGE,
) -> PlainFigure:
    """Draw a figure of intervals, a row for each label, with the numbers beside them.

    Intervals that reach much further than the others are cut off with an arrow; their
    numbers stand in the column at the right like all others.

    Parameters
    ----------
    table : DataFrame
        Tidy: a row per label and series.
    label : str
        Column that names the rows, drawn from the top down.
    xlabel : str
        What the numbers are, with their unit.
    value, low, high : str
        Columns of the number and of the ends of its interval.
    series : str, optional
        Column of what stands beside each other in a row: two values at most, the first
        filled and the second hollow.
    group : str, optional
        Column of the heading under which a row stands.
    sort : bool
        Whether the labels of a heading are sorted, the highest number of the first
        series at the top; otherwise they keep their order.
    colours : mapping of str to str, optional
        A colour for each label; by default that of fusions.
    spots : DataFrame, optional
        Columns ``label`` and ``value``: a grey dot under its row for each of its rows,
        such as the single datasets.
    zero : float
        Where the vertical line stands that the intervals are compared with.
    zero_line : mapping of str to object
        Its look; with a ``label`` it is in the legend.
    margin : float, optional
        Half the width of a grey band around ``zero``.
    sides : tuple of two str, optional
        What a number left of ``zero`` says, and one right of it.
    digits : int, optional
        Of the numbers in the column at the right; without it there is no column.
    width : float
        Inches.

    Returns
    -------
    PlainFigure
    """
    beside = list(dict.fromkeys(table[series])) if series else [""]
    kinds = table[series] if series else pd.Series("", index=table.index)
    ordered = table
    if sort:
        is_first = kinds == beside[0]
        first = table[is_first].sort_values(value, ascending=False, kind="stable")
        ordered = pd.concat([first, table[~is_first]])
    headings = list(dict.fromkeys(table[group])) if group else [""]
    rows = _rows(ordered, headings, label, group)
    marks = []
    for place, (heading, name) in enumerate(rows):
        is_row = table[label] == name
        if group:
            is_row &= table[group] == heading
        for row in table[is_row].to_dict("records"):
            number = beside.index(row[series]) if series else 0
            shift = (2 * number - 1) * DODGE if len(beside) > 1 else 0.0
            marks.append(
                _Mark(
                    place + shift,
                    row[value],
                    row[low],
                    row[high],
                    MARKERS[number],
                    FILLED[number],
                    (colours or {}).get(name, COLOURS["fusion"]),
                )
            )
    height = 0.42 if len(beside) > 1 else 0.26
    figure, axes = one_panel(width, height * len(rows) + 0.9)
    axes.axvline(zero, **zero_line)
    if margin is not None:
        axes.axvspan(zero - margin, zero + margin, color="0.6", **BAND)
    lowest, highest = _visible_range(marks, zero)
    if spots is not None:
        lowest = min(lowest, spots[value].min())
        highest = max(highest, spots[value].max())
        places = [rows.index(("", name)) + 0.3 for name in spots[label]]
        axes.scatter(spots[value], places, color="0.6", s=6, linewidth=0)
    for mark in marks:
        mark.draw(axes, lowest, highest)
        if digits is not None:
            text = interval_text(
                mark.value, mark.low, mark.high, digits=digits, signed=zero == 0
            )
            look: dict[str, Any] = {
                "transform": axes.get_yaxis_transform(),
                "va": "center",
            }
            axes.text(1.03, mark.place, text, **look)
    axes.set_xlim(lowest, highest)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [name or heading for heading, name in rows])
    axes.tick_params(axis="y", length=0)
    for tick, (_, name) in zip(axes.get_yticklabels(), rows, strict=True):
        if not name:
            tick.set_fontweight("bold")
    axes.set_xlabel(xlabel)
    if sides is not None:
        _say_sides(axes, *sides)
    handles = _series_handles(beside)
    if "label" in zero_line:
        handles.append(Line2D([], [], **zero_line))
    if handles:
        figure_legend(figure, handles, 3)
    return figure


def _say_sides(axes: Axes, left: str, right: str) -> None:
    """Write over a panel which side is ahead on the left of 0, and on the right."""
    look: dict[str, Any] = {"va": "bottom", "color": "0.3"}
    axes.text(0, 1.0, f"← {left}", ha="left", transform=axes.transAxes, **look)
    axes.text(1, 1.0, f"{right} →", ha="right", transform=axes.transAxes, **look)


def _series_handles(names: Sequence[str]) -> list[Line2D]:
    """Make a legend's entries of two series; one alone needs none."""
    handles: list[Line2D] = []
    if len(names) < 2:
        return handles
    look: dict[str, Any] = {"color": "0.25", "linewidth": 1.2, "markersize": 5.5}
    for name, marker, filled in zip(names, MARKERS, FILLED, strict=False):
        fill = "full" if filled else "none"
        entry = Line2D([], [], label=name, marker=marker, fillstyle=fill, **look)
        handles.append(entry)
    return handles


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
    sns.heatmap(values, ax=axes, annot=texts, fmt="", annot_kws={"fontsize": 9}, **look)
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


def figure_legend(figure: PlainFigure, handles: Sequence[Line2D], columns: int) -> None:
    """Put a legend under all panels.

    Parameters
    ----------
    figure : PlainFigure
    handles : sequence of Line2D
    columns : int
    """
    figure.legend(handles=handles, loc="outside lower center", ncols=columns)


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


def draw_curves(axes: Axes, changes: pd.DataFrame, labelled: bool) -> None:
    """Draw what removals cost: four strategies as lines, all others as a band.

    The panel is zoomed to the lines without that of random orders, which may leave it.

    Parameters
    ----------
    axes : Axes
    changes : DataFrame
        Columns ``name`` (strategies), ``removed`` (layers) and ``change``, accuracy
        minus the original's in percentage points; rows that agree in name and
        ``removed`` are averaged.
    labelled : bool
        Whether the lines are named at their ends.
    """
    means = changes.groupby(["removed", "name"])["change"].mean().unstack()
    highlighted = [name for name in HIGHLIGHTED if name in means]
    others = means.drop(columns=highlighted)
    if others.shape[1] > 1:
        ends = others.quantile([0.1, 0.9], axis=1)
        axes.fill_between(means.index, *ends.to_numpy(), color="0.6", **BAND)
    axes.axhline(0, **LINE)
    for name in highlighted:
        axes.plot(means[name], markersize=4.5, **HIGHLIGHTED[name])
    zoomed = means[[name for name in highlighted if name != "random"]]
    lowest = 1.15 * min(zoomed.min(axis=None), -0.5)
    axes.set_ylim(lowest, max(1.0, 1.3 * zoomed.max(axis=None)))
    if labelled:
        _label_ends(axes, means[highlighted], lowest)


def _label_ends(axes: Axes, lines: pd.DataFrame, lowest: float) -> None:
    """Name lines where they end, or where they leave the panel at the bottom."""
    last = lines.index[-1]
    inside = lines.iloc[-1][lines.iloc[-1] >= lowest].sort_values(ascending=False)
    step = 0.07 * (axes.get_ylim()[1] - lowest)
    height = np.inf
    for name, end in inside.items():
        height = min(end, height - step)
        look: dict[str, Any] = {"color": HIGHLIGHTED[name]["color"], "va": "center"}
        axes.annotate(
            strategy_title(name),
            (last, height),
            xytext=(7, 0),
            textcoords="offset points",
            annotation_clip=False,
            **look,
        )
    for name in lines.columns.difference(inside.index):
        line = lines[name]
        below = line.index[line < lowest][0]
        above = line.index[line.index < below][-1]
        part = (line[above] - lowest) / (line[above] - line[below])
        axes.annotate(
            f"{strategy_title(name)}, {line.iloc[-1]:.0f} at the end".replace("-", "−"),
            (above + part * (below - above), lowest),
            xytext=(-6, 6),
            textcoords="offset points",
            ha="right",
            color="0.3",
        )


def curve_legend(figure: PlainFigure, names: Iterable[str]) -> None:
    """List the highlighted strategies under all panels.

    Parameters
    ----------
    figure : PlainFigure
    names : iterable of str
        Strategies that are drawn.
    """
    handles = []
    for name in in_registry_order(HIGHLIGHTED.keys() & set(names)):
        label = strategy_title(name)
        handles.append(Line2D([], [], label=label, markersize=4.5, **HIGHLIGHTED[name]))
    figure_legend(figure, handles, 4)
