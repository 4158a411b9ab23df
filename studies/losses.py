"""What published distillations compare besides the logits: states and attention.

A term takes the outputs of student and teacher and the mask of the real tokens, shape
(B, T), and gives a scalar.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional
from transformers.modeling_outputs import SequenceClassifierOutput

Term = Callable[
    [SequenceClassifierOutput, SequenceClassifierOutput, torch.Tensor], torch.Tensor
]

# Outputs of the original's layers that a student's first ones imitate.
UNIFORM = (2, 4, 6)
SKIP = (2, 4)

SMALLEST = 1e-9  # attention weight whose logarithm is taken


def mean_over_tokens(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average over the real tokens.

    Parameters
    ----------
    values, mask : Tensor of shape (B, T)

    Returns
    -------
    Tensor
        Scalar.
    """
    return (values * mask).sum() / mask.sum()


def hidden_error(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Mean squared difference of hidden states, as TinyBERT compares them.

    Parameters
    ----------
    student, teacher : Tensor of shape (B, T, hidden units)
    mask : Tensor of shape (B, T)

    Returns
    -------
    Tensor
        Scalar.
    """
    squares = (student.float() - teacher.float()).square()
    return mean_over_tokens(squares.mean(-1), mask)


def attention_divergence(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """KL(teacher || student) of attention over the keys, mean over heads and queries.

    Parameters
    ----------
    student, teacher : Tensor of shape (B, heads, T, T)
    mask : Tensor of shape (B, T)

    Returns
    -------
    Tensor
        Scalar.
    """
    own = student.float().clamp_min(SMALLEST)
    taught = teacher.float().clamp_min(SMALLEST)
    divergence = (taught * (taught / own).log()).sum(-1)
    return mean_over_tokens(divergence.mean(1), mask)


def score_error(
    student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Mean squared difference of attention scores, centred over the keys of a query.

    A model returns attention after the softmax; the logarithm gives back the scores but
    for a constant per query, which attention does not depend on.

    Parameters
    ----------
    student, teacher : Tensor of shape (B, heads, T, T)
    mask : Tensor of shape (B, T)

    Returns
    -------
    Tensor
        Scalar.
    """
    own = student.float().clamp_min(SMALLEST).log()
    taught = teacher.float().clamp_min(SMALLEST).log()
    keys = mask[:, None, None]
    count = keys.sum(-1, keepdim=True)
    difference = own - taught
    difference = difference - (difference * keys).sum(-1, keepdim=True) / count
    squares = (difference.square() * keys).sum(-1) / count[..., 0]
    return mean_over_tokens(squares.mean(1), mask)


def last_hidden(
    student: SequenceClassifierOutput,
    teacher: SequenceClassifierOutput,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Compare the last layer's hidden states; see :func:`hidden_error`."""
    return hidden_error(student.hidden_states[-1], teacher.hidden_states[-1], mask)


def last_attention(
    student: SequenceClassifierOutput,
    teacher: SequenceClassifierOutput,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Compare the last layer's attention; MiniLM, Wang et al. 2020, without values."""
    return attention_divergence(student.attentions[-1], teacher.attentions[-1], mask)


def last_cosine(
    student: SequenceClassifierOutput,
    teacher: SequenceClassifierOutput,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Compare the last layer's states by direction; DistilBERT, Sanh et al. 2019."""
    own = student.hidden_states[-1].float()
    taught = teacher.hidden_states[-1].float()
    cosine = functional.cosine_similarity(own, taught, dim=-1)
    return mean_over_tokens(1 - cosine, mask)


def patient(
    student: SequenceClassifierOutput,
    teacher: SequenceClassifierOutput,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Compare first tokens' normalised states, layer by layer; PKD, Sun et al. 2019."""
    error = torch.zeros((), device=mask.device)
    for own, other in enumerate(SKIP, start=1):
        mine = functional.normalize(student.hidden_states[own][:, 0].float(), dim=-1)
        its = functional.normalize(teacher.hidden_states[other][:, 0].float(), dim=-1)
        distance = (mine - its).square().sum(-1).mean()
        error = error + distance / len(SKIP)
    return error


def layerwise(
    student: SequenceClassifierOutput,
    teacher: SequenceClassifierOutput,
    mask: torch.Tensor,
) -> torch.Tensor:
    """Sum errors of states and scores over layers; TinyBERT, Jiao et al. 2020."""
    error = torch.zeros((), device=mask.device)
    for own, other in enumerate(UNIFORM, start=1):
        states = student.hidden_states[own]
        error = error + hidden_error(states, teacher.hidden_states[other], mask)
        attention = student.attentions[own - 1]
        error = error + score_error(attention, teacher.attentions[other - 1], mask)
    return error
