"""The committed records: every cell of every profile's grid is there, and nothing besides."""

import itertools

import pytest
from sfusion.pruning.distillation import ARMS

from sfusion import load_profile, load_results
from sfusion.analysis.costs import sets
from sfusion.notebooks import SHOWN
from sfusion.pruning.strategies import STRATEGIES, expand, path_name
from sfusion.records.profiles import Profile
from sfusion.records.results import COMMITTED
from sfusion.signals import MEASURES

PROFILES = sorted(file.parent.name for file in COMMITTED.glob("*/manifest.json"))
UNIT = ["task", "seed"]


@pytest.fixture(scope="module", params=PROFILES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def profile(name):
    return load_profile(name)


@pytest.fixture(scope="module")
def results(name):
    return load_results(COMMITTED / name)


@pytest.fixture(scope="module")
def depth(results):
    return int(results.nodes["layers"].max())


def _units(profile):
    return set(itertools.product(profile.tasks, profile.seeds))


def _rows(frame):
    return list(frame.itertuples(index=False, name=None))


def test_the_evidence_is_committed():
    assert {"embedded", "nine", "nine-long", "nine-deep"} <= set(PROFILES)


def test_the_shown_profile_has_all_nine_sets_and_three_seeds():
    profile = load_profile(SHOWN)
    assert len(profile.tasks) == 9
    assert len(profile.seeds) >= 3
    assert len(profile.subsets) >= 3


def test_records_are_those_of_the_profile_as_it_stands(results, profile):
    recorded = Profile(**results.manifest["profile"])
    assert recorded.model_copy(update={"description": profile.description}) == profile


def test_every_strategy_went_all_the_way_on_every_task_and_seed(results, profile, depth):
    labels = expand(STRATEGIES, profile.random_orders)
    if len(profile.tasks) < 2:
        labels = [label for label in labels if not label.endswith("-transfer")]
    found = _rows(results.trajectories[[*UNIT, "strategy", "removed"]])
    expected = {
        (*unit, label, removed)
        for unit in _units(profile)
        for label in labels
        for removed in range(depth)
    }
    assert len(found) == len(expected)
    assert set(found) == expected


def test_every_visited_model_has_its_numbers_and_signals(results, depth):
    keys = [*UNIT, "path"]
    nodes = set(_rows(results.nodes[keys]))
    assert set(_rows(results.trajectories[keys])) <= nodes
    assert len(nodes) == len(results.nodes)
    assert (results.nodes["removed"] + results.nodes["layers"] == depth).all()
    counts = results.signals.groupby(keys).size()
    assert counts.to_dict() == {
        (one.task, one.seed, one.path): one.layers for one in results.nodes.itertuples()
    }
    assert results.signals[list(MEASURES)].notna().all(axis=None)


def test_the_oracle_tried_every_child(results, depth):
    nodes = results.nodes.set_index([*UNIT, "path"])["validation_accuracy"]
    way = results.trajectories[results.trajectories["strategy"] == "greedy-oracle"]
    for (task, seed), part in way.groupby(UNIT):
        paths = part.sort_values("removed")["path"].tolist()
        for path, taken in itertools.pairwise(paths):
            gone = set(path.split("-"))
            children = [
                f"{path}-{layer}".strip("-") for layer in range(depth) if str(layer) not in gone
            ]
            best = max(nodes[task, seed, child] for child in children)
            assert nodes[task, seed, taken] == best


def test_every_set_was_trained_where_the_profile_says(results, profile, depth):
    found = sets(results)
    assert set(found["task"]) == set(profile.subsets)
    per_unit = found.groupby(UNIT).size()
    assert (per_unit == 2**depth - 2).all()
    assert len(per_unit) == len(profile.subsets) * len(profile.seeds)


def test_the_forests_way_was_distilled_with_its_controls(results, profile):
    forest = results.trajectories[results.trajectories["strategy"] == "random-forest"]
    forest = forest[forest["removed"].isin(profile.distillation.removals)]
    expected = {
        (one.task, one.seed, one.path, arm)
        for one in forest.itertuples()
        for arm, (who, _) in ARMS.items()
        if who == "pruned"
    }
    expected |= {(*unit, path_name(()), "original-same-steps") for unit in _units(profile)}
    found = _rows(results.distillation[[*UNIT, "path", "condition"]])
    assert len(found) == len(expected)
    assert set(found) == expected


def test_the_original_beats_the_floor_on_every_real_dataset():
    results = load_results(COMMITTED / "nine")
    roots = results.nodes[results.nodes["removed"] == 0].groupby("task")["test_accuracy"].mean()
    floors = results.tasks.groupby("task")["tfidf_accuracy"].mean()
    assert (roots > floors).all()


@pytest.mark.parametrize(("side", "differs"), [("nine-long", "max_length"), ("nine-deep", "model")])
def test_a_side_study_differs_from_the_shown_one_in_one_thing(side, differs):
    scope = {"name", "description", "tasks", "seeds", "subsets", "distillation"}
    shown, other = (load_profile(name).model_dump() for name in (SHOWN, side))
    assert {key for key in shown if shown[key] != other[key]} - scope == {differs}
    assert shown["distillation"] | {"removals": None} == other["distillation"] | {"removals": None}
    assert _units(load_profile(side)) <= _units(load_profile(SHOWN))
