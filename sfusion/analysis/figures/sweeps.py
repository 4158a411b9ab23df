"""Figures of the walks: accuracy by depth, best scores, orders of removal."""

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sfusion import SfusionError
from sfusion.analysis.figures.look import (
    _BELOW,
    BASELINES,
    FLOOR,
    ORIGINAL,
    PAGE,
    PlainFigure,
    appearance,
    by_seed,
    centred,
    colour_bar,
    frame_off,
    interval_text,
    legend_below,
    name_rows,
    number_depths,
    number_layers,
    ordered,
    over_seeds,
    panel_grid,
    separate,
    styled,
    task_names,
    whiskers,
    write_cells,
)
from sfusion.analysis.tables import bootstrap, wide
from sfusion.pruning.strategies import STRATEGIES
from sfusion.signals import SIGNALS


@styled
def accuracy_by_depth(frame, floors=None):
    """Draw test accuracy on the way down, a panel a task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`, or some of its strategies. Fusions and the
        top-first baseline carry the range over seeds; single signals are means over seeds; the
        random band holds the middle 80% of draws and seeds.
    floors : DataFrame, optional
        ``Results.tasks``: adds the accuracy of TF-IDF with logistic regression.

    Returns
    -------
    Figure
    """
    tasks, names = task_names(frame), ordered(frame["name"])
    titles = [STRATEGIES[name].title for name in names]
    columns = 5 if max(map(len, titles)) < 28 else 3
    rows = -(-(len(titles) + 2) // columns)
    extra = 0.15 * rows + (0.6 if len(tasks) == 1 else 0.15)
    figure, panels = panel_grid(
        tasks, PAGE, 1.75, "layers removed", "test accuracy (%)", extra=extra, sharey=False
    )
    whiskered = [name for name in names if STRATEGIES[name].group in ("fusion", "position")]
    dodge = dict(zip(whiskered, 0.07 * centred(len(whiskered)), strict=True))
    for task, axes in zip(tasks, panels, strict=True):
        part = frame[frame["task"] == task]
        axes.axhline(
            100 * part.loc[part["removed"] == 0, "test_accuracy"].mean(), zorder=1.5, **ORIGINAL
        )
        if floors is not None:
            floor = floors.loc[floors["task"] == task, "tfidf_accuracy"].mean()
            axes.axhline(100 * floor, zorder=1.5, **FLOOR)
        for name in names:
            one, look = part[part["name"] == name], appearance(name)
            if name == "random":
                at = 100 * one.groupby("removed")["test_accuracy"].quantile([0.1, 0.9]).unstack()
                axes.fill_between(at.index, at[0.1], at[0.9], color="0.87", linewidth=0, zorder=0)
                mean = 100 * one.groupby("removed")["test_accuracy"].mean()
                axes.plot(mean.index, mean, color=look["color"], linewidth=1.5, zorder=2.5)
            elif name in dodge:
                seeds = by_seed(one)
                whiskers(axes, seeds.index + dodge[name], seeds, linewidth=1, zorder=3, **look)
            else:
                look |= {"marker": "", "linewidth": 0.8, "alpha": 0.9, "zorder": 2}
                mean = 100 * one.groupby("removed")["test_accuracy"].mean()
                axes.plot(mean.index, mean, **look)
        number_depths(axes, frame["removed"])
    note = over_seeds(frame)
    entries = {"Original model": Line2D([], [], **ORIGINAL)}
    if floors is not None:
        entries["TF-IDF floor"] = Line2D([], [], **FLOOR)
    for name in sorted(names, key=lambda name: (name in SIGNALS, name not in BASELINES)):
        look = appearance(name)
        if name not in dodge:
            look |= {"marker": "", "linewidth": 0.8}
        entries[STRATEGIES[name].title] = Line2D([], [], **look)
    if "random" in names:
        entries["Random order"] = (Patch(color="0.87"), entries["Random order"])
        note += "; grey band: middle 80% of random orders"
    legend_below(figure, entries.values(), columns, note, entries)
    return figure


@styled
def maximum_accuracy(table, column="paper"):
    """Draw every strategy's score on every task, as numbers on a heat map.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.tables.protocols`.
    column : {"paper", "honest"}
        Highest test accuracy over the depths, or that at the depth chosen on validation.

    Returns
    -------
    Figure
        Per task the mean over seeds and half their range; the colour says how far below the
        task's best strategy, whose number is bold. At the right the mean lead over the random
        baseline of the same task and seed, with its 95% bootstrap interval over both.

    Raises
    ------
    SfusionError
        When the random baseline is missing.
    """
    scores = 100 * wide(table, column)
    if "random" not in scores:
        raise SfusionError("maximum_accuracy compares with the random baseline: add its rows")
    names, tasks = list(scores), task_names(table)
    seeds = scores.groupby(level="task")
    means, half = seeds.mean().loc[tasks].T, (seeds.max() - seeds.min()).loc[tasks].T / 2
    below = means.max() - means
    texts, few = means.map("{:.1f}".format), len(tasks) < 6
    if table["seed"].nunique() > 1:
        texts += half.map(f"{' ' if few else chr(10)}±{{:.1f}}".format)
    below["mean"] = below.mean(axis=1)
    texts["mean"] = means.mean(axis=1).map("{:.1f}".format)
    lead = scores.sub(scores["random"], axis=0)
    lead = ["" if name == "random" else interval_text(*bootstrap(lead[name])) for name in names]
    cell = min(0.62, 3.7 / (len(tasks) + 1))
    figure = PlainFigure(
        figsize=(1.6 + cell * (len(tasks) + 1) + 1.7, (0.19 if few else 0.25) * len(names) + 1)
    )
    axes, right = figure.subplots(1, 2, width_ratios=[cell * (len(tasks) + 1), 1.05], sharey=True)
    image = axes.imshow(below, cmap=_BELOW, vmin=0, vmax=below.max(axis=None) or 1, aspect="auto")
    write_cells(axes, image, texts.to_numpy(), below.to_numpy() <= 1e-7, fontsize=6)
    for row, text in enumerate(lead):
        right.text(0.5, row, text, ha="center", va="center", fontsize=6)
    slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(tasks) + 1), [*tasks, "mean"], **slanted)
    score = {
        "paper": "maximum test accuracy (%)",
        "honest": "test accuracy (%) at validation's depth",
    }
    axes.set_xlabel(f"{score[column]}\n{over_seeds(table, 'mean ± half the range')}")
    right.set_xticks([])
    right.set_xlim(0, 1)
    right.set_xlabel("less random order\n(points, 95% interval)")
    name_rows(axes, names)
    separate(axes, names, color="white", linewidth=2)
    axes.axvline(len(tasks) - 0.5, color="white", linewidth=4)
    frame_off(axes)
    frame_off(right)
    colour_bar(figure, image, right, "points below the task's best strategy")
    return figure


@styled
def removal_order(orders, average=False):
    """Draw at which step each strategy removes each layer.

    Parameters
    ----------
    orders : DataFrame
        From :func:`sfusion.analysis.tables.removal_orders`; means over seeds and random draws.
    average : bool
        One panel with numbers, averaged over tasks too, instead of a panel a task.

    Returns
    -------
    Figure
    """
    names, depth = ordered(orders["name"]), int(orders["step"].max())
    if average:
        units = orders.groupby(["task", "name", "layer"], as_index=False)["step"].mean()
        orders = units.assign(task="mean over tasks")
    tasks = task_names(orders)
    if len(tasks) == 1:
        width, height = 2.2 + 0.27 * max(depth, 8), 0.17 * len(names) + 0.6
    else:
        width, height = PAGE, 0.105 * len(names) + 0.45
    figure, panels = panel_grid(tasks, width, height, "layer", "")
    for task, axes in zip(tasks, panels, strict=True):
        part = orders[orders["task"] == task]
        steps = part.pivot_table(index="name", columns="layer", values="step").loc[names]
        image = axes.imshow(steps, cmap="viridis", vmin=1, vmax=depth, aspect="auto")
        if len(tasks) == 1:
            write_cells(axes, image, steps.map("{:.1f}".format).to_numpy(), fontsize=6)
        number_layers(axes, steps.columns, 2 if depth > 8 and len(tasks) > 1 else 1)
        name_rows(axes, names)
        separate(axes, names, color="white", linewidth=1.5)
        frame_off(axes)
        if len(tasks) > 1:
            axes.tick_params(axis="y", labelsize=5.5)
    bar = colour_bar(figure, image, panels, f"mean step of removal (1 first, {depth} kept)")
    bar.set_ticks(np.unique(np.linspace(1, depth, min(depth, 6)).round()))
    bar.ax.invert_yaxis()
    return figure
