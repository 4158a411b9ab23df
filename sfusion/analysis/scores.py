"""From the frames of a study to tidy tables. Nothing here trains.

Two protocols stand side by side. *Test-selected*: a strategy's score is its highest
test accuracy over the depths, the paper's score as far as it can be read; choosing on
test is optimistic. *Validation-selected*: the depth is chosen on validation, and test
is read at that depth alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
import pandas as pd

from sfusion.errors import StudyLacks
from sfusion.experiments.results import UNIT
from sfusion.pruning.strategies import STRATEGIES
from sfusion.signals import SIGNALS

if TYPE_CHECKING:
    from sfusion.experiments.results import Results

SCORES = [
    "test_selected",
    "validation_selected",
    "validation_accuracy",
    "optimism",
    "mean_accuracy",
]

# Columns of Results.nodes, and what they are called in print.
DENOMINATORS = {
    "parameters": "all parameters",
    "encoder_parameters": "encoder parameters",
    "flops": "FLOPs per sequence",
}

# Columns of :func:`measured`, and what they are called in print; the first is the
# headline, at which no single layer decides.
MEASURES = {
    "half_removed": "half of the layers removed",
    "mean_accuracy": "mean over depths",
}

BEST_SINGLE = "best-single"

POOL = 400  # draws of a dataset's test texts, from which a bootstrap picks


@cache
def _draws(task: str, texts: int) -> np.ndarray:
    """Draw texts with replacement: how often each occurs, a column per draw."""
    rng = np.random.default_rng(crc32(task.encode()))
    counts = rng.multinomial(texts, np.full(texts, 1 / texts), POOL)
    return counts.T.astype(np.float32)


def _drawn_accuracies(rows: pd.DataFrame, task: str) -> np.ndarray:
    """Return the accuracies of a dataset's rows on each draw of its test texts."""
    texts = int(rows["test_texts"].iloc[0])
    packed = np.frombuffer(b"".join(rows["test_correct"]), np.uint8)
    right = np.unpackbits(packed.reshape(len(rows), -1), axis=1, count=texts)
    counts = right.astype(np.float32) @ _draws(task, texts)
    return counts.astype(float) / texts


def redrawn(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Average test accuracies, as observed and on test texts drawn anew.

    A dataset's test texts are the same for every seed, strategy and condition, and so
    are the draws: differences stay paired, also between two frames.

    Parameters
    ----------
    frame : DataFrame
        Rows with ``task``, ``seed``, ``test_accuracy`` and, in records that have it,
        ``test_correct``, a bit per test text, eight per byte, beside ``test_texts``,
        their count.
    columns : list of str
        Rows that agree in them, in task and in seed are averaged.

    Returns
    -------
    DataFrame
        Index (task, seed, draw), a column per combination of ``columns``: accuracies as
        shares. Draw 0 is what was observed, 1 to ``POOL`` are draws of texts; without
        bits there is draw 0 alone.
    """
    has_bits = "test_correct" in frame and frame["test_correct"].notna().all()
    parts = {}
    for task, rows in frame.groupby("task"):
        keys = [rows[key] for key in ("seed", *columns)]
        table = rows["test_accuracy"].groupby(keys).mean().to_frame(0)
        if has_bits:
            drawn = _drawn_accuracies(rows, task)
            drawn = pd.DataFrame(drawn, rows.index, range(1, POOL + 1))
            table = table.join(drawn.groupby(keys).mean())
        for seed in table.index.unique("seed"):
            parts[task, seed] = table.loc[seed].T
    return pd.concat(parts, names=[*UNIT, "draw"]).sort_index()


def protocols(frame: pd.DataFrame) -> pd.DataFrame:
    """Score every strategy under both protocols.

    Parameters
    ----------
    frame : DataFrame
        From :meth:`Results.curves`.

    Returns
    -------
    DataFrame
        A row per task, seed and strategy: ``test_selected`` (highest test accuracy over
        one removal and more), ``validation_selected`` (test accuracy where validation
        is highest, of ties the smaller model), ``validation_accuracy`` (that highest
        validation accuracy), ``removed`` and ``path`` at that depth, ``optimism``
        (test-selected minus validation-selected), ``mean_accuracy`` (mean test accuracy
        over the depths), and ``name``, ``group``.
    """
    pruned = frame[frame["removed"] > 0]
    keys = [*UNIT, "strategy"]
    ranked = pruned.sort_values([*keys, "validation_accuracy", "removed"])
    chosen = ranked.groupby(keys, as_index=False).last()
    tested = pruned.groupby(keys)["test_accuracy"].agg(
        test_selected="max", mean_accuracy="mean"
    )
    table = chosen.rename(columns={"test_accuracy": "validation_selected"})
    table = table.merge(tested.reset_index(), on=keys)
    table["optimism"] = table["test_selected"] - table["validation_selected"]
    return table[[*keys, "name", "group", *SCORES, "removed", "path"]]


def wide(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Pivot one score.

    Parameters
    ----------
    table : DataFrame
        From :func:`protocols`.
    column : str

    Returns
    -------
    DataFrame
        Index (task, seed), a column per strategy in the order of ``STRATEGIES``; the
        random baseline is the mean of its draws.
    """
    frame = table.pivot_table(index=UNIT, columns="name", values=column)
    return frame[[name for name in STRATEGIES if name in frame]]


def task_means(frame: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    """Average over seeds.

    Parameters
    ----------
    frame : Series or DataFrame
        Index (task, seed), or from :func:`redrawn`: what was observed is averaged.

    Returns
    -------
    Series or DataFrame
        Index task.
    """
    return observed(frame).groupby(level="task").mean()


def observed(frame: pd.Series | pd.DataFrame) -> pd.Series | pd.DataFrame:
    """Leave the draws of test texts out.

    Parameters
    ----------
    frame : Series or DataFrame
        Index (task, seed), or from :func:`redrawn`.

    Returns
    -------
    Series or DataFrame
        Index (task, seed).
    """
    if "draw" not in frame.index.names:
        return frame
    return frame.xs(0, level="draw")


def distilled(results: Results) -> pd.DataFrame:
    """Join the conditions of the distillation with the models they started from.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per task, seed, number of removed layers and ``condition``: ``pruned``
        (before), and those of :data:`sfusion.pruning.tree.CONDITIONS`, also as
        ``strategy``, ``name`` and ``group``, so that conditions are scored as
        strategies are; the accuracies, the sizes, and ``original``: the unpruned
        model's test accuracy.

    Raises
    ------
    StudyLacks
        When the study distils nothing.
    """
    if results.distillation.empty:
        raise StudyLacks("this study distils nothing")
    sizes = ["layers", *DENOMINATORS]
    steps = results.with_test_texts(results.distillation)
    same = [name for name in steps if name != "condition"]
    nodes = results.with_test_texts(results.nodes)[[*same, *sizes]]
    taught = steps.merge(nodes[[*UNIT, "path", *sizes]], on=[*UNIT, "path"])
    before = nodes.merge(steps[[*UNIT, "path"]].drop_duplicates(), on=[*UNIT, "path"])
    before["condition"] = np.where(before["removed"] == 0, "original", "pruned")
    frame = pd.concat([before, taught], ignore_index=True)
    for column in ("strategy", "name", "group"):
        frame[column] = frame["condition"]
    originals = nodes.loc[nodes["removed"] == 0, [*UNIT, "test_accuracy"]]
    return frame.merge(originals.rename(columns={"test_accuracy": "original"}), on=UNIT)


def require(run: Iterable[str], *names: str) -> None:
    """Refuse a study in which strategies were not run.

    Parameters
    ----------
    run : iterable of str
        Names of the strategies that were.
    *names : str

    Raises
    ------
    StudyLacks
        When one of the names is missing.
    """
    there = set(run)
    for name in names:
        if name not in there:
            title = STRATEGIES[name].title.lower()
            raise StudyLacks(f"this study has no removals by “{title}”")


def with_best_single(frame: pd.DataFrame) -> pd.DataFrame:
    """Add the signal that keeps validation accuracy highest, for each task and seed.

    Parameters
    ----------
    frame : DataFrame
        From :meth:`Results.curves`.

    Returns
    -------
    DataFrame
        The rows, and those of one signal per task and seed again under the name
        ``BEST_SINGLE``: the one of the highest mean validation accuracy over the
        depths, of ties the first in ``SIGNALS``.
    """
    singles = frame[frame["name"].isin(SIGNALS)]
    pruned = singles[singles["removed"] > 0]
    means = pruned.pivot_table("validation_accuracy", UNIT, "name")
    means = means[[name for name in SIGNALS if name in means]]
    chosen = means.idxmax(axis=1).rename("name").reset_index()
    best = singles.merge(chosen, on=[*UNIT, "name"])
    best = best.assign(name=BEST_SINGLE, strategy=BEST_SINGLE)
    return pd.concat([frame, best], ignore_index=True)


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Score every strategy of every task and seed.

    Parameters
    ----------
    frame : DataFrame
        From :meth:`Results.curves`, ``with_best_single`` or ``distilled``.

    Returns
    -------
    DataFrame
        Index as from :func:`redrawn`, columns (measure, name), random orders averaged:
        test accuracies as shares, ``half_removed``, ``mean_accuracy`` (over the
        depths), ``validation_selected`` and, for each depth, ``removed_<n>``.
    """
    table = redrawn(frame[frame["removed"] > 0], ["name", "removed"])
    removals = sorted(table.columns.unique("removed"))
    by_depth = {}
    for removed in removals:
        by_depth[f"removed_{removed}"] = table.xs(removed, axis=1, level="removed")
    half = half_of(removals, int((frame["removed"] + frame["layers"]).max()))
    selected = frame.merge(protocols(frame)[[*UNIT, "strategy", "removed"]])
    scores = {
        "half_removed": by_depth[f"removed_{half}"],
        "mean_accuracy": table.T.groupby(level="name").mean().T,
        "validation_selected": redrawn(selected, ["name"]),
        **by_depth,
    }
    return pd.concat(scores, axis=1, names=["measure"])


def half_of(removals: list[int], depth: int) -> int:
    """Choose the number of removed layers that is nearest to half of a model.

    Parameters
    ----------
    removals : list of int
        To choose from.
    depth : int
        Layers of the original.

    Returns
    -------
    int
        Of two that are equally near, the greater.
    """
    return min(removals, key=lambda removed: (abs(2 * removed - depth), -removed))
