"""The scoreboard: every branch of every verdict, on records whose answer is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny

from sfusion.analysis.paper_claims import gain_of_own_signal, judge, judge_both
from sfusion.analysis.scoreboard import (
    CLAIMS,
    claims,
    every_claim,
    first_measures,
    optimism,
    recipes,
    scoreboard,
)
from sfusion.analysis.scores import distilled, protocols, wide
from sfusion.analysis.sizes import ratio_readings, ratio_table
from sfusion.pruning.strategies import STRATEGIES
from sfusion.signals import PAPER_SIGNALS

TASKS = ("t", "u", "v")
YES = "supported"
OPEN = "undecided"
NO = "not supported"

FOREST = ["random-forest"]
LINE = ["linear-regression"]
# The first is three points ahead of the forest.
FAR = ["energy", "intensity", "inhibition"]


def of_unit(values, task, seed):
    return values.get((task, seed), values.get(task, []))


def make_results(best=None, taught=0.85, original=0.9, tasks=TASKS):
    """Give everything .7 after one removal, and what ``best`` names .01 a rank more.

    ``best`` maps a task, or a task and seed, to strategies, the best first; ``taught``
    may be a dict of the same keys.
    """

    def score(task, seed, label, removed):
        if label is None:
            return original, original
        ranked = of_unit(best or {}, task, seed)
        value = 0.7 - 0.1 * (removed - 1)
        if label in ranked:
            value += 0.01 * (len(ranked) - ranked.index(label))
        return value, value

    def teach(task, seed, condition, removed):
        values = {"distilled": taught, "same-steps": 0.8, "original-same-steps": 0.92}
        value = values[condition]
        if isinstance(value, dict):
            value = of_unit(value, task, seed)
        value -= 0.1 * max(0, removed - 1)
        return value, value

    return tiny.make_results(score, teach, tasks=tasks)


def row_of(claim, **changes):
    return scoreboard(make_results(**changes), [claim]).loc[claim]


@pytest.mark.parametrize(
    "threshold, above, intervals",
    [
        (0.5, False, {YES: [(0.5, 0.9), (0.51, 0.9), (0.5, 0.5)]}),
        (0.5, False, {OPEN: [(0.49, 0.5), (0.1, 0.9)], NO: [(0.1, 0.49)]}),
        (0, True, {YES: [(0.01, 0.9)], NO: [(-0.1, 0), (0, 0), (-0.2, -0.1)]}),
        (0, True, {OPEN: [(0, 0.9), (-0.1, 0.1), (np.nan, np.nan)]}),
    ],
)
def test_an_interval_lies_at_or_above_a_threshold_or_does_not(
    threshold, above, intervals
):
    for verdict, ends in intervals.items():
        assert {judge(*pair, threshold, above) for pair in ends} == {verdict}


@pytest.mark.parametrize(
    "first, second, verdict",
    [
        (YES, YES, YES),
        (YES, OPEN, "partly"),
        (YES, NO, "partly"),
        (OPEN, OPEN, OPEN),
        (OPEN, NO, NO),
        (NO, NO, NO),
    ],
)
def test_two_parts_of_a_claim(first, second, verdict):
    assert judge_both(first, second) == judge_both(second, first) == verdict


def test_the_scoreboard_has_a_row_per_claim_and_its_words():
    board = scoreboard(make_results())
    assert list(board.index) == list(CLAIMS.index)
    assert board["paper"].tolist() == CLAIMS["statement"].tolist()
    # What the abstract says is the author's; C5 and C6 come from a summary.
    assert board["standing"].tolist() == ["author"] * 4 + ["summary"] * 2
    numbers = board.drop("C5")  # no sets of layers were trained
    assert (numbers["low"] <= numbers["ours"]).all()
    assert (numbers["ours"] <= numbers["high"]).all()
    needed = board["needed"][["C1", "C2", "C3", "C6"]]
    assert needed.tolist() == pytest.approx([7 / 9, 0, 6 / 9, 0.5])


@pytest.mark.parametrize(
    "best, found",
    [
        (dict.fromkeys(TASKS, FOREST), {"C1": (1, YES), "C6": (1, YES)}),
        # All tied: shared wins count for C1; nothing is gained; equal is not better.
        ({}, {"C1": (1, YES), "C2": (0, NO), "C6": (0, NO)}),
        # One point behind is near.
        (dict.fromkeys(TASKS, ["energy"]), {"C1": (0, "partly"), "C2": (0, NO)}),
        (dict.fromkeys(TASKS, FAR), {"C1": (0, NO)}),
        # A count over the datasets at hand: which others there might be blurs nothing.
        ({"t": FOREST, "u": FOREST, "v": FAR}, {"C1": (2 / 3, NO)}),
        # Ahead on one seed by more than behind on the other: so on some draws alone.
        ({("t", 0): [*FOREST, *4 * ["nobody"]], ("t", 1): FAR}, {"C1": (1, OPEN)}),
        # Transfer, random orders and top layers first are not among the fourteen.
        (
            dict.fromkeys(TASKS, ["random-forest-transfer", "random-0", *FOREST]),
            {"C1": (1, YES)},
        ),
        # One point is gained on v alone, and v is not in every draw of the datasets.
        ({"t": ["energy"], "u": ["energy"], "v": ["intensity"]}, {"C2": (1 / 3, OPEN)}),
        # What fusions do is not asked.
        (dict.fromkeys(TASKS, [*FOREST, "weight-norm"]), {"C2": (0, NO)}),
        ({"t": FOREST, "u": FOREST, "v": LINE}, {"C6": (2 / 3, YES)}),
        ({"t": FOREST, "u": LINE}, {"C6": (1 / 3, NO)}),
        # Ahead on u by one seed of two: drawn alone, the other says behind.
        (
            {"t": FOREST, ("u", 0): [*FOREST, "energy"], ("u", 1): LINE},
            {"C6": (2 / 3, OPEN)},
        ),
    ],
)
def test_c1_counts_wins_c2_measures_an_own_signal_and_c6_counts_wins_over_the_line(
    best, found
):
    board = scoreboard(make_results(best=best), found)
    for claim, (ours, verdict) in found.items():
        assert board.loc[claim, "ours"] == pytest.approx(ours)
        assert board.loc[claim, "verdict"] == verdict


def test_c1_says_how_near_the_forest_comes():
    best = {"t": ["energy", *FOREST], "u": ["energy", "intensity", *FOREST]}
    note = row_of("C1", best=best)["note"]
    # One point behind on t, two on u, tied with all on v.
    assert "within 1 pp of the best on 2 of 3" in note
    assert "linear regression best or tied on 1" in note
    short = row_of("C1", best=best)["short"]
    assert short == "best or tied on 1 of 3 datasets, within 1 pp of the best on 2 of 3"


def test_c2_is_supported_where_every_dataset_has_its_own_signal():
    best = {f"task{number:02}": [name] for number, name in enumerate(PAPER_SIGNALS)}
    row = row_of("C2", best=best, tasks=tuple(best))
    # The one signal is the best of one dataset.
    assert row["ours"] == pytest.approx(11 / 12)
    assert row["verdict"] == YES


def test_c2_gains_nothing_from_luck_on_test():
    names = list(PAPER_SIGNALS)
    lucky = dict(zip(TASKS, names, strict=False))

    def score(task, seed, label, removed):
        validation = 0.71 if label == names[5] else 0.7
        test = 0.75 if label == lucky[task] else 0.7
        return validation, test

    frame = tiny.make_results(score, tasks=TASKS).curves()
    scores = wide(protocols(frame), "test_selected")
    assert (gain_of_own_signal(frame, scores) == 0).all()


def test_c2_names_the_best_signals_and_their_ties():
    note = row_of("C2", best={"t": ["energy"], "u": ["weight-norm"]})["note"]
    titles = [STRATEGIES[name].title for name in PAPER_SIGNALS]
    assert f"t: {STRATEGIES['energy'].title}; " in note
    assert f"u: {STRATEGIES['weight-norm'].title}; v: {' = '.join(titles)}" in note


@pytest.mark.parametrize(
    "taught, ours, verdict, words",
    [
        (0.95, 1.0, YES, "had the same steps too: 1.00 [1.00, 1.00]"),
        # Pruned .7, original .9: between them the drop shrinks, half of the claim.
        (0.85, 0.0, "partly", "the drop shrinks on 100% of the others"),
        # What the teacher adds to the same steps.
        (0.85, 0.0, "partly", "+5.00 [+5.00, +5.00] percentage points"),
        (0.9, 0.0, "partly", ""),  # equal is not above
        (0.65, 0.0, NO, ""),
        ({"t": 0.95, "u": 0.95, "v": 0.85}, 2 / 3, YES, ""),
        (
            {"t": 0.95, "u": 0.91, "v": 0.8},
            2 / 3,
            YES,
            "had the same steps too: 0.33 [0.33, 0.33]",
        ),
        (
            {"t": 0.95, "u": 0.95, "v": 0.65},
            2 / 3,
            "partly",
            "the drop shrinks on 0% of the others",
        ),
        ({"t": 0.95, "u": 0.65, "v": 0.65}, 1 / 3, NO, ""),
        ({"t": 0.95, "u": 0.65, ("v", 0): 0.95, ("v", 1): 0.86}, 2 / 3, NO, ""),
        ({"t": 0.95, ("u", 0): 0.72, ("u", 1): 0.69, "v": 0.95}, 2 / 3, "partly", ""),
        (
            {("t", 0): 0.95, ("t", 1): 0.65, ("u", 0): 0.95, ("u", 1): 0.65, "v": 0.95},
            1 / 3,
            OPEN,
            "",
        ),
    ],
)
def test_c3_counts_the_datasets_where_the_distilled_beat_the_original(
    taught, ours, verdict, words
):
    row = row_of("C3", taught=taught)
    assert row["ours"] == pytest.approx(ours)
    assert row["verdict"] == verdict
    assert words in row["note"]


def test_c4_is_a_fold_change_and_cannot_be_tested():
    row = row_of("C4", taught=0.85, original=0.9)
    # Two of 60 layers gone: 700 parameters become 680; distilled to .85 - .1 there.
    assert row["ours"] == pytest.approx((0.75 / 0.9) * 700 / 680)
    assert row["verdict"] == "cannot be tested"
    assert row["needed"] == 18.84
    assert "no reading" in row["note"]


def test_c4_finds_the_readings_that_give_the_number():
    # Without two layers .9 of accuracy against .81, on 680 parameters against 700.
    results = make_results(taught=1.0, original=0.81)
    readings = ratio_table(distilled(results))
    near = readings[readings["distilled_percent"].between(13.84, 23.84)]
    assert not near.empty
    note = scoreboard(results, ["C4"]).loc["C4", "note"]
    for reading in near.itertuples():
        assert f"{reading.removed} removed by {reading.denominator}" in note


def test_ratio_readings_by_hand():
    results = make_results(taught=0.85, original=0.9)
    table = ratio_table(distilled(results)).set_index(["denominator", "removed"])
    assert len(table) == 3 * 2
    # 700 parameters become 690; pruned .7, distilled .85, original .9.
    row = table.loc["all parameters", 1]
    taught = 0.85 / 0.9 * 700 / 690
    assert row["pruned"] == pytest.approx(0.7 / 0.9 * 700 / 690)
    assert row["distilled"] == pytest.approx(taught)
    assert row["distilled_percent"] == pytest.approx(100 * (taught - 1))
    assert row["over_pruned_percent"] == pytest.approx(100 * (0.85 / 0.7 - 1))
    of_encoder = table.loc[("encoder parameters", 2), "distilled"]
    assert of_encoder == pytest.approx(0.75 / 0.9 * 60 / 58)
    # Without two layers, .75 against .6.
    assert "at most 25.0%" in ratio_readings(results).finding


def test_c6_says_by_how_much():
    note = row_of("C6", best={"t": FOREST, "u": LINE})["note"]
    words = "seed by seed 1, 1; behind on 1 of 3; exact sign test p = 1.00; "
    assert note == words + "mean difference +0.00 [−1.00, +1.00] percentage points"


def test_the_scoreboard_reads_no_validation_accuracy_for_the_papers_scores():
    results = make_results(best={"t": FOREST})
    validation = np.random.default_rng(0).random(len(results.nodes))
    other = replace(
        results,
        nodes=results.nodes.assign(validation_accuracy=validation),
        distillation=results.distillation.assign(validation_accuracy=0.1),
    )
    # C2 asks about signals that are chosen on validation.
    board = scoreboard(results).drop("C2")
    pd.testing.assert_frame_equal(scoreboard(other).drop("C2"), board)


def test_one_seed_decides_no_count_of_datasets():
    results = tiny.make_results(lambda *_: (0.9, 0.9), seeds=(0,))
    board = scoreboard(results, ["C1", "C3", "C6"])
    assert set(board["verdict"]) == {OPEN}
    assert board["note"].str.contains("one seed").all()


def test_a_claim_that_needs_what_a_study_lacks_is_not_measured():
    results = make_results()
    nothing_taught = replace(results, distillation=results.distillation.iloc[:0])
    visits = results.trajectories
    no_line = visits[visits["strategy"] != "linear-regression"]
    board = scoreboard(replace(nothing_taught, trajectories=no_line))
    lacking = board[board["verdict"] == "not measured"]
    assert list(lacking.index) == ["C1", "C3", "C4", "C5", "C6"]
    assert lacking["ours"].isna().all()
    assert lacking["count"].eq("").all()
    assert lacking.loc["C3", "note"] == "this study distils nothing"
    assert "linear regression" in lacking.loc["C1", "note"]
    assert "removed alone" in lacking.loc["C5", "note"]


def test_what_the_paper_says_stands_beside_what_we_get():
    results = make_results(best=dict.fromkeys(TASKS, FOREST))
    lines = claims(results, ["C5", "C6"]).finding.splitlines()
    assert [line[:9] for line in lines] == ["- **C5.**", "- **C6.**"]
    assert lines[0].endswith("every layer was removed alone.")
    assert f"*{CLAIMS.loc['C6', 'statement']}.*" in lines[1]
    assert "We get **supported**: ahead on 3 of 3 datasets. As a number" in lines[1]
    board = every_claim(results)
    assert "1 cannot be tested" in board.finding
    assert list(board.table.index) == list(CLAIMS.index)


def test_the_first_measures_stand_beside_those_of_today():
    shown = first_measures(make_results(best={"t": FOREST, "u": FOREST, "v": LINE}))
    assert list(shown.table.index) == ["C2", "C5", "C6"]
    first = shown.table.loc["C6", ["first ours", "first verdict"]]
    assert first.tolist() == [pytest.approx(1 / 3), OPEN]  # of +1, +1 and -1 point
    # All signals tie on every dataset, which is no support for any of their own.
    assert shown.table.loc["C2", "first ours"] == 1
    assert shown.table.loc["C2", "first verdict"] == NO


def test_optimism_is_what_the_depth_chosen_on_test_gains():
    def score(task, seed, label, removed):
        return 0.7 + 0.01 * removed, 0.7 - 0.02 * removed

    shown = optimism(tiny.make_results(score))
    assert set(shown.table["gap"]) == {2.0}
    assert "adds 2.00 [2.00, 2.00] percentage points" in shown.finding


def test_recipes_are_counted_in_epochs():
    stages = ("original", "recovery", "distillation")
    profile = {stage: {"samples": 100} for stage in stages}
    results = make_results()
    tasks = results.tasks.assign(train=400)
    shown = recipes(replace(results, tasks=tasks, manifest={"profile": profile}))
    assert shown.table["epochs"].tolist() == [0.25] * 3
