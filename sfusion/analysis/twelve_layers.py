"""Twelve layers: what six layers show, on a model of twelve layers of that size."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sfusion.analysis import sweeps
from sfusion.analysis.appearance import strategy_title
from sfusion.analysis.contrasts import (
    CONTRASTS,
    CONTROLS,
    OPPONENTS,
    contrasts_of_two,
)
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.layer_sets import trained_sets
from sfusion.analysis.scoreboard import scoreboard
from sfusion.analysis.scores import distilled, half_of, measured, redrawn, require
from sfusion.analysis.statistics import (
    bootstrap,
    careful_interval,
    compare_pair,
    difference_text,
    interval_text,
    number_text,
    t_interval,
    units,
)
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath

if TYPE_CHECKING:
    from sfusion.experiments.results import Results, RowResults

FOREST = "random-forest"

# Whose last removals are shown.
COLLAPSING = (
    FOREST,
    "random-forest-position",
    "middle-first",
    "greedy-oracle",
    "removal-loss",
    "random",
)

# Notebooks 02 to 05 ask these on their own.
ASKED_ELSEWHERE = ("teacher", "one-shot", "siblings")


@exhibit
def rates(twelve: Results, recipe: RowResults) -> Exhibit:
    """Show the learning rates that were tried on validation before the study.

    Parameters
    ----------
    twelve : Results
    recipe : RowResults
        The study of that name.

    Returns
    -------
    Exhibit
    """
    profile = twelve.manifest["profile"]
    rows = recipe["rows"]
    rows = rows[rows["model"] == profile["model"]]
    # A distillation is judged by its student, the last model of the path.
    is_student = rows["path"].str.endswith("distilled")
    rows = rows[(rows["stage"] != "distillation") | is_student]
    if rows.empty:
        raise StudyLacks(f"no rates were tried for {profile['model']}")
    means = rows.groupby(["stage", "learning_rate"])["validation_accuracy"].mean()
    table = (100 * means).reset_index()
    stages = profile.keys() & set(table["stage"])
    sentences = [
        f"The {stage} takes the rate {profile[stage]['learning_rate']:g} and "
        f"{profile[stage]['samples']:,} samples."
        for stage in ("original", "recovery", "distillation")
        if stage in stages
    ]
    return Exhibit(
        "twelve_rates",
        table,
        " ".join(sentences),
        caption="Validation accuracy (%), mean over datasets.",
        shown=_rates_in_words(table),
    )


def _rates_in_words(table: pd.DataFrame) -> pd.DataFrame:
    shown = pd.DataFrame(
        {
            "training": table["stage"],
            "learning rate": table["learning_rate"].map("{:g}".format),
            "validation accuracy (%)": table["validation_accuracy"].map(
                "{:.1f}".format
            ),
        }
    )
    return shown.set_index(["training", "learning rate"])


@exhibit
def datasets(twelve: Results) -> Exhibit:
    """Show the datasets, their baselines and the accuracy of the originals.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    columns = ["classes", "train", "test"]
    columns += ["majority_accuracy", "tfidf_accuracy", "frozen_accuracy"]
    scores = twelve.tasks[[*UNIT, *columns]].merge(_originals(twelve), on=UNIT)
    scores = scores.rename(columns={"test_accuracy": "original"})
    table = scores.drop(columns="seed").groupby("task", sort=False).mean()
    finding = (
        f"The study holds {len(twelve.nodes):,} models, and the distillation "
        f"{len(twelve.distillation)} more."
    )
    seeds = twelve.tasks["seed"].nunique()
    return Exhibit(
        "twelve_tasks",
        table,
        finding,
        caption=f"Texts per split and test accuracies, means over {seeds} seeds.",
        shown=_datasets_in_words(table),
    )


def _datasets_in_words(table: pd.DataFrame) -> pd.DataFrame:
    counts = {"classes": "classes", "train": "training texts", "test": "test texts"}
    shares = {
        "majority_accuracy": "largest class (%)",
        "tfidf_accuracy": "TF-IDF (%)",
        "frozen_accuracy": "frozen encoder (%)",
        "original": "original (%)",
    }
    shown = table[[*counts]].round().astype(int).rename(columns=counts)
    for name, title in shares.items():
        shown[title] = (100 * table[name]).map("{:.1f}".format)
    return shown.rename_axis("dataset")


def _originals(results: Results) -> pd.DataFrame:
    """Return the test accuracy of every unpruned model."""
    is_original = results.nodes["removed"] == 0
    return results.nodes.loc[is_original, [*UNIT, "test_accuracy"]]


@exhibit
def accuracy_by_depth(twelve: Results) -> Exhibit:
    """Draw the accuracy of every strategy over the layers removed.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    return replace(sweeps.accuracy_by_depth(twelve), name="twelve_layers")


@exhibit
def collapse(twelve: Results) -> Exhibit:
    """Show what is left after the last removals, and which layers are.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    curves = twelve.curves()
    depth = twelve.depth
    asked = [name for name in COLLAPSING if name in set(curves["name"])]
    if FOREST not in asked or "middle-first" not in asked:
        raise StudyLacks("this study has no own forest or no middle first")
    late = curves[curves["name"].isin(asked) & (curves["removed"] >= depth - 4)]
    late = late[late["removed"] < depth].copy()
    left = [PruningPath.parse(path).remaining(depth) for path in late["path"]]
    late["first"] = [0 in layers for layers in left]
    late["last"] = [depth - 1 in layers for layers in left]
    late["accuracy"] = 100 * late["test_accuracy"]
    groups = late.groupby(["name", "removed"])
    table = groups[["accuracy", "first", "last"]].mean()
    table["models"] = groups.size()
    texts = {}
    for name in asked:
        rows = table.loc[name]
        texts[strategy_title(name)] = [
            f"{row.accuracy:.1f} ({row.last:.0%})" for row in rows.itertuples()
        ]
    removals = [f"{removed} removed" for removed in table.loc[FOREST].index]
    shown = pd.DataFrame.from_dict(texts, orient="index", columns=removals)
    caption = (
        "Test accuracy (%), mean over models, and in brackets the share of models that "
        "still have their last layer."
    )
    return Exhibit(
        "twelve_collapse",
        table.round(4),
        _collapse_finding(table, late, depth),
        caption=caption,
        shown=shown.rename_axis("strategy"),
    )


def _collapse_finding(table: pd.DataFrame, late: pd.DataFrame, depth: int) -> str:
    scores = redrawn(late, ["name", "removed"])
    sentences = []
    for removed in sorted(late["removed"].unique())[-2:]:
        pair = scores[FOREST, removed], scores["middle-first", removed]
        last = table.loc[(FOREST, removed), "last"]
        sentences.append(
            f"with {removed} removed it is {difference_text(*pair)} against the middle "
            f"first, and has its last layer on {last:.0%} of the models"
        )
    ends = late[(late["name"] == FOREST) & (late["removed"] == depth - 1)]
    layers = [PruningPath.parse(path).remaining(depth)[0] for path in ends["path"]]
    counts = pd.Series(layers).value_counts().sort_index()
    kept = ", ".join(f"layer {layer} on {count}" for layer, count in counts.items())
    return (
        f"The own forest at the end: {'; '.join(sentences)}. The layer that it keeps "
        f"longest: {kept} of {len(ends)} models."
    )


@exhibit
def fragile(twelve: Results) -> Exhibit:
    """Ask of one comparison whether it survives other ways to count.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    contrast = CONTROLS["position-transfer"]
    names = [contrast.first, contrast.second]
    curves = twelve.curves()
    require(curves["name"], *names)
    scores = measured(curves[curves["name"].isin(names)])
    half = (
        scores["half_removed"][names[0]] - scores["half_removed"][names[1]]
    ).dropna()
    mean = scores["mean_accuracy"][names[0]] - scores["mean_accuracy"][names[1]]
    rows = {
        "bootstrap over datasets, seeds and texts": bootstrap(half),
        "Student's interval over datasets": t_interval(half),
    }
    tasks = half.index.unique("task")
    for task in tasks if len(tasks) > 1 else ():
        rest = half.drop(task, level="task")
        rows[f"bootstrap without {task}"] = bootstrap(rest)
    rows["mean over depths, bootstrap"] = bootstrap(mean.dropna())
    table = pd.DataFrame.from_dict(rows, "index", columns=["pp", "low", "high"])
    table = (100 * table).rename_axis("way to count")
    counted = compare_pair(
        scores["half_removed"][names[0]], scores["half_removed"][names[1]]
    )
    clear = (table["low"] > 0) | (table["high"] < 0)
    texts = [interval_text(*row, signed=True) for row in table.to_numpy()]
    finding = (
        f"{contrast.title}, half of the layers removed: the interval leaves 0 out by "
        f"{clear.sum()} of {len(table)} ways to count; ahead on {counted['ahead']} of "
        f"{len(tasks)} datasets, exact sign test p = {counted['sign_test']:.3f}."
    )
    return Exhibit(
        "twelve_fragile",
        table,
        finding,
        shown=pd.DataFrame({"difference (pp)": texts}, table.index),
    )


@exhibit
def half_removed(twelve: Results) -> Exhibit:
    """Rank the strategies by what is left of the original with half of the layers.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    curves = twelve.curves()
    removals = sorted(set(curves["removed"]) - {0})
    half = half_of(removals, twelve.depth)
    scores = 100 * redrawn(curves, ["name", "removed"])
    original = scores.xs(0, axis=1, level="removed").iloc[:, 0]
    halved = scores.xs(half, axis=1, level="removed").sub(original, axis=0)
    pruned = scores.loc[:, scores.columns.get_level_values("removed") > 0]
    # A ranking that was followed at once may not have been followed at every depth.
    complete = pruned.T.groupby(level="name").size() == len(removals)
    means = pruned.T.groupby(level="name").mean().T.sub(original, axis=0)
    rows = {}
    for name in halved:
        row = list(careful_interval(halved[name]))
        average = [np.nan] * 3
        if complete[name]:
            average = list(careful_interval(means[name]))
        rows[name] = row + average
    ends = ["", "_low", "_high"]
    columns = ["pp", "low", "high", *(f"mean{end}" for end in ends)]
    table = pd.DataFrame.from_dict(rows, "index", columns=columns)
    table = table.sort_values("pp", ascending=False).rename_axis("strategy")
    numbers = table.to_numpy()
    texts = [interval_text(*row[:3], signed=True) for row in numbers]
    averages = []
    for row in numbers:
        averages.append(
            "–" if np.isnan(row[3]) else interval_text(*row[3:], signed=True)
        )
    shown = pd.DataFrame(
        {"half of the layers removed (pp)": texts, "mean over depths (pp)": averages},
        table.index.map(strategy_title),
    )
    best, second, third = shown.index[:3]
    by_mean = table["mean"].dropna().sort_values(ascending=False)
    finding = (
        f"With {half} of {twelve.depth} layers removed, {best} comes nearest to "
        f"the original ({texts[0]} pp), before {second} ({texts[1]}) and {third} "
        f"({texts[2]}); {shown.index[-1]} ends last ({texts[-1]}). "
        f"The own forest takes place {table.index.get_loc(FOREST) + 1} of "
        f"{len(table)}, and by the mean over depths place "
        f"{by_mean.index.get_loc(FOREST) + 1} of {len(by_mean)}."
    )
    return Exhibit(
        "twelve_half",
        table,
        finding,
        caption="Test accuracy minus the original's, with 95% intervals over "
        f"{units(halved.iloc[:, 0])}, or Student's over datasets where it is wider.",
        shown=shown,
    )


@exhibit
def one_layer(twelve: Results) -> Exhibit:
    """Show what each layer costs when it goes alone.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    alone = trained_sets(twelve).query("removed == 1")
    if alone.empty:
        raise StudyLacks("this study did not remove every layer alone")
    lost = alone.merge(_originals(twelve), on=UNIT, suffixes=("", "_original"))
    lost["layer"] = lost["gone"].str[0]
    lost["pp"] = 100 * (lost["test_accuracy"] - lost["test_accuracy_original"])
    table = lost.pivot_table(index="task", columns="layer", values="pp")
    means = table.mean()
    finding = (
        "Fine-tuned again, the model without its first layer is "
        f"{number_text(means.iloc[0])} pp from the original, without its last "
        f"{number_text(means.iloc[-1])}, and without one of the others "
        f"{number_text(means.iloc[1:-1].mean())}. What sets of layers gain by keeping "
        f"an end: {scoreboard(twelve, ['C5']).loc['C5', 'note']}."
    )
    return Exhibit(
        "twelve_one_layer",
        table.round(2),
        finding,
        caption="Test accuracy without one layer minus the original's (pp), by the "
        "layer's number from the input.",
        shown=table.map(number_text).rename_axis("dataset").rename_axis(columns=None),
    )


@exhibit
def side_by_side(results: Results, twelve: Results) -> Exhibit:
    """Draw the contrasts of two models with half of their layers removed.

    Parameters
    ----------
    results : Results
        Of six layers.
    twelve : Results

    Returns
    -------
    Exhibit
    """
    if results.depth == twelve.depth:
        raise StudyLacks("this study has the same model")
    asked = {
        key: one
        for key, one in (CONTRASTS | CONTROLS | OPPONENTS).items()
        if not key.startswith(ASKED_ELSEWHERE)
    }
    studies = {f"{one.depth} layers": one for one in (results, twelve)}
    return contrasts_of_two("twelve_contrasts", studies, asked)


@exhibit
def distillation(twelve: Results) -> Exhibit:
    """Show what the teacher adds at half of the layers and below.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    taught = distilled(twelve)
    change = taught.assign(pp=100 * (taught["test_accuracy"] - taught["original"]))
    table = change.pivot_table(index="layers", columns="condition", values="pp")
    conditions = [
        "original",
        "original-same-steps",
        "pruned",
        "same-steps",
        "distilled",
    ]
    table = table[conditions].sort_index(ascending=False)
    scores = redrawn(taught[taught["removed"] > 0], ["condition", "layers"])
    lines = ["Distilled, against the same steps without a teacher:", ""]
    for layers in sorted(scores["distilled"], reverse=True):
        pair = scores["distilled", layers], scores["same-steps", layers]
        words = difference_text(*pair)
        lines.append(f"- {layers} layers: {words}")
    return Exhibit(
        "twelve_distillation",
        table.round(2),
        "\n".join(lines),
        caption="Test accuracy minus the original's (pp).",
        shown=_conditions_in_words(table),
    )


def _conditions_in_words(table: pd.DataFrame) -> pd.DataFrame:
    titles = {
        "original": "original",
        "original-same-steps": "original, same steps",
        "pruned": "pruned",
        "same-steps": "same steps, no teacher",
        "distilled": "distilled",
    }
    shown = table.map(lambda points: "–" if np.isnan(points) else number_text(points))
    shown = shown.rename(columns=titles).rename_axis("layers left")
    return shown.rename_axis(columns=None)


@exhibit
def claims(results: Results, twelve: Results) -> Exhibit:
    """Show the paper's claims on both models, judged by the same rule.

    Parameters
    ----------
    results : Results
        Of six layers.
    twelve : Results

    Returns
    -------
    Exhibit
    """
    columns = {}
    for study in (results, twelve):
        board = scoreboard(study)
        columns["the paper says"] = board["paper"]
        title = f"{study.depth} layers"
        columns[title] = [claim_text(row) for _, row in board.iterrows()]
        columns[f"{title}, verdict"] = board["verdict"]
    table = pd.DataFrame(columns)
    return Exhibit("twelve_scoreboard", table, shown=table)


def claim_text(row: pd.Series) -> str:
    """Write a claim's number with its interval, after the datasets that it counts.

    Parameters
    ----------
    row : Series
        Of :func:`sfusion.analysis.scoreboard.scoreboard`.

    Returns
    -------
    str
        Such as ``6 of 9: 0.67 [0.33, 0.89]``; nothing where nothing was measured.
    """
    if pd.isna(row["ours"]):
        return ""
    number = interval_text(row["ours"], row["low"], row["high"], digits=2)
    return f"{row['count']}: {number}" if row["count"] else number
