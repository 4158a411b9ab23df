"""Defaults of `compress`: how they were chosen, and what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sfusion.analysis.alternatives import datasets_and_seeds
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import redrawn, task_means
from sfusion.analysis.statistics import bootstrap, comparison_text
from sfusion.experiments.results import UNIT
from sfusion.pruning.strategies import DEFAULT_STRATEGY

if TYPE_CHECKING:
    from sfusion.experiments.results import Results, RowResults

# What the study calls it, and what stands in the table.
NAMES = {
    "original": "original",
    "compress, random-forest": "former default",
    "compress": "default",
}


def _differences(pairs: dict[str, pd.Series]) -> pd.DataFrame:
    """Tabulate differences of accuracy, as shares, and what they are of."""
    table = pd.DataFrame(
        {name: bootstrap(pair) for name, pair in pairs.items()},
        index=["difference", "low", "high"],
    ).T
    counted = [datasets_and_seeds(pair.reset_index()) for pair in pairs.values()]
    return table.rename_axis("comparison").assign(datasets=counted)


def _sentences(table: pd.DataFrame) -> str:
    lines = []
    for name, row in table.iterrows():
        words = comparison_text(row["difference"], row["low"], row["high"])
        lines.append(f"- {name}: {words} ({row['datasets']})")
    return "\n".join(lines)


def _test_scores(found: RowResults) -> pd.DataFrame:
    scores = redrawn(found["defaults"], ["alternative"])
    return scores[list(NAMES)].rename(columns=NAMES)


@exhibit
def by_dataset(found: RowResults) -> Exhibit:
    """Show the default beside the former one and the original, on each dataset.

    Parameters
    ----------
    found : RowResults
        The study `alternatives`.

    Returns
    -------
    Exhibit
    """
    table = task_means(100 * _test_scores(found)).rename_axis(columns=None)
    table["default minus original"] = table["default"] - table["original"]
    return Exhibit(
        "defaults",
        table,
        caption="Test accuracy (%), means over seeds.",
        shown=table.round(1),
    )


@exhibit
def compared(found: RowResults) -> Exhibit:
    """Compare the default with the former one and with the original, on test.

    Parameters
    ----------
    found : RowResults
        The study `alternatives`.

    Returns
    -------
    Exhibit
    """
    scores = _test_scores(found)
    default = scores["default"]
    former = scores["former default"]
    pairs = {
        "The former default against the original": former - scores["original"],
        "The default against the original": default - scores["original"],
        "The default against the former one": default - former,
    }
    table = _differences(pairs)
    return Exhibit("defaults_compared", table, _sentences(table))


def _validation_gain(rows: pd.DataFrame, other: str) -> pd.Series:
    """Compare `compress` at half of six layers with another strategy, on validation."""
    rows = rows.query("model == 'minilm-l6' and format == 'torch' and layers == 3")
    scores = rows.pivot_table(
        index=UNIT, columns="alternative", values="validation_accuracy"
    )
    return scores["compress"] - scores[f"compress, {other}"]


@exhibit
def chosen(twelve: Results, found: RowResults) -> Exhibit:
    """Compare the default with forests on validation, which is what it was chosen by.

    Parameters
    ----------
    twelve : Results
    found : RowResults
        The study `alternatives`.

    Returns
    -------
    Exhibit
    """
    scores = twelve.curves().pivot_table(
        index=UNIT, columns=["name", "removed"], values="validation_accuracy"
    )
    forest = "one-shot-random-forest-other-model"
    deep = scores[DEFAULT_STRATEGY] - scores[forest]
    half = deep.columns.max() // 2 + 1
    pairs = {
        "Six layers to three, against the transferred forest at once": _validation_gain(
            found["accuracy"], "one-shot-random-forest"
        ),
        "Six layers to three, against the former default": _validation_gain(
            found["defaults"], "random-forest"
        ),
        "Twelve layers to six, against the six-layer model's forest at once": deep[
            half
        ],
        "Twelve layers to fewer than six, against the same": deep.loc[
            :, half + 1 :
        ].mean(axis=1),
    }
    table = _differences(pairs)
    return Exhibit("default_chosen", table, _sentences(table))


@exhibit
def unlabelled(found: RowResults) -> Exhibit:
    """Compare a distillation on unlabelled texts with one on the labelled alone.

    Parameters
    ----------
    found : RowResults
        The study `alternatives`.

    Returns
    -------
    Exhibit
    """
    rows = found["unlabelled"]
    has_more_texts = rows["texts"] > 0
    is_as_long = rows["samples"] == rows["samples"].max()
    taught = np.select(
        [has_more_texts, rows["samples"] == 0, is_as_long],
        ["more texts", "not distilled", "as many steps"],
        "usual steps",
    )
    scores = redrawn(rows.assign(taught=taught), ["taught"])
    more = scores["more texts"]
    pairs = {
        "Unlabelled texts too, against the labelled ones alone": more
        - scores["usual steps"],
        "Unlabelled texts too, against as many steps on the labelled ones": more
        - scores["as many steps"],
    }
    table = _differences(pairs)
    return Exhibit("unlabelled", table, _sentences(table))
