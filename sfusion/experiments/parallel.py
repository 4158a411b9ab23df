"""Where the work runs: joblib over local processes or a Dask cluster."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from joblib import Parallel, cpu_count, delayed, parallel_config
from tqdm.auto import tqdm

from sfusion.errors import SfusionError, need_extra

# Calls a function on every tuple of arguments, and yields the results in that order.
Run = Callable[[Callable, Iterable[tuple]], Iterator[Any]]

BACKENDS = ("loky", "dask")


def backend() -> str:
    """Read ``SFUSION_BACKEND`` (default ``loky``).

    Returns
    -------
    str

    Raises
    ------
    SfusionError
        For a name that is not in ``BACKENDS``.
    """
    name = os.environ.get("SFUSION_BACKEND", "loky")
    if name not in BACKENDS:
        raise SfusionError(
            f"SFUSION_BACKEND={name!r}: use one of {', '.join(BACKENDS)}"
        )
    return name


def jobs(threads: int) -> int:
    """Count the runs to do at once: ``SFUSION_JOBS``, or cores over threads per run.

    Parameters
    ----------
    threads : int
        Threads per run.

    Returns
    -------
    int
        At least 1.

    Raises
    ------
    SfusionError
        When ``SFUSION_JOBS`` is no positive integer.
    """
    text = os.environ.get("SFUSION_JOBS")
    if text is None:
        return max(1, cpu_count() // threads)
    if not text.isdecimal() or int(text) < 1:
        raise SfusionError(f"SFUSION_JOBS={text!r}: give a positive integer")
    return int(text)


def _end_with(parent: int) -> None:
    """Let a worker end with the process that started it, even when that one is killed.

    loky's own workers would finish their node beside the next attempt, and then hold
    their memory for minutes.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _dask(workers: int) -> Iterator[dict[str, Any]]:
    """Join the cluster at ``DASK_SCHEDULER_ADDRESS``, or start one here."""
    from distributed import Client

    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    own = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    try:
        client = Client(address) if address else Client(**own)
    except (OSError, ValueError) as error:
        where = (
            f"DASK_SCHEDULER_ADDRESS={address!r}"
            if address
            else "a Dask cluster of its own"
        )
        raise SfusionError(f"{where}: no scheduler answers ({error})") from error
    with client:
        if not client.nthreads():
            print(f"waiting for the first worker of {address}", file=sys.stderr)
            client.wait_for_workers(1)
        for name, count in client.nthreads().items():
            # Runs that share a process would share its random numbers and thread count.
            if count != 1:
                raise SfusionError(
                    f"Dask worker {name} has {count} threads: start workers with "
                    "--nthreads 1"
                )
        yield {}


@contextlib.contextmanager
def _loky(threads: int) -> Iterator[dict[str, Any]]:
    # A worker is renewed where its caches have grown, and says so; nothing is lost by
    # it.
    warnings.filterwarnings(
        "ignore", message="A worker stopped while some jobs were given"
    )
    yield {
        "inner_max_num_threads": threads,
        "initializer": _end_with,
        "initargs": (os.getpid(),),
    }


@contextlib.contextmanager
def pool(threads: int) -> Iterator[Run]:
    """Keep workers for several rounds of work.

    Parameters
    ----------
    threads : int
        Threads per run.

    Yields
    ------
    callable
        ``run(function, arguments)``: calls the function on every tuple of arguments and
        yields the results in the order in which they were given.

    Raises
    ------
    SfusionError
        When the backend is not installed, does not answer, or has workers of several
        threads.
    """
    name = backend()
    workers = jobs(threads)
    if name == "dask":
        need_extra("dask")
    opened = _dask(workers) if name == "dask" else _loky(threads)
    with (
        opened as options,
        parallel_config(backend=name, n_jobs=workers, **options),
        # One call per message: a call is seconds of work, unless its record is there.
        Parallel(batch_size=1, return_as="generator") as parallel,
    ):
        yield lambda function, arguments: parallel(
            delayed(function)(*a) for a in arguments
        )


def progress(total: int, title: str, quiet: bool | None = None) -> tqdm:
    """Make a bar with the time left; silent in CI.

    Parameters
    ----------
    total : int
        Steps.
    title : str
        What is being done.
    quiet : bool, optional
        By default, whether the variable ``CI`` is set.

    Returns
    -------
    tqdm.tqdm
    """
    quiet = bool(os.environ.get("CI")) if quiet is None else quiet
    seconds = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(
        total=total, desc=title, disable=quiet, mininterval=seconds, smoothing=0.1
    )
