"""Figures of the distillation, against its controls."""

from matplotlib.lines import Line2D

from sfusion.analysis.figures.look import (
    ARM_STYLES,
    ARM_TITLES,
    COLUMN,
    ORIGINAL,
    PAGE,
    ZERO,
    PlainFigure,
    bounds,
    by_seed,
    centred,
    handles_of,
    legend_below,
    number_depths,
    over_seeds,
    panel_grid,
    styled,
    task_names,
    whiskers,
)
from sfusion.analysis.tables import UNIT


@styled
def distillation_by_depth(frame):
    """Draw the arms of the distillation by depth, a panel a task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.distilled`.

    Returns
    -------
    Figure
        Means over seeds with their range; the horizontal lines are means over seeds.
    """
    tasks, present = task_names(frame), set(frame["condition"])
    arms = [arm for arm in ARM_STYLES if arm in present]
    figure, panels = panel_grid(
        tasks, PAGE, 1.7, "layers removed", "test accuracy (%)", extra=0.45, sharey=False
    )
    longer = ORIGINAL | {"linestyle": (0, (1, 1.5))}
    for task, axes in zip(tasks, panels, strict=True):
        part = frame[frame["task"] == task]
        axes.axhline(100 * part.drop_duplicates("seed")["original"].mean(), **ORIGINAL)
        extra = part.loc[part["condition"] == "original-same-steps", "test_accuracy"]
        if len(extra):
            axes.axhline(100 * extra.mean(), **longer)
        for arm, shift in zip(arms, 0.1 * centred(len(arms)), strict=True):
            seeds = by_seed(part[part["condition"] == arm])
            whiskers(axes, seeds.index + shift, seeds, **ARM_STYLES[arm])
        number_depths(axes, frame.loc[frame["condition"].isin(arms), "removed"])
    handles = [Line2D([], [], label="Original model", **ORIGINAL)]
    if "original-same-steps" in present:
        handles.append(Line2D([], [], label="Original model, same steps", **longer))
    handles += [Line2D([], [], label=ARM_TITLES[arm], **ARM_STYLES[arm]) for arm in arms]
    legend_below(figure, handles, 3, over_seeds(frame))
    return figure


@styled
def distillation_gain(frame):
    """Draw what the teacher adds to the same steps without one.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.distilled`.

    Returns
    -------
    Figure
        Mean over tasks with its 95% bootstrap interval over tasks and seeds; a dot a task.
    """
    arms = frame[frame["condition"].isin(["distilled", "same-steps"])]
    wide_arms = arms.pivot(index=[*UNIT, "removed"], columns="condition", values="test_accuracy")
    gain = 100 * (wide_arms["distilled"] - wide_arms["same-steps"])
    figure = PlainFigure(figsize=(COLUMN, 2.2))
    axes = figure.subplots()
    axes.axhline(0, **ZERO)
    spots = gain.groupby(level=["task", "removed"]).mean().reset_index(name="gain")
    axes.plot(
        spots["removed"] + 0.16, spots["gain"], "o", color="0.6", markersize=2, label="a task"
    )
    parts = {removed: part.droplevel("removed") for removed, part in gain.groupby("removed")}
    label = "mean over tasks, 95% bootstrap interval"
    look = {"label": label, "capsize": 2, "elinewidth": 0.7} | ARM_STYLES["distilled"]
    mean, *arms = bounds(parts.values())
    axes.errorbar(list(parts), mean, yerr=arms, **look)
    number_depths(axes, parts)
    axes.set_xlabel("layers removed")
    axes.set_ylabel("distilled less same steps\nwithout a teacher (points)")
    legend_below(figure, handles_of(axes), 2)
    return figure
