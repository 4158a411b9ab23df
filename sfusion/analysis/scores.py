"""From the frames of a study to tidy tables. Nothing here trains.

Two protocols stand side by side. *Test-selected*: a strategy's score is its highest
test accuracy over the depths, the paper's score as far as it can be read; choosing on
test is optimistic. *Validation-selected*: the depth is chosen on validation, and test
is read at that depth alone.
"""

from functools import cache
from zlib import crc32

import numpy as np
import pandas as pd

from sfusion.experiments.results import UNIT
from sfusion.pruning.strategies import STRATEGIES
from sfusion.signals import SIGNALS

SCORES = [
    *(
        "test_selected",
        "validation_selected",
        "validation_accuracy",
        "optimism",
        "mean_accuracy",
    )
]

# Columns of Results.nodes, and what they are called in print.
DENOMINATORS = dict(
    parameters="all parameters",
    encoder_parameters="encoder parameters",
    flops="FLOPs per sequence",
)
BEST_SINGLE = "best-single"

POOL = 400  # draws of a task's test texts, from which a bootstrap picks


@cache
def _draws(task, texts):
    """Draw a task's test texts with replacement: how often each occurs, a column per draw."""
    rng = np.random.default_rng(crc32(task.encode()))
    return rng.multinomial(texts, np.full(texts, 1 / texts), POOL).T.astype(np.float32)


def redrawn(frame, columns):
    """Average test accuracies, as observed and with the test texts drawn with replacement.

    A task's test texts are the same for every seed, strategy and condition, and so are
    the draws: differences stay paired, also between two frames.

    Parameters
    ----------
    frame : DataFrame
        Rows with ``task``, ``seed``, ``test_accuracy`` and, in records that have it,
        ``test_correct``, a bit per test text, eight texts per byte.
    columns : list of str
        Rows that agree in them, in task and in seed are averaged.

    Returns
    -------
    DataFrame
        Index (task, seed, draw), a column per combination of ``columns``: accuracies as
        shares. Draw 0 is what was observed, 1 to ``POOL`` are draws of texts; without
        bits there is draw 0 alone.
    """
    parts, bits = {}, "test_correct" in frame and frame["test_correct"].notna().all()
    for task, part in frame.groupby("task"):
        keys = [part[key] for key in ("seed", *columns)]
        table = part["test_accuracy"].groupby(keys).mean().to_frame(0)
        if bits:
            packed = np.frombuffer(b"".join(part["test_correct"]), np.uint8).reshape(
                len(part), -1
            )
            right = np.unpackbits(packed, axis=1)
            # The last byte is filled up with zeros; no text right is the same share of
            # any number.
            texts = (
                round(right.sum(axis=1).max() / (part["test_accuracy"].max() or np.inf))
                or 1
            )
            drawn = (right[:, :texts].astype(np.float32) @ _draws(task, texts)).astype(
                float
            ) / texts
            table = table.join(
                pd.DataFrame(drawn, part.index, range(1, POOL + 1)).groupby(keys).mean()
            )
        parts[task] = pd.concat(
            {seed: table.loc[seed].T for seed in table.index.unique("seed")}
        )
    return pd.concat(parts, names=[*UNIT, "draw"]).sort_index()


def protocols(frame):
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


def wide(table, column):
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


def task_means(frame):
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


def observed(frame):
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
    return frame.xs(0, level="draw") if "draw" in frame.index.names else frame


def distilled(results):
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
    """
    sizes = ["layers", *DENOMINATORS]
    steps = results.distillation
    nodes = results.nodes[[*(name for name in steps if name != "condition"), *sizes]]
    taught = steps.merge(nodes[[*UNIT, "path", *sizes]], on=[*UNIT, "path"])
    before = nodes.merge(steps[[*UNIT, "path"]].drop_duplicates(), on=[*UNIT, "path"])
    before = before.assign(
        condition=np.where(before["removed"] == 0, "original", "pruned")
    )
    frame = pd.concat([before, taught], ignore_index=True)
    frame = frame.assign(
        **dict.fromkeys(("strategy", "name", "group"), frame["condition"])
    )
    originals = nodes.loc[nodes["removed"] == 0, [*UNIT, "test_accuracy"]]
    return frame.merge(originals.rename(columns={"test_accuracy": "original"}), on=UNIT)


def with_best_single(frame):
    """Add the signal that keeps validation accuracy highest, chosen for each task and seed.

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
    means = singles[singles["removed"] > 0].pivot_table(
        index=UNIT, columns="name", values="validation_accuracy"
    )
    chosen = (
        means[[name for name in SIGNALS if name in means]].idxmax(axis=1).rename("name")
    )
    single = singles.merge(chosen.reset_index(), on=[*UNIT, "name"])
    return pd.concat(
        [frame, single.assign(name=BEST_SINGLE, strategy=BEST_SINGLE)],
        ignore_index=True,
    )


# Name: what it is called in print; the first is the headline, at which no single layer
# decides.
MEASURES = {
    "half_removed": "half of the layers removed",
    "mean_accuracy": "mean over depths",
}


def measured(frame):
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
    by_depth = {
        f"removed_{n}": table.xs(n, axis=1, level="removed")
        for n in sorted(set(table.columns.levels[1]))
    }
    depth = (frame["removed"] + frame["layers"]).max()
    scores = {
        "half_removed": by_depth[
            f"removed_{min(table.columns.levels[1], key=lambda n: (abs(2 * n - depth), -n))}"
        ],
        "mean_accuracy": table.T.groupby(level="name").mean().T,
        "validation_selected": redrawn(
            frame.merge(protocols(frame)[[*UNIT, "strategy", "removed"]]), ["name"]
        ),
    }
    return pd.concat(scores | by_depth, axis=1, names=["measure"])
