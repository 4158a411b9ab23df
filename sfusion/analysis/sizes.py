"""Accuracy against size, under every way of counting it, and what 18.84 could mean."""

from __future__ import annotations

import pandas as pd

from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import DENOMINATORS, distilled
from sfusion.experiments.results import UNIT, Results

SIZES = list(DENOMINATORS)


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
