"""Figures: each is a pure function of a tidy frame, ``frame -> Figure``, drawn with seaborn.

Three drawings serve all of them: rows of intervals, curves over the layers removed, and heat maps.
A colour stands for a group of strategies; at most seven lines of a panel are in full colour, the
rest is grey. Accuracies are shares in the frames, per cent and percentage points in the figures.
"""

import functools
import io
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import style
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from sfusion import SfusionError
from sfusion.analysis.statistics import MARGIN, MEASURES, bootstrap
from sfusion.analysis.tables import BEST_SINGLE, redrawn, task_means, wide, with_best_single
from sfusion.pruning.strategies import STRATEGIES
from sfusion.records.results import UNIT
from sfusion.records.store import write_atomically

STYLE = ["default", str(Path(__file__).with_name("sfusion.mplstyle"))]
COLUMN, PAGE = 3.4, 7.0  # inches
# A colour per group, from a palette that the colour-blind can distinguish.
_GROUPS = "activation,mutual information,gradient,weight,attention,fusion,control,random,redundancy,search,position"
_PALETTE = [sns.color_palette("colorblind").as_hex()[n] for n in (1, 9, 2, 4, 0, 3, 5, 7, 6, 8)]
COLOURS = dict(zip(_GROUPS.split(","), [*_PALETTE, "#000000"], strict=True), reversed="#999999")
# The lines in full colour: what a reader compares; everything else is grey.
HIGHLIGHTED = {
    "random-forest": {"color": COLOURS["fusion"], "marker": "o"},
    "random-forest-position": {"color": COLOURS["control"], "marker": "s"},
    "greedy-oracle": {"color": COLOURS["gradient"], "marker": "^"},
    "angular-distance": {"color": COLOURS["redundancy"], "marker": "D"},
    BEST_SINGLE: {"color": COLOURS["attention"], "marker": "v"},
    "middle-first": {"color": COLOURS["position"], "marker": "X"},
    "random": {"color": COLOURS["random"], "marker": ""},
}
CONDITIONS = {
    "pruned": dict(label="Pruned, before the extra steps", color=COLOURS["random"], marker="^", linestyle=":"),
    "same-steps": dict(label="Same steps, no teacher", color=COLOURS["position"], marker="s", linestyle="--"),
    "distilled": dict(label="Distilled", color=COLOURS["fusion"], marker="o", linestyle="-"),
}
LINE = {"color": "black", "linewidth": 0.6, "zorder": 0.5}
_DASHED = {"color": "black", "linewidth": 0.9}
ORIGINAL = {"label": "Original model", "linestyle": (0, (4, 2)), **_DASHED}
BASELINE = {"label": "TF-IDF baseline", "linestyle": (0, (1, 1.5)), **_DASHED}
OTHER = {"color": "0.75", "linewidth": 0.6}
SPOT = {"color": "0.6", "s": 4, "linewidth": 0, "zorder": 1.5}
BAND = {"alpha": 0.25, "linewidth": 0, "zorder": 0}
BLUES = LinearSegmentedColormap.from_list("blues", ["#FFFFFF", "#8CCBEF"])


class PlainFigure(Figure):
    """A figure that notebooks show whatever the backend, and that no registry holds on to."""

    _png = None

    def _repr_png_(self):
        if self._png is None or self.stale:  # once for the file and for the notebook
            self._png = _render(self, "png")
            self.stale = False  # until something in it changes
        return self._png


def _render(figure, form):
    """Draw a figure into PNG or PDF bytes, the same for the same figure."""
    # Dates and versions would make the same figure differ from run to run.
    drop = {"png": ["Software"], "pdf": ["CreationDate", "Creator", "Producer"]}[form]
    stream = io.BytesIO()
    with style.context(STYLE):
        figure.savefig(stream, format=form, metadata=dict.fromkeys(drop))
    return stream.getvalue()


def styled(draw):
    """Draw a figure in the package's style, and refuse an empty frame."""

    @functools.wraps(draw)
    def wrapper(frame, *args, **kwargs):
        if frame.empty:
            raise SfusionError(f"{draw.__name__}: the frame is empty; run the study that fills it")
        with style.context(STYLE):
            figure = draw(frame, *args, **kwargs)
            figure.draw_without_rendering()  # ticks are made late and would miss the style
            figure.set_layout_engine("none")  # each further pass would move things a little
        return figure

    return wrapper


def save_figure(name, figure, frame, folder):
    """Write a figure and the frame it was drawn from: ``<name>.png``, ``.pdf`` and ``.csv``.

    Parameters
    ----------
    name : str
        File name without ending.
    figure : PlainFigure
    frame : DataFrame
        Written with six significant digits, and with its index where that is informative.
    folder : Path
        Created when missing.

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
    frame = frame.drop(columns="test_correct", errors="ignore")  # long, and not for reading
    table = frame.to_csv(index=index, float_format="%.6g", lineterminator="\n")
    write_atomically(folder / f"{name}.csv", table.encode())
    write_atomically(folder / f"{name}.pdf", _render(figure, "pdf"))
    write_atomically(folder / f"{name}.png", figure._repr_png_())
    return folder / f"{name}.png"


# --- three drawings


def _title(name):
    return "Best single signal" if name == BEST_SINGLE else STRATEGIES[name].title


def _colour(name):
    return HIGHLIGHTED[name]["color"] if name in HIGHLIGHTED else COLOURS[STRATEGIES[name].group]


def _ordered(names):
    return [name for name in (*STRATEGIES, BEST_SINGLE) if name in set(names)]


def _intervals(axes, rows, table, colour, *, scale=1.0, shift=0.0, **look):
    """Draw rows of intervals, columns ``value``, ``low`` and ``high``.

    seaborn's functions compute their own error bars and take none that are computed already.
    """
    at = np.arange(len(rows)) + shift
    low, high = scale * table["low"], scale * table["high"]
    colours = colour if isinstance(colour, list) else [colour] * len(rows)
    axes.hlines(at, low, high, color=colours, linewidth=1.0)
    look = {"facecolor": colours, "edgecolor": colours, "zorder": 3, "linewidth": 0.9, **look}
    axes.scatter(scale * table["value"], at, s=16, **look)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _one_panel(width, height):
    figure = PlainFigure(figsize=(width, height))
    return figure, figure.subplots()


def _row_axes(count, xlabel, *, width=COLUMN + 0.6, height=0.17, zero=0.0, **line):
    figure, axes = _one_panel(width, height * count + 0.8)
    axes.axvline(zero, **LINE | line)
    axes.set_xlabel(xlabel)
    return figure, axes


def _bootstrapped(parts):
    """Tabulate ``value``, ``low`` and ``high`` of several (task, seed) Series, by name."""
    rows = {name: bootstrap(part.dropna()) for name, part in parts.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])


def _spots(axes, frame, rows, shift=0.24):
    """Draw a grey dot per task, ``frame`` with a column per row and (task, seed) as index."""
    means = task_means(frame)
    for at, name in enumerate(rows):
        axes.scatter(means[name], [at + shift] * len(means), **SPOT)


def _heat(axes, values, texts=None, **look):
    """Draw a heat map, its row names coloured by group; ``texts`` are written into the cells."""
    sns.heatmap(values, ax=axes, annot=texts, fmt="", annot_kws={"fontsize": 6}, **look)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0)
    axes.set_yticks(np.arange(len(values)) + 0.5, list(map(_title, values.index)), rotation=0)
    for label, name in zip(axes.get_yticklabels(), values.index, strict=True):
        label.set_color(COLOURS[STRATEGIES[name].group])


def _panels(tasks, height, extra):
    """Lay out a panel per task; ``height`` of a row of them and ``extra`` in inches."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(tasks), 3)
    rows = -(-len(tasks) // columns)
    figure = PlainFigure(figsize=(PAGE, height * rows + extra))
    grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
    for spare in grid.flat[len(tasks) :]:
        spare.remove()
    for task, axes in zip(tasks, grid.flat, strict=False):
        axes.set_title(task)
    return figure, list(grid.flat[: len(tasks)])


def _legend(figure, handles, columns, title=None):
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=title)


def _depth_axis(axes, removed, ylabel, first=True):
    axes.set(xticks=sorted(set(removed)), xlabel="layers removed", ylabel=ylabel if first else "")


def _curves(axes, frame, x="removed"):
    """Draw accuracy over the layers removed: highlighted strategies, the rest grey."""
    named = frame["name"].isin(HIGHLIGHTED)
    others = frame[~named].groupby(["name", x], as_index=False)["accuracy"].mean()
    sns.lineplot(others, x=x, y="accuracy", units="name", estimator=None, ax=axes, legend=False, zorder=1, **OTHER)
    for name in _ordered(frame.loc[named, "name"]):
        band = ("pi", 80) if name == "random" and x == "removed" else None
        look = {"markersize": 4, "markeredgewidth": 0, "errorbar": band} | HIGHLIGHTED[name]
        sns.lineplot(frame[frame["name"] == name], x=x, y="accuracy", ax=axes, err_kws=BAND, legend=False, **look)


# --- the figures


def _curve_legend(figure, frame, columns, title, handles):
    """List the highlighted strategies that a frame has."""
    present = [name for name in HIGHLIGHTED if name in set(frame["name"])]
    handles += [Line2D([], [], label=_title(n), markersize=4, **HIGHLIGHTED[n]) for n in present]
    handles.append(Line2D([], [], label="Other strategies", **OTHER))
    _legend(figure, handles, columns, title)


@styled
def signal_profile(frame):
    """Draw the signals over the layers of the unpruned models, a panel per task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.standardised_signals`: means over seeds.

    Returns
    -------
    Figure
    """
    tasks, names = sorted(set(frame["task"])), _ordered(frame["signal"])
    limit = frame["value"].abs().max() or 1.0
    figure, panels = _panels(tasks, 1.9, 0.6)
    for place, (task, axes) in enumerate(zip(tasks, panels, strict=True)):
        table = frame[frame["task"] == task].pivot(index="signal", columns="layer", values="value")
        _heat(axes, table.loc[names], cmap="RdBu_r", vmin=-limit, vmax=limit, cbar=False)
        axes.set_xlabel("layer")
        if place % 3:
            axes.set_yticks([])
    figure.colorbar(panels[0].collections[0], ax=panels, label="standard deviations from the model's mean", aspect=40)
    return figure


@styled
def signal_correlation(matrix):
    """Draw how similarly the signals rank the layers.

    Parameters
    ----------
    matrix : DataFrame
        From :func:`sfusion.analysis.tables.signal_correlations`: means over tasks and seeds.

    Returns
    -------
    Figure
    """
    names = _ordered(matrix.index)
    values = matrix.loc[names, names]
    texts = values.map(lambda v: "–" if np.isnan(v) else f"{v:z.2f}".replace("-", "−"))
    figure, axes = _one_panel(5.6, 4.2)
    label = {"label": "Spearman correlation of the orders of removal", "aspect": 40}
    _heat(axes, values, texts, cmap="RdBu_r", vmin=-1, vmax=1, cbar_kws=label)
    axes.set_xticks(np.arange(len(names)) + 0.5, list(map(_title, names)), rotation=40, ha="right")
    return figure


@styled
def accuracy_by_depth(frame, tasks, *, by_task=False):
    """Draw test accuracy over the layers removed.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`, or some of its strategies.
    tasks : DataFrame
        ``Results.tasks``, for the TF-IDF baseline.
    by_task : bool
        A panel per task instead of one with the mean over tasks.

    Returns
    -------
    Figure
        Means over seeds; the grey band holds the middle 80% of the random orders.
    """
    shown = with_best_single(frame).assign(accuracy=lambda f: 100 * f["test_accuracy"])
    baseline = 100 * tasks.groupby("task")["tfidf_accuracy"].mean()
    if not by_task:
        keys = ["name", "strategy", "seed", "removed"]
        title = f"mean over {frame['task'].nunique()} tasks"
        shown = shown.groupby(keys, as_index=False)["accuracy"].mean().assign(task=title)
        baseline = pd.Series({title: baseline.mean()})
    names = sorted(set(shown["task"]))
    figure, panels = _panels(names, 1.75 if by_task else 2.9, 0.75)
    for place, (task, axes) in enumerate(zip(names, panels, strict=True)):
        part = shown[shown["task"] == task]
        axes.axhline(part.loc[part["removed"] == 0, "accuracy"].mean(), **ORIGINAL)
        axes.axhline(baseline[task], **BASELINE)
        _curves(axes, part)
        _depth_axis(axes, part["removed"], "test accuracy (%)", place % 3 == 0)
    handles = [Line2D([], [], **look) for look in (ORIGINAL, BASELINE)]
    _curve_legend(figure, shown, 5, "means over seeds; band: middle 80% of random orders", handles)
    return figure


@styled
def removal_order(orders):
    """Draw at which step each strategy removes each layer, averaged over tasks.

    Parameters
    ----------
    orders : DataFrame
        From :func:`sfusion.analysis.tables.removal_orders`.

    Returns
    -------
    Figure
    """
    names, depth = _ordered(orders["name"]), int(orders["step"].max())
    means = orders.groupby(["task", "name", "layer"])["step"].mean().groupby(["name", "layer"])
    steps = means.mean().unstack("layer").loc[names]
    figure, axes = _one_panel(2.6 + 0.3 * max(depth, 8), 0.16 * len(names) + 0.6)
    label = {"label": f"mean step of removal (1 first, {depth} kept)", "aspect": 40}
    _heat(axes, steps, steps.map("{:.1f}".format), cmap="viridis", cbar_kws=label)
    axes.set_xlabel("layer")
    return figure


@styled
def kept_layers(gains):
    """Draw what sets of layers gain by keeping a layer, at each depth.

    Parameters
    ----------
    gains : DataFrame
        From :func:`sfusion.analysis.claims.gain_of_keeping`.

    Returns
    -------
    Figure
        Mean over tasks and seeds, percentage points of test accuracy.
    """
    means = gains.groupby(["task", "removed", "layer"])["gain"].mean().groupby(["removed", "layer"]).mean()
    means = 100 * means.unstack("layer")
    limit = means.abs().max(axis=None)
    figure, axes = _one_panel(COLUMN + 0.8, 0.26 * len(means) + 0.7)
    texts = means.map(lambda v: f"{v:+z.1f}".replace("-", "−"))
    look = {"annot": texts, "fmt": "", "annot_kws": {"fontsize": 6}, "cbar_kws": {"label": "gain of keeping (pp)"}}
    sns.heatmap(means, ax=axes, cmap="RdBu", vmin=-limit, vmax=limit, **look)
    axes.set(xlabel="layer", ylabel="layers removed")
    axes.tick_params(length=0, labelrotation=0)
    return figure


@styled
def gain_by_surviving_layer(gains):
    """Draw the lead over random orders by the layer that the order keeps to the end.

    Parameters
    ----------
    gains : DataFrame
        From :func:`sfusion.analysis.tables.gains_by_surviving_layer`.

    Returns
    -------
    Figure
        Mean over tasks with its 95% bootstrap interval over tasks and seeds.
    """
    by_layer = {f"ends on layer {layer} ({len(part)} paths)": part for layer, part in gains.groupby("layer")}
    parts = {name: 100 * part.groupby(UNIT)["gain"].mean() for name, part in by_layer.items()}
    xlabel = "lead over random orders, mean accuracy over depths\n(pp, 95% interval over tasks and seeds)"
    figure, axes = _row_axes(len(parts), xlabel, height=0.24)
    _intervals(axes, list(parts), _bootstrapped(parts), COLOURS["fusion"])
    return figure


@styled
def maximum_accuracy(table):
    """Draw every strategy's score on every task, and its lead over random orders.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.tables.protocols`.

    Returns
    -------
    Figure
        Highest test accuracy over the depths. Numbers are means over seeds; colours run from the
        worst to the best strategy of each task. Right: the mean lead over the random orders of
        the same task and seed, with its 95% bootstrap interval over both.
    """
    scores = 100 * wide(table, "test_selected")
    means = scores.groupby(level="task").mean().T
    figure = PlainFigure(figsize=(PAGE, 0.19 * len(means) + 0.9))
    left, right = figure.subplots(1, 2, width_ratios=[2.2, 1])
    relative = (means - means.min()) / (means.max() - means.min()).replace(0, 1.0)
    label = dict(label="worst to best strategy", location="top", ticks=[], aspect=60)
    _heat(left, relative, means.map("{:.1f}".format), cmap=BLUES, vmin=0, vmax=1, cbar_kws=label)
    left.set_xticks(np.arange(len(means.columns)) + 0.5, means.columns, rotation=30, ha="right")
    left.set_xlabel("maximum test accuracy (%)")
    lead = _bootstrapped({name: scores[name] - scores["random"] for name in means.index})
    right.axvline(0, **LINE)
    _intervals(right, [""] * len(lead), lead, [_colour(name) for name in means.index])
    right.set_xlabel("minus random order, pp\n(95% over tasks, seeds)")
    return figure


@styled
def fusion_importance(importances):
    """Draw the permutation importance of the signals, for each fusion.

    Parameters
    ----------
    importances : DataFrame
        Columns ``signal``, ``fusion`` (title), ``importance`` and ``spread``, as from
        :func:`sfusion.analysis.statistics.importances`.

    Returns
    -------
    Figure
    """
    names, fusions = _ordered(importances["signal"]), list(dict.fromkeys(importances["fusion"]))
    xlabel = "rise in squared error when permuted, share of the variance\n(± 1 s.d.)"
    figure, axes = _row_axes(len(names), xlabel, height=0.22)
    looks = [{"facecolor": "white", "marker": "s"}, {"marker": "o"}]
    for fusion, shift, look in zip(fusions, (-0.15, 0.15), looks, strict=False):
        part = importances[importances["fusion"] == fusion].set_index("signal").loc[names]
        value, spread = part["importance"], part["spread"]
        table = pd.DataFrame({"value": value, "low": value - spread, "high": value + spread})
        _intervals(axes, list(map(_title, names)), table, COLOURS["fusion"], shift=shift, label=fusion, **look)
    _legend(figure, axes.get_legend_handles_labels()[0], 2)
    return figure


@styled
def distillation_by_depth(frame):
    """Draw the conditions of the distillation by depth, a panel per task.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.distilled`.

    Returns
    -------
    Figure
        Means over seeds; the horizontal lines are the original, as it was and after the same
        extra steps.
    """
    tasks = sorted(set(frame["task"]))
    figure, panels = _panels(tasks, 1.6, 0.6)
    longer = frame["condition"] == "original-same-steps"
    shown = frame[frame["condition"].isin(CONDITIONS)].assign(accuracy=lambda f: 100 * f["test_accuracy"])
    for place, (task, axes) in enumerate(zip(tasks, panels, strict=True)):
        own = frame["task"] == task
        axes.axhline(100 * frame.loc[own, "original"].mean(), **ORIGINAL)
        axes.axhline(100 * frame.loc[own & longer, "test_accuracy"].mean(), **BASELINE)
        part = shown[shown["task"] == task]
        for condition, look in CONDITIONS.items():
            rows = part[part["condition"] == condition].groupby("removed")["accuracy"].mean()
            axes.plot(rows, markersize=4, **look)
        _depth_axis(axes, shown["removed"], "test accuracy (%)", place % 3 == 0)
    longer = BASELINE | {"label": "Original model, same steps"}
    looks = [ORIGINAL, longer, *({"markersize": 4} | look for look in CONDITIONS.values())]
    _legend(figure, [Line2D([], [], **look) for look in looks], 3, "means over seeds")
    return figure


@styled
def distillation_gain(frame):
    """Draw what the teacher adds to the same steps without one.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.distilled`.

    Returns
    -------
    Figure
        Mean over tasks with its 95% bootstrap interval; a dot per task.
    """
    pair = redrawn(frame, ["condition", "removed"])
    gain = 100 * (pair["distilled"] - pair["same-steps"])
    xlabel = "distilled minus same steps, no teacher\n(percentage points, 95% interval)"
    figure, axes = _row_axes(gain.shape[1], xlabel, height=0.24)
    _spots(axes, gain, list(gain))
    _intervals(axes, [f"{n} removed" for n in gain], _bootstrapped(gain), COLOURS["fusion"])
    return figure


@styled
def accuracy_to_size(frame):
    """Draw the share of the original's accuracy against the share of its parameters.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`.

    Returns
    -------
    Figure
        Means over tasks and seeds.
    """
    columns = [*UNIT, "test_accuracy", "parameters"]
    originals = frame.loc[frame["removed"] == 0, columns].drop_duplicates(UNIT)
    shown = with_best_single(frame).merge(originals, on=UNIT, suffixes=("", "_original"))
    shown["accuracy"] = 100 * shown["test_accuracy"] / shown["test_accuracy_original"]
    shown["size"] = 100 * shown["parameters"] / shown["parameters_original"]
    shown = shown.groupby(["name", "removed"], as_index=False)[["accuracy", "size"]].mean()
    figure, axes = _one_panel(COLUMN + 1.6, 2.8)
    axes.axhline(100, **ORIGINAL)
    _curves(axes, shown, "size")
    axes.invert_xaxis()
    axes.set(xlabel="parameters, % of the original's", ylabel="test accuracy, % of the original's")
    _curve_legend(figure, shown, 3, "means over tasks and seeds", [])
    return figure


@styled
def regret(frame):
    """Draw how far the sets that strategies leave are from the best sets of their size.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.regret`.

    Returns
    -------
    Figure
    """
    scores = 100 * frame.pivot_table(index=UNIT, columns="name", values="regret")
    names = _ordered(scores)
    note = "95% bootstrap interval over tasks and seeds; dots: tasks"
    figure, axes = _row_axes(len(names), f"regret to the best set (pp of test accuracy)\n{note}", width=5.2)
    table = _bootstrapped({name: scores[name] for name in names})
    _spots(axes, scores[names], names)
    _intervals(axes, list(map(_title, names)), table, [_colour(name) for name in names])
    return figure


@styled
def contrasts(table, by="measure"):
    """Draw every contrast as an interval.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.statistics.contrasts`, of one study or, with a column ``study``,
        of two.
    by : {"measure", "study"}
        What is compared within a row: two measures or two studies.

    Returns
    -------
    Figure
        Differences in percentage points of test accuracy, with 95% bootstrap intervals; grey: the
        margin within which a difference counts as none.
    """
    titles = list(dict.fromkeys(table["contrast"]))
    pair = MEASURES if by == "measure" else {name: name for name in table[by].unique()}
    xlabel = "difference in test accuracy (percentage points)"
    figure, axes = _row_axes(len(titles), xlabel, width=PAGE, height=0.36)
    axes.axvspan(-100 * MARGIN, 100 * MARGIN, color="0.6", **BAND)
    looks = [{"marker": "o"}, {"marker": "s", "facecolor": "white"}]
    for shift, (name, label), look in zip((-0.15, 0.15), pair.items(), looks, strict=True):
        rows = table[table[by] == name].rename(columns={"difference": "value"}).set_index("contrast").reindex(titles)
        _intervals(axes, titles, rows, COLOURS["fusion"], scale=100, shift=shift, label=label, **look)
    which = "" if by == "measure" else f", {MEASURES[table['measure'].iloc[0]]}"
    drawn = " or ".join(table["drawn"].unique())
    title = f"test accuracy{which}; 95% bootstrap interval over {drawn}; grey: within {100 * MARGIN:g} pp"
    _legend(figure, axes.get_legend_handles_labels()[0], 2, title)
    return figure


@styled
def overhead(table):
    """Draw the gain of each strategy against its compute cost.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.costs.compute_costs`.

    Returns
    -------
    Figure
        Across, all FLOPs as a multiple of those of dropping the top layers; up, mean accuracy
        over depths minus that of dropping the top layers, with its 95% bootstrap interval.
    """
    figure, axes = _one_panel(PAGE, 3.4)
    axes.axhline(0, **LINE)
    named = ["random-forest-transfer", "random-forest-position-transfer", "linear-regression", *HIGHLIGHTED]
    colours = [_colour(name) if name in named else "0.75" for name in table.index]
    axes.vlines(table["times"], table["low"], table["high"], colours, linewidth=0.8)
    axes.scatter(table["times"], table["gain"], s=14, zorder=3, linewidth=0, c=colours)
    shown = table[table.index.isin(named)].sort_values("gain")
    step, placed = 0.05 * (table["high"].max() - table["low"].min()), []
    for name, row in shown.iterrows():
        x, y = row["times"], row["gain"]
        while any(abs(np.log(x / a)) < 0.7 and abs(y - b) < step for a, b in placed):
            y += step / 4
        placed.append((x, y))
        axes.text(1.05 * x, y, _title(name), color=_colour(name), va="center")
    axes.set_xscale("log")
    axes.xaxis.set(major_locator=FixedLocator([1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 48]), major_formatter="{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(0.93, 1.6 * table["times"].max())
    axes.set_xlabel("compute cost: FLOPs as a multiple of dropping the top layers")
    axes.set_ylabel("mean accuracy over depths minus that of\ndropping the top layers (pp, 95%)")
    return figure


@styled
def compression_curve(curve):
    """Draw the validation accuracy of every model on the pruning path.

    Parameters
    ----------
    curve : DataFrame
        ``CompressionResult.curve``: a row per model, columns ``layers``, ``distilled``,
        ``chosen``, ``parameters``, ``validation_accuracy``, ``low``, ``high``.

    Returns
    -------
    Figure
        A row per model with its 95% interval (Wilson); dashed: the original.
    """
    rows = [
        f"{row.layers} layers, {row.parameters / 1e6:.1f} M{', distilled' * row.distilled}" + " (written)" * row.chosen
        for row in curve.itertuples()
    ]
    table = curve.rename(columns={"validation_accuracy": "value"})
    look = {"height": 0.22, "zero": 100 * table["value"].iloc[0], **ORIGINAL}
    figure, axes = _row_axes(len(rows), "validation accuracy (%, 95% interval)", **look)
    colours = [COLOURS["fusion"] if taught else "#666666" for taught in curve["distilled"]]
    _intervals(axes, rows, table, colours, scale=100)
    return figure
