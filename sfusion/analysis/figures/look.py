"""How figures look and are saved: one visual language for all of them.

One visual language: a colour a group of strategies, a marker and a line style a strategy within
its group, a black dashed line for the original model. Accuracies are shares in the frames and
per cent, or points of it, in the figures. Where seeds are shown, a whisker runs from the lowest
to the highest of them; where tasks are averaged, it is the bootstrap interval of
:func:`sfusion.analysis.tables.bootstrap`.
"""

import functools
import io
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import style
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from sfusion import SfusionError
from sfusion.analysis.tables import bootstrap
from sfusion.pruning.strategies import STRATEGIES, TRANSFER
from sfusion.records.store import write_atomically

STYLE = ["default", str(Path(__file__).parents[1] / "sfusion.mplstyle")]
COLUMN, PAGE = 3.4, 7.0  # inches

# A colour a group: Okabe and Ito's palette, which the colour-blind can tell apart; beyond its
# eight, dark colours of Tol's, told apart by marker too.
COLOURS = {
    "activation": "#E69F00",
    "mutual information": "#56B4E9",
    "gradient": "#009E73",
    "weight": "#CC79A7",
    "attention": "#0072B2",
    "fusion": "#D55E00",
    "control": "#8C510A",
    "random": "#999999",
    "position": "#000000",
    "redundancy": "#882255",
    "search": "#117733",
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
    "same-steps": {"color": "black", "marker": "s", "markerfacecolor": "white"},
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
    "partly": "#8C6D00",
    "not supported": "#D55E00",
    "undecided": "#0072B2",
    "cannot be tested": "#666666",
}


class PlainFigure(Figure):
    """A figure that notebooks show whatever the backend, and that no registry holds on to."""

    def _repr_png_(self):
        return render(self, "png")


def render(figure, form):
    """Draw a figure into PNG or PDF bytes, the same for the same figure."""
    # Dates and versions would make the same figure differ from run to run.
    drop = {"png": ["Software"], "pdf": ["CreationDate", "Creator", "Producer"]}[form]
    stream = io.BytesIO()
    with style.context(STYLE):
        figure.savefig(stream, format=form, metadata=dict.fromkeys(drop))
    return stream.getvalue()


def styled(draw):
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
            figure.set_layout_engine("none")  # each further pass would move things a little
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
        write_atomically(folder / f"{name}.{form}", render(figure, form))
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


def ordered(names):
    """Sort names of strategies as ``STRATEGIES`` does."""
    present = set(names)
    return [name for name in STRATEGIES if name in present]


def task_names(frame):
    """List the tasks of a frame, sorted."""
    return sorted(set(frame["task"]))


def over_seeds(frame, what="markers, whiskers: mean, range"):
    """Say what the marks show, given how many seeds a frame has."""
    count = frame["seed"].nunique()
    return "one seed" if count == 1 else f"{what} over {count} seeds"


def interval_text(mean, low, high, digits=1):
    """Write a number with its interval.

    Parameters
    ----------
    mean, low, high : float
    digits : int
        After the point.

    Returns
    -------
    str
    """
    mean, low, high = (f"{number:z.{digits}f}" for number in (mean, low, high))
    return f"{mean} [{low}, {high}]".replace("-", "−")


def panel_grid(tasks, width, height, xlabel, ylabel, *, extra=0.0, sharey=True):
    """Lay out a panel a task; ``height`` of a row of them and ``extra`` in inches."""
    columns = {1: 1, 2: 2, 4: 2}.get(len(tasks), 3)
    rows = -(-len(tasks) // columns)
    figure = PlainFigure(figsize=(width, height * rows + extra))
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


def legend_below(figure, handles, columns, title=None, labels=None):
    """Put a legend under the figure."""
    labels = [handle.get_label() for handle in handles] if labels is None else labels
    where = {"loc": "outside lower center", "ncols": columns, "title": title}
    figure.legend(list(handles), list(labels), **where)


def name_rows(axes, names):
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


def separate(axes, names, *, both=False, **line):
    """Draw lines between the groups of strategies."""
    groups = [STRATEGIES[name].group for name in names]
    for place in range(1, len(names)):
        if groups[place] != groups[place - 1]:
            axes.axhline(place - 0.5, **line)
            if both:
                axes.axvline(place - 0.5, **line)


def frame_off(axes):
    """Leave out frame and tick marks."""
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def colour_bar(figure, image, axes, label):
    """Add a colour bar of even width."""
    return figure.colorbar(image, ax=axes, label=label, aspect=9 * figure.get_figheight())


def number_layers(axes, layers, step=1):
    """Tick the layers."""
    axes.set_xticks(range(0, len(layers), step), layers[::step])


def number_depths(axes, removed):
    """Tick whole layers, and leave a margin that holds for a single depth too."""
    removed = sorted(set(removed))
    axes.set_xticks(removed[:: 2 if len(removed) > 12 else 1])
    axes.set_xlim(removed[0] - 0.5, removed[-1] + 0.5)


def write_cells(axes, image, texts, bold=None, **font):
    """Write into the cells of a heat map, white on dark cells."""
    values = image.get_array()
    for (row, column), text in np.ndenumerate(texts):
        red, green, blue, _ = image.cmap(image.norm(values[row, column]))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
        look = {"color": "white" if dark else "black", "ha": "center", "va": "center"}
        if bold is not None and bold[row, column]:
            look["weight"] = "bold"
        axes.text(column, row, text, **look, **font)


def whiskers(axes, x, values, **look):
    """Draw mean and range over the columns of ``values``, an (x, seeds) table."""
    mean, low, high = values.mean(axis=1), values.min(axis=1), values.max(axis=1)
    arms = np.maximum([mean - low, high - mean], 0)  # rounding of the mean of equal values
    axes.errorbar(x, mean, yerr=arms, elinewidth=0.7, **look)


def bounds(parts):
    """Give means and the lengths of the bootstrap whiskers of several (task, seed) Series."""
    mean, low, high = np.array([bootstrap(part) for part in parts]).T
    # Where all units agree, rounding alone can put the mean outside its interval.
    return mean, np.maximum(mean - low, 0), np.maximum(high - mean, 0)


def handles_of(axes):
    """List the legend entries of an axes."""
    return axes.get_legend_handles_labels()[0]


def centred(count):
    """Spread places evenly around 0."""
    return np.arange(count) - (count - 1) / 2


def fusion_name(model):
    """Find a fusion by its name or title."""
    for one in STRATEGIES.values():
        if one.group == "fusion" and model in (one.name, one.title):
            return one
    raise SfusionError(f"fusion {model!r} is not known: use a name or title of sf.STRATEGIES")


def by_seed(part):
    """Tabulate test accuracy (%) by number of removed layers and seed."""
    return 100 * part.pivot_table(index="removed", columns="seed", values="test_accuracy")
