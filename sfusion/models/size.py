"""What a model costs: parameters and operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from sfusion.models.architectures import layer_stack

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The form of these models' layers that `size` counts in closed form.
CLOSED_FORM = ("bert", "roberta", "xlm-roberta")


def size(model: PreTrainedModel, max_length: int) -> dict[str, int]:
    """Count what a model costs.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    max_length : int
        Tokens per sequence.

    Returns
    -------
    dict
        ``layers``; ``parameters`` and ``encoder_parameters`` (counts); ``flops`` of the
        forward pass over one sequence, a multiply-add counted as two: of the matrix
        products alone, in closed form for BERT and its like (declared here), else as
        ``torch.utils.flop_counter`` counts them.
    """
    layers = layer_stack(model)
    has_closed_form = model.config.model_type in CLOSED_FORM
    count_flops = _closed_form if has_closed_form else _counted
    return {
        "layers": len(layers),
        "parameters": sum(p.numel() for p in model.parameters()),
        "encoder_parameters": sum(p.numel() for p in layers.parameters()),
        "flops": count_flops(model, max_length),
    }


def _closed_form(model: PreTrainedModel, tokens: int) -> int:
    hidden = model.config.hidden_size
    projections = 8 * tokens * hidden**2
    attention = 4 * tokens**2 * hidden
    feed_forward = 4 * tokens * hidden * model.config.intermediate_size
    layer = projections + attention + feed_forward
    pooler = 2 * hidden**2
    classifier = 2 * hidden * model.config.num_labels
    return len(layer_stack(model)) * layer + pooler + classifier


def _counted(model: PreTrainedModel, tokens: int) -> int:
    ids = torch.ones(1, tokens, dtype=torch.long, device=model.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops()
