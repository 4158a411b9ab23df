"""Notebook 05: accuracy against size."""

import pandas as pd

from sfusion.analysis.appearance import COLUMN, ORIGINAL, styled
from sfusion.analysis.drawing import curve_legend, draw_curves, one_panel
from sfusion.analysis.scores import DENOMINATORS, distilled, with_best_single
from sfusion.experiments.results import UNIT


def size_ratios(frame):
    """Accuracy against size, as a multiple of the original's, under every denominator.

    Parameters
    ----------
    frame : DataFrame
        Rows with ``task``, ``seed``, ``accuracy`` and the size columns; the rows with
        ``removed`` 0 are the originals.

    Returns
    -------
    DataFrame
        The rows with, for each name in ``DENOMINATORS``, ``<name>_ratio``: accuracy
        over size divided by the same of the original of that task and seed.
    """
    originals = frame[frame["removed"] == 0].drop_duplicates(UNIT)
    names = list(DENOMINATORS)
    joined = frame.merge(
        originals[[*UNIT, "accuracy", *names]], on=UNIT, suffixes=("", "_original")
    )
    share = joined["accuracy"] / joined["accuracy_original"]
    for name in names:
        joined[f"{name}_ratio"] = share * joined[f"{name}_original"] / joined[name]
    return joined.drop(columns=[f"{name}_original" for name in [*names, "accuracy"]])


def ratio_readings(results):
    """Compute what "factor of 18.84" could mean here.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per denominator and number of removed layers: ``distilled`` and
        ``pruned``, fold change of accuracy over size against the original (mean over
        tasks and seeds); ``distilled_percent``, the same as per cent gained;
        ``over_pruned_percent``, what distillation adds to the pruned model's ratio, in
        per cent.
    """
    frame = size_ratios(
        distilled(results).rename(columns={"test_accuracy": "accuracy"})
    )
    frame = frame[frame["removed"] > 0]
    ratios = {title: f"{name}_ratio" for name, title in DENOMINATORS.items()}
    parts = {
        t: frame.pivot_table(index="removed", columns="condition", values=one)
        for t, one in ratios.items()
    }
    means = pd.concat(parts, names=["denominator"])[
        ["pruned", "distilled"]
    ].rename_axis(columns=None)
    means["distilled_percent"] = 100 * (means["distilled"] - 1)
    means["over_pruned_percent"] = 100 * (means["distilled"] / means["pruned"] - 1)
    return means.reset_index()


@styled
def accuracy_to_size(frame):
    """Draw the share of the original's accuracy against the share of its parameters.

    Parameters
    ----------
    frame : DataFrame
        From :meth:`Results.curves`.

    Returns
    -------
    Figure
        Means over tasks and seeds.
    """
    columns = [*UNIT, "test_accuracy", "parameters"]
    originals = frame.loc[frame["removed"] == 0, columns].drop_duplicates(UNIT)
    shown = with_best_single(frame).merge(
        originals, on=UNIT, suffixes=("", "_original")
    )
    shown["accuracy"] = 100 * shown["test_accuracy"] / shown["test_accuracy_original"]
    shown["size"] = 100 * shown["parameters"] / shown["parameters_original"]
    shown = shown.groupby(["name", "removed"], as_index=False)[
        ["accuracy", "size"]
    ].mean()
    figure, axes = one_panel(COLUMN + 1.6, 2.8)
    axes.axhline(100, **ORIGINAL)
    draw_curves(axes, shown, "size")
    axes.invert_xaxis()
    axes.set(
        xlabel="parameters, % of the original's",
        ylabel="test accuracy, % of the original's",
    )
    curve_legend(figure, shown, 3, "means over datasets and seeds")
    return figure
