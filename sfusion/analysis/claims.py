"""The scoreboard: the paper's claims, each with our number, its interval and a verdict.

A verdict follows from the interval by one rule: *supported* when the whole interval satisfies the
claim, *not supported* when none of it does, *undecided* when it does in part, *cannot be tested*
when the claim leaves out its definition. A claim of two parts is *partly* supported when one part
is and the other is not. Claims that count datasets (C1, C3, C6) are about the datasets at hand:
their intervals draw seeds alone, and from one seed nothing is decided. The others draw datasets and
seeds. The rule stood before the nine datasets were run. What three claims measure was changed after
that. C2 and C5 became harder questions: before, C2 would have been supported by twelve signals that
are all alike, and C5 by keeping the last layer alone. C6 was a mean difference, and counts datasets
now as the claim does.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sfusion.analysis.statistics import TIE
from sfusion.analysis.tables import (
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
from sfusion.pruning.strategies import IN_DATASET, STRATEGIES
from sfusion.signals import SIGNALS

PAPER_STRATEGIES = [
    name
    for name, s in STRATEGIES.items()
    if name in SIGNALS or (s.learned_from == IN_DATASET and s.reads == "signals")
]
COUNTING = ("C1", "C3", "C6")  # claims about the datasets at hand: seeds alone are drawn
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
    sign : str
        What stands before the needed number: how ours must lie to it, if that can be said.
    """

    statement: str
    standing: str
    measure: str
    sign: str


CLAIMS = {
    "C1": Claim(
        "Random-forest fusion has the highest maximum accuracy on 7 of 9 datasets and is "
        "near-optimal on the other 2",
        "author",
        "share of tasks on which random forest is best of the 14 strategies or tied",
        "≥",
    ),
    "C2": Claim(
        "There is no universal single signal: the best one differs between datasets",
        "author",
        "points of maximum accuracy, the signal that validation prefers on a task less the one "
        "it prefers on all",
        ">",
    ),
    "C3": Claim(
        "Distilled random-forest models exceed the original accuracy on 6 of 9 datasets and shrink "
        "the drop on the other 3",
        "author",
        "share of tasks on which the best distilled model beats the original",
        "≥",
    ),
    "C4": Claim(
        f'Distillation improves the accuracy-to-size ratio "by an average factor of {RATIO}"',
        "author",
        "largest fold change in accuracy per parameter, original to distilled",
        "no unit given:",
    ),
    "C5": Claim(
        "Good strategies keep the first and the last layer and prune the middle first",
        "summary",
        "correlation of keeping an end late with mean accuracy, the other end's step held fixed; "
        "the weaker end",
        ">",
    ),
    "C6": Claim(
        "Random forest beats linear regression on most datasets",
        "summary",
        "share of tasks on which random forest has the higher maximum accuracy",
        ">",
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


def _judge_above(number, threshold=0.0):
    """Judge "the number is above the threshold", where exactly that is no support."""
    _, low, high = number
    if low > threshold:
        return "supported"
    return "not supported" if high <= threshold else "undecided"


def both(first, second):
    """Turn the verdicts on two parts of a claim into one.

    Parameters
    ----------
    first, second : str
        See :func:`judge`.

    Returns
    -------
    {"supported", "partly", "undecided", "not supported"}
        ``partly``: one part is supported and the other is not, or is undecided.
    """
    parts = {first, second}
    if parts == {"supported"}:
        return "supported"
    if "supported" in parts:
        return "partly"
    return "not supported" if "not supported" in parts else "undecided"


def _share_won(column):
    return lambda means: np.mean(means[:, column] >= means.max(axis=1) - TIE)


def _share_near(column):
    return lambda means: np.mean(means[:, column] >= means.max(axis=1) - NEAR - TIE)


def _share_above(means):
    return np.mean(means[:, 0] > means[:, 1] + TIE)


def _share_shrunk(means):
    """Of the tasks whose distilled model stays below the original: where distilling helped."""
    taught, original, pruned = means.T
    below = taught <= original + TIE
    return np.mean(taught[below] > pruned[below] + TIE) if below.any() else 1.0


def gain_of_own_signal(table):
    """Hold the signal that validation prefers on a task against the one that it prefers on all.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.tables.protocols`.

    Returns
    -------
    Series
        Index (task, seed): highest test accuracy over the depths of the one less that of the
        other. Both are chosen by the mean over seeds of the highest validation accuracy, so a
        signal that only luck made the best on a task gains nothing here.
    """
    tested, seen = (wide(table, score)[list(SIGNALS)] for score in ("paper", "validation"))
    means = task_means(seen)
    one, own = means.mean().idxmax(), means.idxmax(axis=1)
    gains = [row[own[task]] - row[one] for (task, _), row in tested.iterrows()]
    return pd.Series(gains, index=tested.index)


def ends_and_accuracy(frame):
    """Put beside each walk how late it removes the ends and how accurate it stays.

    Parameters
    ----------
    frame : DataFrame
        From :func:`sfusion.analysis.tables.curves`.

    Returns
    -------
    DataFrame
        Index (task, seed, strategy): ``first`` and ``last``, the steps at which the first and
        the last layer go, and ``area``, the mean test accuracy over the depths.
    """
    orders = removal_orders(frame)
    steps = orders.set_index([*UNIT, "strategy"])
    ends = {"first": 0, "last": orders["layer"].max()}
    table = pd.DataFrame({end: steps.loc[steps["layer"] == n, "step"] for end, n in ends.items()})
    return table.assign(area=protocols(frame).set_index([*UNIT, "strategy"])["area"])


def partial_correlations(walks):
    """Correlate each end's step with accuracy, the step of the other end held fixed.

    When one layer goes late the others go earlier, so plain correlations of the two ends would
    each carry the other's, with its sign turned.

    Parameters
    ----------
    walks : DataFrame
        Columns ``first``, ``last`` and ``area``, the walks of one task and seed.

    Returns
    -------
    Series
        ``first`` and ``last``: partial rank correlations; none where a column is constant.
    """
    rank = walks[["first", "last", "area"]].corr(method="spearman")
    found = {}
    for end, other in (("first", "last"), ("last", "first")):
        rest = (1 - rank.loc[end, other] ** 2) * (1 - rank.loc["area", other] ** 2)
        own = rank.loc[end, "area"] - rank.loc[end, other] * rank.loc["area", other]
        found[end] = own / np.sqrt(rest) if rest > TIE else np.nan
    return pd.Series(found)


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
    groups = frame.groupby([*UNIT, "condition"])
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
        means = frame.pivot_table(index="removed", columns="condition", values=f"{name}_ratio")
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
        ``needed`` (what the number would have to reach), ``verdict``, ``note``.
    """
    frame = curves(results)
    frame = frame[~frame["group"].isin(["control", "search"])]
    table = protocols(frame)
    scores = wide(table, "paper")
    fourteen = scores[PAPER_STRATEGIES]
    rows = {}

    forest = PAPER_STRATEGIES.index("random-forest")
    won = bootstrap(fourteen, _share_won(forest), tasks=False)
    near = bootstrap(fourteen, _share_near(forest), tasks=False)
    means = task_means(fourteen)
    gap = means.max(axis=1) - means["random-forest"]
    linear = _share_won(PAPER_STRATEGIES.index("linear-regression"))(means.to_numpy())
    note = (
        f"within {100 * NEAR:.0f} point of the best on {(gap <= NEAR + TIE).sum()} of {len(gap)} "
        f"tasks; linear regression best or tied on {linear * len(gap):.0f}"
    )
    verdict = both(judge(*won[1:], 7 / 9), judge(*near[1:], 1.0))
    rows["C1"] = (*won, 7 / 9, verdict, note)

    own = bootstrap(100 * gain_of_own_signal(table))
    means = task_means(scores[list(SIGNALS)])
    best = [
        " = ".join(STRATEGIES[n].title for n in means.columns[row >= row.max() - TIE])
        for _, row in means.iterrows()
    ]
    note = "highest on test, chance among it: " + "; ".join(
        f"{task}: {name}" for task, name in zip(means.index, best, strict=True)
    )
    rows["C2"] = (*own, 0.0, _judge_above(own), note)

    frames = distilled(results)
    arms = distillation_scores(results).set_index(UNIT)
    taught = arms[arms["condition"] == "distilled"]
    pair = pd.DataFrame({"taught": taught["paper"], "original": taught["original"]})
    above = bootstrap(pair, _share_above, tasks=False)
    pair["pruned"] = arms.loc[arms["condition"] == "pruned", "paper"]
    shrunk = bootstrap(pair, _share_shrunk, tasks=False)
    control = arms.loc[arms["condition"] == "same-steps", "paper"]
    extra = bootstrap(taught["paper"] - control)
    longer = frames[frames["condition"] == "original-same-steps"].set_index(UNIT)["test_accuracy"]
    longer = pd.DataFrame({"taught": taught["paper"], "original": longer})
    fair, low, high = bootstrap(longer, _share_above, tasks=False)
    note = (
        f"the drop shrinks on {shrunk[0]:.0%} of the others; highest accuracy less that of the "
        f"same steps without a teacher: {100 * extra[0]:+.2f} points "
        f"[{100 * extra[1]:+.2f}, {100 * extra[2]:+.2f}]; above an original that had the same "
        f"steps too: {fair:.2f} [{low:.2f}, {high:.2f}]"
    )
    verdict = both(judge(*above[1:], 6 / 9), judge(*shrunk[1:], 1.0))
    rows["C3"] = (*above, 6 / 9, verdict, note)

    folds = size_ratios(frames.rename(columns={"test_accuracy": "accuracy"}))
    folds = folds[folds["condition"] == "distilled"]
    deepest = folds[folds["removed"] == folds["removed"].max()]
    fold = bootstrap(deepest.set_index(UNIT)["parameters_ratio"])
    readings = ratio_readings(results)
    near = readings[(readings["distilled_percent"] - RATIO).abs() <= 5]
    where = sorted({f"{int(r.removed)} removed by {r.denominator}" for r in near.itertuples()})
    note = f"as per cent, within 5 of {RATIO}: " + ("; ".join(where) if where else "no reading")
    rows["C4"] = (*fold, RATIO, "cannot be tested", note + "; the paper gives no definition")

    kept = ends_and_accuracy(frame).groupby(UNIT).apply(partial_correlations)
    ends = {end: bootstrap(kept[end]) for end in kept}
    weaker = min(ends.values())
    note = "; ".join(
        f"{end} layer {number:.2f} [{low:.2f}, {high:.2f}]"
        for end, (number, low, high) in ends.items()
    )
    rows["C5"] = (*weaker, 0.0, both(*map(_judge_above, ends.values())), note)

    pair = scores[["random-forest", "linear-regression"]]
    ahead = bootstrap(pair, _share_above, tasks=False)
    difference = pair["random-forest"] - pair["linear-regression"]
    mean, low, high = (100 * number for number in bootstrap(difference))
    means = task_means(difference)
    note = f"behind on {(means < -TIE).sum()} of {len(means)}"
    note += f"; mean difference {mean:+.2f} points [{low:+.2f}, {high:+.2f}]"
    rows["C6"] = (*ahead, 0.5, _judge_above(ahead, 0.5), note)

    if results.tasks["seed"].nunique() == 1:
        for claim in COUNTING:
            *numbers, _, note = rows[claim]
            rows[claim] = (*numbers, "undecided", f"{note}; one seed gives no interval")

    columns = ["ours", "low", "high", "needed", "verdict", "note"]
    numbers = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    words = pd.DataFrame(
        {key: (c.statement, c.standing, c.measure) for key, c in CLAIMS.items()},
        index=["paper", "standing", "measure"],
    ).T
    return words.join(numbers).rename_axis("claim")
