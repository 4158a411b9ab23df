"""Notebook 10: what compressing your own model costs and keeps."""

import pandas as pd

from sfusion.analysis.drawing import COLOURS, ORIGINAL, draw_intervals, row_axes, styled


def compression_table(report):
    """Tabulate a compression's report, before and after.

    Parameters
    ----------
    report : dict
        From :func:`sfusion.experiments.results.load_report`.

    Returns
    -------
    DataFrame
        Index ``measure``; columns ``original``, ``compressed`` and ``ratio``.
    """
    before, after = report["before"], report["after"]
    rows = {
        "layers": ("layers", 1),
        "parameters (M)": ("parameters", 1e6),
        "weights (MB)": ("bytes", 1e6),
        "GFLOPs per text": ("flops", 1e9),
        "test accuracy (%)": ("accuracy", 0.01),
        "lower end of its 95% interval (%)": ("low", 0.01),
        "upper end (%)": ("high", 0.01),
    }
    table = {
        title: [entry[key] / unit for entry in (before, after)]
        for title, (key, unit) in rows.items()
    }
    for batch in before["latency_ms"]:
        times = [entry["latency_ms"][batch]["median"] for entry in (before, after)]
        table[f"median ms, {batch.replace('_', ' ')}"] = times
    frame = pd.DataFrame.from_dict(
        table, orient="index", columns=["original", "compressed"]
    )
    frame["ratio"] = frame["compressed"] / frame["original"]
    return frame.rename_axis("measure")


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
        f"{row.layers} layers, {row.parameters / 1e6:.1f} M{', distilled' * row.distilled}"
        + " (written)" * row.chosen
        for row in curve.itertuples()
    ]
    table = curve.rename(columns={"validation_accuracy": "value"})
    look = {"height": 0.22, "zero": 100 * table["value"].iloc[0], **ORIGINAL}
    figure, axes = row_axes(len(rows), "validation accuracy (%, 95% interval)", **look)
    colours = [
        COLOURS["fusion"] if taught else "#666666" for taught in curve["distilled"]
    ]
    draw_intervals(axes, rows, table, colours, scale=100)
    return figure
