"""Where the work runs: joblib over local processes, a Dask cluster or a Ray cluster."""

import contextlib
import os
import sys
import warnings

from joblib import Parallel, delayed, parallel_config
from tqdm.auto import tqdm

from sfusion.errors import SfusionError

BACKENDS = ("loky", "dask", "ray")


def backend():
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
        raise SfusionError(f"SFUSION_BACKEND={name!r}: use one of {', '.join(BACKENDS)}")
    return name


def cores():
    """Count the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def jobs(threads):
    """Count the runs to do at once: ``SFUSION_JOBS``, or the cores over the threads of a run.

    Parameters
    ----------
    threads : int
        Threads a run.

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
        return max(1, cores() // threads)
    if not text.isdecimal() or int(text) < 1:
        raise SfusionError(f"SFUSION_JOBS={text!r}: give a positive integer")
    return int(text)


@contextlib.contextmanager
def _connected(name, workers):
    """Start or join what a backend needs: the addresses are the libraries' own variables."""
    if name == "loky":
        yield
        return
    try:
        if name == "dask":
            from distributed import Client

            address = os.environ.get("DASK_SCHEDULER_ADDRESS")
            client = (
                Client(address)
                if address
                else Client(n_workers=workers, threads_per_worker=1, dashboard_address=None)
            )
            with client:
                yield
            return
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise SfusionError(
            f"SFUSION_BACKEND={name!r} needs the extra: pip install 'sfusion[{name}]'"
        ) from error
    register_ray()
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=None if os.environ.get("RAY_ADDRESS") else workers)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


@contextlib.contextmanager
def pool(threads):
    """Keep workers for several rounds of work.

    Parameters
    ----------
    threads : int
        Threads a run.

    Yields
    ------
    callable
        ``run(function, arguments)``: calls the function on every tuple of arguments and yields
        the results in the order in which they were given.
    """
    name, workers = backend(), jobs(threads)
    # loky renews a worker whose caches have grown, and says so; nothing is lost by it.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given")
    inner = {"inner_max_num_threads": threads} if name == "loky" else {}
    with (
        _connected(name, workers),
        parallel_config(backend=name, n_jobs=workers, **inner),
        Parallel(return_as="generator" if name != "ray" else "list") as parallel,
    ):
        yield lambda function, arguments: parallel(delayed(function)(*a) for a in arguments)


def progress(total, title, quiet=None):
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
    return tqdm(total=total, desc=title, disable=quiet, mininterval=seconds, smoothing=0.1)
