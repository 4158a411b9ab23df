"""From the frames of a study to scores, each against an answer worked out by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from sfusion.analysis import scores
from sfusion.analysis.scores import distilled, half_of, protocols, redrawn, wide
from sfusion.pruning.strategies import STRATEGIES
from sfusion.signals import SIGNALS

NAMES = list(SIGNALS)


def score(task, seed, label, removed):
    place = tiny.LABELS.index(label) if label else 0
    return 0.9 - 0.1 * removed, 0.8 - 0.1 * removed + 0.001 * place + 0.01 * seed


def teach(task, seed, condition, removed):
    test = {"distilled": 0.7, "same-steps": 0.65, "original-same-steps": 0.95}
    return 0.5, test[condition]


@pytest.fixture(scope="module")
def results():
    return tiny.make_results(score, teach)


def test_curves_put_every_visit_beside_its_node(results):
    frame = results.curves()
    assert len(frame) == len(results.trajectories)
    for row in frame.itertuples():
        label = row.strategy if row.removed else ""
        assert row.test_accuracy == score(row.task, row.seed, label, row.removed)[1]
    assert (frame["layers"] == tiny.WIDE - frame["removed"]).all()
    assert set(frame["test_texts"]) == {400}
    kinds = frame.drop_duplicates("strategy").set_index("strategy")
    for label, name, group in (
        ("random-1", "random", "random"),
        ("random-forest", "random-forest", "fusion"),
        ("energy", "energy", SIGNALS["energy"].group),
    ):
        assert kinds.loc[label, ["name", "group"]].tolist() == [name, group]


def test_a_visit_without_its_node_is_not_made_up(results):
    lost = replace(results, nodes=results.nodes.head(-1))
    assert len(lost.curves()) < len(results.trajectories)
    twice = pd.concat([results.nodes, results.nodes.tail(1)])
    with pytest.raises(ValueError, match="not a many-to-one merge"):
        replace(results, nodes=twice).curves()


def path_frame(validation, test, strategy="energy", task="t", seed=0):
    """Make the curve of one strategy, from no removal on."""
    removed = range(len(test))
    paths = ["-".join(map(str, range(count))) for count in removed]
    columns = {"task": task, "seed": seed, "strategy": strategy, "group": "g"}
    columns["name"] = strategy.partition("-")[0]
    accuracies = {"validation_accuracy": validation, "test_accuracy": test}
    return pd.DataFrame({**columns, "removed": removed, "path": paths, **accuracies})


def test_protocols_by_hand():
    frame = path_frame([0.99, 0.80, 0.85, 0.85], [0.99, 0.70, 0.75, 0.72])
    row = protocols(frame).iloc[0]
    assert row["test_selected"] == 0.75  # of the pruned models, the best on test
    # On validation two removals and three are equally good: the smaller model.
    assert (row["removed"], row["path"]) == (3, "0-1-2")
    assert (row["validation_accuracy"], row["validation_selected"]) == (0.85, 0.72)
    assert row["optimism"] == pytest.approx(0.03)
    assert row["mean_accuracy"] == pytest.approx((0.70 + 0.75 + 0.72) / 3)
    assert (row["name"], row["group"]) == ("energy", "g")


def test_protocols_keep_strategies_tasks_and_seeds_apart():
    units = [("energy", "t", 0), ("random-0", "t", 0), ("energy", "u", 0)]
    frames = []
    for place, unit in enumerate(units):
        frames.append(path_frame([1, 0.5, 0.6], [1, place, place + 5], *unit))
    table = protocols(pd.concat(frames).sample(frac=1, random_state=0))
    found = table.set_index(["strategy", "task", "seed"])["validation_selected"]
    assert found.to_dict() == dict(zip(units, [5, 6, 7], strict=True))


accuracies = st.lists(st.integers(0, 4).map(lambda n: n / 4), min_size=6, max_size=6)


@given(validation=accuracies, test=accuracies)
def test_the_depth_is_chosen_without_test_whatever_the_order_of_rows(validation, test):
    row = protocols(path_frame(validation, test)[::-1]).iloc[0]
    best = max(validation[1:])
    removed = 5 - validation[:0:-1].index(best)
    assert (row["validation_accuracy"], row["removed"]) == (best, removed)
    assert row["path"] == "-".join(map(str, range(removed)))
    assert row["validation_selected"] == test[removed]
    assert row["test_selected"] == max(test[1:])
    assert row["optimism"] >= 0


def test_wide_averages_random_draws_and_keeps_the_order_of_the_registry(results):
    pivot = wide(protocols(results.curves()), "validation_selected")
    assert list(pivot) == list(STRATEGIES)
    assert pivot.index.tolist() == [(task, seed) for task in "tuv" for seed in (0, 1)]
    means = scores.task_means(pivot).loc["u"]
    draws = [tiny.LABELS.index(f"random-{draw}") for draw in (0, 1)]
    # One removal: .7, the strategy's place, and the mean of seeds 0 and 1.
    assert means["random"] == pytest.approx(0.7 + 0.001 * np.mean(draws) + 0.005)
    place = tiny.LABELS.index("intensity")
    assert means["intensity"] == pytest.approx(0.7 + 0.001 * place + 0.005)


def test_redrawn_accuracies_share_their_texts():
    rng = np.random.default_rng(0)
    one, two, other = rng.integers(2, size=(3, 10))
    frame = tiny.rows_of_bits(
        [
            ("t", 0, "energy", one),
            ("t", 0, "random-0", one),
            ("t", 0, "random-1", two),
            ("t", 1, "energy", two),
            ("t", 1, "random-0", one),
            ("u", 0, "energy", other[:9]),
        ]
    )
    table = redrawn(frame, ["name"])
    assert table.index.names == ["task", "seed", "draw"]
    assert set(table) == {"energy", "random"}
    # Draw 0 is every text once.
    counts = np.hstack([np.ones((10, 1)), scores._draws("t", 10)])
    assert (counts.sum(axis=0) == 10).all()
    expected = {
        (0, "energy"): one,
        (0, "random"): (one + two) / 2,
        (1, "energy"): two,
        (1, "random"): one,
    }
    for (seed, name), bits in expected.items():
        found = table.loc[("t", seed), name]
        np.testing.assert_allclose(found, bits @ counts / 10, atol=1e-6)
    drawn = other[:9] @ scores._draws("u", 9)[:, 4] / 9
    assert table.loc[("u", 0, 5), "energy"] == pytest.approx(drawn)
    plain = redrawn(frame.assign(test_correct=None), ["name"])
    pd.testing.assert_frame_equal(plain, table.xs(0, level="draw", drop_level=False))


def test_distilled_puts_the_conditions_beside_where_they_started(results):
    frame = distilled(results)
    rows = frame[(frame["task"] == "t") & (frame["seed"] == 0)]
    found = rows.set_index(["removed", "condition"])["test_accuracy"].to_dict()
    expected = {(0, "original"): 0.8, (0, "original-same-steps"): 0.95}
    for removed in (1, 2):
        pruned = score("t", 0, "random-forest", removed)[1]
        expected[removed, "pruned"] = pruned
        expected[removed, "distilled"] = 0.7
        expected[removed, "same-steps"] = 0.65
    assert found == pytest.approx(expected)
    assert set(rows["original"]) == {0.8}
    taught = rows[(rows["removed"] == 2) & (rows["condition"] == "distilled")]
    assert taught["layers"].tolist() == [tiny.WIDE - 2]


def test_the_best_single_signal_is_chosen_on_validation():
    best = ["energy", "weight-norm"]

    def prefer(task, seed, label, removed):
        # On test another would be best, and among all strategies the forest.
        bonus = {best[seed]: 0.05, "random-forest": 0.2}
        return 0.7 + bonus.get(label, 0.0), 0.9 if label == "intensity" else 0.6

    curves = tiny.make_results(prefer, tasks=("t",)).curves()
    frame = scores.with_best_single(curves)
    single = frame[frame["name"] == scores.BEST_SINGLE]
    for seed, name in enumerate(best):
        paths = single.loc[single["seed"] == seed, "path"]
        assert paths.tolist() == [tiny.path_of(name, count) for count in range(3)]


def test_of_equal_single_signals_the_first_is_taken(results):
    level = results.nodes.assign(validation_accuracy=0.5)
    frame = scores.with_best_single(replace(results, nodes=level).curves())
    single = frame[frame["name"] == scores.BEST_SINGLE]
    first = frame[frame["name"] == NAMES[0]]
    assert set(single["path"]) == set(first["path"])


@pytest.mark.parametrize(
    "removals, depth, half",
    [([1, 2, 3, 4, 5], 6, 3), ([1, 2, 3, 4], 5, 3), ([1, 4], 6, 4), ([2, 4], 6, 4)],
)
def test_half_of_the_layers(removals, depth, half):
    assert half_of(removals, depth) == half
