"""Notebook 04: what the teacher adds to plain further training."""

from matplotlib.lines import Line2D

from sfusion.analysis.drawing import (
    BASELINE,
    COLOURS,
    CONDITIONS,
    ORIGINAL,
    bootstrapped,
    depth_axis,
    draw_intervals,
    draw_spots,
    figure_legend,
    panel_grid,
    row_axes,
    styled,
)
from sfusion.analysis.scores import redrawn


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
    for place, (task, axes) in enumerate(zip(tasks, panels, strict=True)):
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
        depth_axis(axes, shown["removed"], "test accuracy (%)", place % 3 == 0)
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


@styled
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
    xlabel = "distilled minus same steps, no teacher\n(percentage points, 95% interval)"
    figure, axes = row_axes(gain.shape[1], xlabel, height=0.24)
    draw_spots(axes, gain, list(gain))
    draw_intervals(
        axes, [f"{n} removed" for n in gain], bootstrapped(gain), COLOURS["fusion"]
    )
    return figure
