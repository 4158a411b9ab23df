"""Statistics: intervals, comparisons fixed in advance, and how well a fusion forecasts.

With nine datasets a table of all pairs of strategies says nothing: the critical
difference of fifteen methods is seven ranks (Demsar 2006), and Holm's correction over
fourteen Wilcoxon tests cannot reach .05. So the comparisons are few and were named
before the nine datasets were run, and each is an interval.
"""

import numpy as np
from scipy.stats import binomtest

from sfusion.analysis.scores import task_means

TIE = 1e-9  # shares of whole samples: anything larger is a real difference

MARGIN = (
    0.01  # differences within one percentage point count as none: fixed before the runs
)


def bootstrap(
    frame, statistic=np.mean, *, tasks=True, resamples=2000, level=0.95, seed=0
):
    """Compute an interval of a statistic over tasks, seeds and test texts.

    Three stages (Davison and Hinkley 1997, section 3.8): tasks are drawn with
    replacement, and for each of them, anew each time that it is drawn, its seeds and,
    for all of these together, its test texts; percentile interval. Two stages where the
    frame has no draws of texts. Drawing few units narrows an interval; drawing within
    units that are drawn themselves widens it, for what varies within is part of what
    varies between: where tasks are drawn and texts vary most, it covers more than its
    level. Written here, for scipy's bootstrap knows no nested units.

    Parameters
    ----------
    frame : Series or DataFrame
        Index (task, seed), or (task, seed, draw) from :func:`redrawn`.
    statistic : callable
        Takes the means over seeds, an array of shape (tasks,) or (tasks, columns), and
        gives a number; by default their mean, so that every task counts alike.
    tasks : bool
        Whether tasks are drawn as well: yes for what is said of tasks in general, no
        for a count over the very tasks at hand.
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
    parts = [
        part.to_numpy().reshape(part.index.unique("seed").size, -1, *part.shape[1:])
        for _, part in groups
    ]
    everyone = np.tile(np.arange(len(parts)), (resamples, 1))
    chosen = rng.integers(len(parts), size=everyone.shape) if tasks else everyone
    drawn = np.empty((*chosen.shape, *parts[0].shape[2:]))
    for number, part in enumerate(parts):
        (seeds, draws), here = part.shape[:2], chosen == number
        picked = rng.integers(seeds, size=(here.sum(), seeds))
        drawn[here] = part[
            picked, rng.integers(draws > 1, draws, size=(here.sum(), 1))
        ].mean(axis=1)
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
        ``equivalent``: the whole interval lies within the margin, whatever its sign;
        ``better`` or ``worse``: it lies above or below 0; ``inconclusive``: neither.
    """
    if max(-low, high) <= margin + TIE:
        return "equivalent"
    return "better" if low > TIE else "worse" if high < -TIE else "inconclusive"


def interval_text(mean, low, high, digits=1, signed=False):
    """Write a number with its interval, such as ``+5.9 [+3.2, +8.7]``, with true minus signs."""
    sign = "+" if signed else ""
    mean, low, high = (f"{number:{sign}z.{digits}f}" for number in (mean, low, high))
    return f"{mean} [{low}, {high}]".replace("-", "−")


def compare_pair(first, second):
    """Compare two scores on the same tasks and seeds.

    Parameters
    ----------
    first, second : Series
        Index (task, seed) or (task, seed, draw).

    Returns
    -------
    dict
        ``difference`` (mean over tasks) with ``low`` and ``high``, its 95% bootstrap
        interval; ``drawn``, what that draws; ``verdict``, see :func:`judge_difference`;
        ``ahead``, ``tied``, ``behind``: tasks by the sign of the mean over seeds;
        ``sign_test``: exact two-sided p of ``ahead`` against ``behind``, not corrected
        for the number of contrasts.
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
