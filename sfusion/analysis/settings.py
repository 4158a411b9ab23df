"""Other settings: longer texts, and what of the findings is the recipe's own doing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from sfusion.analysis import sweeps
from sfusion.analysis.alternatives import datasets_and_seeds
from sfusion.analysis.appearance import strategy_title
from sfusion.analysis.contrasts import (
    CONTRASTS,
    CONTROLS,
    OPPONENTS,
    contrasts_of_two,
)
from sfusion.analysis.costs import strategies_ranked
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.scores import measured, observed, with_best_single
from sfusion.analysis.statistics import (
    TIE,
    Interval,
    bootstrap,
    interval_text,
    number_text,
)
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import STRATEGIES, TRANSFER

if TYPE_CHECKING:
    from sfusion.experiments.results import Results, RowResults

# What a recipe for the original varies.
FIELDS = ["samples", "learning_rate", "head_rate", "dropout", "freeze_embeddings"]

DOSE = ["samples", "learning_rate"]

# What is asked at both rates of recovery, and who is compared with the original.
ASKED = CONTRASTS | CONTROLS | OPPONENTS
ASKED.pop("teacher")
NAMES = {name for one in ASKED.values() for name in (one.first, one.second)}
COMPARED = ["random-forest", "middle-first", "one-shot-middle-first"]

# A recovery is harmless where five of them cost an unpruned model no more (pp).
HARMLESS = 0.3


def _lengths(short: Results, long: Results) -> dict[str, Results]:
    studies = (short, long)
    return {f"{one.manifest['profile']['max_length']} tokens": one for one in studies}


@exhibit
def longer_texts(long: Results) -> Exhibit:
    """Draw the accuracy of every strategy over the layers removed, on longer texts.

    Parameters
    ----------
    long : Results

    Returns
    -------
    Exhibit
    """
    return replace(sweeps.accuracy_by_depth(long), name="longer_texts")


@exhibit
def ranks_by_length(short: Results, long: Results) -> Exhibit:
    """Compare how the strategies rank at two lengths of texts.

    Fusions learned on other datasets are left out: at the longer length they learned
    from one dataset, at the shorter one from eight.

    Parameters
    ----------
    short, long : Results

    Returns
    -------
    Exhibit
    """
    gains = {
        length: strategies_ranked(results)["points"]
        for length, results in _lengths(short, long).items()
    }
    table = pd.DataFrame(gains).rename_axis("strategy")
    table = table[[STRATEGIES[name].learned_from != TRANSFER for name in table.index]]
    correlation = table.corr(method="spearman").iloc[0, 1]
    finding = (
        "The strategies' gains over random orders have a rank correlation of "
        f"{correlation:.2f} between {' and '.join(table)}."
    )
    return Exhibit("ranks_by_length", table, finding)


@exhibit
def longer_contrasts(short: Results, long: Results) -> Exhibit:
    """Draw the contrasts at two lengths of texts, half of the layers removed.

    Parameters
    ----------
    short, long : Results

    Returns
    -------
    Exhibit
    """
    asked = {
        key: one
        for key, one in (CONTRASTS | CONTROLS).items()
        if key != "teacher" and STRATEGIES[one.first].learned_from != TRANSFER
    }
    return contrasts_of_two("longer_contrasts", _lengths(short, long), asked)


@exhibit
def original_recipe(results: Results, recipe: RowResults) -> Exhibit:
    """Compare other ways to fine-tune the original with the one in use.

    Parameters
    ----------
    results : Results
    recipe : RowResults
        The study of that name.

    Returns
    -------
    Exhibit
    """
    profile = results.manifest["profile"]
    rows = recipe["rows"]
    tuned = rows[(rows["model"] == profile["model"]) & (rows["stage"] == "original")]
    scores = 100 * tuned.pivot(
        index=FIELDS, columns="task", values="validation_accuracy"
    )
    used = tuple(profile["original"].get(field) for field in FIELDS)
    if used not in scores.index:
        raise StudyLacks("the recipe of this study's original is not among those tried")
    change = scores - scores.loc[used]
    change["mean"] = change.mean(axis=1)
    change = change.sort_values("mean", ascending=False).rename_axis(columns=None)
    reached = [f"{task} {value:.1f}%" for task, value in scores.loc[used].items()]
    better = (change["mean"] > TIE).sum()
    sentences = [
        f"The recipe in use reaches {', '.join(reached)}.",
        f"Changes to it with a higher mean: {better} of {len(change) - 1}.",
    ]
    longer = change[change.index.get_level_values("samples") == 3 * used[0]]
    for row in longer.drop(columns="mean").to_dict("records"):
        texts = [f"{task} {number_text(pp)}" for task, pp in row.items()]
        sentences.append(f"Three times the samples change {', '.join(texts)} pp.")
    return Exhibit(
        "original_recipe",
        change.round(2).reset_index(),
        " ".join(sentences),
        caption="Validation accuracy minus that of the recipe in use (pp).",
        shown=change.round(1),
    )


@exhibit
def recovery(results: Results, long: Results, recipe: RowResults) -> Exhibit:
    """Show what recoveries change in a model that loses no layer, and in one that does.

    Parameters
    ----------
    results, long : Results
        Studies whose recoveries are named.
    recipe : RowResults
        The study of that name.

    Returns
    -------
    Exhibit
    """
    rows = recipe["rows"]
    model = results.manifest["profile"]["model"]
    tried = rows[(rows["model"] == model) & (rows["stage"] == "recovery")]
    if tried.empty:
        raise StudyLacks(f"no recoveries of {model} were tried")
    unit = [*DOSE, *UNIT]
    original = tried[tried["path"] == ""].set_index(unit)["validation_accuracy"]
    change = tried[tried["path"] != ""].set_index(unit)
    change["pp"] = 100 * (
        change["validation_accuracy"] - original.reindex(change.index)
    )
    paths = change["path"].map(PruningPath.parse)
    change["steps"] = paths.map(len)
    loses_layers = paths.map(lambda path: len(path.removed) > 0)
    change["lost"] = loses_layers.map({True: "a layer each", False: "nothing"})
    means = change.groupby(["lost", *DOSE, "steps"])["pp"].mean().unstack("steps")
    means = means.rename_axis(columns=None).add_prefix("after ")
    by_itself = means.loc["nothing", "after 5"]
    after_three = means.loc["a layer each", "after 3"]
    sentences = []
    for dose in by_itself.sort_values(ascending=False).index:
        sentences.append(
            f"- {_dose(*dose)}: five recoveries change an unpruned model by "
            f"{number_text(by_itself[dose])} pp, and leave "
            f"{number_text(after_three[dose])} pp after three removals."
        )
    best = after_three[by_itself >= -HARMLESS].idxmax()
    sentences.append(
        f"\nOf those that cost at most {HARMLESS} pp by themselves, {_dose(*best)} "
        "leave most after three removals."
    )
    for study in (results, long):
        profile = study.manifest["profile"]
        used = profile["recovery"]
        sentences.append(
            f"The study `{profile['name']}` recovers with "
            f"{_dose(used['samples'], used['learning_rate'])}."
        )
    return Exhibit(
        "recovery",
        means.reset_index(),
        "\n".join(sentences),
        caption=(
            "Validation accuracy minus the original's (pp), mean over datasets and "
            f"{tried['seed'].nunique()} seeds, by the number of recoveries."
        ),
        shown=means.round(1),
    )


def _dose(samples: int, learning_rate: float) -> str:
    return f"{samples:,} samples at {learning_rate:g}"


def _alike(results: Results, fast: Results) -> tuple[Results, Results]:
    """Keep what both studies ran: they must differ in the recovery's rate alone."""
    settings = []
    for one in (results, fast):
        profile = one.manifest["profile"]
        recovery = profile["recovery"] | {"learning_rate": None}
        settings.append((profile["model"], profile["original"], recovery))
    keys = [*UNIT, "strategy", "removed"]
    both = results.trajectories.merge(fast.trajectories[keys])
    if settings[0] != settings[1] or _rate(results) == _rate(fast) or both.empty:
        raise StudyLacks("this study was not run at a second rate of recovery")
    return replace(results, trajectories=both), fast


def _rate(results: Results) -> str:
    return f"{results.manifest['profile']['recovery']['learning_rate']:g}"


@exhibit
def rate_contrasts(results: Results, fast: Results) -> Exhibit:
    """Draw the contrasts at two rates of recovery, half of the layers removed.

    Parameters
    ----------
    results : Results
    fast : Results
        The same at a higher rate, perhaps of fewer seeds and strategies.

    Returns
    -------
    Exhibit
    """
    studies = {f"recovery at {_rate(one)}": one for one in _alike(results, fast)}
    shown = contrasts_of_two("rate_contrasts", studies, ASKED)
    paragraphs = [shown.finding]
    for study, one in studies.items():
        score = _half_removed(one)
        frame = one.curves()
        original = frame.loc[frame["removed"] == 0, "test_accuracy"].mean()
        compared = [name for name in COMPARED if name in score]
        lost = 100 * (observed(score)[compared].mean() - original)
        texts = [
            f"{strategy_title(name)} {number_text(pp)}" for name, pp in lost.items()
        ]
        paragraphs.append(f"With {study}, minus the original: {'; '.join(texts)} pp.")
    paragraphs.append(_moved(rate_changes(results, fast)))
    caption = f"The two studies share {datasets_and_seeds(fast.tasks)}."
    return replace(shown, finding="\n\n".join(paragraphs), caption=caption)


def _half_removed(results: Results) -> pd.DataFrame:
    """Score the strategies of the contrasts with half of the layers removed."""
    frame = with_best_single(results.curves())
    return measured(frame[frame["name"].isin(NAMES)])["half_removed"]


def rate_changes(results: Results, fast: Results) -> pd.DataFrame:
    """Measure by how much a higher rate of the recovery changes every contrast.

    Parameters
    ----------
    results, fast : Results
        See :func:`rate_contrasts`.

    Returns
    -------
    DataFrame
        Index contrast; ``value``, ``low`` and ``high``: the contrast with half of the
        layers removed at the higher rate, minus the same at the lower, in percentage
        points of test accuracy, with a 95% interval.
    """
    slow, quick = (_half_removed(one) for one in _alike(results, fast))
    rows = {}
    for one in ASKED.values():
        if {one.first, one.second} <= {*slow} & {*quick}:
            before = slow[one.first] - slow[one.second]
            after = quick[one.first] - quick[one.second]
            rows[one.title] = bootstrap((after - before).dropna()).points()
    return pd.DataFrame.from_dict(rows, orient="index", columns=Interval._fields)


def _moved(changes: pd.DataFrame) -> str:
    """List the contrasts whose change between two rates excludes 0."""
    clear = changes[(changes["low"] > 0) | (changes["high"] < 0)]
    lines = []
    for title, row in clear.iterrows():
        lines.append(f"- {title}: {interval_text(*row, signed=True)} pp")
    moved = f"The rate moves {len(clear)} of {len(changes)} comparisons"
    return "\n".join([f"{moved}, by the whole of the change's interval.", "", *lines])
