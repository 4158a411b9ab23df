"""The ceiling: what any method could gain that knows a dataset before it chooses.

Of a small model every set of layers can be trained. Then nothing has to be believed of
signals, fusions and searches: the best that a choice can be is in the records. One set
for all datasets, chosen without reading the dataset at hand, is compared with the set
that the dataset itself prefers. What a choice reads and what it is scored on are kept
apart by the seed: sets are chosen on the other seeds of a dataset, and read on the test
texts of the seed that was held out.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.layer_sets import searched_sets
from sfusion.analysis.scores import redrawn, task_means
from sfusion.analysis.statistics import (
    MARGIN,
    Interval,
    bootstrap,
    comparison_text,
    interval_text,
    number_text,
    units,
)
from sfusion.experiments.results import UNIT

if TYPE_CHECKING:
    from sfusion.experiments.results import Results

# What a choice reads of the dataset; test is read on the seed that is held out.
UNIVERSAL = "nothing of the dataset"
VALIDATION = "validation texts"
HALF_TEST = "validation texts and half of the test texts"
READ = (VALIDATION, HALF_TEST)

# Bounds: chosen on the very texts that they are scored on.
BEST_OF_DATASET = "best set of each dataset"
BEST_OF_MODEL = "best set of each model"
BEST_OF_ALL = "best one set for all"


@cache
def chosen_sets(results: Results) -> pd.DataFrame:
    """Choose a set of layers of each size, with less or more of the dataset read.

    Parameters
    ----------
    results : Results
        Of several datasets with several seeds, with every set of layers trained.

    Returns
    -------
    DataFrame
        A row per task, seed, ``removed`` (layers) and ``chosen_by``: ``UNIVERSAL``, the
        set of the highest mean validation accuracy on the *other* datasets;
        ``VALIDATION``, that of the highest mean validation accuracy on the *other*
        seeds of this dataset; ``HALF_TEST``, that of the most right answers on
        validation and on half of the test texts together, of the other seeds, scored on
        the other half, for either half in turn. ``gone`` (layers, a sorted tuple; none
        for the last, which chooses twice), ``test_accuracy`` and, where recorded,
        ``test_correct`` and ``test_texts``, of the model of this seed. Accuracies are
        shares; of equals the first in order of layers. Declared here.

    Raises
    ------
    StudyLacks
        When there is one dataset, or one seed, alone, or not every set was trained.
    """
    sets = searched_sets(results)
    if sets["task"].nunique() < 2 or sets["seed"].nunique() < 2:
        raise StudyLacks("choosing on other seeds needs two datasets with two seeds")
    parts = [
        _chosen_elsewhere(sets),
        _chosen_on_other_seeds(sets, "validation_accuracy", VALIDATION),
    ]
    if "test_correct" in sets and sets["test_correct"].notna().all():
        parts.append(_chosen_with_half_of_test(sets, results))
    return pd.concat(parts, ignore_index=True)


def _columns(sets: pd.DataFrame) -> list[str]:
    scored = [name for name in sets if name.startswith("test")]
    return [*UNIT, "removed", "gone", *scored]


def _chosen_elsewhere(sets: pd.DataFrame) -> pd.DataFrame:
    """Choose by the mean validation accuracy on the other datasets."""
    rows = []
    for task, own in sets.groupby("task"):
        others = sets[sets["task"] != task]
        own_set = own["gone"] == own["removed"].map(
            _best_by_size(others, "validation_accuracy")
        )
        rows.append(own.loc[own_set, _columns(sets)])
    return pd.concat(rows).assign(chosen_by=UNIVERSAL)


def _chosen_on_other_seeds(
    sets: pd.DataFrame, score: str, chosen_by: str
) -> pd.DataFrame:
    """Choose by the mean of a column over the other seeds of the same dataset."""
    rows = []
    for (task, seed), own in sets.groupby(UNIT):
        others = sets[(sets["task"] == task) & (sets["seed"] != seed)]
        own_set = own["gone"] == own["removed"].map(_best_by_size(others, score))
        rows.append(own.loc[own_set, _columns(sets)])
    return pd.concat(rows).assign(chosen_by=chosen_by)


def _best_by_size(sets: pd.DataFrame, score: str) -> pd.Series:
    """Return the set of the highest mean score for each number of removed layers."""
    means = sets.groupby(["removed", "gone"])[score].mean()
    best = {}
    for removed, of_size in means.groupby(level="removed"):
        # Of equals the first; idxmax would take a tuple for a list of labels.
        best[removed] = of_size.index.get_level_values("gone")[of_size.argmax()]
    return pd.Series(best)


def _chosen_with_half_of_test(sets: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Choose with every second test text, score on the others, and the other way."""
    texts = results.tasks.set_index(UNIT)["validation"].rename("validation_texts")
    known = sets.join(texts, on=UNIT)
    right = known["validation_accuracy"] * known["validation_texts"]
    halves = [_right_on_half(known, half) for half in (0, 1)]
    chosen = []
    for half, counted in enumerate(halves):
        pooled = known.assign(pooled=right + counted)
        by_half = _chosen_on_other_seeds(pooled, "pooled", HALF_TEST)
        chosen.append(by_half.assign(scored_half=1 - half))
    pair = chosen[0].merge(chosen[1], on=[*UNIT, "removed"], suffixes=("", "_other"))
    answers = [
        _joined_answers(first, second, count)
        for first, second, count in zip(
            pair["test_correct"],
            pair["test_correct_other"],
            pair["test_texts"],
            strict=True,
        )
    ]
    accuracies = [bits.mean() for bits in answers]
    packed = [np.packbits(bits).tobytes() for bits in answers]
    joined = pair[[*UNIT, "removed", "test_texts", "chosen_by"]]
    return joined.assign(gone=None, test_accuracy=accuracies, test_correct=packed)


def _unpacked(correct: bytes, texts: int) -> np.ndarray:
    """Return an answer per test text, 1 where it is right."""
    return np.unpackbits(np.frombuffer(correct, np.uint8), count=int(texts))


def _right_on_half(sets: pd.DataFrame, half: int) -> list[int]:
    """Count the right answers on every second test text, from text ``half`` on."""
    pairs = zip(sets["test_correct"], sets["test_texts"], strict=True)
    return [int(_unpacked(correct, texts)[half::2].sum()) for correct, texts in pairs]


def _joined_answers(first: bytes, second: bytes, texts: int) -> np.ndarray:
    """Join the answers of two models, each on the half that did not choose it."""
    answers = _unpacked(first, texts).copy()  # chosen with the even ones
    answers[0::2] = _unpacked(second, texts)[0::2]
    return answers


@cache
def gains(results: Results) -> pd.DataFrame:
    """Compute what the choices gain over the universal sets.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Index as from :func:`sfusion.analysis.scores.redrawn`, columns (chosen_by,
        removed), percentage points of test accuracy.
    """
    scores = redrawn(chosen_sets(results), ["chosen_by", "removed"])
    found = {}
    for read in READ:
        if read in scores:
            found[read] = 100 * (scores[read] - scores[UNIVERSAL])
    return pd.concat(found, axis=1, names=["chosen_by"])


def bounds(results: Results) -> pd.DataFrame:
    """Compute what choosing on the scored texts themselves gains.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Index task, columns (bound, removed): mean over seeds, in percentage points of
        test accuracy, of the best set of each dataset, of each model, and of the best
        one set for all datasets, minus the universal sets. No method can gain more on
        these test texts, and luck is a part of it.
    """
    sets = searched_sets(results)
    universal = chosen_sets(results).query("chosen_by == @UNIVERSAL")
    base = universal.pivot(index=UNIT, columns="removed", values="test_accuracy")
    by_task = sets.groupby(["task", "removed", "gone"])["test_accuracy"].mean()
    highest = by_task.groupby(["task", "removed"]).max().unstack("removed")
    of_model = sets.groupby([*UNIT, "removed"])["test_accuracy"].max()
    means = by_task.groupby(["removed", "gone"]).mean()
    common = {}
    for removed, of_size in means.groupby(level="removed"):
        gone = of_size.index.get_level_values("gone")[of_size.argmax()]
        same = by_task.index.get_level_values("gone") == gone
        common[removed] = by_task[same].groupby("task").mean()
    found = {
        BEST_OF_DATASET: highest,
        BEST_OF_MODEL: of_model.groupby(["task", "removed"]).mean().unstack("removed"),
        BEST_OF_ALL: pd.DataFrame(common),
    }
    differences = {
        name: 100 * (accuracy - task_means(base)) for name, accuracy in found.items()
    }
    return pd.concat(differences, axis=1, names=["bound", "removed"])


def universal_sets(results: Results) -> pd.DataFrame:
    """List the sets that the other datasets choose, and for how many models.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Index ``removed``: ``kept`` (the layers of the most frequent set, such as ``0 2
        5``), ``models`` of which it is the universal set, ``all_models``, and
        ``accuracy``, mean test accuracy of the universal sets in per cent.
    """
    depth = results.depth
    universal = chosen_sets(results).query("chosen_by == @UNIVERSAL")
    rows = {}
    for removed, of_size in universal.groupby("removed"):
        counts = of_size["gone"].value_counts()
        kept = [str(layer) for layer in range(depth) if layer not in counts.index[0]]
        rows[removed] = {
            "kept": " ".join(kept),
            "models": int(counts.iloc[0]),
            "all_models": len(of_size),
            "accuracy": 100 * of_size.groupby("task")["test_accuracy"].mean().mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("removed")


def ceiling_table(results: Results) -> pd.DataFrame:
    """Tabulate the gains over the universal sets with their intervals and bounds.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per number of ``removed`` layers and ``read`` (what the choice reads):
        ``kept`` and ``accuracy`` of the universal sets, ``value``, ``low`` and ``high``
        of the gain, ``drawn`` (what the interval draws), and the bounds ``dataset``,
        ``model`` and ``one_set``; percentage points of test accuracy.
    """
    found = gains(results)
    universal = universal_sets(results)
    highest = bounds(results).mean()
    rows = []
    for removed in universal.index:
        limits = {
            "dataset": highest[BEST_OF_DATASET, removed],
            "model": highest[BEST_OF_MODEL, removed],
            "one_set": highest[BEST_OF_ALL, removed],
        }
        for read in found.columns.unique("chosen_by"):
            gain = found[read, removed]
            row = {
                "removed": removed,
                "read": read,
                "kept": universal.loc[removed, "kept"],
                "accuracy": universal.loc[removed, "accuracy"],
                **bootstrap(gain)._asdict(),
                "drawn": units(gain),
            }
            rows.append(row | limits)
    return pd.DataFrame(rows)


@exhibit
def ceiling(results: Results) -> Exhibit:
    """Show what a dataset's own set of layers gains over one set for all datasets.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = ceiling_table(results)
    drawn = table.assign(row=table["removed"].astype(str) + " removed, one set keeps ")
    drawn["row"] += table["kept"]
    drawn["read"] = "own set chosen on " + table["read"]
    figure = interval_rows(
        drawn,
        label="row",
        series="read",
        margin=100 * MARGIN,
        sides=("one set for all ahead", "own set ahead"),
        digits=2,
        xlabel="gain of the dataset's own set over one set for all (pp)",
    )
    caption = (
        "Gain over the universal set of each size, by what is read of the dataset "
        f"before it is chosen; 95% intervals over {table['drawn'].iloc[0]}; grey: "
        f"within {100 * MARGIN:g} pp."
    )
    return Exhibit(
        "ceiling",
        table,
        _ceiling_finding(results, table),
        figure,
        caption,
        shown=_ceiling_in_words(table),
    )


def _gain_text(row: pd.Series) -> str:
    gain = Interval(row["value"], row["low"], row["high"])
    return interval_text(*gain, digits=2, signed=True)


def _ceiling_in_words(table: pd.DataFrame) -> pd.DataFrame:
    """Write a row per number of removed layers."""
    texts = table.assign(text=table.apply(_gain_text, axis=1))
    gained = texts.pivot(index="removed", columns="read", values="text")
    gained = gained[list(table["read"].unique())]
    gained.columns = [f"own set, chosen on {read} (pp)" for read in gained]
    same = table.drop_duplicates("removed").set_index("removed")
    shown = pd.DataFrame(
        {
            "one set keeps": same["kept"],
            "its accuracy (%)": same["accuracy"].map("{:.1f}".format),
        }
    )
    shown = shown.join(gained)
    shown["bound per dataset (pp)"] = same["dataset"].map("{:+z.2f}".format)
    shown["bound per model (pp)"] = same["model"].map("{:+z.2f}".format)
    shown["of the bound: another set for all datasets (pp)"] = same["one_set"].map(
        "{:+z.2f}".format
    )
    return shown.rename_axis("layers removed")


def _ceiling_finding(results: Results, table: pd.DataFrame) -> str:
    validation = table[table["read"] == VALIDATION]
    clear = (table["low"] > 0) & (table["value"] > 0)
    half = validation.iloc[len(validation) // 2]
    ends = comparison_text(half["value"] / 100, half["low"] / 100, half["high"] / 100)
    datasets = results.tasks["task"].nunique()
    universal = universal_sets(results)
    agreed = (universal["models"] == universal["all_models"]).sum()
    above = "none of the gains lies above 0 with its whole interval"
    if clear.any():
        above = f"{clear.sum()} of {len(clear)} gains lie above 0 with the interval"
    return (
        f"The other datasets choose the same set for every one of {datasets} datasets "
        f"at {agreed} of {len(universal)} sizes. With {half['removed']} layers removed "
        f"a dataset's own set, chosen on its other seeds, against it: {ends}. "
        f"Over all sizes {above}; the largest is "
        f"{number_text(table['value'].max(), 2)} pp. Chosen on the scored test texts "
        f"themselves, which nothing can beat, it would be "
        f"{number_text(half['dataset'], 2)} pp per dataset and "
        f"{number_text(half['model'], 2)} pp per model."
    )


@exhibit
def ceiling_by_dataset(results: Results) -> Exhibit:
    """Show on which datasets an own set of layers gains.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    found = gains(results)
    parts = {}
    for read in found.columns.unique("chosen_by"):
        parts[read] = task_means(found[read])
    parts[BEST_OF_DATASET] = bounds(results)[BEST_OF_DATASET]
    wide = pd.concat(parts, axis=1, names=["read", "removed"])
    table = wide.stack(["read", "removed"]).rename("gain").reset_index()
    order = wide.mean(axis=1).sort_values(ascending=False).index
    read = READ[-1] if READ[-1] in parts else VALIDATION
    shown = wide[read].loc[order]
    shown = shown.map(lambda gain: number_text(gain, 2))
    shown.columns = [f"{removed} removed" for removed in shown]
    shown = shown.rename_axis("dataset")
    caption = (
        "Gain of the dataset's own set over one set for all, chosen on "
        f"{read} of its other seeds; percentage points of test accuracy, mean over "
        "seeds."
    )
    return Exhibit(
        "ceiling_by_dataset",
        table,
        _by_dataset_finding(wide, results),
        caption=caption,
        shown=shown,
    )


def _by_dataset_finding(wide: pd.DataFrame, results: Results) -> str:
    removals = wide.columns.unique("removed")
    half = removals[len(removals) // 2]
    reads = [read for read in READ if read in wide.columns.unique("read")]
    both = wide[reads].T.groupby(level="removed").min().T
    clear = []
    for removed in removals:
        gained = both[removed][both[removed] >= 100 * MARGIN - 1e-9]
        clear += [f"{task} at {removed}" for task in gained.index]
    sets = searched_sets(results)
    accuracies = sets[sets["removed"] == half].pivot_table(
        "test_accuracy", "task", "gone"
    )
    spread = interaction(100 * accuracies)
    ranked = accuracies.mean().sort_values(ascending=False).index
    good = interaction(100 * accuracies[ranked[: len(ranked) // 4]])
    listed = ", ".join(clear) or "none"
    return (
        f"Whichever texts choose them, own sets gain {100 * MARGIN:g} pp or more on: "
        f"{listed}. "
        f"Datasets do differ, but in bad sets: with {half} removed, what a set gains "
        f"or loses on one dataset beyond its mean and the dataset's has a deviation of "
        f"{spread:.1f} pp over all sets, and {good:.1f} among the best quarter of them."
    )


def interaction(accuracies: pd.DataFrame) -> float:
    """Compute the standard deviation that is left of two main effects.

    Parameters
    ----------
    accuracies : DataFrame
        A row per task, a column per set.

    Returns
    -------
    float
        Root mean square of what is left when the means of rows and of columns are
        subtracted, over the degrees of freedom that are left.
    """
    centred = accuracies.sub(accuracies.mean(axis=1), axis=0)
    left = centred - centred.mean()
    freedom = (accuracies.shape[0] - 1) * (accuracies.shape[1] - 1)
    if freedom == 0:
        return 0.0
    return float(np.sqrt((left.to_numpy() ** 2).sum() / freedom))
