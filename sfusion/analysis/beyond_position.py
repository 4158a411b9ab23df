"""Beyond position: what signals say that a table of sets of layers does not.

The strongest reader of position is no forest but a *lookup table*: the mean validation
accuracy of every set of layers on the other datasets, which are searched in full. It
reads no signal and nothing of the dataset at hand. What it leaves unexplained is all
that signals could add; here they are asked for just that.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sfusion.analysis.appearance import COLOURS
from sfusion.analysis.candidates import candidate_title
from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.layer_sets import searched_sets
from sfusion.analysis.statistics import (
    Interval,
    grouped_mean,
    interval_text,
    number_text,
)
from sfusion.experiments.results import UNIT
from sfusion.pruning.fusion import FUSION_MODELS, training_table
from sfusion.pruning.path import PruningPath
from sfusion.signals import REDUNDANCY, recorded

if TYPE_CHECKING:
    from sfusion.experiments.results import Results, RowResults

PARENT = [*UNIT, "path"]
TABLE = "lookup table"
ACCURACIES = ["validation_accuracy", "test_accuracy"]

# What learns from the signals the part of a removal's cost that the table leaves.
LEARNERS = {
    "ridge-regression": "ridge regression",
    "random-forest": "forest",
}
ALL = "all"


@cache
def tried_families(results: Results) -> pd.DataFrame:
    """Tabulate the removals from every model of which each removal was tried.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per removal: ``task``, ``seed``, ``path`` (of the parent), ``layer``, the
        standardised signals of the parent, ``removed`` (layers, by the parent),
        ``gone`` (by the child, a sorted tuple), and the child's accuracies, shares.

    Raises
    ------
    StudyLacks
        When no such model's signals were extracted.
    """
    table = training_table(results.nodes, results.signals)
    left = results.signals.groupby(PARENT).size()
    asked = pd.MultiIndex.from_frame(table[PARENT])
    tried = table.groupby(PARENT)["layer"].transform("size")
    complete = (tried == left.reindex(asked).to_numpy()) & (tried > 1)
    table = table[complete].copy()
    if table.empty:
        raise StudyLacks("of no model was every removal tried")
    children = []
    gone = []
    for path, layer in zip(table["path"], table["layer"], strict=True):
        child = PruningPath.parse(path).then(layer)
        children.append(child.name)
        gone.append(tuple(sorted(child.removed)))
    table = table.assign(child=children, gone=gone)
    scores = results.nodes[[*PARENT, *ACCURACIES]].rename(columns={"path": "child"})
    table = table.merge(scores, on=[*UNIT, "child"], validate="one_to_one")
    table["removed"] = table["gone"].map(len) - 1
    columns = [*PARENT, "layer", *recorded(table), "removed", "gone", *ACCURACIES]
    return table[columns].sort_values([*PARENT, "layer"], ignore_index=True)


def looked_up(
    results: Results, rows: pd.DataFrame, without: str | None = None
) -> pd.Series:
    """Look up how well the set that a removal leaves does on other datasets.

    Parameters
    ----------
    results : Results
        With every set of layers trained.
    rows : DataFrame
        Of :func:`tried_families`.
    without : str, optional
        A dataset that is left out of the table besides the row's own.

    Returns
    -------
    Series
        A score per row: mean validation accuracy over the datasets and seeds, a share.

    Raises
    ------
    StudyLacks
        When no other dataset is left, or not every set was trained.
    """
    sets = searched_sets(results)
    by_task = sets.groupby(["gone", "task"])["validation_accuracy"].mean().unstack()
    scores = []
    for task, own in rows.groupby("task"):
        others = by_task.drop(columns={task, without} & set(by_task))
        if others.empty:
            raise StudyLacks("a lookup table needs other datasets")
        means = dict(zip(others.index, others.mean(axis=1), strict=True))
        scores.append(own["gone"].map(means))
    return pd.concat(scores).reindex(rows.index)


def within_families(rows: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Subtract the mean over the removals from the same parent.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`tried_families`.
    values : Series
        One per row.

    Returns
    -------
    Series
    """
    return values - values.groupby([rows[key] for key in PARENT]).transform("mean")


@cache
def scored_families(results: Results) -> pd.DataFrame:
    """Score every removal by the lookup table, and by what signals add to it.

    Everything is learned on the other datasets: the table, and from their removals what
    it left there, once their own dataset and the one at hand are taken out of it.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Rows of :func:`tried_families` with ``TABLE`` and the names of ``LEARNERS``:
        scores of which the higher goes first, each minus its mean over the parent's
        removals, shares of accuracy; a learner's holds the table's.
    """
    rows = tried_families(results)
    scored = rows.assign(
        **{TABLE: within_families(rows, looked_up(results, rows))},
        **dict.fromkeys(LEARNERS, 0.0),
    )
    names = recorded(rows)
    for task in rows["task"].unique():
        others = rows[rows["task"] != task]
        if others["task"].nunique() < 2:
            raise StudyLacks("learning what a table leaves needs three datasets")
        table = looked_up(results, others, without=task)
        left = others["validation_accuracy"] - table
        left = within_families(others, left)
        here = rows["task"] == task
        for name in LEARNERS:
            fitted = FUSION_MODELS[name]().fit(others[names], left)
            added = pd.Series(fitted.predict(rows.loc[here, names]), rows.index[here])
            added = within_families(rows[here], added)
            scored.loc[here, name] = scored.loc[here, TABLE] + added
    return scored


def regret_of(rows: pd.DataFrame, scores: pd.Series) -> pd.DataFrame:
    """Compute each parent's regret of the removal of the highest score.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`tried_families`.
    scores : Series
        One per row; of equals the layer nearest to the output goes.

    Returns
    -------
    DataFrame
        Index ``task``, ``seed``, ``path``, ``removed``; ``validation`` and ``test``:
        accuracy of the best removal minus that of the chosen one, percentage points.
    """
    keys = [*PARENT, "removed"]
    ranked = rows.assign(score=scores).sort_values(["score", "layer"])
    chosen = ranked.groupby(keys)[ACCURACIES].last()
    found = 100 * (rows.groupby(keys)[ACCURACIES].max() - chosen)
    return found.rename(columns=lambda name: name.removesuffix("_accuracy"))


@exhibit
def lookup_regret(results: Results, candidates: RowResults) -> Exhibit:
    """Compare the lookup table's regret with that of every fusion at the same parents.

    Parameters
    ----------
    results : Results
    candidates : RowResults
        The study of that name.

    Returns
    -------
    Exhibit
    """
    frame = candidates["regrets"]
    study = results.manifest["profile"]["name"]
    asked = (frame["study"] == study) & (frame["removed"] == ALL)
    fusions = frame[asked]
    if fusions.empty:
        raise StudyLacks("no candidates were tried on the records of this study")
    rows = tried_families(results)
    found = regret_of(rows, looked_up(results, rows))
    if (fusions["parents"] != len(found)).any():
        raise StudyLacks("the candidates were tried at other parents than these")
    parts: list[dict[str, str | float]]
    parts = [{"name": TABLE, "title": "Lookup table, no signal", "parents": len(found)}]
    for split in ("validation", "test"):
        regret = grouped_mean(found[split])
        parts[0][f"{split}_regret"] = regret.value
        parts[0][f"{split}_regret_low"] = regret.low
        parts[0][f"{split}_regret_high"] = regret.high
    titles = [candidate_title(name) for name in fusions["candidate"]]
    fusions = fusions.rename(columns={"candidate": "name"}).assign(title=titles)
    table = pd.concat([pd.DataFrame(parts), fusions[[*parts[0]]]])
    table = table.sort_values("test_regret", ignore_index=True)
    shown = table[table["name"] != "chance"].head(12)
    names = dict(zip(shown["name"], shown["title"], strict=True))
    figure = interval_rows(
        shown,
        label="title",
        value="test_regret",
        low="test_regret_low",
        high="test_regret_high",
        colours={title: _colour(name) for name, title in names.items()},
        digits=2,
        xlabel="regret: best removal minus the chosen one (pp of test accuracy)",
    )
    caption = (
        f"Mean over {len(found):,} parents of which every removal was tried, with 95% "
        "intervals over datasets; the lowest twelve. All but greedy search learned on "
        "the other datasets alone."
    )
    return Exhibit(
        "lookup_regret", table.round(4), _lookup_finding(table), figure, caption
    )


def _colour(name: str) -> str:
    if name == TABLE:
        return COLOURS["position"]
    if name == "greedy":
        return COLOURS["search"]
    return COLOURS["redundancy" if name in REDUNDANCY else "fusion"]


def _lookup_finding(table: pd.DataFrame) -> str:
    named = table.set_index("name")
    fusions = named.drop(index=[TABLE, "greedy", "chance"])
    best = fusions.iloc[0]
    texts = {
        name: f"{named.loc[name, 'test_regret']:.2f}"
        for name in (TABLE, "greedy", "position", "chance")
    }
    place = int((fusions["test_regret"] < named.loc[TABLE, "test_regret"]).sum())
    before = "before every fusion" if not place else f"after {place} fusions"
    return (
        f"The lookup table has a regret of {texts[TABLE]} pp on test, {before}: the "
        f"best of {len(fusions)} ({best['title'].lower()}) has "
        f"{best['test_regret']:.2f}, a forest that reads the position "
        f"{texts['position']}, a random layer {texts['chance']}. Greedy search, which "
        f"trains every removal, has {texts['greedy']}. The table too has its price: it "
        "reads exhaustive searches of the other datasets."
    )


def explained(rows: pd.DataFrame, added: pd.Series) -> float:
    """Compute the share that a score explains of what the table leaves.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`scored_families`.
    added : Series
        What is said of each row beside the table's score, a share of accuracy.

    Returns
    -------
    float
        1 minus the squared error over that of the table alone, both of test accuracies
        minus their mean over the parent's removals; nothing where the table is exact.
    """
    left = within_families(rows, rows["test_accuracy"] - rows[TABLE])
    error = left - within_families(rows, added)
    total = (left**2).sum()
    if total == 0:
        return np.nan
    return float(1 - (error**2).sum() / total)


def agreement(rows: pd.DataFrame, added: pd.Series, part: pd.Series) -> float:
    """Correlate a score with what the table leaves, among a part of the removals.

    Parameters
    ----------
    rows : DataFrame
        Of :func:`scored_families`.
    added : Series
        See :func:`explained`.
    part : Series of bool
        Rows that count; of a parent with one of them alone nothing is left.

    Returns
    -------
    float
        Pearson's correlation within parents.
    """
    rows = rows[part.reindex(rows.index)]
    rows = rows[rows.groupby(PARENT)["layer"].transform("size") > 1]
    left = within_families(rows, rows["test_accuracy"] - rows[TABLE])
    said = within_families(rows, added[rows.index])
    if len(rows) < 3 or left.std() == 0 or said.std() == 0:
        return np.nan
    return float(left.corr(said))


def beyond_table(results: Results) -> pd.DataFrame:
    """Tabulate what signals explain of what the lookup table leaves, and its worth.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per number of layers removed before (``all``: whichever) and learner:
        ``parents``; ``share``, what the learner explains on unseen datasets of the
        variance of test accuracy between siblings that the table leaves;
        ``better`` and ``worse``, its correlation with what the table leaves among the
        half of the removals that the table prefers, and among the others;
        ``table_regret`` and
        ``regret``, with and without what the learner adds, percentage points; and
        ``value``, ``low`` and ``high``: the latter minus the former.
    """
    scored = scored_families(results)
    ranks = scored.groupby(PARENT)[TABLE].rank(ascending=False, method="first")
    sizes = scored.groupby(PARENT)["layer"].transform("size")
    preferred = ranks <= sizes / 2
    rows = []
    for removed in [*sorted(scored["removed"].unique()), ALL]:
        part = scored if removed == ALL else scored[scored["removed"] == removed]
        base = regret_of(part, part[TABLE])["test"]
        for name in LEARNERS:
            added = part[name] - part[TABLE]
            regret = regret_of(part, part[name])["test"]
            rows.append(
                {
                    "removed": str(removed),
                    "learner": name,
                    "parents": len(base),
                    "share": explained(part, added),
                    "better": agreement(part, added, preferred),
                    "worse": agreement(part, added, ~preferred),
                    "table_regret": base.mean(),
                    "regret": regret.mean(),
                    **grouped_mean(regret - base)._asdict(),
                }
            )
    return pd.DataFrame(rows)


@exhibit
def beyond_position(results: Results) -> Exhibit:
    """Show what signals explain beyond position, and what choosing by it costs.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = beyond_table(results)
    shown = _beyond_in_words(table)
    caption = (
        "What signals explain, on datasets that nothing was learned from, of the test "
        "accuracies that the lookup table leaves between the removals from one model; "
        "regret of the removal that is chosen, in pp, with a 95% interval over "
        "datasets."
    )
    return Exhibit(
        "beyond_position",
        table.round(4),
        _beyond_finding(table),
        caption=caption,
        shown=shown,
    )


def _beyond_in_words(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame(
        {
            "layers removed before": table["removed"],
            "added to the table": table["learner"].map(
                {name: f"signals, by {title}" for name, title in LEARNERS.items()}
            ),
            "explained of what it leaves": table["share"].map(_per_cent),
            "correlation, better half": table["better"].map(_correlation),
            "correlation, worse half": table["worse"].map(_correlation),
            "regret, table alone (pp)": table["table_regret"].map("{:.2f}".format),
            "regret with signals (pp)": table["regret"].map("{:.2f}".format),
            "difference (pp)": [
                interval_text(
                    row["value"], row["low"], row["high"], digits=2, signed=True
                )
                for _, row in table.iterrows()
            ],
        }
    )
    return shown.set_index(["layers removed before", "added to the table"])


def _correlation(value: float) -> str:
    if np.isnan(value):
        return "–"
    return number_text(value, 2)


def _per_cent(share: float) -> str:
    if np.isnan(share):
        return "–"
    return f"{number_text(100 * share, 0)}%"


def _beyond_finding(table: pd.DataFrame) -> str:
    every = table[table["removed"] == ALL].set_index("learner")
    single = table[table["removed"] != ALL]
    sentences = []
    for name, title in LEARNERS.items():
        row = every.loc[name]
        difference = Interval(row["value"], row["low"], row["high"])
        text = interval_text(*difference, digits=2, signed=True)
        sentences.append(
            f"By {title} they explain {_per_cent(row['share'])} of what the table "
            f"leaves over all parents (correlation {_correlation(row['better'])} among "
            "the half of the removals that the table prefers, "
            f"{_correlation(row['worse'])} among the others), and choosing with them "
            f"changes the regret by {text} pp."
        )
    lower = single[single["high"] < 0]
    if lower.empty:
        depths = (
            "At no number of removals does the regret fall with the whole interval."
        )
    else:
        pairs = zip(lower["removed"], lower["learner"].map(LEARNERS), strict=True)
        listed = ", ".join(f"{removed} removals ({by})" for removed, by in pairs)
        depths = f"The regret falls with the whole interval after {listed} alone."
    opening = "On unseen datasets signals say nothing that the table does not."
    if (every["share"] > 0).any():
        opening = "On unseen datasets signals say something that the table does not."
    return " ".join([opening, *sentences, depths])
