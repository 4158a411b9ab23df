"""From the frames of a study to tidy tables. Nothing here trains.

Two protocols stand side by side. *Test-selected*: a strategy's score is its highest test accuracy
over the depths, the paper's score as far as it can be read; choosing on test is optimistic.
*Validation-selected*: the depth is chosen on validation, and test is read at that depth alone.
"""

from functools import cache
from zlib import crc32

import numpy as np
import pandas as pd
from scipy.special import comb

from sfusion.pruning.fusion import standardise
from sfusion.pruning.strategies import STRATEGIES, lookup, parse_path, path_name, step_layers
from sfusion.records.results import UNIT
from sfusion.signals import SIGNALS

SCORES = [*("test_selected", "validation_selected", "validation_accuracy", "optimism", "mean_accuracy")]
# Columns of Results.nodes, and what they are called in print.
DENOMINATORS = dict(parameters="all parameters", encoder_parameters="encoder parameters", flops="FLOPs per sequence")
BEST_SINGLE = "best-single"
POOL = 400  # draws of a task's test texts, from which a bootstrap picks


def curves(results):
    """Join every strategy's pruning path with what was found at its nodes.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per task, seed, strategy (random draws apart) and number of removed layers; adds
        ``group``, ``name`` (random draws together), the accuracies (shares), the sizes and, where
        the records have it, ``test_correct``, for :func:`redrawn`.
    """
    nodes = results.nodes.drop(columns=["training", "evaluation", "extraction"])  # they differ from run to run
    frame = results.trajectories.merge(nodes, on=[*UNIT, "path", "removed"], validate="many_to_one")
    strategies = frame["strategy"].map(lookup)
    return frame.assign(name=[s.name for s in strategies], group=[s.group for s in strategies])


@cache
def _draws(task, texts):
    """Draw a task's test texts with replacement: how often each occurs, a column per draw."""
    rng = np.random.default_rng(crc32(task.encode()))
    return rng.multinomial(texts, np.full(texts, 1 / texts), POOL).T.astype(np.float32)


def redrawn(frame, columns):
    """Average test accuracies, as observed and with the test texts drawn with replacement.

    A task's test texts are the same for every seed, strategy and condition, and so are the draws:
    differences stay paired, also between two frames.

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
        Index (task, seed, draw), a column per combination of ``columns``: accuracies as shares.
        Draw 0 is what was observed, 1 to ``POOL`` are draws of texts; without bits there is draw 0 alone.
    """
    parts, bits = {}, "test_correct" in frame and frame["test_correct"].notna().all()
    for task, part in frame.groupby("task"):
        keys = [part[key] for key in ("seed", *columns)]
        table = part["test_accuracy"].groupby(keys).mean().to_frame(0)
        if bits:
            packed = np.frombuffer(b"".join(part["test_correct"]), np.uint8).reshape(len(part), -1)
            right = np.unpackbits(packed, axis=1)
            # The last byte is filled up with zeros; no text right is the same share of any number.
            texts = round(right.sum(axis=1).max() / (part["test_accuracy"].max() or np.inf)) or 1
            drawn = (right[:, :texts].astype(np.float32) @ _draws(task, texts)).astype(float) / texts
            table = table.join(pd.DataFrame(drawn, part.index, range(1, POOL + 1)).groupby(keys).mean())
        parts[task] = pd.concat({seed: table.loc[seed].T for seed in table.index.unique("seed")})
    return pd.concat(parts, names=[*UNIT, "draw"]).sort_index()


def fusion_nodes(results):
    """Keep the nodes that fusions may learn from: those of strategies that learn nothing.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Rows of ``results.nodes``.
    """
    plain = results.trajectories["strategy"].map(lambda label: lookup(label).teaches_fusions)
    keys = [*UNIT, "path"]
    return results.nodes.merge(results.trajectories.loc[plain, keys].drop_duplicates(), on=keys)


def protocols(frame):
    """Score every strategy under both protocols.

    Parameters
    ----------
    frame : DataFrame
        From :func:`curves`.

    Returns
    -------
    DataFrame
        A row per task, seed and strategy: ``test_selected`` (highest test accuracy over one
        removal and more), ``validation_selected`` (test accuracy where validation is highest, of
        ties the smaller model), ``validation_accuracy`` (that highest validation accuracy),
        ``removed`` and ``path`` at that depth, ``optimism`` (test-selected minus
        validation-selected), ``mean_accuracy`` (mean test accuracy over the depths), and
        ``name``, ``group``.
    """
    pruned = frame[frame["removed"] > 0]
    keys = [*UNIT, "strategy"]
    ranked = pruned.sort_values([*keys, "validation_accuracy", "removed"])
    chosen = ranked.groupby(keys, as_index=False).last()
    tested = pruned.groupby(keys)["test_accuracy"].agg(test_selected="max", mean_accuracy="mean")
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
        Index (task, seed), a column per strategy in the order of ``STRATEGIES``; the random
        baseline is the mean of its draws.
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


def unit_correlations(results):
    """Rank correlation of the signals over the layers of each unpruned model.

    Parameters
    ----------
    results : Results

    Returns
    -------
    ndarray of shape (tasks times seeds, 12, 12)
        Spearman correlations. A signal that is removed highest-first enters with its sign
        turned, so that 1 means the same order of removal.
    """
    roots = results.signals[results.signals["path"] == ""]
    signs = [1.0 if signal.removed_first == "lowest" else -1.0 for signal in SIGNALS.values()]
    matrices = [(part[list(SIGNALS)] * signs).corr(method="spearman").to_numpy() for _, part in roots.groupby(UNIT)]
    return np.stack(matrices)


def signal_correlations(results):
    """Average :func:`unit_correlations` over tasks and seeds.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Signal by signal.
    """
    return pd.DataFrame(unit_correlations(results).mean(axis=0), list(SIGNALS), list(SIGNALS))


def effective_signals(correlations):
    """Count how many independent orders of the layers a set of signals amounts to.

    The participation ratio of the correlation matrix's eigenvalues, (sum)^2 / sum of squares: 1
    when all signals agree. Few layers keep it low whatever the signals are.

    Parameters
    ----------
    correlations : ndarray of shape (..., signals, signals)

    Returns
    -------
    ndarray of shape (...)
    """
    values = np.linalg.eigvalsh(correlations)
    return values.sum(axis=-1) ** 2 / (values**2).sum(axis=-1)


def standardised_signals(results):
    """Standardise the signals of the unpruned models over the layers, and average over seeds.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Columns ``task``, ``layer``, ``signal``, ``value`` (standard deviations).
    """
    roots = results.signals[results.signals["path"] == ""].copy()
    names = list(SIGNALS)
    roots[names] = roots.groupby(UNIT, group_keys=False)[names].apply(standardise)
    long = roots.melt([*UNIT, "layer"], names, var_name="signal")
    return long.groupby(["task", "layer", "signal"], as_index=False, sort=False)["value"].mean()


def removal_orders(frame):
    """List when each strategy removes each layer.

    Parameters
    ----------
    frame : DataFrame
        From :func:`curves`.

    Returns
    -------
    DataFrame
        Columns ``task``, ``seed``, ``strategy``, ``name``, ``layer``, ``step``: 1 for the layer
        that goes first; the layer that stays has the original's layer count. Of strategies that
        remove one layer at a time.
    """
    frame = frame[~frame["name"].map(lambda name: lookup(name).once)]
    last = frame.loc[frame.groupby([*UNIT, "strategy"])["removed"].idxmax()]
    rows = []
    for row in last.itertuples():
        order = list(parse_path(row.path))
        order += [layer for layer in range(row.removed + row.layers) if layer not in order]
        key = row.task, row.seed, row.strategy, row.name
        rows += [(*key, layer, step) for step, layer in enumerate(order, start=1)]
    return pd.DataFrame(rows, columns=[*UNIT, "strategy", "name", "layer", "step"])


def gains_by_surviving_layer(frame, strategy="random-forest"):
    """Compare a strategy with every random order, beside the layer that the order keeps to the end.

    Parameters
    ----------
    frame : DataFrame
        From :func:`curves`.
    strategy : str

    Returns
    -------
    DataFrame
        A row per task, seed and ``strategy`` (a draw): ``layer`` and ``gain``, mean accuracy over
        depths of the strategy minus that of the order, as a share.
    """
    orders = removal_orders(frame)
    kept = orders[(orders["name"] == "random") & (orders["step"] == orders["step"].max())]
    means = protocols(frame)[[*UNIT, "strategy", "mean_accuracy"]]
    own = means[means["strategy"] == strategy].set_index(UNIT)["mean_accuracy"].rename("own")
    pair = kept[[*UNIT, "strategy", "layer"]].merge(means, on=[*UNIT, "strategy"]).join(own, on=UNIT)
    return pair.assign(gain=pair["own"] - pair["mean_accuracy"])[[*UNIT, "strategy", "layer", "gain"]]


def size_ratios(frame):
    """Accuracy against size, as a multiple of the original's, under every denominator.

    Parameters
    ----------
    frame : DataFrame
        Rows with ``task``, ``seed``, ``accuracy`` and the size columns; the rows with
        ``removed`` 0 are the originals.

    Returns
    -------
    DataFrame
        The rows with, for each name in ``DENOMINATORS``, ``<name>_ratio``: accuracy over size
        divided by the same of the original of that task and seed.
    """
    originals = frame[frame["removed"] == 0].drop_duplicates(UNIT)
    names = list(DENOMINATORS)
    joined = frame.merge(originals[[*UNIT, "accuracy", *names]], on=UNIT, suffixes=("", "_original"))
    share = joined["accuracy"] / joined["accuracy_original"]
    for name in names:
        joined[f"{name}_ratio"] = share * joined[f"{name}_original"] / joined[name]
    return joined.drop(columns=[f"{name}_original" for name in [*names, "accuracy"]])


def distilled(results):
    """Join the conditions of the distillation with the models they started from.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per task, seed, number of removed layers and ``condition``: ``pruned`` (before), and
        those of :data:`sfusion.pruning.tree.CONDITIONS`, also as ``strategy``, ``name`` and ``group``,
        so that conditions are scored as strategies are; the accuracies, the sizes, and
        ``original``: the unpruned model's test accuracy.
    """
    sizes = ["layers", *DENOMINATORS]
    steps = results.distillation
    nodes = results.nodes[[*(name for name in steps if name != "condition"), *sizes]]
    taught = steps.merge(nodes[[*UNIT, "path", *sizes]], on=[*UNIT, "path"])
    before = nodes.merge(steps[[*UNIT, "path"]].drop_duplicates(), on=[*UNIT, "path"])
    before = before.assign(condition=np.where(before["removed"] == 0, "original", "pruned"))
    frame = pd.concat([before, taught], ignore_index=True)
    frame = frame.assign(**dict.fromkeys(("strategy", "name", "group"), frame["condition"]))
    originals = nodes.loc[nodes["removed"] == 0, [*UNIT, "test_accuracy"]]
    return frame.merge(originals.rename(columns={"test_accuracy": "original"}), on=UNIT)


def with_best_single(frame):
    """Add the signal that keeps validation accuracy highest, chosen for each task and seed.

    Parameters
    ----------
    frame : DataFrame
        From :func:`curves`.

    Returns
    -------
    DataFrame
        The rows, and those of one signal per task and seed again under the name ``BEST_SINGLE``: the
        one of the highest mean validation accuracy over the depths, of ties the first in ``SIGNALS``.
    """
    singles = frame[frame["name"].isin(SIGNALS)]
    means = singles[singles["removed"] > 0].pivot_table(index=UNIT, columns="name", values="validation_accuracy")
    chosen = means[[name for name in SIGNALS if name in means]].idxmax(axis=1).rename("name")
    single = singles.merge(chosen.reset_index(), on=[*UNIT, "name"])
    return pd.concat([frame, single.assign(name=BEST_SINGLE, strategy=BEST_SINGLE)], ignore_index=True)


def subsets(results):
    """Tabulate the accuracy of every set of removed layers that was trained from the top down.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per task, seed and set: ``removed``, ``gone`` (a sorted tuple of layers), the
        accuracies and, where recorded, ``test_correct``; of the sizes of which every set was
        trained: all of them by an exhaustive search, single layers by a greedy one.
    """
    nodes = results.nodes[results.nodes["removed"] > 0].copy()
    nodes["gone"] = nodes["path"].map(_gone)
    nodes = nodes[nodes["path"] == [path_name(reversed(gone)) for gone in nodes["gone"]]]
    columns = [*UNIT, "removed", "gone", *(name for name in nodes if name.startswith(("validation", "test")))]
    there = nodes.groupby([*UNIT, "removed"])["path"].transform("size")
    whole = there == comb(nodes["removed"] + nodes["layers"], nodes["removed"])
    return nodes.loc[whole, columns].reset_index(drop=True)


def _gone(path):
    return tuple(sorted(layer for step in parse_path(path) for layer in step_layers(step)))


def best_sets(results):
    """Choose the set of layers of each size that validation prefers, with more or less of the dataset read.

    Parameters
    ----------
    results : Results
        Of tasks on which every set was trained.

    Returns
    -------
    DataFrame
        Rows of :func:`subsets`, one per task, seed, ``removed`` and ``chosen_on``: whose mean
        validation accuracy chose, that of ``this model`` (an exhaustive search), of all seeds of
        ``this dataset``, or of the ``other datasets`` alone. Accuracies are shares. Of equals the first
        in order of layers. Declared here.
    """
    sets, rows, key = subsets(results), [], [*UNIT, "removed", "gone"]
    seen = sets.pivot_table(index=UNIT, columns=["removed", "gone"], values="validation_accuracy")
    for task, seed in seen.index:
        own = seen.index.get_level_values("task") == task
        trees = {"this model": [(task, seed)], "this dataset": own, "other datasets": ~own}
        for name, chosen in trees.items():
            best = seen.loc[chosen].mean().dropna().groupby(level="removed").idxmax()
            rows += [(task, seed, *one, name) for one in best]
    return pd.DataFrame(rows, columns=[*key, "chosen_on"]).merge(sets, on=key)


def reached(results, frame):
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
        The rows whose set is in :func:`subsets`, with its columns in place of the frame's own: so sets
        are compared, each trained from the top down, and not the orders in which they were reached.
    """
    sets, key = subsets(results), [*UNIT, "removed", "gone"]
    asked = frame.drop(columns=sets.columns.difference(key), errors="ignore")
    return asked.assign(gone=frame["path"].map(_gone)).merge(sets, on=key)


def regret(results, frame):
    """Compare the set that each strategy leaves with the best set of that size.

    The best set of a task is the one of highest mean validation accuracy over the seeds; all
    sets are read on test, see :func:`reached`. A regret below 0 is chance.

    Parameters
    ----------
    results : Results
    frame : DataFrame
        From :func:`curves`.

    Returns
    -------
    DataFrame
        A row per task, seed, strategy and number of removed layers: ``name``, ``test_accuracy`` of the
        set that it leaves and ``test_accuracy_best``, shares, and their difference, ``regret``.
    """
    best, size = best_sets(results), [*UNIT, "removed"]
    best = best.loc[best["chosen_on"] == "this dataset", [*size, "test_accuracy"]]
    found = reached(results, frame).merge(best, on=size, suffixes=("", "_best"))
    found["regret"] = found["test_accuracy_best"] - found["test_accuracy"]
    return found[[*size, "strategy", "name", "test_accuracy", "test_accuracy_best", "regret"]]
