"""Drawing: the style, and the three drawings that serve all figures."""

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

from sfusion.analysis.scores import BEST_SINGLE, MEASURES, task_means
from sfusion.analysis.statistics import MARGIN, bootstrap
from sfusion.disk import write_atomically
from sfusion.errors import SfusionError
from sfusion.experiments.results import UNIT
from sfusion.pruning.strategies import STRATEGIES

STYLE = ["default", str(Path(__file__).with_name("sfusion.mplstyle"))]

COLUMN, PAGE = 3.4, 7.0  # inches

# A colour per group, from a palette that the colour-blind can distinguish.
_GROUPS = "activation,mutual information,gradient,weight,attention,fusion,control,random,redundancy,search,position"

_PALETTE = [
    sns.color_palette("colorblind").as_hex()[n] for n in (1, 9, 2, 4, 0, 3, 5, 7, 6, 8)
]

COLOURS = dict(
    zip(_GROUPS.split(","), [*_PALETTE, "#000000"], strict=True), reversed="#999999"
)

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
    "pruned": dict(
        label="Pruned, before the extra steps",
        color=COLOURS["random"],
        marker="^",
        linestyle=":",
    ),
    "same-steps": dict(
        label="Same steps, no teacher",
        color=COLOURS["position"],
        marker="s",
        linestyle="--",
    ),
    "distilled": dict(
        label="Distilled", color=COLOURS["fusion"], marker="o", linestyle="-"
    ),
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
            self._png = render(self, "png")
            self.stale = False  # until something in it changes
        return self._png


def render(figure, form):
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
            raise SfusionError(
                f"{draw.__name__}: the frame is empty; run the study that fills it"
            )
        with style.context(STYLE):
            figure = draw(frame, *args, **kwargs)
            figure.draw_without_rendering()  # ticks are made late and would miss the style
            figure.set_layout_engine(
                "none"
            )  # each further pass would move things a little
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
        Written with six significant digits, and with its index where that is
        informative.
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
    index = frame.index.name is not None or not pd.api.types.is_integer_dtype(
        frame.index
    )
    frame = frame.drop(
        columns="test_correct", errors="ignore"
    )  # long, and not for reading
    table = frame.to_csv(index=index, float_format="%.6g", lineterminator="\n")
    write_atomically(folder / f"{name}.csv", table.encode())
    write_atomically(folder / f"{name}.pdf", render(figure, "pdf"))
    write_atomically(folder / f"{name}.png", figure._repr_png_())
    return folder / f"{name}.png"


def strategy_title(name):
    return "Best single signal" if name == BEST_SINGLE else STRATEGIES[name].title


def strategy_colour(name):
    return (
        HIGHLIGHTED[name]["color"]
        if name in HIGHLIGHTED
        else COLOURS[STRATEGIES[name].group]
    )


def in_registry_order(names):
    return [name for name in (*STRATEGIES, BEST_SINGLE) if name in set(names)]


def draw_intervals(axes, rows, table, colour, *, scale=1.0, shift=0.0, **look):
    """Draw rows of intervals, columns ``value``, ``low`` and ``high``.

    seaborn's functions compute their own error bars and take none that are computed
    already.
    """
    at = np.arange(len(rows)) + shift
    low, high = scale * table["low"], scale * table["high"]
    colours = colour if isinstance(colour, list) else [colour] * len(rows)
    axes.hlines(at, low, high, color=colours, linewidth=1.0)
    look = {
        "facecolor": colours,
        "edgecolor": colours,
        "zorder": 3,
        "linewidth": 0.9,
        **look,
    }
    axes.scatter(scale * table["value"], at, s=16, **look)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def one_panel(width, height):
    figure = PlainFigure(figsize=(width, height))
    return figure, figure.subplots()


def row_axes(count, xlabel, *, width=COLUMN + 0.6, height=0.17, zero=0.0, **line):
    figure, axes = one_panel(width, height * count + 0.8)
    axes.axvline(zero, **LINE | line)
    axes.set_xlabel(xlabel)
    return figure, axes


def bootstrapped(parts):
    """Tabulate ``value``, ``low`` and ``high`` of several (task, seed) Series, by name."""
    rows = {name: bootstrap(part.dropna()) for name, part in parts.items()}
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["value", "low", "high"]
    )


def draw_spots(axes, frame, rows, shift=0.24):
    """Draw a grey dot per task, ``frame`` with a column per row and (task, seed) as index."""
    means = task_means(frame)
    for at, name in enumerate(rows):
        axes.scatter(means[name], [at + shift] * len(means), **SPOT)


def draw_heat_map(axes, values, texts=None, **look):
    """Draw a heat map, its row names coloured by group; ``texts`` are written into the cells."""
    sns.heatmap(values, ax=axes, annot=texts, fmt="", annot_kws={"fontsize": 6}, **look)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(length=0)
    axes.set_yticks(
        np.arange(len(values)) + 0.5,
        list(map(strategy_title, values.index)),
        rotation=0,
    )
    for label, name in zip(axes.get_yticklabels(), values.index, strict=True):
        label.set_color(COLOURS[STRATEGIES[name].group])


def panel_grid(tasks, height, extra):
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


def figure_legend(figure, handles, columns, title=None):
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, title=title
    )


def depth_axis(axes, removed, ylabel, first=True):
    axes.set(
        xticks=sorted(set(removed)),
        xlabel="layers removed",
        ylabel=ylabel if first else "",
    )


def draw_curves(axes, frame, x="removed"):
    """Draw accuracy over the layers removed: highlighted strategies, the rest grey."""
    named = frame["name"].isin(HIGHLIGHTED)
    others = frame[~named].groupby(["name", x], as_index=False)["accuracy"].mean()
    sns.lineplot(
        others,
        x=x,
        y="accuracy",
        units="name",
        estimator=None,
        ax=axes,
        legend=False,
        zorder=1,
        **OTHER,
    )
    for name in in_registry_order(frame.loc[named, "name"]):
        band = ("pi", 80) if name == "random" and x == "removed" else None
        look = {"markersize": 4, "markeredgewidth": 0, "errorbar": band} | HIGHLIGHTED[
            name
        ]
        sns.lineplot(
            frame[frame["name"] == name],
            x=x,
            y="accuracy",
            ax=axes,
            err_kws=BAND,
            legend=False,
            **look,
        )


def curve_legend(figure, frame, columns, title, handles):
    """List the highlighted strategies that a frame has."""
    present = [name for name in HIGHLIGHTED if name in set(frame["name"])]
    handles += [
        Line2D([], [], label=strategy_title(n), markersize=4, **HIGHLIGHTED[n])
        for n in present
    ]
    handles.append(Line2D([], [], label="Other strategies", **OTHER))
    figure_legend(figure, handles, columns, title)


@styled
def regret(frame):
    """Draw how far the sets that strategies leave are from the best sets of their size.

    Parameters
    ----------
    frame : DataFrame
        From :func:`regret`.

    Returns
    -------
    Figure
    """
    scores = 100 * frame.pivot_table(index=UNIT, columns="name", values="regret")
    names = in_registry_order(scores)
    note = "95% bootstrap interval over tasks and seeds; dots: tasks"
    figure, axes = row_axes(
        len(names), f"regret to the best set (pp of test accuracy)\n{note}", width=5.2
    )
    table = bootstrapped({name: scores[name] for name in names})
    draw_spots(axes, scores[names], names)
    draw_intervals(
        axes,
        list(map(strategy_title, names)),
        table,
        [strategy_colour(name) for name in names],
    )
    return figure


@styled
def contrasts(table, by="measure"):
    """Draw every contrast as an interval.

    Parameters
    ----------
    table : DataFrame
        From :func:`contrasts`, of one study or, with a column ``study``,
        of two.
    by : {"measure", "study"}
        What is compared within a row: two measures or two studies.

    Returns
    -------
    Figure
        Differences in percentage points of test accuracy, with 95% bootstrap intervals;
        grey: the margin within which a difference counts as none.
    """
    titles = list(dict.fromkeys(table["contrast"]))
    pair = MEASURES if by == "measure" else {name: name for name in table[by].unique()}
    xlabel = "difference in test accuracy (percentage points)"
    figure, axes = row_axes(len(titles), xlabel, width=PAGE, height=0.36)
    axes.axvspan(-100 * MARGIN, 100 * MARGIN, color="0.6", **BAND)
    looks = [{"marker": "o"}, {"marker": "s", "facecolor": "white"}]
    for shift, (name, label), look in zip(
        (-0.15, 0.15), pair.items(), looks, strict=True
    ):
        rows = (
            table[table[by] == name]
            .rename(columns={"difference": "value"})
            .set_index("contrast")
            .reindex(titles)
        )
        draw_intervals(
            axes,
            titles,
            rows,
            COLOURS["fusion"],
            scale=100,
            shift=shift,
            label=label,
            **look,
        )
    which = "" if by == "measure" else f", {MEASURES[table['measure'].iloc[0]]}"
    drawn = " or ".join(table["drawn"].unique())
    title = f"test accuracy{which}; 95% bootstrap interval over {drawn}; grey: within {100 * MARGIN:g} pp"
    figure_legend(figure, axes.get_legend_handles_labels()[0], 2, title)
    return figure
