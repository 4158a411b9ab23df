"""Notebook 01: what the twelve signals measure, and whether they rank layers alike."""

import numpy as np
import pandas as pd

from sfusion.analysis.appearance import in_registry_order, strategy_title, styled
from sfusion.analysis.drawing import draw_heat_map, one_panel, panel_grid
from sfusion.experiments.results import UNIT
from sfusion.pruning.fusion import standardise
from sfusion.signals import SIGNALS


def unit_correlations(results):
    """Rank correlation of the signals over the layers of each unpruned model.

    Parameters
    ----------
    results : Results

    Returns
    -------
    ndarray of shape (tasks times seeds, 12, 12)
        Spearman correlations. A signal that is removed highest-first enters with its
        sign turned, so that 1 means the same order of removal.
    """
    roots = results.signals[results.signals["path"] == ""]
    signs = [
        1.0 if signal.removed_first == "lowest" else -1.0 for signal in SIGNALS.values()
    ]
    matrices = [
        (part[list(SIGNALS)] * signs).corr(method="spearman").to_numpy()
        for _, part in roots.groupby(UNIT)
    ]
    return np.stack(matrices)


def signal_correlations(results):
    """Average :func:`unit_correlations` over tasks and seeds.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Signal by signal.
    """
    return pd.DataFrame(
        unit_correlations(results).mean(axis=0), list(SIGNALS), list(SIGNALS)
    )


def effective_signals(correlations):
    """Count how many independent orders of the layers a set of signals amounts to.

    The participation ratio of the correlation matrix's eigenvalues, (sum)^2 / sum of
    squares: 1 when all signals agree. Few layers keep it low whatever the signals are.

    Parameters
    ----------
    correlations : ndarray of shape (..., signals, signals)

    Returns
    -------
    ndarray of shape (...)
    """
    values = np.linalg.eigvalsh(correlations)
    return values.sum(axis=-1) ** 2 / (values**2).sum(axis=-1)


def standardised_signals(results):
    """Standardise the signals of the unpruned models over the layers, and average over seeds.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Columns ``task``, ``layer``, ``signal``, ``value`` (standard deviations).
    """
    roots = results.signals[results.signals["path"] == ""].copy()
    names = list(SIGNALS)
    roots[names] = roots.groupby(UNIT, group_keys=False)[names].apply(standardise)
    long = roots.melt([*UNIT, "layer"], names, var_name="signal")
    return long.groupby(["task", "layer", "signal"], as_index=False, sort=False)[
        "value"
    ].mean()


@styled
def signal_profile(frame):
    """Draw the signals over the layers of the unpruned models, a panel per task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`standardised_signals`: means over seeds.

    Returns
    -------
    Figure
    """
    tasks, names = sorted(set(frame["task"])), in_registry_order(frame["signal"])
    limit = frame["value"].abs().max() or 1.0
    figure, panels = panel_grid(tasks, 1.9, 0.6)
    for task, axes, leftmost in panels:
        table = frame[frame["task"] == task].pivot(
            index="signal", columns="layer", values="value"
        )
        draw_heat_map(
            axes, table.loc[names], cmap="RdBu_r", vmin=-limit, vmax=limit, cbar=False
        )
        axes.set_xlabel("layer")
        if not leftmost:
            axes.set_yticks([])
    figure.colorbar(
        panels[0].axes.collections[0],
        ax=[panel.axes for panel in panels],
        label="standard deviations from the model's mean",
        aspect=40,
    )
    return figure


@styled
def signal_correlation(matrix):
    """Draw how similarly the signals rank the layers.

    Parameters
    ----------
    matrix : DataFrame
        From :func:`signal_correlations`: means over tasks and seeds.

    Returns
    -------
    Figure
    """
    names = in_registry_order(matrix.index)
    values = matrix.loc[names, names]
    texts = values.map(lambda v: "–" if np.isnan(v) else f"{v:z.2f}".replace("-", "−"))
    figure, axes = one_panel(5.6, 4.2)
    label = {"label": "Spearman correlation of the orders of removal", "aspect": 40}
    draw_heat_map(axes, values, texts, cmap="RdBu_r", vmin=-1, vmax=1, cbar_kws=label)
    axes.set_xticks(
        np.arange(len(names)) + 0.5,
        list(map(strategy_title, names)),
        rotation=40,
        ha="right",
    )
    return figure
