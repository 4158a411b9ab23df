"""The samples of an experiment, and what needs no fine-tuning."""

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sfusion.data.tokenizers import load_tokenizer
from sfusion.experiments.trees import open_tree
from sfusion.pruning.path import ORIGINAL
from sfusion.training.precision import fixed_threads


def describe_task(experiment, store):
    """Describe the samples of an experiment and measure what needs no fine-tuning.

    Parameters
    ----------
    experiment : Experiment
    store : RecordStore

    Returns
    -------
    dict
        The columns of ``Results.tasks``.
    """
    tree = open_tree(experiment, store)

    def compute():
        task, tokenizer = tree.task, load_tokenizer(experiment.profile.model)
        texts = [
            tokenizer.batch_decode(data.input_ids, skip_special_tokens=True)
            for data in (task.train, task.test)
        ]
        train, test = (data.labels.numpy() for data in (task.train, task.test))
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
        with fixed_threads(experiment.profile.threads):
            states = [pooled(tree.source(), data) for data in (task.train, task.test)]
            tfidf, frozen = (
                make_pipeline(first, LogisticRegression(max_iter=1000))
                .fit(x[0], train)
                .score(x[1], test)
                for first, x in ((words, texts), (StandardScaler(), states))
            )
        return {
            "classes": len(task.label_names),
            **{
                split: len(getattr(task, split))
                for split in ("train", "validation", "test")
            },
            "fingerprint": task.fingerprint,
            "source": task.source,
            "majority_accuracy": float((test == np.bincount(train).argmax()).mean()),
            "tfidf_accuracy": float(tfidf),
            "frozen_accuracy": float(frozen),
        }

    found = tree.record("task", ORIGINAL, compute)["value"]
    return {"task": experiment.task, "seed": experiment.seed, **found}


def pooled(model, data):
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
    rows, device = [], next(model.parameters()).device
    with torch.inference_mode():
        for indices in torch.arange(len(data)).split(128):
            batch = data.take(indices).trim()
            mask = batch.attention_mask.to(device)
            states = model.base_model(
                batch.input_ids.to(device), attention_mask=mask
            ).last_hidden_state
            rows.append(
                ((states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))
                .float()
                .cpu()
            )
    return torch.cat(rows).numpy()
