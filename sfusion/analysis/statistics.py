"""Contrasts fixed before the nine datasets were run: what the fusions are worth, against what.

With nine datasets a table of all pairs of strategies says nothing: the critical difference of
fifteen methods is seven ranks (Demsar 2006), and Holm's correction over fourteen Wilcoxon tests
cannot reach .05. So the comparisons are few and named here, and each is an interval.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import wilcoxon

from sfusion.analysis.tables import (
    UNIT,
    best_single,
    bootstrap,
    curves,
    distilled,
    protocols,
    task_means,
)

BEST_SINGLE = "best-single"
MEASURES = {
    # name: what it is called in print
    "area": "mean over the depths",
    "honest": "depth chosen on validation",
}
FIXED_DEPTHS = (1, 2, 3, 4, 5)  # 2 to 4 were fixed in advance, 1 and 5 added to show the trend
TIE = 1e-9  # shares of whole samples: anything larger is a real difference


@dataclass(frozen=True)
class Contrast:
    """One comparison: ``first`` less ``second``, strategies or arms of the distillation."""

    title: str
    first: str
    second: str


CONTRASTS = {
    "single": Contrast("Random forest − best single signal", "random-forest", BEST_SINGLE),
    "random": Contrast("Random forest − random order", "random-forest", "random"),
    "top": Contrast("Random forest − top layers first", "random-forest", "top-first"),
    "oracle": Contrast("Random forest − greedy oracle", "random-forest", "greedy-oracle"),
    "teacher": Contrast("Distilled − same steps without teacher", "distilled", "same-steps"),
}
# Asked of the fusion after those: does it transfer, and does it know more than the position?
SCRUTINY = {
    "transfer": Contrast(
        "Forest of other datasets − own forest", "random-forest-transfer", "random-forest"
    ),
    "transfer-top": Contrast(
        "Forest of other datasets − top layers first", "random-forest-transfer", "top-first"
    ),
    "position": Contrast("Own forest − position alone", "random-forest", "random-forest-position"),
    "position-transfer": Contrast(
        "Forest of other datasets − position alone",
        "random-forest-transfer",
        "random-forest-position-transfer",
    ),
    "shuffled": Contrast(
        "Own forest − shuffled signals", "random-forest", "random-forest-shuffled"
    ),
    "shuffled-transfer": Contrast(
        "Forest of other datasets − shuffled signals",
        "random-forest-transfer",
        "random-forest-shuffled-transfer",
    ),
    "bottom": Contrast("Random forest − bottom layers first", "random-forest", "bottom-first"),
    "influence": Contrast("Random forest − Block Influence", "random-forest", "block-influence"),
    "angle": Contrast("Random forest − angular distance", "random-forest", "angular-distance"),
    "linear": Contrast("Random forest − linear regression", "random-forest", "linear-regression"),
}


def measured(frame):
    """Score every strategy of every task and seed, the best single signal among them.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`.

    Returns
    -------
    DataFrame
        Index (task, seed, name), random draws averaged; columns ``area``, ``honest`` and, for
        each of ``FIXED_DEPTHS`` there is, ``removed_<n>``: test accuracies as shares. The name
        ``best-single`` is the signal that validation prefers, see
        :func:`sfusion.analysis.tables.best_single`.
    """
    chosen = best_single(frame).assign(name=BEST_SINGLE, strategy=BEST_SINGLE)
    return _scores(pd.concat([frame, chosen], ignore_index=True))


def _scores(frame):
    keys = [*UNIT, "name"]
    scores = protocols(frame).groupby(keys)[list(MEASURES)].mean()
    fixed = frame[frame["removed"].isin(FIXED_DEPTHS)]
    fixed = fixed.pivot_table(index=keys, columns="removed", values="test_accuracy")
    return scores.join(fixed.add_prefix("removed_"))


def _arms(results):
    """Score the arms of the distillation as strategies are scored."""
    frame = distilled(results)
    return _scores(
        frame.assign(strategy=frame["condition"], name=frame["condition"], group="condition")
    )


def compare_pair(first, second):
    """Compare two scores on the same tasks and seeds.

    Parameters
    ----------
    first, second : Series
        Index (task, seed).

    Returns
    -------
    dict
        ``difference`` (mean over tasks) with ``low`` and ``high``, its 95% bootstrap interval
        over tasks and seeds; ``improvement`` with its interval: the probability that the first
        is better on a task and seed drawn at random, ties counted half; ``ahead``, ``tied``,
        ``behind``: tasks by the sign of the mean over seeds; ``wilcoxon``: exact two-sided p of
        the signed ranks of those means, not corrected for the number of contrasts.
    """
    difference = (first - second).dropna()
    better = (difference > TIE) + 0.5 * (difference.abs() <= TIE)
    means = task_means(difference)
    number, low, high = bootstrap(difference)
    share, share_low, share_high = bootstrap(better)
    untied = means[means.abs() > TIE].round(9)  # equal shares must tie exactly
    return {
        "difference": number,
        "low": low,
        "high": high,
        "improvement": share,
        "improvement_low": share_low,
        "improvement_high": share_high,
        "ahead": int((means > TIE).sum()),
        "tied": int((means.abs() <= TIE).sum()),
        "behind": int((means < -TIE).sum()),
        "wilcoxon": float(wilcoxon(untied).pvalue) if len(untied) else np.nan,
    }


def contrasts(results, which=None, measures=None):
    """Work out every contrast under every measure.

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
        A row a contrast and measure: ``contrast`` (its title), ``measure``, and the columns of
        :func:`compare_pair`. Contrasts whose strategies were not run are left out.
    """
    scores = pd.concat([measured(curves(results)), _arms(results)])
    scores = scores if measures is None else scores[measures]
    present = set(scores.index.get_level_values("name"))
    rows = []
    for contrast in (CONTRASTS if which is None else which).values():
        if not {contrast.first, contrast.second} <= present:
            continue
        first, second = (
            scores.xs(name, level="name") for name in (contrast.first, contrast.second)
        )
        rows += [
            {
                "contrast": contrast.title,
                "measure": measure,
                **compare_pair(first[measure], second[measure]),
            }
            for measure in scores
            if (first[measure] - second[measure]).notna().any()
        ]
    return pd.DataFrame(rows)


def across(studies, which=None):
    """Ask the same contrasts of several studies.

    Parameters
    ----------
    studies : dict of str to Results
        By what they are called in print; see :meth:`sfusion.records.results.Results.matching`.
    which : dict of str to Contrast, optional
        By default ``CONTRASTS``.

    Returns
    -------
    DataFrame
        Column ``study``, and those of :func:`contrasts`; the mean over the depths alone.
    """
    tables = {name: contrasts(results, which, ["area"]) for name, results in studies.items()}
    return pd.concat(tables, names=["study", None]).reset_index("study").reset_index(drop=True)
