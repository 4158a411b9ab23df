"""Intervals, and comparisons in words."""

import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.stats import binomtest

from sfusion.analysis.scores import observed, redrawn
from sfusion.analysis.statistics import (
    bootstrap,
    bootstrapped,
    careful_interval,
    compare_pair,
    comparison_text,
    detectable,
    interval_text,
    judge_difference,
    t_interval,
    units,
    verdict_text,
)


def series(values):
    """Index values by (task, seed): a list for each task."""
    flat = {}
    for task, seeds in enumerate(values):
        for seed, value in enumerate(seeds):
            flat[f"t{task}", seed] = value
    return pd.Series(flat).rename_axis(["task", "seed"])


def test_of_one_text_there_is_one_draw():
    rows = []
    for seed in range(3):
        rows += [("t", seed, "energy", [0]), ("u", seed, "energy", [1])]
    scores = redrawn(tiny.rows_of_bits(rows), ["name"])["energy"]
    assert bootstrap(scores) == (0.5, 0.0, 1.0)
    assert bootstrap(scores, tasks=False) == (0.5, 0.5, 0.5)
    assert units(scores) == "datasets, seeds and texts"
    assert units(observed(scores), tasks=False) == "seeds"


# Standard deviations of tasks and seeds, what is drawn, and the level: shares of
# intervals that cover the truth.
NESTED = [
    (0.05, 0.02, True, True, 0.95, 0.91, 0.99),
    # Texts vary most: drawn twice over, an interval is too wide.
    (0.01, 0.01, True, True, 0.95, 0.96, 1.0),
    (0.05, 0.01, False, True, 0.95, 0.9, 0.98),
    # Of the tasks at hand, seeds alone do not show what texts do.
    (0.05, 0.01, False, False, 0.95, 0.1, 0.4),
    # Binomial, 200 draws: deviations of 7 at one half, 3 at 95%; the percentile
    # interval of nine tasks is known to be a little narrow.
    (0.05, 0.015, True, False, 0.5, 0.4, 0.6),
    (0.05, 0.015, True, False, 0.95, 0.86, 0.99),
    (0.03, 0.06, True, False, 0.5, 0.4, 0.6),
    (0.03, 0.06, True, False, 0.95, 0.86, 0.99),
]


@pytest.mark.parametrize("between, within, tasks, texts, level, low, high", NESTED)
def test_the_interval_covers_the_truth_about_as_often_as_it_says(
    between, within, tasks, texts, level, low, high
):
    rng = np.random.default_rng(0)
    draws = rng.multinomial(200, np.full(200, 1 / 200), 100).T
    counts = np.hstack([np.ones((200, 1)), draws]) / 200
    names = ["task", "seed", "draw"]
    index = pd.MultiIndex.from_product([range(9), range(5), range(101)], names=names)
    covered = 0
    for _ in range(200):
        means = 0.7 + between * rng.normal(size=(9, 1, 1))
        # One difficulty per text: a harder text is harder for every seed.
        right = rng.random((9, 1, 200)) < means + within * rng.normal(size=(9, 5, 1))
        scores = pd.Series((right.reshape(9, 5, 200) @ counts).ravel(), index)
        if not texts:
            scores = observed(scores)
        found = bootstrap(scores, tasks=tasks, level=level, resamples=200)
        truth = 0.7 if tasks else means.mean()
        covered += found.low <= truth <= found.high
    assert low <= covered / 200 <= high


@pytest.mark.parametrize(
    "values, tasks, found",
    [
        # Both tasks are drawn alike with probability 1/4: more than the tail of 2.5% at
        # either end.
        ([[0.0, 0.0], [1.0, 1.0]], True, (0.5, 0.0, 1.0)),
        ([[0.0] * 4, [1.0]], True, (0.5, 0.0, 1.0)),  # every task counts alike
        ([[0.0, 1.0]], True, (0.5, 0.0, 1.0)),
        ([[0.3]], True, (0.3, 0.3, 0.3)),
        ([[1 / 3] * 3] * 4, True, pytest.approx((1 / 3, 1 / 3, 1 / 3), abs=1e-15)),
        # Of the tasks at hand only seeds are drawn.
        ([[0.0, 0.0], [1.0, 1.0]], False, (0.5, 0.5, 0.5)),
        ([[0.0, 1.0], [1.0, 1.0]], False, (0.75, 0.5, 1.0)),
    ],
)
def test_the_bootstrap_resamples_tasks_and_seeds_within_a_task(values, tasks, found):
    assert bootstrap(series(values), tasks=tasks) == found


def test_the_bootstrap_has_a_generator_of_its_own():
    data = series(np.random.default_rng(0).normal(size=(5, 3)).tolist())
    state = np.random.get_state()[1].copy()
    found = bootstrap(data)
    assert found == bootstrap(data)
    other = bootstrap(data, seed=1)
    assert found.value == other.value
    assert found != other
    assert (np.random.get_state()[1] == state).all()


def test_a_task_that_is_drawn_twice_draws_its_seeds_twice():
    # Of one task alone all that varies is its seeds: drawn twice, their mean varies
    # half as much.
    seeds = np.random.default_rng(0).normal(size=6).tolist()
    table = bootstrapped({"one": series([seeds]), "eight": series([seeds] * 8)})
    widths = table["high"] - table["low"]
    assert widths[1] == pytest.approx(widths[0] / 8**0.5, rel=0.1)


def test_the_bootstrap_of_a_statistic_of_columns():
    columns = {
        "a": series([[1.0, 1.0], [0.0, 0.0]]),
        "b": series([[0.0, 0.0], [0.5, 0.5]]),
    }
    frame = pd.DataFrame(columns)
    share = bootstrap(frame, lambda means: np.mean(means[:, 0] > means[:, 1]))
    assert share == (0.5, 0.0, 1.0)
    assert bootstrap(frame, lambda means: means[:, 0].min() - 1) == (-1.0, -1.0, 0.0)


def test_pairs_are_counted_by_hand():
    first = series([[0.5, 0.7], [0.6, 0.6], [0.9, 0.4]])
    second = series([[0.4, 0.5], [0.6, 0.6], [0.6, 0.8]])
    found = compare_pair(first, second)
    assert found["difference"] == pytest.approx(np.mean([0.15, 0.0, -0.05]))
    assert (found["ahead"], found["tied"], found["behind"]) == (1, 1, 1)
    assert found["sign_test"] == binomtest(1, 2).pvalue
    assert found["low"] <= found["difference"] <= found["high"]
    same = compare_pair(first, first)
    assert same["difference"] == same["low"] == same["high"] == 0
    assert (same["sign_test"], same["verdict"]) == (1.0, "equivalent")


@pytest.mark.parametrize(
    "low, high, verdict, words",
    [
        (-0.01, 0.01, "equivalent", "no difference of 1 pp or more"),
        # A difference, but none that matters.
        (0.002, 0.009, "equivalent", "ahead, by less than 1 pp"),
        (-0.009, -0.002, "equivalent", "behind, by less than 1 pp"),
        (0.001, 0.02, "better", "ahead"),
        (-0.02, -0.001, "worse", "behind"),
        (0.0, 0.02, "inconclusive", "cannot tell"),
        (-0.011, 0.009, "inconclusive", "cannot tell"),
    ],
)
def test_a_difference_is_judged_by_the_margin(low, high, verdict, words):
    assert judge_difference(low, high) == verdict
    assert verdict_text(low, high) == words


@pytest.mark.parametrize(
    "numbers, text",
    [
        ((0.006, 0.002, 0.011), "ahead by 0.6 pp [0.2, 1.1]"),
        ((-0.02, -0.03, -0.011), "behind by 2.0 pp [1.1, 3.0]"),
        ((0.007, 0.004, 0.01), "ahead, by less than 1 pp (+0.7 pp [+0.4, +1.0])"),
        ((0.004, -0.005, 0.012), "cannot tell (+0.4 pp [−0.5, +1.2])"),
        # An end that would read as 0 and is not has one digit more, an exact 0 has not.
        ((0.0102, 0.0002, 0.0204), "ahead by 1.02 pp [0.02, 2.04]"),
        ((0.0102, 0.0, 0.0204), "cannot tell (+1.0 pp [+0.0, +2.0])"),
    ],
)
def test_a_difference_is_written_in_words(numbers, text):
    assert comparison_text(*numbers) == text


def test_an_interval_is_written_with_true_minus_signs():
    assert interval_text(-0.04, -1.2, 3, signed=True) == "+0.0 [−1.2, +3.0]"
    assert interval_text(0.5, -0.25, 1, digits=2) == "0.50 [−0.25, 1.00]"


def test_students_interval_is_that_of_the_means_over_seeds():
    scores = series([[0.1, 0.3], [0.4, 0.4], [0.6, 0.6], [0.3, 0.5]])
    found = t_interval(scores)
    means = np.array([0.2, 0.4, 0.6, 0.4])
    reach = 3.182446 * means.std(ddof=1) / 2  # t of three degrees of freedom
    expected = (0.4, 0.4 - reach, 0.4 + reach)
    assert found == pytest.approx(expected, abs=1e-6)
    alone = t_interval(series([[0.1, 0.3]]))
    assert (alone.low, alone.high) == (-np.inf, np.inf)


def test_of_few_datasets_the_smaller_claim_is_made():
    few = series([[0.1, 0.3], [0.4, 0.4], [0.6, 0.6], [0.3, 0.5]])
    found = careful_interval(few)
    drawn = bootstrap(few)
    student = t_interval(few)
    assert student.low < drawn.low
    assert (found.low, found.high) == (student.low, student.high)
    # Where seeds vary most, the bootstrap is the wider one.
    noisy = series([[0.0, 1.0], [1.0, 0.0], [0.0, 1.01], [1.0, 0.0]])
    assert careful_interval(noisy) == bootstrap(noisy)
    several = series(np.random.default_rng(0).normal(size=(6, 2)).tolist())
    assert careful_interval(several) == bootstrap(several)
    one = series([[0.1, 0.3]])
    assert careful_interval(one) == bootstrap(one)


def test_a_study_shows_the_difference_that_it_can_detect_as_often_as_it_says():
    rng = np.random.default_rng(0)
    sample = series((0.02 * rng.normal(size=(9, 1))).tolist())
    means = sample.to_numpy()
    difference = detectable(sample)
    # 2.306 and .889 are quantiles of eight degrees of freedom, at 97.5 and 80%.
    error = means.std(ddof=1) / 3
    assert difference == pytest.approx((2.306004 + 0.888890) * error, rel=1e-5)
    # Of 400 studies with that spread and this difference about four in five show it.
    studies = difference + means.std(ddof=1) * rng.normal(size=(400, 9))
    reach = 2.306004 * studies.std(axis=1, ddof=1) / 3
    assert np.mean(studies.mean(axis=1) > reach) == pytest.approx(0.8, abs=0.06)
    assert detectable(series([[0.1, 0.3]])) == np.inf
