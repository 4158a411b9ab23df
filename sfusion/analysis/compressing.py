"""Compressing a model: what a run costs and keeps, how many layers, which strategy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from sfusion.analysis.appearance import COLOURS, ORIGINAL, strategy_title
from sfusion.analysis.costs import DEFAULT_ORDER, cost_of_depth, strategies_ranked
from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.scores import distilled, redrawn
from sfusion.analysis.statistics import bootstrap, interval_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sfusion.experiments.results import Results

Report = dict[str, Any]

# Title: key in a report's "before" and "after", and its unit.
MEASURES = {
    "layers": ("layers", 1),
    "parameters (M)": ("parameters", 1e6),
    "weights (MB)": ("bytes", 1e6),
    "GFLOPs per text": ("flops", 1e9),
    "test accuracy (%)": ("accuracy", 0.01),
    "lower end of its 95% interval (%)": ("low", 0.01),
    "upper end (%)": ("high", 0.01),
}

POINTS = ["points", "low", "high"]
PAIRED = ["points_paired", "low_paired", "high_paired"]
TRANSFERRED = "random-forest-transfer"


@exhibit
def settings(report: Report) -> Exhibit:
    """Show what a compression was asked for.

    Parameters
    ----------
    report : dict
        See :attr:`sfusion.compression.compress.CompressionResult.report`.

    Returns
    -------
    Exhibit
    """
    data = report["data"]
    removed = report["layers"]["removed"]
    values = {
        "model": report["model"]["name"],
        "fine-tuned before": report["model"]["was_fine_tuned"],
        "strategy": strategy_title(report["strategy"]),
        "layers removed": ", ".join(map(str, removed)),
        "training texts": data["train"],
        "validation texts": data["validation"],
        "test texts": data["test"],
        "tokens at most": data["max_length"],
        "threads": report["machine"]["threads"],
    }
    table = pd.Series(values, name="value").rename_axis("setting").to_frame()
    return Exhibit("compression_settings", table, shown=table)


def compression_table(report: Report) -> pd.DataFrame:
    """Tabulate a compression's report, before and after.

    Parameters
    ----------
    report : dict

    Returns
    -------
    DataFrame
        Index ``measure``; columns ``original``, ``compressed`` and ``ratio``.
    """
    columns = {
        "original": _measures(report["before"]),
        "compressed": _measures(report["after"]),
    }
    table = pd.DataFrame(columns).rename_axis("measure")
    table["ratio"] = table["compressed"] / table["original"]
    return table


@exhibit
def before_and_after(report: Report) -> Exhibit:
    """Show a compression's report, before and after.

    Parameters
    ----------
    report : dict

    Returns
    -------
    Exhibit
    """
    table = compression_table(report)
    return Exhibit(
        "compression", table, _sentence(report["verdict"]), shown=table.round(2)
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _measures(side: Report) -> dict[str, float]:
    values = {title: side[key] / unit for title, (key, unit) in MEASURES.items()}
    for batch, times in side["latency_ms"].items():
        values[f"median ms, {batch.replace('_', ' ')}"] = times["median"]
    return values


def compression_curve(curve: pd.DataFrame) -> Figure:
    """Draw the validation accuracy of every model on the pruning path.

    Parameters
    ----------
    curve : DataFrame
        Of a report: a row per model, columns ``layers``, ``distilled``, ``chosen``,
        ``parameters``, ``validation_accuracy``, ``low`` and ``high``.

    Returns
    -------
    matplotlib.figure.Figure
        A row per model with its 95% interval (Wilson); dashed: the original.
    """
    shown = 100 * curve[["validation_accuracy", "low", "high"]]
    shown["model"] = [_model_label(row) for row in curve.to_dict("records")]
    colours = curve["distilled"].map({True: COLOURS["teacher"], False: "#666666"})
    return interval_rows(
        shown,
        label="model",
        xlabel="validation accuracy (%, 95% interval)",
        value="validation_accuracy",
        colours=dict(zip(shown["model"], colours, strict=True)),
        zero=shown["validation_accuracy"].iloc[0],
        zero_line=ORIGINAL,
    )


@exhibit
def models_of_the_run(report: Report) -> Exhibit:
    """Draw every model of a compression.

    Parameters
    ----------
    report : dict

    Returns
    -------
    Exhibit
    """
    curve = pd.DataFrame(report["curve"])
    return Exhibit("compression_curve", curve, figure=compression_curve(curve))


def _model_label(model: Report) -> str:
    label = f"{model['layers']} layers, {model['parameters'] / 1e6:.1f} M"
    if model["distilled"]:
        label += ", distilled"
    if model["chosen"]:
        label += " (written)"
    return label


def with_interval(table: pd.DataFrame, title: str, columns: list[str]) -> pd.DataFrame:
    """Put one column of text in the place of a number and the ends of its interval.

    Parameters
    ----------
    table : DataFrame
    title : str
        Of the new column.
    columns : list of str
        The number, its low end and its high end, percentage points.

    Returns
    -------
    DataFrame
    """
    texts = []
    for row in table[columns].itertuples(index=False):
        texts.append("" if pd.isna(row[0]) else interval_text(*row, signed=True))
    return table.drop(columns=columns).assign(**{title: texts})


@exhibit
def layers_to_keep(results: Results) -> Exhibit:
    """Show what removing the middle first costs at each depth.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = cost_of_depth(results)
    shown = with_interval(table.round(2), "pp", POINTS)
    return Exhibit(
        "cost_of_depth",
        table,
        caption=(
            "Parameters and FLOPs as shares of the original's; test accuracy minus the "
            "original's (pp, 95% interval), before any distillation."
        ),
        shown=shown,
    )


@exhibit
def strategies(results: Results) -> Exhibit:
    """Rank the strategies against random orders, and each against the middle first.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    over_random = strategies_ranked(results)
    try:
        paired = strategies_ranked(results, DEFAULT_ORDER)
    except StudyLacks:
        paired = pd.DataFrame(columns=POINTS, dtype=float)
    table = over_random.join(paired.add_suffix("_paired"))
    shown = with_interval(table, "minus random orders (pp)", POINTS)
    shown = with_interval(shown, "minus middle first (pp)", PAIRED)
    finding = ""
    if TRANSFERRED in table.index:
        place = table.index.get_loc(TRANSFERRED) + 1
        gain = interval_text(*over_random.loc[TRANSFERRED], signed=True)
        finding = (
            "On a new dataset the transferred forest, which has not seen it, takes "
            f"place {place} of {len(table)} strategies, {gain} pp from random orders."
        )
    return Exhibit(
        "strategies_ranked",
        table,
        finding,
        caption=(
            "Mean test accuracy over depths, with 95% intervals. Two strategies are "
            "compared by their own paired difference, not by whether intervals overlap."
        ),
        shown=shown.rename(index=strategy_title),
    )


@exhibit
def distilling(results: Results) -> Exhibit:
    """Show what the teacher adds at each depth, over the pruned model and the control.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    scores = redrawn(distilled(results), ["condition", "layers"])
    rows = {}
    for layers in sorted(scores["distilled"], reverse=True):
        taught = scores["distilled", layers]
        pruned = bootstrap(taught - scores["pruned", layers]).points()
        control = bootstrap(taught - scores["same-steps", layers]).points()
        rows[layers] = [*pruned, *control]
    table = pd.DataFrame.from_dict(rows, "index", columns=[*POINTS, *PAIRED])
    table = table.rename_axis("layers left")
    shown = with_interval(table, "distilled against pruned (pp)", POINTS)
    shown = with_interval(shown, "distilled against the same steps (pp)", PAIRED)
    return Exhibit(
        "distilling",
        table,
        caption=(
            "Test accuracy with 95% intervals: the first column mixes the teacher with "
            "further training, the second is the teacher alone."
        ),
        shown=shown,
    )
