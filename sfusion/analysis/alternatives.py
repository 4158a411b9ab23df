"""Alternatives: what an engineer would pick instead of removing layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from sfusion.analysis.appearance import BAND, COLOURS, PAGE, PlainFigure, styled
from sfusion.analysis.drawing import figure_legend
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import observed, redrawn
from sfusion.analysis.statistics import (
    MARGIN,
    bootstrap,
    comparison_text,
    interval_text,
)
from sfusion.pruning.strategies import IN_DATASET, STRATEGIES

if TYPE_CHECKING:
    from sfusion.experiments.results import RowResults

LARGE = "mpnet-base"
SMALL = "minilm-l6"

# What a model runs as, by its format.
FORMATS = {
    "torch": "torch, float32",
    "onnx": "ONNX",
    "onnx_int8": "ONNX, 8 bits",
    "sklearn": "scikit-learn",
}

KEYS = ["alternative", "layers", "format"]

# Ticks of the axis of times.
MILLISECONDS = [1, 2, 5, 10, 20, 50]

# Of labels, in points: the width of a character, and how far they may stand off.
CHARACTER = 5.5
DISTANCES = (12, 18, 26, 36)


def datasets_and_seeds(frame: pd.DataFrame) -> str:
    """Say how many datasets and seeds rows are of.

    Parameters
    ----------
    frame : DataFrame
        Columns ``task`` and ``seed``.

    Returns
    -------
    str
        Such as ``9 datasets, 2 seeds``.
    """
    seeds = frame["seed"].nunique()
    count = "one seed" if seeds == 1 else f"{seeds} seeds"
    return f"{frame['task'].nunique()} datasets, {count}"


def _judged(found: RowResults) -> pd.DataFrame:
    """Return the accuracies; the small model is an alternative to the large one."""
    rows = found["accuracy"]
    is_original = (rows["alternative"] == "original") & (rows["format"] == "torch")
    small = rows[is_original & (rows["model"] == SMALL)]
    shared = rows.loc[rows["model"] == LARGE, "task"]
    small = small[small["task"].isin(shared)].assign(model=LARGE, alternative=SMALL)
    return pd.concat([rows, small])


def _timed(found: RowResults) -> pd.DataFrame:
    """Return the median times: a row per model, what was timed, layers and format."""
    speed = found["speed"].rename(columns={"alternative": "timed"})
    is_transformer = speed["timed"] == "transformer"
    small = speed[is_transformer & (speed["model"] == SMALL)]
    speed = pd.concat([speed, small.assign(model=LARGE, timed=SMALL)])
    times = speed.pivot(
        index=["model", "timed", "layers", "format"], columns="batch", values="median"
    )
    return times.add_prefix("ms_").rename_axis(columns=None).reset_index()


def _changes(judged: pd.DataFrame) -> pd.DataFrame:
    """Compare every alternative with the original of its model, over test texts."""
    rows = []
    for model, part in judged.groupby("model", sort=False):
        scores = 100 * redrawn(part, KEYS)
        original = scores["original", part["layers"].max(), "torch"]
        for key in scores:
            accuracy = observed(scores[key]).mean()
            change = bootstrap(scores[key] - original, tasks=False)
            rows.append((model, *key, accuracy, *change))
    columns = ["model", *KEYS, "accuracy", "change", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _tabulated(found: RowResults) -> pd.DataFrame:
    judged = _judged(found)
    keys = ["model", *KEYS]
    costs = judged.assign(minutes=judged["seconds"] / 60)
    costs = costs.groupby(keys, sort=False)[["megabytes", "minutes"]].mean()
    table = costs.reset_index().merge(_changes(judged), on=keys)
    is_other_kind = (table["layers"] == 0) | (table["alternative"] == SMALL)
    timed = table["alternative"].where(is_other_kind, "transformer")
    table = table.assign(timed=timed).merge(_timed(found), "left").drop(columns="timed")
    return table.sort_values(["model", "ms_1"], kind="stable", ignore_index=True)


def fastest_and_best(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the alternatives that nothing else beats in both time and accuracy.

    Parameters
    ----------
    table : DataFrame
        Of one model: ``ms_1`` and ``accuracy``.

    Returns
    -------
    DataFrame
        Fastest first.
    """
    ordered = table.dropna(subset="ms_1")
    ordered = ordered.sort_values(["ms_1", "accuracy"], ascending=[True, False])
    best_so_far = ordered["accuracy"].cummax().shift(fill_value=0)
    return ordered[ordered["accuracy"] > best_so_far]


# Points of the figure: mark and colour by what an alternative is.
FAMILIES = {
    "compress": ("compressed", "o", COLOURS["position"]),
    "original": ("original", "s", COLOURS["fusion"]),
    SMALL: ("the small model instead", "D", COLOURS["attention"]),
    "student of every second layer": ("student", "^", COLOURS["teacher"]),
    "frozen encoder": ("frozen encoder", "v", COLOURS["search"]),
    "static embeddings": ("static embeddings", "P", COLOURS["gradient"]),
    "TF-IDF": ("TF-IDF", "X", COLOURS["activation"]),
}


@styled
def draw_alternatives(table: pd.DataFrame) -> PlainFigure:
    """Draw accuracy against time, a panel per model and a point per alternative.

    Parameters
    ----------
    table : DataFrame
        From :func:`alternatives`.

    Returns
    -------
    PlainFigure
        Filled: as torch or scikit-learn runs it; hollow: ONNX in 8 bits. The line joins
        what nothing else beats in both time and accuracy.
    """
    # ONNX in 32 bits lies where its neighbours do.
    is_shown = (table["format"] != "onnx") & table["alternative"].isin(FAMILIES)
    shown = table[is_shown].dropna(subset="ms_1")
    models = shown["model"].unique()
    figure = PlainFigure(figsize=(PAGE, 4.2))
    panels = figure.subplots(1, len(models), squeeze=False, sharex=True, sharey=True)[0]
    for axes, model in zip(panels, models, strict=True):
        part = shown[shown["model"] == model]
        axes.axhspan(-100 * MARGIN, 100 * MARGIN, color="0.6", **BAND)
        best = fastest_and_best(part)
        axes.plot(best["ms_1"], best["change"], color="0.6", linewidth=1, zorder=1)
        for row in part.itertuples():
            _draw_point(axes, row)
        axes.set(xscale="log", title=model, xlabel="median time of one text (ms)")
        axes.set_xticks(MILLISECONDS, labels=MILLISECONDS)
        axes.minorticks_off()
    panels[0].set_ylabel("test accuracy minus the original's (pp)")
    present = [name for name in FAMILIES if name in set(shown["alternative"])]
    handles = []
    for name in present:
        title, marker, colour = FAMILIES[name]
        look = {"color": colour, "linestyle": "", "markersize": 6}
        handles.append(Line2D([], [], label=title, marker=marker, **look))
    figure_legend(figure, handles, 4)
    figure.draw_without_rendering()  # places of labels depend on the layout
    for axes, model in zip(panels, models, strict=True):
        _label_points(axes, shown[shown["model"] == model])
    return figure


def _draw_point(axes: Axes, row: Any) -> None:
    _, marker, colour = FAMILIES[row.alternative]
    fill = "white" if row.format == "onnx_int8" else colour
    axes.vlines(row.ms_1, row.low, row.high, color=colour, linewidth=0.8, zorder=2)
    look: dict[str, Any] = {"markersize": 6, "zorder": 3, "color": colour}
    axes.plot(row.ms_1, row.change, marker, markerfacecolor=fill, **look)


def _label_points(axes: Axes, part: pd.DataFrame) -> None:
    """Name points by the layers left, each where it covers no other point or name."""
    heights = part[["low", "change", "high"]]
    taken = []
    for row in heights.assign(ms=part["ms_1"]).itertuples():
        # The whole interval of a point is taken.
        for height in np.linspace(row.low, row.high, 9):
            taken.append(axes.transData.transform((row.ms, height)))
    to_points = 72 / axes.figure.dpi
    places = [np.array(place) * to_points for place in taken]
    for row in part[part["layers"] > 0].sort_values("ms_1").itertuples():
        text = f"{row.layers}, 8 bits" if row.format == "onnx_int8" else f"{row.layers}"
        centre = axes.transData.transform((row.ms_1, row.change)) * to_points
        width = CHARACTER * len(text)
        shift = _free_place(centre, width, places)
        covered = np.arange(-width / 2, width / 2 + 1, CHARACTER)
        places += [centre + shift + (dx, 0) for dx in covered]
        axes.annotate(
            text,
            (row.ms_1, row.change),
            xytext=tuple(shift),
            textcoords="offset points",
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.6},
            zorder=5,
        )


def _free_place(
    centre: np.ndarray, width: float, taken: list[np.ndarray]
) -> np.ndarray:
    """Find the nearest shift at which a name of some width covers nothing."""
    shifts = []
    for distance in DISTANCES:
        for angle in np.arange(0, 2 * np.pi, np.pi / 6):
            reach = distance + abs(np.cos(angle)) * width / 2
            shifts.append(np.array([reach * np.cos(angle), distance * np.sin(angle)]))
    for shift in shifts:
        gaps = np.abs(np.array(taken) - (centre + shift))
        if not ((gaps[:, 0] < width / 2 + 4) & (gaps[:, 1] < 8)).any():
            return shift
    return shifts[0]


@exhibit
def alternatives(found: RowResults) -> Exhibit:
    """Draw what an engineer would pick instead: accuracy, time, size and work.

    Parameters
    ----------
    found : RowResults
        The study of that name.

    Returns
    -------
    Exhibit
    """
    table = _tabulated(found)
    sentences = []
    for model, part in table.groupby("model", sort=False):
        names = [
            f"{alternative_title(row.alternative)} ({_layers_text(row.layers)}"
            f"{FORMATS[row.format]}, {row.ms_1:.1f} ms)"
            for row in fastest_and_best(part).itertuples()
        ]
        sentences.append(
            f"Of `{model}`, nothing else is both faster and more accurate than "
            f"{', '.join(names)}."
        )
    counted = [
        f"`{model}`: {datasets_and_seeds(part)}"
        for model, part in found["accuracy"].groupby("model", sort=False)
    ]
    speed = found["speed"].iloc[0]
    return Exhibit(
        "alternatives",
        table,
        "\n\n".join(sentences),
        draw_alternatives(table),
        caption=(
            "Test accuracy minus the original's (pp, 95% interval over texts) over the "
            "median time of one text. Numbers beside points: layers left; hollow: ONNX "
            "in 8 bits; ONNX in 32 bits is in the table alone. Grey line: what nothing "
            "else that is drawn beats in both; grey band: within "
            f"{100 * MARGIN:g} pp. {'; '.join(counted)}. Times: {speed['processor']}, "
            f"{speed['threads']} threads."
        ),
        shown=_for_reading(table),
    )


def _for_reading(table: pd.DataFrame) -> pd.DataFrame:
    """Round the table and say its headings in words."""
    changes = []
    for row in table[["change", "low", "high"]].to_numpy():
        changes.append(interval_text(*row, signed=True))
    shown = pd.DataFrame(
        {
            "model": table["model"],
            "alternative": table["alternative"].map(alternative_title),
            "layers left": table["layers"].astype(str).replace("0", "–"),
            "runs as": table["format"].map(FORMATS),
            "size (MB)": table["megabytes"].round().astype(int),
            "made in (min)": table["minutes"].round(1),
            "accuracy (%)": table["accuracy"].round(1),
            "minus the original (pp)": changes,
            "one text (ms)": table["ms_1"].round(1),
            "32 texts (ms)": table["ms_32"].round(),
        }
    )
    return shown.set_index("model")


def _layers_text(layers: int) -> str:
    return f"{layers} layers, " if layers else ""


def alternative_title(name: str) -> str:
    """Say `compress, STRATEGY` with the strategy's title.

    Parameters
    ----------
    name : str
        Of an alternative.

    Returns
    -------
    str
        A fusion is called a transferred one: `compress` learns it on other datasets.
    """
    first, _, strategy = name.partition(", ")
    if strategy not in STRATEGIES:
        return name
    title = STRATEGIES[strategy].title
    if STRATEGIES[strategy].learned_from == IN_DATASET:
        title = title.replace("Own", "Transferred", 1)
    return f"{first}, {title.lower()}"


# What is as long in training, and what is about as fast: model, layers left, other.
PAIRS = [(SMALL, 3, "original, trained longer"), (LARGE, 2, SMALL)]


@exhibit
def like_for_like(found: RowResults) -> Exhibit:
    """Compare compressed models with what took as many samples, or as much time.

    Parameters
    ----------
    found : RowResults
        The study `alternatives`.

    Returns
    -------
    Exhibit
    """
    judged = _judged(found)
    rows = []
    for model, layers, other in PAIRS:
        part = judged[(judged["model"] == model) & (judged["format"] == "torch")]
        scores = redrawn(part, ["alternative", "layers"])
        gap = scores["compress", layers] - scores[other].iloc[:, 0]
        rows.append((model, layers, other, *bootstrap(gap, tasks=False)))
    columns = ["model", "layers", "against", "difference", "low", "high"]
    table = pd.DataFrame(rows, columns=columns)
    lines = []
    for row in table.itertuples():
        words = comparison_text(row.difference, row.low, row.high)
        lines.append(
            f"- `{row.model}` compressed to {row.layers} layers against {row.against}: "
            f"{words}"
        )
    return Exhibit("like_for_like", table, "\n".join(lines))
