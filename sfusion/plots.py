"""Figures: each is a pure function of a tidy frame, ``frame -> Figure``.

One visual language: a colour a group of strategies, a marker and a line style a strategy within
its group, a black dashed line for the original model. Accuracies are shares in the frames and
per cent, or points of it, in the figures. Where seeds are shown, a whisker runs from the lowest
to the highest of them; where tasks are averaged, it is the bootstrap interval of
:func:`sfusion.analysis.bootstrap`.
"""

import functools
import io
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from sfusion.analysis import UNIT, bootstrap, by_name, wide
from sfusion.claims import RATIO
from sfusion.errors import SfusionError
from sfusion.runs import write_atomically
from sfusion.signals import SIGNALS
from sfusion.strategies import STRATEGIES, TRANSFER

STYLE = ["default", str(Path(__file__).with_name("sfusion.mplstyle"))]
COLUMN, PAGE = 3.4, 7.0  # inches

# A colour a group: Okabe and Ito's palette, which the colour-blind can tell apart.
COLOURS = {
    "activation": "#E69F00",
    "mutual information": "#56B4E9",
    "gradient": "#009E73",
    "weight": "#CC79A7",
    "attention": "#0072B2",
    "fusion": "#D55E00",
    "random": "#999999",
    "position": "#000000",
}
# Within a group, in the order of STRATEGIES.
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", (0, (3.5, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)))

ORIGINAL = {"color": "black", "linestyle": (0, (4, 2)), "linewidth": 0.9}
FLOOR = {"color": "black", "linestyle": (0, (1, 1.5)), "linewidth": 0.9}
ARM_STYLES = {
    "pruned": {"color": "#999999", "marker": "^", "linestyle": ":", "markerfacecolor": "white"},
    "same-steps": {"color": "#0072B2", "marker": "s", "markerfacecolor": "white"},
    "distilled": {"color": COLOURS["fusion"], "marker": "o"},
}
ARM_TITLES = {
    "pruned": "pruned, before the extra steps",
    "same-steps": "same steps without a teacher",
    "distilled": "distilled",
}
VERDICTS = {
    "supported": "#009E73",
    "not supported": "#D55E00",
    "undecided": "#0072B2",
    "cannot be tested": "#666666",
}


class _Figure(Figure):
    """A figure that notebooks show whatever the backend, and that no registry holds on to."""

    def _repr_png_(self):
        return _render(self, "png")


def _render(figure, form):
    # Dates and versions would make the same figure differ from run to run.
    drop = {"png": ["Software"], "pdf": ["CreationDate", "Creator", "Producer"]}[form]
    stream = io.BytesIO()
    with style.context(STYLE):
        figure.savefig(stream, format=form, metadata=dict.fromkeys(drop))
    return stream.getvalue()


def _styled(draw):
    """Let a figure be drawn in the package's style, and turn away an empty frame."""

    @functools.wraps(draw)
    def wrapper(frame, *args, **kwargs):
        if frame.empty:
            raise SfusionError(
                f"{draw.__name__} has nothing to draw: the frame is empty; run the stage that "
                "fills it"
            )
        with style.context(STYLE):
            figure = draw(frame, *args, **kwargs)
            figure.draw_without_rendering()  # ticks are made late and would miss the style
        return figure

    return wrapper


def save_figure(name, figure, frame, folder):
    """Write a figure and what it was drawn from: ``<name>.png``, ``.pdf`` and ``.csv``.

    Parameters
    ----------
    name : str
        File name without ending.
    figure : Figure
    frame : DataFrame
        Written with six significant digits, and with its index where that says something.
    folder : Path
        Made when missing.

    Returns
    -------
    Path
        The PNG.

    Raises
    ------
    SfusionError
        When the folder cannot be written.
    """
    folder = Path(folder)
    index = frame.index.name is not None or not pd.api.types.is_integer_dtype(frame.index)
    table = frame.to_csv(index=index, float_format="%.6g", lineterminator="\n")
    write_atomically(folder / f"{name}.csv", table.encode())
    for form in ("pdf", "png"):
        write_atomically(folder / f"{name}.{form}", _render(figure, form))
    return folder / f"{name}.png"


def appearance(name):
    """Give a strategy its colour, marker and line.

    Parameters
    ----------
    name : str
        A name in ``STRATEGIES``; signals are strategies of the same name.

    Returns
    -------
    dict
        Keywords for ``Axes.plot``. A transferred fusion looks like the fusion that it is
        transferred from, with a dotted line and hollow markers.
    """
    one = STRATEGIES[name]
    kin = [s.name for s in STRATEGIES.values() if s.group == one.group]
    kin = [other for other in kin if STRATEGIES[other].learned_from == one.learned_from]
    place = kin.index(name)
    transferred = one.learned_from == TRANSFER
    return {
        "color": COLOURS[one.group],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[2] if transferred else LINES[place % len(LINES)],
        "markerfacecolor": "white" if transferred else COLOURS[one.group],
    }


def _ordered(names):
    present = set(names)
    return [name for name in STRATEGIES if name in present]


def _tasks(frame):
    return list(dict.fromkeys(frame["task"]))


def _over_seeds(frame):
    count = frame["seed"].nunique()
    return "one seed" if count == 1 else f"mean and range over {count} seeds"


def _panels(tasks, width, height, xlabel, ylabel, *, extra=0.0, sharey=True):
    """Lay out a panel a task; ``height`` of a row of them and ``extra`` in inches."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(tasks), 3)
    rows = -(-len(tasks) // columns)
    figure = _Figure(figsize=(width, height * rows + extra))
    grid = figure.subplots(rows, columns, sharex=True, sharey=sharey, squeeze=False)
    for spare in grid.flat[len(tasks) :]:
        spare.remove()
    panels = list(grid.flat[: len(tasks)])
    for place, (task, axes) in enumerate(zip(tasks, panels, strict=True)):
        axes.set_title(task)
        if place + columns >= len(tasks):
            axes.set_xlabel(xlabel)
            axes.tick_params(labelbottom=True)
        if place % columns == 0:
            axes.set_ylabel(ylabel)
    return figure, panels


def _legend_below(figure, handles, columns, title=None):
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title)


def _name_rows(axes, names):
    """Name a row a strategy or signal, with its colour and marker."""
    axes.set_yticks(range(len(names)), [STRATEGIES[name].title for name in names])
    axes.tick_params(axis="y", length=0, pad=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    if not axes.get_subplotspec().is_first_col():
        return
    left = axes.get_yaxis_transform() + ScaledTranslation(
        -5 / 72, 0, axes.get_figure().dpi_scale_trans
    )
    for row, name in enumerate(names):
        look = appearance(name) | {"linestyle": ""}
        axes.plot([0], [row], transform=left, clip_on=False, **look)


def _group_edges(names):
    groups = [STRATEGIES[name].group for name in names]
    return [i - 0.5 for i in range(1, len(names)) if groups[i] != groups[i - 1]]


def _separate(axes, names, *, both=False, **line):
    for edge in _group_edges(names):
        axes.axhline(edge, **line)
        if both:
            axes.axvline(edge, **line)


def _frame_off(axes):
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _write_cells(axes, image, texts, **font):
    """Write into the cells of a heat map, white on dark cells."""
    values = image.get_array()
    for (row, column), text in np.ndenumerate(texts):
        red, green, blue, _ = image.cmap(image.norm(values[row, column]))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        colour = "white" if dark else "black"
        axes.text(column, row, text, ha="center", va="center", color=colour, **font)


def _whiskers(axes, x, values, **look):
    """Draw mean and range over the columns of ``values``, an (x, seeds) table."""
    mean, low, high = values.mean(axis=1), values.min(axis=1), values.max(axis=1)
    axes.errorbar(x, mean, yerr=[mean - low, high - mean], elinewidth=0.7, **look)


def _by_seed(part, index="removed", values="test_accuracy"):
    return 100 * part.pivot_table(index=index, columns="seed", values=values)


@_styled
def signal_profile(frame):
    """Draw the signals over the layers of the unpruned models, a panel a task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.standardised_signals`: means over seeds.

    Returns
    -------
    Figure
    """
    tasks, names = _tasks(frame), _ordered(frame["signal"])
    limit = frame["value"].abs().max() or 1.0
    width = COLUMN + 0.6 if len(tasks) == 1 else PAGE
    figure, panels = _panels(tasks, width, 1.8, "layer", "", extra=0.2)
    for task, axes in zip(tasks, panels, strict=True):
        table = frame[frame["task"] == task].pivot(index="signal", columns="layer", values="value")
        image = axes.imshow(table.loc[names], cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
        axes.set_xticks(range(table.shape[1]), table.columns)
        _name_rows(axes, names)
        _separate(axes, names, color="white", linewidth=1.5)
        _frame_off(axes)
    figure.colorbar(image, ax=panels, label="standard deviations from the model's mean")
    return figure


@_styled
def signal_correlation(matrix):
    """Draw how alike the signals rank the layers.

    Parameters
    ----------
    matrix : DataFrame
        From :func:`sfusion.analysis.signal_correlations`: means over tasks and seeds.

    Returns
    -------
    Figure
    """
    names = _ordered(matrix.index)
    values = matrix.loc[names, names].to_numpy()
    figure = _Figure(figsize=(PAGE - 1.2, PAGE - 1.9))
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
    texts = [["–" if np.isnan(v) else f"{v:.2f}".replace("-", "−") for v in row] for row in values]
    _write_cells(axes, image, np.array(texts), fontsize=6)
    _name_rows(axes, names)
    titles = [STRATEGIES[name].title for name in names]
    axes.set_xticks(range(len(names)), titles, rotation=40, ha="right", rotation_mode="anchor")
    _separate(axes, names, both=True, color="white", linewidth=2)
    _frame_off(axes)
    figure.colorbar(image, ax=axes, label="Spearman correlation over the layers", shrink=0.8)
    return figure


@_styled
def accuracy_by_depth(frame, floors=None):
    """Draw test accuracy on the way down, a panel a task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.curves`, or some of its strategies. Fusions and the
        top-first baseline carry the range over seeds; single signals are means over seeds; the
        random band holds the middle 80% of draws and seeds.
    floors : DataFrame, optional
        ``Results.tasks``: adds the accuracy of TF-IDF with logistic regression.

    Returns
    -------
    Figure
    """
    tasks, names = _tasks(frame), _ordered(frame["name"])
    removed = np.arange(frame["removed"].max() + 1)
    figure, panels = _panels(
        tasks, PAGE, 1.75, "layers removed", "test accuracy (%)", extra=0.75, sharey=False
    )
    whiskered = [name for name in names if STRATEGIES[name].group in ("fusion", "position")]
    dodge = dict(zip(whiskered, 0.07 * _centred(len(whiskered)), strict=True))
    for task, axes in zip(tasks, panels, strict=True):
        part = frame[frame["task"] == task]
        axes.axhline(100 * _original(part), zorder=1.5, **ORIGINAL)
        if floors is not None:
            floor = floors.loc[floors["task"] == task, "floor_accuracy"].mean()
            axes.axhline(100 * floor, zorder=1.5, **FLOOR)
        for name in names:
            one, look = part[part["name"] == name], appearance(name)
            if name == "random":
                at = 100 * one.groupby("removed")["test_accuracy"].quantile([0.1, 0.9]).unstack()
                axes.fill_between(at.index, at[0.1], at[0.9], color="0.87", linewidth=0, zorder=0)
                mean = 100 * one.groupby("removed")["test_accuracy"].mean()
                axes.plot(mean.index, mean, color=look["color"], zorder=1)
            elif name in dodge:
                seeds = _by_seed(one)
                _whiskers(axes, seeds.index + dodge[name], seeds, linewidth=1, zorder=3, **look)
            else:
                look |= {"marker": "", "linewidth": 0.8, "alpha": 0.9, "zorder": 2}
                mean = 100 * one.groupby("removed")["test_accuracy"].mean()
                axes.plot(mean.index, mean, **look)
        axes.set_xticks(removed)
    handles = [Line2D([], [], label="Original model", **ORIGINAL)]
    if floors is not None:
        handles.append(Line2D([], [], label="TF-IDF floor", **FLOOR))
    if "random" in names:
        band = Patch(color="0.87", label="Random order, middle 80%")
        handles += [Line2D([], [], color=COLOURS["random"], label="Random order, mean"), band]
    for name in [*whiskered[::-1], *names]:
        look = appearance(name) | ({} if name in dodge else {"marker": "", "linewidth": 0.8})
        if name != "random":
            handles.append(Line2D([], [], label=STRATEGIES[name].title, **look))
    _legend_below(figure, handles, 5, f"whiskers: {_over_seeds(frame)}")
    return figure
