"""A classifier with a smaller vocabulary, where validation bears that."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sfusion.compression.vocabulary import trim_tokenizer, used_pieces
from sfusion.data.encoding import Encoded, encode
from sfusion.training.evaluation import classified, predict_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from sfusion.data.tasks import Task

TOLERANCE = 0.002  # share of validation accuracy that fewer pieces may cost
ALIKE = 1e-4  # of a logit: rounding of a sum over another batch
CHECKED = 256  # training texts whose answers must stay


@dataclass(frozen=True, eq=False)
class ReadyModel:
    """A model that may be written, with its tokenizer and the texts as it reads them.

    Attributes
    ----------
    model : transformers.PreTrainedModel
    tokenizer : transformers.PreTrainedTokenizerBase
    task : Task
        Validation and test as this tokenizer reads them; training as before.
    entry : dict
        What trimming its vocabulary did, for the report; ``left_out`` says why not.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    task: Task
    entry: dict[str, Any]


def trim_vocabulary(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    texts: Sequence[str],
) -> ReadyModel:
    """Leave out the pieces that no text uses, if validation accuracy stays.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Left as it is.
    tokenizer : transformers.PreTrainedTokenizerBase
        Left as it is.
    task : Task
        Of this tokenizer.
    texts : sequence of str
        Whose pieces stay; none of them from validation or test.

    Returns
    -------
    ReadyModel

    Raises
    ------
    SfusionError
        See :func:`sfusion.compression.vocabulary.check_trimmable`.
    """
    smaller, former = trim_tokenizer(tokenizer, used_pieces(tokenizer, texts))
    trimmed = with_pieces(model, former)
    length = task.validation.input_ids.shape[1]
    read_anew = {}
    for split in ("validation", "test"):
        labels = getattr(task, split).labels.tolist()
        read_anew[split] = encode(task.texts[split], labels, smaller, length)
    shorter = replace(task, validation=read_anew["validation"], test=read_anew["test"])
    entry = _describe(model, trimmed, former, task)
    problem = _difference(model, trimmed, smaller, former, task)
    before = _accuracy(model, task.validation)
    after = _accuracy(trimmed, shorter.validation)
    entry["validation_before"] = before
    entry["validation_after"] = after
    if problem is None and before - after > TOLERANCE + 1e-9:
        problem = (
            f"{before:.1%} of the validation texts right with all pieces, {after:.1%} "
            f"without, and {100 * TOLERANCE:g} percentage points may go"
        )
    if problem is not None:
        entry["left_out"] = f"not trimmed: {problem}"
        return ReadyModel(model, tokenizer, task, entry)
    return ReadyModel(trimmed, smaller, shorter, entry)


def said_of(entry: dict[str, Any]) -> str:
    """Say in one sentence what a trimmed vocabulary saves and costs.

    Parameters
    ----------
    entry : dict
        Of :class:`ReadyModel`.

    Returns
    -------
    str
        Without its full stop.
    """
    if "left_out" in entry:
        return f"the vocabulary was {entry['left_out']}"
    return (
        f"the vocabulary has {entry['pieces_after']:,} of {entry['pieces_before']:,} "
        f"pieces, the weights {entry['bytes_after'] / 1e6:.1f} instead of "
        f"{entry['bytes_before'] / 1e6:.1f} MB; validation accuracy went from "
        f"{entry['validation_before']:.1%} to {entry['validation_after']:.1%}; "
        f"{entry['unseen_tokens']:.1%} of the test texts' tokens are spelled in "
        "smaller pieces, and in another domain more will be: there it answers worse"
    )


def with_pieces(model: PreTrainedModel, former: np.ndarray) -> PreTrainedModel:
    """Copy a model with some rows of its embedding of tokens.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    former : ndarray of int, shape (P,)
        Numbers of the rows, in their new order.

    Returns
    -------
    transformers.PreTrainedModel
        Its configuration says how many there are, and the new numbers of the special
        tokens; None of one that is gone.
    """
    smaller = copy.deepcopy(model)
    table = smaller.get_input_embeddings()
    renumbered = {int(number): new for new, number in enumerate(former)}
    rows = torch.as_tensor(former, device=table.weight.device)
    table.weight = torch.nn.Parameter(
        table.weight.detach()[rows].clone(), requires_grad=table.weight.requires_grad
    )
    table.num_embeddings = len(former)
    if table.padding_idx is not None:
        table.padding_idx = renumbered.get(table.padding_idx)
    smaller.config.vocab_size = len(former)
    for name, value in smaller.config.to_dict().items():
        if name.endswith("_token_id") and isinstance(value, int):
            setattr(smaller.config, name, renumbered.get(value))
    return smaller


def _describe(
    model: PreTrainedModel, trimmed: PreTrainedModel, former: np.ndarray, task: Task
) -> dict[str, Any]:
    real = task.test.attention_mask.bool()
    unseen = ~torch.isin(task.test.input_ids, torch.as_tensor(former)) & real
    return {
        "pieces_before": int(model.config.vocab_size),
        "pieces_after": len(former),
        "bytes_before": _bytes(model),
        "bytes_after": _bytes(trimmed),
        "unseen_tokens": int(unseen.sum()) / int(real.sum()),
        "texts_with_unseen": float(unseen.any(1).double().mean()),
    }


def _bytes(model: PreTrainedModel) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


def _accuracy(model: PreTrainedModel, data: Encoded) -> float:
    return float(classified(model, data).mean())


def _difference(
    model: PreTrainedModel,
    trimmed: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    former: np.ndarray,
    task: Task,
) -> str | None:
    """Say what became of training texts that should be read and answered as before."""
    length = task.train.input_ids.shape[1]
    labels = task.train.labels.tolist()
    data = encode(task.texts["train"], labels, tokenizer, length)
    if not torch.equal(torch.as_tensor(former)[data.input_ids], task.train.input_ids):
        return "the smaller tokenizer reads training texts in another way"
    some = range(min(CHECKED, len(data)))
    before = predict_logits(model, task.train.take(some))
    after = predict_logits(trimmed, data.take(some))
    largest = max(1.0, float(before.abs().max()))
    if float((before - after).abs().max()) > ALIKE * largest:
        return "the smaller model answers training texts in another way"
    return None
