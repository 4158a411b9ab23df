"""Where the work runs: variables, order of results, threads, backends."""

import os
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
import tiny
import torch
from joblib.externals.loky.backend import context

from sfusion import SfusionError, errors
from sfusion.experiments.forest import Forest
from sfusion.experiments.parallel import backend, jobs, pool, progress
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.store import RecordStore
from sfusion.experiments.trees import Experiment
from sfusion.training.precision import fixed_threads, resolve_precision


@pytest.fixture(autouse=True)
def environment(tiny_data, monkeypatch):
    for name in ("DASK_SCHEDULER_ADDRESS", "CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def distributed(monkeypatch):
    monkeypatch.setenv("SFUSION_BACKEND", "dask")
    return pytest.importorskip("distributed", reason="the extra dask is not installed")


@pytest.mark.parametrize("name", ["loky", "dask"])
def test_a_known_backend_is_taken_and_loky_by_default(name, monkeypatch):
    assert backend() == "loky"
    monkeypatch.setenv("SFUSION_BACKEND", name)
    assert backend() == name


BAD = [
    ("SFUSION_BACKEND", text, "use one of loky, dask")
    for text in ("threading", "Dask", "", "loky ")
]
BAD += [
    ("SFUSION_JOBS", text, "give a positive integer")
    for text in ("0", "-1", "two", "1.5", "", "\u00b2")
]


@pytest.mark.parametrize("variable, text, says", BAD)
def test_a_bad_variable_is_one_line(variable, text, says, monkeypatch):
    monkeypatch.setenv(variable, text)
    with tiny.refused(f"{variable}={text!r}: {says}"), pool(1):
        pass


@pytest.mark.parametrize("quota, expected", [(6, [6, 3, 2, 1, 1, 1]), (1, [1] * 6)])
def test_jobs_are_the_cores_or_a_containers_quota_over_the_threads_unless_set(
    quota, expected, monkeypatch
):
    monkeypatch.delenv("SFUSION_JOBS")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    monkeypatch.setattr(context, "_cpu_count_cgroup", lambda _: quota)
    assert [jobs(threads) for threads in (1, 2, 3, 4, 6, 9)] == expected
    monkeypatch.setenv("SFUSION_JOBS", "7")
    assert jobs(4) == 7


@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_come_in_the_order_given_round_after_round_and_errors_come_through(
    workers, monkeypatch
):
    monkeypatch.setenv("SFUSION_JOBS", workers)
    with pytest.raises(SfusionError, match="'fp16'"), pool(1) as run:
        for start in (0, 100):
            arguments = [(start + i, 2) for i in range(7)]
            assert list(run(pow, arguments)) == [i**2 for i, _ in arguments]
        assert list(run(pow, [])) == []
        list(run(resolve_precision, [("fp32",), ("fp16",), ("bf16",)]))


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
    monkeypatch.setenv("SFUSION_BACKEND", "dask")
    monkeypatch.setattr(errors, "requires", lambda _: ['absent; extra == "dask"'])
    with tiny.refused("sfusion[dask]"), pool(1):
        pass


def test_progress_is_silent_in_ci(monkeypatch, capsys):
    monkeypatch.setenv("CI", "1")
    for quiet in (None, True):
        progress(3, "title", quiet).update(3)
    assert capsys.readouterr().err == ""
    with progress(3, "title", quiet=False) as bar:
        bar.update(3)
    assert "title" in capsys.readouterr().err


def _records(units, folder):
    """Walk two strategies; return the exact text of every record."""
    forest = Forest(units, RecordStore(folder / "store"), quiet=True)
    forest.follow(["energy", "random-0"])
    return tiny.texts(folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loky", "dask"])
def test_two_workers_give_the_bits_of_this_process(name, tmp_path, monkeypatch):
    if name == "dask":
        pytest.importorskip("distributed", reason="the extra dask is not installed")
    profile = tiny.make_profile(tiny.write_model(tmp_path / "model"))
    units = [Experiment(profile, task, 0) for task in profile.tasks]
    alone = _records(units, tmp_path / "alone")
    monkeypatch.setenv("SFUSION_BACKEND", name)
    monkeypatch.setenv("SFUSION_JOBS", "2")
    with pool(1) as run:
        workers = set(run(os.getpid, [()] * 8))
    assert len(workers) <= 2 and os.getpid() not in workers
    assert _records(units, tmp_path / name) == alone


def test_dask_joins_the_cluster_at_an_address(distributed, monkeypatch):
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        with pool(1) as run:
            assert set(run(os.getpid, [()] * 8)) <= {
                worker.pid for worker in cluster.workers.values()
            }
            assert list(run(pow, [(2, 1), (2, 2)])) == [2, 4]


def test_dask_workers_of_several_threads_are_refused(distributed, monkeypatch):
    shape = {
        "n_workers": 1,
        "threads_per_worker": 2,
        "processes": False,
        "dashboard_address": None,
    }
    with distributed.LocalCluster(**shape) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        with tiny.refused("2 threads: start workers with --nthreads 1"), pool(1):
            pass


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense://x"])
def test_a_dask_scheduler_that_does_not_answer_is_one_line(
    address, distributed, monkeypatch
):
    dask = pytest.importorskip("dask")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    quick = {"distributed.comm.timeouts.connect": "0.3s"}
    with dask.config.set(quick), tiny.refused(address), pool(1):
        pass


PARENT = """
    import os, sys, time
    from sfusion.experiments.parallel import pool
    with pool(1) as run:
        print(*set(run(os.getpid, [()] * 4)), flush=True)
        list(run(time.sleep, [(60,)] * 4))
"""


def _running():
    """List the processes, without the dead that nobody waits for."""
    return {
        one.pid
        for one in psutil.process_iter(["status"])
        if one.info["status"] != psutil.STATUS_ZOMBIE
    }


def test_workers_end_with_a_parent_that_is_killed(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SFUSION_JOBS", "2")
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT)],
        stdout=subprocess.PIPE,
        text=True,
    )
    workers = {int(number) for number in parent.stdout.readline().split()}
    assert workers and workers <= _running() - {parent.pid}
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while workers & _running():
        assert time.monotonic() < deadline
        time.sleep(0.1)
