"""Figure of a compressed model: what each removed layer cost."""

from sfusion.analysis.figures.look import (
    COLOURS,
    COLUMN,
    ORIGINAL,
    PlainFigure,
    legend_below,
    styled,
)


@styled
def compression_curve(curve):
    """Draw validation accuracy against parameters, the written model marked.

    Parameters
    ----------
    curve : DataFrame
        ``CompressionResult.curve``: a row a model, columns ``layers``, ``distilled``,
        ``chosen``, ``parameters``, ``validation_accuracy``, ``low``, ``high``.

    Returns
    -------
    Figure
        Whiskers are 95% intervals (Wilson); numbers above count layers.
    """
    figure = PlainFigure(figsize=(1.4 * COLUMN, 3.0))
    axes = figure.subplots()
    handles = {"Original": axes.axhline(100 * curve["validation_accuracy"].iloc[0], **ORIGINAL)}
    looks = {
        "Fine-tuned": (curve[~curve["distilled"]], {"color": "0.4", "marker": "o"}),
        "Distilled": (
            curve[curve["distilled"]],
            {"color": COLOURS["fusion"], "marker": "D", "linestyle": ""},
        ),
    }
    # Aside, or the whiskers of the same depth would lie on one another.
    aside = 0.012 * (curve["parameters"].max() - curve["parameters"].min())
    millions = (curve["parameters"] - aside * curve["distilled"]) / 1e6
    for label, (rows, look) in looks.items():
        if len(rows):
            accuracy = 100 * rows[["validation_accuracy", "low", "high"]]
            arms = [accuracy["validation_accuracy"] - accuracy["low"],
                    accuracy["high"] - accuracy["validation_accuracy"]]  # fmt: skip
            handles[label] = axes.errorbar(
                millions[rows.index],
                accuracy["validation_accuracy"],
                arms,
                capsize=2,
                linewidth=1,
                **look,
            )
    for _, row in curve[~curve["distilled"]].iterrows():
        axes.text(
            row["parameters"] / 1e6,
            1.01,
            str(row["layers"]),
            transform=axes.get_xaxis_transform(),
            ha="center",
            fontsize=7,
        )
    (handles["Written"],) = axes.plot(
        millions[curve["chosen"]],
        100 * curve.loc[curve["chosen"], "validation_accuracy"],
        marker="o",
        markersize=11,
        markerfacecolor="none",
        color="black",
        linestyle="",
    )
    axes.set_xlabel("parameters (millions)")
    axes.set_ylabel("validation accuracy (%)")
    legend_below(figure, handles.values(), len(handles), "numbers above: layers", handles)
    return figure
