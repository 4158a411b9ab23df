"""The committed pruning studies: every cell of a profile's grid is there, and no other.

The other studies' records are looked at in test_studies.py.
"""

import itertools

import pytest

from sfusion import MEASURES, load_profile, open_results
from sfusion.analysis.forecasts import fusion_nodes
from sfusion.analysis.layer_sets import trained_sets
from sfusion.experiments.comparison import compare
from sfusion.experiments.profiles import Profile
from sfusion.experiments.results import COMMITTED, UNIT, Results, load_results
from sfusion.notebooks import SHOWN
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import GREEDY, STUDIED, expand, lookup
from sfusion.pruning.tree import CONDITIONS
from sfusion.signals import PAPER_SIGNALS, recorded

NODE = [*UNIT, "path"]
FOLDERS = sorted(file.parent for file in COMMITTED.glob("*/manifest.json"))
PRUNING = [folder.name for folder in FOLDERS if (folder / "nodes.parquet").is_file()]


@pytest.fixture(scope="module", params=PRUNING)
def results(request):
    return load_results(COMMITTED / request.param)


@pytest.fixture
def profile(results):
    return load_profile(results.manifest["profile"]["name"])


@pytest.fixture
def depth(results):
    return int(results.nodes["layers"].max())


def _units(profile):
    return set(itertools.product(profile.tasks, profile.seeds))


def _rows(frame):
    """List the rows as a set, after checking that none is there twice."""
    rows = list(frame.itertuples(index=False, name=None))
    assert len(set(rows)) == len(rows)
    return set(rows)


def test_the_shown_study_has_all_nine_sets_and_five_seeds():
    assert {"embedded", SHOWN, "nine-long", "nine-short", "base"} <= set(PRUNING)
    shown = load_profile(SHOWN)
    assert len(shown.tasks) == 9
    assert len(shown.seeds) >= 5
    assert set(shown.subsets) == set(shown.tasks)
    assert shown.distillation.removals == (1, 3, 5)


def test_records_are_those_of_the_profile_as_it_stands(results, profile):
    assert isinstance(results, Results)
    recorded = results.manifest["profile"] | {"description": profile.description}
    assert Profile(**recorded) == profile
    assert compare(results, results)["passed"].all()


def test_every_strategy_went_all_the_way_on_every_task_and_seed(
    results, profile, depth
):
    labels = expand(profile.strategies or STUDIED, profile.random_orders)
    cells = itertools.product(_units(profile), labels, range(depth))
    expected = {(*unit, label, removed) for unit, label, removed in cells}
    assert _rows(results.trajectories[[*UNIT, "strategy", "removed"]]) == expected
    for row in results.trajectories.itertuples():
        path = PruningPath.parse(row.path)
        assert row.removed == len(set(path.removed)) == len(path.removed)
        steps = min(1, row.removed) if lookup(row.strategy).once else row.removed
        assert len(path) == steps


def test_every_visited_model_has_its_numbers_and_what_fusions_read_its_signals(
    results, profile, depth
):
    visited = results.trajectories[NODE].drop_duplicates()
    assert _rows(visited) <= _rows(results.nodes[NODE])
    assert (results.nodes["removed"] + results.nodes["layers"] == depth).all()
    layers = results.signals.groupby(NODE).size()
    assert layers.equals(results.nodes.set_index(NODE)["layers"].reindex(layers.index))
    teaching = fusion_nodes(results).query("layers > 1")
    assert _rows(teaching[NODE]) <= set(layers.index)
    assert set(PAPER_SIGNALS) <= set(results.signals)
    read = set(profile.strategies or STUDIED) | set(recorded(results.signals))
    measured = results.signals[[name for name in MEASURES if name in read]]
    assert measured.notna().all(axis=None)


def test_greedy_search_tried_every_child(results, depth):
    accuracies = results.nodes.set_index(NODE)["validation_accuracy"]
    searched = results.trajectories[results.trajectories["strategy"] == GREEDY]
    for unit, part in searched.groupby(UNIT):
        names = part.sort_values("removed")["path"]
        for name, taken in itertools.pairwise(names):
            path = PruningPath.parse(name)
            children = [path.then(layer).name for layer in path.remaining(depth)]
            best = max(accuracies[*unit, child] for child in children)
            assert accuracies[*unit, taken] == best


def test_every_set_was_trained_where_the_profile_says(results, profile, depth):
    searched = {}
    for unit in _units(profile):
        if unit[0] in profile.subsets:
            searched[unit] = 2**depth - 2
        elif GREEDY in (profile.strategies or STUDIED):
            searched[unit] = depth  # single layers
    trained = trained_sets(results).groupby(UNIT).size().to_dict()
    assert searched.items() <= trained.items()


def test_the_forests_path_was_distilled_with_its_controls(results, profile):
    taken = results.trajectories["strategy"] == "random-forest"
    deep = results.trajectories["removed"].isin(profile.distillation.removals)
    pruned = _rows(results.trajectories.loc[taken & deep, NODE])
    expected = set()
    for condition, (start, _) in CONDITIONS.items():
        rows = pruned
        if start == "original":
            rows = {(task, seed, "") for task, seed, _ in pruned}
        expected |= {(*row, condition) for row in rows}
    assert _rows(results.distillation[[*NODE, "condition"]]) == expected


def test_the_original_beats_both_baselines_on_every_real_dataset():
    results = open_results(SHOWN)
    originals = results.nodes[results.nodes["removed"] == 0]
    accuracies = originals.groupby("task")["test_accuracy"].mean()
    columns = ["tfidf_accuracy", "frozen_accuracy"]
    baselines = results.tasks.groupby("task")[columns].mean()
    assert len(baselines) == 9
    assert baselines.lt(accuracies, axis=0).all(axis=None)


LESS = {"recovery", "seeds", "strategies", "random_orders"}  # of a part of the study


@pytest.mark.parametrize(
    ("one", "other", "change"),
    [("nine-short", "nine-long", {"max_length"}), ("nine", "nine-rate", LESS)],
)
def test_studies_that_are_compared_differ_in_one_thing(one, other, change):
    ignored = {"name", "description", "subsets", "distillation"}
    whole, part = (
        load_profile(name).model_dump(exclude=ignored) for name in (one, other)
    )
    assert {key for key in whole if whole[key] != part[key]} == change
    assert set(part["strategies"]) <= set(whole["strategies"])
    assert set(part["seeds"]) <= set(whole["seeds"])


def test_old_and_new_defaults_were_compared_on_every_real_dataset():
    rows = open_results("alternatives")["defaults"][[*UNIT, "alternative"]]
    kinds = {"original", "compress", "compress, random-forest"}
    cells = itertools.product(load_profile(SHOWN).tasks, set(rows["seed"]), kinds)
    assert _rows(rows) == set(cells)


def test_what_was_not_studied_was_followed_from_every_original():
    rows = open_results("candidates")["paths"]
    removed = rows["path"].map(lambda name: len(PruningPath.parse(name)))
    assert (removed == rows["removed"]).all()
    starts = rows[(rows["removed"] == 1) & (rows["study"] == SHOWN)]
    counts = starts.groupby("strategy").size()
    signals = recorded(open_results(SHOWN).signals)
    assert {f"reversed-{name}" for name in signals} < set(counts.index)
    for name, count in counts.items():
        # Forests of another model only for the seeds that it was run with.
        profile = load_profile("base" if "other-model" in name else SHOWN)
        assert count == 9 * len(profile.seeds)
