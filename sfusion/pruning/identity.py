"""What decides the results of an experiment besides recipes and paths."""

from __future__ import annotations

import functools
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sfusion.training.precision import default_device, resolve_precision

if TYPE_CHECKING:
    from sfusion.data.tasks import Task

# Raised whenever the code comes to compute something else from the same inputs.
SCHEMA = 3

# Those whose code is in every number.
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn")


@functools.cache
def versions() -> dict[str, str]:
    """Look up the installed versions of ``PACKAGES``.

    Returns
    -------
    dict of str to str
        Without a build's tag: a processor's and a card's build of torch differ by
        device.
    """
    return {name: version(name).split("+")[0] for name in PACKAGES}


def identity(
    task: Task,
    model: str,
    seed: int,
    max_length: int,
    threads: int,
    precision: str = "auto",
    **more: object,
) -> dict[str, Any]:
    """Write down what decides the results of an experiment besides recipes and paths.

    Parameters
    ----------
    task : Task
    model : str
        Fingerprint.
    seed, max_length, threads : int
    precision : str
        See :func:`sfusion.training.precision.resolve_precision`.
    **more : object
        What else decides.

    Returns
    -------
    dict
        Plain JSON values.
    """
    device = default_device()
    return {
        "schema": SCHEMA,
        "task": task.fingerprint,
        "model": model,
        "seed": seed,
        "max_length": max_length,
        "threads": threads,
        "precision": resolve_precision(precision, device),
        "device": device,
        "versions": versions(),
        **more,
    }
