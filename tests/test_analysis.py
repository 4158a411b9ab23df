"""From frames to reported numbers, each against an answer worked out by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sfusion.analysis.tables import curves, distilled, protocols, size_ratios, wide

from sfusion import SIGNALS, STRATEGIES, tables
from sfusion.analysis.statistics import bootstrap, compare_pair, judge_difference

NAMES = list(SIGNALS)


def _score(task, seed, label, removed):
    place = tiny.LABELS.index(label) if label else 0
    return 0.9 - 0.1 * removed, 0.8 - 0.1 * removed + 0.001 * place + 0.01 * seed


def _taught(task, seed, condition, removed):
    return 0.5, {"distilled": 0.7, "same-steps": 0.65, "original-same-steps": 0.95}[
        condition
    ]


@pytest.fixture(scope="module")
def results():
    return tiny.make_results(_score, _taught)


def _path(validation, test, strategy="energy", task="t", seed=0):
    """Make the curve of one strategy, from no removal on."""
    name, removed = strategy.partition("-")[0], range(len(test))
    columns = {
        "task": task,
        "seed": seed,
        "strategy": strategy,
        "name": name,
        "group": "g",
        "removed": removed,
    }
    paths = ["-".join(map(str, range(n))) for n in removed]
    return pd.DataFrame(
        {
            **columns,
            "path": paths,
            "validation_accuracy": validation,
            "test_accuracy": test,
        }
    )


def _series(values):
    """Index values by (task, seed): a list a task."""
    flat = {
        (f"t{i}", seed): value
        for i, part in enumerate(values)
        for seed, value in enumerate(part)
    }
    return pd.Series(flat).rename_axis(["task", "seed"])


def test_fusions_may_learn_from_walks_without_fusion_or_search(results):
    kept = set(tables.fusion_nodes(results)["path"])
    own = {label: {tiny.path_of(label, n) for n in (1, 2)} for label in tiny.LABELS}
    assert own["energy"] | own["random-1"] | own["top-first"] | {""} <= kept
    learned = [name for name, s in STRATEGIES.items() if s.learned_from] + [
        "greedy-oracle"
    ]
    assert not any(own[name] & kept for name in learned)


def test_curves_put_every_visit_beside_its_node(results):
    frame = curves(results)
    assert len(frame) == len(results.trajectories)
    visits = frame.assign(
        label=frame["strategy"].where(frame["removed"] > 0, "")
    ).itertuples()
    assert frame["test_accuracy"].tolist() == [
        _score(v.task, v.seed, v.label, v.removed)[1] for v in visits
    ]
    assert (frame["layers"] == tiny.WIDE - frame["removed"]).all()
    names = (
        frame.drop_duplicates("strategy")
        .set_index("strategy")[["name", "group"]]
        .T.to_dict("list")
    )
    assert names["random-1"] == ["random", "random"]
    assert names["random-forest"] == ["random-forest", "fusion"]
    assert names["energy"] == ["energy", SIGNALS["energy"].group]


def test_a_visit_without_its_node_is_not_made_up(results):
    lost, doubled = (
        results.nodes.head(-1),
        pd.concat([results.nodes, results.nodes.tail(1)]),
    )
    assert len(curves(replace(results, nodes=lost))) < len(results.trajectories)
    with pytest.raises(ValueError, match="not a many-to-one merge"):
        curves(replace(results, nodes=doubled))


def test_protocols_by_hand():
    (row,) = protocols(
        _path([0.99, 0.80, 0.85, 0.85], [0.99, 0.70, 0.75, 0.72])
    ).itertuples()
    assert row.test_selected == 0.75  # of the pruned models, the best on test
    # On validation two removals and three are equally good: the smaller model.
    assert (
        row.removed,
        row.path,
        row.validation_accuracy,
        row.validation_selected,
    ) == (3, "0-1-2", 0.85, 0.72)
    assert row.optimism == pytest.approx(0.03)
    assert row.mean_accuracy == pytest.approx((0.70 + 0.75 + 0.72) / 3)
    assert (row.name, row.group) == ("energy", "g")


def test_protocols_keep_strategies_tasks_and_seeds_apart():
    cases = {
        # validation and test by depth: test accuracy where validation is highest, its
        # depth, the highest on test
        ("t", 0, "energy"): ([1, 0.5, 0.6], [1, 0.1, 0.2], [0.2, 2, 0.2]),
        ("t", 0, "random-0"): ([1, 0.6, 0.5], [1, 0.3, 0.4], [0.3, 1, 0.4]),
        ("u", 0, "energy"): ([1, 0.6, 0.5], [1, 0.5, 0.6], [0.5, 1, 0.6]),
        ("t", 1, "energy"): ([1, 0.5, 0.6], [1, 0.7, 0.8], [0.8, 2, 0.8]),
    }
    paths = [
        _path(seen, test, name, task, seed)
        for (task, seed, name), (seen, test, _) in cases.items()
    ]
    table = protocols(pd.concat(paths).sample(frac=1, random_state=0)).set_index(
        ["task", "seed", "strategy"]
    )
    found = table[["validation_selected", "removed", "test_selected"]].T.to_dict("list")
    assert found == {key: expected for key, (*_, expected) in cases.items()}


accuracies = st.lists(st.integers(0, 4).map(lambda n: n / 4), min_size=6, max_size=6)


@given(validation=accuracies, test=accuracies)
def test_the_validation_selected_depth_is_chosen_without_test_and_never_beats_the_papers(
    validation, test
):
    (row,) = protocols(
        _path(validation, test)[::-1]
    ).itertuples()  # in whatever order the rows come
    best = max(validation[1:])
    removed = 5 - validation[:0:-1].index(best)
    assert (row.validation_accuracy, row.removed) == (best, removed)
    assert row.path == "-".join(map(str, range(removed)))
    assert row.validation_selected == test[removed]
    assert row.test_selected == max(test[1:])
    assert row.optimism >= 0


def test_wide_averages_random_draws_and_keeps_the_order_of_the_registry(results):
    pivot = wide(protocols(curves(results)), "validation_selected")
    assert list(pivot) == list(STRATEGIES)
    assert pivot.index.tolist() == [(t, s) for t in "tuv" for s in (0, 1)]
    means = tables.task_means(pivot).loc["u"]
    for name, draws in {
        "intensity": ["intensity"],
        "random": ["random-0", "random-1"],
    }.items():
        # One removal: .7, the strategy's place, and the mean of seeds 0 and 1.
        place = np.mean([tiny.LABELS.index(draw) for draw in draws])
        assert means[name] == pytest.approx(0.7 + 0.001 * place + 0.005)


# --- intervals and pairs


def _bits(rows):
    """Make a frame of accuracies with bits: task, seed, strategy and the texts that are right."""
    names = ["task", "seed", "name", "strategy"]
    frame = pd.DataFrame(
        [(t, s, name.partition("-")[0], name) for t, s, name, _ in rows], columns=names
    )
    right = [np.array(bits) for *_, bits in rows]
    return frame.assign(
        test_accuracy=[b.mean() for b in right],
        test_correct=[np.packbits(b).tobytes() for b in right],
    )


def test_redrawn_accuracies_share_their_texts():
    rng = np.random.default_rng(0)
    one, two, other = rng.integers(2, size=(3, 10))
    rows = [
        ("t", 0, "energy", one),
        ("t", 0, "random-0", one),
        ("t", 0, "random-1", two),
        ("t", 1, "energy", two),
    ]
    frame = _bits([*rows, ("t", 1, "random-0", one), ("u", 0, "energy", other[:9])])
    table = tables.redrawn(frame, ["name"])
    assert table.index.names == ["task", "seed", "draw"] and set(table) == {
        "energy",
        "random",
    }
    counts = np.hstack(
        [np.ones((10, 1)), tables._draws("t", 10)]
    )  # draw 0 is every text once
    assert (counts.sum(axis=0) == 10).all()
    expected = {
        (0, "energy"): one,
        (0, "random"): (one + two) / 2,
        (1, "energy"): two,
        (1, "random"): one,
    }
    for (seed, name), bits in expected.items():
        np.testing.assert_allclose(
            table.loc[("t", seed), name], bits @ counts / 10, atol=1e-6
        )
    assert table.loc[("u", 0, 5), "energy"] == pytest.approx(
        other[:9] @ tables._draws("u", 9)[:, 4] / 9
    )
    plain = tables.redrawn(frame.assign(test_correct=None), ["name"])
    pd.testing.assert_frame_equal(plain, table.xs(0, level="draw", drop_level=False))


def test_of_one_text_there_is_one_draw():
    rows = [
        (task, seed, "energy", [right])
        for task, right in (("t", 0), ("u", 1))
        for seed in range(3)
    ]
    scores = tables.redrawn(_bits(rows), ["name"])["energy"]
    assert bootstrap(scores) == (0.5, 0.0, 1.0)
    assert bootstrap(scores, tasks=False) == (0.5, 0.5, 0.5)


# Standard deviations of tasks and seeds, what is drawn, and the level: shares of
# intervals that cover the truth.
NESTED = [
    (0.05, 0.02, True, True, 0.95, 0.91, 0.99),
    (
        0.01,
        0.01,
        True,
        True,
        0.95,
        0.96,
        1.0,
    ),  # texts vary most: drawn twice over, an interval is too wide
    (0.05, 0.01, False, True, 0.95, 0.9, 0.98),
    (
        0.05,
        0.01,
        False,
        False,
        0.95,
        0.1,
        0.4,
    ),  # of the tasks at hand, seeds alone do not show what texts do
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
    rng, covered, shape = np.random.default_rng(0), 0, (9, 5, 200)
    counts = (
        np.hstack(
            [np.ones((200, 1)), rng.multinomial(200, np.full(200, 1 / 200), 100).T]
        )
        / 200
    )
    index = pd.MultiIndex.from_product(
        map(range, (9, 5, 101)), names=["task", "seed", "draw"]
    )
    for _ in range(200):
        means = 0.7 + between * rng.normal(size=(9, 1, 1))
        # One difficulty per text: a harder text is harder for every seed.
        right = rng.random((9, 1, 200)) < means + within * rng.normal(size=(9, 5, 1))
        scores = pd.Series((right.reshape(shape) @ counts).ravel(), index)
        scores = scores if texts else tables.observed(scores)
        _, lower, upper = bootstrap(scores, tasks=tasks, level=level, resamples=200)
        covered += lower <= (0.7 if tasks else means.mean()) <= upper
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
    assert bootstrap(_series(values), tasks=tasks) == found


def test_the_bootstrap_has_a_generator_of_its_own():
    data = _series(np.random.default_rng(0).normal(size=(5, 3)).tolist())
    state = np.random.get_state()[1].copy()
    one, same, other = bootstrap(data), bootstrap(data), bootstrap(data, seed=1)
    assert one == same
    assert one[0] == other[0] and one[1:] != other[1:]
    assert (np.random.get_state()[1] == state).all()


def test_a_task_that_is_drawn_twice_draws_its_seeds_twice():
    # Of one task alone all that varies is its seeds: drawn twice, their mean varies
    # half as much.
    seeds = np.random.default_rng(0).normal(size=6).tolist()
    widths = [
        np.subtract(*bootstrap(_series([seeds] * count))[:0:-1]) for count in (1, 8)
    ]
    assert widths[1] == pytest.approx(widths[0] / 8**0.5, rel=0.1)


def test_the_bootstrap_of_a_statistic_of_columns():
    frame = pd.DataFrame(
        {"a": _series([[1.0, 1.0], [0.0, 0.0]]), "b": _series([[0.0, 0.0], [0.5, 0.5]])}
    )
    share = bootstrap(frame, lambda means: np.mean(means[:, 0] > means[:, 1]))
    assert share == (0.5, 0.0, 1.0)
    assert bootstrap(frame, lambda means: means[:, 0].min() - 1) == (-1.0, -1.0, 0.0)


def test_pairs_are_counted_by_hand():
    first = _series([[0.5, 0.7], [0.6, 0.6], [0.9, 0.4]])
    second = _series([[0.4, 0.5], [0.6, 0.6], [0.6, 0.8]])
    found = compare_pair(first, second)
    assert found["difference"] == pytest.approx(np.mean([0.15, 0.0, -0.05]))
    assert (found["ahead"], found["tied"], found["behind"]) == (1, 1, 1)
    assert found["sign_test"] == binomtest(1, 2).pvalue
    assert found["low"] <= found["difference"] <= found["high"]
    same = compare_pair(first, first)
    assert same["difference"] == same["low"] == same["high"] == 0
    assert (same["sign_test"], same["verdict"]) == (1.0, "equivalent")


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (-0.01, 0.01, "equivalent"),
        (0.002, 0.009, "equivalent"),  # a difference, but none that matters
        (0.001, 0.02, "better"),
        (-0.02, -0.001, "worse"),
        (0.0, 0.02, "inconclusive"),
        (-0.011, 0.009, "inconclusive"),
    ],
)
def test_a_difference_is_judged_by_the_margin(low, high, verdict):
    assert judge_difference(low, high) == verdict


# --- signals over the layers


def _signals(seed=0, path="", **columns):
    """Make the signals of a model of three layers; all grow along them where none is given."""
    given = {name.replace("_", "-"): values for name, values in columns.items()}
    values = pd.DataFrame(dict.fromkeys(NAMES, [1, 2, 3]) | given)
    return values.assign(task="t", seed=seed, path=path, layer=range(3))


def _read(table, *parts):
    """Call a function that reads the signals alone."""
    return table(SimpleNamespace(signals=pd.concat(parts, ignore_index=True)))


def test_correlations_of_signals_turn_those_that_remove_the_highest():
    found = _read(
        tables.signal_correlations,
        _signals(attention_entropy=[9, 8, 7], energy=[1, 3, 2]),
    )
    assert list(found) == list(found.index) == NAMES
    assert found.loc["weight-norm", "attention-entropy"] == pytest.approx(1)
    # Ranks 1, 2, 3 against 1, 3, 2: 1 - 6 * 2 / (3 * 8).
    assert found.loc["weight-norm", "energy"] == pytest.approx(0.5)
    np.testing.assert_allclose(np.diag(found), 1)
    np.testing.assert_allclose(found, found.T)


# The signals of a pruned model are no part of either.
UNITS = (
    _signals(),
    _signals(seed=1, energy=[30, 20, 10]),
    _signals(path="3", weight_norm=[2, 5, 1]),
)


def test_correlations_are_averaged_over_units_and_read_roots_alone():
    found = _read(tables.signal_correlations, *UNITS)
    assert found.loc["weight-norm", "energy"] == pytest.approx(0)
    assert found.loc["weight-norm", "intensity"] == pytest.approx(1)


def test_standardised_signals_are_averaged_over_seeds():
    found = _read(tables.standardised_signals, *UNITS)
    assert len(found) == 3 * 12
    values = found.pivot(index="layer", columns="signal", values="value")
    np.testing.assert_allclose(values["weight-norm"], [-np.sqrt(1.5), 0, np.sqrt(1.5)])
    np.testing.assert_allclose(values["energy"], 0, atol=1e-15)


@pytest.mark.parametrize(
    "matrix, count",
    [(np.eye(4), 4), (np.ones((4, 4)), 1), (np.kron(np.eye(2), np.ones((3, 3))), 2)],
)
def test_effective_signals_are_counted(matrix, count):
    assert tables.effective_signals(matrix) == pytest.approx(count)
    np.testing.assert_allclose(
        tables.effective_signals(np.stack([matrix, matrix])), count
    )


# --- orders, sizes, distillation


@pytest.mark.parametrize(
    "paths, steps",
    [
        (["", "2", "2-0"], {2: 1, 0: 2, 1: 3, 3: 4}),
        (["", "1", "1-2"], {1: 1, 2: 2, 0: 3}),
    ],
)
def test_removal_orders_by_hand_end_with_the_layers_that_stay(paths, steps):
    layers = [len(steps) - removed for removed in range(3)]
    table = tables.removal_orders(
        _path([1] * 3, [1] * 3).assign(path=paths, layers=layers)
    )
    assert dict(zip(table["layer"], table["step"], strict=True)) == steps
    assert set(table["strategy"]) == set(table["name"]) == {"energy"}


def test_size_ratios_by_hand():
    kept = [(0, 0, 0.8), (0, 3, 0.6), (1, 0, 0.5), (1, 5, 0.6)]
    rows = [
        dict(task="t", seed=s, removed=n, accuracy=value, **tiny.sizes_of(6 - n))
        for s, n, value in kept
    ]
    found = size_ratios(pd.DataFrame(rows))
    assert len(found) == 4
    np.testing.assert_allclose(
        found["encoder_parameters_ratio"], [1, 0.75 * 2, 1, 1.2 * 6]
    )
    np.testing.assert_allclose(
        found["parameters_ratio"], [1, 0.75 * 160 / 130, 1, 1.2 * 160 / 110]
    )
    np.testing.assert_allclose(found["flops_ratio"], found["encoder_parameters_ratio"])
    assert not [column for column in found if column.endswith("_original")]
    assert {f"{name}_ratio" for name in tables.DENOMINATORS} <= set(found)


def test_distilled_puts_the_conditions_beside_where_they_started(results):
    frame = distilled(results).query("task == 't' and seed == 0")
    found = frame.set_index(["removed", "condition"])
    forest = {n: _score("t", 0, "random-forest", n)[1] for n in (1, 2)}
    expected = {(0, "original"): 0.8, (0, "original-same-steps"): 0.95}
    for n in (1, 2):
        expected |= {
            (n, "pruned"): forest[n],
            (n, "distilled"): 0.7,
            (n, "same-steps"): 0.65,
        }
    assert found["test_accuracy"].to_dict() == pytest.approx(expected)
    assert set(found["original"]) == {0.8}
    assert found.loc[(2, "distilled"), "layers"] == tiny.WIDE - 2
    # The original is the unpruned model itself, not the one with more steps.
    ratios = size_ratios(frame.rename(columns={"test_accuracy": "accuracy"})).set_index(
        "condition"
    )
    assert ratios.loc["original-same-steps", "parameters_ratio"] == pytest.approx(
        0.95 / 0.8
    )


def test_the_best_single_signal_is_chosen_on_validation():
    def score(task, seed, label, removed):
        # On test another would be best, and among all strategies the forest.
        bonus = {("energy", "weight-norm")[seed]: 0.05, "random-forest": 0.2}.get(
            label, 0.0
        )
        return 0.7 + bonus, 0.9 if label == "intensity" else 0.6

    frame = tables.with_best_single(curves(tiny.make_results(score, tasks=("t",))))
    # Under its own name the same accuracies stand there too.
    found = frame[
        frame.duplicated(["seed", "path"], keep=False) & frame["name"].isin(NAMES)
    ]
    found = found[found["path"] != ""].set_index(["seed", "removed"])["name"]
    best = enumerate(["energy", "weight-norm"])
    assert found.to_dict() == {
        (seed, removed): name for seed, name in best for removed in (1, 2)
    }


def test_of_equal_single_signals_the_first_is_taken(results):
    frame = curves(
        replace(results, nodes=results.nodes.assign(validation_accuracy=0.5))
    )
    single = tables.with_best_single(frame).query("name == 'best-single'")
    assert set(single["path"]) == set(frame.loc[frame["name"] == NAMES[0], "path"])
