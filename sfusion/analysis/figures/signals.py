"""Figures of the signals: their profile over the layers, and how alike they rank them."""

import numpy as np

from sfusion.analysis.figures.look import (
    COLUMN,
    PAGE,
    PlainFigure,
    colour_bar,
    frame_off,
    name_rows,
    number_layers,
    ordered,
    panel_grid,
    separate,
    styled,
    task_names,
    write_cells,
)
from sfusion.pruning.strategies import STRATEGIES


@styled
def signal_profile(frame):
    """Draw the signals over the layers of the unpruned models, a panel a task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.standardised_signals`: means over seeds.

    Returns
    -------
    Figure
    """
    tasks, names = task_names(frame), ordered(frame["signal"])
    limit = frame["value"].abs().max() or 1.0
    width = COLUMN + 0.6 if len(tasks) == 1 else PAGE
    figure, panels = panel_grid(tasks, width, 1.8, "layer", "", extra=0.2)
    for task, axes in zip(tasks, panels, strict=True):
        table = frame[frame["task"] == task].pivot(index="signal", columns="layer", values="value")
        image = axes.imshow(table.loc[names], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        number_layers(axes, table.columns, 2 if table.shape[1] > 8 else 1)
        name_rows(axes, names)
        separate(axes, names, color="white", linewidth=1.5)
        frame_off(axes)
    colour_bar(figure, image, panels, "standard deviations\nfrom the model's mean")
    return figure


@styled
def signal_correlation(matrix):
    """Draw how alike the signals rank the layers.

    Parameters
    ----------
    matrix : DataFrame
        From :func:`sfusion.analysis.tables.signal_correlations`: means over tasks and seeds.

    Returns
    -------
    Figure
    """
    names = ordered(matrix.index)
    values = matrix.loc[names, names].to_numpy()
    figure = PlainFigure(figsize=(5.6, 4.4))
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    texts = [["–" if np.isnan(v) else f"{v:z.2f}".replace("-", "−") for v in row] for row in values]
    write_cells(axes, image, np.array(texts), fontsize=6)
    name_rows(axes, names)
    titles = [STRATEGIES[name].title for name in names]
    axes.set_xticks(range(len(names)), titles, rotation=40, ha="right", rotation_mode="anchor")
    separate(axes, names, both=True, color="white", linewidth=2)
    frame_off(axes)
    colour_bar(figure, image, axes, "Spearman correlation of the orders of removal")
    return figure
