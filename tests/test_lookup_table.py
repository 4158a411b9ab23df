"""The lookup table of layer sets: what each set reached on the other datasets."""

import itertools

import numpy as np
import pandas as pd
import pytest
import tiny

from sfusion.experiments.pruning_study import PruningStudy
from sfusion.pruning.lookup_table import make_lookup_table
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.registry import View
from sfusion.pruning.searches import pruning_path
from sfusion.pruning.setting import Setting
from sfusion.pruning.strategies import STRATEGIES

DEPTH = 4
SETTING = Setting(DEPTH, (), 0, "t")
BOTH = ["lookup", "one-shot-lookup"]


def every_set(depth=DEPTH):
    """List the names of the paths of an exhaustive search."""
    sizes = range(1, depth)
    layers = range(depth - 1, -1, -1)
    sets = itertools.chain(*(itertools.combinations(layers, size) for size in sizes))
    return ["-".join(map(str, gone)) for gone in sets]


def searches(tasks=("u", "v"), depth=DEPTH, seed=0):
    """Invent the searches of some datasets; every accuracy is another."""
    rng = np.random.default_rng(seed)
    names = every_set(depth)
    parts = []
    for task in tasks:
        accuracies = rng.permutation(1000)[: len(names)] / 1000
        rows = {"task": task, "path": names, "validation_accuracy": accuracies}
        parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True)


def reference(nodes, depth, strategy):
    """Follow a lookup table slowly: return the sets that are gone at every depth."""

    def mean(gone):
        name = "-".join(str(layer) for layer in sorted(gone, reverse=True))
        found = [row.validation_accuracy for row in nodes.itertuples()]
        paths = [row.path for row in nodes.itertuples()]
        values = [a for a, path in zip(found, paths, strict=True) if path == name]
        assert len(values) == nodes["task"].nunique()
        return round(sum(values) / len(values), 9)

    gone = set()
    followed = []
    for removed in range(1, depth):
        best = None
        for layers in itertools.combinations(range(depth), removed):
            if strategy == "lookup" and not gone < set(layers):
                continue
            # Of equal sets the one that lost the layers nearest the output.
            key = (mean(layers), sorted(layers, reverse=True))
            best = max(best or key, key)
        gone = set(best[1])
        followed.append(gone)
    return followed


def follow(strategy, nodes, setting=SETTING):
    table = make_lookup_table(nodes, setting)
    return list(pruning_path(strategy, lambda path: None, setting, table))


@pytest.mark.parametrize("strategy", BOTH)
@pytest.mark.parametrize("depth", [2, 4, 6])
def test_both_ways_are_those_of_the_slow_reference(strategy, depth):
    setting = Setting(depth, (), 0, "t")
    for seed in range(5):
        nodes = searches(depth=depth, seed=seed)
        paths = follow(strategy, nodes.sample(frac=1, random_state=seed), setting)
        assert paths[0] == ORIGINAL
        found = [set(path.removed) for path in paths[1:]]
        assert found == reference(nodes, depth, strategy)
        steps = 1 if strategy.startswith("one-shot") else None
        assert [len(path) for path in paths[1:]] == [
            steps or removed for removed in range(1, depth)
        ]


def test_sets_at_once_need_not_be_nested():
    nodes = searches().assign(validation_accuracy=0.5)
    best = nodes["path"].isin(["3", "1-0", "3-2-1"])
    nodes.loc[best, "validation_accuracy"] = 0.9
    names = [path.name for path in follow("one-shot-lookup", nodes)]
    assert names == ["", "3", "0+1", "1+2+3"]
    assert [path.name for path in follow("lookup", nodes)] == ["", "3", "3-2", "3-2-1"]


@pytest.mark.parametrize("strategy", BOTH)
def test_of_equal_sets_the_one_nearest_the_output_goes(strategy):
    # .1 + .2 + .3 is another number than .3 + .2 + .1.
    nodes = searches(("u", "v", "w")).assign(validation_accuracy=0.0)
    for task, values in {"u": (0.1, 0.3), "v": (0.2, 0.2), "w": (0.3, 0.1)}.items():
        for path, value in zip(("0", "2"), values, strict=True):
            rows = (nodes["task"] == task) & (nodes["path"] == path)
            nodes.loc[rows, "validation_accuracy"] = value
    assert follow(strategy, nodes)[1] == PruningPath.of(2)
    assert follow(strategy, nodes.iloc[::-1])[1] == PruningPath.of(2)


def test_neither_test_accuracy_nor_another_path_to_a_set_is_read():
    nodes = searches()
    more = pd.DataFrame({"task": ["u", "v"], "path": "0-1", "validation_accuracy": 1.0})
    asked = pd.concat([nodes.assign(test_accuracy=0.5), more.assign(test_accuracy=1.0)])
    assert make_lookup_table(asked, SETTING) == make_lookup_table(nodes, SETTING)


def test_a_layer_that_must_stay_stays():
    setting = Setting(DEPTH, (0,), 0, "t")
    nodes = searches()
    reached = nodes[~nodes["path"].str.contains("0")]
    for strategy in BOTH:
        assert 0 not in follow(strategy, reached, setting)[-1].removed


def test_a_set_that_was_not_trained_is_one_line():
    nodes = searches()
    lacking = nodes[(nodes["task"] != "v") | (nodes["path"] != "3-1")]
    for given, says in ((lacking, "without 3-1 1 of 2"), (nodes[:0], "every set")):
        with tiny.refused(says):
            make_lookup_table(given, SETTING)


def test_what_is_known_of_sets_is_a_control_that_reads_no_signal():
    for name in BOTH:
        strategy = STRATEGIES[name]
        assert strategy.group == "control"
        assert not strategy.reads_signals and not strategy.teaches_fusions
    view = View((0, 1, 3), None, None, make_lookup_table(searches(), SETTING), DEPTH)
    assert len(STRATEGIES["lookup"].score(view)) == 3


# --- a whole study

OTHERS = ["energy", "top-first", "random-forest-transfer"]
TASKS = ("agnews", "imdb", "yelp")


@pytest.fixture(scope="module")
def profile(tiny_data, tmp_path_factory):
    model = tiny.write_model(tmp_path_factory.mktemp("lookup") / "model")
    names = [*OTHERS, *BOTH]
    return tiny.make_profile(model, TASKS, subsets=TASKS[:2], strategies=names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lookups")


@pytest.fixture(scope="module")
def results(profile, folder):
    return PruningStudy(profile).run(folder, quiet=True)


def _visits(results):
    return sorted(results.trajectories.itertuples(index=False, name=None))


@pytest.mark.parametrize("strategy", BOTH)
def test_a_study_follows_what_the_other_searched_datasets_say(results, strategy):
    rows = results.trajectories[results.trajectories["strategy"] == strategy]
    for task in TASKS:
        others = set(TASKS[:2]) - {task}
        nodes = results.nodes[results.nodes["task"].isin(others)]
        taken = rows[rows["task"] == task].sort_values("removed")["path"]
        found = [set(PruningPath.parse(path).removed) for path in taken[1:]]
        assert found == reference(nodes, DEPTH, strategy)


def test_other_records_stay_as_they_are_and_no_order_matters(
    results, profile, folder, tmp_path
):
    without = profile.model_copy(update={"strategies": tuple(OTHERS)})
    before = PruningStudy(without).run(tmp_path, quiet=True)
    assert tiny.texts(tmp_path).items() <= tiny.texts(folder).items()
    assert set(_visits(before)) < set(_visits(results))
    turned = profile.model_copy(update={"strategies": profile.strategies[::-1]})
    assert _visits(PruningStudy(turned).run(folder, quiet=True)) == _visits(results)


def test_a_study_of_the_table_alone_searches_first(profile, folder, results):
    changed = profile.model_copy(update={"strategies": tuple(BOTH)})
    alone = PruningStudy(changed).run(folder, quiet=True)
    assert set(_visits(alone)) < set(_visits(results))


@pytest.mark.parametrize("subsets", [(), TASKS[:1]])
def test_without_other_searched_datasets_it_is_refused_in_one_line(profile, subsets):
    changed = profile.model_copy(update={"subsets": subsets})
    with tiny.refused("'lookup'", "subsets", "at least two tasks"):
        PruningStudy(changed)
