"""The paper's six claims, each measured on the records of a study.

Claims that count datasets (C1, C3, C6) are about the datasets at hand: their intervals
draw seeds, not datasets, and from one seed nothing is decided. The others draw datasets
and seeds. All draw test texts too, where the records hold a bit per text. The rule of
the verdicts stood before the nine datasets were run. What three claims measure was
changed after that: C2 could not fail while any two signals differed; C5 asked how late
a strategy removes the ends, which the last layer alone decided, then sets of layers
that were all trained, whatever else they keep, and now each end among the sets that
keep the other; C6 was a mean difference, and counts datasets now as the
claim does. :func:`sfusion.analysis.scoreboard.first_measures` computes both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import pandas as pd

from sfusion.analysis.layer_sets import (
    BOTH_ENDS,
    FIRST_END,
    LAST_END,
    ends_kept,
    redrawn_gain,
    trained_sets,
)
from sfusion.analysis.scores import (
    distilled,
    half_of,
    observed,
    protocols,
    redrawn,
    require,
    task_means,
    wide,
)
from sfusion.analysis.sizes import ratio_table
from sfusion.analysis.statistics import (
    MARGIN,
    TIE,
    Interval,
    bootstrap,
    compare_pair,
    interval_text,
    number_text,
    units,
)
from sfusion.experiments.results import Results
from sfusion.pruning.strategies import STRATEGIES
from sfusion.signals import PAPER_SIGNALS

FOREST = "random-forest"
LINE = "linear-regression"
PAPER_STRATEGIES = [*PAPER_SIGNALS, LINE, FOREST]

RATIO = 18.84

UNTESTABLE = "cannot be tested"


@dataclass(frozen=True)
class Answer:
    """What the records of a study answer to a claim.

    Attributes
    ----------
    ours, low, high : float
        The number, and its 95% bootstrap interval.
    needed : float
        What the number has to reach.
    verdict : str
        See :func:`judge` and :func:`judge_both`.
    note : str
        What belongs beside the number.
    drawn : str
        What the interval draws.
    short : str
        What is found, with its unit, in a clause.
    """

    ours: float
    low: float
    high: float
    needed: float
    verdict: str
    note: str
    drawn: str
    short: str = ""


class Evidence:
    """The records that claims are measured on, each view of them computed once.

    Parameters
    ----------
    results : Results
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.datasets: int = results.tasks["task"].nunique()
        self.seeds: int = results.tasks["seed"].nunique()

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Rows of :meth:`Results.curves` of the paper's fourteen strategies."""
        frame = self.results.curves()
        return frame[frame["name"].isin(PAPER_STRATEGIES)]

    @cached_property
    def highest(self) -> pd.DataFrame:
        """Highest test accuracy over the depths: the paper's score, chosen on test."""
        pruned = self.curves[self.curves["removed"] > 0]
        return _highest(redrawn(pruned, ["name", "removed"]), "name")

    @cached_property
    def distilled(self) -> pd.DataFrame:
        """Rows of :func:`distilled`."""
        return distilled(self.results)

    def scores(self, names: Sequence[str]) -> pd.DataFrame:
        """Select columns of :attr:`highest`.

        Parameters
        ----------
        names : sequence of str

        Returns
        -------
        DataFrame

        Raises
        ------
        StudyLacks
            When a strategy was not run.
        """
        require(self.highest, *names)
        return self.highest[list(names)]


def judge(low: float, high: float, threshold: float, above: bool = False) -> str:
    """Turn an interval into a verdict on "the number is at least the threshold".

    Parameters
    ----------
    low, high : float
        Ends of the interval.
    threshold : float
    above : bool
        Whether the number must be above it: exactly that is no support then.

    Returns
    -------
    {"supported", "undecided", "not supported"}
    """
    if low > threshold or (low == threshold and not above):
        return "supported"
    if high < threshold or (high == threshold and above):
        return "not supported"
    return "undecided"


def judge_both(first: str, second: str) -> str:
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
    if first == second:
        return first
    return "partly" if "supported" in (first, second) else "not supported"


def forest_is_best(evidence: Evidence) -> Answer:
    """C1: count the datasets where random forest is the best of fourteen, or tied.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    Answer
    """
    fourteen = evidence.scores(PAPER_STRATEGIES)
    wins = partial(_share_won, column=PAPER_STRATEGIES.index(FOREST))
    won = bootstrap(fourteen, wins, tasks=False)
    near = bootstrap(fourteen, partial(wins, within=MARGIN), tasks=False)
    means = task_means(fourteen)
    behind = means.max(axis=1) - means[FOREST]
    line_wins = _share_won(means.to_numpy(), PAPER_STRATEGIES.index(LINE))
    near_count = (behind <= MARGIN + TIE).sum()
    near_text = f"{near_count} of {len(means)}"
    near_best = f"within {100 * MARGIN:.0f} pp of the best on {near_text}"
    note = (
        f"{_seed_by_seed(fourteen, wins)}; {near_best}; "
        f"linear regression best or tied on {line_wins * len(means):.0f}"
    )
    short = f"best or tied on {count_text(evidence, won.value)} datasets, {near_best}"
    verdict = judge_both(judge(*won[1:], 7 / 9), judge(*near[1:], 1.0))
    answer = Answer(*won, 7 / 9, verdict, note, _drawn(fourteen), short)
    return _counted(evidence, answer)


def own_signal_gains(evidence: Evidence) -> Answer:
    """C2: measure what a dataset gains by a best signal of its own.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    Answer
    """
    scores = evidence.scores(PAPER_SIGNALS)
    gain = bootstrap(100 * gain_of_own_signal(evidence.curves, scores))
    best = []
    for task, row in task_means(scores).iterrows():
        names = row.index[row >= row.max() - TIE]
        titles = " = ".join(STRATEGIES[name].title for name in names)
        best.append(f"{task}: {titles}")
    note = "highest on test, chance included: " + "; ".join(best)
    short = (
        f"{interval_text(*gain, digits=2, signed=True)} pp more from a signal chosen "
        "for the dataset than from one for all"
    )
    verdict = judge(*gain[1:], 0.0, above=True)
    return Answer(*gain, 0.0, verdict, note, units(scores), short)


def gain_of_own_signal(frame: pd.DataFrame, scores: pd.DataFrame) -> pd.Series:
    """Compare the signal that validation prefers on a dataset with the one for all.

    Parameters
    ----------
    frame : DataFrame
        From :meth:`Results.curves`.
    scores : DataFrame
        Highest test accuracy over the depths, a column per signal, index (task, seed)
        or (task, seed, draw).

    Returns
    -------
    Series
        The same index: highest test accuracy over the depths of the one minus that of
        the other. Both are chosen by the mean over seeds of the highest validation
        accuracy, so a signal that only luck made the best on a dataset gains nothing.
    """
    validation = wide(protocols(frame), "validation_accuracy")[[*PAPER_SIGNALS]]
    means = task_means(validation)
    own = means.idxmax(axis=1)
    common = means.mean().idxmax()
    gains = []
    for task, part in scores.groupby(level="task"):
        gains.append(part[own[task]] - part[common])
    return pd.concat(gains)


def distilled_beat_original(evidence: Evidence) -> Answer:
    """C3: count the datasets where the best distilled model beats the original.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    Answer
    """
    by_depth = redrawn(evidence.distilled, ["condition", "removed"])
    scores = _highest(by_depth, "condition")
    pair = scores[["distilled", "original"]]
    trio = scores[["distilled", "original", "pruned"]]
    fair_pair = scores[["distilled", "original-same-steps"]]
    above = bootstrap(pair, _share_above, tasks=False)
    shrunk = bootstrap(trio, _share_shrunk, tasks=False)
    by_teacher = bootstrap(scores["distilled"] - scores["same-steps"]).points()
    fair = bootstrap(fair_pair, _share_above, tasks=False)
    counted = compare_pair(pair["distilled"], pair["original"])
    seed_by_seed = f"{_seed_by_seed(pair, _share_above)} above"
    rest = evidence.datasets - counted["ahead"]
    shrinks = round(shrunk.value * rest)
    note = (
        f"by means over seeds {counted['ahead']} above, {counted['tied']} just equal "
        f"and {counted['behind']} below; {seed_by_seed}; "
        f"exact sign test p = {counted['sign_test']:.2f}; "
        f"the drop shrinks on {shrunk[0]:.0%} of the others; highest accuracy minus "
        "that of the same steps without a teacher: "
        f"{interval_text(*by_teacher, digits=2, signed=True)} percentage points; "
        "above an original that had the same steps too: "
        f"{interval_text(*fair, digits=2)}"
    )
    short = (
        f"above the original on {count_text(evidence, above.value)} datasets by means "
        f"over seeds ({seed_by_seed}); the drop shrinks on {shrinks} of the other "
        f"{rest}"
    )
    verdict = judge_both(judge(*above[1:], 6 / 9), judge(*shrunk[1:], 1.0))
    answer = Answer(*above, 6 / 9, verdict, note, _drawn(pair), short)
    return _counted(evidence, answer)


def largest_ratio(evidence: Evidence) -> Answer:
    """C4: measure by what factor distillation improves the accuracy-to-size ratio.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    Answer
    """
    frame = evidence.distilled
    smallest = frame["removed"] == frame["removed"].max()
    taught = smallest & (frame["condition"] == "distilled")
    rows = frame[taught | (frame["condition"] == "original")]
    accuracy = redrawn(rows, ["condition"])
    sizes = rows.pivot_table(index="task", columns="condition", values="parameters")
    kept = accuracy["distilled"] / accuracy["original"]
    shrunk = sizes["original"] / sizes["distilled"]
    fold = bootstrap(kept.mul(shrunk, level="task"))
    readings = ratio_table(evidence.distilled)
    near = readings[(readings["distilled_percent"] - RATIO).abs() <= 5]
    places = near["removed"].astype(str) + " removed by " + near["denominator"]
    found = "; ".join(sorted(set(places))) or "no reading"
    note = f"as per cent, within 5 of {RATIO}: {found}; the paper gives no definition"
    short = (
        f"accuracy per parameter grows to at most {interval_text(*fold, digits=2)} "
        "times the original's"
    )
    return Answer(*fold, RATIO, UNTESTABLE, note, units(accuracy), short)


def ends_are_worth_keeping(evidence: Evidence) -> Answer:
    """C5: measure what keeping each end gains among the sets that keep the other.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    Answer
        Of the end that gains less, with half of the layers removed.
    """
    table = ends_kept(evidence.results)
    depth = evidence.results.depth
    conditional = table[table["what"] != BOTH_ENDS]
    half = half_of(sorted(set(conditional["removed"])), depth)
    found = []
    notes = []
    gains = []
    for end, what in {"first": FIRST_END, "last": LAST_END}.items():
        rows = conditional[conditional["what"] == what]
        halved = rows[rows["removed"] == half].iloc[0]
        gain = Interval(halved["value"], halved["low"], halved["high"])
        found.append(gain)
        by_depth = ", ".join(number_text(one) for one in rows["value"])
        text = f"{end} layer {interval_text(*gain, signed=True)}"
        where = f"{halved['ahead']} of {halved['datasets']} datasets"
        gains.append(f"{text} pp (above 0 on {where})")
        notes.append(f"{text}, on {where}, by number of removals {by_depth}")
    both = table[(table["what"] == BOTH_ENDS) & (table["removed"] == half)].iloc[0]
    text = interval_text(both["value"], both["low"], both["high"], signed=True)
    notes.append(f"both ends against all other sets {text}")
    notes.append(_main_effects(evidence.results, half))
    tasks = ", ".join(sorted(set(trained_sets(evidence.results)["task"])))
    note = f"{'; '.join(notes)}; layers removed: {half}; on {tasks}"
    removed = "1 layer" if half == 1 else f"{half} layers"
    short = (
        f"with {removed} removed, gain of keeping one end among sets that keep the "
        f"other: {', '.join(gains)}"
    )
    verdict = judge_both(*(judge(*gain[1:], 0.0, above=True) for gain in found))
    return Answer(*min(found), 0.0, verdict, note, both["drawn"], short)


def _main_effects(results: Results, removed: int) -> str:
    """Say what the ends gain whatever else is kept: what C5 measured before."""
    sets = trained_sets(results)
    halved = sets[sets["removed"] == removed]
    last = results.depth - 1
    effects = []
    for end in (0, last):
        effects.append(bootstrap(100 * redrawn_gain(halved, end)[removed]))
    verdict = judge_both(*(judge(*gain[1:], 0.0, above=True) for gain in effects))
    texts = " and ".join(interval_text(*gain, signed=True) for gain in effects)
    return f"as main effects, whatever the set keeps else, {texts}: {verdict}"


def forest_beats_line(evidence: Evidence) -> Answer:
    """C6: count the datasets where random forest beats linear regression.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    Answer
    """
    pair = evidence.scores([FOREST, LINE])
    ahead = bootstrap(pair, _share_above, tasks=False)
    difference = bootstrap(pair[FOREST] - pair[LINE]).points()
    found = compare_pair(pair[FOREST], pair[LINE])
    note = (
        f"{_seed_by_seed(pair, _share_above)}; behind on {found['behind']} of "
        f"{evidence.datasets}; exact sign test p = {found['sign_test']:.2f}; "
        f"mean difference {interval_text(*difference, digits=2, signed=True)} "
        "percentage points"
    )
    verdict = judge(*ahead[1:], 0.5, above=True)
    short = f"ahead on {count_text(evidence, ahead.value)} datasets"
    answer = Answer(*ahead, 0.5, verdict, note, _drawn(pair), short)
    return _counted(evidence, answer)


COUNTING = ("C1", "C3", "C6")  # about the datasets at hand: seeds alone are drawn

MEASURES: dict[str, Callable[[Evidence], Answer]] = {
    "C1": forest_is_best,
    "C2": own_signal_gains,
    "C3": distilled_beat_original,
    "C4": largest_ratio,
    "C5": ends_are_worth_keeping,
    "C6": forest_beats_line,
}


def count_text(evidence: Evidence, share: float) -> str:
    """Write a share of the datasets as a count, such as ``4 of 9``.

    Parameters
    ----------
    evidence : Evidence
    share : float

    Returns
    -------
    str
    """
    return f"{share * evidence.datasets:.0f} of {evidence.datasets}"


def _counted(evidence: Evidence, answer: Answer) -> Answer:
    """Leave a count of datasets undecided where one seed gives no interval."""
    if evidence.seeds > 1:
        return answer
    note = f"{answer.note}; one seed gives no interval over seeds"
    return replace(answer, verdict="undecided", note=note)


def _drawn(scores: pd.DataFrame) -> str:
    return units(scores, tasks=False)


def _highest(by_depth: pd.DataFrame, level: str) -> pd.DataFrame:
    return by_depth.T.groupby(level=level).max().T


def _seed_by_seed(scores: pd.DataFrame, share: Callable) -> str:
    """Count datasets in every seed alone, which is what one run would have found."""
    counts = []
    for _, part in observed(scores).groupby(level="seed"):
        counts.append(f"{len(part) * share(part.to_numpy()):.0f}")
    return f"seed by seed {', '.join(counts)}"


def _share_won(means: np.ndarray, column: int, within: float = 0.0) -> float:
    best = means.max(axis=1)
    return float(np.mean(means[:, column] >= best - within - TIE))


def _share_above(means: np.ndarray) -> float:
    return float(np.mean(means[:, 0] > means[:, 1] + TIE))


def _share_shrunk(means: np.ndarray) -> float:
    """Of the datasets that stay below the original: on how many distilling helped."""
    taught, original, pruned = means.T
    below = taught <= original + TIE
    if not below.any():
        return 1.0
    return float(np.mean(taught[below] > pruned[below] + TIE))
