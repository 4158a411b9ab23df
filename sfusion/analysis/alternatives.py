"""Alternatives: what an engineer would pick instead of removing layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import seaborn as sns

from sfusion.analysis.appearance import PAGE, PlainFigure, styled
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import observed, redrawn
from sfusion.analysis.statistics import (
    MARGIN,
    bootstrap,
    comparison_text,
    interval_text,
)

if TYPE_CHECKING:
    from sfusion.experiments.results import RowResults

LARGE = "mpnet-base"
SMALL = "minilm-l6"

KEYS = ["alternative", "layers", "format"]

# Ticks of the axis of times.
MILLISECONDS = [1, 2, 5, 10, 20, 50]


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
    """
    # ONNX in 32 bits and other rankings lie where their neighbours do.
    is_ranking = table["alternative"].str.startswith("compress,")
    shown = table[(table["format"] != "onnx") & ~is_ranking].dropna(subset="ms_1")
    models = shown["model"].unique()
    figure = PlainFigure(figsize=(PAGE, 2.8))
    panels = figure.subplots(1, len(models), squeeze=False, sharex=True, sharey=True)[0]
    for axes, model in zip(panels, models, strict=True):
        part = shown[shown["model"] == model]
        axes.axhspan(-100 * MARGIN, 100 * MARGIN, color="0.92", zorder=0)
        axes.vlines(
            part["ms_1"],
            part["low"],
            part["high"],
            color="0.6",
            linewidth=0.8,
            zorder=1,
        )
        sns.scatterplot(
            part,
            x="ms_1",
            y="change",
            hue="alternative",
            hue_order=shown["alternative"].unique(),
            style="format",
            style_order=shown["format"].unique(),
            palette="colorblind",
            s=24,
            legend=model == models[-1],
            ax=axes,
        )
        for row in part[part["layers"] > 0].itertuples():
            axes.annotate(
                row.layers,
                (row.ms_1, row.change),
                (3, 2),
                textcoords="offset points",
                fontsize=6,
            )
        axes.set(xscale="log", title=model, xlabel="median ms of one text")
        axes.set_xticks(MILLISECONDS, labels=MILLISECONDS)
        axes.set_ylabel(
            "test accuracy minus the original's\n(pp, 95% over texts; grey: within 1)"
        )
    sns.move_legend(panels[-1], "upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


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
            f"{row.alternative} ({row.layers} layers, {row.format}, {row.ms_1:.1f} ms)"
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
    shown = table.assign(
        change=[
            interval_text(*row, signed=True)
            for row in table[["change", "low", "high"]].to_numpy()
        ]
    )
    shown = shown.drop(columns=["low", "high"]).set_index(["model", *KEYS])
    return Exhibit(
        "alternatives",
        table,
        "\n\n".join(sentences),
        draw_alternatives(table),
        caption=(
            "Test accuracy minus the original's (pp, 95% interval over texts), median "
            f"milliseconds of one and of 32 texts. {'; '.join(counted)}. Times: "
            f"{speed['processor']}, {speed['threads']} threads."
        ),
        shown=shown.round(1),
    )


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
