"""What the teacher adds to plain further training of the pruned model."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sfusion.analysis.appearance import BASELINE, CONDITIONS, ORIGINAL, styled
from sfusion.analysis.drawing import (
    depth_axis,
    figure_legend,
    interval_rows,
    panel_grid,
)
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import distilled, protocols, redrawn, task_means
from sfusion.analysis.statistics import (
    Interval,
    bootstrapped,
    comparison_text,
    interval_text,
    number_text,
    units,
)
from sfusion.experiments.results import Results

# Two conditions whose difference is a part of what the distilled model gains.
PARTS = {
    "distilled against pruned": ("distilled", "pruned"),
    "same steps against pruned": ("same-steps", "pruned"),
    "distilled against same steps": ("distilled", "same-steps"),
    "original, the same steps against none": ("original-same-steps", "original"),
}

# What conditions are called in tables, where that is not their name.
TITLES = {
    "same-steps": "same steps",
    "original-same-steps": "original, same steps",
}


@exhibit
def recipe(results: Results) -> Exhibit:
    """Show how the study distils.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    settings = results.manifest["profile"]["distillation"]
    table = pd.Series(settings, name="value").rename_axis("setting").to_frame()
    return Exhibit("distillation_recipe", table, shown=table)


@styled
def _draw_conditions(frame: pd.DataFrame) -> Figure:
    figure, panels = panel_grid(sorted(set(frame["task"])), 1.6, 0.6)
    means = (
        100 * frame.groupby(["task", "condition", "removed"])["test_accuracy"].mean()
    )
    longer = {**BASELINE, "label": "Original model, same steps"}
    for task, axes, leftmost in panels:
        axes.axhline(means[task, "original", 0], **ORIGINAL)
        axes.axhline(means[task, "original-same-steps", 0], **longer)
        for condition, look in CONDITIONS.items():
            axes.plot(means[task, condition], markersize=4, **look)
        removed = means[task, "distilled"].index
        depth_axis(axes, removed, "test accuracy (%)", leftmost)
    handles = [Line2D([], [], **look) for look in (ORIGINAL, longer)]
    for look in CONDITIONS.values():
        handles.append(Line2D([], [], markersize=4, **look))
    figure_legend(figure, handles, 3)
    return figure


@exhibit
def by_depth(results: Results) -> Exhibit:
    """Show the accuracy with and without the teacher, by the layers removed.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    frame = distilled(results)
    means = 100 * frame.groupby(["condition", "removed"])["test_accuracy"].mean()
    gains = means["distilled"] - means["same-steps"]
    texts = [
        f"{number_text(gain)} pp with {removed} removed"
        for removed, gain in gains.items()
    ]
    finding = f"The teacher adds to the same steps {', '.join(texts)}."
    figure = _draw_conditions(frame)
    return Exhibit("distillation_by_depth", frame, finding, figure)


@exhibit
def conditions(results: Results) -> Exhibit:
    """Show the accuracy of every condition on every dataset.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    groups = distilled(results).groupby(["condition", "task"], sort=False)
    means = 100 * groups["test_accuracy"].mean().unstack("task")
    table = means.round(1).rename(index=TITLES)
    overall = means.mean(axis=1)
    finding = (
        f"Over the datasets the original reaches {overall['original']:.1f}%, the "
        f"pruned model {overall['pruned']:.1f}%, with the same steps and no teacher "
        f"{overall['same-steps']:.1f}% and distilled {overall['distilled']:.1f}%."
    )
    caption = "Mean test accuracy (%) over depths and seeds."
    return Exhibit("distillation", table, finding, caption=caption, shown=table)


@exhibit
def gain_by_depth(results: Results) -> Exhibit:
    """Show what the teacher adds to the same steps without one, by the layers removed.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    scores = redrawn(distilled(results), ["condition", "removed"])
    gains = 100 * (scores["distilled"] - scores["same-steps"])
    gains.columns = [f"{removed} removed" for removed in gains]
    table = bootstrapped(gains)
    clear = table.loc[table["low"] > 0, "label"]
    finding = (
        f"The teacher's gain is clear of 0 at {len(clear)} of {len(table)} depths"
        f"{': ' if len(clear) else ''}{', '.join(clear)}."
    )
    figure = interval_rows(
        table,
        label="label",
        xlabel="distilled against the same steps, no teacher (pp)",
        spots=task_means(gains).melt(var_name="label"),
    )
    caption = "Means over datasets with 95% intervals; a grey dot per dataset."
    return Exhibit("distillation_gain", table, finding, figure, caption)


@exhibit
def parts_of_the_gain(results: Results) -> Exhibit:
    """Show what of the gain comes from the teacher and what from longer training.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    scores = redrawn(distilled(results), ["condition"])
    differences = {}
    for title, (first, second) in PARTS.items():
        differences[title] = scores[first] - scores[second]
    table = bootstrapped(differences).set_index("label").rename_axis("difference")
    gain, longer, teacher, original = table.index
    share = table.loc[longer, "value"] / table.loc[gain, "value"]
    points = (100 * table).round(2)
    ahead = Interval(*table.loc[teacher])
    changed = Interval(*points.loc[original])
    finding = (
        f"The distilled model gains {number_text(points.loc[gain, 'value'])} pp, and "
        f"{share:.0%} of that comes from longer training. Distilled against the "
        f"same steps: {comparison_text(*ahead, digits=2)}. The "
        "same steps change the original by "
        f"{interval_text(*changed, digits=2, signed=True)} pp."
    )
    caption = (
        "Differences in percentage points of test accuracy, means over depths, with "
        f"95% intervals over {units(scores)}."
    )
    return Exhibit("distillation_parts", table, finding, None, caption, points)


@exhibit
def against_the_original(results: Results) -> Exhibit:
    """Show whether a distilled model exceeds the original, under both protocols.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    frame = distilled(results)
    scores = protocols(frame)
    best = scores[scores["name"] == "distilled"].groupby("task")
    table = best[["test_selected", "validation_selected"]].mean()
    table["original"] = frame.groupby("task")["original"].mean()
    longer = frame[frame["condition"] == "original-same-steps"]
    table["original_same_steps"] = longer.groupby("task")["test_accuracy"].mean()
    above = (table["test_selected"] > table["original"]).sum()
    above_longer = (table["test_selected"] > table["original_same_steps"]).sum()
    finding = (
        f"The best distilled model exceeds the original on {above} of {len(table)} "
        f"datasets, and an original that got the same extra steps on {above_longer}."
    )
    caption = (
        "Test accuracy (%) of the distilled model at the depth that test prefers (the "
        "paper's score) and at the depth that validation prefers, and of the original."
    )
    shown = (100 * table).round(1)
    return Exhibit("distilled_and_original", shown, finding, None, caption, shown)
