"""Comparison: equal numbers where they are promised, the spread over seeds elsewhere."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from sfusion.records.comparison import same_kind

from sfusion.records.results import compare

TASKS, SEEDS = ("t", "u", "v"), (0, 1, 2)


def _score(task, seed, label, removed):
    place = tiny.LABELS.index(label) if label else 0
    value = 0.80 - 0.05 * removed + 0.002 * place + 0.005 * seed
    return value, value - 0.01


def _arm(task, seed, arm, removed):
    value = 0.82 - 0.05 * removed + 0.005 * seed
    return value, value - 0.01


@pytest.fixture
def old():
    return tiny.make_results(_score, _arm, TASKS, SEEDS)


@pytest.fixture
def new(old):
    return deepcopy(old)


def _elsewhere(results):
    return replace(results, manifest={"machine": {"processor": "another", "threads": 1}})


def _noisy(results, deviation, seed=0, shift=0.0):
    """Add noise to every accuracy, in steps of one of the 400 test samples."""
    rng, columns = np.random.default_rng(seed), ["validation_accuracy", "test_accuracy"]
    frames = {}
    for name in ("nodes", "distillation"):
        frame = getattr(results, name).copy()
        noise = rng.normal(shift, deviation, size=(len(frame), 2))
        frame[columns] = (frame[columns] + np.round(noise * 400) / 400).clip(0, 1)
        frames[name] = frame
    return replace(results, **frames)


def _row(table, task, what):
    (row,) = table[(table["task"] == task) & (table["what"] == what)].itertuples()
    return row


def test_identical_results_pass_on_the_same_machine(old, new):
    table = compare(new, old)
    assert table["passed"].all()
    assert (table[["within", "differs"]] == 0).all(axis=None)
    assert (table["same"] > 0).all()
    assert set(table["asked"]) == {"same numbers", "same texts"}
    assert set(table["task"]) == set(TASKS)
    kinds = {"original", "distillation", "signals", "texts", "fusion", "random", "position"}
    assert kinds <= set(table["what"])


def test_every_cell_is_counted(old, new):
    table = compare(new, old)
    # Two scores of: the original; two depths of each walk; three arms, two of them twice.
    assert _row(table, "t", "original").same == 2
    assert _row(table, "t", "random").same == 2 * 2 * 2
    assert _row(table, "t", "fusion").same == 2 * 2 * 4
    assert _row(table, "t", "distillation").same == 2 * 5
    assert _row(table, "t", "texts").same == len(SEEDS)
    nodes = (old.nodes["task"] == "t").sum()
    assert _row(table, "t", "signals").same == 2 * nodes


@pytest.mark.parametrize("column", ["validation_accuracy", "test_accuracy"])
@pytest.mark.parametrize("step", [1 / 400, 1e-12])
def test_one_changed_accuracy_fails_on_the_same_machine(step, column, old, new):
    number = new.nodes.index[(new.nodes["task"] == "u") & (new.nodes["removed"] == 2)][0]
    new.nodes.loc[number, column] += step
    table = compare(new, old)
    failed = table[~table["passed"]]
    assert failed["task"].tolist() == ["u"]
    assert failed["what"].iloc[0] != "texts"


def test_one_changed_arm_fails_on_the_same_machine(old, new):
    new.distillation.loc[0, "test_accuracy"] += 1 / 400
    failed = compare(new, old).query("not passed")
    assert failed[["task", "what"]].values.tolist() == [["t", "distillation"]]


def test_changes_that_cancel_over_seeds_fail_on_the_same_machine(old, new):
    rows = new.distillation.query("task == 't' and arm == 'distilled' and removed == 1").index
    new.distillation.loc[rows[:2], "test_accuracy"] += [1 / 64, -1 / 64]
    assert not compare(new, old)["passed"].all()


def test_one_changed_signal_fails_on_the_same_machine(old, new):
    number = new.signals.index[new.signals["task"] == "v"][5]
    new.signals.loc[number, "energy"] = np.nextafter(new.signals.loc[number, "energy"], 9)
    failed = compare(new, old).query("not passed")
    assert failed[["task", "what", "differs"]].values.tolist() == [["v", "signals", 1]]


def test_another_path_fails_on_the_same_machine(old, new):
    # The same accuracies by another way down: the removal order is a finding too.
    for frame in (new.nodes, new.signals, new.trajectories, new.distillation):
        frame["path"] = frame["path"].str.replace(tiny.path_of("energy", 2), "38-39")
    assert not compare(new, old)["passed"].all()


def test_identical_results_pass_elsewhere(old, new):
    table = compare(_elsewhere(new), old)
    assert table["passed"].all()
    assert set(table["asked"]) == {"within the spread over seeds", "same texts"}
    assert "signals" not in set(table["what"])


@pytest.mark.parametrize("seed", range(5))
def test_small_noise_passes_elsewhere(seed, old, new):
    # Half a per cent: a hundredth of what 400 samples leave open is no finding.
    table = compare(_noisy(_elsewhere(new), 0.005, seed), old)
    assert table["passed"].all()
    assert table["within"].sum() > 0


@pytest.mark.parametrize("seed", range(5))
def test_rounding_that_went_its_own_way_passes_elsewhere(seed):
    # Seeds vary by 2 points, alike on both machines: they have the same texts and orders. What
    # rounding makes of that differs by a point on each, node by node.
    def study(draw):
        own, common = np.random.default_rng(draw), np.random.default_rng(seed)

        def score(task, seed, label, removed):
            values = 0.8 - 0.05 * removed + common.normal(0, 0.02, 2) + own.normal(0, 0.01, 2)
            return tuple(np.round(values * 400) / 400)

        return tiny.make_results(score, lambda *k: score(k[0], k[1], None, k[3]), TASKS, SEEDS)

    table = compare(_elsewhere(study(100 + seed)), study(200 + seed))
    assert table["passed"].all()


def test_chance_fails_elsewhere(old, new):
    columns = ["validation_accuracy", "test_accuracy"]
    for frame in (new.nodes, new.distillation):
        frame[columns] = 0.5
    table = compare(_elsewhere(new), old)
    assert not table[table["what"] != "texts"]["passed"].any()


@pytest.mark.parametrize("shift", [-0.08, 0.08])
def test_a_shift_of_all_accuracies_fails_elsewhere(shift, old, new):
    table = compare(_noisy(_elsewhere(new), 0.0, shift=shift), old)
    assert not table[table["what"] != "texts"]["passed"].any()


def test_an_original_that_differs_fails_elsewhere_alone(old, new):
    root = (new.nodes["task"] == "t") & (new.nodes["path"] == "")
    new.nodes.loc[root, "test_accuracy"] -= 0.2
    failed = compare(_elsewhere(new), old).query("not passed")
    assert failed[["task", "what"]].values.tolist() == [["t", "original"]]


def test_one_seed_alone_has_the_samples_own_error():
    old = tiny.make_results(_score, _arm, TASKS, (0,))
    noisy = _noisy(_elsewhere(deepcopy(old)), 0.005)
    assert compare(noisy, old)["passed"].all()
    # 400 samples at 0.75: an error of 2.2 points, of a difference 3.1, three of them 9.2.
    far = _noisy(_elsewhere(deepcopy(old)), 0.0, shift=-0.12)
    assert not compare(far, old).query("what != 'texts'")["passed"].any()


@pytest.mark.parametrize("split, fails", [("test", False), ("validation", True)])
def test_a_split_of_more_samples_has_the_smaller_error(split, fails):
    old = tiny.make_results(_score, _arm, TASKS, (0,))
    old.tasks["validation"] = 40_000
    new = _elsewhere(deepcopy(old))
    new.nodes[f"{split}_accuracy"] += 0.05
    assert (not compare(new, old).query("what == 'original'")["passed"].any()) == fails


@pytest.mark.parametrize("elsewhere", [False, True])
def test_other_texts_fail(elsewhere, old, new):
    new.tasks.loc[new.tasks["task"] == "u", "fingerprint"] = "of something else"
    new = _elsewhere(new) if elsewhere else new
    failed = compare(new, old).query("not passed")
    assert failed[["task", "what"]].values.tolist() == [["u", "texts"]]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("missing_in", ["new", "old"])
def test_a_missing_cell_fails(missing_in, elsewhere, old, new):
    less = new if missing_in == "new" else old
    fewer = {
        "visits": less.trajectories[less.trajectories["strategy"] != "top-first"],
        "distillation": less.distillation[less.distillation["removed"] != 2],
    }
    less = replace(less, **fewer)
    new, old = (less, old) if missing_in == "new" else (new, less)
    table = compare(_elsewhere(new) if elsewhere else new, old)
    failed = set(table[~table["passed"]]["what"])
    assert {"position", "distillation"} <= failed


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("missing_in", ["new", "old"])
def test_a_missing_task_fails(missing_in, elsewhere, old):
    less = tiny.make_results(_score, _arm, ("t", "u"), SEEDS)
    new, old = (less, old) if missing_in == "new" else (old, less)
    table = compare(_elsewhere(new) if elsewhere else new, old)
    assert not table[table["task"] == "v"]["passed"].any()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_missing_seed_fails(elsewhere, old):
    less = tiny.make_results(_score, _arm, TASKS, SEEDS[:-1])
    table = compare(_elsewhere(less) if elsewhere else less, old)
    assert not table["passed"].all()


def test_machines_are_the_same_when_all_that_is_described_is():
    one = {"machine": {"processor": {"name": "x"}, "threads": 1}}
    assert same_kind(one, deepcopy(one))
    for changed in ({"processor": {"name": "y"}, "threads": 1},
                    {"processor": {"name": "x"}, "threads": 2}):  # fmt: skip
        assert not same_kind(one, {"machine": changed})
    assert same_kind({**one, "revision": "a"}, {**one, "revision": "b"})


def test_results_read_from_files_compare_as_those_in_memory(old, new, tmp_path):
    from sfusion import load_results

    old.save(tmp_path)
    table = compare(new, load_results(tmp_path))
    assert table["passed"].all()
    pd.testing.assert_frame_equal(table, compare(new, old))
