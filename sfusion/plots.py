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
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from sfusion.analysis import UNIT, bootstrap, wide
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
ZERO = {"color": "black", "linewidth": 0.6}
THRESHOLD = {"color": "black", "linewidth": 0.9}
FLOOR = {"color": "black", "linestyle": (0, (1, 1.5)), "linewidth": 0.9}
ARM_STYLES = {
    "pruned": {"color": "#999999", "marker": "^", "linestyle": ":", "markerfacecolor": "white"},
    "same-steps": {"color": "#0072B2", "marker": "s", "markerfacecolor": "white"},
    "distilled": {"color": COLOURS["fusion"], "marker": "o"},
}
ARM_TITLES = {
    "pruned": "Pruned, before the extra steps",
    "same-steps": "Same steps without a teacher",
    "distilled": "Distilled",
}
FOLDS = (0.25, 0.5, 0.7, 1, 1.2, 1.5, 2, 3, 4, 6, 8, 12)  # ticks of an axis of fold changes
BASELINES = ("random", "top-first")
SINGLE = {"color": "#332288", "marker": "D", "linestyle": (0, (4, 1, 1, 1))}
# Two pairs of denominators lie almost on one another: the second of each is larger and hollow.
_LARGE = {"markersize": 6, "markerfacecolor": "none", "linestyle": ""}
DENOMINATOR_STYLES = (
    {"marker": "o"},
    {"marker": "s"},
    {"marker": "o"} | _LARGE,
    {"marker": "s"} | _LARGE,
)
_BELOW = LinearSegmentedColormap.from_list("below", ["#56B4E9", "#FFFFFF"])
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
    return sorted(set(frame["task"]))


def _over_seeds(frame, what="markers, whiskers: mean, range"):
    count = frame["seed"].nunique()
    return "one seed" if count == 1 else f"{what} over {count} seeds"


def _interval_text(mean, low, high, digits=1):
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]".replace("-", "−")


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


def _legend_below(figure, handles, columns, title=None, labels=None):
    labels = [handle.get_label() for handle in handles] if labels is None else labels
    where = {"loc": "outside lower center", "ncols": columns, "title": title}
    figure.legend(list(handles), list(labels), **where)


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


def _separate(axes, names, *, both=False, **line):
    groups = [STRATEGIES[name].group for name in names]
    for place in range(1, len(names)):
        if groups[place] != groups[place - 1]:
            axes.axhline(place - 0.5, **line)
            if both:
                axes.axvline(place - 0.5, **line)


def _frame_off(axes):
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _colour_bar(figure, image, axes, label):
    return figure.colorbar(image, ax=axes, label=label, aspect=9 * figure.get_figheight())


def _number_layers(axes, layers, step=1):
    axes.set_xticks(range(0, len(layers), step), layers[::step])


def _number_depths(axes, removed):
    """Tick whole layers, and leave a margin that holds for a single depth too."""
    removed = sorted(set(removed))
    axes.set_xticks(removed[:: 2 if len(removed) > 12 else 1])
    axes.set_xlim(removed[0] - 0.5, removed[-1] + 0.5)


def _write_cells(axes, image, texts, bold=None, **font):
    """Write into the cells of a heat map, white on dark cells."""
    values = image.get_array()
    for (row, column), text in np.ndenumerate(texts):
        red, green, blue, _ = image.cmap(image.norm(values[row, column]))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        look = {"color": "white" if dark else "black", "ha": "center", "va": "center"}
        if bold is not None and bold[row, column]:
            look["weight"] = "bold"
        axes.text(column, row, text, **look, **font)


def _whiskers(axes, x, values, **look):
    """Draw mean and range over the columns of ``values``, an (x, seeds) table."""
    mean, low, high = values.mean(axis=1), values.min(axis=1), values.max(axis=1)
    arms = np.maximum([mean - low, high - mean], 0)  # rounding of the mean of equal values
    axes.errorbar(x, mean, yerr=arms, elinewidth=0.7, **look)


def _intervals(axes, parts, along="y", **look):
    """Draw mean and bootstrap interval of each part, a dict of place to a (task, seed) Series."""
    mean, low, high = np.array([bootstrap(part) for part in parts.values()]).T
    # Where all units agree, rounding alone can put the mean outside its interval.
    arms = np.maximum([mean - low, high - mean], 0)
    places = (list(parts), mean) if along == "y" else (mean, list(parts))
    axes.errorbar(*places, **{f"{along}err": arms}, elinewidth=0.7, **look)


def _handles(axes):
    return axes.get_legend_handles_labels()[0]


def _centred(count):
    return np.arange(count) - (count - 1) / 2


def _fusion_name(model):
    return next(name for name, one in STRATEGIES.items() if model in (name, one.title))


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
        _number_layers(axes, table.columns, 2 if table.shape[1] > 8 else 1)
        _name_rows(axes, names)
        _separate(axes, names, color="white", linewidth=1.5)
        _frame_off(axes)
    _colour_bar(figure, image, panels, "standard deviations\nfrom the model's mean")
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
    figure = _Figure(figsize=(5.6, 4.4))
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
    texts = [["–" if np.isnan(v) else f"{v:.2f}".replace("-", "−") for v in row] for row in values]
    _write_cells(axes, image, np.array(texts), fontsize=6)
    _name_rows(axes, names)
    titles = [STRATEGIES[name].title for name in names]
    axes.set_xticks(range(len(names)), titles, rotation=40, ha="right", rotation_mode="anchor")
    _separate(axes, names, both=True, color="white", linewidth=2)
    _frame_off(axes)
    _colour_bar(figure, image, axes, "Spearman correlation of the orders of removal")
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
    extra = 1.2 if len(tasks) == 1 else 0.75
    figure, panels = _panels(
        tasks, PAGE, 1.75, "layers removed", "test accuracy (%)", extra=extra, sharey=False
    )
    whiskered = [name for name in names if STRATEGIES[name].group in ("fusion", "position")]
    dodge = dict(zip(whiskered, 0.07 * _centred(len(whiskered)), strict=True))
    for task, axes in zip(tasks, panels, strict=True):
        part = frame[frame["task"] == task]
        axes.axhline(
            100 * part.loc[part["removed"] == 0, "test_accuracy"].mean(), zorder=1.5, **ORIGINAL
        )
        if floors is not None:
            floor = floors.loc[floors["task"] == task, "floor_accuracy"].mean()
            axes.axhline(100 * floor, zorder=1.5, **FLOOR)
        for name in names:
            one, look = part[part["name"] == name], appearance(name)
            if name == "random":
                at = 100 * one.groupby("removed")["test_accuracy"].quantile([0.1, 0.9]).unstack()
                axes.fill_between(at.index, at[0.1], at[0.9], color="0.87", linewidth=0, zorder=0)
                mean = 100 * one.groupby("removed")["test_accuracy"].mean()
                axes.plot(mean.index, mean, color=look["color"], linewidth=1.5, zorder=2.5)
            elif name in dodge:
                seeds = _by_seed(one)
                _whiskers(axes, seeds.index + dodge[name], seeds, linewidth=1, zorder=3, **look)
            else:
                look |= {"marker": "", "linewidth": 0.8, "alpha": 0.9, "zorder": 2}
                mean = 100 * one.groupby("removed")["test_accuracy"].mean()
                axes.plot(mean.index, mean, **look)
        _number_depths(axes, frame["removed"])
    entries = {"Original model": Line2D([], [], **ORIGINAL)}
    if floors is not None:
        entries["TF-IDF floor"] = Line2D([], [], **FLOOR)
    for name in sorted(names, key=lambda name: (name in SIGNALS, name not in BASELINES)):
        look = appearance(name)
        if name not in dodge:
            look |= {"marker": "", "linewidth": 0.8}
        entries[STRATEGIES[name].title] = Line2D([], [], **look)
    if "random" in names:
        entries["Random order"] = (Patch(color="0.87"), entries["Random order"])
    note = _over_seeds(frame) + "; grey band: middle 80% of random orders"
    _legend_below(figure, entries.values(), -(-len(entries) // 4), note, entries)
    return figure


@_styled
def maximum_accuracy(table, column="paper"):
    """Draw every strategy's score on every task, as numbers on a heat map.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.protocols`.
    column : {"paper", "honest"}
        Highest test accuracy over the depths, or that at the depth chosen on validation.

    Returns
    -------
    Figure
        Per task the mean over seeds and half their range; the colour says how far below the
        task's best strategy, whose number is bold. At the right the mean lead over the random
        baseline of the same task and seed, with its 95% bootstrap interval over both.
    """
    scores = 100 * wide(table, column)
    names, tasks = list(scores), _tasks(table)
    seeds = scores.groupby(level="task")
    means, half = seeds.mean().loc[tasks].T, (seeds.max() - seeds.min()).loc[tasks].T / 2
    below = means.max() - means
    texts, few = means.map("{:.1f}".format), len(tasks) < 6
    if table["seed"].nunique() > 1:
        texts += half.map(f"{' ' if few else chr(10)}±{{:.1f}}".format)
    below["mean"] = below.mean(axis=1)
    texts["mean"] = means.mean(axis=1).map("{:.1f}".format)
    lead = scores.sub(scores["random"], axis=0)
    lead = ["" if name == "random" else _interval_text(*bootstrap(lead[name])) for name in names]
    cell = min(0.62, 3.7 / (len(tasks) + 1))
    figure = _Figure(
        figsize=(1.6 + cell * (len(tasks) + 1) + 1.7, (0.19 if few else 0.25) * len(names) + 1)
    )
    axes, right = figure.subplots(1, 2, width_ratios=[cell * (len(tasks) + 1), 1.05], sharey=True)
    image = axes.imshow(below, cmap=_BELOW, vmin=0, vmax=below.max(axis=None) or 1, aspect="auto")
    _write_cells(axes, image, texts.to_numpy(), below.to_numpy() <= 1e-7, fontsize=6)
    for row, text in enumerate(lead):
        right.text(0.5, row, text, ha="center", va="center", fontsize=6)
    slanted = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(tasks) + 1), [*tasks, "mean"], **slanted)
    score = {
        "paper": "maximum test accuracy (%)",
        "honest": "test accuracy (%) at validation's depth",
    }
    axes.set_xlabel(f"{score[column]}\n{_over_seeds(table, 'mean ± half the range')}")
    right.set_xticks([])
    right.set_xlim(0, 1)
    right.set_xlabel("less random order\n(points, 95% interval)")
    _name_rows(axes, names)
    _separate(axes, names, color="white", linewidth=2)
    axes.axvline(len(tasks) - 0.5, color="white", linewidth=4)
    _frame_off(axes)
    _frame_off(right)
    _colour_bar(figure, image, right, "points below the task's best strategy")
    return figure


@_styled
def removal_order(orders, average=False):
    """Draw at which step each strategy removes each layer.

    Parameters
    ----------
    orders : DataFrame
        From :func:`sfusion.analysis.removal_orders`; means over seeds and random draws.
    average : bool
        One panel with numbers, averaged over tasks too, instead of a panel a task.

    Returns
    -------
    Figure
    """
    names, depth = _ordered(orders["name"]), int(orders["step"].max())
    if average:
        units = orders.groupby(["task", "name", "layer"], as_index=False)["step"].mean()
        orders = units.assign(task="mean over tasks")
    tasks = _tasks(orders)
    if len(tasks) == 1:
        width, height = 2.2 + 0.27 * max(depth, 8), 0.17 * len(names) + 0.6
    else:
        width, height = PAGE, 0.105 * len(names) + 0.45
    figure, panels = _panels(tasks, width, height, "layer", "")
    for task, axes in zip(tasks, panels, strict=True):
        part = orders[orders["task"] == task]
        steps = part.pivot_table(index="name", columns="layer", values="step").loc[names]
        image = axes.imshow(steps, cmap="viridis", vmin=1, vmax=depth, aspect="auto")
        if len(tasks) == 1:
            _write_cells(axes, image, steps.map("{:.1f}".format).to_numpy(), fontsize=6)
        _number_layers(axes, steps.columns, 2 if depth > 8 and len(tasks) > 1 else 1)
        _name_rows(axes, names)
        _separate(axes, names, color="white", linewidth=1.5)
        _frame_off(axes)
        if len(tasks) > 1:
            axes.tick_params(axis="y", labelsize=5.5)
    bar = _colour_bar(figure, image, panels, f"mean step of removal (1 first, {depth} kept)")
    bar.set_ticks(np.unique(np.linspace(1, depth, min(depth, 6)).round()))
    bar.ax.invert_yaxis()
    return figure


@_styled
def fusion_importance(importances):
    """Draw what each fusion model leans on.

    Parameters
    ----------
    importances : DataFrame
        Columns ``signal``, ``fusion`` (name or title), ``importance`` and ``spread``, as from
        :func:`sfusion.fusion.importances`.

    Returns
    -------
    Figure
    """
    names, models = _ordered(importances["signal"]), list(dict.fromkeys(importances["fusion"]))
    figure = _Figure(figsize=(COLUMN, 0.21 * len(names) + 0.75))
    axes = figure.subplots()
    axes.axvline(0, **ZERO)
    for model, shift in zip(models, 0.3 * _centred(len(models)), strict=True):
        part = importances[importances["fusion"] == model].set_index("signal").loc[names]
        rows = np.arange(len(names)) + shift
        look = appearance(_fusion_name(model)) | {"linestyle": "", "elinewidth": 0.7}
        axes.errorbar(
            part["importance"],
            rows,
            xerr=part["spread"],
            label=STRATEGIES[_fusion_name(model)].title,
            **look,
        )
    _name_rows(axes, names)
    _separate(axes, names, color="0.85", linewidth=0.6)
    axes.set_xlabel(
        "rise in squared error when shuffled, share of the variance\n"
        "(mean ± standard deviation over folds and shuffles)",
        loc="right",
    )
    _legend_below(figure, _handles(axes), 2)
    return figure


@_styled
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
        A small dot a fit, and their mean.
    """
    names = _ordered(coefficients["signal"])
    figure = _Figure(figsize=(COLUMN, 0.19 * len(names) + 0.7))
    axes = figure.subplots()
    axes.axvline(0, **ZERO)
    parts = 100 * coefficients.set_index("signal")["coefficient"]
    fits = int(coefficients["signal"].value_counts().max())
    for row, name in enumerate(names):
        values, look = parts.loc[[name]], appearance(name) | {"linestyle": ""}
        if fits > 1:
            spot = {"color": "0.6", "marker": "o", "linestyle": "", "markersize": 1.8}
            axes.plot(values, [row] * len(values), **spot)
        axes.plot([values.mean()], [row], **look | {"markersize": 4.2})
    _name_rows(axes, names)
    _separate(axes, names, color="0.85", linewidth=0.6)
    label = "coefficient (points of accuracy a standard deviation)"
    label += f"\n(small: {fits} fits, large: their mean)" if fits > 1 else ""
    axes.set_xlabel(label, loc="right")
    return figure


@_styled
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
    figure = _Figure(figsize=(COLUMN if len(models) < 3 else PAGE, 2.0))
    panels = figure.subplots(1, len(models), sharex=True, sharey=True, squeeze=False)[0]
    points = 100 * predictions[["observed", "predicted"]]
    low, high = points.to_numpy().min(), points.to_numpy().max()
    margin = 0.05 * (high - low) or 1.0
    for model, axes in zip(models, panels, strict=True):
        part = points[predictions["fusion"] == model]
        error = ((part["observed"] - part["predicted"]) ** 2).sum()
        total = ((part["observed"] - part["observed"].mean()) ** 2).sum()
        axes.axline((0, 0), slope=1, **ZERO)
        look = appearance(_fusion_name(model)) | {"linestyle": "", "markersize": 2, "alpha": 0.5}
        axes.plot(part["predicted"], part["observed"], **look | {"markeredgewidth": 0})
        fit = f"R² {1 - error / total:.2f}, n {len(part)}".replace("-", "−") if total else ""
        axes.set_title(f"{STRATEGIES[_fusion_name(model)].title}\n{fit}")
        axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
        axes.set_xlabel("predicted change (points)")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_box_aspect(1)
    panels[0].set_ylabel("observed change (points)")
    return figure


@_styled
def distillation_by_depth(frame):
    """Draw the arms of the distillation by depth, a panel a task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.distilled`.

    Returns
    -------
    Figure
        Means over seeds with their range; the horizontal lines are means over seeds.
    """
    tasks, present = _tasks(frame), set(frame["arm"])
    arms = [arm for arm in ARM_STYLES if arm in present]
    figure, panels = _panels(
        tasks, PAGE, 1.7, "layers removed", "test accuracy (%)", extra=0.45, sharey=False
    )
    longer = ORIGINAL | {"linestyle": (0, (1, 1.5))}
    for task, axes in zip(tasks, panels, strict=True):
        part = frame[frame["task"] == task]
        axes.axhline(100 * part.drop_duplicates("seed")["original"].mean(), **ORIGINAL)
        extra = part.loc[part["arm"] == "original-same-steps", "test_accuracy"]
        if len(extra):
            axes.axhline(100 * extra.mean(), **longer)
        for arm, shift in zip(arms, 0.1 * _centred(len(arms)), strict=True):
            seeds = _by_seed(part[part["arm"] == arm])
            _whiskers(axes, seeds.index + shift, seeds, **ARM_STYLES[arm])
        _number_depths(axes, frame.loc[frame["arm"].isin(arms), "removed"])
    handles = [Line2D([], [], label="Original model", **ORIGINAL)]
    if "original-same-steps" in present:
        handles.append(Line2D([], [], label="Original model, same steps", **longer))
    handles += [Line2D([], [], label=ARM_TITLES[arm], **ARM_STYLES[arm]) for arm in arms]
    _legend_below(figure, handles, 3, _over_seeds(frame))
    return figure


@_styled
def distillation_gain(frame):
    """Draw what the teacher adds to the same steps without one.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.distilled`.

    Returns
    -------
    Figure
        Mean over tasks with its 95% bootstrap interval over tasks and seeds; a dot a task.
    """
    arms = frame[frame["arm"].isin(["distilled", "same-steps"])]
    wide_arms = arms.pivot(index=[*UNIT, "removed"], columns="arm", values="test_accuracy")
    gain = 100 * (wide_arms["distilled"] - wide_arms["same-steps"])
    figure = _Figure(figsize=(COLUMN, 2.2))
    axes = figure.subplots()
    axes.axhline(0, **ZERO)
    spots = gain.groupby(level=["task", "removed"]).mean().reset_index(name="gain")
    axes.plot(
        spots["removed"] + 0.16, spots["gain"], "o", color="0.6", markersize=2, label="a task"
    )
    parts = {removed: part.droplevel("removed") for removed, part in gain.groupby("removed")}
    mean = "mean over tasks, 95% bootstrap interval"
    _intervals(axes, parts, label=mean, capsize=2, **ARM_STYLES["distilled"])
    _number_depths(axes, parts)
    axes.set_xlabel("layers removed")
    axes.set_ylabel("distilled less same steps\nwithout a teacher (points)")
    _legend_below(figure, _handles(axes), 2)
    return figure


def best_single(frame):
    """Choose for each task and seed the signal that keeps validation accuracy highest.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.curves`.

    Returns
    -------
    DataFrame
        The rows of one signal a task and seed: the one of the highest mean validation accuracy
        over the depths, of ties the first in ``SIGNALS``.
    """
    singles = frame[frame["name"].isin(SIGNALS)]
    kept = singles[singles["removed"] > 0]
    means = kept.pivot_table(index=UNIT, columns="name", values="validation_accuracy")
    chosen = means[[name for name in SIGNALS if name in means]].idxmax(axis=1).rename("name")
    return singles.merge(chosen.reset_index(), on=[*UNIT, "name"])


@_styled
def accuracy_to_size(frame):
    """Draw accuracy against size, both as a share of the original's.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.curves`.

    Returns
    -------
    Figure
        Means over tasks with their 95% bootstrap intervals over tasks and seeds, for all
        parameters and for the encoder's; the single signal is that of :func:`best_single`.
    """
    originals = frame[frame["removed"] == 0].groupby(UNIT)
    lines = {
        "Random forest": (frame[frame["name"] == "random-forest"], appearance("random-forest")),
        "Best single signal by validation": (best_single(frame), SINGLE),
        "Random order": (frame[frame["name"] == "random"], appearance("random")),
        "Top layers first": (frame[frame["name"] == "top-first"], appearance("top-first")),
    }
    lines = {label: line for label, line in lines.items() if len(line[0])}
    figure = _Figure(figsize=(PAGE, 2.9))
    panels = figure.subplots(1, 2, sharey=True)
    sizes = {"parameters": "parameters", "encoder_parameters": "encoder parameters"}
    for axes, (size, title) in zip(panels, sizes.items(), strict=True):
        axes.axhline(100, **ORIGINAL)
        for shift, (label, (rows, look)) in zip(_centred(len(lines)), lines.items(), strict=True):
            means = rows.groupby([*UNIT, "removed"])[["test_accuracy", size]].mean()
            whole = originals[["test_accuracy", size]].first()
            share = 100 * means / whole.reindex(means.index.droplevel("removed")).to_numpy()
            parts = {
                part[size].mean() + 0.5 * shift: part["test_accuracy"].droplevel("removed")
                for _, part in share.groupby("removed")
            }
            _intervals(axes, parts, label=label, **look)
        axes.invert_xaxis()
        axes.set_xlabel(f"share of the original's {title} (%)")
    panels[0].set_ylabel("share of the original's\ntest accuracy (%)")
    handles = [Line2D([], [], label="Original model", **ORIGINAL), *_handles(panels[0])]
    title = "mean over tasks, 95% bootstrap interval over tasks and seeds"
    _legend_below(figure, handles, 5, title)
    return figure


@_styled
def ratio_by_denominator(readings):
    """Draw the accuracy-to-size ratio under every denominator, and what it gains in per cent.

    Parameters
    ----------
    readings : DataFrame
        From :func:`sfusion.claims.ratio_readings`: means over tasks and seeds.

    Returns
    -------
    Figure
        Left the fold change from the original to the distilled model; right what distillation
        adds to the pruned model's own ratio. The paper's number appears as a per cent only:
        as a fold change it is out of reach of these models.
    """
    figure = _Figure(figsize=(PAGE, 2.7))
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    for place, (name, part) in enumerate(readings.groupby("denominator", sort=False)):
        look = DENOMINATOR_STYLES[place] | {"label": name, "color": COLOURS["fusion"]}
        left.plot(part["removed"], part["distilled"], **look)
        right.plot(part["removed"], part["over_pruned_percent"], **look)
    paper = {"color": "0.4", "linestyle": LINES[3], "linewidth": 0.9}
    left.axhline(1 + RATIO / 100, label=f"the paper's {RATIO}, read as per cent gained", **paper)
    right.axhline(RATIO, **paper)
    left.axhline(1, **ZERO)
    right.axhline(0, **ZERO)
    left.set_yscale("log", base=2)
    gains = left.secondary_yaxis("right")  # takes over the scale, so it must come after it
    for axis in (left.yaxis, gains.yaxis):
        axis.set_major_locator(FixedLocator(FOLDS))
        axis.set_minor_locator(NullLocator())
    left.yaxis.set_major_formatter("{x:g}")
    gains.yaxis.set_major_formatter(lambda fold, _: f"{100 * (fold - 1):+.0f}".replace("-", "−"))
    gains.set_ylabel("gain over the original (%)")
    left.set_ylabel("accuracy over size, fold change\noriginal to distilled")
    right.set_ylabel("ratio gained by distillation\nover the pruned model (%)")
    for axes in (left, right):
        axes.set_xlabel("layers removed")
        _number_depths(axes, readings["removed"])
    _legend_below(figure, _handles(left), 3, "mean over tasks and seeds")
    return figure


@_styled
def protocol_gap(table):
    """Draw by how much choosing the depth on test flatters each strategy.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.protocols`.

    Returns
    -------
    Figure
        Mean over tasks with its 95% bootstrap interval over tasks and seeds; a dot a task.
    """
    gaps = 100 * wide(table, "optimism")
    names = list(gaps)
    figure = _Figure(figsize=(COLUMN, 0.17 * len(names) + 0.8))
    axes = figure.subplots()
    axes.axvline(0, **ZERO)
    for row, name in enumerate(names):
        spots = gaps[name].groupby(level="task").mean()
        axes.plot(spots, [row + 0.22] * len(spots), "o", color="0.6", markersize=1.6)
        look = appearance(name) | {"linestyle": ""}
        _intervals(axes, {row: gaps[name]}, along="x", **look)
    _name_rows(axes, names)
    _separate(axes, names, color="0.85", linewidth=0.6)
    axes.set_xlabel(
        "maximum test accuracy less that at validation's depth (points)\n"
        "mean over tasks, 95% bootstrap interval; small: a task",
        loc="right",
    )
    return figure


@_styled
def scoreboard(frame):
    """Draw each claim's number and interval beside what the claim asks for.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.claims.scoreboard`.

    Returns
    -------
    Figure
        A row a claim, each on its own scale, with 95% bootstrap intervals. A claim that cannot
        be tested has no mark for what it asks, since that has no unit.
    """
    figure = _Figure(figsize=(PAGE, 0.74 * len(frame) + 0.3))
    grid = figure.subplots(len(frame), 3, width_ratios=[2.3, 2.4, 1.1], squeeze=False)
    for row, (words, axes, verdict) in zip(frame.itertuples(), grid, strict=True):
        colour = VERDICTS[row.verdict]
        statement = textwrap.fill(row.paper, 46)
        words.text(0, 1, row.Index, weight="bold", va="top")
        words.text(0.1, 1, statement, va="top", fontsize=6.5)
        values = [row.ours, row.low, row.high]
        digits = 3 if 0 < max(map(abs, values)) < 0.1 else 2
        numbers = "ours " + _interval_text(*values, digits)
        threshold = f"threshold {row.claimed:.2f}"
        if row.verdict == "cannot be tested":
            threshold = f"claimed {row.claimed:.4g}, no unit given"
        else:
            axes.axvline(row.claimed, **THRESHOLD)
            values.append(row.claimed)
        # Not as whiskers of the point: the interval of a maximum need not hold it.
        axes.plot([row.low, row.high], [0, 0], color=colour, marker="|", markersize=5)
        axes.plot([row.ours], [0], color=colour, marker="o", markersize=4)
        axes.set_xlim(*_scale(row.measure, values))
        axes.set_ylim(-1, 1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(textwrap.fill(row.measure, 56), fontsize=6.5)
        verdict.text(0, 1, row.verdict, color=colour, weight="bold", va="top")
        verdict.text(0, 0.5, f"{numbers}\n{threshold}", va="top", fontsize=6.5)
        words.set_axis_off()
        verdict.set_axis_off()
    handles = [Line2D([], [], label="threshold of the claim", **THRESHOLD)]
    handles.append(Line2D([], [], color="0.4", marker="o", label="ours, 95% bootstrap interval"))
    _legend_below(figure, handles, 2)
    return figure


def _scale(measure, values):
    """Give shares and correlations their whole range, and other measures what they need."""
    if "share of" in measure:
        return -0.03, 1.03
    if measure.startswith("correlation"):
        return -1.03, 1.03
    margin = 0.12 * (max(values) - min(values)) or 0.1
    return min(values) - margin, max(values) + margin
