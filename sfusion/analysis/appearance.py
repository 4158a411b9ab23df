"""The appearance of all figures: style, colours, titles, files without dates."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import seaborn as sns
from matplotlib import style
from matplotlib.figure import Figure

from sfusion.analysis.scores import BEST_SINGLE
from sfusion.errors import SfusionError
from sfusion.pruning.strategies import STRATEGIES

STYLE = ["default", str(Path(__file__).with_name("sfusion.mplstyle"))]

# Widths in inches: of one column, and of a page.
COLUMN = 3.4
PAGE = 7.0

_PALETTE = sns.color_palette("colorblind").as_hex()

# A colour per family of rankings, which the colour-blind can tell from each other. A
# colour means this in every figure, and nothing else.
COLOURS = {
    "activation": _PALETTE[1],
    "mutual information": _PALETTE[9],
    "gradient": _PALETTE[2],
    "weight": _PALETTE[4],
    "attention": _PALETTE[0],
    "signal": "#33418A",  # any one of the twelve, such as the best
    "fusion": _PALETTE[3],
    "control": "#E8A27C",  # a fusion from which something was taken
    "random": _PALETTE[7],
    "redundancy": _PALETTE[6],
    "search": _PALETTE[5],
    "position": "#000000",
    "reversed": "#B8B8B8",
    "teacher": "#00707C",
}

# The lines of a figure of curves: what a reader compares; all others are a band.
HIGHLIGHTED: dict[str, dict[str, Any]] = {
    "random-forest": {"color": COLOURS["fusion"], "marker": "o"},
    "middle-first": {"color": COLOURS["position"], "marker": "X"},
    BEST_SINGLE: {"color": COLOURS["signal"], "marker": "v"},
    "random": {"color": COLOURS["random"], "marker": ""},
}

CONDITIONS: dict[str, dict[str, Any]] = {
    "pruned": {
        "label": "Pruned, before the extra steps",
        "color": "0.55",
        "marker": "^",
        "linestyle": ":",
    },
    "same-steps": {
        "label": "Same steps, no teacher",
        "color": "0.3",
        "marker": "s",
        "linestyle": "--",
    },
    "distilled": {
        "label": "Distilled",
        "color": COLOURS["teacher"],
        "marker": "o",
        "linestyle": "-",
    },
}

LINE: dict[str, Any] = {"color": "black", "linewidth": 0.6, "zorder": 0.5}

ORIGINAL: dict[str, Any] = {
    "label": "Original model",
    "linestyle": (0, (4, 2)),
    "color": "black",
    "linewidth": 0.9,
}

BASELINE: dict[str, Any] = {
    "label": "TF-IDF baseline",
    "linestyle": (0, (1, 1.5)),
    "color": "black",
    "linewidth": 0.9,
}

BAND: dict[str, Any] = {"alpha": 0.25, "linewidth": 0, "zorder": 0}


class PlainFigure(Figure):
    """A figure that notebooks show whatever the backend; no registry holds it."""

    _png: bytes | None = None

    def _repr_png_(self) -> bytes:
        # Drawn once for the file and for the notebook, until something in it changes.
        if self._png is None or self.stale:
            self._png = _printed(self, "png")
            self.stale = False
        return self._png


def _printed(figure: Figure, form: str) -> bytes:
    # Dates and versions would make the same figure differ from run to run.
    dated = {"png": ["Software"], "pdf": ["CreationDate", "Creator", "Producer"]}
    stream = io.BytesIO()
    with style.context(STYLE):
        metadata = dict.fromkeys(dated[form])
        figure.savefig(stream, format=form, metadata=metadata)
    return stream.getvalue()


def render(figure: Figure, form: str) -> bytes:
    """Draw a figure into a file's bytes, the same for the same figure.

    Parameters
    ----------
    figure : Figure
    form : {"png", "pdf"}

    Returns
    -------
    bytes
    """
    if form == "png" and isinstance(figure, PlainFigure):
        return figure._repr_png_()
    return _printed(figure, form)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw a figure in the package's style, and refuse an empty frame.

    Parameters
    ----------
    draw : callable
        Takes a DataFrame first and returns a :class:`PlainFigure`.

    Returns
    -------
    callable
    """

    @functools.wraps(draw)
    def wrapper(frame, *args, **kwargs):
        if frame.empty:
            raise SfusionError(
                f"{draw.__name__}: the frame is empty; run the study that fills it"
            )
        with style.context(STYLE):
            figure = draw(frame, *args, **kwargs)
            # Ticks are made late and would miss the style; each further pass of the
            # layout would move things a little.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        return figure

    return wrapper


def strategy_title(name: str) -> str:
    """Return what a strategy is called in print.

    Parameters
    ----------
    name : str
        Of ``STRATEGIES``, or ``BEST_SINGLE``.

    Returns
    -------
    str
    """
    if name == BEST_SINGLE:
        return "Best single signal"
    return STRATEGIES[name].title


def strategy_colour(name: str) -> str:
    """Return the colour of a strategy: that of its family.

    Parameters
    ----------
    name : str
        Of ``STRATEGIES``, or ``BEST_SINGLE``.

    Returns
    -------
    str
    """
    if name == BEST_SINGLE:
        return COLOURS["signal"]
    return COLOURS[STRATEGIES[name].group]


def in_registry_order(names: Iterable[str]) -> list[str]:
    """Order strategies as the registry lists them, ``BEST_SINGLE`` last.

    Parameters
    ----------
    names : iterable of str
        May hold a name more than once.

    Returns
    -------
    list of str
        Each name once.
    """
    present = set(names)
    return [name for name in (*STRATEGIES, BEST_SINGLE) if name in present]
