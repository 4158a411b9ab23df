"""Notebook 10: what compressing your own model costs and keeps."""

import pandas as pd

from sfusion.analysis.appearance import COLOURS, ORIGINAL
from sfusion.analysis.drawing import interval_rows


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
    table = curve.copy()
    numbers = ["validation_accuracy", "low", "high"]
    table[numbers] *= 100
    colours = {}
    rows = []
    for row in curve.itertuples():
        title = f"{row.layers} layers, {row.parameters / 1e6:.1f} M"
        if row.distilled:
            title += ", distilled"
        if row.chosen:
            title += " (written)"
        colours[title] = COLOURS["fusion"] if row.distilled else "#666666"
        rows.append(title)
    return interval_rows(
        table.assign(row=rows),
        label="row",
        value="validation_accuracy",
        xlabel="validation accuracy (%, 95% interval)",
        colours=colours,
        zero=table["validation_accuracy"].iloc[0],
        zero_line=ORIGINAL,
    )
