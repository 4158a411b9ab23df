"""What a saved model does, measured as its users will use it: accuracy, size, speed."""

import hashlib
import time

import numpy as np
import torch
from scipy.stats import binomtest
from transformers import AutoModelForSequenceClassification

from sfusion.models.layers import size
from sfusion.training import predict_logits

BATCHES = (1, 32)
WARM_UP, ROUNDS = 3, 15
DRAWS = 5000  # of the bootstrap


def load_plain(directory):
    """Load a model directory as any user of transformers would, in evaluation mode.

    Parameters
    ----------
    directory : Path

    Returns
    -------
    transformers.PreTrainedModel
    """
    model = AutoModelForSequenceClassification.from_pretrained(
        directory, use_safetensors=True, trust_remote_code=False
    )
    return model.eval()


def accuracy_interval(correct, total):
    """Give an accuracy with its 95% interval (Wilson 1927).

    Parameters
    ----------
    correct, total : int
        Samples.

    Returns
    -------
    dict
        ``accuracy``, ``low`` and ``high``, shares; ``correct`` and ``samples``.
    """
    bounds = binomtest(int(correct), int(total)).proportion_ci(method="wilson")
    return {
        "accuracy": float(correct / total),
        "low": float(bounds.low),
        "high": float(bounds.high),
        "correct": int(correct),
        "samples": int(total),
    }


def paired_change(before, after, seed=0):
    """Give the change of accuracy on the same samples, with a 95% bootstrap interval.

    Parameters
    ----------
    before, after : ndarray of bool, shape (N,)
        Whether each sample was right.
    seed : int

    Returns
    -------
    dict
        ``accuracy``, ``low``, ``high``: change, as shares.
    """
    change = after.astype(float) - before.astype(float)
    # Only three values occur: drawing how often each comes up is drawing the samples.
    values, counts = np.unique(change, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(change), counts / len(change), DRAWS)
    low, high = np.quantile(drawn @ values / len(change), [0.025, 0.975])
    return {"accuracy": float(change.mean()), "low": float(low), "high": float(high)}


def predictions_hash(names):
    """Hash predicted class names, one a test row in the rows' order.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    str
        SHA-256 of the names joined by line feeds, hexadecimal.
    """
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


def describe(model, data, max_length):
    """Measure one model on the test samples.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        From :func:`load_plain`.
    data : Encoded
    max_length : int
        Tokens a sequence, for the count of FLOPs.

    Returns
    -------
    tuple of (dict, ndarray of bool)
        Accuracy with interval, hash of the predictions, sizes; and which samples were right.
    """
    predicted = predict_logits(model, data).argmax(-1)
    right = (predicted == data.labels).numpy()
    names = [model.config.id2label[int(number)] for number in predicted]
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    entry = {
        **accuracy_interval(right.sum(), len(right)),
        "predictions_sha256": predictions_hash(names),
        **size(model, max_length),
        "bytes": weights,
    }
    return entry, right


def batch_of(data, count):
    """Take a batch of full length from the test samples, in turn where there are too few.

    Parameters
    ----------
    data : Encoded
    count : int

    Returns
    -------
    tuple of Tensor
        Token numbers and an attention mask of ones: no padding is saved or counted.
    """
    ids = data.input_ids[torch.arange(count) % len(data)]
    return ids, torch.ones_like(ids)


def latency(runs, data):
    """Time several forward passes in turn, so that a busy machine slows all of them alike.

    Parameters
    ----------
    runs : dict of str to callable
        Each takes token numbers, and an attention mask as ``attention_mask``.
    data : Encoded
        Where the tokens come from.

    Returns
    -------
    dict of str to dict
        By run and batch size, milliseconds a batch: ``median``, and the quartiles ``low`` and
        ``high`` over the rounds.
    """
    found = {name: {} for name in runs}
    for count in BATCHES:
        batch = batch_of(data, count)
        times = {name: [] for name in runs}
        with torch.inference_mode():
            for turn in range(WARM_UP + ROUNDS):
                for name, run in runs.items():
                    start = time.perf_counter()
                    run(batch[0], attention_mask=batch[1])
                    if turn >= WARM_UP:
                        times[name].append(1000 * (time.perf_counter() - start))
        for name, values in times.items():
            low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
            found[name][f"batch_{count}"] = {
                "median": round(float(median), 3),
                "low": round(float(low), 3),
                "high": round(float(high), 3),
            }
    return found
