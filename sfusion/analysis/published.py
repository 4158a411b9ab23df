"""Distillation as others publish it, each way with a control that had no teacher."""

from __future__ import annotations

import pandas as pd

from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import redrawn
from sfusion.analysis.statistics import Interval, bootstrap, interval_text
from sfusion.experiments.results import RowResults

# Beginnings of a condition's name, and the model from which its control started; all
# others started from the pruned model of three layers.
STARTS = {
    "original": "original",
    "deep": "deep",
    "every second layer": "every second layer",
    "DistilBERT-style": "every second layer",
    "PKD-style": "every second layer",
    "TinyBERT-style": "every second layer",
}


def control_of(condition: str, validation: pd.Series) -> str:
    """Name the control of a condition: the same start and steps, on the labels alone.

    Parameters
    ----------
    condition : str
    validation : Series
        Mean validation accuracy of every condition.

    Returns
    -------
    str
        Of its two rates the one that validation prefers.
    """
    start = "pruned"
    for beginning, model in STARTS.items():
        if condition.startswith(beginning):
            start = model
    rates = [f"{start}, labels only", f"{start}, labels only, low rate"]
    return validation[rates].idxmax()


@exhibit
def distillations(published: RowResults) -> Exhibit:
    """Show what a teacher adds in each published way to teach.

    Parameters
    ----------
    published : RowResults
        The study ``distillation``.

    Returns
    -------
    Exhibit
    """
    rows = published["rows"]
    scores = 100 * redrawn(rows, ["condition"])
    validation = rows.groupby("condition")["validation_accuracy"].mean()
    found = {}
    for condition, part in rows.groupby("condition", sort=False):
        control = control_of(condition, validation)
        against_original = scores[condition] - scores["original"]
        against_control = scores[condition] - scores[control]
        found[condition] = [
            part["layers_left"].iloc[0],
            control,
            *bootstrap(against_original, tasks=False),
            *bootstrap(against_control, tasks=False),
        ]
    ends = ["", "_low", "_high"]
    columns = [f"{name}{end}" for name in ("original", "control") for end in ends]
    table = pd.DataFrame.from_dict(
        found, orient="index", columns=["layers_left", "against", *columns]
    )
    table = table.rename_axis("condition").drop(index="original")
    plain = bootstrap(scores["KD T=2"] - scores["pruned"], tasks=False)
    datasets = ", ".join(rows["task"].unique())
    return Exhibit(
        "published_distillation",
        table.round(3),
        _finding(table, validation, interval_text(*plain, signed=True)),
        caption=f"Percentage points of test accuracy on {datasets}, with 95% intervals "
        "over test texts.",
        shown=_readable(table),
    )


def _points(row: pd.Series, reference: str) -> str:
    ends = [reference, f"{reference}_low", f"{reference}_high"]
    return interval_text(*Interval(*row[ends]), signed=True)


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    shown = table[["layers_left"]].rename(columns={"layers_left": "layers left"})
    for reference in ("original", "control"):
        texts = [_points(row, reference) for _, row in table.iterrows()]
        shown[f"against the {reference} (pp)"] = texts
    is_control = shown.index == table["against"]
    shown.loc[is_control, "against the control (pp)"] = "is the control"
    return shown


def _finding(table: pd.DataFrame, validation: pd.Series, plain: str) -> str:
    has_teacher = ~table.index.str.contains("labels only")
    taught = table[has_teacher].drop(index=["pruned", "deep"])
    above = (taught["control_low"] > 0).sum()
    below = (taught["control_high"] < 0).sum()
    half = taught.index[taught["layers_left"] == 3]
    best = validation[half].idxmax()
    longer = table.loc["original, labels only"]
    longer_slowly = table.loc["original, labels only, low rate"]
    return (
        f"{above} of {len(taught)} ways to teach lie above their control with the "
        f"whole interval, {below} below. Of the models of three layers validation "
        f"prefers {best}: {_points(table.loc[best], 'control')} pp against its "
        f"control. KD T=2 lies {_points(table.loc['KD T=2'], 'control')} pp from its "
        f"control, {plain} pp from the pruned model before the ten epochs. Ten epochs "
        "more on the labels change the original by "
        f"{_points(longer, 'original')} pp, at the low rate by "
        f"{_points(longer_slowly, 'original')} pp."
    )
