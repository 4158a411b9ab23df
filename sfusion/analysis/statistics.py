"""Statistics: intervals, comparisons fixed in advance, and how well a fusion forecasts.

With nine datasets a table of all pairs of strategies says nothing: the critical difference of
fifteen methods is seven ranks (Demsar 2006), and Holm's correction over fourteen Wilcoxon tests
cannot reach .05. So the comparisons are few and were named before the nine datasets were run, and
each is an interval.
"""

from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy.stats import binomtest
from sklearn.base import clone
from sklearn.inspection import permutation_importance
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from sfusion import SfusionError
from sfusion.analysis.tables import curves, distilled, protocols, redrawn, task_means, with_best_single
from sfusion.pruning.fusion import FUSION_MODELS, LABEL
from sfusion.records.results import UNIT
from sfusion.signals import SIGNALS

# Name: what it is called in print; the first is the headline, at which no single layer decides.
MEASURES = {"half_removed": "half of the layers removed", "mean_accuracy": "mean over depths"}
TIE = 1e-9  # shares of whole samples: anything larger is a real difference
MARGIN = 0.01  # differences within one percentage point count as none: fixed before the runs


# One comparison: ``first`` minus ``second``, strategies or conditions of the distillation.
Contrast = namedtuple("Contrast", ["title", "first", "second"])
QUESTIONS = yaml.safe_load(Path(__file__).with_name("questions.yaml").read_text(encoding="utf-8"))
CONTRASTS, CONTROLS, OPPONENTS, MODELS = (
    {key: Contrast(*one) for key, one in QUESTIONS[kind].items()}
    for kind in ("contrasts", "controls", "opponents", "models")
)


def bootstrap(frame, statistic=np.mean, *, tasks=True, resamples=2000, level=0.95, seed=0):
    """Compute an interval of a statistic over tasks, seeds and test texts.

    Three stages (Davison and Hinkley 1997, section 3.8): tasks are drawn with replacement, and for
    each of them, anew each time that it is drawn, its seeds and, for all of these together, its test
    texts; percentile interval. Two stages where the frame has no draws of texts. Drawing few units
    narrows an interval; drawing within units that are drawn themselves widens it, for what varies
    within is part of what varies between: where tasks are drawn and texts vary most, it covers more
    than its level. Written here, for scipy's bootstrap knows no nested units.

    Parameters
    ----------
    frame : Series or DataFrame
        Index (task, seed), or (task, seed, draw) from :func:`sfusion.analysis.tables.redrawn`.
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
    groups = frame.sort_index().groupby(level="task")
    parts = [part.to_numpy().reshape(part.index.unique("seed").size, -1, *part.shape[1:]) for _, part in groups]
    everyone = np.tile(np.arange(len(parts)), (resamples, 1))
    chosen = rng.integers(len(parts), size=everyone.shape) if tasks else everyone
    drawn = np.empty((*chosen.shape, *parts[0].shape[2:]))
    for number, part in enumerate(parts):
        (seeds, draws), here = part.shape[:2], chosen == number
        picked = rng.integers(seeds, size=(here.sum(), seeds))
        drawn[here] = part[picked, rng.integers(draws > 1, draws, size=(here.sum(), 1))].mean(axis=1)
    if statistic is np.mean:  # by far the most frequent: all resamples at once
        found = drawn.reshape(resamples, -1).mean(axis=1)
    else:
        found = [statistic(values) for values in drawn]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(statistic(task_means(frame).to_numpy())), float(low), float(high)


def units(frame, tasks=True):
    """Name what :func:`bootstrap` draws.

    Parameters
    ----------
    frame : Series or DataFrame
    tasks : bool

    Returns
    -------
    str
        Such as ``tasks, seeds and texts``.
    """
    texts = "draw" in frame.index.names and 1 in frame.index.get_level_values("draw")
    names = ["tasks"] * tasks + ["seeds"] + ["texts"] * texts
    return " and ".join(", ".join(names).rsplit(", ", 1))


def judge_difference(low, high, margin=MARGIN):
    """Say what an interval of a difference shows, by a margin that was fixed in advance.

    Parameters
    ----------
    low, high : float
        Ends of the interval, shares of accuracy.
    margin : float

    Returns
    -------
    {"equivalent", "better", "worse", "inconclusive"}
        ``equivalent``: the whole interval lies within the margin, whatever its sign; ``better`` or
        ``worse``: it lies above or below 0; ``inconclusive``: neither.
    """
    if max(-low, high) <= margin + TIE:
        return "equivalent"
    return "better" if low > TIE else "worse" if high < -TIE else "inconclusive"


def interval_text(mean, low, high, digits=1, signed=False):
    """Write a number with its interval, such as ``+5.9 [+3.2, +8.7]``, with true minus signs."""
    sign = "+" if signed else ""
    mean, low, high = (f"{number:{sign}z.{digits}f}" for number in (mean, low, high))
    return f"{mean} [{low}, {high}]".replace("-", "−")


def measured(frame):
    """Score every strategy of every task and seed.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`, ``with_best_single`` or ``distilled``.

    Returns
    -------
    DataFrame
        Index as from :func:`sfusion.analysis.tables.redrawn`, columns (measure, name), random
        orders averaged: test accuracies as shares, ``half_removed``, ``mean_accuracy`` (over the
        depths), ``validation_selected`` and, for each depth, ``removed_<n>``.
    """
    table = redrawn(frame[frame["removed"] > 0], ["name", "removed"])
    by_depth = {f"removed_{n}": table.xs(n, axis=1, level="removed") for n in sorted(set(table.columns.levels[1]))}
    depth = (frame["removed"] + frame["layers"]).max()
    scores = {
        "half_removed": by_depth[f"removed_{min(table.columns.levels[1], key=lambda n: (abs(2 * n - depth), -n))}"],
        "mean_accuracy": table.T.groupby(level="name").mean().T,
        "validation_selected": redrawn(frame.merge(protocols(frame)[[*UNIT, "strategy", "removed"]]), ["name"]),
    }
    return pd.concat(scores | by_depth, axis=1, names=["measure"])


def compare_pair(first, second):
    """Compare two scores on the same tasks and seeds.

    Parameters
    ----------
    first, second : Series
        Index (task, seed) or (task, seed, draw).

    Returns
    -------
    dict
        ``difference`` (mean over tasks) with ``low`` and ``high``, its 95% bootstrap interval;
        ``drawn``, what that draws; ``verdict``, see :func:`judge_difference`; ``ahead``, ``tied``,
        ``behind``: tasks by the sign of the mean over seeds; ``sign_test``: exact two-sided p of
        ``ahead`` against ``behind``, not corrected for the number of contrasts.
    """
    difference = (first - second).dropna()
    means = task_means(difference)
    ahead, behind = int((means > TIE).sum()), int((means < -TIE).sum())
    found = dict(zip(("difference", "low", "high"), bootstrap(difference), strict=True))
    return {
        **found,
        "drawn": units(difference),
        "verdict": judge_difference(found["low"], found["high"]),
        "ahead": ahead,
        "tied": len(means) - ahead - behind,
        "behind": behind,
        "sign_test": binomtest(ahead, ahead + behind).pvalue if ahead + behind else 1.0,
    }


def contrasts(results, which=CONTRASTS, measures=None):
    """Compute every contrast under every measure.

    Parameters
    ----------
    results : Results
    which : dict of str to Contrast, optional
        By default ``CONTRASTS``.
    measures : list of str, optional
        Columns of :func:`measured`; by default all.

    Returns
    -------
    DataFrame
        A row per contrast and measure: ``contrast`` (its title), ``measure``, and the columns of
        :func:`compare_pair`. Contrasts whose strategies were not run are left out.
    """
    every = pd.concat([with_best_single(curves(results)), distilled(results)])
    scores = measured(every[every["name"].isin({name for one in which.values() for name in one[1:]})])
    rows = [
        {"contrast": one.title, "measure": measure} | compare_pair(*(scores[measure, name] for name in one[1:]))
        for one in which.values()
        for measure in measures or dict.fromkeys(scores.columns.get_level_values("measure"))
        if {(measure, name) for name in one[1:]} <= set(scores)
    ]
    return pd.DataFrame(rows)


# What is held out together, and the columns that tell it: parents of all seeds, whose models are much alike.
HELD_OUT = {"parent": ["task", "path"], "task": ["task"]}


def _folds(table, held_out="parent"):
    """Order rows by content and group them, so that siblings never leak."""
    ordered = table.sort_values([*SIGNALS, LABEL], ignore_index=True)
    groups = ordered.groupby(HELD_OUT[held_out]).ngroup()
    if groups.nunique() < 2:
        raise SfusionError(f"holding out needs removals from at least two {held_out}s")
    return ordered, groups, GroupKFold(n_splits=min(3, groups.nunique()))


def held_out_predictions(table, model, held_out="parent"):
    """Predict every removal from a fusion that saw neither it nor its siblings.

    Parameters
    ----------
    table : DataFrame
        From :func:`training_table`.
    model : str
        A name in ``FUSION_MODELS``.
    held_out : {"parent", "task"}
        What is predicted by a fusion that has not seen it: the removals from one model, of all
        seeds, or all of a task.

    Returns
    -------
    DataFrame
        Columns ``parent`` (task, seed and path of the siblings' parent), ``observed`` and ``predicted``
        change of accuracy, as shares.
    """
    ordered, groups, folds = _folds(table, held_out)
    features, label = ordered[list(SIGNALS)], ordered[LABEL]
    predicted = cross_val_predict(FUSION_MODELS[model], features, label, groups=groups, cv=folds)
    parent = ordered["task"] + "/" + ordered["seed"].astype(str) + "/" + ordered["path"]
    return pd.DataFrame({"parent": parent, "observed": label, "predicted": predicted})


def quality(predictions):
    """Score held-out predictions.

    Parameters
    ----------
    predictions : DataFrame
        From :func:`held_out_predictions`.

    Returns
    -------
    dict
        ``r2``: cross-validated share of the label's variance explained (negative: worse than
        the mean). ``rank_correlation``: Spearman correlation of predicted and observed change.
        Those hold much that tells parents apart. Between siblings (same parent), which is what a
        ranking needs: ``within_r2``, the same share of what is left when each parent's mean is
        taken off; ``pairs_ordered``, share of pairs with different labels that are ordered
        rightly, .5 is chance. ``rows``, ``siblings``: counts of rows, and of those with a sibling.
    """
    groups = predictions.groupby("parent")
    family = predictions[groups["observed"].transform("size") > 1]
    centred = family - family.groupby("parent")[["observed", "predicted"]].transform("mean")
    error = ((centred["observed"] - centred["predicted"]) ** 2).sum()
    pairs = predictions.merge(predictions, on="parent", suffixes=("_a", "_b"))
    pairs = pairs[pairs["observed_a"] > pairs["observed_b"]]
    right = (pairs["predicted_a"] > pairs["predicted_b"]).astype(float)
    right[pairs["predicted_a"] == pairs["predicted_b"]] = 0.5
    return {
        "r2": float(r2_score(predictions["observed"], predictions["predicted"])),
        "rank_correlation": float(predictions["observed"].corr(predictions["predicted"], method="spearman")),
        "within_r2": float(1 - error / (centred["observed"] ** 2).sum()) if len(family) else np.nan,
        "pairs_ordered": float(right.mean()),
        "rows": len(predictions),
        "siblings": len(family),
    }


def importances(table, model, repeats=3):
    """Permutation importance of each signal (Breiman 2001), on rows held out of the fit.

    Parameters
    ----------
    table : DataFrame
        From :func:`training_table`.
    model : str
        A name in ``FUSION_MODELS``.
    repeats : int
        Shuffles a signal, in each of the folds of :func:`held_out_predictions`.

    Returns
    -------
    DataFrame
        Index signal; ``importance`` and ``spread``: mean and standard deviation, over folds and
        shuffles, of the rise in mean squared error over the label's variance. Correlated
        signals share their importance.
    """
    ordered, groups, folds = _folds(table)
    features, label = ordered[list(SIGNALS)], ordered[LABEL]
    losses = []
    for train, held_out in folds.split(features, label, groups):
        fitted = clone(FUSION_MODELS[model]).fit(features.iloc[train], label.iloc[train])
        test = features.iloc[held_out], label.iloc[held_out]
        options = {"scoring": "neg_mean_squared_error", "n_repeats": repeats, "random_state": 0}
        losses.append(permutation_importance(fitted, *test, **options).importances / label.var(ddof=0))
    losses = np.concatenate(losses, axis=1)
    return pd.DataFrame(
        {"importance": losses.mean(1), "spread": losses.std(1)}, index=pd.Index(list(SIGNALS), name="signal")
    )
