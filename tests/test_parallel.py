"""Where the work runs: variables, order of results, threads of a run, and the backends."""

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
import tiny
import torch
from joblib.externals.loky.backend import context

from sfusion import SfusionError
from sfusion.pruning.searches import Experiment, Search
from sfusion.records.parallel import backend, dismiss, jobs, pool, progress
from sfusion.records.profiles import ROOT
from sfusion.records.store import RecordStore
from sfusion.training import fixed_threads

LABELS = ["energy", "random-0"]


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("SFUSION_DATA", str(tiny.data_folder()))
    monkeypatch.setenv("SFUSION_JOBS", "1")
    for name in ("SFUSION_BACKEND", "DASK_SCHEDULER_ADDRESS", "RAY_ADDRESS", "CI"):
        monkeypatch.delenv(name, raising=False)


def _search(units, folder):
    Search(units, RecordStore(folder / "store"), quiet=True).iterate(LABELS)


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    profile = tiny.make_profile(tiny.write_model(tmp_path_factory.mktemp("parallel") / "model"))
    return [Experiment(profile, task, 0) for task in profile.tasks]


@pytest.fixture(scope="module")
def alone(units, tmp_path_factory):
    """Records of a walk in this process."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUSION_DATA", str(tiny.data_folder()))
        patch.setenv("SFUSION_JOBS", "1")
        _search(units, folder)
    return tiny.records(folder)


def test_loky_is_the_default():
    assert backend() == "loky"


@pytest.mark.parametrize("name", ["loky", "dask", "ray"])
def test_a_known_backend_is_taken(name, monkeypatch):
    monkeypatch.setenv("SFUSION_BACKEND", name)
    assert backend() == name


@pytest.mark.parametrize("name", ["threading", "Dask", "", "loky "])
def test_an_unknown_backend_is_one_line(name, monkeypatch):
    monkeypatch.setenv("SFUSION_BACKEND", name)
    with pytest.raises(SfusionError) as error:
        backend()
    message = tiny.one_line(error)
    assert repr(name) in message
    assert "loky, dask, ray" in message


def test_jobs_are_the_cores_over_the_threads(monkeypatch):
    monkeypatch.delenv("SFUSION_JOBS")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(context, "_cpu_count_cgroup", lambda count: count)
    assert [jobs(threads) for threads in (1, 2, 3, 4, 6, 9)] == [6, 3, 2, 1, 1, 1]


def test_a_containers_quota_counts(monkeypatch):
    monkeypatch.delenv("SFUSION_JOBS")
    monkeypatch.setattr(context, "_cpu_count_cgroup", lambda _: 1)
    assert jobs(1) == 1


def test_jobs_can_be_set(monkeypatch):
    monkeypatch.setenv("SFUSION_JOBS", "7")
    assert jobs(4) == 7


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "", "\N{SUPERSCRIPT TWO}"])
def test_bad_jobs_are_one_line(text, monkeypatch):
    monkeypatch.setenv("SFUSION_JOBS", text)
    with pytest.raises(SfusionError) as error:
        jobs(1)
    assert repr(text) in tiny.one_line(error)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_come_in_the_order_given_round_after_round(workers, monkeypatch):
    monkeypatch.setenv("SFUSION_JOBS", workers)
    with pool(1) as run:
        for start in (0, 100):
            arguments = [(start + i, 2) for i in range(7)]
            assert list(run(pow, arguments)) == [i**2 for i, _ in arguments]
        assert list(run(pow, [])) == []


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_error_for_people_comes_through(workers, monkeypatch):
    monkeypatch.setenv("SFUSION_JOBS", workers)
    with pytest.raises(SfusionError, match="'fp16'"), pool(1) as run:
        from sfusion.training import resolve_precision

        list(run(resolve_precision, [("fp32",), ("fp16",), ("bf16",)]))


def test_dismissed_workers_are_gone_and_the_next_pool_has_others(monkeypatch):
    monkeypatch.setenv("SFUSION_JOBS", "2")
    workers = []
    for _ in range(2):
        with pool(1) as run:
            workers += run(os.getpid, [()])
        dismiss()
        assert not psutil.pid_exists(workers[-1])
    assert len(set(workers)) == 2


def test_threads_are_fixed_and_given_back():
    before = torch.get_num_threads()
    for count in (1, 2):
        with fixed_threads(count):
            assert torch.get_num_threads() == count
        assert torch.get_num_threads() == before
    with pytest.raises(KeyError), fixed_threads(before + 1):
        raise KeyError
    assert torch.get_num_threads() == before


def test_a_backend_that_is_not_installed_names_its_extra(monkeypatch):
    for name in ("dask", "ray"):
        monkeypatch.setenv("SFUSION_BACKEND", name)
        monkeypatch.setitem(sys.modules, "distributed", None)
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(SfusionError) as error, pool(1):
            pass
        assert f"sfusion[{name}]" in tiny.one_line(error)


def test_progress_is_silent_in_ci(monkeypatch, capsys):
    monkeypatch.setenv("CI", "1")
    for quiet in (None, True):
        progress(3, "title", quiet).update(3)
    assert capsys.readouterr().err == ""
    with progress(3, "title", quiet=False) as bar:
        bar.update(3)
    assert "title" in capsys.readouterr().err


def _same(folder, expected):
    found = tiny.records(folder)
    assert found.keys() == expected.keys()
    differing = [key for key in found if json.dumps(found[key]) != json.dumps(expected[key])]
    assert not differing


@pytest.mark.slow
def test_two_workers_give_the_bits_of_one(units, alone, tmp_path, monkeypatch):
    monkeypatch.setenv("SFUSION_JOBS", "2")
    _search(units, tmp_path)
    _same(tmp_path, alone)


@pytest.mark.slow
def test_dask_gives_the_same_bits(units, alone, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setenv("SFUSION_BACKEND", "dask")
    workers = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, protocol="tcp")
    with workers as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        with pool(1) as run:
            assert os.getpid() not in set(run(os.getpid, [()] * 4))
        _search(units, tmp_path)
    _same(tmp_path, alone)


def test_dask_starts_a_cluster_of_its_own(monkeypatch):
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setenv("SFUSION_BACKEND", "dask")
    monkeypatch.setenv("SFUSION_JOBS", "2")
    with pool(1) as run:
        workers = set(run(os.getpid, [()] * 8))
        assert list(run(pow, [(2, 1), (2, 2)])) == [2, 4]
    assert 1 <= len(workers) <= 2
    assert os.getpid() not in workers


def test_dask_workers_of_several_threads_are_refused(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setenv("SFUSION_BACKEND", "dask")
    shape = {"n_workers": 1, "threads_per_worker": 2, "processes": False}
    with distributed.LocalCluster(**shape, dashboard_address=None) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        with pytest.raises(SfusionError) as error, pool(1):
            pass
    assert "2 threads" in tiny.one_line(error)
    assert "--nthreads 1" in str(error.value)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x"])
def test_a_dask_scheduler_that_does_not_answer_is_one_line(address, monkeypatch):
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    import dask

    monkeypatch.setenv("SFUSION_BACKEND", "dask")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    with dask.config.set({"distributed.comm.timeouts.connect": "0.3s"}):
        with pytest.raises(SfusionError) as error, pool(1):
            pass
    assert address in tiny.one_line(error)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra ray is not here")
def test_ray_gives_the_same_bits(units, alone, tmp_path, monkeypatch):
    monkeypatch.setenv("SFUSION_BACKEND", "ray")
    monkeypatch.setenv("SFUSION_JOBS", "2")  # joblib keeps a single job in its own process
    with pool(1) as run:
        assert os.getpid() not in set(run(os.getpid, [()] * 4))
    _search(units, tmp_path)
    _same(tmp_path, alone)


PARENT = """
    import os, sys, time
    from sfusion.records.parallel import pool
    with pool(1) as run:
        print(*set(run(os.getpid, [()] * 4)), flush=True)
        list(run(time.sleep, [(60,)] * 4))
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SFUSION_JOBS": "2"}
    command = [sys.executable, "-c", textwrap.dedent(PARENT)]
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    workers = [int(number) for number in parent.stdout.readline().split()]
    assert workers and parent.pid not in workers
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while any(map(_runs, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    # A container without an init process leaves the dead unburied.
    state = Path(f"/proc/{number}/stat")
    return not (state.exists() and ") Z " in state.read_text())
