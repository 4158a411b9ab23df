"""The choice: how far down to go, read on validation, and the table of what was met there."""

import pandas as pd

from sfusion.compression.measure import accuracy_interval
from sfusion.models.layers import remove_layers, size
from sfusion.pruning.strategies import path_name


def work_ahead(descent, last, distill):
    """Count the work of a way down: samples times layers.

    Parameters
    ----------
    descent : Descent
    last : int
        Layers at the end.
    distill : bool

    Returns
    -------
    int
    """
    total = 0 if descent.tuned else descent.work("original", descent.depth)
    total += sum(descent.work("recovery", layers) for layers in range(last, descent.depth))
    return total + (descent.work("distillation", last) if distill else 0)


def choose_path(descent, path, keep, max_drop, distill):
    """Choose on validation where to stop on a way down, and distil that.

    Parameters
    ----------
    descent : Descent
    path : tuple of int
        The whole way.
    keep, max_drop : int or float, optional
        See :func:`sfusion.compression.compress.compress`.
    distill : bool

    Returns
    -------
    tuple of (tuple of int, dict)
        The chosen part of the way; and ``path -> (model, validation accuracy)`` of what was
        distilled.
    """
    taught = {}

    def best(length):
        """Give the validation accuracy at a depth, distilled if that is better."""
        part = path[:length]
        accuracy = descent.validation(part)
        if distill and length:
            taught[part] = descent.distilled(part)
            accuracy = max(accuracy, taught[part][1])
        return accuracy

    if keep is not None:
        best(len(path))
        return path, taught
    original = descent.validation(())
    samples = len(descent.task.validation)
    spread = (original * (1 - original) / samples) ** 0.5
    # A difference of whole samples: rounding of the shares must not decide.
    floor = original - (spread if max_drop is None else max_drop) - 0.5 / samples / 1000
    length = max(n for n in range(len(path) + 1) if descent.validation(path[:n]) >= floor)
    if distill:
        best(length)
        # The teacher may bring back what fine-tuning could not: try on while it does.
        while length < len(path) and best(length + 1) >= floor:
            length += 1
    return path[:length], taught


def tabulate(descent, path, chosen, taught):
    """Tabulate every model on a way down.

    Parameters
    ----------
    descent : Descent
    path, chosen : tuple of int
        The whole way, and the part of it that is written.
    taught : dict
        From :func:`choose_path`.

    Returns
    -------
    DataFrame
        See :class:`sfusion.compression.compress.CompressionResult`.
    """
    rows, samples = [], len(descent.task.validation)
    for length in range(len(path) + 1):
        part = path[:length]
        shell = remove_layers(descent.source, part)
        cost = size(shell, descent.task.train.input_ids.shape[1])
        found = [(False, descent.validation(part))]
        found += [(True, taught[part][1])] if part in taught else []
        better = len(found) > 1 and found[1][1] >= found[0][1]
        for distilled, accuracy in found:
            interval = accuracy_interval(round(accuracy * samples), samples)
            rows.append(
                {
                    "layers": cost["layers"],
                    "distilled": distilled,
                    "chosen": part == chosen and distilled == better,
                    "path": path_name(part),
                    "validation_accuracy": accuracy,
                    "low": interval["low"],
                    "high": interval["high"],
                    "parameters": cost["parameters"],
                    "flops": cost["flops"],
                }
            )
    return pd.DataFrame(rows)
