"""The study: all stages of the paper through one code, for six layers and for twelve."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import tiny
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from sfusion import STRATEGIES, SfusionError, load_model, load_profile, load_results, remove_layers
from sfusion.analysis.claims import CLAIMS, scoreboard
from sfusion.analysis.tables import distilled
from sfusion.models.layers import size
from sfusion.pruning.searches import Experiment, open_tree
from sfusion.pruning.strategies import expand, parse_path
from sfusion.pruning.tree import CONDITIONS
from sfusion.records.profiles import Profile
from sfusion.records.store import RecordStore
from sfusion.signals import MEASURES
from sfusion.study import machine, run_study


@pytest.fixture(scope="module", autouse=True)
def environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUSION_DATA", str(tiny.data_folder()))
        patch.setenv("SFUSION_JOBS", "1")
        patch.delenv("SFUSION_BACKEND", raising=False)
        yield


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tiny.make_profile(tiny.write_model(tmp_path_factory.mktemp("study") / "model"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def results(profile, folder):
    """A whole study with every strategy."""
    return run_study(profile, folder, quiet=True)


def _task(profile, name):
    return open_tree(Experiment(profile, name, 0), RecordStore("unused")).task


def test_every_strategy_is_followed_on_every_unit(results, profile):
    labels = expand(STRATEGIES, profile.random_orders)
    expected = {(task, 0, label, n) for task in profile.tasks for label in labels for n in range(4)}
    paths = results.trajectories
    columns = ["task", "seed", "strategy", "removed"]
    found = list(paths[columns].itertuples(index=False, name=None))
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_nodes_are_the_paths_that_were_visited_or_searched(results, profile):
    key = ["task", "seed", "path"]
    nodes = set(map(tuple, results.nodes[key].to_numpy()))
    visited = set(map(tuple, results.trajectories[key].to_numpy()))
    assert visited < nodes
    oracle = results.trajectories[(results.trajectories["strategy"] == "greedy-oracle")]
    passed_over = {
        (one.task, one.seed, f"{one.path}-{layer}".strip("-"))
        for one in oracle[oracle["removed"] < 3].itertuples()
        for layer in range(4)
        if str(layer) not in one.path.split("-")
    }
    sets = {
        (task, 0, "-".join(map(str, path)))
        for task in profile.subsets
        for removed in (1, 2, 3)
        for path in itertools.combinations((3, 2, 1, 0), removed)
    }
    assert sets
    assert nodes == visited | passed_over | sets
    assert len(nodes) == len(results.nodes)
    assert results.nodes[["validation_accuracy", "test_accuracy"]].stack().between(0, 1).all()


def test_sizes_are_those_of_the_models(results, profile):
    for node in results.nodes.itertuples():
        classes = len(_task(profile, node.task).label_names)
        model = load_model(profile.model, num_labels=classes)
        gone = parse_path(node.path)
        expected = size(remove_layers(model, gone), profile.max_length)
        assert {name: getattr(node, name) for name in expected} == expected
        assert node.removed == len(gone)


def test_signals_have_a_row_per_remaining_layer_where_they_are_read(results):
    for (_, _, path), rows in results.signals.groupby(["task", "seed", "path"]):
        gone = set(parse_path(path))
        assert rows["layer"].tolist() == sorted(set(range(4)) - gone)
    assert list(results.signals) == ["task", "seed", "path", "layer", *MEASURES]
    assert np.isfinite(results.signals[list(MEASURES)]).all(axis=None)
    # Where something reads them: not at the leaves, nor where a search alone has been.
    read = set(map(tuple, results.signals[["task", "seed", "path"]].to_numpy()))
    searches = results.trajectories["strategy"] == "greedy-oracle"
    paths = results.trajectories[~searches & (results.trajectories["removed"] < 3)]
    position = paths["strategy"].str.contains("position")
    asked = paths.loc[~position, ["task", "seed", "path"]]
    assert read == set(map(tuple, asked.to_numpy()))


def test_distillation_has_its_conditions_at_the_asked_depths(results, profile):
    frame = results.distillation
    forest = results.trajectories[results.trajectories["strategy"] == "random-forest"]
    for task in profile.tasks:
        mine = frame[frame["task"] == task]
        assert mine[mine["condition"] == "original-same-steps"]["path"].tolist() == [""]
        ways = forest[(forest["task"] == task) & forest["removed"].isin([1, 2])]
        for condition in ("distilled", "same-steps"):
            assert mine[mine["condition"] == condition]["path"].tolist() == ways["path"].tolist()
    assert set(frame["condition"]) == set(CONDITIONS)


def test_tasks_are_described_and_the_baseline_measured(results, profile):
    assert results.tasks[["task", "seed"]].values.tolist() == [[t, 0] for t in profile.tasks]
    for row in results.tasks.itertuples():
        task = _task(profile, row.task)
        assert (row.classes, row.fingerprint) == (len(task.label_names), task.fingerprint)
        assert row.source == task.source
        assert [row.train, row.validation, row.test] == [
            len(task.train), len(task.validation), len(task.test),
        ]  # fmt: skip
        counts = np.bincount(task.train.labels)
        test = task.test.labels.numpy()
        assert row.majority_accuracy == np.mean(test == counts.argmax())
        # All words are in the vocabulary and short, so the texts survive the tokenizer.
        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        baseline = LogisticRegression(max_iter=1000)
        baseline.fit(vectors.fit_transform(task.texts["train"]), task.train.labels)
        assert row.tfidf_accuracy == baseline.score(vectors.transform(task.texts["test"]), test)


def test_the_manifest_says_what_and_where(results, profile):
    manifest = results.manifest
    assert Profile(**{**manifest["profile"]}) == profile
    assert manifest["machine"] == machine(profile)
    assert manifest["machine"]["threads"] == profile.threads
    assert "torch" in manifest["machine"]["versions"]
    assert manifest["revision"]


def test_fusions_of_the_own_tree_and_of_the_others_differ(results, monkeypatch, profile, folder):
    from sfusion import study

    asked = {}
    fit = study.fit_fusion

    def watched(table, model):
        asked.setdefault(model, []).append(sorted(set(table.groupby(["task", "seed"]).groups)))
        return fit(table, model)

    monkeypatch.setattr(study, "fit_fusion", watched)
    run_study(profile, folder, quiet=True)
    # Of each model: first unit in-dataset and transfer, then the second.
    expected = [[("agnews", 0)], [("imdb", 0)], [("imdb", 0)], [("agnews", 0)]]
    # The forest also reads positions, and shuffled signals.
    thrice = expected[:2] * 3 + expected[2:] * 3
    assert asked == {"linear-regression": expected, "random-forest": thrice}


def test_one_task_has_no_other_to_learn_from(tmp_path, profile, folder):
    one = profile.model_copy(update={"tasks": ("agnews",)})
    results = run_study(one, folder, quiet=True)
    assert {"random-forest"} <= set(results.trajectories["strategy"])
    assert not [name for name in results.trajectories["strategy"] if name.endswith("-transfer")]


@pytest.mark.parametrize("names", [["energy", "magic"], ["random-0"]])
def test_an_unknown_strategy_is_one_line(names, profile, tmp_path):
    with pytest.raises(SfusionError) as error:
        run_study(profile, tmp_path, strategies=names, quiet=True)
    assert repr(names[-1]) in tiny.one_line(error)


def test_a_fusion_without_others_to_learn_from_is_one_line(profile, tmp_path):
    with pytest.raises(SfusionError) as error:
        run_study(profile, tmp_path, strategies=["random-forest"], quiet=True)
    tiny.one_line(error)


def test_an_unknown_task_is_one_line(profile, tmp_path):
    with pytest.raises(SfusionError) as error:
        run_study(profile.model_copy(update={"tasks": ("weather",)}), tmp_path, quiet=True)
    assert "weather" in tiny.one_line(error)


def test_distillation_deeper_than_the_model_is_one_line_before_any_work(profile, tmp_path):
    deep = profile.distillation.model_copy(update={"removals": (1, 4)})
    with pytest.raises(SfusionError) as error:
        run_study(profile.model_copy(update={"distillation": deep}), tmp_path, quiet=True)
    assert "removals = [1, 4]" in tiny.one_line(error)
    assert not list(tmp_path.iterdir())


def test_training_that_diverges_is_one_line(profile, tmp_path):
    wild = profile.original.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(SfusionError) as error:
        run_study(profile.model_copy(update={"original": wild}), tmp_path, quiet=True)
    tiny.one_line(error)


PAPER_STRATEGIES = ("weight-norm", "random-forest")


@pytest.mark.slow
def test_the_papers_profile_runs_through_the_same_code(tmp_path):
    """Twelve layers, nine tasks, dropout, embeddings that learn: smaller, nothing replaced."""
    paper = load_profile("paper")
    short = {"samples": 8, "batch_size": 8}
    profile = paper.model_copy(
        update={
            "model": str(tiny.write_model(tmp_path / "model", layers=12)),
            "source": "folder",
            "seeds": (0,),
            "sizes": paper.sizes.model_copy(update={"train": 24, "validation": 12, "test": 12, "probe": 8}),
            "max_length": 12,
            "precision": "fp32",  # half the time: bfloat16 passes need copies of the model
            **{
                room: getattr(paper, room).model_copy(update=short)
                for room in ("original", "recovery", "distillation")
            },
        }
    )
    assert set(profile.tasks) == set(tiny.NINE)
    depths = (1, 11)
    distillation = profile.distillation.model_copy(update={"removals": depths})
    profile = profile.model_copy(update={"distillation": distillation})
    results = run_study(profile, tmp_path / "study", strategies=PAPER_STRATEGIES, quiet=True)
    assert len(results.tasks) == 9
    assert len(results.trajectories) == 9 * len(PAPER_STRATEGIES) * 12
    for task, nodes in results.nodes.groupby("task"):
        assert task in tiny.NINE
        assert sorted(set(nodes["layers"])) == list(range(1, 13))
        assert 12 <= len(nodes) <= 12 + 11
    # The original's extra steps once, and both other conditions at every depth.
    assert len(results.distillation) == 9 * (1 + 2 * len(depths))
    assert len(distilled(results)) == 9 * (2 + 3 * len(depths))
    results.save(tmp_path / "saved")
    again = load_results(tmp_path / "saved")
    pd.testing.assert_frame_equal(again.nodes, results.nodes)


def test_a_study_of_all_strategies_fills_the_scoreboard(results):
    board = scoreboard(results)
    assert list(board.index) == list(CLAIMS)
    assert not any(math.isnan(value) for value in board["needed"])
    assert set(board["verdict"]) <= {
        "supported", "partly", "not supported", "undecided", "cannot be tested",
    }  # fmt: skip
