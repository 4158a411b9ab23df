"""Evaluation: logits and accuracy of a classifier."""

import torch

from sfusion.training.precision import cast

TOKENS_A_BATCH = {"cpu": 4096, "cuda": 65536}  # in evaluation


def predict_logits(model, data, batch_size=None):
    """Run a classifier over data.

    Texts of like length go through together, without the padding that all of them
    share.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        In any type, see :func:`cast`.
    data : Encoded
    batch_size : int, optional
        By default as many as make ``TOKENS_A_BATCH``.

    Returns
    -------
    Tensor of shape (N, classes)
        float32, on the CPU.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    batch_size = batch_size or max(
        1, TOKENS_A_BATCH[device.type] // data.input_ids.shape[1]
    )
    order = data.attention_mask.sum(1).argsort(stable=True)
    logits = torch.empty(len(data), model.config.num_labels)
    with torch.inference_mode():
        for indices in order.split(batch_size):
            batch = data.take(indices).trim()
            output = model(
                batch.input_ids.to(device),
                attention_mask=batch.attention_mask.to(device),
            )
            logits[indices] = output.logits.float().cpu()
    model.train(training)
    return logits


def classified(model, data, precision="fp32"):
    """Find the samples whose largest logit is the label's; their share is the accuracy.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    data : Encoded
    precision : {"fp32", "bf16"}

    Returns
    -------
    ndarray of shape (N,)
        Booleans.
    """
    predicted = predict_logits(cast(model, precision), data).argmax(-1)
    return (predicted == data.labels).numpy()
