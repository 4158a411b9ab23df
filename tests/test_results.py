"""Results: kept, read back whole, compared: equal, or within the spread over seeds."""

import runpy
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny

from sfusion import load_results, open_results
from sfusion.experiments.comparison import compare
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.results import FRAMES

TASKS, SEEDS = ("t", "u", "v"), (0, 1, 2)
ACCURACIES = ["validation_accuracy", "test_accuracy"]
FILES = [*(f"{name}.parquet" for name in FRAMES), "manifest.json"]


def _score(task, seed, label, removed):
    place = tiny.LABELS.index(label) if label else 0
    value = 0.80 - 0.05 * removed + 0.002 * place + 0.005 * seed
    return value, value - 0.01


def _taught(task, seed, condition, removed):
    value = 0.82 - 0.05 * removed + 0.005 * seed
    return value, value - 0.01


@pytest.fixture(scope="module")
def results():
    return tiny.make_results(_score, _taught, TASKS, SEEDS)


@pytest.fixture
def folder(results, tmp_path):
    results.save(tmp_path / "kept")
    return tmp_path / "kept"


def _refused(folder):
    message = tiny.refusal(load_results, folder)
    assert str(folder) in message
    return message


def test_what_is_saved_comes_back_bit_for_bit(results, folder, tmp_path):
    empty = replace(
        results, distillation=results.distillation.head(0)
    )  # of a stage that has not run
    empty.save(tmp_path)
    for kept, again in (
        (results, load_results(folder)),
        (empty, load_results(tmp_path)),
    ):
        for name in FRAMES:
            pd.testing.assert_frame_equal(
                getattr(again, name), getattr(kept, name), check_exact=True
            )
        assert again.manifest == kept.manifest


def test_the_folder_holds_frames_and_a_manifest_alone_and_the_same_bytes_each_time(
    results, folder, tmp_path
):
    results.save(tmp_path / "again")
    first, second = (
        {file.name: file.read_bytes() for file in one.iterdir()}
        for one in (folder, tmp_path / "again")
    )
    assert set(first) == set(FILES)
    assert first == second


def test_a_missing_folder_says_what_to_do(tmp_path):
    assert "make reproduce" in _refused(tmp_path / "nothing")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_or_a_folder_in_its_way_is_named(name, folder):
    (folder / name).unlink()
    message = _refused(folder)
    assert name in message
    (folder / name).mkdir()
    assert _refused(folder) == message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"\xff\x00 no such thing", None], ids=str)
def test_a_damaged_file_is_one_line(content, name, folder):
    file = folder / name
    file.write_bytes(file.read_bytes()[:-20] if content is None else content)
    assert "damaged" in _refused(folder)


def test_a_build_folder_of_ones_own_is_the_same_from_every_folder(
    tmp_path, monkeypatch
):
    # Notebooks run in their own folder, and must find what the command line wrote.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFUSION_BUILD", "mine")
    assert (
        runpy.run_path(ROOT / "sfusion" / "experiments" / "results.py")["BUILD"]
        == tmp_path / "mine"
    )


@pytest.mark.parametrize(
    ("profile", "mode"), [("smoke", "rerun"), ("smoke", ""), ("embeded", "replay")]
)
def test_an_unknown_mode_or_profile_is_one_line(profile, mode):
    with tiny.refused(repr(mode if profile == "smoke" else profile)):
        open_results(profile, mode)


@pytest.mark.parametrize(
    ("mode", "where"), [("replay", "smoke"), ("built", "smoke/results")]
)
def test_results_are_opened_where_they_lie(mode, where, results, tmp_path, monkeypatch):
    for name in ("COMMITTED", "BUILD"):
        monkeypatch.setattr(f"sfusion.experiments.results.{name}", tmp_path)
    results.save(tmp_path / where)
    found = open_results("smoke", mode)
    assert found.manifest == results.manifest
    pd.testing.assert_frame_equal(found.nodes, results.nodes)


# --- comparison
# -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_seed():
    return tiny.make_results(_score, _taught, TASKS, (0,))


@pytest.fixture
def new(results):
    return deepcopy(results)


def _elsewhere(results):
    return replace(
        results, manifest={"machine": {"processor": "another", "threads": 1}}
    )


def _changed(results, change):
    """Change every accuracy of a study, as another machine found it."""
    frames = {name: getattr(results, name).copy() for name in ("nodes", "distillation")}
    for frame in frames.values():
        frame[ACCURACIES] = change(frame[ACCURACIES])
    return _elsewhere(replace(results, **frames))


def _failed(new, results):
    return compare(new, results).query("not passed")[["task", "what"]].values.tolist()


def _nothing_passes_but_texts(new, results):
    return not compare(new, results).query("what != 'texts'")["passed"].any()


HERE_OR_ELSEWHERE = pytest.mark.parametrize(
    "place", [replace, _elsewhere], ids=["here", "elsewhere"]
)


@HERE_OR_ELSEWHERE
def test_identical_results_pass(place, results, new):
    table, here = compare(place(new), results), place == replace
    assert table["passed"].all()
    assert (table[["within", "differs"]] == 0).all(axis=None)
    assert (table["same"] > 0).all()
    assert set(table["asked"]) == {
        "same numbers" if here else "within the spread over seeds",
        "same texts",
    }
    assert set(table["task"]) == set(TASKS)
    assert ("signals" in set(table["what"])) == here


def test_every_cell_is_counted(results, new):
    found = compare(new, results).query("task == 't'").set_index("what")["same"]
    # Two scores of: the original; two depths of each strategy; three conditions, two of
    # them twice.
    scores = {
        "original": 2,
        "strategies": 2 * 2 * len(tiny.LABELS),
        "distillation": 2 * 5,
    }
    assert found.to_dict() == scores | {
        "texts": len(SEEDS),
        "signals": 2 * (results.nodes["task"] == "t").sum(),
    }


@pytest.mark.parametrize("step", [0, 1 / 400, 1e-12])
@pytest.mark.parametrize(
    "frame, column, what",
    [
        ("nodes", "validation_accuracy", "strategies"),
        ("nodes", "test_accuracy", "strategies"),
        ("distillation", "test_accuracy", "distillation"),
        ("signals", "energy", "signals"),
        ("signals", "block-influence", "signals"),
    ],
)
def test_one_changed_number_fails_on_the_same_machine(
    frame, column, what, step, results, new
):
    rows = getattr(new, frame)
    at = rows.index[rows["task"] == "u"][-1], column
    rows.loc[at] = np.nextafter(rows.loc[at], 9) + step
    (failed,) = compare(new, results).query("not passed").itertuples()
    assert (failed.task, failed.what, failed.within + failed.differs) == ("u", what, 1)


def test_changes_that_cancel_over_seeds_fail_on_the_same_machine(results, new):
    rows = new.distillation.query(
        "task == 't' and condition == 'distilled' and removed == 1"
    ).index
    new.distillation.loc[rows[:2], "test_accuracy"] += [1 / 64, -1 / 64]
    assert ["t", "distillation"] in _failed(new, results)


def test_another_path_fails_on_the_same_machine(results, new):
    # The same accuracies by another path: the removal order is a finding too.
    for frame in (new.nodes, new.signals, new.trajectories, new.distillation):
        frame["path"] = frame["path"].str.replace(tiny.path_of("energy", 2), "38-39")
    assert _failed(new, results)


@pytest.mark.parametrize("seed", range(5))
def test_small_noise_passes_elsewhere(seed, results):
    # Half a per cent, in steps of one sample: a hundredth of what 400 samples leave
    # open is no finding.
    rng = np.random.default_rng(seed)
    noisy = _changed(
        results,
        lambda values: (
            values + np.round(rng.normal(0, 0.005, values.shape) * 400) / 400
        ),
    )
    table = compare(noisy, results)
    assert table["passed"].all()
    assert table["within"].sum() > 0


@pytest.mark.parametrize("seed", range(5))
def test_rounding_that_went_its_own_way_passes_elsewhere(seed):
    # Seeds vary by 2 points, alike on both machines: they have the same texts and
    # orders. What rounding makes of that differs by a point on each, node by node.
    def study(draw):
        own, common = np.random.default_rng(draw), np.random.default_rng(seed)

        def score(task, seed, label, removed):
            values = (
                0.8
                - 0.05 * removed
                + common.normal(0, 0.02, 2)
                + own.normal(0, 0.01, 2)
            )
            return tuple(np.round(values * 400) / 400)

        return tiny.make_results(score, score, TASKS, SEEDS)

    assert not _failed(_elsewhere(study(100 + seed)), study(200 + seed))


@pytest.mark.parametrize(
    "change",
    [lambda values: 0.5, lambda values: values - 0.08, lambda values: values + 0.08],
    ids=["chance", "−", "+"],
)
def test_chance_and_a_shift_of_all_accuracies_fail_elsewhere(change, results):
    assert _nothing_passes_but_texts(_changed(results, change), results)


def test_an_original_that_differs_fails_elsewhere_alone(results, new):
    root = (new.nodes["task"] == "t") & (new.nodes["path"] == "")
    new.nodes.loc[root, "test_accuracy"] -= 0.2
    assert _failed(_elsewhere(new), results) == [["t", "original"]]


def test_one_seed_alone_has_the_samples_own_error(one_seed):
    # 400 samples at 0.75: an error of 2.2 points, of a difference 3.1, three of them
    # 9.2.
    assert not _failed(_changed(one_seed, lambda values: values - 0.06), one_seed)
    assert _nothing_passes_but_texts(
        _changed(one_seed, lambda values: values - 0.12), one_seed
    )


@pytest.mark.parametrize("split, fails", [("test", False), ("validation", True)])
def test_a_split_of_more_samples_has_the_smaller_error(split, fails, one_seed):
    results = replace(one_seed, tasks=one_seed.tasks.assign(validation=40_000))
    new = _elsewhere(deepcopy(results))
    new.nodes[f"{split}_accuracy"] += 0.05
    assert (
        not compare(new, results).query("what == 'original'")["passed"].any()
    ) == fails


def test_a_study_without_any_signals_fails_on_the_same_machine(results, new):
    lacking = replace(new, signals=new.signals.query("task != 'u'"))
    assert _failed(lacking, results) == [["u", "signals"]]


@HERE_OR_ELSEWHERE
def test_other_texts_fail(place, results, new):
    new.tasks.loc[new.tasks["task"] == "u", "fingerprint"] = "of something else"
    assert _failed(place(new), results) == [["u", "texts"]]


@HERE_OR_ELSEWHERE
@pytest.mark.parametrize("missing_in", ["new", "results"])
@pytest.mark.parametrize(
    "keep, lost",
    [
        (
            lambda r: replace(
                r, trajectories=r.trajectories.query("strategy != 'top-first'")
            ),
            "what == 'strategies'",
        ),
        (
            lambda r: replace(r, distillation=r.distillation.query("removed != 2")),
            "what == 'distillation'",
        ),
        (lambda r: tiny.of_units(r, "task != 'v'"), "task == 'v'"),
        (lambda r: tiny.of_units(r, "seed != 2"), "what != 'signals'"),
    ],
    ids=["strategy", "depth", "task", "seed"],
)
def test_what_one_study_lacks_fails(keep, lost, missing_in, place, results):
    new, results = (
        (keep(results), results) if missing_in == "new" else (results, keep(results))
    )
    failing = compare(place(new), results).query(lost)
    assert len(failing) and not failing["passed"].any()
