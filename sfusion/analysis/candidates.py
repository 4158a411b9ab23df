"""What else a fusion could read or learn, and whether that makes a better path."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sfusion.analysis.contrasts import (
    OPPONENTS,
    TRANSFERS,
    contrast_list,
    contrast_text,
    contrasts,
    draw_contrasts,
    in_words,
)
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.scores import MEASURES
from sfusion.analysis.statistics import Interval, interval_text, number_text
from sfusion.experiments.results import Results, RowResults

# Which rows of the study are shown: its title, the study and the layers removed before.
QUESTIONS = {
    "six layers, every removal": ("nine", "all"),
    "six layers, first removal": ("nine", "0"),
    "twelve layers, every removal": ("base", "all"),
}
# What a candidate reads, in words; its name begins with one of these.
READS_TITLES = {
    "position": "position",
    "signals": "signals",
    "redundancy": "redundancy",
    "signals+redundancy": "signals and redundancy",
    "signals+position": "signals and position",
    "redundancy+position": "redundancy and position",
    "all": "all measures",
    "all+neighbours": "all measures and neighbours",
}
# What it learns, or from what, in words; the rest of its name.
TARGET_TITLES = {
    "siblings": "against siblings",
    "scaled": "against siblings, scaled",
    "depth": "against removals at its depth",
    "searches": "from searches too",
    "ridge": "by ridge regression",
    "pairs": "pairs of siblings",
    "logistic": "logistic regression",
    "boosting": "boosting",
}
OTHER_TITLES = {
    "greedy": "Greedy search",
    "chance": "A random layer",
    "block-influence": "Block Influence",
    "angular-distance": "Angular distance",
    "removal-loss": "Removal loss",
}
OWN = ("forests", "regressions")  # an own fusion against a transferred one
REGRETS = ["validation_regret", "test_regret"]
BEST = 10  # so many candidates are shown to a reader; the table holds all
CHOSEN = "all, siblings"  # the candidate that became a strategy


def candidate_title(name: str) -> str:
    """Say in words what a candidate reads and learns.

    Parameters
    ----------
    name : str
        Such as ``redundancy+position, siblings``.

    Returns
    -------
    str
        Such as ``Redundancy and position, against siblings``.
    """
    if name in OTHER_TITLES:
        return OTHER_TITLES[name]
    reads, *targets = name.split(", ")
    words = [READS_TITLES[reads], *(TARGET_TITLES[target] for target in targets)]
    title = ", ".join(words)
    return title[0].upper() + title[1:]


def _rows(candidates: RowResults, study: str, removed: str) -> pd.DataFrame:
    """Take the candidates of one question, a row each."""
    frame = candidates["regrets"]
    asked = (frame["study"] == study) & (frame["removed"] == removed)
    return frame[asked].set_index("candidate")


def _against_position(candidate: pd.Series, split: str) -> str:
    ends = [f"{split}_minus_position{end}" for end in ("", "_low", "_high")]
    return interval_text(*Interval(*candidate[ends]), digits=2, signed=True) + " pp"


@exhibit
def regrets(candidates: RowResults) -> Exhibit:
    """Show how far each candidate's choices lie from the best child of their parent.

    Parameters
    ----------
    candidates : RowResults
        The study ``candidates``.

    Returns
    -------
    Exhibit
    """
    parts = {
        title: _rows(candidates, *question)[REGRETS]
        for title, question in QUESTIONS.items()
    }
    first = next(iter(QUESTIONS))
    table = pd.concat(parts, axis=1).sort_values((first, "validation_regret"))
    shown = _regrets_in_words(table)
    table.columns = [f"{title}: {name}" for title, name in table.columns]
    return Exhibit(
        "candidates",
        table.round(3),
        _compared_with_position(candidates),
        caption="Mean regret in percentage points of accuracy, of the parents whose "
        "children were all tried; lowest on validation first, the best ten and three "
        "to compare them with.",
        shown=shown,
    )


def _regrets_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Keep the best of the candidates, and what they are compared with."""
    named = table.index.isin(["position", "signals", "chance"])
    shown = table[named | (np.arange(len(table)) < BEST)].copy()
    shown.index = [candidate_title(name) for name in shown.index]
    shown.columns = [
        f"{title}, {name.removesuffix('_regret')} (pp)" for title, name in shown
    ]
    shown = shown.map(lambda value: "–" if np.isnan(value) else f"{value:.2f}")
    return shown.rename_axis("candidate")


def _compared_with_position(candidates: RowResults) -> str:
    six = _rows(candidates, "nine", "all")
    twelve = _rows(candidates, "base", "all")
    learned = six.drop(index="greedy")
    best = learned["validation_regret"].idxmin()
    below = learned.index[learned["validation_minus_position_high"] < 0]
    is_below = twelve["validation_minus_position_high"] < 0
    both = [name for name in below if is_below[name]]
    lines = [
        f"With six layers and {six['parents'].iloc[0]} parents "
        f"*{candidate_title(best)}* has the lowest "
        f"regret on validation: {_against_position(six.loc[best], 'validation')} "
        f"against position alone, {_against_position(six.loc[best], 'test')} on test, "
        f"where greedy has {_against_position(six.loc['greedy'], 'test')}. Below "
        f"position with the whole interval: {_listed(below)}.",
        f"Of these, with twelve layers and {twelve['parents'].iloc[0]} parents too: "
        f"{_listed(both)}. Against position alone, on test:",
    ]
    items = []
    for name in both:
        on_six = _against_position(six.loc[name], "test")
        on_twelve = _against_position(twelve.loc[name], "test")
        title = candidate_title(name)
        items.append(f"- *{title}*: {on_six} with six layers, {on_twelve} with twelve.")
    return "\n\n".join([*lines, "\n".join(items), _by_depth(candidates)])


def _by_depth(candidates: RowResults) -> str:
    frame = candidates["regrets"]
    is_chosen = (frame["study"] == "nine") & (frame["candidate"] == CHOSEN)
    rows = frame[is_chosen & (frame["removed"] != "all")]
    changes = [number_text(change) for change in rows["test_minus_position"]]
    listed = ", ".join(changes)
    return (
        f"With six layers, on test, the regret of *{candidate_title(CHOSEN)}* against "
        f"position alone is {listed} pp at parents without 0 to {len(changes) - 1} "
        "layers."
    )


def _listed(names: list[str] | pd.Index) -> str:
    return "; ".join(f"*{candidate_title(name)}*" for name in names) or "none"


@exhibit
def transfer(results: Results) -> Exhibit:
    """Compare fusions taught by the tree they search with those of other datasets.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = contrasts(results, TRANSFERS, list(MEASURES))
    if table.empty:
        raise StudyLacks("this study has no fusion to compare")
    caption = (
        "Differences of test accuracy, with 95% intervals over "
        f"{table['drawn'].iloc[0]}; none is corrected for the others."
    )
    asked = table["contrast"].isin([TRANSFERS[name].title for name in OWN])
    finding = contrast_list(table[asked & (table["measure"] == "half_removed")])
    return Exhibit("transfer", table, finding, caption=caption, shown=in_words(table))


@exhibit
def siblings(studies: dict[str, Results]) -> Exhibit:
    """Compare a candidate that became a strategy with what it would have to beat.

    Parameters
    ----------
    studies : dict of str to Results
        By title.

    Returns
    -------
    Exhibit
    """
    asked = {key: one for key, one in OPPONENTS.items() if key.startswith("siblings")}
    parts = [
        contrasts(study, asked, list(MEASURES)).assign(study=title)
        for title, study in studies.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    if table.empty:
        raise StudyLacks("no study has a forest that orders siblings")
    half = table[table["measure"] == "half_removed"]
    figure = draw_contrasts(half, by="study")
    items = []
    for (study, title), rows in table.groupby(["study", "contrast"], sort=False):
        texts = {row["measure"]: contrast_text(row) for _, row in rows.iterrows()}
        items.append(
            f"- {study}, {title}: {texts['half_removed']}; mean over depths: "
            f"{texts['mean_accuracy']}."
        )
    drawn = " or ".join(table["drawn"].unique())
    caption = (
        f"{MEASURES['half_removed'].capitalize()}; 95% intervals over {drawn}, of four "
        "datasets Student's where it is wider; grey: within 1 pp."
    )
    return Exhibit("siblings", table.round(4), "\n".join(items), figure, caption)
