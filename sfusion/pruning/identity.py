"""What decides the results of an experiment besides recipes and paths."""

import functools
from importlib.metadata import version

from sfusion.training.precision import default_device, resolve_precision

SCHEMA = (
    3  # raised whenever the code comes to compute something else from the same inputs
)

# Those whose code is in every number.
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn")


@functools.cache
def versions():
    """Look up the installed versions of ``PACKAGES``.

    Returns
    -------
    dict of str to str
        Without a build's tag: a processor's and a card's build of torch differ by
        device.
    """
    return {name: version(name).split("+")[0] for name in PACKAGES}


def identity(task, model, seed, max_length, threads, precision="auto", **more):
    """Write down what decides the results of an experiment besides recipes and paths.

    Parameters
    ----------
    task : Task
    model : str
        Fingerprint.
    seed, max_length, threads : int
    precision : str
        See :func:`sfusion.resolve_precision`.
    **more : object
        What else decides.

    Returns
    -------
    dict
        Plain JSON values.
    """
    device = default_device()
    decided = {
        "precision": resolve_precision(precision, device),
        "device": device,
        "versions": versions(),
    }
    asked = {"seed": seed, "max_length": max_length, "threads": threads}
    return {
        "schema": SCHEMA,
        "task": task.fingerprint,
        "model": model,
        **asked,
        **decided,
        **more,
    }
