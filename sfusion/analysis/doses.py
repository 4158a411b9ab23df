"""Where the samples go: the same total during the removals, or after them."""

from __future__ import annotations

import pandas as pd

from sfusion.analysis.alternatives import datasets_and_seeds
from sfusion.analysis.appearance import COLOURS
from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import redrawn
from sfusion.analysis.statistics import (
    MARGIN,
    bootstrap,
    comparison_text,
    number_text,
)
from sfusion.experiments.results import UNIT, RowResults

ORIGINAL = "original"

# In the order of the rows of a figure.
WAYS = (
    "step by step",
    "at once",
    "at once, the teacher's rate",
    "taught",
    "recovered, then taught",
)
TAUGHT = ("taught", "recovered, then taught")

# Each asks one thing, all else alike: the order of removal and recovery, the rate,
# the teacher, and the recovery before the teacher.
PAIRS = (
    ("at once", "step by step"),
    ("at once, the teacher's rate", "at once"),
    ("taught", "at once, the teacher's rate"),
    ("taught", "recovered, then taught"),
)


def _total(samples: int) -> str:
    return f"{samples:,} samples"


def _losses(found: RowResults) -> pd.DataFrame:
    """Subtract the original's accuracy: a column per total and way, as shares."""
    rows = found["rows"]
    is_original = rows["way"] == ORIGINAL
    original = redrawn(rows[is_original], ["way"])[ORIGINAL]
    spent = redrawn(rows[~is_original], ["total", "way"])
    return spent.sub(original, axis=0)


@exhibit
def by_total(found: RowResults) -> Exhibit:
    """Show what half of the layers costs, by the total of samples and where they go.

    Parameters
    ----------
    found : RowResults
        The study ``doses``.

    Returns
    -------
    Exhibit
    """
    losses = _losses(found)
    totals = losses.columns.unique("total")
    rows = []
    for total in totals:
        for way in WAYS:
            loss = bootstrap(losses[total, way]).points()
            rows.append({"total": _total(total), "way": way, **loss._asdict()})
    table = pd.DataFrame(rows)
    few = losses[totals.min(), "taught"]
    many = losses[totals.max(), "step by step"]
    words = comparison_text(*bootstrap(few - many))
    finding = (
        f"*Taught* with {_total(totals.min())} against *step by step* with "
        f"{_total(totals.max())}: {words}."
    )
    colours = {way: COLOURS["teacher" if way in TAUGHT else "position"] for way in WAYS}
    figure = interval_rows(
        table,
        label="way",
        group="total",
        xlabel="Test accuracy against the original (pp)",
        colours=colours,
        sides=("the original ahead", "the smaller model ahead"),
        margin=100 * MARGIN,
    )
    return Exhibit(
        "doses",
        table,
        finding,
        figure=figure,
        caption="Three of six layers left, the middle removed first; means over "
        f"{datasets_and_seeds(found['rows'])} with 95% intervals over datasets and "
        "texts. Green: the original teaches.",
    )


@exhibit
def ways_compared(found: RowResults) -> Exhibit:
    """Compare the ways of spending a total, two at a time.

    Parameters
    ----------
    found : RowResults
        The study ``doses``.

    Returns
    -------
    Exhibit
        Intervals draw datasets and texts; on how many datasets the first way is ahead
        counts what was observed.
    """
    losses = _losses(found)
    observed = losses.xs(0, level="draw")
    rows = []
    for first, second in PAIRS:
        for total in losses.columns.unique("total"):
            difference = losses[total, first] - losses[total, second]
            seen = observed[total, first] - observed[total, second]
            row = {
                "first": first,
                "second": second,
                "total": total,
                **bootstrap(difference)._asdict(),
                "ahead": int((seen > 0).sum()),
                "of": len(seen),
            }
            rows.append(row)
    table = pd.DataFrame(rows)
    sentences = []
    for (first, second), part in table.groupby(["first", "second"], sort=False):
        said = [
            f"with {_total(row['total'])} "
            + comparison_text(row["value"], row["low"], row["high"])
            for row in part.to_dict("records")
        ]
        sentences.append(f"- *{first}* against *{second}*: {'; '.join(said)}")
    return Exhibit("doses_compared", table, "\n".join(sentences))


@exhibit
def preferred_by_validation(found: RowResults) -> Exhibit:
    """Show which way validation prefers, which is what a default is chosen by.

    Parameters
    ----------
    found : RowResults
        The study ``doses``.

    Returns
    -------
    Exhibit
    """
    rows = found["rows"].pivot_table(
        index=UNIT, columns=["total", "way"], values="validation_accuracy"
    )
    changes = 100 * rows.sub(rows[0, ORIGINAL], axis=0).drop(columns=0, level="total")
    table = changes.mean().unstack("way")[list(WAYS)]
    sentences = [
        f"with {_total(total)} *{means.idxmax()}* ({number_text(means.max())} pp)"
        for total, means in table.iterrows()
    ]
    finding = f"Validation prefers {'; '.join(sentences)}."
    return Exhibit(
        "doses_validation",
        table,
        finding,
        caption="Validation accuracy against the original's, in percentage points, "
        "means over datasets.",
        shown=table.round(1),
    )
