"""The pruning tree and its searches: the same bits, shared or interrupted."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest.mock import patch

import pandas as pd
import pytest
import tiny
import torch
from safetensors.torch import load, save

from sfusion import extract_signals, remove_layers, sweep
from sfusion.experiments.forest import Forest
from sfusion.experiments.pruning_study import PruningStudy
from sfusion.experiments.store import RecordStore, content_key
from sfusion.experiments.trees import Experiment, open_tree, visit_node
from sfusion.pruning import identity
from sfusion.pruning import tree as module
from sfusion.pruning.node import unpack
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.searches import Request
from sfusion.pruning.strategies import (
    STRATEGIES,
    STUDIED,
    expand,
)
from sfusion.pruning.tree import CONDITIONS, probe_samples
from sfusion.signals import MEASURES
from sfusion.training import distillation
from sfusion.training.distillation import distill
from sfusion.training.evaluation import classified, predict_logits
from sfusion.training.loop import fine_tune
from sfusion.training.precision import fixed_threads
from sfusion.training.seeds import derive_seed

SINGLE = expand([name for name in STUDIED if STRATEGIES[name].teaches_fusions], 2)
FEW = ("energy", "weight-norm", "attention-entropy", "random", "random-forest")
DEPTH = 4
TIMES = ["training", "evaluation", "extraction"]
pytestmark = pytest.mark.usefixtures("tiny_data")


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tiny.make_profile(
        tiny.write_model(tmp_path_factory.mktemp("tree") / "model", DEPTH)
    )


@pytest.fixture(scope="module")
def unit(profile):
    return Experiment(profile, "agnews", 0)


def _iterate(unit, labels, folder):
    """Walk strategies side by side: what they found, and what is on disk then."""
    forest = Forest([unit], RecordStore(folder / "store"), quiet=True)
    forest.follow(labels, teach=True)
    paths = {(row.label, len(row.path)): row.path for row in forest.trajectories}
    return SimpleNamespace(
        results=forest.results, paths=pd.Series(paths), texts=tiny.texts(folder)
    )


@pytest.fixture(scope="module")
def together(unit, tmp_path_factory):
    """All single strategies on one tree, side by side."""
    return _iterate(unit, SINGLE, tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module")
def whole(profile, tmp_path_factory):
    """A whole study that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    results = PruningStudy(profile, FEW).run(folder, quiet=True)
    return SimpleNamespace(folder=folder, results=results, texts=tiny.texts(folder))


@pytest.fixture
def tree(unit, tmp_path):
    """An empty tree, with the threads of a run."""
    with fixed_threads(unit.profile.threads):
        yield open_tree(unit, RecordStore(tmp_path / "store"))


@pytest.fixture
def trained():
    """List the calls that train; a distillation is such a call too."""
    with (
        patch.object(module, "fine_tune", wraps=fine_tune) as watched,
        patch.object(distillation, "fine_tune", watched),
    ):
        yield watched.call_args_list


@pytest.fixture
def put():
    """List the calls that write a record: store, specification and result."""
    with patch.object(
        RecordStore, "put", autospec=True, side_effect=RecordStore.put
    ) as watched:
        yield watched.call_args_list


def _same_results(one, other):
    for name in ("tasks", "signals", "trajectories", "distillation"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
    pd.testing.assert_frame_equal(
        one.nodes.drop(columns=TIMES), other.nodes.drop(columns=TIMES)
    )


@pytest.mark.parametrize("label", ["task-relevance-mi", "random-1"])
def test_a_strategy_alone_finds_what_it_finds_among_all(
    label, unit, together, tmp_path
):
    found = _iterate(unit, [label], tmp_path)
    assert found.paths.tolist() == together.paths[label].tolist()
    assert len(found.results) == DEPTH
    assert found.texts.items() <= together.texts.items()


def test_in_any_order_a_shared_prefix_is_trained_once_to_the_same_bits(
    unit, together, trained, tmp_path
):
    found = _iterate(unit, SINGLE[::-1], tmp_path)
    assert found.texts == together.texts
    pd.testing.assert_series_equal(
        found.paths.sort_index(), together.paths.sort_index()
    )
    seeds = {call.kwargs["seed"] for call in trained}
    assert len(trained) == len(seeds) == len(found.results) == found.paths.nunique()
    assert len(trained) < 1 + len(SINGLE) * (DEPTH - 1)  # some strategies do agree


@pytest.mark.parametrize(
    "label, worst", [("weight-norm", min), ("attention-entropy", max)]
)
def test_choices_follow_from_the_signals_of_the_node(label, worst, together, unit):
    for removed in range(DEPTH - 1):
        path = together.paths[label, removed]
        values = together.results[unit, path].signals[label].tolist()
        layer = path.remaining(DEPTH)[values.index(worst(values))]
        assert together.paths[label, removed + 1] == path.then(layer)


# Steps of several layers at once have so many recoveries' samples; a step of none is a
# recovery.
@pytest.mark.parametrize("name", ["", "2", "3-0-2", "3+1-0", "x-x-2"])
def test_a_node_is_its_parent_without_the_layer_and_fine_tuned(name, unit, tree):
    path = PruningPath.parse(name)
    task, profile = tree.task, unit.profile
    model = remove_layers(tree.source(), ())
    fine_tune(
        model, task.train, profile.original, seed=derive_seed("order", unit.seed, ())
    )
    for step, layers in enumerate(path.steps):
        left = PruningPath(path.steps[:step]).remaining(DEPTH)
        model = remove_layers(model, map(left.index, layers))
        recipe = profile.recovery.model_copy(
            update={"samples": profile.recovery.samples * max(1, len(layers))}
        )
        fine_tune(
            model,
            task.train,
            recipe,
            seed=derive_seed("order", unit.seed, path.seed_parts[: step + 1]),
        )
    for _ in range(2):  # trained, then from the cache
        for name, tensor in model.state_dict().items():
            assert torch.equal(tree.model(path).state_dict()[name], tensor)
        tree.release()
    result = tree.visit(path)
    for split in ("validation", "test"):
        correct = classified(model, getattr(task, split))
        outcome = getattr(result, split)
        assert outcome.accuracy == correct.mean()
        assert unpack(outcome.digits, len(correct)).tolist() == correct.tolist()
    probe = probe_samples(task, profile.sizes.probe, unit.seed)
    signals = extract_signals(model, task.train.take(probe), measures=MEASURES)
    expected = signals.reset_index(drop=True)
    pd.testing.assert_frame_equal(result.signals, expected, check_like=True)


def test_only_what_is_asked_for_is_computed(tree, put):
    tree.evaluate(PruningPath.of(1), "validation")
    assert [(call.args[1]["kind"], call.args[1].get("split")) for call in put] == [
        ("evaluation", "validation")
    ]
    assert tree.visit(PruningPath.of(1), signals=False).signals is None
    assert {call.args[1]["kind"] for call in put} == {"evaluation", "training"}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_condition_starts_from_its_node_and_is_recorded(condition, tree):
    assert list(CONDITIONS) == ["distilled", "same-steps", "original-same-steps"]
    path = PruningPath.of(2)
    if condition == "original-same-steps":
        path = ORIGINAL
    with patch.object(module, "distill", wraps=distill) as watched:
        found = tree.evaluate(path, "test", condition)
        assert tree.evaluate(path, "test", condition) == found
    watched.assert_called_once()
    student, teacher, data, recipe = watched.call_args.args
    assert data is tree.task.train and recipe is tree.recipes["distillation"]
    # The same samples in every condition.
    assert watched.call_args.kwargs["seed"] == derive_seed("distillation", 0)
    assert torch.equal(
        predict_logits(student, data), predict_logits(tree.model(path), data)
    )
    assert (teacher is not None) == (condition == "distilled")
    assert teacher is None or torch.equal(
        teacher, predict_logits(tree.model(ORIGINAL), data)
    )


def test_a_worker_that_sees_other_data_stops(unit, tmp_path):
    store = RecordStore(tmp_path / "store")
    here, there = (
        content_key(open_tree(replace(unit, task=task), store).base)
        for task in ("agnews", "imdb")
    )
    with tiny.refused("other data"):
        visit_node(unit, Request(ORIGINAL, signals=True), store, there)
    assert not store.folder.exists()
    assert (
        visit_node(unit, Request(ORIGINAL, signals=True), store, here).signals
        is not None
    )


def test_a_process_notices_another_model_other_texts_and_other_versions(
    tmp_path, monkeypatch
):
    unit = Experiment(
        tiny.make_profile(tiny.write_model(tmp_path / "model")), "agnews", 0
    )
    store = RecordStore(tmp_path / "store")
    before = open_tree(unit, store)
    old = next(before.source().parameters())
    assert open_tree(unit, store) is before
    tiny.write_model(tmp_path / "model", seed=1)
    assert not torch.equal(next(open_tree(unit, store).source().parameters()), old)
    monkeypatch.setenv(
        "SFUSION_DATA", str(tiny.write_task(tmp_path / "data", "agnews", seed=1))
    )
    assert open_tree(unit, store).base["task"] != before.base["task"]
    monkeypatch.setattr(identity, "versions", lambda: {"torch": "99.0"})
    assert open_tree(replace(unit, seed=1), store).base["versions"] == {"torch": "99.0"}


def test_the_trees_of_a_large_study_stay_open_without_their_texts(profile, tmp_path):
    store = RecordStore(tmp_path / "store")
    units = [Experiment(profile, "agnews", seed) for seed in range(40)]
    trees = [open_tree(one, store) for one in units]
    assert [open_tree(one, store) for one in units] == trees
    assert not any(tree.task.texts for tree in trees)
    # The encoder is in memory once, whatever the head.
    first, second = (tree.source().base_model for tree in trees[:2])
    pointers = [next(model.parameters()).data_ptr() for model in (first, second)]
    assert pointers[0] == pointers[1]


def test_the_second_run_trains_nothing(profile, whole, trained, put):
    again = PruningStudy(profile, FEW).run(whole.folder, quiet=True)
    assert trained == put == []
    _same_results(again, whole.results)
    # A study that goes on does not pass its last part for the whole.
    assert whole.results.manifest["wall_seconds"] > 0
    assert again.manifest["wall_seconds"] is None


def test_a_sweep_trains_what_its_strategies_need_alone(profile, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sfusion.experiments.pruning_study.load_profile", lambda name: profile
    )
    for asked, labels in (
        (None, SINGLE),
        (["energy", "linear-regression"], ["energy", "linear-regression"]),
    ):
        found = sweep(
            "tiny", asked and iter(asked), folder=tmp_path / "more", quiet=True
        )
        assert set(found["strategy"]) == set(labels)
        assert (
            len(found) == 2 * DEPTH * len(labels)
            and found["test_accuracy"].between(0, 1).all()
        )
    with tiny.refused("'magic'"):
        sweep("tiny", ["energy", "magic"], folder=tmp_path / "more", quiet=True)
    found = sweep("tiny", ["random"], folder=tmp_path, quiet=True)
    assert set(found["strategy"]) == {"random-0", "random-1"}
    kinds = [spec["kind"] for spec, _ in tiny.records(tmp_path).values()]
    nodes = len(found[["task", "path"]].drop_duplicates())
    assert sorted(kinds) == ["evaluation"] * 2 * nodes + ["training"] * nodes


@pytest.mark.parametrize("label", ["one-shot-top-first", "one-shot-angular-distance"])
def test_a_one_shot_strategy_removes_at_once_what_it_ranks_first_at_the_root(
    label, profile, trained, tmp_path, monkeypatch
):
    # It teaches no fusion and is none, and is followed all the same.
    monkeypatch.setattr(
        "sfusion.experiments.pruning_study.load_profile",
        lambda _: profile.model_copy(update={"tasks": ("agnews",)}),
    )
    found = sweep("tiny", [label], folder=tmp_path, quiet=True)
    read = [
        (spec["path"], result)
        for spec, result in tiny.records(tmp_path).values()
        if spec["kind"] == "signals"
    ]
    ranked = [3, 2, 1, 0]
    if label == "one-shot-angular-distance":
        ((path, signals),) = read
        assert path == ""
        ranked.sort(key=signals["angular-distance"].__getitem__)
    else:
        assert not read
    assert found["path"].tolist() == [
        "+".join(map(str, sorted(ranked[:n]))) for n in range(DEPTH)
    ]
    recovery = profile.recovery.samples
    samples = [profile.original.samples, recovery, 2 * recovery, 3 * recovery]
    assert [call.args[2].samples for call in trained] == samples


def test_a_study_without_room_for_weights_finds_the_same(
    profile, whole, trained, tmp_path, monkeypatch
):
    monkeypatch.setenv("SFUSION_WEIGHTS_GB", "0")
    results = PruningStudy(profile, FEW).run(tmp_path, quiet=True)
    _same_results(results, whole.results)
    assert tiny.texts(tmp_path) == whole.texts
    assert len(trained) > len(results.nodes) + len(
        results.distillation
    )  # parents again and again


def test_weights_that_lack_a_parameter_are_trained_again(tree, trained):
    spec, grown = tree.spec("weights", ORIGINAL), tree.model(ORIGINAL).state_dict()
    tensors = load(tree.store.get_weights(spec))
    del tensors["classifier.weight"]
    shutil.rmtree(tree.store.folder / "weights")
    tree.store.put_weights(spec, save(tensors))
    tree.release()
    again = tree.model(ORIGINAL).state_dict()
    assert len(trained) == 2
    assert all(torch.equal(again[name], tensor) for name, tensor in grown.items())


@pytest.mark.parametrize("architecture", ["gpt2", "modernbert"])
def test_a_study_of_another_architecture(architecture, tmp_path, trained):
    """Frozen embeddings are left out of the cache; layers that must stay do."""
    profile = tiny.make_profile(
        tiny.write_other_model(tmp_path / "model", architecture), tasks=("agnews",)
    )
    names = ["energy", "random", "top-first", "random-forest", "greedy-oracle"]
    results = PruningStudy(profile, names).run(tmp_path / "study", quiet=True)
    assert set(results.trajectories["removed"]) == {0, 1, 2, 3}
    if architecture == "modernbert":
        assert not [
            path
            for path in results.nodes["path"]
            if 0 in PruningPath.parse(path).removed
        ]
    # Every node once, and no node again because its parent's weights could not be read.
    assert len(trained) == len(results.nodes) + len(results.distillation)


def test_a_signal_that_the_architecture_lacks_leaves_its_strategy_out(
    profile, tmp_path, monkeypatch
):
    lacking = {"energy": float("nan")}
    monkeypatch.setattr(
        module,
        "extract_signals",
        lambda *a, **kw: extract_signals(*a, **kw).assign(**lacking),
    )
    with pytest.warns(UserWarning, match="no such signal: .'energy'"):
        one = profile.model_copy(update={"tasks": ("agnews",)})
        results = PruningStudy(one, FEW).run(tmp_path, quiet=True)
    expected = {
        "weight-norm",
        "attention-entropy",
        "random-0",
        "random-1",
        "random-forest",
    }
    assert set(results.trajectories["strategy"]) == expected
    assert results.signals["energy"].isna().all()


KINDS = [
    ("evaluation", None),
    ("signals", None),
    ("task", None),
    ("evaluation", "distilled"),
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_damaged_record_is_computed_again_alone(
    kind, profile, whole, trained, put, tmp_path
):
    folder = shutil.copytree(whole.folder, tmp_path / "copy")
    specs = {name: spec for name, (spec, _) in sorted(tiny.records(folder).items())}
    name = next(
        n for n, spec in specs.items() if (spec["kind"], spec.get("condition")) == kind
    )
    file = folder / "store" / "records" / name[:2] / name
    file.write_text(file.read_text().replace('"value"', '"other"'))
    with pytest.warns(UserWarning, match=name):
        results = PruningStudy(profile, FEW).run(folder, quiet=True)
    assert [call.args[1] for call in put] == [specs[name]]
    # Its weights are in the cache, where it is a node; distillation keeps none.
    assert len(trained) == (kind[1] is not None)
    assert tiny.texts(folder) == whole.texts
    _same_results(results, whole.results)


DECIDING = {
    "task": "imdb",
    "seed": 1,
    "threads": 2,
    "precision": "bf16",
    "max_length": 10,
    "sizes": {"probe": 12},
}
DECIDING |= {
    "original": {"warmup": 0.5},
    "recovery": {"dropout": True},
    "distillation": {"temperature": 3.0},
}


def _spec(unit, layers, changes=None, **details):
    """Specify a node after changes to its experiment or its profile."""
    changes = dict(changes or {})
    own = {name: changes.pop(name) for name in ("task", "seed") if name in changes}
    parts = {
        n: getattr(unit.profile, n).model_copy(update=v)
        for n, v in changes.items()
        if isinstance(v, dict)
    }
    unit = replace(
        unit, profile=unit.profile.model_copy(update={**changes, **parts}), **own
    )
    tree = open_tree(unit, RecordStore("unused"))
    spec = tree.spec("evaluation", PruningPath.of(*layers), **details)
    return {**spec.pop("recipes"), **spec}


@pytest.mark.parametrize("key", DECIDING)
def test_whatever_decides_a_result_is_in_its_specification(key, unit):
    details = {"condition": "distilled"} if key == "distillation" else {}
    here, there = (
        _spec(unit, (1, 0), changes, **details)
        for changes in ({}, {key: DECIDING[key]})
    )
    assert {name for name in here if here[name] != there[name]} == {key}


def test_what_does_not_decide_a_result_is_not(unit):
    other = {
        "name": "other",
        "description": "",
        "random_orders": 9,
        "tasks": ("agnews",),
    }
    assert _spec(unit, (1,), other) == _spec(unit, (1,))
    # How a child recovers does not touch the unpruned model, nor the teacher the pruned
    # ones.
    assert _spec(unit, (), {"recovery": {"dropout": True}}) == _spec(unit, ())
    assert _spec(unit, (1,), {"distillation": {"temperature": 3.0}}) == _spec(
        unit, (1,)
    )
    deeper = {"distillation": {"removals": (3,)}}
    assert _spec(unit, (1,), deeper, condition="distilled") == _spec(
        unit, (1,), condition="distilled"
    )
    assert _spec(unit, (1, 0)) != _spec(unit, (0, 1))


# Processes of their own, from a server that imports the package once for all of them.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["sfusion.study", "datasets", "transformers.models.bert.modeling_bert"]
)


def _start(profile, folder):
    arguments = (
        profile,
        folder,
        FEW,
        folder / "trained",
        {**os.environ, "OMP_NUM_THREADS": "1"},
    )
    process = PROCESSES.Process(target=tiny.run_counted, args=arguments)
    process.start()
    return process


def _stamps(folder):
    files = (folder / "store" / "records").rglob("*.json")
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_stopped(profile, whole, tmp_path):
    total = len(whole.texts)
    rng = random.Random(
        time.time_ns()
    )  # other moments in every run; the outcome is one
    for enough in sorted(rng.choices(range(3 * total // 4), k=6)):
        before = _stamps(tmp_path)
        process = _start(profile, tmp_path)
        deadline = time.monotonic() + 60
        while len(_stamps(tmp_path)) < enough:
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        after = _stamps(tmp_path)
        assert before.items() <= after.items(), "a finished record was computed again"
    assert len(after) < total
    process = _start(profile, tmp_path)
    process.join(120)
    assert process.exitcode == 0
    assert after.items() <= _stamps(tmp_path).items()
    assert int((tmp_path / "trained").read_text()) <= total - len(after)
    assert tiny.texts(tmp_path) == whole.texts
    assert not (tmp_path / "store" / "damaged").exists()


@pytest.mark.slow
def test_two_processes_at_once_on_one_store(profile, whole, tmp_path):
    for process in [_start(profile, tmp_path) for _ in range(2)]:
        process.join(120)
        assert process.exitcode == 0
    assert tiny.texts(tmp_path) == whole.texts
    assert not (tmp_path / "store" / "damaged").exists()
    assert not list(tmp_path.rglob(".partial-*"))
