"""The scoreboard: the paper's claims, each with our number, its interval and a verdict.

A verdict follows from the interval by a rule that is fixed here, before any run is looked at:
*supported* when the whole interval satisfies the claim, *not supported* when none of it does,
*undecided* when it does in part, *cannot be tested* when the claim leaves out its definition.
Claims that count datasets (C1 to C3) are about the datasets at hand: their intervals draw seeds
alone, and from one seed nothing is decided. The others draw datasets and seeds.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sfusion.analysis import (
    DENOMINATORS,
    UNIT,
    bootstrap,
    curves,
    distilled,
    protocols,
    removal_orders,
    size_ratios,
    task_means,
    wide,
)
from sfusion.contrasts import TIE
from sfusion.signals import SIGNALS
from sfusion.strategies import IN_DATASET, STRATEGIES

PAPER_STRATEGIES = [
    name
    for name, s in STRATEGIES.items()
    if name in SIGNALS or (s.learned_from == IN_DATASET and s.reads == "signals")
]
COUNTING = ("C1", "C2", "C3")  # claims about the datasets at hand: seeds alone are drawn
NEAR = 0.01  # what counts as near-optimal: one point of accuracy, declared here
RATIO = 18.84


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes
    ----------
    statement : str
        What the paper says.
    standing : str
        ``author``: the author's own words; ``summary``: a third party's, may be wrong.
    measure : str
        What our number is.
    """

    statement: str
    standing: str
    measure: str


CLAIMS = {
    "C1": Claim(
        "Random-forest fusion has the highest maximum accuracy on 7 of 9 datasets and is "
        "near-optimal on the other 2",
        "author",
        "share of tasks on which random forest is best of the 14 strategies or tied",
    ),
    "C2": Claim(
        "There is no universal single signal: the best one differs between datasets",
        "author",
        "largest share of tasks that any single signal wins or ties",
    ),
    "C3": Claim(
        "Distilled random-forest models exceed the original accuracy on 6 of 9 datasets",
        "author",
        "share of tasks on which the best distilled model beats the original",
    ),
    "C4": Claim(
        f'Distillation improves the accuracy-to-size ratio "by an average factor of {RATIO}"',
        "author",
        "largest fold change in accuracy per parameter, original to distilled",
    ),
    "C5": Claim(
        "Good strategies keep the first and the last layer and prune the middle first",
        "summary",
        "correlation of keeping the ends late with mean accuracy over the depths",
    ),
    "C6": Claim(
        "Random forest beats linear regression on most datasets",
        "summary",
        "points of maximum accuracy, mean of random forest less linear regression",
    ),
}


def judge(low, high, threshold):
    """Turn an interval into a verdict on "the number is at least the threshold".

    Parameters
    ----------
    low, high : float
        Ends of the interval.
    threshold : float

    Returns
    -------
    {"supported", "undecided", "not supported"}
    """
    if low >= threshold:
        return "supported"
    return "not supported" if high < threshold else "undecided"


def _judge_positive(number):
    """Judge "the number is above 0", where exactly 0 is no support."""
    _, low, high = number
    return "supported" if low > 0 else "not supported" if high <= 0 else "undecided"


def _share_won(column):
    return lambda means: np.mean(means[:, column] >= means.max(axis=1) - TIE)


def _largest_share_won(means):
    return (means >= means.max(axis=1, keepdims=True) - TIE).mean(axis=0).max()


def _share_above(means):
    return np.mean(means[:, 0] > means[:, 1] + TIE)


def ends_kept(orders):
    """Measure how late a strategy removes the first or the last layer.

    Parameters
    ----------
    orders : DataFrame
        From :func:`sfusion.analysis.removal_orders`.

    Returns
    -------
    Series
        Index (task, seed, strategy): the step at which the first of the two ends goes, as a
        share of the latest possible; 1 when both outlive the whole middle.
    """
    depth = orders["layer"].max() + 1
    ends = orders[orders["layer"].isin([0, depth - 1])]
    return ends.groupby([*UNIT, "strategy"])["step"].min() / (depth - 1)


def ends_and_accuracy(frame):
    """Put beside each walk how late it removes the ends and how accurate it stays.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.curves`.

    Returns
    -------
    DataFrame
        A row a task, seed and strategy: ``kept`` (see :func:`ends_kept`), ``area`` (mean test
        accuracy over the depths) less its mean over the strategies of that task and seed.
    """
    area = protocols(frame).set_index([*UNIT, "strategy"])["area"]
    centred = area - area.groupby(level=UNIT).transform("mean")
    return pd.DataFrame({"kept": ends_kept(removal_orders(frame)), "area": centred}).reset_index()


def distillation_scores(results):
    """Score the arms of the distillation as claim C3 does.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row a task, seed and arm: ``paper`` (highest test accuracy over the depths),
        ``honest`` (at the depth chosen on validation), ``original``.
    """
    frame = distilled(results)
    frame = frame[frame["removed"] > 0].sort_values(["validation_accuracy", "removed"])
    groups = frame.groupby([*UNIT, "arm"])
    return pd.DataFrame(
        {
            "paper": groups["test_accuracy"].max(),
            "honest": groups["test_accuracy"].last(),
            "original": groups["original"].first(),
        }
    ).reset_index()


def ratio_readings(results):
    """Work out what "factor of 18.84" could mean here.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row a denominator and number of removed layers: ``distilled`` and ``pruned``, fold
        change of accuracy over size against the original (mean over tasks and seeds);
        ``distilled_percent``, the same as per cent gained; ``over_pruned_percent``, what
        distillation adds to the pruned model's ratio, in per cent.
    """
    frame = distilled(results).rename(columns={"test_accuracy": "accuracy"})
    frame = size_ratios(frame)
    frame = frame[frame["removed"] > 0]
    rows = []
    for name, title in DENOMINATORS.items():
        means = frame.pivot_table(index="removed", columns="arm", values=f"{name}_ratio")
        for removed, row in means.iterrows():
            rows.append(
                {
                    "denominator": title,
                    "removed": removed,
                    "pruned": row["pruned"],
                    "distilled": row["distilled"],
                    "distilled_percent": 100 * (row["distilled"] - 1),
                    "over_pruned_percent": 100 * (row["distilled"] / row["pruned"] - 1),
                }
            )
    return pd.DataFrame(rows)


def scoreboard(results):
    """Hold every claim against the records.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Index claim; ``paper`` (the statement), ``standing``, ``measure``, ``ours`` (the
        number), ``low`` and ``high`` (95% bootstrap interval),
        ``claimed`` (what the number would have to reach), ``verdict``, ``note``.
    """
    frame = curves(results)
    frame = frame[~frame["group"].isin(["control", "search"])]
    scores = wide(protocols(frame), "paper")
    fourteen = scores[PAPER_STRATEGIES]
    rows = {}

    won = bootstrap(fourteen, _share_won(PAPER_STRATEGIES.index("random-forest")), tasks=False)
    means = task_means(fourteen)
    gap = means.max(axis=1) - means["random-forest"]
    linear = _share_won(PAPER_STRATEGIES.index("linear-regression"))(means.to_numpy())
    note = (
        f"within {100 * NEAR:.0f} point of the best on {(gap <= NEAR + TIE).sum()} of {len(gap)} "
        f"tasks; linear regression best or tied on {linear * len(gap):.0f}"
    )
    rows["C1"] = (*won, 7 / 9, judge(won[1], won[2], 7 / 9), note)

    singles = scores[list(SIGNALS)]
    universal = bootstrap(singles, _largest_share_won, tasks=False)
    means = task_means(singles)
    best = [
        " = ".join(STRATEGIES[n].title for n in means.columns[row >= row.max() - TIE])
        for _, row in means.iterrows()
    ]
    note = "best single signal: " + "; ".join(
        f"{task}: {name}" for task, name in zip(means.index, best, strict=True)
    )
    # The claim is that no signal wins everywhere, so the number must stay below 1.
    verdict = {"supported": "not supported", "not supported": "supported"}.get(
        judge(universal[1], universal[2], 1.0), "undecided"
    )
    rows["C2"] = (*universal, 1.0, verdict, note)

    arms = distillation_scores(results).set_index(UNIT)
    taught = arms[arms["arm"] == "distilled"]
    pair = pd.DataFrame({"taught": taught["paper"], "original": taught["original"]})
    above = bootstrap(pair, _share_above, tasks=False)
    control = arms.loc[arms["arm"] == "same-steps", "paper"]
    extra = bootstrap(taught["paper"] - control)
    note = (
        f"distilled less the same steps without a teacher: {100 * extra[0]:+.2f} points "
        f"[{100 * extra[1]:+.2f}, {100 * extra[2]:+.2f}]"
    )
    rows["C3"] = (*above, 6 / 9, judge(above[1], above[2], 6 / 9), note)

    folds = size_ratios(distilled(results).rename(columns={"test_accuracy": "accuracy"}))
    folds = folds[folds["arm"] == "distilled"]
    deepest = folds[folds["removed"] == folds["removed"].max()]
    fold = bootstrap(deepest.set_index(UNIT)["parameters_ratio"])
    readings = ratio_readings(results)
    near = readings[(readings["distilled_percent"] - RATIO).abs() <= 5]
    where = sorted({f"{int(r.removed)} removed by {r.denominator}" for r in near.itertuples()})
    note = f"as per cent, within 5 of {RATIO}: " + ("; ".join(where) if where else "no reading")
    rows["C4"] = (*fold, RATIO, "cannot be tested", note + "; the paper gives no definition")

    walks = ends_and_accuracy(frame).groupby(UNIT)[["kept", "area"]]
    ends = bootstrap(walks.apply(lambda walk: walk["kept"].corr(walk["area"], method="spearman")))
    spread = task_means(wide(protocols(frame), "area"))
    note = (
        "pruning order matters: best less worst strategy "
        f"{100 * float((spread.max(axis=1) - spread.min(axis=1)).mean()):.1f} points of mean "
        "accuracy over the depths"
    )
    rows["C5"] = (*ends, 0.0, _judge_positive(ends), note)

    difference = scores["random-forest"] - scores["linear-regression"]
    better = bootstrap(100 * difference)
    means = task_means(difference)
    note = f"random forest ahead on {(means > TIE).sum()} of {len(means)} tasks"
    note += f", behind on {(means < -TIE).sum()}"
    rows["C6"] = (*better, 0.0, _judge_positive(better), note)

    if results.tasks["seed"].nunique() == 1:
        for claim in COUNTING:
            *numbers, _, note = rows[claim]
            rows[claim] = (*numbers, "undecided", f"{note}; one seed gives no interval")

    columns = ["ours", "low", "high", "claimed", "verdict", "note"]
    numbers = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    words = pd.DataFrame(
        {key: (c.statement, c.standing, c.measure) for key, c in CLAIMS.items()},
        index=["paper", "standing", "measure"],
    ).T
    return words.join(numbers).rename_axis("claim")
