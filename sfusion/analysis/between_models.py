"""Between models: what the removals of one teach about the layers of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from sfusion.analysis.appearance import strategy_title
from sfusion.analysis.contrasts import MODELS, contrasts, draw_contrasts, in_words
from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.layer_sets import sets_left, trained_sets
from sfusion.analysis.scores import MEASURES, half_of, redrawn, task_means
from sfusion.analysis.statistics import bootstrap, difference_text, number_text
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath
from sfusion.signals import MEASURES as LAYER_MEASURES
from sfusion.signals import REDUNDANCY, SIGNALS

if TYPE_CHECKING:
    from sfusion.experiments.results import Results, RowResults

# Rankings of the six-layer model's layers that need none of its removals.
RANKINGS = {
    "one-shot-random-forest-other-model": "forest of twelve layers",
    "one-shot-random-forest-position-other-model": "its position alone",
    "one-shot-angular-distance": "angular distance",
    "one-shot-middle-first": "middle first",
}
FOREST = RANKINGS["one-shot-random-forest-other-model"]

# Whose removals are counted: what learned elsewhere, what learned here, what did not.
LOSERS = (
    "random-forest-other-model",
    "one-shot-random-forest-other-model",
    "random-forest-position-other-model",
    "random-forest",
    "random-forest-position",
    "removal-loss",
    "middle-first",
)


@exhibit
def other_model(twelve: Results) -> Exhibit:
    """Draw what forests are worth that learned from the six-layer model's removals.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    table = contrasts(twelve, MODELS, list(MEASURES))
    if table.empty:
        raise StudyLacks("this study has no forest of another model")
    figure = draw_contrasts(table)
    return Exhibit("other_model", table, figure=figure, shown=in_words(table))


def _rankings_followed(results: Results, candidates: RowResults) -> pd.DataFrame:
    """Look up the accuracies of the sets that rankings leave, and of all sets.

    Index (task, seed, draw), a column per ranking and number of removed layers.
    """
    paths = candidates["paths"]
    paths = paths[paths["study"] == results.manifest["profile"]["name"]]
    ranked = paths.assign(name=paths["strategy"].map(RANKINGS)).dropna(subset="name")
    every = trained_sets(results).assign(name="all sets")
    if ranked.empty or every.empty:
        raise StudyLacks("no forest of twelve layers ranked the layers of this study")
    followed = pd.concat([sets_left(results, ranked), every])
    return redrawn(followed, ["name", "removed"]).dropna()


@exhibit
def from_twelve_to_six(results: Results, candidates: RowResults) -> Exhibit:
    """Show what a forest of the twelve-layer model's removals is worth on six layers.

    Parameters
    ----------
    results : Results
        Of six layers, with every set of layers trained.
    candidates : RowResults
        The study of that name: the rankings that forests of twelve layers give.

    Returns
    -------
    Exhibit
    """
    followed = _rankings_followed(results, candidates)
    means = 100 * task_means(followed).mean().unstack("removed")
    half = half_of(list(means), len(means.columns) + 1)
    scores = {
        "half of the layers removed": followed.xs(half, axis=1, level="removed"),
        "mean over depths": followed.T.groupby(level="name").mean().T,
    }
    lines = [f"The {FOREST}:", ""]
    for when, score in scores.items():
        for other in means.index.drop(FOREST):
            words = difference_text(score[FOREST], score[other])
            lines.append(f"- Against {other}, {when}: {words}")
    return Exhibit(
        "twelve_to_six",
        means.round(2),
        "\n".join(lines),
        caption="Test accuracy (%) of the sets that rankings leave, by layers removed.",
        shown=means.round(1),
    )


def removed_ends(results: Results) -> pd.DataFrame:
    """Say of every path which ends it has removed with half of the layers.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per task, seed and strategy: ``name``, ``path``, ``removed``, whether it
        ``lost_first`` and ``lost_last`` layer, and ``change``, test accuracy minus the
        original's in percentage points.
    """
    curves = results.curves()
    depth = results.depth
    half = half_of(sorted(set(curves["removed"]) - {0}), depth)
    halved = curves[curves["removed"] == half].copy()
    gone = [PruningPath.parse(path).removed for path in halved["path"]]
    halved["lost_first"] = [0 in layers for layers in gone]
    halved["lost_last"] = [depth - 1 in layers for layers in gone]
    roots = results.nodes.loc[results.nodes["removed"] == 0, [*UNIT, "test_accuracy"]]
    halved = halved.merge(roots, on=UNIT, suffixes=("", "_original"))
    change = halved["test_accuracy"] - halved["test_accuracy_original"]
    halved["change"] = 100 * change
    columns = [*UNIT, "strategy", "name", "path", "removed"]
    return halved[[*columns, "lost_first", "lost_last", "change"]]


@exhibit
def lost_ends(twelve: Results) -> Exhibit:
    """Count the models of which half of the removals take the first layer or the last.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    paths = removed_ends(twelve)
    present = [name for name in LOSERS if name in set(paths["name"])]
    if "random-forest-other-model" not in present:
        raise StudyLacks("this study has no forest of another model")
    counted = paths[paths["name"].isin(present)].groupby("name")
    table = counted[["lost_first", "lost_last"]].sum()
    table["models"] = counted.size()
    table["change"] = counted["change"].mean()
    table = table.loc[present]
    ends = paths.drop_duplicates([*UNIT, "path"])
    means = ends.groupby(["lost_first", "lost_last"])["change"].mean()
    forest = table.loc["random-forest-other-model"]
    finding = (
        f"With {paths['removed'].iloc[0]} layers gone the forest of another model has "
        f"removed the first layer of {forest['lost_first']:.0f} of the "
        f"{forest['models']:.0f} models, a forest that knows that model's positions "
        "alone of "
        f"{_count_of(table, 'random-forest-position-other-model')}, the own forest of "
        f"{_count_of(table, 'random-forest')}. Over all paths of the study, models "
        "that lost the first layer and kept the last lie "
        f"{_change_text(means, (True, False))} from the original, those that kept both "
        f"ends {_change_text(means, (False, False))}."
    )
    shown = pd.DataFrame(
        {
            "first layer gone": table["lost_first"].astype(int),
            "last layer gone": table["lost_last"].astype(int),
            "of models": table["models"].astype(int),
            "minus the original (pp)": table["change"].map(number_text),
        }
    )
    shown.index = [strategy_title(name) for name in table.index]
    caption = (
        "Models of which a strategy has removed an end with half of the layers, and "
        "their test accuracy minus the original's, mean over models."
    )
    return Exhibit(
        "lost_ends",
        table.rename_axis("strategy").round(4),
        finding,
        caption=caption,
        shown=shown.rename_axis("strategy"),
    )


def _count_of(table: pd.DataFrame, name: str) -> str:
    if name not in table.index:
        return "none that was run"
    return f"{table.loc[name, 'lost_first']:.0f}"


def _change_text(means: pd.Series, ends: tuple[bool, bool]) -> str:
    if ends not in means.index:
        return "nothing (there are none)"
    return f"{number_text(means[ends])} pp"


def measure_correlations(results: Results) -> pd.DataFrame:
    """Correlate each measure of the layers with what removing them leaves.

    Of the unpruned model, over all layers but the last, which decides a correlation
    alone and which no forest removes early.

    Parameters
    ----------
    results : Results
        In which every layer was removed alone.

    Returns
    -------
    DataFrame
        Index (task, seed), a column per measure: Pearson's correlation with the
        validation accuracy after the removal.

    Raises
    ------
    StudyLacks
        When no layer was removed alone, or there are fewer than four.
    """
    alone = trained_sets(results)
    alone = alone[alone["removed"] == 1]
    if alone.empty:
        raise StudyLacks("this study did not remove every layer alone")
    alone = alone.assign(layer=alone["gone"].str[0])
    roots = results.signals[results.signals["path"] == ""]
    names = [name for name in LAYER_MEASURES if name in roots]
    rows = roots.merge(alone, on=[*UNIT, "layer"])
    rows = rows[rows["layer"] < rows["layer"].max()]
    if rows["layer"].nunique() < 3:
        raise StudyLacks("this model has too few layers for a correlation")
    found = {}
    for unit, layers in rows.groupby(UNIT):
        varied = layers[names].std() > 0
        found[unit] = layers[varied.index[varied]].corrwith(
            layers["validation_accuracy"]
        )
    table = pd.DataFrame.from_dict(found, orient="index").reindex(columns=names)
    table.index = pd.MultiIndex.from_tuples(table.index, names=UNIT)
    return table


@exhibit
def signals_across_models(results: Results, twelve: Results) -> Exhibit:
    """Show which measures point the same way on two models.

    Parameters
    ----------
    results : Results
        Of six layers.
    twelve : Results

    Returns
    -------
    Exhibit
    """
    studies = {}
    for study in (results, twelve):
        depth = study.depth
        studies[f"{depth} layers"] = measure_correlations(study)
    if len(studies) < 2:
        raise StudyLacks("this study has the same model")
    rows = []
    titles = {name: measure.title for name, measure in (SIGNALS | REDUNDANCY).items()}
    for title, correlations in studies.items():
        for name in correlations:
            found = correlations[name].dropna()
            if len(found):
                row = {"measure": titles[name], "model": title}
                rows.append(row | bootstrap(found)._asdict())
    table = pd.DataFrame(rows)
    first = table[table["model"] == table["model"].iloc[0]].sort_values("value")
    order = {name: place for place, name in enumerate(first["measure"])}
    table = table.sort_values("measure", key=lambda names: names.map(order))
    figure = interval_rows(
        table,
        label="measure",
        series="model",
        digits=2,
        xlabel="correlation with the accuracy without the layer",
    )
    return Exhibit(
        "signals_across_models",
        table.round(4),
        _across_finding(table),
        figure,
        "Over the layers of an unpruned model but the last, mean over models; 95% "
        "intervals over datasets and seeds.",
    )


def _across_finding(table: pd.DataFrame) -> str:
    models = list(table["model"].unique())
    values = table.pivot(index="measure", columns="model", values="value")[models]
    above = table.assign(clear=table["low"] > 0)
    below = table.assign(clear=table["high"] < 0)
    above = above.pivot(index="measure", columns="model", values="clear")
    below = below.pivot(index="measure", columns="model", values="clear")
    same = values.index[above.all(axis=1) | below.all(axis=1)]
    turned = values.index[above.any(axis=1) & below.any(axis=1)]
    lost = values.index[(above | below).any(axis=1)].difference([*same, *turned])
    texts = []
    for name in turned:
        ends = [f"{number_text(values.loc[name, one], 2)} with {one}" for one in models]
        texts.append(f"{name} ({', '.join(ends)})")
    return (
        f"The interval lies on the same side of 0 on both models for {len(same)} of "
        f"{len(values)} measures: {', '.join(same) or 'none'}. It changes sides for "
        f"{', '.join(texts) or 'none'}, and is clear of 0 on one model alone for "
        f"{', '.join(lost) or 'none'}: there, what a forest learned on one model "
        "may mislead it on the other."
    )
