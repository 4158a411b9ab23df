"""The committed records: every cell of every profile, and nothing besides."""

import itertools

import pandas as pd
import pytest
from sfusion.analysis.tables import fusion_nodes, subsets

from sfusion import MEASURES, SIGNALS, load_profile, load_results
from sfusion.experiments.comparison import compare
from sfusion.experiments.profiles import Profile
from sfusion.experiments.results import COMMITTED
from sfusion.notebooks import DEFAULT, NOTEBOOKS, SHOWN, Folders, execute
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import (
    STUDIED,
    expand,
    lookup,
)
from sfusion.pruning.tree import CONDITIONS

PROFILES = sorted(file.parent.name for file in COMMITTED.glob("*/manifest.json"))
UNIT = ["task", "seed"]


@pytest.fixture(scope="module", params=PROFILES)
def profile(request):
    return load_profile(request.param)


@pytest.fixture(scope="module")
def results(profile):
    return load_results(COMMITTED / profile.name)


@pytest.fixture(scope="module")
def depth(results):
    return int(results.nodes["layers"].max())


def _units(profile):
    return set(itertools.product(profile.tasks, profile.seeds))


def _rows(frame):
    """List the rows as a set, after checking that none is there twice."""
    rows = list(frame.itertuples(index=False, name=None))
    assert len(set(rows)) == len(rows)
    return set(rows)


def test_the_evidence_is_committed_all_nine_sets_with_five_seeds():
    assert {"embedded", "nine", "nine-long", "nine-short", "nine-rate", "base"} <= set(
        PROFILES
    )
    shown = load_profile(SHOWN)
    assert len(shown.tasks) == 9 and len(shown.seeds) >= 5
    assert set(shown.subsets) == set(shown.tasks) and shown.distillation.removals == (
        1,
        3,
        5,
    )


def test_records_are_those_of_the_profile_as_it_stands(results, profile):
    assert (
        Profile(**results.manifest["profile"] | {"description": profile.description})
        == profile
    )
    assert compare(results, results)["passed"].all()


def test_every_strategy_went_all_the_way_on_every_task_and_seed(
    results, profile, depth
):
    labels = expand(profile.strategies or STUDIED, profile.random_orders)
    expected = {
        (*unit, label, n)
        for unit in _units(profile)
        for label in labels
        for n in range(depth)
    }
    assert _rows(results.trajectories[[*UNIT, "strategy", "removed"]]) == expected
    for one in results.trajectories.itertuples():
        path = PruningPath.parse(one.path)
        assert one.removed == len(set(path.removed)) == len(path.removed)
        steps = min(1, one.removed) if lookup(one.strategy).once else one.removed
        assert len(path) == steps


def test_every_visited_model_has_its_numbers_and_what_fusions_read_its_signals(
    results, profile, depth
):
    keys = [*UNIT, "path"]
    assert _rows(results.trajectories[keys].drop_duplicates()) <= _rows(
        results.nodes[keys]
    )
    assert (results.nodes["removed"] + results.nodes["layers"] == depth).all()
    counts = results.signals.groupby(keys).size()
    assert counts.equals(results.nodes.set_index(keys)["layers"].reindex(counts.index))
    assert _rows(fusion_nodes(results).query("layers > 1")[keys]) <= set(counts.index)
    named = set(profile.strategies or STUDIED) | set(SIGNALS)
    assert (
        results.signals[[name for name in MEASURES if name in named]]
        .notna()
        .all(axis=None)
    )


def test_greedy_search_tried_every_child(results, depth):
    nodes = results.nodes.set_index([*UNIT, "path"])["validation_accuracy"]
    greedy = results.trajectories[results.trajectories["strategy"] == "greedy-oracle"]
    for (task, seed), part in greedy.groupby(UNIT):
        for name, taken in itertools.pairwise(part.sort_values("removed")["path"]):
            path = PruningPath.parse(name)
            children = [path.then(layer).name for layer in path.remaining(depth)]
            assert nodes[task, seed, taken] == max(
                nodes[task, seed, child] for child in children
            )


def test_every_set_was_trained_where_the_profile_says(results, profile, depth):
    # Elsewhere single layers, by the greedy search.
    searched = {
        unit: 2**depth - 2 if unit[0] in profile.subsets else depth
        for unit in _units(profile)
    }
    assert subsets(results).groupby(UNIT).size().to_dict() == searched


def test_the_forests_path_was_distilled_with_its_controls(results, profile):
    forest = results.trajectories[results.trajectories["strategy"] == "random-forest"]
    forest = _rows(
        forest.loc[
            forest["removed"].isin(profile.distillation.removals), [*UNIT, "path"]
        ]
    )
    expected = {
        (*row, name)
        for row in forest
        for name, (start, _) in CONDITIONS.items()
        if start == "pruned"
    }
    expected |= {
        (*unit, "", "original-same-steps") for unit in _units(profile) if forest
    }
    assert _rows(results.distillation[[*UNIT, "path", "condition"]]) == expected


def test_the_original_beats_both_baselines_on_every_real_dataset():
    results = load_results(COMMITTED / SHOWN)
    roots = (
        results.nodes[results.nodes["removed"] == 0]
        .groupby("task")["test_accuracy"]
        .mean()
    )
    baselines = results.tasks.groupby("task")[
        ["tfidf_accuracy", "frozen_accuracy"]
    ].mean()
    assert len(baselines) == 9 and baselines.lt(roots, axis=0).all(axis=None)


def test_studies_that_are_compared_differ_in_one_thing():
    less = {
        "recovery",
        "seeds",
        "strategies",
        "random_orders",
    }  # of a part of the study, that is
    for names, change in {
        ("nine-short", "nine-long"): {"max_length"},
        ("nine", "nine-rate"): less,
    }.items():
        one, other = (
            load_profile(name).model_dump(exclude={"distillation": {"removals"}})
            for name in names
        )
        assert {key for key in one if one[key] != other[key]} - {
            "name",
            "description",
            "subsets",
        } == change
        assert set(other["strategies"]) <= set(one["strategies"]) and set(
            other["seeds"]
        ) <= set(one["seeds"])


def test_every_alternative_was_judged_on_every_task_and_timed():
    judged, speed = (
        pd.read_csv(COMMITTED / "alternatives" / f"{name}.csv")
        for name in ("accuracy", "speed")
    )
    keys = ["model", "alternative", "layers", "format"]
    tasks, cells = (
        judged.groupby("model")["task"].nunique(),
        judged.groupby(keys)["task"].nunique(),
    )
    assert cells.eq(
        tasks.reindex(cells.index.get_level_values("model")).to_numpy()
    ).all()
    assert (
        tasks["minilm-l6"] >= 4 and not judged.duplicated([*keys, "task", "seed"]).any()
    )
    kinds = speed[["model", "layers", "format"]].drop_duplicates()
    assert len(judged.merge(kinds)) == len(judged)


def test_old_and_new_defaults_were_compared_on_every_real_dataset():
    rows = pd.read_csv(COMMITTED / "alternatives" / "defaults.csv")[
        ["task", "seed", "alternative"]
    ]
    kinds = {"original", "compress", "compress, random-forest"}
    assert _rows(rows) == set(
        itertools.product(load_profile(SHOWN).tasks, set(rows["seed"]), kinds)
    )


def test_what_was_not_studied_was_followed_from_every_original():
    rows = pd.read_csv(COMMITTED / "followed.csv", dtype={"path": str})
    assert (rows["path"].str.count("-") + 1 == rows["removed"]).all()
    starts = rows[rows["removed"] == 1].groupby("strategy").size()
    assert {f"reversed-{name}" for name in SIGNALS} < set(starts.index)
    # Forests of another model only for the seeds that it was run with.
    seeds = {
        name: load_profile("base" if "other-model" in name else SHOWN).seeds
        for name in starts.index
    }
    assert starts.to_dict() == {name: 9 * len(found) for name, found in seeds.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_every_notebook_runs_on_the_study_that_a_newcomer_reproduces(name, tmp_path):
    execute(name, DEFAULT, "replay", Folders(tmp_path, tmp_path, tmp_path))
