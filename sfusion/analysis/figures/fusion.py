"""Figures of the fusion models: fit, coefficients, importances."""

import numpy as np
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from sfusion.analysis.figures.look import (
    COLUMN,
    PAGE,
    ZERO,
    PlainFigure,
    appearance,
    centred,
    fusion_name,
    handles_of,
    legend_below,
    name_rows,
    ordered,
    separate,
    styled,
)


@styled
def fusion_importance(importances):
    """Draw what each fusion model leans on.

    Parameters
    ----------
    importances : DataFrame
        Columns ``signal``, ``fusion`` (name or title), ``importance`` and ``spread``, as from
        :func:`sfusion.pruning.fusion.importances`.

    Returns
    -------
    Figure
    """
    names, models = ordered(importances["signal"]), list(dict.fromkeys(importances["fusion"]))
    figure = PlainFigure(figsize=(COLUMN, 0.21 * len(names) + 0.75))
    axes = figure.subplots()
    axes.axvline(0, **ZERO)
    for model, shift in zip(models, 0.3 * centred(len(models)), strict=True):
        part = importances[importances["fusion"] == model].set_index("signal").loc[names]
        rows = np.arange(len(names)) + shift
        look = appearance(fusion_name(model).name) | {"linestyle": "", "elinewidth": 0.7}
        axes.errorbar(
            part["importance"],
            rows,
            xerr=part["spread"],
            label=fusion_name(model).title,
            **look,
        )
    name_rows(axes, names)
    separate(axes, names, color="0.85", linewidth=0.6)
    axes.set_xlabel(
        "rise in squared error when shuffled, share of the variance\n"
        "(mean ± standard deviation over folds and shuffles)",
        loc="right",
    )
    legend_below(figure, handles_of(axes), 2)
    return figure


@styled
def fusion_coefficients(coefficients):
    """Draw the coefficients of the linear fusion.

    Parameters
    ----------
    coefficients : DataFrame
        Columns ``signal``, ``coefficient`` (share of accuracy a standard deviation of the
        signal) and, for several fits, ``task`` or ``learned_from``.

    Returns
    -------
    Figure
        A small dot a fit, and their median; beyond 5 points the scale is logarithmic, for
        collinear signals make single coefficients very large.
    """
    names = ordered(coefficients["signal"])
    figure = PlainFigure(figsize=(COLUMN, 0.19 * len(names) + 0.7))
    axes = figure.subplots()
    axes.axvline(0, **ZERO)
    parts = 100 * coefficients.set_index("signal")["coefficient"]
    fits = int(coefficients["signal"].value_counts().max())
    for row, name in enumerate(names):
        values, look = parts.loc[[name]], appearance(name) | {"linestyle": ""}
        if fits > 1:
            spot = {"color": "0.6", "marker": "o", "linestyle": "", "markersize": 1.8}
            axes.plot(values, [row] * len(values), **spot)
        axes.plot([values.median()], [row], **look | {"markersize": 4.2})
    axes.set_xscale("symlog", linthresh=5)
    axes.xaxis.set_major_locator(FixedLocator([-100, -20, -5, 0, 5, 20, 100]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    name_rows(axes, names)
    separate(axes, names, color="0.85", linewidth=0.6)
    label = "coefficient (points of accuracy a standard deviation)"
    label += f"\n(small: {fits} fits, large: their median)" if fits > 1 else ""
    axes.set_xlabel(label, loc="right")
    return figure


@styled
def fusion_fit(predictions):
    """Draw predicted against observed changes of accuracy, a panel a fusion.

    Parameters
    ----------
    predictions : DataFrame
        Columns ``fusion`` (name or title), ``observed`` and ``predicted`` (shares), a row a
        removal that was tried; predictions from folds that did not hold it.

    Returns
    -------
    Figure
        With the share of the variance explained, R².
    """
    models = list(dict.fromkeys(predictions["fusion"]))
    figure = PlainFigure(figsize=(COLUMN if len(models) < 3 else PAGE, 2.0))
    panels = figure.subplots(1, len(models), sharex=True, sharey=True, squeeze=False)[0]
    points = 100 * predictions[["observed", "predicted"]]
    low, high = points.to_numpy().min(), points.to_numpy().max()
    margin = 0.05 * (high - low) or 1.0
    for model, axes in zip(models, panels, strict=True):
        part = points[predictions["fusion"] == model]
        error = ((part["observed"] - part["predicted"]) ** 2).sum()
        total = ((part["observed"] - part["observed"].mean()) ** 2).sum()
        axes.axline((0, 0), slope=1, **ZERO)
        look = appearance(fusion_name(model).name) | {
            "linestyle": "",
            "markersize": 2,
            "alpha": 0.5,
        }
        axes.plot(part["predicted"], part["observed"], **look | {"markeredgewidth": 0})
        fit = f"R² {1 - error / total:.2f}, n {len(part)}".replace("-", "−") if total else ""
        axes.set_title(f"{fusion_name(model).title}\n{fit}")
        axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
        axes.set_xlabel("predicted change (points)")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_box_aspect(1)
    panels[0].set_ylabel("observed change (points)")
    return figure
