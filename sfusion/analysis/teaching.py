"""Notebook 04: what the teacher adds to plain further training."""

from matplotlib.lines import Line2D

from sfusion.analysis.appearance import BASELINE, CONDITIONS, ORIGINAL, styled
from sfusion.analysis.drawing import (
    depth_axis,
    figure_legend,
    interval_rows,
    panel_grid,
)
from sfusion.analysis.scores import redrawn, task_means
from sfusion.analysis.statistics import bootstrapped


@styled
def distillation_by_depth(frame):
    """Draw the conditions of the distillation by depth, a panel per task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`distilled`.

    Returns
    -------
    Figure
        Means over seeds; the horizontal lines are the original, as it was and after the
        same extra steps.
    """
    tasks = sorted(set(frame["task"]))
    figure, panels = panel_grid(tasks, 1.6, 0.6)
    longer = frame["condition"] == "original-same-steps"
    shown = frame[frame["condition"].isin(CONDITIONS)].assign(
        accuracy=lambda f: 100 * f["test_accuracy"]
    )
    for task, axes, leftmost in panels:
        own = frame["task"] == task
        axes.axhline(100 * frame.loc[own, "original"].mean(), **ORIGINAL)
        axes.axhline(100 * frame.loc[own & longer, "test_accuracy"].mean(), **BASELINE)
        part = shown[shown["task"] == task]
        for condition, look in CONDITIONS.items():
            rows = (
                part[part["condition"] == condition]
                .groupby("removed")["accuracy"]
                .mean()
            )
            axes.plot(rows, markersize=4, **look)
        depth_axis(axes, shown["removed"], "test accuracy (%)", leftmost)
    longer = BASELINE | {"label": "Original model, same steps"}
    looks = [
        ORIGINAL,
        longer,
        *({"markersize": 4} | look for look in CONDITIONS.values()),
    ]
    figure_legend(
        figure, [Line2D([], [], **look) for look in looks], 3, "means over seeds"
    )
    return figure


def distillation_gain(frame):
    """Draw what the teacher adds to the same steps without one.

    Parameters
    ----------
    frame : DataFrame
        From :func:`distilled`.

    Returns
    -------
    Figure
        Mean over tasks with its 95% bootstrap interval; a dot per task.
    """
    pair = redrawn(frame, ["condition", "removed"])
    gain = 100 * (pair["distilled"] - pair["same-steps"])
    table = bootstrapped({f"{removed} removed": gain[removed] for removed in gain})
    means = task_means(gain).rename(columns="{} removed".format)
    return interval_rows(
        table,
        label="label",
        spots=means.melt(var_name="label"),
        xlabel="distilled minus same steps, no teacher\n(pp, 95% interval)",
    )
