"""Twelve layers: what six layers show, at the depth and size of the paper."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

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
from sfusion.analysis.scores import distilled, half_of, redrawn
from sfusion.analysis.statistics import (
    bootstrap,
    difference_text,
    interval_text,
    signed_text,
)
from sfusion.experiments.results import UNIT

if TYPE_CHECKING:
    from sfusion.experiments.results import Results, RowResults

# Notebooks 02 to 05 ask these on their own.
ASKED_ELSEWHERE = ("teacher", "one-shot", "siblings")


def depth_of(results: Results) -> int:
    """Count the layers of a study's original model.

    Parameters
    ----------
    results : Results

    Returns
    -------
    int
    """
    return int(results.nodes["layers"].max())


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
        shown=table.set_index(["stage", "learning_rate"]).round(1),
    )


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
        caption=f"Shares of right answers on test, means over {seeds} seeds.",
        shown=table.round(3).convert_dtypes(),
    )


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
def removal_order(twelve: Results) -> Exhibit:
    """Draw at which step every strategy removes each layer.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    return replace(sweeps.removal_order(twelve), name="twelve_removal_order")


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
    half = half_of(removals, depth_of(twelve))
    scores = 100 * redrawn(
        curves[curves["removed"].isin([0, half])], ["name", "removed"]
    )
    original = scores.xs(0, axis=1, level="removed").iloc[:, 0]
    change = scores.xs(half, axis=1, level="removed").sub(original, axis=0)
    rows = {name: bootstrap(change[name]) for name in change}
    table = pd.DataFrame.from_dict(rows, "index", columns=["pp", "low", "high"])
    table = table.sort_values("pp", ascending=False).rename_axis("strategy")
    texts = [interval_text(*row, signed=True) for row in table.to_numpy()]
    shown = pd.DataFrame({"pp": texts}, table.index.map(strategy_title))
    best, second, third = shown.index[:3]
    finding = (
        f"With {half} of {depth_of(twelve)} layers removed, {best} comes nearest to "
        f"the original ({texts[0]} pp), before {second} ({texts[1]}) and {third} "
        f"({texts[2]}); {shown.index[-1]} ends last ({texts[-1]}). "
        f"The own forest takes place {table.index.get_loc('random-forest') + 1} of "
        f"{len(table)}."
    )
    return Exhibit(
        "twelve_half",
        table,
        finding,
        caption="Test accuracy minus the original's (pp, 95% interval).",
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
        f"{signed_text(means.iloc[0])} pp from the original, without its last "
        f"{signed_text(means.iloc[-1])}, and without one of the others "
        f"{signed_text(means.iloc[1:-1].mean())}. What sets of layers gain by keeping "
        f"an end: {scoreboard(twelve, ['C5']).loc['C5', 'note']}."
    )
    return Exhibit(
        "twelve_one_layer",
        table.round(2),
        finding,
        caption="Test accuracy without one layer minus the original's (pp).",
        shown=table.round(1),
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
    if depth_of(results) == depth_of(twelve):
        raise StudyLacks("this study has the same model")
    asked = {
        key: one
        for key, one in (CONTRASTS | CONTROLS | OPPONENTS).items()
        if not key.startswith(ASKED_ELSEWHERE)
    }
    studies = {f"{depth_of(one)} layers": one for one in (results, twelve)}
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
        shown=table.round(1),
    )


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
        title = f"{depth_of(study)} layers"
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
        Such as ``4 of 9: 0.44 [0.11, 0.56]``; nothing where nothing was measured.
    """
    if pd.isna(row["ours"]):
        return ""
    number = interval_text(row["ours"], row["low"], row["high"], digits=2)
    return f"{row['count']}: {number}" if row["count"] else number
