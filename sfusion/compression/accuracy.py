"""Accuracies with their intervals."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest

from sfusion.compression.recall import recall_per_class
from sfusion.models.size import size
from sfusion.training.evaluation import predict_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded

DRAWS = 5000  # of the bootstrap


@dataclass(frozen=True)
class Accuracy:
    """An accuracy with its 95% interval.

    Attributes
    ----------
    accuracy, low, high : float
        Shares.
    correct, samples : int
    """

    accuracy: float
    low: float
    high: float
    correct: int
    samples: int


@dataclass(frozen=True)
class Change:
    """A change of accuracy on the same samples, with its 95% interval.

    Attributes
    ----------
    accuracy, low, high : float
        Shares.
    """

    accuracy: float
    low: float
    high: float


def accuracy_interval(correct: int, samples: int) -> Accuracy:
    """Compute an accuracy with its 95% interval (Wilson 1927).

    Parameters
    ----------
    correct, samples : int

    Returns
    -------
    Accuracy
    """
    correct = int(correct)
    bounds = binomtest(correct, samples).proportion_ci(method="wilson")
    low, high = float(bounds.low), float(bounds.high)
    return Accuracy(correct / samples, low, high, correct, samples)


def paired_change(before: np.ndarray, after: np.ndarray, seed: int = 0) -> Change:
    """Compute the change of accuracy on the same samples, by a bootstrap.

    Parameters
    ----------
    before, after : ndarray of bool, shape (N,)
        Whether each sample was right.
    seed : int

    Returns
    -------
    Change
    """
    change = after.astype(float) - before.astype(float)
    # Only three values occur: drawing how often each comes up is drawing the samples.
    values, counts = np.unique(change, return_counts=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(change), counts / len(change), DRAWS)
    low, high = np.quantile(drawn @ values / len(change), [0.025, 0.975])
    return Change(float(change.mean()), float(low), float(high))


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of one model on the test samples.

    Attributes
    ----------
    entry : dict
        Its part of the report: accuracy with interval, recall per class, hash of the
        predicted class names in the order of the samples (a line each), sizes.
    right : ndarray of bool, shape (N,)
        Which samples were right.
    """

    entry: dict[str, Any]
    right: np.ndarray


def measure(model: PreTrainedModel, data: Encoded, max_length: int) -> Measured:
    """Measure one model on the test samples.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        From :func:`sfusion.compression.output.load_plain`.
    data : Encoded
    max_length : int
        Tokens per sequence, for the count of FLOPs.

    Returns
    -------
    Measured
    """
    logits = predict_logits(model, data)
    predicted = logits.argmax(-1)
    right = (predicted == data.labels).numpy()
    classes = [model.config.id2label[number] for number in range(logits.shape[1])]
    names = "\n".join(classes[int(number)] for number in predicted)
    entry = {
        **asdict(accuracy_interval(right.sum(), len(right))),
        "recall": recall_per_class(predicted, data.labels, classes),
        "predictions_sha256": hashlib.sha256(names.encode()).hexdigest(),
        **size(model, max_length),
        "bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
    }
    return Measured(entry, right)
