"""Sets of layers: which are worth keeping, and whether each dataset has its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

import pandas as pd
import seaborn as sns
from scipy.special import comb

from sfusion.analysis.appearance import (
    PAGE,
    PlainFigure,
    in_registry_order,
    strategy_colour,
    strategy_title,
    styled,
)
from sfusion.analysis.contrasts import in_words
from sfusion.analysis.drawing import interval_rows, one_panel
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.scores import half_of, redrawn, task_means
from sfusion.analysis.statistics import (
    TIE,
    bootstrapped,
    careful_interval,
    compare_pair,
    interval_text,
    number_text,
    units,
)
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath

if TYPE_CHECKING:
    from sfusion.experiments.results import Results

SET = [*UNIT, "removed", "gone"]

# Whose regret is drawn; the table holds that of every strategy.
REGRETTED = (
    "greedy-oracle",
    "lookup",
    "middle-first",
    "random-forest",
    "random-forest-transfer",
    "random-forest-position",
    "linear-regression",
    "removal-loss",
    "angular-distance",
    "block-influence",
    "alternate",
    "random-keep-last",
    "random",
    "bottom-first",
)

FIRST_END = "first layer kept, of sets that keep the last"
LAST_END = "last layer kept, of sets that keep the first"
BOTH_ENDS = "both ends kept, against all other sets"


@cache
def trained_sets(results: Results) -> pd.DataFrame:
    """Tabulate the accuracy of every set of layers that was trained from the top down.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per task, seed and set: ``removed``, ``gone`` (a sorted tuple of layers),
        the accuracies and, where recorded, ``test_correct``; of the sizes of which
        every set was trained: all of them by an exhaustive search, single layers by a
        greedy one.
    """
    nodes = results.with_test_texts(results.nodes[results.nodes["removed"] > 0])
    gone = {}
    for name in nodes["path"].unique():
        path = PruningPath.parse(name)
        if path == PruningPath.from_the_top(path.removed):
            gone[name] = _gone(path)
    sets = nodes[nodes["path"].isin(gone)]
    sets = sets.assign(gone=sets["path"].map(gone))
    trained = sets.groupby([*UNIT, "removed"])["path"].transform("size")
    complete = trained == comb(sets["removed"] + sets["layers"], sets["removed"])
    measured = sets.columns[sets.columns.str.startswith(("validation", "test"))]
    return sets.loc[complete, [*SET, *measured]].reset_index(drop=True)


def searched_sets(results: Results) -> pd.DataFrame:
    """Tabulate the sets of a study that trained all of them.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        See :func:`trained_sets`.

    Raises
    ------
    StudyLacks
        When no dataset of the study was searched.
    """
    sets = trained_sets(results)
    if sets["removed"].nunique() < results.depth - 1:
        raise StudyLacks("this study did not train every set of layers")
    return sets


def _gone(path: PruningPath) -> tuple[int, ...]:
    return tuple(sorted(path.removed))


@cache
def best_sets(results: Results) -> pd.DataFrame:
    """Choose the set of layers of each size that validation prefers.

    Parameters
    ----------
    results : Results
        Of tasks on which every set was trained.

    Returns
    -------
    DataFrame
        Rows of :func:`trained_sets`, one per task, seed, ``removed`` and ``chosen_on``:
        whose mean validation accuracy chose, that of ``this model`` (an exhaustive
        search), of all seeds of ``this dataset``, or of the ``other datasets`` alone.
        Accuracies are shares. Of equals the first in order of layers. Declared here.
    """
    sets = trained_sets(results)
    validation = sets.pivot_table(
        index=UNIT, columns=["removed", "gone"], values="validation_accuracy"
    )
    tasks = validation.index.get_level_values("task")
    rows = []
    for task, seed in validation.index:
        read = {
            "this model": [(task, seed)],
            "this dataset": tasks == task,
            "other datasets": tasks != task,
        }
        for name, models in read.items():
            means = validation.loc[models].mean().dropna()
            for removed, gone in means.groupby(level="removed").idxmax():
                rows.append((task, seed, removed, gone, name))
    return pd.DataFrame(rows, columns=[*SET, "chosen_on"]).merge(sets, on=SET)


def sets_left(results: Results, frame: pd.DataFrame) -> pd.DataFrame:
    """Look up the set of layers that each path leaves.

    Parameters
    ----------
    results : Results
        Of tasks on which every set was trained.
    frame : DataFrame
        Columns ``task``, ``seed``, ``removed`` and ``path``.

    Returns
    -------
    DataFrame
        The rows whose set is in :func:`trained_sets`, with its columns in place of the
        frame's own: so sets are compared, each trained from the top down, and not the
        orders in which they were reached.
    """
    sets = trained_sets(results)
    measured = sets.columns.difference(SET)
    asked = frame.drop(columns=measured, errors="ignore")
    gone = [_gone(PruningPath.parse(path)) for path in frame["path"]]
    return asked.assign(gone=gone).merge(sets, on=SET)


def regret_of_strategies(results: Results) -> pd.DataFrame:
    """Compare the set that each strategy leaves with the best set of that size.

    The best set of a task is the one of highest mean validation accuracy over the
    seeds; all sets are read on test, see :func:`sets_left`. A regret below 0 is chance.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per task, seed, strategy and number of removed layers: ``name``,
        ``test_accuracy`` of the set that it leaves and ``test_accuracy_best``, shares,
        and their difference, ``regret``.
    """
    size = [*UNIT, "removed"]
    best = best_sets(results).query("chosen_on == 'this dataset'")
    left = sets_left(results, results.curves())
    pair = left.merge(best[[*size, "test_accuracy"]], on=size, suffixes=("", "_best"))
    pair["regret"] = pair["test_accuracy_best"] - pair["test_accuracy"]
    accuracies = ["test_accuracy", "test_accuracy_best", "regret"]
    return pair[[*size, "strategy", "name", *accuracies]]


def gain_of_keeping(results: Results) -> pd.DataFrame:
    """Compare the sets that keep a layer with those that lose it, at each depth.

    Parameters
    ----------
    results : Results
        Of tasks on which every set was trained, see :func:`trained_sets`.

    Returns
    -------
    DataFrame
        A row per task, seed, ``removed`` and ``layer``: ``gain``, mean test accuracy of
        the sets of that size that keep the layer minus that of the sets without it, as
        a share.
    """
    sets = trained_sets(results)
    gains = {}
    for layer in range(results.depth):
        kept = [layer not in gone for gone in sets["gone"]]
        groups = sets.groupby([*UNIT, "removed", pd.Series(kept, name="kept")])
        means = groups["test_accuracy"].mean().unstack("kept")
        gains[layer] = means[True] - means[False]
    table = pd.concat(gains, names=["layer"]).rename("gain").reset_index()
    return table[[*UNIT, "layer", "removed", "gain"]].sort_values(
        [*UNIT, "layer", "removed"], ignore_index=True
    )


def keeps(sets: pd.DataFrame, layer: int) -> pd.Series:
    """Say which sets keep a layer.

    Parameters
    ----------
    sets : DataFrame
        Rows of :func:`trained_sets`.
    layer : int

    Returns
    -------
    Series of bool
    """
    return pd.Series([layer not in gone for gone in sets["gone"]], sets.index)


def redrawn_gain(
    sets: pd.DataFrame, layer: int, keeping: int | None = None
) -> pd.DataFrame:
    """Compute the gain of keeping one layer with the test texts drawn.

    Without ``keeping`` it is a main effect: a set of three that spends a place on one
    end has fewer places for other layers, the other end among them.

    Parameters
    ----------
    sets : DataFrame
        Rows of :func:`trained_sets`.
    layer : int
    keeping : int, optional
        A layer that all sets compared keep.

    Returns
    -------
    DataFrame
        Index as from :func:`redrawn`, a column per number of removed layers at which
        there are sets of both kinds.
    """
    if keeping is not None:
        sets = sets[keeps(sets, keeping)]
    means = redrawn(sets.assign(kept=keeps(sets, layer)), ["kept", "removed"])
    return (means[True] - means[False]).dropna(axis=1, how="all")


def ends_kept(results: Results) -> pd.DataFrame:
    """Compare sets by the ends that they keep, each end among sets with the other.

    Parameters
    ----------
    results : Results
        Of tasks on which every set was trained.

    Returns
    -------
    DataFrame
        A row per number of ``removed`` layers and ``what``: sets that keep the first
        layer, among those that keep the last; the same of the last layer; and sets that
        keep both ends against all others. ``value``, ``low``, ``high`` and ``drawn`` of
        the gain in percentage points of test accuracy, and ``ahead`` of ``datasets``.
    """
    sets = trained_sets(results)
    if sets.empty:
        raise StudyLacks("there is no dataset on which every layer was removed alone")
    last = results.depth - 1
    both = keeps(sets, 0) & keeps(sets, last)
    means = redrawn(sets.assign(both=both), ["both", "removed"])
    gains = {
        FIRST_END: redrawn_gain(sets, 0, keeping=last),
        LAST_END: redrawn_gain(sets, last, keeping=0),
        BOTH_ENDS: (means[True] - means[False]).dropna(axis=1, how="all"),
    }
    rows = []
    for what, by_depth in gains.items():
        for removed in by_depth:
            gain = 100 * by_depth[removed]
            ahead = int((task_means(gain) > TIE).sum())
            row = {"removed": removed, "what": what, **careful_interval(gain)._asdict()}
            row |= {"drawn": units(gain), "ahead": ahead}
            rows.append(row | {"datasets": gain.index.unique("task").size})
    return pd.DataFrame(rows)


@exhibit
def ends(results: Results) -> Exhibit:
    """Show what keeping an end gains among the sets that keep the other.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = ends_kept(results)
    texts = []
    for _, row in table.iterrows():
        gain = interval_text(row["value"], row["low"], row["high"], signed=True)
        texts.append(f"{gain}, on {row['ahead']} of {row['datasets']} datasets")
    shown = table.assign(text=texts).pivot(index="removed", columns="what")["text"]
    shown = shown[list(table["what"].unique())].fillna("–")
    caption = (
        "Gain in pp of test accuracy, with 95% intervals over "
        f"{table['drawn'].iloc[0]}, and the datasets on which it lies above 0."
    )
    first = table[table["what"] == FIRST_END]
    gains = ", ".join(number_text(gain) for gain in first["value"])
    on = [f"{row.ahead} of {row.datasets}" for row in first.itertuples()]
    finding = (
        f"Among sets that keep the last layer, keeping the first gains {gains} pp at "
        f"{first['removed'].iloc[0]} to {first['removed'].iloc[-1]} removals, on "
        f"{', '.join(on)} datasets."
    )
    return Exhibit(
        "ends_kept",
        table,
        finding,
        caption=caption,
        shown=shown.rename_axis("layers removed").rename_axis(columns=None),
    )


@exhibit
def kept_layers(results: Results) -> Exhibit:
    """Show what sets of layers gain by keeping a layer, at each depth.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    searched_sets(results)
    table = gain_of_keeping(results)
    means = 100 * table.groupby(["layer", "removed"])["gain"].mean()
    first = means[0]
    last = means[means.index.unique("layer").max()]
    finding = (
        f"Keeping the first layer gains {first.iloc[0]:+.1f} pp of one removal and "
        f"{first.iloc[-1]:+.1f} of the last; keeping the last layer gains "
        f"{last.iloc[0]:+.1f} and {last.iloc[-1]:+.1f}."
    ).replace("-", "−")
    caption = "Mean over datasets and seeds, percentage points of test accuracy"
    return Exhibit("kept_layers", table, finding, _draw_kept(table), caption)


@styled
def _draw_kept(gains: pd.DataFrame) -> PlainFigure:
    means = 100 * gains.pivot_table("gain", "removed", "layer")
    limit = means.abs().max(axis=None)
    figure, axes = one_panel(PAGE, 0.36 * len(means) + 0.8)
    texts = means.map(number_text)
    sns.heatmap(
        means,
        ax=axes,
        annot=texts,
        fmt="",
        annot_kws={"fontsize": 9},
        cmap="RdBu",
        vmin=-limit,
        vmax=limit,
        cbar_kws={"label": "gain of keeping (pp)"},
    )
    axes.set(xlabel="layer", ylabel="layers removed")
    axes.tick_params(length=0, labelrotation=0)
    return figure


@exhibit
def regret(results: Results) -> Exhibit:
    """Show how far the sets that strategies leave are from the best sets of their size.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    sets = searched_sets(results)
    table = regret_of_strategies(results)
    names = in_registry_order(set(table["name"]) & {*REGRETTED})
    scores = 100 * table.pivot_table("regret", UNIT, "name")[names]
    scores = scores[scores.mean().sort_values().index].rename(columns=strategy_title)
    figure = interval_rows(
        bootstrapped(scores),
        label="label",
        spots=task_means(scores).melt(var_name="label"),
        colours={strategy_title(name): strategy_colour(name) for name in names},
        digits=2,
        xlabel="regret: the best set minus the one that is left (pp of test accuracy)",
    )
    by_depth = 100 * table.groupby(["name", "removed"])["regret"].mean()
    lowest = by_depth.groupby("name").mean().nsmallest(4)
    said = ", ".join(f"{strategy_title(name)} {pp:.2f}" for name, pp in lowest.items())
    datasets = ", ".join(sets["task"].unique())
    finding = f"{len(sets)} sets of {datasets}. Lowest mean regret (pp): {said}."
    caption = (
        "Mean over depths, with 95% intervals over datasets and seeds; dots: datasets. "
        "Sets are compared, each trained from the top down, and not the orders in "
        "which strategies reached them."
    )
    return Exhibit("regret", table, finding, figure, caption)


@exhibit
def own_best_set(results: Results) -> Exhibit:
    """Compare the sets that the other datasets choose with those that reading gains.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    sets = searched_sets(results)
    if sets["task"].nunique() < 2:
        raise StudyLacks("this study trained every set on one dataset alone")
    chosen = best_sets(results)
    scores = redrawn(chosen, ["chosen_on", "removed"])
    pairs = {}
    for read in ("this model", "this dataset"):
        pairs[f"Sets of the other datasets against {read}"] = ("other datasets", read)
    table = compare_sets(scores, pairs)
    lines = []
    unread = chosen[chosen["chosen_on"] == "other datasets"]
    for removed, sets in unread.groupby("removed"):
        counts = sets["gone"].value_counts()
        layers = "+".join(map(str, counts.index[0]))
        lines.append(
            f"- {removed} removed: the other datasets choose {layers} for "
            f"{counts.iloc[0]} of {len(sets)} models"
        )
    return Exhibit("best_sets", table, "\n".join(lines), shown=in_words(table))


def compare_sets(
    scores: pd.DataFrame, pairs: Mapping[str, tuple[str, str]]
) -> pd.DataFrame:
    """Compare sets with half of the layers removed, and as a mean over depths.

    Parameters
    ----------
    scores : DataFrame
        From :func:`redrawn`, columns (what, removed).
    pairs : mapping of str to tuple of str
        By the title of the comparison, what is compared.

    Returns
    -------
    DataFrame
        See :func:`sfusion.analysis.contrasts.contrasts`.
    """
    removals = list(scores.columns.unique("removed"))
    half = half_of(removals, max(removals) + 1)
    averaged = {"half_removed": [half], "mean_accuracy": removals}
    rows = []
    for title, (first, second) in pairs.items():
        for measure, depths in averaged.items():
            ours = scores[first][depths].mean(axis=1)
            found = compare_pair(ours, scores[second][depths].mean(axis=1))
            rows.append({"contrast": title, "measure": measure, **found})
    return pd.DataFrame(rows)
