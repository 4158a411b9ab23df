"""The record store: whole or not at all, checked on reading, safe in parallel."""

import errno
import json
import os
import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st

from sfusion.disk import write_atomically
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.store import RecordStore, content_key

SPEC = {"kind": "node", "task": "abc", "seed": 0, "path": [4, 2], "rate": 1e-4}
RESULT = {"accuracy": 0.1 + 0.2, "signals": {"energy": [1.5, -2e-7]}, "source": "übrig"}


def _dicts(values):
    return st.dictionaries(st.text(max_size=5), values, max_size=3)


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(
    -(2**60), 2**60
)
plain = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    plain, lambda v: st.lists(v, max_size=3) | _dicts(v), max_leaves=8
)


@pytest.fixture
def store(tmp_path):
    return RecordStore(tmp_path / "store")


def _files(folder):
    return sorted(
        str(f.relative_to(folder)) for f in Path(folder).rglob("*") if f.is_file()
    )


def _record(store):
    (file,) = (store.folder / "records").rglob("*.json")
    return file


@pytest.mark.parametrize(
    ("kind", "results"),
    [("", (RESULT, {"accuracy": 1.0})), ("_weights", (b"\x00\xff",) * 2)],
)
def test_what_is_put_comes_back_as_it_was_last(kind, results, store):
    put, get = (getattr(RecordStore, name + kind) for name in ("put", "get"))
    assert get(store, SPEC) is None
    for result in results:
        put(store, SPEC, result)
        assert get(store, SPEC) == get(RecordStore(store.folder), SPEC) == result
    assert len(_files(store.folder)) == 1
    assert get(store, {**SPEC, "seed": 1}) is None


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value, store):
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.put(SPEC, {"signals": {"energy": [value]}})
    assert not store.folder.exists()


HARMS = {
    "cut": lambda content: content[:-40],
    "empty": lambda content: b"",
    "no text": lambda content: bytes(range(256)),
    "one bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "value": lambda content: content.replace(b"1.5", b"1.6"),
    "specification": lambda content: content.replace(b'"seed": 0', b'"seed": 1'),
    "no JSON": lambda content: b"accuracy 0.5\n",
    "another shape": lambda content: b'["accuracy", 0.5]',
    "no number": lambda content: content.replace(b"1.5", b"NaN"),
    "no checksum": lambda content: content.replace(b'"sha256"', b'"md5"'),
}


CASES = [("record", harm) for harm in HARMS] + [
    ("weights", harm) for harm in ("cut", "empty", "no text", "one bit")
]


@pytest.mark.parametrize("kind, harm", CASES)
def test_what_is_damaged_is_named_set_aside_and_not_used(kind, harm, store):
    put, get = (
        (store.put, store.get)
        if kind == "record"
        else (store.put_weights, store.get_weights)
    )
    result = RESULT if kind == "record" else b"weights" * 100
    put(SPEC, result)
    file = store.folder / _files(store.folder)[0]
    untouched = file.read_bytes()
    damaged = HARMS[harm](untouched)
    assert damaged != untouched
    file.write_bytes(damaged)
    with pytest.warns(UserWarning) as caught:
        assert get(SPEC) is None
    (warning,) = caught
    assert file.name in str(warning.message) and "\n" not in str(warning.message)
    assert _files(store.folder) == [f"damaged/{file.name}"]
    assert (store.folder / "damaged" / file.name).read_bytes() == damaged
    put(SPEC, result)
    assert get(SPEC) == result and file.read_bytes() == untouched


def test_a_record_under_another_key_is_not_taken_for_it(store):
    store.put({**SPEC, "seed": 1}, RESULT)
    other = _record(store)
    store.put(SPEC, RESULT)
    (file,) = set((store.folder / "records").rglob("*.json")) - {other}
    file.write_bytes(other.read_bytes())
    with pytest.warns(UserWarning, match=file.stem):
        assert store.get(SPEC) is None


def _raising(error):
    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_leaves_nothing_new_and_the_old_whole(
    call, code, store, monkeypatch
):
    store.put(SPEC, RESULT)
    monkeypatch.setattr(os, call, _raising(OSError(code, os.strerror(code))))
    before = _files(store.folder)
    for spec in (SPEC, {**SPEC, "seed": 1}):
        with tiny.refused(os.strerror(code)):
            store.put(spec, {"accuracy": 0.0})
    monkeypatch.undo()
    assert _files(store.folder) == before
    assert store.get(SPEC) == RESULT


def test_a_stop_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"content")
    assert _files(tmp_path) == []


def test_a_folder_that_cannot_be_written_or_read_is_one_line(tmp_path):
    # Permissions do not bind root, so that a file is in the way.
    (tmp_path / "file").write_text("in the way")
    store = RecordStore(tmp_path / "file" / "store")
    for call in (lambda: store.put(SPEC, RESULT), lambda: store.get(SPEC)):
        with tiny.refused(str(tmp_path / "file"), os.strerror(errno.ENOTDIR)):
            call()


def test_a_damaged_record_that_cannot_be_moved_is_one_line(store):
    store.put(SPEC, RESULT)
    _record(store).write_bytes(b"")
    (store.folder / "damaged").write_text("in the way")
    with tiny.refused(_record(store).name):
        store.get(SPEC)


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
    from sfusion.experiments.store import RecordStore
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
    racers = [
        subprocess.Popen(
            [*command, name], env=environment, stderr=subprocess.PIPE, text=True
        )
        for name in "abc"
    ]
    for racer in racers:
        _, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors
    assert len(_files(tmp_path)) == 10
    assert not list(tmp_path.rglob(".partial-*"))


def test_two_processes_meet_the_same_damaged_record(store, monkeypatch):
    store.put(SPEC, RESULT)
    _record(store).write_bytes(b"")
    monkeypatch.setattr(
        os, "replace", _raising(FileNotFoundError())
    )  # the other was first
    assert store.get(SPEC) is None


def _weights(store, sizes):
    files = []
    for age, size in enumerate(sizes):
        store.put_weights({"number": age}, b"x" * size)
        (file,) = (store.folder / "weights").glob(f"{content_key({'number': age})}-*")
        os.utime(file, (1_000_000 - age, 1_000_000 - age))
        files.append(file)
    return files


STEPS = {
    None: {1000: [0, 1, 2, 3], 700: [0, 1], 699: [0], 0: []},
    3: {999: [0, 1, 3], 100: [3], 99: []},
}


@pytest.mark.parametrize("spared", STEPS)
def test_trim_removes_the_oldest_weights_first_and_last_what_it_shall_spare(
    spared, store
):
    files = _weights(store, [400, 300, 200, 100])
    for limit, kept in STEPS[spared].items():
        store.weights_gb = limit / 1e9
        store.trim(last={"number": spared})
        assert [number for number, file in enumerate(files) if file.exists()] == kept


def test_weights_that_are_used_stay_longest(store):
    files = _weights(store, [100, 100, 100])
    store.get_weights({"number": 2})
    store.weights_gb = 100e-9
    store.trim()
    assert [file.exists() for file in files] == [False, False, True]


def test_trim_uses_the_stores_own_limit_and_spares_records(tmp_path):
    store = RecordStore(tmp_path, weights_gb=500e-9)
    store.trim()  # where nothing is yet
    assert not _files(tmp_path)
    store.put(SPEC, RESULT)
    files = _weights(store, [400, 300])
    store.trim()
    assert [file.exists() for file in files] == [True, False]
    assert store.get(SPEC) == RESULT


def test_the_limit_comes_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SFUSION_WEIGHTS_GB", "0.5")
    assert RecordStore(tmp_path).weights_gb == 0.5
    monkeypatch.setenv("SFUSION_WEIGHTS_GB", "much")
    with tiny.refused("SFUSION_WEIGHTS_GB='much'"):
        RecordStore(tmp_path)


def test_trim_leaves_what_another_process_is_writing(store):
    store.put_weights({"number": 1}, b"weights")
    partial = store.folder / "weights" / ".partial-of-another"
    partial.write_bytes(b"half")
    store.weights_gb = 0
    store.trim()
    assert list((store.folder / "weights").iterdir()) == [partial]


def test_trim_bears_a_process_that_trims_beside_it(store, monkeypatch):
    files = _weights(store, [400, 300])
    stat = Path.stat

    def vanish(file, **kwargs):
        if file == files[1]:
            raise FileNotFoundError
        return stat(file, **kwargs)

    monkeypatch.setattr(Path, "stat", vanish)
    store.weights_gb = 0.0
    store.trim()
    assert not os.path.exists(files[0])


PICKLE = r"\w*pickle(?!s)\w*|\b(?:dill|shelve|marshal)\b"
PICKLE += r"|(?<![\w.])(?:torch|joblib|np)(?:\.| import .*)\b(?:save|load|dump)\b"


def test_nothing_is_pickled():
    found = {
        file: re.findall(PICKLE, file.read_text("utf-8"))
        for file in (ROOT / "sfusion").rglob("*.py")
    }
    assert found and not any(found.values())


def test_the_search_for_pickle_finds_it():
    code = "from joblib import load\nimport pickle\ntorch.load(x)\n"
    code += "frame.to_pickle(allow_pickle=1)"
    assert re.findall(PICKLE, code) == [
        "joblib import load",
        "pickle",
        "torch.load",
        "to_pickle",
        "allow_pickle",
    ]


def test_records_are_carried_from_store_to_store(store, tmp_path, monkeypatch):
    for number in range(20):
        store.put({**SPEC, "seed": number}, {**RESULT, "number": number / 3})
    for action, folder in (("pack", store.folder), ("unpack", tmp_path / "other")):
        monkeypatch.setattr(
            sys,
            "argv",
            ["records.py", action, str(folder), str(tmp_path / "carried.parquet")],
        )
        runpy.run_path(ROOT / "tools" / "records.py", run_name="__main__")
    records = [
        {
            str(file.relative_to(folder)): file.read_bytes()
            for file in Path(folder).rglob("*.json")
        }
        for folder in (store.folder, tmp_path / "other")
    ]
    assert len(records[0]) == 20 and records[0] == records[1]
