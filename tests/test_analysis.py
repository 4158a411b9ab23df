"""From frames to reported numbers, each against an answer worked out by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sfusion import SIGNALS, STRATEGIES, SfusionError, sweep
from sfusion.analysis.statistics import bootstrap
from sfusion.analysis.tables import (
    DENOMINATORS,
    best_single,
    curves,
    distilled,
    effective_by_chance,
    effective_signals,
    fusion_nodes,
    protocols,
    removal_orders,
    signal_correlations,
    size_ratios,
    standardised_signals,
    task_means,
    wide,
)

NAMES = list(SIGNALS)


def _score(task, seed, label, removed):
    place = tiny.LABELS.index(label) if label else 0
    return 0.9 - 0.1 * removed, 0.8 - 0.1 * removed + 0.001 * place + 0.01 * seed


def _path(validation, test, strategy="energy", task="t", seed=0):
    """Make the curve of one strategy, from no removal on."""
    return pd.DataFrame(
        {
            "task": task,
            "seed": seed,
            "strategy": strategy,
            "name": "random" if strategy.startswith("random-") else strategy,
            "group": "g",
            "removed": range(len(test)),
            "path": ["-".join(map(str, range(n))) for n in range(len(test))],
            "validation_accuracy": validation,
            "test_accuracy": test,
        }
    )


def _series(values):
    """Index values by (task, seed): a list a task."""
    index = [(f"t{i}", seed) for i, part in enumerate(values) for seed in range(len(part))]
    flat = [value for part in values for value in part]
    return pd.Series(flat, index=pd.MultiIndex.from_tuples(index, names=["task", "seed"]))


def test_fusions_may_learn_from_walks_without_fusion_or_search():
    results = tiny.make_results(_score, tasks=("t",), seeds=(0,))
    kept = set(fusion_nodes(results)["path"])
    own = {label: {tiny.path_of(label, n) for n in (1, 2)} for label in tiny.LABELS}
    assert own["energy"] | own["random-1"] | own["top-first"] | {""} <= kept
    learned = [name for name, s in STRATEGIES.items() if s.learned_from] + ["greedy-oracle"]
    assert not any(own[name] & kept for name in learned)


def test_curves_put_every_visit_beside_its_node():
    results = tiny.make_results(_score, tasks=("t",), seeds=(0, 1))
    frame = curves(results)
    assert len(frame) == len(results.trajectories)
    for row in frame.itertuples():
        label = row.strategy if row.removed else None
        assert row.test_accuracy == _score(row.task, row.seed, label, row.removed)[1]
        assert row.layers == tiny.WIDE - row.removed
    names = frame.drop_duplicates("strategy").set_index("strategy")
    assert names.loc["random-1", ["name", "group"]].tolist() == ["random", "random"]
    assert names.loc["random-forest", ["name", "group"]].tolist() == ["random-forest", "fusion"]
    assert names.loc["energy", "group"] == SIGNALS["energy"].group


def test_a_visit_without_its_node_is_not_made_up():
    results = tiny.make_results(_score, tasks=("t",), seeds=(0,))
    lost = replace(results, nodes=results.nodes.head(-1))
    assert len(curves(lost)) < len(results.trajectories)
    doubled = tiny.make_results(_score, tasks=("t",), seeds=(0,))
    doubled.nodes.loc[len(doubled.nodes)] = doubled.nodes.iloc[-1]
    with pytest.raises(ValueError, match="not a many-to-one merge"):
        curves(doubled)


def test_protocols_by_hand():
    (row,) = protocols(_path([0.99, 0.80, 0.85, 0.85], [0.99, 0.70, 0.75, 0.72])).itertuples()
    assert row.test_selected == 0.75  # of the pruned models, the best on test
    # On validation two removals and three are equally good: the smaller model.
    assert (row.removed, row.path, row.validation_accuracy, row.validation_selected) == (3, "0-1-2", 0.85, 0.72)
    assert row.optimism == pytest.approx(0.03)
    assert row.mean_accuracy == pytest.approx((0.70 + 0.75 + 0.72) / 3)
    assert (row.name, row.group) == ("energy", "g")


def test_protocols_keep_strategies_tasks_and_seeds_apart():
    paths = [
        _path([1, 0.5, 0.6], [1, 0.1, 0.2]),
        _path([1, 0.6, 0.5], [1, 0.3, 0.4], "random-0"),
        _path([1, 0.6, 0.5], [1, 0.5, 0.6], task="u"),
        _path([1, 0.5, 0.6], [1, 0.7, 0.8], seed=1),
    ]
    table = protocols(pd.concat(paths).sample(frac=1, random_state=0))
    found = table.set_index(["task", "seed", "strategy"])[["validation_selected", "removed", "test_selected"]]
    assert found.loc[("t", 0, "energy")].tolist() == [0.2, 2, 0.2]
    assert found.loc[("t", 0, "random-0")].tolist() == [0.3, 1, 0.4]
    assert found.loc[("u", 0, "energy")].tolist() == [0.5, 1, 0.6]
    assert found.loc[("t", 1, "energy")].tolist() == [0.8, 2, 0.8]
    assert len(found) == 4


accuracies = st.lists(st.integers(0, 4).map(lambda n: n / 4), min_size=6, max_size=6)


@given(validation=accuracies, one=accuracies, other=accuracies)
def test_the_honest_depth_is_chosen_without_the_test_split(validation, one, other):
    chosen = ["removed", "path", "validation_accuracy"]
    tables = [protocols(_path(validation, test))[chosen] for test in (one, other)]
    pd.testing.assert_frame_equal(*tables)
    best = max(validation[1:])
    assert tables[0]["removed"].item() == 5 - validation[:0:-1].index(best)


@given(validation=accuracies, test=accuracies)
def test_the_paper_protocol_is_never_below_the_honest_one(validation, test):
    (row,) = protocols(_path(validation, test)).itertuples()
    assert row.optimism >= 0
    assert row.test_selected == max(test[1:])
    assert row.validation_selected == test[row.removed]


def test_random_draws_are_averaged_into_one_row():
    table = protocols(
        pd.concat(
            [
                _path([1, 0.5], [1, 0.2], "random-0"),
                _path([1, 0.5], [1, 0.6], "random-1"),
                _path([1, 0.5], [1, 0.9], "energy"),
            ]
        )
    )
    pivot = wide(table, "test_selected")
    assert list(pivot) == ["energy", "random"]
    assert pivot.loc[("t", 0)].tolist() == pytest.approx([0.9, 0.4])


def test_wide_keeps_the_order_of_the_registry():
    pivot = wide(protocols(curves(tiny.make_results(_score))), "validation_selected")
    assert list(pivot) == list(STRATEGIES)
    assert pivot.index.tolist() == [(t, s) for t in "tuv" for s in (0, 1)]
    means = task_means(pivot)
    # One removal: .7, the strategy's place, and the mean of seeds 0 and 1.
    assert means.loc["u", "intensity"] == pytest.approx(0.7 + 0.001 + 0.005)


@pytest.mark.parametrize("value", [0.25, 0.1, 1 / 3])
def test_the_bootstrap_of_constant_data_is_that_constant(value):
    found = bootstrap(_series([[value] * 3] * 4))
    assert found == pytest.approx((value, value, value), abs=1e-15)


def test_the_bootstrap_resamples_tasks():
    # Both tasks are drawn alike with probability 1/4: more than the tail of 2.5% at either end.
    assert bootstrap(_series([[0.0, 0.0], [1.0, 1.0]])) == (0.5, 0.0, 1.0)


def test_the_bootstrap_resamples_seeds_within_a_task():
    assert bootstrap(_series([[0.0, 1.0]])) == (0.5, 0.0, 1.0)
    assert bootstrap(_series([[0.3]])) == (0.3, 0.3, 0.3)


def test_of_the_tasks_at_hand_only_seeds_are_drawn():
    assert bootstrap(_series([[0.0, 0.0], [1.0, 1.0]]), tasks=False) == (0.5, 0.5, 0.5)
    assert bootstrap(_series([[0.0, 1.0], [1.0, 1.0]]), tasks=False) == (0.75, 0.5, 1.0)


def test_every_task_counts_alike():
    # Task 0 has four seeds and task 1 a single one.
    mean, _, _ = bootstrap(_series([[0.0] * 4, [1.0]]))
    assert mean == 0.5


def test_the_bootstrap_has_a_generator_of_its_own():
    data = _series(np.random.default_rng(0).normal(size=(5, 3)).tolist())
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    one, same, other = bootstrap(data), bootstrap(data), bootstrap(data, seed=1)
    assert one == same
    assert one[0] == other[0] and one[1:] != other[1:]
    assert (np.random.get_state()[1] == state).all()


def test_a_higher_level_and_a_wider_spread_widen_the_interval():
    data = _series(np.random.default_rng(0).normal(size=(6, 3)).tolist())

    def width(series, level=0.95):
        middle, low, high = bootstrap(series, level=level)
        assert low < middle < high
        return high - low

    assert width(data, 0.5) < width(data, 0.9) < width(data, 0.99)
    assert width(2 * data) == pytest.approx(2 * width(data))
    assert bootstrap(data + 1) == pytest.approx([v + 1 for v in bootstrap(data)])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = {0.5: 0, 0.95: 0}
    for _ in range(100):
        tasks = rng.normal(size=(9, 1))
        data = _series((tasks + 0.3 * rng.normal(size=(9, 3))).tolist())
        for level in covered:
            _, low, high = bootstrap(data, level=level, resamples=200)
            covered[level] += low <= 0 <= high
    # Binomial, 100 draws: deviations of 5 at one half, 2 at 95%; the percentile interval of nine
    # tasks is known to be a little narrow.
    assert 35 <= covered[0.5] <= 65
    assert 80 <= covered[0.95] <= 100


def test_the_bootstrap_of_a_statistic_of_columns():
    frame = pd.DataFrame({"a": [1.0, 1.0, 0.0, 0.0], "b": [0.0, 0.0, 0.5, 0.5]})
    frame.index = _series([[0, 0], [0, 0]]).index
    share = bootstrap(frame, lambda means: np.mean(means[:, 0] > means[:, 1]))
    assert share == (0.5, 0.0, 1.0)
    assert bootstrap(frame, lambda means: means[:, 0].min() - 1) == (-1.0, -1.0, 0.0)


def _rooted(columns, paths=("",), task="t", seed=0):
    """Make the signals of a root of three layers; all follow column ``a`` where none is given."""
    rows = []
    for path in paths:
        for layer in range(3):
            row = {name: columns.get(name, columns["a"])[layer] for name in NAMES}
            rows.append({"task": task, "seed": seed, "path": path, "layer": layer, **row})
    return pd.DataFrame(rows)


class _Only:
    """Results of which a function reads one frame alone."""

    def __init__(self, **frames):
        self.__dict__.update(frames)


def test_correlations_of_signals_turn_those_that_remove_the_highest():
    signals = _rooted({"a": [1, 2, 3], "attention-entropy": [9, 8, 7], "energy": [1, 3, 2]})
    found = signal_correlations(_Only(signals=signals))
    assert list(found) == list(found.index) == NAMES
    assert found.loc["weight-norm", "attention-entropy"] == pytest.approx(1)
    # Ranks 1, 2, 3 against 1, 3, 2: 1 - 6 * 2 / (3 * 8).
    assert found.loc["weight-norm", "energy"] == pytest.approx(0.5)
    np.testing.assert_allclose(np.diag(found), 1)
    np.testing.assert_allclose(found, found.T)


def test_correlations_are_averaged_over_units_and_read_roots_alone():
    one = _rooted({"a": [1, 2, 3], "attention-entropy": [3, 2, 1]})
    other = _rooted({"a": [1, 2, 3], "attention-entropy": [3, 2, 1], "energy": [3, 2, 1]}, seed=1)
    pruned = _rooted({"a": [1, 2, 3], "energy": [2, 2, 1]}, paths=("3",))
    found = signal_correlations(_Only(signals=pd.concat([one, other, pruned])))
    assert found.loc["weight-norm", "energy"] == pytest.approx(0)
    assert found.loc["weight-norm", "intensity"] == pytest.approx(1)


@pytest.mark.parametrize(
    "matrix, count", [(np.eye(4), 4), (np.ones((4, 4)), 1), (np.kron(np.eye(2), np.ones((3, 3))), 2)]
)
def test_effective_signals_are_counted(matrix, count):
    assert effective_signals(np.array(matrix)) == pytest.approx(count)
    np.testing.assert_allclose(effective_signals(np.stack([matrix, matrix])), count)


def test_unrelated_orders_of_few_layers_are_few():
    # Squared rank correlations average 1 / (layers - 1): 12^2 / (12 + 132 / 5), nearly.
    assert effective_by_chance(12, 6) == pytest.approx(144 / (12 + 132 / 5), rel=0.03)
    assert effective_by_chance(12, 200) == pytest.approx(144 / (12 + 132 / 199), rel=0.01)


def test_standardised_signals_are_averaged_over_seeds():
    one = _rooted({"a": [1, 2, 3]})
    other = _rooted({"a": [1, 2, 3], "energy": [30, 20, 10]}, seed=1)
    pruned = _rooted({"a": [1, 5, 3]}, paths=("3",))
    found = standardised_signals(_Only(signals=pd.concat([one, other, pruned], ignore_index=True)))
    assert len(found) == 3 * 12
    values = found.pivot(index="layer", columns="signal", values="value")
    np.testing.assert_allclose(values["weight-norm"], [-np.sqrt(1.5), 0, np.sqrt(1.5)])
    np.testing.assert_allclose(values["energy"], 0, atol=1e-15)


def test_removal_orders_by_hand():
    path = _path([1] * 3, [1] * 3).assign(path=["", "2", "2-0"], layers=[4, 3, 2])
    table = removal_orders(path)
    assert dict(zip(table["layer"], table["step"], strict=True)) == {2: 1, 0: 2, 1: 3, 3: 4}
    assert set(table["strategy"]) == set(table["name"]) == {"energy"}


def test_the_layer_that_stays_comes_last():
    path = _path([1] * 3, [1] * 3).assign(path=["", "10", "10-2"], layers=[3, 2, 1])
    path["path"] = ["", "1", "1-2"]
    table = removal_orders(path).set_index("layer")["step"]
    assert table.to_dict() == {1: 1, 2: 2, 0: 3}


def test_size_ratios_by_hand():
    rows = [
        {"task": "t", "seed": 0, "removed": 0, "accuracy": 0.8, **tiny.sizes_of(6)},
        {"task": "t", "seed": 0, "removed": 3, "accuracy": 0.6, **tiny.sizes_of(3)},
        {"task": "t", "seed": 1, "removed": 0, "accuracy": 0.5, **tiny.sizes_of(6)},
        {"task": "t", "seed": 1, "removed": 5, "accuracy": 0.6, **tiny.sizes_of(1)},
    ]
    found = size_ratios(pd.DataFrame(rows))
    assert len(found) == 4
    np.testing.assert_allclose(found["encoder_parameters_ratio"], [1, 0.75 * 2, 1, 1.2 * 6])
    np.testing.assert_allclose(found["parameters_ratio"], [1, 0.75 * 160 / 130, 1, 1.2 * 160 / 110])
    np.testing.assert_allclose(found["flops_ratio"], found["encoder_parameters_ratio"])
    assert not [column for column in found if column.endswith("_original")]
    assert {f"{name}_ratio" for name in DENOMINATORS} <= set(found)


def test_distilled_puts_the_conditions_beside_where_they_started():
    def taught(task, seed, condition, removed):
        return 0.5, {"distilled": 0.7, "same-steps": 0.65, "original-same-steps": 0.95}[condition]

    results = tiny.make_results(_score, taught, tasks=("t",), seeds=(0,))
    found = distilled(results).set_index(["removed", "condition"])
    forest = _score("t", 0, "random-forest", 1)[1]
    assert found["test_accuracy"].to_dict() == pytest.approx(
        {
            (0, "original"): 0.8,
            (0, "original-same-steps"): 0.95,
            (1, "pruned"): forest,
            (1, "distilled"): 0.7,
            (1, "same-steps"): 0.65,
            (2, "pruned"): forest - 0.1,
            (2, "distilled"): 0.7,
            (2, "same-steps"): 0.65,
        }
    )
    assert set(found["original"]) == {0.8}
    assert found.loc[(2, "distilled"), "layers"] == tiny.WIDE - 2
    # The original is the unpruned model itself, not the one with more steps.
    ratios = size_ratios(distilled(results).rename(columns={"test_accuracy": "accuracy"}))
    extra = ratios[ratios["condition"] == "original-same-steps"]["parameters_ratio"]
    assert extra.item() == pytest.approx(0.95 / 0.8)


def test_the_best_single_signal_is_chosen_on_validation():
    def score(task, seed, label, removed):
        best = {("t", 0): "energy", ("t", 1): "weight-norm"}[task, seed]
        # On test another would be best, and among all strategies the forest.
        bonus = {best: 0.05, "random-forest": 0.2}.get(label, 0.0)
        return 0.7 + bonus, 0.9 if label == "intensity" else 0.6

    results = tiny.make_results(score, tasks=("t",))
    found = best_single(curves(results)).set_index(["seed", "removed"])["name"]
    assert found.to_dict() == {
        (seed, removed): name for seed, name in enumerate(["energy", "weight-norm"]) for removed in range(3)
    }


def test_of_equal_single_signals_the_first_is_taken():
    frame = curves(tiny.make_results(lambda *_: (0.5, 0.5), tasks=("t",), seeds=(0,)))
    assert set(best_single(frame)["name"]) == {NAMES[0]}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The YAML file of a tiny profile."""
    monkeypatch.setenv("SFUSION_DATA", str(tiny.data_folder()))
    monkeypatch.setenv("SFUSION_JOBS", "1")
    profile = tiny.make_profile(tiny.write_model(tmp_path / "model", layers=3), random_orders=1)
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(profile.model_dump(mode="json", exclude={"name"})))
    return file


def test_sweep_walks_the_asked_strategies(file, tmp_path):
    frame = sweep(file, iter(["energy", "random"]), folder=tmp_path / "build", quiet=True)
    assert set(frame["strategy"]) == {"energy", "random-0"}
    assert len(frame) == 2 * 2 * 3
    assert frame["test_accuracy"].between(0, 1).all()
    learned = sweep(file, ["energy", "random", "linear-regression"], folder=tmp_path / "build", quiet=True)
    assert set(learned["strategy"]) == {"energy", "random-0", "linear-regression"}


def test_sweep_takes_all_but_the_fusions_by_default(file, tmp_path):
    frame = sweep(file, folder=tmp_path / "build", quiet=True)
    plain = [name for name, s in STRATEGIES.items() if s.teaches_fusions]
    assert set(frame["name"]) == set(plain)


def test_sweep_of_an_unknown_strategy_is_one_line(file, tmp_path):
    with pytest.raises(SfusionError) as error:
        sweep(file, ["energy", "magic"], folder=tmp_path / "build", quiet=True)
    assert "'magic'" in tiny.one_line(error)
