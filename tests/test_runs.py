"""The record store: whole or not at all, checked on reading, safe under several processes."""

import ast
import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from sfusion import SfusionError
from sfusion.records.profiles import ROOT
from sfusion.records.store import RecordStore, content_key, write_atomically

SPEC = {"kind": "node", "task": "abc", "seed": 0, "path": [4, 2], "rate": 1e-4}
RESULT = {"accuracy": 0.1 + 0.2, "signals": {"energy": [1.5, -2e-7]}, "source": "übrig"}


def _dicts(values):
    return st.dictionaries(st.text(max_size=5), values, max_size=3)


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
plain = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(plain, lambda v: st.lists(v, max_size=3) | _dicts(v), max_leaves=8)


@pytest.fixture
def store(tmp_path):
    return RecordStore(tmp_path / "store")


def _files(folder):
    return sorted(str(f.relative_to(folder)) for f in Path(folder).rglob("*") if f.is_file())


def _record(store):
    (file,) = (store.folder / "records").rglob("*.json")
    return file


def test_a_record_comes_back_as_it_was_put(store):
    assert store.get(SPEC) is None
    store.put(SPEC, RESULT)
    assert store.get(SPEC) == RESULT
    assert RecordStore(store.folder).get(SPEC) == RESULT
    assert store.get({**SPEC, "seed": 1}) is None


@given(spec=_dicts(values), result=_dicts(values))
def test_every_plain_value_comes_back(spec, result, tmp_path_factory):
    store = RecordStore(tmp_path_factory.mktemp("store"))
    store.put(spec, result)
    found = store.get(spec)
    assert found == result
    # Equality alone would let 1 pass for 1.0 and True.
    assert json.dumps(found, sort_keys=True) == json.dumps(result, sort_keys=True)


@given(spec=_dicts(values))
def test_the_key_depends_on_content_not_on_the_order_of_keys(spec):
    turned = dict(reversed(spec.items()))
    assert content_key(turned) == content_key(spec)
    assert content_key({**spec, "one more": 0}) != content_key(spec)


def test_a_record_is_put_over_the_same_record(store):
    store.put(SPEC, RESULT)
    store.put(SPEC, {"accuracy": 1.0})
    assert store.get(SPEC) == {"accuracy": 1.0}
    assert len(_files(store.folder)) == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value, store):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put(SPEC, {"signals": {"energy": [value]}})
    assert not store.folder.exists()


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-40])


def _alter_value(file):
    file.write_text(file.read_text().replace("1.5", "1.6"))


def _alter_spec(file):
    file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))


def _empty(file):
    file.write_bytes(b"")


def _no_json(file):
    file.write_text("accuracy 0.5\n")


def _no_text(file):
    file.write_bytes(bytes(range(256)))


def _another_shape(file):
    file.write_text('["accuracy", 0.5]')


def _not_a_number(file):
    file.write_text(file.read_text().replace("1.5", "NaN"))


def _no_checksum(file):
    content = json.loads(file.read_text())
    del content["sha256"]
    file.write_text(json.dumps(content))


HARMS = [_truncate, _alter_value, _alter_spec, _empty, _no_json, _no_text, _another_shape, _not_a_number, _no_checksum]


@pytest.mark.parametrize("harm", HARMS)
def test_a_damaged_record_is_named_set_aside_and_not_used(harm, store):
    store.put(SPEC, RESULT)
    file = _record(store)
    untouched = file.read_bytes()
    harm(file)
    damaged = file.read_bytes()
    assert damaged != untouched
    with pytest.warns(UserWarning) as caught:
        assert store.get(SPEC) is None
    (warning,) = caught
    assert file.name in str(warning.message)
    assert "\n" not in str(warning.message)
    assert not file.exists()
    assert (store.folder / "damaged" / file.name).read_bytes() == damaged
    store.put(SPEC, RESULT)
    assert store.get(SPEC) == RESULT
    assert file.read_bytes() == untouched


def test_a_record_under_another_key_is_not_taken_for_it(store):
    store.put({**SPEC, "seed": 1}, {"accuracy": 1.0})
    file = _record(store)
    store.put(SPEC, RESULT)
    target = next(f for f in (store.folder / "records").rglob("*.json") if f != file)
    target.write_bytes(file.read_bytes())
    with pytest.warns(UserWarning, match=target.stem):
        assert store.get(SPEC) is None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_nothing_new_and_the_old_whole(call, code, store, monkeypatch):
    store.put(SPEC, RESULT)

    def fail(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    before = _files(store.folder)
    for spec in (SPEC, {**SPEC, "seed": 1}):
        with pytest.raises(SfusionError) as error:
            store.put(spec, {"accuracy": 0.0})
        assert os.strerror(code) in tiny.one_line(error)
    monkeypatch.undo()
    assert _files(store.folder) == before
    assert store.get(SPEC) == RESULT


def test_a_stop_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"content")
    assert _files(tmp_path) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    # A limit on the size of files is the nearest to a full disk that a test can have.
    code = """
        import resource, sys
        from sfusion.records.store import write_atomically
        from sfusion import SfusionError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            write_atomically(sys.argv[1], b"x" * 100_000)
        except SfusionError as error:
            print(error)
    """
    done = _python(code, tmp_path / "file")
    assert done.stdout.count("\n") == 1
    assert "cannot write" in done.stdout
    assert _files(tmp_path) == []


def _python(code, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    store = RecordStore(tmp_path / "file" / "store")
    for call in (lambda: store.put(SPEC, RESULT), lambda: store.get(SPEC)):
        with pytest.raises(SfusionError) as error:
            call()
        assert str(tmp_path / "file") in tiny.one_line(error)


def test_a_read_only_folder_is_one_line(store, monkeypatch):
    # Permissions do not bind root, so the refusal is simulated.
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("sfusion.records.store.open", refuse, raising=False)
    with pytest.raises(SfusionError) as error:
        store.put(SPEC, RESULT)
    assert "Permission denied" in tiny.one_line(error)
    assert _files(store.folder) == []


def test_an_unreadable_record_is_an_error_not_a_new_computation(store, monkeypatch):
    store.put(SPEC, RESULT)

    def refuse(_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(SfusionError) as error:
        store.get(SPEC)
    assert "Permission denied" in tiny.one_line(error)


def test_a_damaged_record_that_cannot_be_moved_is_one_line(store):
    store.put(SPEC, RESULT)
    _empty(_record(store))
    (store.folder / "damaged").write_text("in the way")
    with pytest.raises(SfusionError) as error:
        store.get(SPEC)
    assert _record(store).name in tiny.one_line(error)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_files_are_open_to_whom_the_umask_allows(umask, tmp_path):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~umask


RACE = """
    import sys, warnings
    from sfusion.records.store import RecordStore
    warnings.simplefilter("error")
    store, me = RecordStore(sys.argv[1]), sys.argv[2]
    for round in range(150):
        spec = {"number": round % 10}
        store.put(spec, {"by": me, "round": round, "text": me * 5000})
        found = store.get(spec)
        assert found["text"] == found["by"] * 5000, "half a record"
"""


def test_processes_writing_the_same_records_never_see_half_of_one(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(RACE), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    racers = [subprocess.Popen([*command, name], env=environment, stderr=subprocess.PIPE, text=True) for name in "abc"]
    for racer in racers:
        _, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors
    assert len(_files(tmp_path)) == 10
    assert not list(tmp_path.rglob(".partial-*"))


def test_two_processes_meet_the_same_damaged_record(store, monkeypatch):
    store.put(SPEC, RESULT)
    file = _record(store)
    _empty(file)
    replace = os.replace

    def other_was_first(source, target):
        replace(source, target)
        raise FileNotFoundError(errno.ENOENT, "gone", str(source))

    monkeypatch.setattr(os, "replace", other_was_first)
    assert store.get(SPEC) is None


def _weights(store, sizes):
    files = []
    for age, size in enumerate(sizes):
        store.put_weights({"number": age}, b"x" * size)
        (file,) = (store.folder / "weights").glob(f"{content_key({'number': age})}-*")
        os.utime(file, (1_000_000 - age, 1_000_000 - age))
        files.append(file)
    return files


def test_weights_come_back_as_they_were_put(store):
    assert store.get_weights(SPEC) is None
    store.put_weights(SPEC, bytes(range(256)))
    store.put_weights({**SPEC, "seed": 1}, b"other")
    assert store.get_weights(SPEC) == bytes(range(256))
    store.put_weights(SPEC, bytes(range(256)))
    assert len(_files(store.folder)) == 2


@pytest.mark.parametrize("harm", [_truncate, _empty, _no_text])
def test_damaged_weights_are_named_set_aside_and_not_used(harm, store):
    store.put_weights(SPEC, b"weights" * 100)
    (file,) = (store.folder / "weights").iterdir()
    harm(file)
    damaged = file.read_bytes()
    with pytest.warns(UserWarning) as caught:
        assert store.get_weights(SPEC) is None
    (warning,) = caught
    assert file.name in str(warning.message)
    assert (store.folder / "damaged" / file.name).read_bytes() == damaged
    store.put_weights(SPEC, b"weights" * 100)
    assert store.get_weights(SPEC) == b"weights" * 100


def test_trim_removes_the_oldest_weights_first(store):
    files = _weights(store, [400, 300, 200, 100])
    store.trim(1001e-9)
    assert all(file.exists() for file in files)
    store.trim(700e-9)
    assert [file.exists() for file in files] == [True, True, False, False]
    store.trim(699e-9)
    assert [file.exists() for file in files] == [True, False, False, False]
    store.trim(0)
    assert not any(file.exists() for file in files)


def test_trim_removes_what_it_shall_spare_after_all_others(store):
    files = _weights(store, [100, 200, 300])
    store.trim(300e-9, last={"number": 2})
    assert [file.exists() for file in files] == [False, False, True]
    store.trim(299e-9, last={"number": 2})
    assert not any(file.exists() for file in files)


def test_trim_uses_the_stores_own_limit_and_spares_records(tmp_path):
    store = RecordStore(tmp_path, weights_gb=500e-9)
    store.put(SPEC, RESULT)
    files = _weights(store, [400, 300])
    store.trim()
    assert [file.exists() for file in files] == [True, False]
    assert store.get(SPEC) == RESULT


def test_the_limit_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SFUSION_WEIGHTS_GB", "0.5")
    assert RecordStore(tmp_path).weights_gb == 0.5
    monkeypatch.setenv("SFUSION_WEIGHTS_GB", "much")
    with pytest.raises(SfusionError) as error:
        RecordStore(tmp_path)
    assert "SFUSION_WEIGHTS_GB='much'" in tiny.one_line(error)


def test_trim_of_an_empty_store(store):
    store.trim(0)
    assert not store.folder.exists()


def test_trim_bears_a_process_that_trims_beside_it(store, monkeypatch):
    files = _weights(store, [400, 300])
    stat = Path.stat

    def vanish(file, **kwargs):
        if file == files[1]:
            raise FileNotFoundError
        return stat(file, **kwargs)

    monkeypatch.setattr(Path, "stat", vanish)
    store.trim(0)
    assert not os.path.exists(files[0])


FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "read_pickle",
             "to_pickle", "allow_pickle", "dump_pickle"}  # fmt: skip


def _pickled(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg


CODE = sorted((ROOT / "sfusion").rglob("*.py"))


@pytest.mark.parametrize("file", CODE, ids=lambda f: str(f.relative_to(ROOT)))
def test_nothing_is_pickled(file):
    used = set(_pickled(ast.parse(file.read_text(encoding="utf-8"))))
    whole = {"torch.save", "torch.load", "joblib.dump", "joblib.load", "np.save", "np.load"}
    assert not used & whole
    assert not FORBIDDEN & {part for name in used for part in name.split(".")}


def test_the_search_for_pickle_finds_it():
    code = "from joblib import load\nimport pickle\ntorch.load(x)\nframe.to_pickle(allow_pickle=1)"
    found = set(_pickled(ast.parse(code)))
    assert {"joblib.load", "pickle", "torch.load", "frame.to_pickle", "allow_pickle"} <= found
