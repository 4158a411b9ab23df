"""Strategies: which layer goes next, what ties do, random orders along a path."""

from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from sfusion import SIGNALS, STRATEGIES
from sfusion.pruning import registry
from sfusion.pruning.fusion import EVERYTHING, FUSION_MODELS, READS, standardise
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.registry import View, choose, register
from sfusion.pruning.searches import next_path
from sfusion.pruning.setting import Setting
from sfusion.pruning.strategies import (
    COMPRESSION_STRATEGIES,
    DEFAULT_STRATEGY,
    IN_DATASET,
    OTHER_MODEL,
    READ_TITLES,
    TRANSFER,
    expand,
    lookup,
)
from sfusion.signals import MEASURES, REDUNDANCY

NAMES = list(SIGNALS)
FUSIONS = [name for name, s in STRATEGIES.items() if s.model]


def _view(layers, fusion=None, **signals):
    """Look at a table of signals; other signals than those given point elsewhere."""
    rng = np.random.default_rng(99)
    frame = pd.DataFrame(
        rng.normal(size=(len(layers), len(MEASURES))), columns=MEASURES
    ).assign(**signals)
    return View(layers, frame, rng, fusion, max(layers) + 1)


def _next(label, gone, depth, seed=0, fixed=(), task="t"):
    values = np.random.default_rng(0).normal(size=(depth - len(gone), len(MEASURES)))
    frame = pd.DataFrame(values, columns=MEASURES)
    setting = Setting(depth, fixed, seed, task)
    path = next_path(label, PruningPath.of(*gone), lambda _: frame, setting)
    return path.removed[-1]


def _order(label, depth, seed=0, fixed=(), task="t"):
    gone = ()
    for _ in range(depth - len(fixed)):
        gone = (*gone, _next(label, gone, depth, seed, fixed, task))
    return gone


LAYER = st.integers(0, 23)
STEP = (
    LAYER.map(lambda layer: (layer,))
    | st.just(())
    | st.lists(LAYER, min_size=2, max_size=4, unique=True).map(tuple)
)


@given(st.lists(STEP, max_size=6).map(tuple).map(PruningPath))
def test_the_name_of_a_path_tells_all_of_its_steps(path):
    assert PruningPath.parse(path.name) == path


def test_a_step_of_several_layers_leaves_what_its_layers_leave_one_by_one():
    path = PruningPath.at_once([3, 1]).then(0).then()
    assert [str(one) for one in (ORIGINAL, PruningPath.of(11, 2), path)] == [
        "",
        "11-2",
        "1+3-0-x",
    ]
    assert path.seed_parts == ((1, 3), 0, ())
    assert path.remaining(5) == PruningPath.of(1, 3, 0).remaining(5) == (2, 4)


def test_every_measure_and_every_fusion_is_a_strategy():
    for name in MEASURES:
        assert STRATEGIES[name].signal == name
    for name in SIGNALS:
        assert STRATEGIES[f"reversed-{name}"].signal == name
    for model in FUSION_MODELS:
        assert STRATEGIES[model].learned_from == IN_DATASET
        assert STRATEGIES[f"{model}-transfer"].learned_from == TRANSFER
        assert STRATEGIES[f"{model}-other-model"].learned_from == OTHER_MODEL
    for reads in READ_TITLES:
        assert STRATEGIES[f"random-forest-{reads}-transfer"].reads == reads


def test_names_and_titles_tell_strategies_apart():
    assert all(name == strategy.name for name, strategy in STRATEGIES.items())
    assert len({strategy.title for strategy in STRATEGIES.values()}) == len(STRATEGIES)


def test_what_teaches_fusions_looks_at_signals_or_positions_alone():
    for strategy in STRATEGIES.values():
        choosing_alone = strategy.score and not strategy.learned_from
        assert not strategy.teaches_fusions or choosing_alone and not strategy.once


def test_a_compression_is_offered_neither_controls_nor_searches():
    offered = [STRATEGIES[name] for name in COMPRESSION_STRATEGIES]
    assert DEFAULT_STRATEGY in COMPRESSION_STRATEGIES
    assert {"control", "search", "reversed"}.isdisjoint(one.group for one in offered)


def test_a_strategy_is_added_by_a_function_and_a_line(monkeypatch):
    monkeypatch.setattr(registry, "STRATEGIES", STRATEGIES.copy())

    @registry.strategy("third-first", "Third layer first", "position")
    def third_first(view):
        return [layer == 2 for layer in view.layers]

    added = registry.STRATEGIES["third-first"]
    assert choose(added, View(tuple(range(6)), None, None, None, 6)) == 2
    assert added.teaches_fusions
    assert not added.reads_signals


@pytest.mark.parametrize("name", [*NAMES, *REDUNDANCY])
@given(left=st.dictionaries(st.integers(0, 15), st.integers(-3, 3), min_size=1))
def test_a_measure_removes_its_extreme_layer_and_of_equal_ones_that_nearest_the_output(
    name, left
):
    # Layers go by their numbers in the original model, not by their present positions.
    layers = tuple(sorted(left))
    sign = -1.0 if name == "attention-entropy" else 1.0
    view = _view(layers, **{name: [sign * left[layer] for layer in layers]})
    for label, end in (
        (name, min),
        *([(f"reversed-{name}", max)] if name in SIGNALS else []),
    ):
        extreme = end(left.values())
        assert choose(lookup(label), view) == max(
            layer for layer in layers if left[layer] == extreme
        )
        assert lookup(label).reads_signals


@pytest.mark.parametrize("name", FUSIONS)
def test_a_fusion_removes_the_layer_that_costs_least(name):
    fusion = Mock(feature_names_in_=READS[STRATEGIES[name].reads])
    fusion.predict.return_value = [-0.3, -0.1, 0.02, -0.2]
    view = _view((0, 3, 4, 6), fusion)
    assert choose(STRATEGIES[name], view) == 4
    # It sees the layers as the fit saw them.
    (features,) = fusion.predict.call_args.args
    scaled = standardise(view.signals[NAMES])
    if STRATEGIES[name].reads in EVERYTHING:
        pd.testing.assert_frame_equal(
            features[list(MEASURES)], standardise(view.signals)
        )
    elif STRATEGIES[name].reads == "signals":
        pd.testing.assert_frame_equal(features, scaled)
    elif STRATEGIES[name].reads == "shuffled":
        found, rows = features.to_numpy().tolist(), scaled.to_numpy().tolist()
        assert found != rows and sorted(found) == sorted(rows)
    if STRATEGIES[name].reads in (*EVERYTHING, "position"):
        assert features["place_left"].tolist() == [0, 1 / 3, 2 / 3, 1]
        assert features["place_original"].tolist() == [0, 3 / 6, 4 / 6, 1]
        assert features["share_left"].tolist() == [4 / 7] * 4


def test_fixed_orders_are_those_of_their_source():
    orders = {
        name: _order(name, 6)
        for name in (
            "top-first",
            "bottom-first",
            "symmetric",
            "middle-first",
            "alternate",
        )
    }
    assert orders == {
        "top-first": (5, 4, 3, 2, 1, 0),
        "bottom-first": (0, 1, 2, 3, 4, 5),
        "symmetric": (3, 2, 4, 1, 5, 0),
        "middle-first": (3, 2, 4, 1, 0, 5),
        "alternate": (4, 2, 0, 3, 1, 5),
    }
    assert _order("alternate", 12) == (10, 8, 6, 4, 2, 0, 9, 5, 1, 7, 3, 11)
    assert _order("symmetric", 5, fixed=(0,)) == (2, 3, 1, 4)


def test_a_random_order_can_keep_the_last_layer():
    orders = {_order(f"random-keep-last-{draw}", 6) for draw in range(30)}
    assert {order[-1] for order in orders} == {5}
    assert {order[0] for order in orders} == {0, 1, 2, 3, 4}


@given(depth=st.integers(1, 12), data=st.data())
def test_a_random_choice_follows_its_one_order_whatever_is_left(depth, data):
    order = _order("random-3", depth, seed=5)
    assert sorted(order) == list(range(depth))
    # Also where others took other layers before: the first of the order that is still
    # there.
    gone = tuple(
        data.draw(st.lists(st.sampled_from(order), max_size=depth - 1, unique=True))
    )
    assert _next("random-3", gone, depth, 5) == next(n for n in order if n not in gone)


def test_random_orders_differ_between_draws_seeds_and_tasks():
    units = [
        (draw, seed, task)
        for draw in range(4)
        for seed in range(3)
        for task in ("t", "u", "v")
    ]
    assert len(
        {_order(f"random-{draw}", 12, seed, task=task) for draw, seed, task in units}
    ) == len(units)


def test_random_orders_take_every_layer_first():
    first = [_next(f"random-{draw}", (), 4) for draw in range(200)]
    counts = np.bincount(first, minlength=4)
    # Binomial with 200 draws of 1/4: mean 50, deviation 6; four of them.
    assert (abs(counts - 50) < 25).all()


@pytest.mark.parametrize("label", ["random-0", "top-first", "bottom-first", "energy"])
def test_a_layer_that_must_stay_is_never_chosen(label):
    assert sorted(_order(label, 5, fixed=(0,))) == [1, 2, 3, 4]


def test_a_strategy_without_signals_reads_none():
    assert not any(
        lookup(label).reads_signals
        for label in ("random-0", "top-first", "random-forest-position")
    )
    assert _next("top-first", (4,), 5) == 3
    assert all(STRATEGIES[name].reads_signals for name in ("energy", "random-forest"))


def test_expand_draws_the_random_baseline_in_its_place_and_lookup_finds_every_label(
    monkeypatch,
):
    assert expand(["energy", "random", "top-first"], 3) == [
        "energy",
        "random-0",
        "random-1",
        "random-2",
        "top-first",
    ]
    assert expand(["random", "energy"], 0) == ["energy"]
    assert expand(["random-keep-last"], 2) == [
        "random-keep-last-0",
        "random-keep-last-1",
    ]
    assert expand([], 5) == []
    # The title of a signal may end in a number.
    monkeypatch.setitem(STRATEGIES, "renyi-2", STRATEGIES["energy"])
    assert lookup("renyi-2") is STRATEGIES["energy"]
    monkeypatch.undo()
    for name, strategy in STRATEGIES.items():
        assert all(lookup(label) is strategy for label in expand([name], 12))


def test_a_name_is_taken_once():
    known = STRATEGIES["middle-first"]
    with pytest.raises(ValueError, match="'middle-first' is registered already"):
        register(known)
    assert STRATEGIES["middle-first"] is known


def test_a_label_of_no_strategy_is_one_line():
    assert lookup("random-3").name == "random"
    with tiny.refused("'nonsense' is not known"):
        lookup("nonsense")
