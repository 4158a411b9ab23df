"""Results: kept as Parquet and JSON, read back whole, and every missing piece named."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
import tiny

from sfusion import SfusionError, load_results, open_results
from sfusion.records.profiles import ROOT
from sfusion.records.results import FRAMES, STAGES


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
        pd.testing.assert_frame_equal(
            getattr(again, name), getattr(results, name), check_exact=True
        )
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
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{tmp_path / 'mine'}\n"


def test_stages_are_in_order():
    assert STAGES == ("signals", "sweep", "fusion", "distillation")


@pytest.mark.parametrize(
    "arguments, word",
    [
        ({"mode": "rerun"}, "'rerun'"),
        ({"mode": ""}, "''"),
        ({"upto": "walk"}, "'walk'"),
        ({"profile": "embeded"}, "'embeded'"),
    ],
)
def test_an_unknown_mode_stage_or_profile_is_one_line(arguments, word, folder):
    with pytest.raises(SfusionError) as error:
        open_results(**{"profile": "smoke", "folder": folder, **arguments})
    assert word in tiny.one_line(error)


def test_replay_reads_the_committed_folder_and_computes_nothing(results, tmp_path, monkeypatch):
    monkeypatch.setattr("sfusion.analysis.tables.COMMITTED", tmp_path)
    results.save(tmp_path / "smoke")
    monkeypatch.setattr("sfusion.study.compute", None)
    found = open_results("smoke", "replay")
    assert json.dumps(found.manifest) == json.dumps(results.manifest)
    pd.testing.assert_frame_equal(found.nodes, results.nodes)


def test_reproduce_computes_in_the_build_folder_up_to_the_stage(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("sfusion.analysis.tables.BUILD", tmp_path)
    monkeypatch.setattr("sfusion.study.compute", lambda *a, **k: calls.append((a, k)))
    open_results("smoke", "reproduce", "sweep", quiet=True)
    (((profile, folder), options),) = calls
    assert (profile.name, folder) == ("smoke", tmp_path / "smoke")
    assert options == {"upto": "sweep", "quiet": True}
