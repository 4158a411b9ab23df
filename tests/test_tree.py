"""The pruning tree and its searches: the same bits however the work is shared or interrupted."""

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

from sfusion import SfusionError, extract_signals, fine_tune, remove_layers, sweep
from sfusion.models.layers import layer_stack
from sfusion.pruning import tree as module
from sfusion.pruning.searches import Experiment, Search, compute_node, open_tree
from sfusion.pruning.strategies import STRATEGIES, expand, parse_path, path_name
from sfusion.pruning.tree import CONDITIONS, follow
from sfusion.records.store import RecordStore, content_key, versions
from sfusion.signals import MEASURES
from sfusion.study import TRAJECTORIES, run_study
from sfusion.training import accuracy, derive_seed, fixed_threads, predict_logits

SINGLE = expand([name for name, s in STRATEGIES.items() if s.teaches_fusions], 2)
FEW = ("energy", "weight-norm", "attention-entropy", "random", "random-forest")
DEPTH = 4
TIMES = ["training", "evaluation", "extraction"]


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
    return tiny.make_profile(tiny.write_model(tmp_path_factory.mktemp("tree") / "model", DEPTH))


@pytest.fixture(scope="module")
def unit(profile):
    return Experiment(profile, "agnews", 0)


def _iterate(unit, labels, folder, weights_gb=None):
    search = Search([unit], RecordStore(folder / "store", weights_gb), quiet=True)
    search.iterate(labels, teach=True)
    return search, pd.DataFrame(search.trajectories, columns=TRAJECTORIES)


@pytest.fixture(scope="module")
def together(unit, tmp_path_factory):
    """All single strategies on one tree, side by side."""
    folder = tmp_path_factory.mktemp("together")
    search, paths = _iterate(unit, SINGLE, folder)
    return SimpleNamespace(folder=folder, records=search.records, paths=paths)


@pytest.fixture(scope="module")
def whole(profile, tmp_path_factory):
    """A whole study that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    results = run_study(profile, folder, strategies=FEW, quiet=True)
    return SimpleNamespace(folder=folder, results=results, records=tiny.records(folder))


@pytest.fixture
def tree(unit, tmp_path):
    """An empty tree, with the threads of a run."""
    with fixed_threads(unit.profile.threads):
        yield open_tree(unit, RecordStore(tmp_path / "store"))


@pytest.fixture
def trained(monkeypatch):
    """Count what is trained, by its seed."""
    calls = []
    for name in ("fine_tune", "distill"):
        monkeypatch.setattr(module, name, _counted(getattr(module, name), calls))
    return calls


def _counted(train, calls):
    def counted(*arguments, **kwargs):
        calls.append(kwargs["seed"])
        return train(*arguments, **kwargs)

    return counted


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
    return {key: value for key, value in record.items() if key not in TIMES}


def _same_records(search, together):
    for node, record in search.records.items():
        assert _timeless(record).items() <= _timeless(together.records[node]).items()


def _same(one, other):
    """Compare records by their exact text, so that not a bit of a number may differ."""
    assert one.keys() == other.keys()
    assert not [key for key in one if json.dumps(one[key]) != json.dumps(other[key])]


def _same_results(one, other):
    for name in ("tasks", "signals", "trajectories", "distillation"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
    pd.testing.assert_frame_equal(one.nodes.drop(columns=TIMES), other.nodes.drop(columns=TIMES))


@pytest.mark.parametrize("label", ["task-relevance-mi", "random-1"])
def test_a_strategy_alone_finds_what_it_finds_among_all(label, unit, together, tmp_path):
    search, paths = _iterate(unit, [label], tmp_path)
    mine = together.paths[together.paths["strategy"] == label]
    assert paths["path"].tolist() == mine["path"].tolist()
    assert len(search.records) == DEPTH
    _same_records(search, together)


def test_the_order_of_strategies_does_not_matter(unit, together, tmp_path):
    _, paths = _iterate(unit, SINGLE[::-1], tmp_path)
    _same(tiny.records(tmp_path), tiny.records(together.folder))
    frames = (f.sort_values(["strategy", "removed"]).to_numpy() for f in (paths, together.paths))
    assert (next(frames) == next(frames)).all()


def test_every_strategy_goes_down_to_one_layer(unit, together):
    assert set(together.paths["strategy"]) == set(SINGLE)
    for _, rows in together.paths.groupby("strategy"):
        paths = [parse_path(name) for name in rows["path"]]
        assert [len(path) for path in paths] == rows["removed"].tolist() == list(range(DEPTH))
        assert all(path[:-1] == before for before, path in zip(paths, paths[1:], strict=False))
        assert len(set(paths[-1])) == DEPTH - 1
    assert {(unit, parse_path(n)) for n in together.paths["path"]} == set(together.records)


def test_choices_follow_from_the_signals_of_the_node(together, unit):
    table = together.paths.set_index(["strategy", "removed"])["path"].map(parse_path)
    for label in ("weight-norm", "attention-entropy"):
        for removed in range(DEPTH - 1):
            path = table[label, removed]
            values = together.records[unit, path]["signals"][label]
            left = [layer for layer in range(DEPTH) if layer not in path]
            worst = max(values) if label == "attention-entropy" else min(values)
            assert table[label, removed + 1] == (*path, left[values.index(worst)])


@pytest.mark.parametrize("path", [(), (2,), (3, 0, 2)])
def test_a_node_is_its_parent_without_the_layer_and_fine_tuned(path, unit, tree):
    task, profile = tree.task, unit.profile
    model, left = remove_layers(tree.source(), ()), list(range(DEPTH))
    for step in range(len(path) + 1):
        if step:
            model = remove_layers(model, [left.index(path[step - 1])])
            left.remove(path[step - 1])
        recipe = profile.recovery if step else profile.original
        fine_tune(model, task.train, recipe, seed=derive_seed("order", unit.seed, path[:step]))
    for _ in range(2):  # trained, then from the cache
        for name, tensor in model.state_dict().items():
            assert torch.equal(tree.model(path).state_dict()[name], tensor)
        tree.release()
    record = tree.visit(path)
    for split in ("validation", "test"):
        assert record[f"{split}_accuracy"] == accuracy(model, getattr(task, split))
    order = torch.Generator().manual_seed(derive_seed("probe", unit.seed))
    probe = torch.randperm(len(task.train), generator=order)[: profile.sizes.probe]
    signals = extract_signals(model, task.train.take(probe), measures=MEASURES)
    assert record["signals"] == {name: signals[name].tolist() for name in signals}


def test_only_what_is_asked_for_is_computed(tree, put):
    tree.evaluate((1,), "validation")
    assert [(spec["kind"], spec.get("split")) for spec in put] == [("evaluation", "validation")]
    assert "signals" not in tree.visit((1,), signals=False)
    assert {spec["kind"] for spec in put} == {"evaluation", "training"}


def test_signals_are_extracted_only_where_something_reads_them(unit, together, tmp_path):
    leaves = {path for _, path in together.records if len(path) == DEPTH - 1}
    without = {path for (_, path), record in together.records.items() if "signals" not in record}
    assert without == leaves
    search = Search([unit], RecordStore(tmp_path / "store"), quiet=True)
    search.iterate(["random-0", "top-first", "random-forest-position"][:2])
    search.greedy()
    search.exhaustive([unit])
    assert not any("signals" in record for record in search.records.values())


@pytest.mark.parametrize("condition, path", [("distilled", (2,)), ("same-steps", (2,)),
                                             ("original-same-steps", ())])  # fmt: skip
def test_a_condition_starts_from_its_node_and_is_recorded(condition, path, tree, monkeypatch):
    calls = []

    def watched(student, teacher, data, recipe, **kwargs):
        calls.append((predict_logits(student, data), teacher, data, recipe, kwargs["seed"]))
        return remove_layers(student, ())

    monkeypatch.setattr(module, "distill", watched)
    found = tree.evaluate(path, "test", condition)
    assert tree.evaluate(path, "test", condition) == found
    ((start, teacher, data, recipe, seed),) = calls
    assert data is tree.task.train and recipe is tree.recipes["distillation"]
    assert seed == derive_seed("distillation", 0)  # the same samples in every condition
    assert torch.equal(start, predict_logits(tree.model(path), data))
    if CONDITIONS[condition][1]:
        assert torch.equal(teacher, predict_logits(tree.model(()), data))
    else:
        assert teacher is None
    assert list(CONDITIONS) == ["distilled", "same-steps", "original-same-steps"]


def test_a_worker_that_sees_other_data_stops(unit, tmp_path):
    store = RecordStore(tmp_path / "store")
    here, there = (open_tree(Experiment(unit.profile, task, 0), store).base
                   for task in ("agnews", "imdb"))  # fmt: skip
    with pytest.raises(SfusionError) as error:
        compute_node(unit, (), True, store, content_key(there))
    assert "other data" in tiny.one_line(error)
    assert not store.folder.exists()
    assert compute_node(unit, (), True, store, content_key(here))["signals"]


def test_a_process_notices_another_model_other_texts_and_other_versions(tmp_path, monkeypatch):
    unit = Experiment(tiny.make_profile(tiny.write_model(tmp_path / "model")), "agnews", 0)
    store = RecordStore(tmp_path / "store")
    before = open_tree(unit, store)
    old = layer_stack(before.source())[0].output.dense.weight
    assert open_tree(unit, store) is before
    tiny.write_model(tmp_path / "model", seed=1)
    after = open_tree(unit, store)
    assert not torch.equal(layer_stack(after.source())[0].output.dense.weight, old)
    monkeypatch.setenv("SFUSION_DATA", str(tiny.write_task(tmp_path / "data", "agnews", seed=1)))
    assert open_tree(unit, store).base["task"] != before.base["task"]
    newer = {**versions(), "transformers": "99.0"}
    monkeypatch.setattr("sfusion.pruning.searches.versions", lambda: newer)
    other = open_tree(Experiment(unit.profile, "agnews", 1), store)
    assert other.base["versions"] != before.base["versions"]


def test_a_shared_prefix_is_trained_once(unit, trained, tmp_path):
    search, paths = _iterate(unit, SINGLE, tmp_path)
    assert len(trained) == len(search.records) == paths["path"].nunique()
    assert set(Counter(trained).values()) == {1}
    assert len(search.records) < 1 + len(SINGLE) * (DEPTH - 1)  # some strategies do agree


def test_greedy_takes_the_child_of_highest_validation_accuracy(unit, together):
    search = Search([unit], RecordStore(together.folder / "store"), quiet=True)
    search.greedy()
    paths = [parse_path(name) for *_, name in search.trajectories]
    assert [len(path) for path in paths] == list(range(DEPTH))
    for before, path in zip(paths, paths[1:], strict=False):
        children = [(*before, layer) for layer in range(DEPTH) if layer not in before]
        scores = [search.records[unit, child]["validation_accuracy"] for child in children]
        assert path == max(c for c, s in zip(children, scores, strict=True) if s == max(scores))
    assert len(search.records) == DEPTH * (DEPTH + 1) // 2 - 1


def test_every_set_of_layers_is_trained_once_from_the_top_down(unit, together):
    search = Search([unit], RecordStore(together.folder / "store"), quiet=True)
    search.exhaustive([unit])
    paths = [path for _, path in search.records]
    assert len(paths) == len({frozenset(path) for path in paths}) == 2**DEPTH - 2
    assert all(list(path) == sorted(path, reverse=True) for path in paths)
    top = together.paths[together.paths["strategy"] == "top-first"]
    for path in map(parse_path, top["path"][1:]):
        mine = _timeless(search.records[unit, path])
        assert mine.items() <= _timeless(together.records[unit, path]).items()


def test_the_second_run_trains_nothing(profile, whole, trained, put):
    again = run_study(profile, whole.folder, strategies=FEW, quiet=True)
    assert trained == put == []
    _same_results(again, whole.results)
    # A study that goes on does not pass its last part for the whole.
    assert whole.results.manifest["wall_seconds"] > 0
    assert again.manifest["wall_seconds"] is None


def test_a_sweep_trains_what_its_strategies_need_alone(profile, tmp_path, monkeypatch):
    monkeypatch.setattr("sfusion.study.load_profile", lambda name: profile)
    found = sweep("tiny", ["random"], folder=tmp_path, quiet=True)
    assert set(found["strategy"]) == {"random-0", "random-1"}
    kinds = Counter(spec["kind"] for spec, _ in tiny.records(tmp_path).values())
    nodes = found[["task", "path"]].drop_duplicates()
    assert kinds == {"training": len(nodes), "evaluation": 2 * len(nodes)}


def test_removed_weights_change_nothing(profile, whole, trained, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "study")
    shutil.rmtree(folder / "store" / "weights")
    for name, (spec, _) in whole.records.items():
        if spec.get("condition"):
            (folder / "store" / "records" / name[:2] / name).unlink()
    results = run_study(profile, folder, strategies=FEW, quiet=True)
    _same(tiny.records(folder), whole.records)
    _same_results(results, whole.results)
    assert len(trained) > len(whole.results.distillation)


def test_a_cache_without_room_changes_nothing(unit, together, tmp_path):
    search, _ = _iterate(unit, ["energy", "random-0"], tmp_path, weights_gb=0)
    assert not list((tmp_path / "store" / "weights").iterdir())
    _same_records(search, together)


def test_weights_that_are_used_stay_longest(tree):
    for layer in range(DEPTH):
        tree.model((layer,))
    weights = list((tree.store.folder / "weights").iterdir())
    for file in weights:
        os.utime(file, (0, 0))
    tree.release()
    tree.model((2,))
    tree.store.trim(max(file.stat().st_size for file in weights) / 1e9)
    (kept,) = (tree.store.folder / "weights").iterdir()
    assert kept.name.startswith(content_key(tree.spec("weights", (2,))))


def _flip(content):
    """Turn one bit of the last number: still a well-formed file, of other weights."""
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("harm", [lambda content: content[: len(content) // 2], _flip])
def test_damaged_weights_are_named_set_aside_and_trained_again(harm, tree, trained):
    tree.visit((0,))
    folder = tree.store.folder
    weights = {file: file.read_bytes() for file in (folder / "weights").iterdir()}
    for file, content in weights.items():
        file.write_bytes(harm(content))
    tree.release()
    trained.clear()
    with pytest.warns(UserWarning, match="weights file .* is damaged"):
        tree.model((0,))
    assert len(trained) == len(weights) == 2
    for file, content in weights.items():
        assert (folder / "damaged" / file.name).read_bytes() == harm(content)
        assert file.read_bytes() == content  # trained again, to the bit


def test_weights_that_lack_a_parameter_are_trained_again(tree, trained):
    spec, grown = tree.spec("weights", ()), tree.model(())
    tensors = dict(load(tree.store.get_weights(spec)))
    tensors.pop("classifier.weight")
    shutil.rmtree(tree.store.folder / "weights")
    tree.store.put_weights(spec, save(tensors))
    tree.release()
    again = tree.model(())
    assert len(trained) == 2
    assert all(torch.equal(again.state_dict()[n], t) for n, t in grown.state_dict().items())


@pytest.mark.parametrize("architecture", ["gpt2", "modernbert"])
def test_a_study_of_another_architecture(architecture, tmp_path, trained):
    """Frozen embeddings of any name are left out of the cache, and layers that must stay do."""
    profile = tiny.make_profile(tiny.write_other_model(tmp_path / "model", architecture))
    names = ["energy", "random", "top-first", "random-forest", "greedy-oracle"]
    results = run_study(profile, tmp_path / "study", strategies=names, quiet=True)
    assert set(results.trajectories["removed"]) == {0, 1, 2, 3}
    if architecture == "modernbert":
        assert not [path for path in results.nodes["path"] if 0 in parse_path(path)]
    # Every node once, and no node again because its parent's weights could not be read.
    assert len(trained) == len(results.nodes) + len(results.distillation)


def test_a_signal_that_the_architecture_lacks_leaves_its_strategy_out(profile, tmp_path, monkeypatch):
    def lacking(*arguments, **kwargs):
        return extract_signals(*arguments, **kwargs).assign(energy=float("nan"))

    monkeypatch.setattr(module, "extract_signals", lacking)
    with pytest.warns(UserWarning, match="no such signal: .'energy'"):
        results = run_study(profile, tmp_path, strategies=FEW, quiet=True)
    assert "energy" not in set(results.trajectories["strategy"])
    assert {"weight-norm", "random-forest"} <= set(results.trajectories["strategy"])
    assert results.signals["energy"].isna().all()
    tree = open_tree(Experiment(profile, "agnews", 0), RecordStore(tmp_path / "store"))
    with pytest.raises(SfusionError, match="'energy': this architecture has no such signal"):
        follow(tree, "energy", 2)


def _kind(spec):
    return spec["kind"], len(spec["path"]), spec.get("condition")


KINDS = [("evaluation", 2, None), ("signals", 0, None), ("task", 0, None), ("evaluation", 2, "distilled")]


@pytest.mark.parametrize("harm", ["deleted", "altered"])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_one_lost_record_is_computed_again_alone(kind, harm, profile, whole, trained, put, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "copy")
    name, (spec, _) = next((n, r) for n, r in sorted(whole.records.items()) if _kind(r[0]) == kind)
    file = folder / "store" / "records" / name[:2] / name
    if harm == "deleted":
        file.unlink()
    else:
        file.write_text(file.read_text().replace('"value"', '"other"'))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = run_study(profile, folder, strategies=FEW, quiet=True)
    assert len([w for w in caught if name in str(w.message)]) == (harm == "altered")
    assert put == [spec]
    # Its weights are in the cache, where it is a node; distillation keeps none.
    assert len(trained) == (kind[2] is not None)
    _same(tiny.records(folder), whole.records)
    _same_results(results, whole.results)


def _with(unit, **values):
    return Experiment(unit.profile.model_copy(update=values), unit.task, unit.seed)


def _changed(unit, stage, **values):
    return _with(unit, **{stage: getattr(unit.profile, stage).model_copy(update=values)})


DECIDING = {
    "seed": lambda unit: Experiment(unit.profile, unit.task, 1),
    "task": lambda unit: Experiment(unit.profile, "imdb", unit.seed),
    "threads": lambda unit: _with(unit, threads=2),
    "precision": lambda unit: _with(unit, precision="bf16"),
    "max_length": lambda unit: _with(unit, max_length=10),
    "sizes": lambda unit: _changed(unit, "sizes", probe=12),
    "original": lambda unit: _changed(unit, "original", warmup=0.5),
    "recovery": lambda unit: _changed(unit, "recovery", dropout=True),
    "distillation": lambda unit: _changed(unit, "distillation", temperature=3.0),
}


def _spec(unit, path, **details):
    spec = open_tree(unit, RecordStore("unused")).spec("evaluation", path, **details)
    recipes = spec.pop("recipes")
    return {**spec, **recipes}


@pytest.mark.parametrize("key", DECIDING)
def test_whatever_decides_a_result_is_in_its_specification(key, unit):
    details = {"condition": "distilled"} if key == "distillation" else {}
    here, there = (_spec(u, (1, 0), **details) for u in (unit, DECIDING[key](unit)))
    assert {name for name in here if here[name] != there[name]} == {key}


def test_what_does_not_decide_a_result_is_not(unit):
    other = _with(unit, name="other", description="", random_orders=9, tasks=("agnews",))
    assert _spec(other, (1,)) == _spec(unit, (1,))
    # How a child recovers does not touch the unpruned model, nor the teacher the pruned ones.
    assert _spec(DECIDING["recovery"](unit), ()) == _spec(unit, ())
    assert _spec(DECIDING["distillation"](unit), (1,)) == _spec(unit, (1,))
    deeper = _changed(unit, "distillation", removals=(3,))
    assert _spec(deeper, (1,), condition="distilled") == _spec(unit, (1,), condition="distilled")
    assert _spec(unit, (1, 0)) != _spec(unit, (0, 1))


def test_paths_are_written_as_text():
    for path, name in [((), ""), ((4,), "4"), ((11, 2), "11-2")]:
        assert path_name(path) == name and parse_path(name) == path


@pytest.fixture(scope="module")
def processes():
    """Processes of their own, from a server that imports the package once for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sfusion.study", "datasets"])
    return context


def _start(processes, profile, folder):
    folder.mkdir(exist_ok=True)
    log = folder / "trained"
    process = processes.Process(target=tiny.run_counted, args=(profile, folder, FEW, log))
    process.start()
    return process


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
        while len(_stamps(folder)) < enough:
            assert process.is_alive() and time.monotonic() < deadline
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        after = _stamps(folder)
        assert before.items() <= after.items(), "a finished record was computed again"
    assert len(after) < total
    process = _start(processes, profile, folder)
    process.join(120)
    assert process.exitcode == 0
    assert after.items() <= _stamps(folder).items()
    assert int((folder / "trained").read_text()) <= total - len(after)
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
