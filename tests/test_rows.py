"""Studies of rows: units are measured once, in rounds, and their frames compared."""

import sys
from dataclasses import replace

import pandas as pd
import pytest
import row_study
import tiny
import yaml

from sfusion import cli, load_profile, open_results
from sfusion.experiments import results as places
from sfusion.experiments.store import RecordStore
from sfusion.experiments.study import load_study

WORDS = ["fox", "quick", "the"]


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """Make the study known as a module in ``studies/`` would be."""
    monkeypatch.setitem(sys.modules, "studies.letters", row_study)


@pytest.fixture
def profile(tmp_path):
    """Write a profile of the study; its path."""
    content = {"description": "three words", "study": "letters", "words": WORDS}
    file = tmp_path / "words.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def results(profile, tmp_path):
    """Run the study."""
    return load_study(profile).run(tmp_path / "run", quiet=True)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_rows_come_in_the_order_of_rounds_and_units(
    jobs, profile, tmp_path, monkeypatch
):
    monkeypatch.setenv("SFUSION_JOBS", jobs)
    results = load_study(profile).run(tmp_path / "run", quiet=True)
    assert results["words"].to_dict("list") == {
        "word": ["quick", "fox", "the"],
        "greatest": ["u", "x", "t"],
        "size": [5, 3, 3],
    }
    assert len(results["letters"]) == 5 + 3 + 3


def test_what_is_filed_is_not_measured_again(profile, results, tmp_path, monkeypatch):
    monkeypatch.setattr(RecordStore, "put", None)
    again = load_study(profile).run(tmp_path / "run", quiet=True)
    pd.testing.assert_frame_equal(again["words"], results["words"])
    assert results.manifest["wall_seconds"] is not None
    assert again.manifest["wall_seconds"] is None
    assert again.manifest["study"] == "letters"
    assert again.manifest["profile"]["words"] == WORDS


def test_saved_results_are_opened_by_name(results, tmp_path, monkeypatch):
    monkeypatch.setattr(places, "COMMITTED", tmp_path / "results")
    results.save(tmp_path / "results" / "words")
    opened = open_results("words")
    assert opened.manifest == results.manifest
    pd.testing.assert_frame_equal(opened["letters"], results["letters"])


def test_reproduce_compares_with_the_old_results_before_it_replaces_them(
    profile, results, tmp_path, monkeypatch, capsys
):
    for module in (cli, places):
        monkeypatch.setattr(module, "BUILD", tmp_path / "build")
        monkeypatch.setattr(module, "COMMITTED", tmp_path / "results")
    other = results["words"].assign(size=[9, 9, 9])
    _with_words(results, other).save(tmp_path / "results" / "words")
    assert cli.main(["reproduce", "--profile", str(profile)]) == 1
    assert cli.main(["reproduce", "--profile", str(profile), "--accept"]) == 0
    assert capsys.readouterr().out.count("the reproduction DIFFERS") == 2
    assert cli.main(["compare", "--profile", str(profile)]) == 0
    assert "the reproduction agrees" in capsys.readouterr().out


def test_another_profile_type_checks_its_keys(profile, tmp_path):
    assert load_profile(profile).words == tuple(WORDS)
    for key, value in (("words", []), ("words", ["a", "a"]), ("seeds", [0])):
        content = yaml.safe_load(profile.read_text()) | {key: value}
        other = tmp_path / "other.yaml"
        other.write_text(yaml.safe_dump(content))
        with tiny.refused(key):
            load_profile(other)


def test_an_unknown_study_is_refused_with_the_known_ones(profile):
    profile.write_text("study: magic")
    with tiny.refused("'magic'", "pruning"):
        load_study(profile)


def _with_words(results, words):
    return replace(results, frames={**results.frames, "words": words})


def _elsewhere(results):
    return replace(results, manifest={**results.manifest, "machine": None})


@pytest.mark.parametrize(
    ("step", "here", "elsewhere"),
    [(0, True, True), (1, False, True), (2, False, False)],
)
def test_numbers_are_the_same_or_within_the_tolerance(
    step, here, elsewhere, profile, results
):
    study = load_study(profile)
    words = results["words"].copy()
    words.loc[0, "size"] += step
    new = _with_words(results, words)
    assert study.compare(new, results)["passed"].all() == here
    assert study.compare(new, _elsewhere(results))["passed"].all() == elsewhere


def test_a_row_of_one_run_alone_fails(profile, results):
    fewer = _elsewhere(_with_words(results, results["words"].drop(0)))
    for new, old in ((fewer, results), (results, fewer)):
        table = load_study(profile).compare(new, old)
        assert table.loc[~table["passed"], "frame"].unique().tolist() == ["words"]
