"""The samples of an experiment, and what needs no fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sfusion.data.splits import SPLITS
from sfusion.data.tokenizers import load_tokenizer
from sfusion.experiments.trees import Experiment, open_tree
from sfusion.pruning.path import ORIGINAL
from sfusion.training.precision import fixed_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded
    from sfusion.experiments.store import RecordStore
    from sfusion.pruning.tree import PruningTree

# Records are filed with sorted keys; a frame has its columns in this order.
COLUMNS = ["classes", *SPLITS, "fingerprint", "source"]
COLUMNS += ["majority_accuracy", "tfidf_accuracy", "frozen_accuracy"]


def describe_task(experiment: Experiment, store: RecordStore) -> dict[str, Any]:
    """Describe the samples of an experiment and measure what needs no fine-tuning.

    Parameters
    ----------
    experiment : Experiment
    store : RecordStore

    Returns
    -------
    dict
        A row of ``Results.tasks``.
    """
    tree = open_tree(experiment, store)
    record = tree.record("task", ORIGINAL, lambda: _describe(tree, experiment))
    described = {name: record["value"][name] for name in COLUMNS}
    return {"task": experiment.task, "seed": experiment.seed, **described}


def _describe(tree: PruningTree, experiment: Experiment) -> dict[str, Any]:
    task = tree.task
    labels = task.test.labels.numpy()
    tokenizer = load_tokenizer(experiment.profile.model)
    with fixed_threads(experiment.profile.threads):
        texts = [
            tokenizer.batch_decode(data.input_ids, skip_special_tokens=True)
            for data in (task.train, task.test)
        ]
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        tfidf = _regress(words, texts, task.train, task.test)
        states = [pooled(tree.source(), data) for data in (task.train, task.test)]
        frozen = _regress(StandardScaler(), states, task.train, task.test)
    most_frequent = np.bincount(task.train.labels.numpy()).argmax()
    return {
        "classes": len(task.label_names),
        **{split: len(getattr(task, split)) for split in SPLITS},
        "fingerprint": task.fingerprint,
        "source": task.source,
        "majority_accuracy": float((labels == most_frequent).mean()),
        "tfidf_accuracy": tfidf,
        "frozen_accuracy": frozen,
    }


def _regress(first: Any, inputs: Sequence[Any], train: Encoded, test: Encoded) -> float:
    """Fit logistic regression on what a first step makes of inputs; its accuracy."""
    regression = make_pipeline(first, LogisticRegression(max_iter=1000))
    regression.fit(inputs[0], train.labels.numpy())
    return float(regression.score(inputs[1], test.labels.numpy()))


def pooled(model: PreTrainedModel, data: Encoded) -> np.ndarray:
    """Average the encoder's last hidden states over the real tokens of each text.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A classifier; its head is not used.
    data : Encoded
        N texts.

    Returns
    -------
    ndarray of shape (N, hidden units)
        float32.
    """
    device = next(model.parameters()).device
    means = []
    with torch.inference_mode():
        for indices in torch.arange(len(data)).split(128):
            batch = data.take(indices).trim()
            mask = batch.attention_mask.to(device)
            inputs = batch.input_ids.to(device)
            states = model.base_model(inputs, attention_mask=mask).last_hidden_state
            sums = (states * mask[..., None]).sum(1)
            means.append((sums / mask.sum(1, keepdim=True)).float().cpu())
    return torch.cat(means).numpy()
