"""Fusion: the table of tried removals, its scaling, and whether a planted signal is found."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from sfusion import SIGNALS, STRATEGIES, SfusionError, fit_fusion, training_table
from sfusion.pruning.fusion import FUSION_MODELS, LABEL, READS, shipped_fusion, standardise
from sfusion.pruning.strategies import View

NAMES = list(SIGNALS)
MODELS = list(FUSION_MODELS)


def _signal_rows(path, layers, values, task="t", seed=0):
    """Give every signal the same values, times its position in the list of signals."""
    return [
        {"task": task, "seed": seed, "path": path, "layer": layer}
        | {name: (1 + i) * value for i, name in enumerate(NAMES)}
        for layer, value in zip(layers, values, strict=True)
    ]


def _planted(parents=40, layers=6, noise=0.0, seed=0):
    """Make a table whose label is one signal, and another half as much; ten say nothing."""
    rng = np.random.default_rng(seed)
    rows = []
    for parent in range(parents):
        signals = standardise(pd.DataFrame(rng.normal(size=(layers, 12)), columns=NAMES))
        label = signals["weight-norm"] - 0.5 * signals["energy"]
        for layer in range(layers):
            rows.append(
                {"task": f"t{parent % 2}", "seed": 0, "path": str(parent), "layer": layer}
                | signals.iloc[layer].to_dict()
                | {LABEL: label[layer] + noise * rng.normal()}
            )
    return pd.DataFrame(rows)


@pytest.fixture
def tree():
    """Root with three layers; layers 0 and 2 were tried, and then layer 1 after layer 2."""
    nodes = pd.DataFrame(
        [("t", 0, "", 0.8), ("t", 0, "0", 0.7), ("t", 0, "2", 0.85), ("t", 0, "2-1", 0.55)],
        columns=["task", "seed", "path", "validation_accuracy"],
    )
    signals = pd.DataFrame(
        _signal_rows("", [0, 1, 2], [1.0, 2.0, 3.0])
        + _signal_rows("0", [1, 2], [5.0, 9.0])
        + _signal_rows("2", [0, 1], [4.0, 2.0])
        + _signal_rows("2-1", [0], [7.0])
    )
    return nodes, signals


def test_the_table_has_a_row_a_tried_removal(tree):
    table = training_table(*tree)
    assert list(table.columns) == ["task", "seed", "path", "layer", *NAMES, LABEL]
    assert table[["path", "layer"]].values.tolist() == [["", 0], ["", 2], ["2", 1]]
    # After less before: .7 - .8, .85 - .8, .55 - .85.
    np.testing.assert_allclose(table[LABEL], [-0.1, 0.05, -0.3], atol=1e-15)
    # 1, 2, 3 have mean 2 and deviation sqrt(2/3); 4, 2 have mean 3 and deviation 1.
    for name in NAMES:
        np.testing.assert_allclose(table[name], [-np.sqrt(1.5), np.sqrt(1.5), -1], atol=1e-12)


def test_test_accuracy_is_never_read(tree):
    nodes, signals = tree
    table = training_table(nodes, signals)
    nodes = nodes.assign(test_accuracy=[0.1, 0.9, 0.3, 0.7])
    pd.testing.assert_frame_equal(training_table(nodes, signals), table)


def test_tasks_and_seeds_stay_apart(tree):
    nodes, signals = tree
    others = [("u", 0), ("t", 1)]
    all_nodes = pd.concat([nodes, *(nodes.assign(task=t, seed=s, validation_accuracy=0.5) for t, s in others)])
    all_signals = pd.concat([signals, *(signals.assign(task=t, seed=s) for t, s in others)])
    table = training_table(all_nodes.reset_index(drop=True), all_signals.reset_index(drop=True))
    assert len(table) == 9
    mine = table[(table["task"] == "t") & (table["seed"] == 0)].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, training_table(nodes, signals))
    assert (table.drop(index=table.index[:3])[LABEL] == 0).sum() == 6


def test_the_order_of_nodes_and_signals_does_not_matter(tree):
    nodes, signals = tree
    table = training_table(nodes, signals)
    turned = training_table(nodes.iloc[::-1], signals.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(turned, table)


def test_layer_numbers_of_two_digits(tree):
    nodes, signals = tree
    nodes.loc[3, "path"], signals.loc[6, "layer"] = "2-11", 11
    table = training_table(nodes, signals)
    assert table[["path", "layer"]].values.tolist()[-1] == ["2", 11]


def test_a_tree_without_removals_gives_no_rows(tree):
    nodes, signals = tree
    table = training_table(nodes[nodes["path"] == ""], signals[signals["path"] == ""])
    assert len(table) == 0
    with pytest.raises(SfusionError) as error:
        fit_fusion(table)
    assert "at least two tried removals" in tiny.one_line(error)


columns = st.lists(st.floats(-1e6, 1e6).map(lambda v: round(v, 3)), min_size=2, max_size=12)


@given(values=columns)
def test_standardised_columns_have_mean_0_and_deviation_1(values):
    frame = pd.DataFrame({"a": values, "b": 7.0})
    found = standardise(frame)
    assert (found["b"] == 0).all()
    if len(set(values)) == 1:
        assert (found["a"] == 0).all()
        return
    # Mean and deviation are recomputed in float64; 1e-6 bears that a spread may be a
    # billionth of the values themselves.
    assert found["a"].mean() == pytest.approx(0, abs=1e-6)
    assert found["a"].std(ddof=0) == pytest.approx(1, rel=1e-6)
    assert (found["a"].rank() == frame["a"].rank()).all()


@given(values=columns.filter(lambda v: len(set(v)) > 1), scale=st.floats(0.1, 1e3))
def test_standardising_forgets_scale_and_offset(values, scale):
    one = standardise(pd.DataFrame({"a": values}))
    other = standardise(pd.DataFrame({"a": [scale * v + 5 for v in values]}))
    np.testing.assert_allclose(one, other, atol=1e-5)  # rounding of values up to 1e9 around it


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 1e-9, 12345.678])
@pytest.mark.parametrize("count", [1, 3, 6, 12])
def test_a_constant_column_is_exactly_0(value, count):
    # The mean of equal numbers is not always that number: 0.1 six times over is the known case.
    assert (standardise(pd.DataFrame({"a": [value] * count}))["a"] == 0).all()


@pytest.mark.parametrize("model", MODELS)
def test_a_fit_does_not_depend_on_the_order_of_rows(model):
    table = _planted(noise=0.5)
    grid = _planted(parents=3, seed=9)[NAMES]
    expected = fit_fusion(table, model).predict(grid)
    for state in range(2):
        found = fit_fusion(table.sample(frac=1, random_state=state), model).predict(grid)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("model", MODELS)
def test_two_fits_give_the_same_bits_and_leave_the_registry_unfitted(model):
    table, grid = _planted(noise=0.5), _planted(parents=3, seed=9)[NAMES]
    one, other = (fit_fusion(table, model).predict(grid) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert not hasattr(FUSION_MODELS[model], "n_features_in_")


def test_linear_regression_is_least_squares():
    table = _planted(noise=0.3)
    fitted = fit_fusion(table, "linear-regression")
    design = np.column_stack([np.ones(len(table)), table[NAMES]])
    expected = np.linalg.lstsq(design, table[LABEL], rcond=None)[0]
    assert isinstance(fitted, LinearRegression)
    np.testing.assert_allclose([fitted.intercept_, *fitted.coef_], expected, atol=1e-9)


def test_predictions_do_not_depend_on_the_workers_around_them():
    # A forest that adds up its trees in several threads adds in the order they finish.
    from joblib import parallel_config

    fitted = fit_fusion(_planted(noise=0.5), "random-forest")
    grid = _planted(parents=30, seed=9)[NAMES]
    alone = fitted.predict(grid)
    for _ in range(10):
        with parallel_config(backend="loky", n_jobs=4):
            np.testing.assert_array_equal(fitted.predict(grid), alone)


def test_a_signal_that_the_rows_lack_is_done_without(monkeypatch):
    table = _planted(parents=8)
    before = fit_fusion(table, "linear-regression")
    monkeypatch.setitem(READS, "signals", [*READS["signals"], "new-signal"])
    after = fit_fusion(table, "linear-regression")
    assert list(after.feature_names_in_) == NAMES
    seen = View((0, 1, 2), pd.DataFrame(np.eye(3, 12), columns=NAMES), None, after, 3)
    monkeypatch.setattr("sfusion.pruning.fusion.SIGNALS", dict.fromkeys([*NAMES, "new-signal"]))
    scored = STRATEGIES["linear-regression"].score(
        replace(seen, signals=seen.signals.assign(**{"new-signal": [9.0, 1.0, 5.0]}))
    )
    expected = before.predict(standardise(seen.signals))
    np.testing.assert_array_equal(scored, expected)


def test_an_unknown_model_is_one_line():
    with pytest.raises(SfusionError) as error:
        fit_fusion(_planted(parents=4), "boosting")
    assert "'boosting'" in tiny.one_line(error)


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_removals_are_one_line(rows):
    with pytest.raises(SfusionError) as error:
        fit_fusion(_planted().head(rows))
    assert f"there are {rows}" in tiny.one_line(error)


@pytest.mark.parametrize("reads", READS)
def test_the_shipped_removals_make_a_fusion(reads):
    fitted = shipped_fusion("random-forest", reads)
    assert list(fitted.feature_names_in_) == READS[reads]
    table = pd.DataFrame(np.zeros((2, len(READS[reads]))), columns=READS[reads])
    assert np.abs(fitted.predict(table)).max() < 1
