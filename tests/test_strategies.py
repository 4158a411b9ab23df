"""Strategies: which layer goes next, what ties do, and that random orders hold along a path."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfusion import SIGNALS, STRATEGIES
from sfusion.pruning.fusion import FUSION_MODELS, READS, standardise
from sfusion.pruning.strategies import COMPRESSION_STRATEGIES, IN_DATASET, TRANSFER, View, choose, expand, lookup
from sfusion.pruning.tree import next_layer
from sfusion.signals import MEASURES, REDUNDANCY

NAMES = list(SIGNALS)
FUSIONS = [name for name, s in STRATEGIES.items() if s.learned_from]


def _view(signals, layers=None, depth=None, fusion=None, seed=0):
    """Look at a table of signals; other signals than those given point elsewhere."""
    length = len(next(iter(signals.values())))
    rng = np.random.default_rng(99)
    frame = pd.DataFrame({n: signals.get(n, rng.normal(size=length)) for n in MEASURES})
    layers = tuple(range(length)) if layers is None else layers
    depth = depth or max(layers) + 1
    return View(layers, frame, np.random.default_rng(seed), fusion, depth)


def _next(label, path, depth, seed=0, fixed=()):
    left = depth - len(path)
    signals = pd.DataFrame(np.random.default_rng(0).normal(size=(left, 14)), columns=MEASURES)
    return next_layer(label, path, signals, depth=depth, seed=seed, fixed=fixed)


def _order(label, depth, seed=0):
    path = ()
    for _ in range(depth):
        path = (*path, _next(label, path, depth, seed))
    return path


def test_the_registry_covers_what_the_paper_compares_and_the_controls():
    fusions = ["linear-regression", "random-forest"]
    assert list(FUSION_MODELS) == fusions
    assert len(NAMES) == 12
    transferred = [f"{name}-transfer" for name in fusions]
    controls = [f"random-forest-{reads}" for reads in ("position", "shuffled")]
    controls = [name + end for name in controls for end in ("", "-transfer")]
    baselines = ["random", "top-first", "bottom-first", "block-influence", "angular-distance"]
    expected = [*NAMES, *fusions, *transferred, *controls, *baselines, "greedy-oracle"]
    assert list(STRATEGIES) == expected
    assert all(name == strategy.name for name, strategy in STRATEGIES.items())
    assert len({s.title for s in STRATEGIES.values()}) == len(STRATEGIES)
    learned = {name: s.learned_from for name, s in STRATEGIES.items() if s.learned_from}
    assert learned == {
        name: TRANSFER if name.endswith("-transfer") else IN_DATASET for name in (*fusions, *transferred, *controls)
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at", range(4))
def test_a_single_signal_removes_its_extreme_layer(at, name):
    lowest = [5.0, 6.0, 7.0, 8.0]
    lowest[at] = -1.0
    highest = [-v for v in lowest]
    values = highest if name == "attention-entropy" else lowest
    assert choose(STRATEGIES[name], _view({name: values})) == at
    # By their numbers in the original model, not by their present positions.
    assert choose(STRATEGIES[name], _view({name: values}, (1, 4, 5, 9))) == (1, 4, 5, 9)[at]


@pytest.mark.parametrize("name", NAMES)
def test_of_equal_layers_the_one_nearest_the_output_goes(name):
    sign = -1 if name == "attention-entropy" else 1
    values = [sign * v for v in (3.0, 1.0, 1.0, 2.0)]
    assert choose(STRATEGIES[name], _view({name: values})) == 2
    assert choose(STRATEGIES[name], _view({name: [1.0] * 4}, (0, 2, 3, 7))) == 7


@given(values=st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_the_choice_is_the_last_of_the_lowest(values):
    found = choose(STRATEGIES["weight-norm"], _view({"weight-norm": [float(v) for v in values]}))
    assert found == max(i for i, v in enumerate(values) if v == min(values))


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_removes_the_layer_that_costs_least(name):
    class Expected:
        feature_names_in_ = READS[STRATEGIES[name].reads]

        def predict(self, features):
            self.features = features
            return np.array([-0.3, -0.1, 0.02, -0.2])

    fusion = Expected()
    view = _view({"energy": [1.0, 2.0, 3.0, 4.0]}, (0, 3, 4, 6), fusion=fusion)
    assert choose(STRATEGIES[name], view) == 4
    # It sees the layers as the fit saw them.
    scaled = standardise(view.signals[NAMES])
    if STRATEGIES[name].reads == "signals":
        pd.testing.assert_frame_equal(fusion.features, scaled)
    elif STRATEGIES[name].reads == "shuffled":
        columns = fusion.features.to_numpy().T.tolist()
        assert columns != scaled.to_numpy().T.tolist()
        rows = sorted(map(tuple, fusion.features.to_numpy()))
        assert rows == sorted(map(tuple, scaled.to_numpy()))
    else:
        assert fusion.features["place_left"].tolist() == [0, 1 / 3, 2 / 3, 1]
        assert fusion.features["place_original"].tolist() == [0, 3 / 6, 4 / 6, 1]
        assert fusion.features["share_left"].tolist() == [4 / 7] * 4


@pytest.mark.parametrize("layers", [(0,), (0, 1, 2), (2, 5, 7)])
def test_position_baselines_remove_the_ends(layers):
    view = _view({"energy": [0.0] * len(layers)}, layers)
    assert choose(STRATEGIES["bottom-first"], view) == min(layers)
    assert choose(STRATEGIES["top-first"], view) == max(layers)


@pytest.mark.parametrize("name", REDUNDANCY)
def test_a_redundancy_baseline_removes_the_layer_that_changes_least(name):
    assert choose(STRATEGIES[name], _view({name: [3.0, 1.0, 2.0]}, (1, 4, 6))) == 4


@pytest.mark.parametrize("depth", [1, 2, 6, 12])
def test_a_random_path_is_one_order_of_all_layers(depth):
    order = _order("random-0", depth)
    assert sorted(order) == list(range(depth))
    assert order == _order("random-0", depth)


@given(data=st.data())
def test_a_random_choice_follows_its_one_order_whatever_is_left(data):
    # Also where others took other layers before: the first of the order that is still there.
    order = _order("random-3", 8, seed=5)
    gone = tuple(data.draw(st.lists(st.integers(0, 7), max_size=7, unique=True)))
    assert _next("random-3", gone, 8, 5) == next(n for n in order if n not in gone)


def test_random_orders_differ_between_draws_and_seeds():
    orders = {_order(f"random-{draw}", 12, seed) for draw in range(5) for seed in range(5)}
    assert len(orders) == 25


def test_random_orders_take_every_layer_first():
    first = [_order(f"random-{draw}", 4)[0] for draw in range(200)]
    counts = np.bincount(first, minlength=4)
    # Binomial with 200 draws of 1/4: mean 50, deviation 6; four of them.
    assert (abs(counts - 50) < 25).all()


@pytest.mark.parametrize("label", ["random-0", "top-first", "bottom-first", "energy"])
def test_a_layer_that_must_stay_is_never_chosen(label):
    path = ()
    for _ in range(4):
        path = (*path, _next(label, path, 5, fixed=(0,)))
    assert sorted(path) == [1, 2, 3, 4]


def test_a_strategy_without_signals_reads_none():
    for label in ("random-0", "top-first", "random", "random-forest-position"):
        assert not lookup(label).reads_signals
    assert next_layer("top-first", (4,), None, depth=5, seed=0) == 3
    assert all(STRATEGIES[name].reads_signals for name in ("energy", "random-forest"))


def test_compression_offers_neither_controls_nor_searches():
    left_out = set(STRATEGIES) - set(COMPRESSION_STRATEGIES)
    assert left_out == {
        *(f"{model}-transfer" for model in FUSION_MODELS),
        *(f"random-forest-{reads}" for reads in ("position", "shuffled")),
        *(f"random-forest-{reads}-transfer" for reads in ("position", "shuffled")),
        "greedy-oracle",
    }


def test_expand_draws_the_random_baseline_in_its_place():
    assert expand(["energy", "random", "top-first"], 3) == ["energy", "random-0", "random-1", "random-2", "top-first"]
    assert expand(["random", "energy"], 0) == ["energy"]
    assert expand([], 5) == []


@pytest.mark.parametrize("name", STRATEGIES)
def test_lookup_finds_every_label(name):
    for label in expand([name], 12):
        assert lookup(label) is STRATEGIES[name]


def test_lookup_does_not_take_the_forest_for_a_draw():
    assert lookup("random-forest") is STRATEGIES["random-forest"]
    assert lookup("random-forest-transfer") is STRATEGIES["random-forest-transfer"]
