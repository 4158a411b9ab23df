"""Figures of the outcome: size, protocols, claims."""

import textwrap

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from sfusion.analysis.claims import RATIO
from sfusion.analysis.figures.look import (
    COLOURS,
    COLUMN,
    DENOMINATOR_STYLES,
    FOLDS,
    LINES,
    ORIGINAL,
    PAGE,
    SINGLE,
    THRESHOLD,
    VERDICTS,
    ZERO,
    PlainFigure,
    appearance,
    bounds,
    centred,
    handles_of,
    interval_text,
    legend_below,
    name_rows,
    number_depths,
    separate,
    styled,
)
from sfusion.analysis.tables import UNIT, best_single, wide


@styled
def accuracy_to_size(frame):
    """Draw accuracy against size, both as a share of the original's.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`.

    Returns
    -------
    Figure
        Means over tasks with their 95% bootstrap intervals over tasks and seeds, for all
        parameters and for the encoder's; the single signal is that of :func:`best_single`.
    """
    lines = {
        "Random forest": (frame[frame["name"] == "random-forest"], appearance("random-forest")),
        "Best single signal by validation": (best_single(frame), SINGLE),
        "Random order": (frame[frame["name"] == "random"], appearance("random")),
        "Top layers first": (frame[frame["name"] == "top-first"], appearance("top-first")),
    }
    lines = {label: line for label, line in lines.items() if len(line[0])}
    figure = PlainFigure(figsize=(PAGE, 2.9))
    panels = figure.subplots(1, 2, sharey=True)
    sizes = ["parameters", "encoder_parameters"]
    originals = frame[frame["removed"] == 0].groupby(UNIT)[["test_accuracy", *sizes]].first()
    for axes, size in zip(panels, sizes, strict=True):
        axes.axhline(100, **ORIGINAL)
        axes.set_xlabel(f"share of the original's {size.replace('_', ' ')} (%)")
    for shift, (label, (rows, look)) in zip(centred(len(lines)), lines.items(), strict=True):
        means = rows.groupby([*UNIT, "removed"])[["test_accuracy", *sizes]].mean()
        share = 100 * means / originals.reindex(means.index.droplevel("removed")).to_numpy()
        depths = share.groupby("removed")
        accuracy = {depth: part["test_accuracy"].droplevel("removed") for depth, part in depths}
        mean, *arms = bounds(accuracy.values())
        for axes, size in zip(panels, sizes, strict=True):
            places = depths[size].mean() + 0.5 * shift
            axes.errorbar(places, mean, yerr=arms, elinewidth=0.7, label=label, **look)
    for axes in panels:
        axes.invert_xaxis()
    panels[0].set_ylabel("share of the original's\ntest accuracy (%)")
    handles = [Line2D([], [], label="Original model", **ORIGINAL), *handles_of(panels[0])]
    title = "mean over tasks, 95% bootstrap interval over tasks and seeds"
    legend_below(figure, handles, 5, title)
    return figure


@styled
def ratio_by_denominator(readings):
    """Draw the accuracy-to-size ratio under every denominator, and what it gains in per cent.

    Parameters
    ----------
    readings : DataFrame
        From :func:`sfusion.analysis.claims.ratio_readings`: means over tasks and seeds.

    Returns
    -------
    Figure
        Left the fold change from the original to the distilled model; right what distillation
        adds to the pruned model's own ratio. The paper's number appears as a per cent only:
        as a fold change it is out of reach of these models.
    """
    figure = PlainFigure(figsize=(PAGE, 2.7))
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    for place, (name, part) in enumerate(readings.groupby("denominator", sort=False)):
        look = DENOMINATOR_STYLES[place] | {"label": name, "color": COLOURS["fusion"]}
        left.plot(part["removed"], part["distilled"], **look)
        right.plot(part["removed"], part["over_pruned_percent"], **look)
    paper = {"color": "0.4", "linestyle": LINES[3], "linewidth": 0.9}
    left.axhline(1 + RATIO / 100, label=f"the paper's {RATIO}, read as per cent gained", **paper)
    right.axhline(RATIO, **paper)
    left.axhline(1, **ZERO)
    right.axhline(0, **ZERO)
    left.set_yscale("log", base=2)
    gains = left.secondary_yaxis("right")  # takes over the scale, so it must come after it
    for axis in (left.yaxis, gains.yaxis):
        axis.set_major_locator(FixedLocator(FOLDS))
        axis.set_minor_locator(NullLocator())
    left.yaxis.set_major_formatter("{x:g}")
    gains.yaxis.set_major_formatter(lambda fold, _: f"{100 * (fold - 1):+.0f}".replace("-", "−"))
    gains.set_ylabel("gain over the original (%)")
    left.set_ylabel("accuracy over size, fold change\noriginal to distilled")
    right.set_ylabel("ratio gained by distillation\nover the pruned model (%)")
    for axes in (left, right):
        axes.set_xlabel("layers removed")
        number_depths(axes, readings["removed"])
    legend_below(figure, handles_of(left), 3, "mean over tasks and seeds")
    return figure


@styled
def protocol_gap(table):
    """Draw by how much choosing the depth on test flatters each strategy.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.tables.protocols`.

    Returns
    -------
    Figure
        Mean over tasks with its 95% bootstrap interval over tasks and seeds; a dot a task.
    """
    gaps = 100 * wide(table, "optimism")
    names = list(gaps)
    figure = PlainFigure(figsize=(COLUMN, 0.17 * len(names) + 0.8))
    axes = figure.subplots()
    axes.axvline(0, **ZERO)
    for row, name in enumerate(names):
        spots = gaps[name].groupby(level="task").mean()
        axes.plot(spots, [row + 0.22] * len(spots), "o", color="0.6", markersize=1.6)
        mean, *arms = bounds([gaps[name]])
        axes.errorbar(mean, [row], xerr=arms, **appearance(name) | {"linestyle": ""})
    name_rows(axes, names)
    separate(axes, names, color="0.85", linewidth=0.6)
    axes.set_xlabel(
        "maximum test accuracy less that at validation's depth (points)\n"
        "mean over tasks, 95% bootstrap interval; small: a task",
        loc="right",
    )
    return figure


@styled
def scoreboard(frame):
    """Draw each claim's number and interval beside what the claim asks for.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.claims.scoreboard`.

    Returns
    -------
    Figure
        A row a claim, each on its own scale, with 95% bootstrap intervals. A claim that cannot
        be tested has no mark for what it asks, since that has no unit.
    """
    figure = PlainFigure(figsize=(PAGE, 0.74 * len(frame) + 0.3))
    grid = figure.subplots(len(frame), 3, width_ratios=[2.3, 2.4, 1.1], squeeze=False)
    for row, (words, axes, verdict) in zip(frame.itertuples(), grid, strict=True):
        colour = VERDICTS[row.verdict]
        statement = textwrap.fill(row.paper, 46)
        words.text(0, 1, row.Index, weight="bold", va="top")
        words.text(0.1, 1, statement, va="top", fontsize=6.5)
        values = [row.ours, row.low, row.high]
        digits = 3 if 0 < max(map(abs, values)) < 0.1 else 2
        numbers = "ours " + interval_text(*values, digits)
        threshold = f"threshold {row.needed:.2f}"
        if row.verdict == "cannot be tested":
            threshold = f"claimed {row.needed:.4g}, no unit given"
        else:
            axes.axvline(row.needed, **THRESHOLD)
            values.append(row.needed)
        # Not as whiskers of the point: the interval of a maximum need not hold it.
        axes.plot([row.low, row.high], [0, 0], color=colour, marker="|", markersize=5)
        axes.plot([row.ours], [0], color=colour, marker="o", markersize=4)
        axes.set_xlim(*_scale(row.measure, values))
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(textwrap.fill(row.measure, 56), fontsize=6.5)
        verdict.text(0, 1, row.verdict, color=colour, weight="bold", va="top")
        verdict.text(0, 0.5, f"{numbers}\n{threshold}", va="top", fontsize=6.5)
        words.set_axis_off()
        verdict.set_axis_off()
    handles = [Line2D([], [], label="threshold of the claim", **THRESHOLD)]
    handles.append(Line2D([], [], color="0.4", marker="o", label="ours, 95% bootstrap interval"))
    legend_below(figure, handles, 2)
    return figure


def _scale(measure, values):
    """Give shares and correlations their whole range, and other measures what they need."""
    if "share of" in measure:
        return -0.03, 1.03
    if measure.startswith("correlation"):
        return -1.03, 1.03
    margin = 0.12 * (max(values) - min(values)) or 0.1
    return min(values) - margin, max(values) + margin
