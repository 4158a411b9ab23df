"""From the frames of a study to the numbers that are reported. Nothing here trains.

Two protocols stand side by side. *Paper*: a strategy's score is its highest test accuracy over
the depths, as far as the paper can be read; choosing on test is optimistic. *Honest*: the depth
is chosen on validation, and test is read at that depth alone.
"""

import numpy as np
import pandas as pd

from sfusion import SfusionError
from sfusion.pruning.fusion import standardise
from sfusion.pruning.strategies import STRATEGIES, lookup
from sfusion.records.profiles import load_profile
from sfusion.records.results import BUILD, COMMITTED, STAGES, load_results
from sfusion.signals import SIGNALS

UNIT = ["task", "seed"]
SECONDS = ["training", "evaluation", "extraction"]  # differ from run to run
DENOMINATORS = {
    # column of Results.nodes: what it is called in print
    "parameters": "all parameters",
    "encoder_parameters": "encoder parameters",
    "flops": "FLOPs a sequence",
}


def open_results(profile="embedded", mode="replay", upto=STAGES[-1], *, folder=None, quiet=None):
    """Give the results of a profile: read from the committed records, or computed.

    Parameters
    ----------
    profile : str or Path
        See :func:`sfusion.records.profiles.load_profile`.
    mode : {"replay", "built", "reproduce"}
        ``replay`` reads the committed ``results/<profile>``, ``built`` what `make reproduce` left
        in ``build/<profile>/results``: neither trains. ``reproduce`` computes what
        ``build/<profile>`` does not hold yet.
    upto : str
        Last stage to compute, of ``STAGES``; a replay gives all.
    folder : Path, optional
        In place of the mode's own folder.
    quiet : bool, optional
        See :func:`sfusion.records.parallel.progress`.

    Returns
    -------
    Results
        After ``signals`` and ``sweep``, the frames of later stages lack rows.

    Raises
    ------
    SfusionError
        For an unknown profile, mode or stage, and whatever the stages meet.
    """
    checked = load_profile(profile)
    if upto not in STAGES:
        raise SfusionError(f"stage {upto!r} is not known: use one of {', '.join(STAGES)}")
    if mode == "replay":
        return load_results(folder or COMMITTED / checked.name)
    if mode == "built":
        return load_results(folder or BUILD / checked.name / "results")
    if mode == "reproduce":
        from sfusion.study import compute  # here, because a replay needs no training code

        return compute(checked, folder or BUILD / checked.name, upto=upto, quiet=quiet)
    raise SfusionError(f"mode {mode!r} is not known: use replay, built or reproduce")


def curves(results):
    """Join every strategy's way down with what was found at its nodes.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row a task, seed, strategy (random draws apart) and number of removed layers; adds
        ``group``, ``name`` (random draws together), the accuracies (shares) and the sizes.
    """
    nodes = results.nodes.drop(columns=SECONDS)
    frame = results.trajectories.merge(nodes, on=[*UNIT, "path", "removed"], validate="many_to_one")
    strategies = frame["strategy"].map(lookup)
    frame["name"] = [s.name for s in strategies]
    frame["group"] = [s.group for s in strategies]
    return frame


def sweep(profile="embedded", strategies=None, *, folder=None, quiet=None):
    """Walk strategies down to one layer and tabulate accuracy against depth.

    Parameters
    ----------
    profile : str or Path
        See :func:`sfusion.records.profiles.load_profile`.
    strategies : iterable of str, optional
        Names in ``STRATEGIES``; by default those of the first walk.
    folder : Path, optional
        Where records are kept; by default ``build/<profile>``.
    quiet : bool, optional
        See :func:`sfusion.records.parallel.progress`.

    Returns
    -------
    DataFrame
        See :func:`curves`.
    """
    from sfusion.study import compute  # here, because a replay needs no training code

    checked = load_profile(profile)
    if strategies is None:
        strategies = [name for name, s in STRATEGIES.items() if s.first_walk]
    strategies = list(strategies)  # read twice
    learned = any(STRATEGIES[name].learned_from for name in strategies if name in STRATEGIES)
    upto = "fusion" if learned else "sweep"
    folder = folder or BUILD / checked.name
    return curves(compute(checked, folder, upto=upto, strategies=strategies, quiet=quiet))


def first_walks(results):
    """Keep the models that strategies without a fusion trained: what fusions may learn from.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Rows of ``results.nodes``.
    """
    plain = results.trajectories["strategy"].map(lambda label: lookup(label).first_walk)
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
        A row a task, seed and strategy: ``paper`` (highest test accuracy over one removal and
        more), ``honest`` (test accuracy where validation is highest, of ties the smaller
        model), ``validation`` (that highest validation accuracy), ``removed`` and ``path`` at
        the honest depth, ``optimism`` (paper less honest), ``area`` (mean test accuracy over
        the depths), and ``name``, ``group``.
    """
    pruned = frame[frame["removed"] > 0]
    keys = [*UNIT, "strategy"]
    ranked = pruned.sort_values([*keys, "validation_accuracy", "removed"])
    honest = ranked.groupby(keys, as_index=False).last()
    tested = pruned.groupby(keys)["test_accuracy"].agg(paper="max", area="mean").reset_index()
    table = honest.rename(
        columns={"test_accuracy": "honest", "validation_accuracy": "validation"}
    ).merge(tested, on=keys)
    table["optimism"] = table["paper"] - table["honest"]
    columns = ["name", "group", "paper", "honest", "validation", "optimism", "area"]
    return table[[*keys, *columns, "removed", "path"]]


def by_name(table, columns):
    """Average the draws of the random baseline, so that each unit has one row a strategy.

    Parameters
    ----------
    table : DataFrame
        From :func:`protocols`.
    columns : list of str
        What to average.

    Returns
    -------
    DataFrame
        A row a task, seed and strategy: ``name``, ``group`` and the columns.
    """
    return table.groupby([*UNIT, "name", "group"], as_index=False)[columns].mean()


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
        Index (task, seed), a column a strategy in the order of ``STRATEGIES``; the random
        baseline is the mean of its draws.
    """
    frame = by_name(table, [column]).pivot(index=UNIT, columns="name", values=column)
    return frame[[name for name in STRATEGIES if name in frame]]


def task_means(frame):
    """Average over seeds.

    Parameters
    ----------
    frame : Series or DataFrame
        Index (task, seed).

    Returns
    -------
    Series or DataFrame
        Index task.
    """
    return frame.groupby(level="task").mean()


def bootstrap(frame, statistic=np.mean, *, tasks=True, resamples=2000, level=0.95, seed=0):
    """Interval of a statistic over tasks and seeds.

    Seeds are drawn with replacement within each task (stratified bootstrap of Agarwal et al.
    2021, arXiv:2108.13264), and the tasks with replacement too; percentile interval.

    Parameters
    ----------
    frame : Series or DataFrame
        Index (task, seed).
    statistic : callable
        Takes the means over seeds, an array of shape (tasks,) or (tasks, columns), and gives a
        number; by default their mean, so that every task counts alike.
    tasks : bool
        Whether tasks are drawn as well: yes for what is said of tasks in general, no for a count
        over the very tasks at hand.
    resamples : int
    level : float
    seed : int
        Of the generator.

    Returns
    -------
    tuple of float
        The statistic itself, and the ends of the interval.
    """
    rng = np.random.default_rng(seed)
    parts = [part.to_numpy() for _, part in frame.groupby(level="task")]
    means = [
        part[rng.integers(len(part), size=(resamples, len(part)))].mean(axis=1) for part in parts
    ]
    drawn = np.stack(means, axis=1)
    if tasks:
        chosen = rng.integers(len(parts), size=(resamples, len(parts)))
        drawn = drawn[np.arange(resamples)[:, None], chosen]
    tails = (1 - level) / 2
    if statistic is np.mean:  # by far the most frequent: all resamples at once
        found = drawn.reshape(resamples, -1).mean(axis=1)
    else:
        found = [statistic(values) for values in drawn]
    low, high = np.quantile(found, [tails, 1 - tails])
    return float(statistic(task_means(frame).to_numpy())), float(low), float(high)


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
    turned = pd.Series({slug: s.removed_first == "lowest" for slug, s in SIGNALS.items()})
    signs = turned.map({True: 1.0, False: -1.0})
    matrices = [
        (part[list(SIGNALS)] * signs).corr(method="spearman").to_numpy()
        for _, part in roots.groupby(UNIT)
    ]
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
    mean = unit_correlations(results).mean(axis=0)
    return pd.DataFrame(mean, index=list(SIGNALS), columns=list(SIGNALS))


def effective_signals(correlations):
    """Count how many independent orders of the layers a set of signals amounts to.

    The participation ratio of the correlation matrix's eigenvalues, (sum)^2 / sum of squares: 1
    when all signals agree. Few layers keep it low whatever the signals are: see
    :func:`effective_by_chance`.

    Parameters
    ----------
    correlations : ndarray of shape (..., signals, signals)

    Returns
    -------
    ndarray of shape (...)
    """
    values = np.linalg.eigvalsh(correlations)
    return values.sum(axis=-1) ** 2 / (values**2).sum(axis=-1)


def effective_by_chance(signals, layers, draws=1000, seed=0):
    """Say what :func:`effective_signals` gives on average for unrelated orders of the layers.

    Parameters
    ----------
    signals, layers : int
    draws : int
    seed : int
        Of the generator.

    Returns
    -------
    float
    """
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(layers), (draws, signals, 1)), axis=-1)
    return float(effective_signals(np.stack([np.corrcoef(one) for one in orders])).mean())


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
    """When each strategy removes each layer.

    Parameters
    ----------
    frame : DataFrame
        From :func:`curves`.

    Returns
    -------
    DataFrame
        Columns ``task``, ``seed``, ``strategy``, ``name``, ``layer``, ``step``: 1 for the layer
        that goes first; the layer that stays has the original's layer count.
    """
    last = frame.loc[frame.groupby([*UNIT, "strategy"])["removed"].idxmax()]
    rows = []
    for row in last.itertuples():
        order = [int(layer) for layer in row.path.split("-")]
        order += [layer for layer in range(row.removed + row.layers) if layer not in order]
        rows += [
            (row.task, row.seed, row.strategy, row.name, layer, step)
            for step, layer in enumerate(order, start=1)
        ]
    return pd.DataFrame(rows, columns=[*UNIT, "strategy", "name", "layer", "step"])


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
    joined = frame.merge(
        originals[[*UNIT, "accuracy", *names]], on=UNIT, suffixes=("", "_original")
    )
    share = joined["accuracy"] / joined["accuracy_original"]
    for name in names:
        joined[f"{name}_ratio"] = share * joined[f"{name}_original"] / joined[name]
    return joined.drop(columns=[f"{name}_original" for name in [*names, "accuracy"]])


def distilled(results):
    """Put the arms of the distillation beside the models they started from.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row a task, seed, number of removed layers and ``arm``: ``pruned`` (before), and those
        of :data:`sfusion.pruning.distillation.ARMS`; the accuracies, the sizes, and ``original``: the
        unpruned model's test accuracy.
    """
    sizes = ["layers", *DENOMINATORS]
    nodes = results.nodes[
        [*UNIT, "path", "removed", "validation_accuracy", "test_accuracy", *sizes]
    ]
    arms = results.distillation
    taught = arms.merge(nodes[[*UNIT, "path", *sizes]], on=[*UNIT, "path"])
    before = nodes.merge(arms[[*UNIT, "path"]].drop_duplicates(), on=[*UNIT, "path"])
    before = before.assign(condition=np.where(before["removed"] == 0, "original", "pruned"))
    frame = pd.concat([before, taught], ignore_index=True)
    originals = nodes.loc[nodes["removed"] == 0, [*UNIT, "test_accuracy"]]
    return frame.merge(originals.rename(columns={"test_accuracy": "original"}), on=UNIT)


def best_single(frame):
    """Choose for each task and seed the signal that keeps validation accuracy highest.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`.

    Returns
    -------
    DataFrame
        The rows of one signal a task and seed: the one of the highest mean validation accuracy
        over the depths, of ties the first in ``SIGNALS``.
    """
    singles = frame[frame["name"].isin(SIGNALS)]
    kept = singles[singles["removed"] > 0]
    means = kept.pivot_table(index=UNIT, columns="name", values="validation_accuracy")
    chosen = means[[name for name in SIGNALS if name in means]].idxmax(axis=1).rename("name")
    return singles.merge(chosen.reset_index(), on=[*UNIT, "name"])
