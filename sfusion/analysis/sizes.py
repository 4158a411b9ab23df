"""Accuracy against size, under every way of counting it, and what 18.84 could mean."""

from __future__ import annotations

import pandas as pd

from sfusion.analysis.appearance import (
    COLUMN,
    ORIGINAL,
    PlainFigure,
    strategy_title,
    styled,
)
from sfusion.analysis.drawing import curve_legend, draw_curves, one_panel
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import DENOMINATORS, distilled, half_of, with_best_single
from sfusion.experiments.results import UNIT, Results

SIZES = list(DENOMINATORS)

# Whose share of the original's accuracy is said in words.
SAID = ["random-forest", "random-forest-position", "middle-first", "random"]


@exhibit
def denominators(results: Results) -> Exhibit:
    """Show how a model shrinks with its layers, by three ways of counting.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    sizes = results.nodes.groupby("layers")[SIZES].mean().sort_index(ascending=False)
    shares = sizes / sizes.iloc[0]
    smallest = shares.iloc[-1]
    finding = (
        f"With one layer left, {smallest['parameters']:.0%} of the parameters are "
        f"left, and {smallest['encoder_parameters']:.0%} of those of the encoder."
    )
    return Exhibit(
        "denominators",
        shares,
        finding,
        caption="Share of the original's size, by the number of layers left",
        shown=shares.rename(columns=DENOMINATORS).round(3),
    )


@exhibit
def accuracy_to_size(results: Results) -> Exhibit:
    """Show the share of the original's accuracy against the share of its parameters.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    frame = results.curves()
    table = shares_of_original(frame)
    names = [name for name in SAID if name in set(frame["name"])]
    means = frame.groupby(["task", "name", "removed"])["test_accuracy"].mean()
    originals = means.xs(0, level="removed")
    kept = (means / originals).groupby(["name", "removed"]).mean()
    removals = [removed for removed in kept.index.unique("removed") if removed > 0]
    half = half_of(removals, int((frame["removed"] + frame["layers"]).max()))
    shown = kept.unstack("removed").loc[names].rename(index=strategy_title)
    found = "; ".join(f"{title} {share:.1%}" for title, share in shown[half].items())
    return Exhibit(
        "accuracy_to_size",
        table,
        f"After {half} removals, of the original's accuracy there is left: {found}.",
        figure=_draw(table),
        caption="Means over datasets and seeds. Below, the share by layers removed",
        shown=shown.round(3),
    )


def shares_of_original(frame: pd.DataFrame) -> pd.DataFrame:
    """Average each strategy's accuracy and size as shares of the original's.

    Parameters
    ----------
    frame : DataFrame
        From :meth:`Results.curves`.

    Returns
    -------
    DataFrame
        A row per strategy (``name``) and number of removed layers: ``accuracy`` and
        ``size`` (in parameters), per cent of the original's.
    """
    columns = ["test_accuracy", "parameters"]
    originals = frame[frame["removed"] == 0].drop_duplicates(UNIT)
    pair = with_best_single(frame).merge(
        originals[[*UNIT, *columns]], on=UNIT, suffixes=("", "_original")
    )
    pair["accuracy"] = 100 * pair["test_accuracy"] / pair["test_accuracy_original"]
    pair["size"] = 100 * pair["parameters"] / pair["parameters_original"]
    groups = pair.groupby(["name", "removed"], as_index=False)
    return groups[["accuracy", "size"]].mean()


@styled
def _draw(table: pd.DataFrame) -> PlainFigure:
    figure, axes = one_panel(COLUMN + 1.6, 2.8)
    axes.axhline(100, **ORIGINAL)
    draw_curves(axes, table, "size")
    axes.invert_xaxis()
    axes.set_xlabel("parameters, % of the original's")
    axes.set_ylabel("test accuracy, % of the original's")
    curve_legend(figure, table, 3, "means over datasets and seeds")
    return figure


@exhibit
def ratio_readings(results: Results) -> Exhibit:
    """Show what "a factor of 18.84" could mean, as fold change and as per cent.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = ratio_table(distilled(results))
    percents = table.pivot(
        index="denominator", columns="removed", values="distilled_percent"
    )
    highest = table["over_pruned_percent"].max()
    largest = table.loc[table["distilled"].idxmax()]
    finding = (
        f"The largest fold change is {largest['distilled']:.2f}, with size counted in "
        f"{largest['denominator']} and {largest['removed']} removed. Distillation adds "
        f"at most {highest:.1f}% to the pruned model's own ratio; the rest of the fold "
        "change comes from the removals by arithmetic alone."
    )
    return Exhibit(
        "ratio_readings",
        table.round(2),
        finding,
        caption="Gain of the ratio of accuracy to size (%), by layers removed",
        shown=percents.round(1),
    )


def ratio_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Compute the change of accuracy over size, under every denominator.

    Parameters
    ----------
    frame : DataFrame
        From :func:`distilled`.

    Returns
    -------
    DataFrame
        A row per denominator and number of removed layers: ``pruned`` and
        ``distilled``, fold change of accuracy over size against the original (mean over
        datasets and seeds); ``distilled_percent``, the same as per cent gained;
        ``over_pruned_percent``, what distillation adds to the pruned model's ratio, in
        per cent.
    """
    originals = frame[frame["removed"] == 0].drop_duplicates(UNIT).set_index(UNIT)
    pruned = frame[frame["removed"] > 0].set_index([*UNIT, "removed", "condition"])
    accuracy = pruned["test_accuracy"] / originals["test_accuracy"]
    folds = {}
    for column, title in DENOMINATORS.items():
        fold = accuracy * originals[column] / pruned[column]
        folds[title] = fold.groupby(["removed", "condition"]).mean().unstack()
    table = pd.concat(folds, names=["denominator"])[["pruned", "distilled"]]
    table = table.rename_axis(columns=None)
    table["distilled_percent"] = 100 * (table["distilled"] - 1)
    table["over_pruned_percent"] = 100 * (table["distilled"] / table["pruned"] - 1)
    return table.reset_index()
