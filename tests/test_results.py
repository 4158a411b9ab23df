"""Results: kept, read back whole, and compared: equal where promised, the spread over seeds elsewhere."""

import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny

from sfusion import SfusionError, load_results, open_results
from sfusion.records.profiles import ROOT
from sfusion.records.results import FRAMES, compare


@pytest.fixture
def results():
    return tiny.make_results(lambda task, seed, label, removed: (0.1 + 0.2, 1 / 3))


@pytest.fixture
def folder(results, tmp_path):
    results.save(tmp_path / "kept")
    return tmp_path / "kept"


def _refused(folder):
    with pytest.raises(SfusionError) as error:
        load_results(folder)
    message = tiny.one_line(error)
    assert str(folder) in message
    return message


def test_what_is_saved_comes_back_bit_for_bit(results, folder):
    again = load_results(folder)
    for name in FRAMES:
        pd.testing.assert_frame_equal(getattr(again, name), getattr(results, name), check_exact=True)
    assert again.manifest == results.manifest


def test_the_folder_holds_frames_and_a_manifest_alone(folder):
    expected = {*(f"{name}.parquet" for name in FRAMES), "manifest.json"}
    assert {file.name for file in folder.iterdir()} == expected


def test_saving_twice_gives_the_same_bytes(results, folder, tmp_path):
    results.save(tmp_path / "again")
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_frames_of_a_stage_that_has_not_run_come_back_empty(results, tmp_path):
    empty = replace(results, distillation=results.distillation.head(0))
    empty.save(tmp_path)
    again = load_results(tmp_path).distillation
    assert again.empty
    assert list(again) == list(results.distillation)


@pytest.mark.parametrize("name", [*(f"{n}.parquet" for n in FRAMES), "manifest.json"])
def test_a_missing_file_is_named(name, folder):
    (folder / name).unlink()
    assert name in _refused(folder)


def test_matching_keeps_the_tasks_and_seeds_that_the_other_has(results):
    units = results.tasks[["task", "seed"]].drop_duplicates().iloc[1:3]
    other = replace(results, tasks=results.tasks.merge(units))
    kept = results.matching(other)
    expected = set(units.itertuples(index=False, name=None))
    for name in FRAMES:
        before, after = getattr(results, name), getattr(kept, name)
        mine = [unit in expected for unit in zip(before["task"], before["seed"], strict=True)]
        pd.testing.assert_frame_equal(after, before[mine].reset_index(drop=True))
    assert kept.manifest == results.manifest


def test_a_missing_folder_says_what_to_do(tmp_path):
    message = _refused(tmp_path / "nothing")
    assert "make reproduce" in message


@pytest.mark.parametrize("name", [*(f"{n}.parquet" for n in FRAMES), "manifest.json"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00 no such thing", None], ids=str)
def test_a_damaged_file_is_one_line(content, name, folder):
    file = folder / name
    file.write_bytes(file.read_bytes()[:-20] if content is None else content)
    assert "damaged" in _refused(folder)


def test_a_folder_in_the_way_of_a_file_is_one_line(folder):
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    _refused(folder)


def test_a_build_folder_of_ones_own_is_the_same_from_every_folder(tmp_path):
    # Notebooks run in their own folder, and must find what the command line wrote.
    code = "from sfusion.records.results import BUILD; print(BUILD)"
    environment = {**os.environ, "SFUSION_BUILD": "mine", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'mine'}\n"


@pytest.mark.parametrize(("profile", "mode"), [("smoke", "rerun"), ("smoke", ""), ("embeded", "replay")])
def test_an_unknown_mode_or_profile_is_one_line(profile, mode):
    with pytest.raises(SfusionError) as error:
        open_results(profile, mode)
    assert repr(mode if profile == "smoke" else profile) in tiny.one_line(error)


@pytest.mark.parametrize(("mode", "where"), [("replay", "smoke"), ("built", "smoke/results")])
def test_results_are_opened_where_they_lie(mode, where, results, tmp_path, monkeypatch):
    for name in ("COMMITTED", "BUILD"):
        monkeypatch.setattr(f"sfusion.records.results.{name}", tmp_path)
    results.save(tmp_path / where)
    found = open_results("smoke", mode)
    assert found.manifest == results.manifest
    pd.testing.assert_frame_equal(found.nodes, results.nodes)


# --- comparison -------------------------------------------------------------------------------

TASKS, SEEDS = ("t", "u", "v"), (0, 1, 2)


def _score(task, seed, label, removed):
    place = tiny.LABELS.index(label) if label else 0
    value = 0.80 - 0.05 * removed + 0.002 * place + 0.005 * seed
    return value, value - 0.01


def _taught(task, seed, condition, removed):
    value = 0.82 - 0.05 * removed + 0.005 * seed
    return value, value - 0.01


@pytest.fixture
def old():
    return tiny.make_results(_score, _taught, TASKS, SEEDS)


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
    kinds = {"original", "distillation", "signals", "texts", "strategies"}
    assert kinds <= set(table["what"])


def test_every_cell_is_counted(old, new):
    table = compare(new, old)
    # Two scores of: the original; two depths of each strategy; three conditions, two of them twice.
    assert _row(table, "t", "original").same == 2
    assert _row(table, "t", "strategies").same == 2 * 2 * len(tiny.LABELS)
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


def test_one_changed_taught_fails_on_the_same_machine(old, new):
    new.distillation.loc[0, "test_accuracy"] += 1 / 400
    failed = compare(new, old).query("not passed")
    assert failed[["task", "what"]].values.tolist() == [["t", "distillation"]]


def test_changes_that_cancel_over_seeds_fail_on_the_same_machine(old, new):
    rows = new.distillation.query("task == 't' and condition == 'distilled' and removed == 1").index
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


def test_a_changed_redundancy_measure_fails_on_the_same_machine(old, new):
    new.signals.loc[3, "block-influence"] += 1e-9
    assert compare(new, old).query("not passed")["what"].tolist() == ["signals"]


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
    old = tiny.make_results(_score, _taught, TASKS, (0,))
    noisy = _noisy(_elsewhere(deepcopy(old)), 0.005)
    assert compare(noisy, old)["passed"].all()
    # 400 samples at 0.75: an error of 2.2 points, of a difference 3.1, three of them 9.2.
    far = _noisy(_elsewhere(deepcopy(old)), 0.0, shift=-0.12)
    assert not compare(far, old).query("what != 'texts'")["passed"].any()


@pytest.mark.parametrize("split, fails", [("test", False), ("validation", True)])
def test_a_split_of_more_samples_has_the_smaller_error(split, fails):
    old = tiny.make_results(_score, _taught, TASKS, (0,))
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
        "trajectories": less.trajectories[less.trajectories["strategy"] != "top-first"],
        "distillation": less.distillation[less.distillation["removed"] != 2],
    }
    less = replace(less, **fewer)
    new, old = (less, old) if missing_in == "new" else (new, less)
    table = compare(_elsewhere(new) if elsewhere else new, old)
    failed = set(table[~table["passed"]]["what"])
    assert {"strategies", "distillation"} <= failed


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("missing_in", ["new", "old"])
def test_a_missing_task_fails(missing_in, elsewhere, old):
    less = tiny.make_results(_score, _taught, ("t", "u"), SEEDS)
    new, old = (less, old) if missing_in == "new" else (old, less)
    table = compare(_elsewhere(new) if elsewhere else new, old)
    assert not table[table["task"] == "v"]["passed"].any()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_missing_seed_fails(elsewhere, old):
    less = tiny.make_results(_score, _taught, TASKS, SEEDS[:-1])
    table = compare(_elsewhere(less) if elsewhere else less, old)
    assert not table["passed"].all()


def test_results_read_from_files_compare_as_those_in_memory(old, new, tmp_path):
    old.save(tmp_path)
    table = compare(new, load_results(tmp_path))
    assert table["passed"].all()
    pd.testing.assert_frame_equal(table, compare(new, old))
