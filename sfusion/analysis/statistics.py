"""Statistics: intervals, and comparisons that were fixed in advance.

With nine datasets a table of all pairs of strategies says nothing: the critical
difference of fifteen methods is seven ranks (Demsar 2006), and Holm's correction over
fourteen Wilcoxon tests cannot reach .05. So the comparisons are few and were named
before the nine datasets were run, and each is an interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest, t

from sfusion.analysis.scores import task_means

TIE = 1e-9  # shares of whole samples: anything larger is a real difference

# Differences within one percentage point count as none: fixed before the runs.
MARGIN = 0.01


# Of so few datasets a percentile interval covers too little: t intervals stand beside.
FEW = 5

LEVEL = 0.95  # of every interval
ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)  # the quantiles of its ends
RESAMPLES = 2000
POWER = 0.8  # how often a study would show a difference that it is said to detect


class Interval(NamedTuple):
    """A number with the ends of its interval.

    Attributes
    ----------
    value, low, high : float
    """

    value: float
    low: float
    high: float

    def points(self) -> Interval:
        """Turn shares into percentage points."""
        return Interval(100 * self.value, 100 * self.low, 100 * self.high)

    def turned(self) -> Interval:
        """Look at a difference from its other side."""
        return Interval(-self.value, -self.high, -self.low)


def bootstrap(
    frame: pd.Series | pd.DataFrame,
    statistic: Callable[[np.ndarray], float] = np.mean,
    *,
    tasks: bool = True,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """Compute an interval of a statistic over datasets, seeds and test texts.

    Three stages (Davison and Hinkley 1997, section 3.8): datasets are drawn with
    replacement, and for each of them, anew each time that it is drawn, its seeds and,
    for all of these together, its test texts; percentile interval. Two stages where the
    frame has no draws of texts. Drawing few units narrows an interval; drawing within
    units that are drawn themselves widens it, for what varies within is part of what
    varies between: where datasets are drawn and texts vary most, it covers more than
    its level. Written here, for scipy's bootstrap knows no nested units.

    Parameters
    ----------
    frame : Series or DataFrame
        Index (task, seed), or (task, seed, draw) from
        :func:`sfusion.analysis.scores.redrawn`.
    statistic : callable
        Takes the means over seeds, an array of shape (tasks,) or (tasks, columns), and
        gives a number; by default their mean, so that every dataset counts alike.
    tasks : bool
        Whether datasets are drawn as well: yes for what is said of datasets in general,
        no for a count over the very datasets at hand.
    resamples : int
    level : float
    seed : int
        Of the generator.

    Returns
    -------
    Interval
        The statistic itself, and the ends of its interval.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for _, part in frame.sort_index().groupby(level="task"):
        seeds = part.index.unique("seed").size
        parts.append(part.to_numpy().reshape(seeds, -1, *part.shape[1:]))
    chosen = np.tile(np.arange(len(parts)), (resamples, 1))
    if tasks:
        chosen = rng.integers(len(parts), size=chosen.shape)
    drawn = np.empty((*chosen.shape, *parts[0].shape[2:]))
    for number, part in enumerate(parts):
        here = chosen == number
        drawn[here] = _seed_means(part, int(here.sum()), rng)
    if statistic is np.mean:  # by far the most frequent: all resamples at once
        found = drawn.reshape(resamples, -1).mean(axis=1)
    else:
        found = [statistic(values) for values in drawn]
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    value = statistic(task_means(frame).to_numpy())
    return Interval(float(value), float(low), float(high))


def _seed_means(part: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Average drawn seeds on drawn texts; ``part`` has shape (seeds, draws, ...)."""
    seeds, draws = part.shape[:2]
    picked_seeds = rng.integers(seeds, size=(count, seeds))
    # Draw 0 is what was observed, the others are draws of texts.
    first_draw = 1 if draws > 1 else 0
    picked_texts = rng.integers(first_draw, draws, size=(count, 1))
    return part[picked_seeds, picked_texts].mean(axis=1)


def bootstrapped(parts: Mapping[str, pd.Series] | pd.DataFrame) -> pd.DataFrame:
    """Tabulate the mean of several differences with their bootstrap intervals.

    Parameters
    ----------
    parts : mapping of str to Series, or DataFrame
        Index (task, seed) or (task, seed, draw); missing values are left out.

    Returns
    -------
    DataFrame
        Columns ``label``, ``value``, ``low`` and ``high``.
    """
    rows = []
    for label, part in parts.items():
        rows.append({"label": label, **bootstrap(part.dropna())._asdict()})
    return pd.DataFrame(rows)


def t_interval(frame: pd.Series) -> Interval:
    """Compute Student's interval of the mean over datasets.

    Parameters
    ----------
    frame : Series
        Index (task, seed) or (task, seed, draw): the means over seeds are the sample.

    Returns
    -------
    Interval
        Without ends, that is from minus to plus infinity, for one dataset.
    """
    means = task_means(frame)
    if len(means) < 2:
        return Interval(float(means.mean()), -np.inf, np.inf)
    reach = t.ppf(ENDS[1], len(means) - 1) * means.sem()
    return Interval(float(means.mean()), means.mean() - reach, means.mean() + reach)


def careful_interval(frame: pd.Series) -> Interval:
    """Compute the bootstrap interval, or where datasets are few the smaller claim.

    Parameters
    ----------
    frame : Series
        Index (task, seed) or (task, seed, draw).

    Returns
    -------
    Interval
        From two to ``FEW`` datasets each end is that of the bootstrap or of Student's
        interval, whichever lies further from the mean.
    """
    drawn = bootstrap(frame)
    if not 1 < frame.index.unique("task").size <= FEW:
        return drawn
    student = t_interval(frame)
    low = min(drawn.low, student.low)
    return Interval(drawn.value, low, max(drawn.high, student.high))


def detectable(frame: pd.Series) -> float:
    """Compute the difference that so many datasets would show.

    Parameters
    ----------
    frame : Series
        A difference, index (task, seed) or (task, seed, draw): its means over seeds
        vary between datasets as those of another study would.

    Returns
    -------
    float
        In the unit of the differences: the sum of the quantiles of Student's
        distribution at both probabilities, times the standard error (declared here).
    """
    means = task_means(frame)
    freedom = len(means) - 1
    if freedom < 1:
        return np.inf
    reach = t.ppf(ENDS[1], freedom) + t.ppf(POWER, freedom)
    return float(reach * means.sem())


def grouped_mean(values: pd.Series) -> Interval:
    """Average values that all count alike, with an interval over their datasets.

    Parameters
    ----------
    values : Series
        Index with a level ``task``: datasets are drawn with replacement, each with all
        of its values, so that a dataset of many values counts more.

    Returns
    -------
    Interval
    """
    sums = values.groupby(level="task").agg(["sum", "size"]).to_numpy()
    rng = np.random.default_rng(0)
    totals = sums[rng.integers(len(sums), size=(RESAMPLES, len(sums)))].sum(axis=1)
    low, high = np.quantile(totals[:, 0] / totals[:, 1], ENDS)
    return Interval(float(values.mean()), float(low), float(high))


def units(frame: pd.Series | pd.DataFrame, tasks: bool = True) -> str:
    """Name what :func:`bootstrap` draws.

    Parameters
    ----------
    frame : Series or DataFrame
    tasks : bool

    Returns
    -------
    str
        Such as ``datasets, seeds and texts``.
    """
    has_texts = "draw" in frame.index.names and len(frame.index.unique("draw")) > 1
    if not tasks:
        return "seeds and texts" if has_texts else "seeds"
    return "datasets, seeds and texts" if has_texts else "datasets and seeds"


def judge_difference(low: float, high: float) -> str:
    """Say what an interval of a difference shows, by a margin fixed in advance.

    Parameters
    ----------
    low, high : float
        Ends of the interval, shares of accuracy.

    Returns
    -------
    {"equivalent", "better", "worse", "inconclusive"}
        ``equivalent``: the whole interval lies within the margin, whatever its sign;
        ``better`` or ``worse``: it lies above or below 0; ``inconclusive``: neither.
    """
    if max(-low, high) <= MARGIN + TIE:
        return "equivalent"
    if low > TIE:
        return "better"
    if high < -TIE:
        return "worse"
    return "inconclusive"


def verdict_text(low: float, high: float) -> str:
    """Say in plain words what :func:`judge_difference` decides, and who is ahead.

    Parameters
    ----------
    low, high : float
        Ends of the interval, shares of accuracy.

    Returns
    -------
    {"ahead", "behind", "ahead, by less than 1 pp", "behind, by less than 1 pp", \
"no difference of 1 pp or more", "cannot tell"}
    """
    verdict = judge_difference(low, high)
    if verdict == "inconclusive":
        return "cannot tell"
    if verdict == "equivalent" and low <= TIE and high >= -TIE:
        return f"no difference of {100 * MARGIN:g} pp or more"
    side = "ahead" if low > TIE else "behind"
    if verdict == "equivalent":
        return f"{side}, by less than {100 * MARGIN:g} pp"
    return side


def comparison_text(difference: float, low: float, high: float, digits: int = 1) -> str:
    """Write a difference of accuracies in words, with its interval.

    Parameters
    ----------
    difference, low, high : float
        A difference and the ends of its interval, shares of accuracy.
    digits : int

    Returns
    -------
    str
        Such as ``ahead by 0.6 pp [0.2, 1.1]`` or, where no side is ahead, with signs:
        ``no difference of 1 pp or more (+0.1 pp [−0.4, +0.6])``.
    """
    words = verdict_text(low, high)
    found = Interval(difference, low, high)
    if words == "ahead":
        return f"ahead by {points_text(found, digits)}"
    if words == "behind":
        return f"behind by {points_text(found.turned(), digits)}"
    return f"{words} ({points_text(found, digits, signed=True)})"


def points_text(found: Interval, digits: int = 1, *, signed: bool = False) -> str:
    """Write a difference of accuracies in percentage points, with its interval.

    Parameters
    ----------
    found : Interval
        Shares of accuracy.
    digits : int
        One more is written where an end would read as 0 and is not.
    signed : bool
        Whether a plus sign is written.

    Returns
    -------
    str
        Such as ``0.6 pp [0.2, 1.1]``.
    """
    points = found.points()
    for end in (points.low, points.high):
        if abs(end) > 100 * TIE and round(end, digits) == 0:
            digits += 1
            break
    text = interval_text(*points, digits=digits, signed=signed)
    value, ends = text.split(" ", 1)
    return f"{value} pp {ends}"


def number_text(number: float, digits: int = 1) -> str:
    """Write a number with its sign, such as ``+5.9``, a minus sign being a true one.

    Parameters
    ----------
    number : float
    digits : int

    Returns
    -------
    str
    """
    return f"{number:+z.{digits}f}".replace("-", "−")


def difference_text(first: pd.Series, second: pd.Series) -> str:
    """Compare two scores in words.

    Parameters
    ----------
    first, second : Series
        Index (task, seed) or (task, seed, draw), shares.

    Returns
    -------
    str
        See :func:`comparison_text`.
    """
    return comparison_text(*careful_interval((first - second).dropna()))


def interval_text(
    mean: float, low: float, high: float, *, digits: int = 1, signed: bool = False
) -> str:
    """Write a number with its interval, with true minus signs.

    Parameters
    ----------
    mean, low, high : float
    digits : int
    signed : bool
        Whether a plus sign is written.

    Returns
    -------
    str
        Such as ``+5.9 [+3.2, +8.7]``.
    """
    form = f"{'+' if signed else ''}z.{digits}f"
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]".replace("-", "−")


def compare_pair(first: pd.Series, second: pd.Series) -> dict[str, Any]:
    """Compare two scores on the same datasets and seeds.

    Parameters
    ----------
    first, second : Series
        Index (task, seed) or (task, seed, draw), shares.

    Returns
    -------
    dict
        ``difference`` (mean over datasets) with ``low`` and ``high``, its 95% interval,
        see :func:`careful_interval`; ``drawn``, what that draws; ``detectable``, see
        :func:`detectable`; ``verdict``, see :func:`judge_difference`;
        ``ahead``, ``tied``, ``behind``: datasets by the sign of the mean over seeds;
        ``sign_test``: exact two-sided p of ``ahead`` against ``behind``, not corrected
        for the number of contrasts.
    """
    difference = (first - second).dropna()
    means = task_means(difference)
    ahead = int((means > TIE).sum())
    behind = int((means < -TIE).sum())
    found = careful_interval(difference)
    sign_test = 1.0
    if ahead + behind > 0:
        sign_test = binomtest(ahead, ahead + behind).pvalue
    return {
        "difference": found.value,
        "low": found.low,
        "high": found.high,
        "drawn": units(difference),
        "detectable": detectable(difference),
        "verdict": judge_difference(found.low, found.high),
        "ahead": ahead,
        "tied": len(means) - ahead - behind,
        "behind": behind,
        "sign_test": sign_test,
    }
