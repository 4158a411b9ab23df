"""Contrasts: comparisons of strategies that were named before the runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
import yaml
from matplotlib.figure import Figure

from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, StudyLacks
from sfusion.analysis.scores import MEASURES, distilled, measured, with_best_single
from sfusion.analysis.statistics import FEW, MARGIN, compare_pair, comparison_text

if TYPE_CHECKING:
    from sfusion.experiments.results import Results

QUESTIONS = yaml.safe_load(
    Path(__file__).with_name("questions.yaml").read_text(encoding="utf-8")
)


class Contrast(NamedTuple):
    """One comparison: the difference is that of ``first`` minus ``second``.

    Attributes
    ----------
    title : str
        Such as "Own forest against position alone".
    first, second : str
        Names of strategies, or conditions of the distillation.
    """

    title: str
    first: str
    second: str


def _named(kind: str) -> dict[str, Contrast]:
    return {key: Contrast(*parts) for key, parts in QUESTIONS[kind].items()}


CONTRASTS = _named("contrasts")
CONTROLS = _named("controls")
OPPONENTS = _named("opponents")
MODELS = _named("models")
TRANSFERS = _named("transfers")


def contrasts(
    results: Results,
    which: dict[str, Contrast] = CONTRASTS,
    measures: list[str] | None = None,
) -> pd.DataFrame:
    """Compute every contrast under every measure.

    Parameters
    ----------
    results : Results
    which : dict of str to Contrast
    measures : list of str, optional
        Columns of :func:`sfusion.analysis.scores.measured`; by default all.

    Returns
    -------
    DataFrame
        A row per contrast and measure: ``contrast`` (its title), ``measure``, and the
        columns of :func:`sfusion.analysis.statistics.compare_pair`. Contrasts whose
        strategies were not run are left out.
    """
    every = with_best_single(results.curves())
    if not results.distillation.empty:
        every = pd.concat([every, distilled(results)])
    asked = {name for contrast in which.values() for name in contrast[1:]}
    compared = every[every["name"].isin(asked)]
    if compared.empty:
        return pd.DataFrame()
    scores = measured(compared)
    if measures is None:
        measures = list(scores.columns.unique("measure"))
    rows = []
    for contrast in which.values():
        for measure in measures:
            first = measure, contrast.first
            second = measure, contrast.second
            if first in scores and second in scores:
                found = compare_pair(scores[first], scores[second])
                rows.append({"contrast": contrast.title, "measure": measure, **found})
    return pd.DataFrame(rows)


def draw_contrasts(
    table: pd.DataFrame,
    by: str = "measure",
    difference: str = "first minus second",
) -> Figure:
    """Draw contrasts as intervals.

    Parameters
    ----------
    table : DataFrame
        From :func:`contrasts`, of one study or, with a column ``study``, of two; rows
        of other measures than ``MEASURES`` are left out.
    by : {"measure", "study"}
        What stands beside each other in a row: two measures or two studies.
    difference : str
        Which way round the difference is.

    Returns
    -------
    Figure
        Percentage points of test accuracy, with 95% bootstrap intervals; grey: the
        margin within which a difference counts as none.
    """
    shown = table[table["measure"].isin(MEASURES)].copy()
    numbers = ["difference", "low", "high"]
    shown[numbers] *= 100
    if by == "measure":
        which = ""
    else:
        which = f", {MEASURES[shown['measure'].iloc[0]]}"
    shown["measure"] = shown["measure"].map(MEASURES)
    # "Own forest against middle first" stands as a row under "Own forest against".
    parts = shown["contrast"].str.partition(" against ")
    names_two = parts[1] != ""
    shown["first"] = (parts[0] + " against").where(names_two, "")
    shown["second"] = parts[2].where(names_two, shown["contrast"])
    sides = ("the other ahead", "the first ahead")
    if names_two.all() and parts[0].nunique() == 1:
        first = parts[0].iloc[0].lower()
        sides = ("the opponent ahead", f"the {first} ahead")
        difference = f"{first} minus opponent"
    return interval_rows(
        shown,
        label="second",
        group="first",
        sort=True,
        value="difference",
        series=by,
        margin=100 * MARGIN,
        xlabel=f"test accuracy{which}, {difference} (pp)",
        sides=sides,
    )


def contrast_text(row: pd.Series) -> str:
    """Write one contrast in words, such as "ahead by 0.6 pp [0.2, 1.1]".

    Parameters
    ----------
    row : Series
        Of :func:`contrasts`.

    Returns
    -------
    str
    """
    return comparison_text(row["difference"], row["low"], row["high"])


def contrast_list(table: pd.DataFrame) -> str:
    """Write contrasts as a Markdown list, a line each.

    Parameters
    ----------
    table : DataFrame
        From :func:`contrasts`, of one measure.

    Returns
    -------
    str
    """
    lines = []
    for _, row in table.iterrows():
        lines.append(f"- {row['contrast']}: {contrast_text(row)}")
    return "\n".join(lines)


def in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Write contrasts in words, a row for each and a column per measure.

    Parameters
    ----------
    table : DataFrame
        From :func:`contrasts`.

    Returns
    -------
    DataFrame
        Index contrast.
    """
    texts = table.assign(text=table.apply(contrast_text, axis=1))
    shown = texts.pivot(index="contrast", columns="measure", values="text").fillna("")
    shown = shown.loc[table["contrast"].unique(), table["measure"].unique()]
    return shown.rename(columns=MEASURES).rename_axis(columns=None)


def contrasts_of_two(
    name: str, studies: dict[str, Results], which: dict[str, Contrast]
) -> Exhibit:
    """Set the contrasts of two studies beside each other.

    Parameters
    ----------
    name : str
        Of the exhibit.
    studies : dict of str to Results
        By what tells them apart.
    which : dict of str to Contrast

    Returns
    -------
    Exhibit
        Of the contrasts that both studies have: a figure of those with half of the
        layers removed, and both measures in words.

    Raises
    ------
    StudyLacks
        When there are none.
    """
    tables = []
    for title, results in studies.items():
        table = contrasts(results, which, list(MEASURES))
        table.insert(0, "study", title)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        raise StudyLacks("the two studies share no comparison")
    in_both = table.groupby("contrast")["study"].transform("nunique") == len(studies)
    table = table[in_both].reset_index(drop=True)
    halved = table[table["measure"] == "half_removed"]
    columns = []
    for title in studies:
        words = in_words(table[table["study"] == title])
        columns.append(words.add_prefix(f"{title}, "))
    drawn = " or ".join(table["drawn"].unique())
    caption = (
        f"95% intervals over {drawn}, where datasets are {FEW} or fewer Student's if "
        f"that is wider; the figure: {MEASURES['half_removed']}."
    )
    sentences = []
    for measure, title in MEASURES.items():
        groups = table[table["measure"] == measure].groupby("contrast")
        turns = (groups["low"].max() > 0) & (groups["high"].min() < 0)
        sentences.append(f"{title}: {', '.join(turns[turns].index) or 'none'}")
    return Exhibit(
        name,
        table,
        f"Ahead in one study and behind in the other, {'; '.join(sentences)}.",
        draw_contrasts(halved, by="study"),
        caption,
        shown=pd.concat(columns, axis=1),
    )
