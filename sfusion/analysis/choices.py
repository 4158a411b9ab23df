"""Whether the choice of layers still matters once the original has taught."""

from __future__ import annotations

import pandas as pd

from sfusion.analysis.alternatives import datasets_and_seeds
from sfusion.analysis.appearance import strategy_colour, strategy_title
from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import redrawn, task_means
from sfusion.analysis.statistics import (
    MARGIN,
    TIE,
    Interval,
    bootstrap,
    comparison_text,
    interval_text,
)
from sfusion.experiments.results import RowResults

ORIGINAL = "original"
STAGES = ("recovered", "distilled")

# One set of layers for all datasets, which reads nothing of the dataset at hand.
UNIVERSAL = "one-shot-lookup"
FOREST = "random-forest"


def _random_orders_together(rows: pd.DataFrame) -> pd.DataFrame:
    """Give the random orders one name; their accuracies are averaged."""
    names = rows["strategy"].str.replace(r"^random-\d+$", "random", regex=True)
    return rows.assign(strategy=names)


def _losses(found: RowResults) -> pd.DataFrame:
    """Subtract the original's accuracy: a column per stage and strategy, as shares."""
    rows = _random_orders_together(found["rows"])
    is_original = rows["stage"] == ORIGINAL
    original = redrawn(rows[is_original], ["strategy"])[ORIGINAL]
    chosen = redrawn(rows[~is_original], ["stage", "strategy"])
    return chosen.sub(original, axis=0)


@exhibit
def before_and_after_the_teacher(found: RowResults) -> Exhibit:
    """Show what each choice of layers costs, before and after the distillation.

    Parameters
    ----------
    found : RowResults
        The study ``choices``.

    Returns
    -------
    Exhibit
    """
    losses = _losses(found)
    names = losses.columns.unique("strategy")
    rows = []
    for stage in STAGES:
        for name in names:
            loss = bootstrap(losses[stage, name]).points()
            rows.append({"strategy": name, "stage": stage, **loss._asdict()})
    table = pd.DataFrame(rows)
    drawn = table.assign(strategy=table["strategy"].map(strategy_title))
    figure = interval_rows(
        drawn,
        label="strategy",
        series="stage",
        sort=True,
        xlabel="Test accuracy against the original (pp)",
        colours={strategy_title(name): strategy_colour(name) for name in names},
        sides=("the original ahead", "the smaller model ahead"),
        margin=100 * MARGIN,
    )
    means = table.pivot(index="strategy", columns="stage", values="value")
    spread = means.max() - means.min()
    above = _datasets_above(losses["distilled", FOREST])
    finding = (
        f"From the best choice to the worst it is {spread['recovered']:.1f} pp before "
        f"the distillation and {spread['distilled']:.1f} pp after it. Distilled, the "
        "own forest's choice lies above the original, which is trained to its end, on "
        f"{above} datasets."
    )
    removed = found.manifest["profile"]["removals"]
    caption = (
        f"{removed} layers removed at once, recovered (filled) and then distilled "
        f"(hollow); means over {datasets_and_seeds(found['rows'])} with 95% intervals "
        "over datasets and texts; grey: within 1 pp."
    )
    return Exhibit("choices", table, finding, figure, caption)


def _datasets_above(loss: pd.Series) -> str:
    means = task_means(loss)
    return f"{(means > TIE).sum()} of {len(means)}"


@exhibit
def against_one_set_for_all(found: RowResults) -> Exhibit:
    """Compare every choice with one set of layers for all datasets.

    Parameters
    ----------
    found : RowResults
        The study ``choices``.

    Returns
    -------
    Exhibit
        Shares; ``change`` is the difference after the distillation minus that before.
    """
    losses = _losses(found)
    rows = []
    for name in losses.columns.unique("strategy").drop(UNIVERSAL):
        leads = losses.xs(name, level="strategy", axis=1).sub(
            losses.xs(UNIVERSAL, level="strategy", axis=1)
        )
        leads["change"] = leads["distilled"] - leads["recovered"]
        for measure, lead in leads.items():
            row = {"strategy": name, "measure": measure, **bootstrap(lead)._asdict()}
            rows.append(row)
    table = pd.DataFrame(rows)
    sentences = []
    for stage, when in {"recovered": "Before", "distilled": "After"}.items():
        of_stage = table[table["measure"] == stage]
        behind = of_stage.loc[of_stage["high"] < -TIE, "strategy"].map(strategy_title)
        if behind.empty:
            sentences.append(
                f"{when} the distillation none of {len(of_stage)} choices is behind "
                "the one set with its whole interval."
            )
        else:
            sentences.append(
                f"{when} the distillation {len(behind)} of {len(of_stage)} choices are "
                f"behind the one set with their whole interval: {', '.join(behind)}."
            )
    return Exhibit(
        "choices_compared",
        table,
        " ".join(sentences),
        caption="Test accuracy, each choice minus the set that the other datasets "
        "prefer; 95% intervals over datasets and texts.",
        shown=_in_words(table),
    )


def _in_words(table: pd.DataFrame) -> pd.DataFrame:
    texts = []
    for row in table.itertuples():
        found = Interval(row.value, row.low, row.high)
        if row.measure == "change":
            texts.append(interval_text(*found.points(), signed=True))
        else:
            texts.append(comparison_text(*found))
    titles = {
        "recovered": "before the distillation",
        "distilled": "after it",
        "change": "change (pp)",
    }
    words = table.assign(text=texts, strategy=table["strategy"].map(strategy_title))
    wide = words.pivot(index="strategy", columns="measure", values="text")
    return wide[list(titles)].rename(columns=titles).rename_axis(columns=None)
