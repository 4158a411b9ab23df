"""Fusion: the table of tried removals, its scaling, and the fits."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import example, given
from hypothesis import strategies as st
from joblib import parallel_config

from sfusion import SIGNALS, STRATEGIES, fit_fusion, training_table
from sfusion.data.pretrained import locate_model, weights_fingerprint
from sfusion.pruning.fusion import (
    FUSION_MODELS,
    LABEL,
    POSITION,
    READS,
    SHIPPED_WEIGHTS,
    shipped_rows,
    standardise,
)
from sfusion.pruning.registry import View
from sfusion.signals import MEASURES, PAPER_SIGNALS

NAMES = list(SIGNALS)


def _signals(path, values):
    """Give every signal the same values, by layer, times its place in the list."""
    return [
        {"task": "t", "seed": 0, "path": path, "layer": layer}
        | {name: (1 + i) * value for i, name in enumerate(NAMES)}
        for layer, value in values.items()
    ]


def _planted(rows=240, noise=0.5, seed=0):
    """Make a table whose label is one signal and half another; others say nothing."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(rows, len(NAMES))), columns=NAMES)
    label = table["weight-norm"] - 0.5 * table["energy"] + noise * rng.normal(size=rows)
    return table.assign(**{LABEL: label})


@pytest.fixture
def tree():
    """A root of three layers; 0 and 11 were tried, and then 2 after 11."""
    nodes = pd.DataFrame(
        [
            ("t", 0, "", 0.8),
            ("t", 0, "0", 0.7),
            ("t", 0, "11", 0.85),
            ("t", 0, "11-2", 0.55),
        ],
        columns=["task", "seed", "path", "validation_accuracy"],
    )
    root = _signals("", {0: 1.0, 2: 2.0, 11: 3.0})
    tried = (
        _signals("0", {2: 5.0, 11: 9.0})
        + _signals("11", {0: 4.0, 2: 2.0})
        + _signals("11-2", {0: 7.0})
    )
    return nodes, pd.DataFrame(root + tried)


def test_the_table_has_a_row_a_tried_removal(tree):
    table = training_table(*tree)
    assert list(table.columns) == ["task", "seed", "path", "layer", *NAMES, LABEL]
    assert table[["path", "layer"]].values.tolist() == [["", 0], ["", 11], ["11", 2]]
    assert training_table(
        *(frame[frame["path"] == ""] for frame in tree)
    ).empty  # nothing was tried
    # After less before: .7 - .8, .85 - .8, .55 - .85.
    np.testing.assert_allclose(table[LABEL], [-0.1, 0.05, -0.3], atol=1e-15)
    # 1, 2, 3 have mean 2 and deviation sqrt(2/3); 4, 2 have mean 3 and deviation 1.
    for name in NAMES:
        np.testing.assert_allclose(
            table[name], [-np.sqrt(1.5), np.sqrt(1.5), -1], atol=1e-12
        )


def test_neither_the_order_of_rows_nor_test_accuracy_matters(tree):
    nodes, signals = tree
    turned = nodes.assign(test_accuracy=[0.1, 0.9, 0.3, 0.7]).iloc[::-1]
    table = training_table(turned, signals.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(table, training_table(nodes, signals))


def test_tasks_and_seeds_stay_apart(tree):
    nodes, signals = tree
    keys = [
        {"task": "t", "seed": 0},
        {"task": "u", "seed": 0},
        {"task": "t", "seed": 1},
    ]
    scores = [nodes["validation_accuracy"], 0.5, 0.5]
    all_nodes = [
        nodes.assign(**key, validation_accuracy=score)
        for key, score in zip(keys, scores, strict=True)
    ]
    table = training_table(
        pd.concat(all_nodes), pd.concat([signals.assign(**key) for key in keys])
    )
    mine = (table["task"] == "t") & (table["seed"] == 0)
    pd.testing.assert_frame_equal(
        table[mine].reset_index(drop=True), training_table(nodes, signals)
    )
    assert table.loc[~mine, LABEL].tolist() == [0] * 6


def test_the_fusion_of_all_features_reads_measures_and_position(tree):
    nodes, signals = tree
    rng = np.random.default_rng(3)
    signals = signals.assign(
        **{name: rng.normal(size=len(signals)) for name in MEASURES}
    )
    table = training_table(nodes, signals, "all").set_index(["path", "layer"])
    assert (
        list(table)[2:-1] == READS["all"]
        and table[LABEL].tolist() == training_table(*tree)[LABEL].tolist()
    )
    for (path, layer), row in table.iterrows():
        # One layer at a time, from the definitions; the original has layers 0 to 11.
        left = sorted(signals.loc[signals["path"] == path, "layer"])
        place = left.index(layer) / (len(left) - 1), layer / 11, len(left) / 12
        assert row[
            ["place_left", "place_original", "share_left"]
        ].tolist() == pytest.approx(place)
        for name in MEASURES:
            values = signals[signals["path"] == path].set_index("layer")[name]
            assert row[name] == pytest.approx(
                (values[layer] - values.mean()) / values.std(ddof=0)
            )
    # Siblings: -.1 and .05 minus their mean; the layer that was tried alone teaches
    # nothing.
    relative = training_table(nodes, signals, "siblings").set_index(["path", "layer"])[
        LABEL
    ]
    assert relative.to_dict() == pytest.approx({("", 0): -0.075, ("", 11): 0.075})
    assert (
        list(fit_fusion(table.reset_index(), reads="all").feature_names_in_)
        == READS["all"]
    )


columns = st.lists(
    st.floats(-1e6, 1e6).map(lambda v: round(v, 3)), min_size=1, max_size=12
)


@given(values=columns)
@example(values=[0.1] * 6)  # their mean is not that number
def test_standardised_columns_have_mean_0_and_deviation_1_or_are_exactly_0(values):
    frame = pd.DataFrame({"a": values, "b": values[0]})
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


@pytest.mark.parametrize("model", FUSION_MODELS)
def test_a_fit_depends_on_no_order_of_rows(model):
    table, grid = _planted(), _planted(rows=18, seed=9)[NAMES]
    expected = fit_fusion(table, model).predict(grid)
    for rows in (
        table,
        table.sample(frac=1, random_state=0),
        table.sample(frac=1, random_state=1),
    ):
        np.testing.assert_array_equal(fit_fusion(rows, model).predict(grid), expected)


def test_predictions_do_not_depend_on_the_workers_around_them():
    # A forest that adds up its trees in several threads adds in the order they finish.
    fitted, grid = (
        fit_fusion(_planted(), "random-forest"),
        _planted(rows=180, seed=9)[NAMES],
    )
    alone = fitted.predict(grid)
    for _ in range(10):
        with parallel_config(backend="loky", n_jobs=4):
            np.testing.assert_array_equal(fitted.predict(grid), alone)


def test_a_signal_that_the_rows_lack_is_done_without(monkeypatch):
    names = [*NAMES, "new-signal"]
    signals = pd.DataFrame(np.eye(3, len(names)), columns=names)
    expected = fit_fusion(_planted(), "linear-regression").predict(
        standardise(signals[NAMES])
    )
    monkeypatch.setitem(READS, "signals", names)
    fusion = fit_fusion(_planted(), "linear-regression")
    assert list(fusion.feature_names_in_) == NAMES
    view = View((0, 1, 2), signals, None, fusion, 3)
    np.testing.assert_array_equal(STRATEGIES["linear-regression"].score(view), expected)


TOO_FEW = "at least two tried removals; there are"


@pytest.mark.parametrize(
    "rows, model, says",
    [
        (0, "random-forest", f"{TOO_FEW} 0"),
        (1, "random-forest", f"{TOO_FEW} 1"),
        (9, "boosting", "'boosting'"),
    ],
)
def test_what_cannot_be_fitted_is_one_line(rows, model, says):
    with tiny.refused(says):
        fit_fusion(_planted(rows), model)


def test_the_shipped_removals_know_their_models_by_name_and_by_weights(tmp_path):
    models = set(shipped_rows()["model"])
    assert models == set(SHIPPED_WEIGHTS)
    assert SHIPPED_WEIGHTS["minilm-l6"] == weights_fingerprint("minilm-l6")
    # The same weights in a folder of another name.
    shutil.copytree(locate_model("minilm-l6"), tmp_path / "all-MiniLM-L6-v2")
    for name in ("minilm-l6", str(tmp_path / "all-MiniLM-L6-v2")):
        assert set(shipped_rows(without=name)["model"]) == {"mpnet-base"}
    other = tiny.write_model(tmp_path / "other")
    assert set(shipped_rows(without=other)["model"]) == models


@pytest.mark.parametrize("reads", ["signals", "position", "shuffled"])
def test_the_shipped_removals_make_a_fusion(reads):
    rows = shipped_rows(reads)
    assert rows.notna().all(axis=None)
    # A part is enough to see what a forest reads, and takes less time.
    some = rows.sample(2000, random_state=0)
    fitted = fit_fusion(some, "random-forest", reads)
    shipped = set(POSITION) if reads == "position" else set(PAPER_SIGNALS)
    assert set(fitted.feature_names_in_) == shipped
    names = fitted.feature_names_in_
    table = pd.DataFrame(np.zeros((2, len(names))), columns=names)
    assert np.abs(fitted.predict(table)).max() < 1
