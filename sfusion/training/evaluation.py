"""Evaluation: logits and accuracy of a classifier."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sfusion.training.precision import cast

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded

TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}


def predict_logits(
    model: PreTrainedModel, data: Encoded, batch_size: int | None = None
) -> torch.Tensor:
    """Run a classifier over data.

    Texts of like length go through together, without the padding that all of them
    share.

    Parameters
    ----------
    model : PreTrainedModel
        In any type, see :func:`cast`.
    data : Encoded
    batch_size : int, optional
        By default as many texts as make ``TOKENS_PER_BATCH``.

    Returns
    -------
    Tensor of shape (N, classes)
        float32, on the CPU.
    """
    device = model.device
    if batch_size is None:
        longest = data.input_ids.shape[1]
        batch_size = max(1, TOKENS_PER_BATCH[device.type] // longest)
    was_training = model.training
    model.eval()
    order = data.attention_mask.sum(1).argsort(stable=True)
    logits = torch.empty(len(data), model.config.num_labels)
    with torch.inference_mode():
        for indices in order.split(batch_size):
            batch = data.take(indices).trim().to(device)
            output = model(batch.input_ids, attention_mask=batch.attention_mask)
            logits[indices] = output.logits.float().cpu()
    model.train(was_training)
    return logits


def classified(
    model: PreTrainedModel, data: Encoded, precision: str = "fp32"
) -> np.ndarray:
    """Find the samples whose largest logit is the label's; their share is the accuracy.

    Parameters
    ----------
    model : PreTrainedModel
    data : Encoded
    precision : {"fp32", "bf16"}

    Returns
    -------
    ndarray of shape (N,)
        Booleans.
    """
    predicted = predict_logits(cast(model, precision), data).argmax(-1)
    return (predicted == data.labels).numpy()
