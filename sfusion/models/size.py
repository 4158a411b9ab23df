"""What a model costs: parameters and operations."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from sfusion.models.architectures import layer_stack

# The form of these models' layers that `size` counts in closed form.
CLOSED_FORM = ("bert", "roberta", "xlm-roberta")


def size(model, max_length):
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
    layers, closed = layer_stack(model), model.config.model_type in CLOSED_FORM
    return {
        "layers": len(layers),
        "parameters": sum(p.numel() for p in model.parameters()),
        "encoder_parameters": sum(p.numel() for p in layers.parameters()),
        "flops": (_flops if closed else _counted_flops)(model, max_length),
    }


def _flops(model, tokens):
    hidden, wide = model.config.hidden_size, model.config.intermediate_size
    # Projections, attention, feed-forward.
    layer = 8 * tokens * hidden**2 + 4 * tokens**2 * hidden + 4 * tokens * hidden * wide
    return (
        len(layer_stack(model)) * layer
        + 2 * hidden**2
        + 2 * hidden * model.config.num_labels
    )


def _counted_flops(model, tokens):
    ids = torch.ones(1, tokens, dtype=torch.long, device=model.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops()
