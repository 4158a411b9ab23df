"""The walk: the same bits however the work is shared, stopped, resumed or repeated."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
import warnings
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
import tiny
import torch
from safetensors.torch import load, save

from sfusion import SfusionError, extract_signals, fine_tune, remove_layers
from sfusion.models.loading import layer_stack
from sfusion.pruning import distillation, nodes
from sfusion.pruning.nodes import (
    Unit,
    compute_node,
    fixed_threads,
    grow,
    node_spec,
    path_name,
    unit_model,
    unit_task,
)
from sfusion.pruning.strategies import STRATEGIES, expand
from sfusion.pruning.walk import greedy, subsets, walk
from sfusion.records.store import RecordStore, content_key, versions
from sfusion.signals import MEASURES
from sfusion.study import compute
from sfusion.training import accuracies, derive_seed

PLAIN = [name for name, s in STRATEGIES.items() if s.first_walk]
SINGLE = expand(PLAIN, 2)
FEW = ("energy", "weight-norm", "attention-entropy", "random", "random-forest")
DEPTH = 4


@pytest.fixture(scope="module", autouse=True)
def environment():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUSION_DATA", str(tiny.data_folder()))
        patch.setenv("SFUSION_JOBS", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("SFUSION_BACKEND", raising=False)
        yield


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tiny.make_profile(tiny.write_model(tmp_path_factory.mktemp("walk") / "model", DEPTH))


@pytest.fixture(scope="module")
def unit(profile):
    return Unit(profile, "agnews", 0)


@pytest.fixture(scope="module")
def together(unit, tmp_path_factory):
    """All single strategies on one tree, side by side."""
    folder = tmp_path_factory.mktemp("together")
    records, visits = walk([unit], SINGLE, RecordStore(folder / "store"), quiet=True)
    return SimpleNamespace(folder=folder, records=records, trajectories=visits)


@pytest.fixture(scope="module")
def whole(profile, tmp_path_factory):
    """A whole study that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    results = compute(profile, folder, strategies=FEW, quiet=True)
    return SimpleNamespace(folder=folder, results=results, records=tiny.records(folder))


@pytest.fixture
def trained(monkeypatch):
    """Count what is trained, by the specification of the node."""
    calls, fine_tune = [], nodes.fine_tune

    def counted(model, data, recipe, **kwargs):
        calls.append(kwargs["seed"])
        return fine_tune(model, data, recipe, **kwargs)

    monkeypatch.setattr(nodes, "fine_tune", counted)
    monkeypatch.setattr(distillation, "fine_tune", counted)
    return calls


@pytest.fixture
def put(monkeypatch):
    """List the specifications of the records that are written."""
    specs, original = [], RecordStore.put

    def listed(store, spec, result):
        specs.append(spec)
        original(store, spec, result)

    monkeypatch.setattr(RecordStore, "put", listed)
    return specs


def _timeless(record):
    return {key: value for key, value in record.items() if key != "seconds"}


def _same(one, other):
    """Compare records by their exact text, so that not a bit of a number may differ."""
    assert one.keys() == other.keys()
    differing = [key for key in one if json.dumps(one[key]) != json.dumps(other[key])]
    assert not differing


def _same_results(one, other):
    times = ["training", "evaluation", "extraction"]
    for name in ("tasks", "signals", "visits", "distillation"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name), check_like=True)
    pd.testing.assert_frame_equal(one.nodes.drop(columns=times), other.nodes.drop(columns=times))


@pytest.mark.parametrize("label", ["task-relevance-mi", "attention-entropy", "random-1", "energy"])
def test_a_strategy_alone_finds_what_it_finds_among_all(label, unit, together, tmp_path):
    records, visits = walk([unit], [label], RecordStore(tmp_path / "store"), quiet=True)
    mine = together.trajectories[together.trajectories["strategy"] == label]
    assert visits["path"].tolist() == mine["path"].tolist()
    assert len(records) == DEPTH
    for node, record in records.items():
        assert _timeless(record) == _timeless(together.records[node])


def test_the_order_of_strategies_does_not_matter(unit, together, tmp_path):
    _, visits = walk([unit], SINGLE[::-1], RecordStore(tmp_path / "store"), quiet=True)
    _same(tiny.records(tmp_path), tiny.records(together.folder))
    keys = ["strategy", "removed"]
    pd.testing.assert_frame_equal(
        visits.sort_values(keys, ignore_index=True),
        together.trajectories.sort_values(keys, ignore_index=True),
    )


def test_every_strategy_goes_down_to_one_layer(unit, together):
    visits = together.trajectories
    assert set(visits["strategy"]) == set(SINGLE)
    for _, way in visits.groupby("strategy"):
        way = way.sort_values("removed")
        assert way["removed"].tolist() == list(range(DEPTH))
        paths = way["path"].tolist()
        assert paths[0] == ""
        steps = [path.split("-") for path in paths[1:]]
        assert all(step[: len(steps[i])] == steps[i] for i, step in enumerate(steps[1:]))
        assert len(set(steps[-1])) == DEPTH - 1
    assert {(unit, path) for path in map(_path, visits["path"])} == set(together.records)


def _path(name):
    return tuple(map(int, name.split("-"))) if name else ()


def test_choices_follow_from_the_signals_of_the_node(together, unit):
    table = together.trajectories.set_index(["strategy", "removed"])["path"]
    for label in ("weight-norm", "attention-entropy"):
        for removed in range(DEPTH - 1):
            path = _path(table[label, removed])
            values = together.records[unit, path]["signals"][label]
            left = [layer for layer in range(DEPTH) if layer not in path]
            worst = max(values) if label == "attention-entropy" else min(values)
            assert _path(table[label, removed + 1]) == (*path, left[values.index(worst)])


@pytest.fixture
def threads_of_a_run(unit):
    """Fix what else rounds differently when nothing around the tests sets it."""
    with fixed_threads(unit.profile.threads):
        yield


@pytest.mark.usefixtures("threads_of_a_run")
@pytest.mark.parametrize("path", [(), (2,), (1, 3), (3, 0, 2)])
def test_a_node_is_its_parent_without_the_layer_and_fine_tuned(path, unit, tmp_path):
    task, profile = unit_task(unit), unit.profile
    model = remove_layers(unit_model(unit), ())
    left = list(range(DEPTH))
    for step in range(len(path) + 1):
        if step:
            model = remove_layers(model, [left.index(path[step - 1])])
            left.remove(path[step - 1])
        recipe = profile.recovery if step else profile.original
        fine_tune(model, task.train, recipe, seed=derive_seed("order", unit.seed, path[:step]))
    store = RecordStore(tmp_path / "store")
    grown = grow(unit, path, store)
    again = grow(unit, path, store)  # from the cache
    for name, tensor in model.state_dict().items():
        assert torch.equal(grown.state_dict()[name], tensor)
        assert torch.equal(again.state_dict()[name], tensor)
    record = compute_node(unit, path, store)
    assert {key: record[key] for key in record if key.endswith("accuracy")} == accuracies(
        model, task
    )
    order = torch.Generator().manual_seed(derive_seed("probe", unit.seed))
    probe = torch.randperm(len(task.train), generator=order)[: profile.sizes.probe]
    signals = extract_signals(model, task.train.take(probe), measures=MEASURES)
    assert record["signals"] == {name: signals[name].tolist() for name in signals}


def test_a_worker_that_sees_other_data_stops(unit, tmp_path):
    store = RecordStore(tmp_path / "store")
    here = content_key(node_spec(unit, ()))
    there = content_key(node_spec(Unit(unit.profile, "imdb", 0), ()))
    with pytest.raises(SfusionError) as error:
        compute_node(unit, (), store, there)
    assert "other data" in tiny.one_line(error)
    assert not store.folder.exists()
    assert compute_node(unit, (), store, here)["signals"]


def test_other_versions_are_another_key(unit, monkeypatch):
    before = content_key(node_spec(unit, ()))
    newer = {**versions(), "transformers": "99.0"}
    monkeypatch.setattr("sfusion.pruning.nodes.versions", lambda: newer)
    assert content_key(node_spec(unit, ())) != before


def test_a_process_notices_another_model_and_other_texts(tmp_path, monkeypatch):
    unit = Unit(tiny.make_profile(tiny.write_model(tmp_path / "model")), "agnews", 0)
    task, model = unit_task(unit), unit_model(unit)
    assert unit_task(unit) is task and unit_model(unit) is model
    tiny.write_model(tmp_path / "model", seed=1)
    layers = [layer_stack(one)[0].output.dense.weight for one in (model, unit_model(unit))]
    assert not torch.equal(*layers)
    monkeypatch.setenv("SFUSION_DATA", str(tiny.write_task(tmp_path / "data", "agnews", seed=1)))
    assert unit_task(unit).fingerprint != task.fingerprint


def test_a_shared_prefix_is_trained_once(unit, trained, tmp_path):
    records, visits = walk([unit], SINGLE, RecordStore(tmp_path / "store"), quiet=True)
    assert len(trained) == len(records) == visits["path"].nunique()
    assert set(Counter(trained).values()) == {1}
    assert len(records) < 1 + len(SINGLE) * (DEPTH - 1)  # some strategies do agree


def test_the_oracle_takes_the_child_of_highest_validation_accuracy(unit, together, trained):
    store = RecordStore(together.folder / "store")
    before = set(tiny.records(together.folder))
    records, visits = greedy([unit], store, quiet=True)
    assert visits["strategy"].unique().tolist() == ["greedy-oracle"]
    assert visits["removed"].tolist() == list(range(DEPTH))
    path = ()
    for name in visits["path"][1:]:
        children = [(*path, layer) for layer in range(DEPTH) if layer not in path]
        best = max(records[unit, child]["validation_accuracy"] for child in children)
        ties = [c for c in children if records[unit, c]["validation_accuracy"] == best]
        path = max(ties)
        assert name == "-".join(map(str, path))
    assert len(records) == DEPTH * (DEPTH + 1) // 2 - 1
    # Children that the strategies had trained are shared.
    new = set(tiny.records(together.folder)) - before
    assert 0 < len(new) < len(records)
    assert len(trained) >= len(new)


def test_every_set_of_layers_is_trained_once_from_the_top_down(unit, together):
    records = subsets([unit], RecordStore(together.folder / "store"), quiet=True)
    paths = [path for _, path in records]
    assert len(paths) == len({frozenset(path) for path in paths}) == 2**DEPTH - 2
    assert all(list(path) == sorted(path, reverse=True) for path in paths)
    top = together.trajectories[together.trajectories["strategy"] == "top-first"]
    for name in top["path"][1:]:
        node = unit, tuple(map(int, name.split("-")))
        assert _timeless(records[node]) == _timeless(together.records[node])


def test_the_second_walk_trains_nothing(profile, whole, trained, put):
    again = compute(profile, whole.folder, strategies=FEW, quiet=True)
    assert trained == put == []
    _same_results(again, whole.results)


def test_a_study_that_goes_on_does_not_pass_its_last_part_for_the_whole(profile, whole):
    assert whole.results.manifest["wall_seconds"] > 0
    again = compute(profile, whole.folder, strategies=FEW, quiet=True)
    assert again.manifest["wall_seconds"] is None


def test_frames_have_the_same_columns_computed_and_read_back(profile, whole):
    again = compute(profile, whole.folder, strategies=FEW, quiet=True)
    for name in ("tasks", "nodes", "signals", "visits", "distillation"):
        assert list(getattr(again, name)) == list(getattr(whole.results, name))


def test_removed_weights_change_nothing(profile, whole, trained, tmp_path):
    folder = tmp_path / "study"
    compute(profile, folder, strategies=FEW, upto="sweep", quiet=True)
    swept = len(trained)
    shutil.rmtree(folder / "store" / "weights")
    results = compute(profile, folder, strategies=FEW, quiet=True)
    _same(tiny.records(folder), whole.records)
    _same_results(results, whole.results)
    assert len(trained) > swept


def test_a_cache_without_room_changes_nothing(unit, together, tmp_path):
    labels = ["energy", "random-0"]
    store = RecordStore(tmp_path / "store", weights_gb=0)
    records, _ = walk([unit], labels, store, quiet=True)
    assert not list((tmp_path / "store" / "weights").iterdir())
    for node, record in records.items():
        assert _timeless(record) == _timeless(together.records[node])


def test_weights_that_are_used_stay_longest(unit, tmp_path):
    store = RecordStore(tmp_path / "store")
    walk([unit], ["energy"], store, quiet=True)
    key = content_key(node_spec(unit, ()))
    (root,) = (tmp_path / "store" / "weights").glob(f"{key}-*")
    for file in root.parent.iterdir():
        os.utime(file, (0, 0))
    grow(unit, (), store)
    size = root.stat().st_size
    store.trim(size / 1e9)
    assert [file.name for file in root.parent.iterdir()] == [root.name]


def _truncate(content):
    return content[: len(content) // 2]


def _flip(content):
    """Turn one bit of the last number: still a well-formed file, of other weights."""
    return content[:-1] + bytes([content[-1] ^ 1])


def _flip_name(content):
    return content.replace(b"classifier.bias", b"classifier.bibs", 1)


@pytest.mark.parametrize("harm", [_truncate, _flip, _flip_name])
def test_damaged_weights_are_named_set_aside_and_trained_again(
    harm, unit, together, trained, tmp_path
):
    store = RecordStore(tmp_path / "store")
    walk([unit], ["energy"], store, quiet=True)
    weights = {file: file.read_bytes() for file in (tmp_path / "store" / "weights").iterdir()}
    for file, content in weights.items():
        file.write_bytes(harm(content))
    shutil.rmtree(tmp_path / "store" / "records")
    trained.clear()
    with pytest.warns(UserWarning, match="weights file .* is damaged") as caught:
        records, _ = walk([unit], ["energy"], store, quiet=True)
    assert len(trained) == DEPTH
    for file, content in weights.items():
        assert sum(str(file) in str(warning.message) for warning in caught) == 1
        assert (tmp_path / "store" / "damaged" / file.name).read_bytes() == harm(content)
        assert file.read_bytes() == content  # trained again, to the bit
    for node, record in records.items():
        assert _timeless(record) == _timeless(together.records[node])


def test_weights_that_lack_a_parameter_are_trained_again(unit, together, trained, tmp_path):
    store = RecordStore(tmp_path / "store")
    grown = grow(unit, (), store)
    tensors = dict(load(store.get_weights(node_spec(unit, ()))))
    tensors.pop("classifier.weight")
    shutil.rmtree(tmp_path / "store" / "weights")
    store.put_weights(node_spec(unit, ()), save(tensors))
    again = grow(unit, (), store)
    assert len(trained) == 2
    for name, tensor in grown.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def _kind(spec):
    return spec["kind"], len(spec["path"]), spec.get("condition")


KINDS = [
    ("node", 0, None),
    ("node", 2, None),
    ("node", DEPTH - 1, None),
    ("task", 0, None),
    ("distillation", 0, "original-same-steps"),
    ("distillation", 2, "distilled"),
    ("distillation", 1, "same-steps"),
]


@pytest.mark.parametrize("harm", ["deleted", "altered"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_lost_record_is_computed_again_alone(
    kind, harm, profile, whole, trained, put, tmp_path
):
    folder = shutil.copytree(whole.folder, tmp_path / "copy")
    name, (spec, _) = next((n, r) for n, r in sorted(whole.records.items()) if _kind(r[0]) == kind)
    file = folder / "store" / "records" / name[:2] / name
    if harm == "deleted":
        file.unlink()
    else:
        record = json.loads(file.read_text())
        record["result"]["test" if kind[0] == "task" else "test_accuracy"] += 1
        file.write_text(json.dumps(record))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = compute(profile, folder, strategies=FEW, quiet=True)
    named = [str(w.message) for w in caught if name in str(w.message)]
    assert len(named) == (harm == "altered")
    assert put == [spec]
    # Its weights are in the cache, where it is a node; distillation keeps none.
    assert len(trained) == (kind[0] == "distillation")
    _same(tiny.records(folder), whole.records)
    _same_results(results, whole.results)


def test_a_record_whose_weights_are_gone_too(profile, whole, trained, put, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "copy")
    name, spec = next(
        (n, s) for n, (s, _) in sorted(whole.records.items()) if _kind(s) == ("node", 2, None)
    )
    (folder / "store" / "records" / name[:2] / name).unlink()
    (weights,) = (folder / "store" / "weights").glob(f"{content_key(spec)}-*")
    weights.unlink()
    compute(profile, folder, strategies=FEW, quiet=True)
    assert (len(trained), put) == (1, [spec])
    _same(tiny.records(folder), whole.records)


SPECIFIC = {
    "seed": lambda unit: Unit(unit.profile, unit.task, 1),
    "task": lambda unit: Unit(unit.profile, "imdb", unit.seed),
    "threads": lambda unit: _with(unit, threads=2),
    "precision": lambda unit: _with(unit, precision="bf16"),
    "max_length": lambda unit: _with(unit, max_length=10),
    "sizes": lambda unit: _with(unit, sizes=unit.profile.sizes.model_copy(update={"probe": 12})),
    "original": lambda unit: _with(
        unit, original=unit.profile.original.model_copy(update={"warmup": 0.5})
    ),
    "recovery": lambda unit: _with(
        unit, recovery=unit.profile.recovery.model_copy(update={"dropout": True})
    ),
}


def _with(unit, **values):
    return Unit(unit.profile.model_copy(update=values), unit.task, unit.seed)


@pytest.mark.parametrize("key", SPECIFIC)
def test_whatever_decides_a_result_is_in_its_specification(key, unit):
    here, there = (node_spec(u, (1, 0)) for u in (unit, SPECIFIC[key](unit)))
    assert here != there
    assert {name for name in here if here[name] != there[name]} == {key}


def test_what_does_not_decide_a_result_is_not(unit):
    other = _with(unit, name="other", description="", random_orders=9, tasks=("agnews",))
    assert node_spec(other, (1,)) == node_spec(unit, (1,))
    # How a child recovers does not touch the unpruned model.
    assert node_spec(SPECIFIC["recovery"](unit), ()) == node_spec(unit, ())
    assert node_spec(unit, (1, 0)) != node_spec(unit, (0, 1))


def test_paths_are_written_as_text():
    assert [path_name(p) for p in [(), (4,), (11, 2)]] == ["", "4", "11-2"]


@pytest.fixture(scope="module")
def processes():
    """Processes of their own, from a server that imports the package once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sfusion.study", "datasets"])
    return context


def _start(processes, profile, folder):
    folder.mkdir(exist_ok=True)
    log = folder / "trained"
    process = processes.Process(target=tiny.run_study, args=(profile, folder, FEW, log))
    process.start()
    return process


def _count(folder):
    return sum(1 for _ in (folder / "store").rglob("*.json"))


def _stamps(folder):
    files = (folder / "store" / "records").rglob("*.json")
    return {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in files}


@pytest.mark.slow
def test_a_killed_study_goes_on_where_it_stopped(processes, profile, whole, tmp_path):
    folder, total = tmp_path / "study", len(whole.records)
    rng = random.Random(time.time_ns())  # other moments in every run; the outcome is one
    for enough in sorted(rng.choices(range(3 * total // 4), k=6)):
        before = _stamps(folder) if folder.exists() else {}
        process = _start(processes, profile, folder)
        deadline = time.monotonic() + 60
        while _count(folder) < enough:
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        after = _stamps(folder)
        assert before.items() <= after.items(), "a finished record was computed again"
    missing = total - len(after)
    assert missing > 0
    process = _start(processes, profile, folder)
    process.join(120)
    assert process.exitcode == 0
    assert after.items() <= _stamps(folder).items()
    assert int((folder / "trained").read_text()) <= missing
    _same(tiny.records(folder), whole.records)
    assert not (folder / "store" / "damaged").exists()


@pytest.mark.slow
def test_two_processes_at_once_on_one_store(processes, profile, whole, tmp_path):
    pair = [_start(processes, profile, tmp_path) for _ in range(2)]
    for process in pair:
        process.join(120)
        assert process.exitcode == 0
    _same(tiny.records(tmp_path), whole.records)
    assert not (tmp_path / "store" / "damaged").exists()
    assert not list(tmp_path.rglob(".partial-*"))
