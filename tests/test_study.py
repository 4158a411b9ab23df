"""The study: all stages of the paper, for six layers and for twelve."""

import itertools

import numpy as np
import pytest
import tiny
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sfusion import load_model, load_profile, remove_layers
from sfusion.analysis.scoreboard import scoreboard
from sfusion.experiments import pruning_study as study
from sfusion.experiments.machine import machine
from sfusion.experiments.profiles import Profile
from sfusion.experiments.pruning_study import PruningStudy
from sfusion.experiments.trees import Experiment, load_samples
from sfusion.models.size import size
from sfusion.pruning.fusion import shipped_rows
from sfusion.pruning.node import unpack
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import STUDIED, expand
from sfusion.signals import MEASURES

KEY = ["task", "seed", "path"]
pytestmark = pytest.mark.usefixtures("tiny_data")


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tiny.make_profile(
        tiny.write_model(tmp_path_factory.mktemp("study") / "model")
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("study")


@pytest.fixture(scope="module")
def results(profile, folder):
    """A whole study with every strategy."""
    return PruningStudy(profile).run(folder, quiet=True)


def _task(profile, name):
    return load_samples(Experiment(profile, name, 0))


def _with(profile, **changes):
    """Change a profile; a dict changes a stage of it, or its sizes."""
    for name, value in changes.items():
        changed = (
            getattr(profile, name).model_copy(update=value)
            if isinstance(value, dict)
            else value
        )
        profile = profile.model_copy(update={name: changed})
    return profile


def test_every_strategy_is_followed_down_to_one_layer_on_every_unit(results, profile):
    units = itertools.product(
        profile.tasks, [0], expand(STUDIED, profile.random_orders), range(4)
    )
    found = results.trajectories[["task", "seed", "strategy", "removed"]].itertuples(
        index=False, name=None
    )
    assert sorted(found) == sorted(units)
    for _, paths in results.trajectories.groupby(["task", "strategy"])["path"]:
        *steps, last = map(PruningPath.parse, paths)
        assert [PruningPath(last.steps[:removed]) for removed in range(3)] == steps
        assert len(set(last.removed)) == 3


def test_nodes_are_the_paths_that_were_visited_or_searched(results, profile):
    visited = set(map(tuple, results.trajectories[KEY].to_numpy()))
    # The greedy search tries every child; the other one takes every set from the top
    # down.
    children = {
        (one.task, 0, PruningPath.parse(one.path).then(layer).name)
        for one in results.trajectories.query(
            "strategy == 'greedy-oracle' and removed < 3"
        ).itertuples()
        for layer in PruningPath.parse(one.path).remaining(4)
    }
    sets = {
        (task, 0, PruningPath.of(*layers).name)
        for task in profile.subsets
        for removed in (1, 2, 3)
        for layers in itertools.combinations((3, 2, 1, 0), removed)
    }
    assert children - visited and sets - visited
    assert sorted(map(tuple, results.nodes[KEY].to_numpy())) == sorted(
        visited | children | sets
    )
    assert (
        results.nodes[["validation_accuracy", "test_accuracy"]]
        .stack()
        .between(0, 1)
        .all()
    )


def test_the_greedy_search_takes_the_child_of_highest_validation_accuracy(results):
    scores = results.nodes.set_index(KEY)["validation_accuracy"]
    for one in results.trajectories.query(
        "strategy == 'greedy-oracle' and removed > 0"
    ).itertuples():
        path = PruningPath.parse(one.path)
        ranks = [
            (scores[one.task, 0, path.parent.then(layer).name], layer)
            for layer in path.parent.remaining(4)
        ]
        assert path.last[0] == max(ranks)[1]  # of equal ones that nearest the output


def test_sizes_are_those_of_the_models(results, profile):
    for task, nodes in results.nodes.groupby("task"):
        model = load_model(
            profile.model, num_labels=len(_task(profile, task).label_names)
        )
        for node in nodes.itertuples():
            gone = PruningPath.parse(node.path).removed
            expected = {
                "removed": len(gone),
                **size(remove_layers(model, gone), profile.max_length),
            }
            assert {name: getattr(node, name) for name in expected} == expected


def test_signals_have_a_row_per_remaining_layer_where_they_are_read(results):
    read = results.signals.groupby(KEY)["layer"].agg(tuple)
    assert all(
        layers == PruningPath.parse(path).remaining(4)
        for (*_, path), layers in read.items()
    )
    assert list(results.signals) == [*KEY, "layer", *MEASURES]
    assert np.isfinite(results.signals[list(MEASURES)]).all(axis=None)
    # Where something reads them: not at the leaves, nor where a search alone has been.
    inner = results.trajectories[results.trajectories["removed"] < 3]
    asked = inner[~inner["strategy"].str.contains("position|greedy")]
    assert set(read.index) == set(map(tuple, asked[KEY].to_numpy()))


def test_distillation_has_its_conditions_at_the_asked_depths(results, profile):
    forest = results.trajectories.query(
        "strategy == 'random-forest' and removed in (1, 2)"
    )
    for task in profile.tasks:
        mine = results.distillation[results.distillation["task"] == task]
        found = mine.groupby("condition")["path"].agg(list).to_dict()
        pruned = forest.loc[forest["task"] == task, "path"].tolist()
        assert found == {
            "distilled": pruned,
            "same-steps": pruned,
            "original-same-steps": [""],
        }


def test_tasks_are_described_and_the_baseline_measured(results, profile):
    assert results.tasks[["task", "seed"]].values.tolist() == [
        [t, 0] for t in profile.tasks
    ]
    for row in results.tasks.itertuples():
        task = _task(profile, row.task)
        assert (row.classes, row.fingerprint) == (
            len(task.label_names),
            task.fingerprint,
        )
        assert row.source == task.source
        assert [row.train, row.validation, row.test] == [
            len(x) for x in (task.train, task.validation, task.test)
        ]
        counts = np.bincount(task.train.labels)
        test = task.test.labels.numpy()
        assert row.majority_accuracy == np.mean(test == counts.argmax())
        # All words are in the vocabulary and short, so the texts survive the tokenizer.
        vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        baseline = LogisticRegression(max_iter=1000)
        baseline.fit(vectors.fit_transform(task.texts["train"]), task.train.labels)
        assert row.tfidf_accuracy == baseline.score(
            vectors.transform(task.texts["test"]), test
        )
        # A mean over the real tokens of each text alone, of the encoder as it was
        # pretrained.
        encoder = load_model(profile.model, label_names=task.label_names).base_model
        states = {
            part: [
                encoder(ids[mask.bool()][None])
                .last_hidden_state[0]
                .mean(0)
                .detach()
                .numpy()
                for ids, mask in zip(data.input_ids, data.attention_mask, strict=True)
            ]
            for part, data in (("train", task.train), ("test", task.test))
        }
        frozen = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        frozen.fit(states["train"], task.train.labels)
        assert row.frozen_accuracy == pytest.approx(
            frozen.score(states["test"], test), abs=1.5 / len(test)
        )


def test_the_manifest_says_what_and_where(results, profile):
    manifest = results.manifest
    assert Profile(**manifest["profile"]) == profile
    assert manifest["machine"] == machine(profile)
    assert manifest["machine"]["threads"] == profile.threads
    assert "torch" in manifest["machine"]["versions"]
    assert manifest["revision"]


def test_fusions_of_the_own_tree_and_of_the_others_differ(
    results, monkeypatch, profile, folder
):
    asked = {}
    fit = study.fit_fusion

    def watched(table, model, reads):
        asked.setdefault(model, []).append(
            sorted(set(table.groupby(["task", "seed"]).groups))
        )
        return fit(table, model, reads)

    monkeypatch.setattr(study, "fit_fusion", watched)
    PruningStudy(profile).run(folder, quiet=True)
    # Of each model: first unit in-dataset and transfer, then the second.
    expected = [[("agnews", 0)], [("imdb", 0)], [("imdb", 0)], [("agnews", 0)]]
    # The forest also reads positions, shuffled signals, and those of redundancy, and
    # learns to order siblings.
    often = expected[:2] * 5 + expected[2:] * 5
    assert asked == {
        "linear-regression": expected,
        "ridge-regression": expected,
        "random-forest": often,
    }


def test_a_forest_of_another_model_learns_from_its_removals_on_other_tasks(
    monkeypatch, profile, folder
):
    seen = []
    fit = study.fit_fusion

    def watched(table, model, reads):
        seen.append(table)
        return fit(table, model, reads)

    monkeypatch.setattr(study, "fit_fusion", watched)
    strategies = ["weight-norm", "random-forest-other-model"]
    found = PruningStudy(profile, strategies).run(folder, quiet=True)
    assert set(found.trajectories["strategy"]) == set(strategies)
    shipped = shipped_rows().query("seed == 0")
    for task, table in zip(profile.tasks, seen, strict=True):
        assert table.equals(shipped[shipped["task"] != task]) and len(table)


def test_the_records_say_which_test_texts_were_right(results):
    tests = results.tasks.set_index(["task", "seed"])["test"]
    for frame in (results.nodes, results.distillation):
        for row in frame.itertuples():
            right = unpack(row.test_correct.hex(), tests[row.task, row.seed])
            assert right.mean() == row.test_accuracy
    roots = results.nodes[results.nodes["path"] == ""].set_index("task")
    assert 0 < roots["test_accuracy"].min() < 1, "all right or all wrong tells nothing"


def test_one_task_has_no_other_to_learn_from(profile, folder, results):
    alone = PruningStudy(_with(profile, tasks=("agnews",))).run(folder, quiet=True)
    strategies = set(results.trajectories["strategy"])
    assert set(alone.trajectories["strategy"]) == {
        name for name in strategies if not name.endswith("-transfer")
    }


BAD = {
    "'magic'": (["energy", "magic"], {}),
    "'random-0'": (["random-0"], {}),
    "fusions learn from": (["random-forest"], {}),
    "'random-forest-transfer' learns from other datasets": (
        ["energy", "random-forest-transfer"],
        {"tasks": ("agnews",)},
    ),
    "weather": (STUDIED, {"tasks": ("weather",)}),
    "removals = [1, 4]": (STUDIED, {"distillation": {"removals": (1, 4)}}),
    "training diverged": (STUDIED, {"original": {"learning_rate": 1e30}}),
}


@pytest.mark.parametrize("words", BAD)
def test_what_cannot_be_run_is_one_line_and_leaves_nothing(words, profile, tmp_path):
    strategies, changes = BAD[words]
    with tiny.refused(words):
        PruningStudy(_with(profile, **changes), strategies).run(tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_papers_profile_runs_through_the_same_code(tmp_path):
    """Twelve layers, nine tasks, dropout, embeddings that learn: only smaller."""
    short, depths, strategies = (
        {"samples": 8, "batch_size": 8},
        (1, 11),
        ("weight-norm", "random-forest"),
    )
    profile = _with(
        load_profile("paper"),
        model=str(tiny.write_model(tmp_path / "model", layers=12)),
        source="folder",
        seeds=(0,),
        sizes={"train": 24, "validation": 12, "test": 12, "probe": 8},
        max_length=12,
        precision="fp32",  # half the time: bfloat16 passes need copies of the model
        original=short,
        recovery=short,
        distillation={**short, "removals": depths},
    )
    results = PruningStudy(profile, strategies).run(tmp_path / "study", quiet=True)
    assert sorted(results.tasks["task"]) == sorted(tiny.NINE)
    assert len(results.trajectories) == 9 * len(strategies) * 12
    for _, nodes in results.nodes.groupby("task"):
        assert set(nodes["layers"]) == set(range(1, 13))
        assert 12 <= len(nodes) <= 12 + 11
    # The original's extra steps once, and both other conditions at every depth.
    assert len(results.distillation) == 9 * (1 + 2 * len(depths))


def test_a_study_of_all_strategies_fills_the_scoreboard(results):
    board = scoreboard(results)
    assert list(board.index) == ["C1", "C2", "C3", "C4", "C5", "C6"]
    assert board["needed"].notna().all()
    assert set(board["verdict"]) <= {
        "supported",
        "partly",
        "not supported",
        "undecided",
        "cannot be tested",
    }
