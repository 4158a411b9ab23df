"""Removing layers of a model."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from torch import nn

from sfusion.errors import SfusionError
from sfusion.models.architectures import architecture_of, layer_stack

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def copy_model(
    model: PreTrainedModel, dtype: torch.dtype, *, share: bool = False
) -> PreTrainedModel:
    """Copy a model with its parameters in a given type.

    A copy in the model's own type on the way, as ``deepcopy(model).to(dtype)`` makes
    it, would cost more than the conversion.

    Parameters
    ----------
    model : PreTrainedModel
    dtype : torch.dtype
    share : bool
        Let parameters that have the type already keep their memory: for a copy whose
        weights are only read.

    Returns
    -------
    PreTrainedModel
    """
    copies = {}
    for parameter in model.parameters():
        values = parameter.detach().to(dtype, copy=not share)
        copies[id(parameter)] = nn.Parameter(values, parameter.requires_grad)
    return copy.deepcopy(model, copies)


def remove_layers(model, layers):
    """Copy a model without some of its layers.

    The configuration's layer count follows: a model saved with the old count would
    reload as a full model with randomly drawn layers, without a word.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Left as it is.
    layers : iterable of int
        Positions in the present stack, counted from 0 at the embeddings.

    Returns
    -------
    transformers.PreTrainedModel
        A new model in evaluation mode.

    Raises
    ------
    SfusionError
        When a position does not exist or must stay, or no layer would be left.
    """
    depth, architecture = len(layer_stack(model)), architecture_of(model.config)
    gone = sorted(set(layers))
    if any(not 0 <= layer < depth for layer in gone):
        raise SfusionError(
            f"cannot remove layers {gone}: the model has layers 0 to {depth - 1}"
        )
    if len(gone) == depth:
        raise SfusionError(f"cannot remove all {depth} layers: keep at least one")
    if fixed := sorted(set(gone) & set(architecture.fixed)):
        raise SfusionError(
            f"cannot remove layer {fixed[0]} of a {model.config.model_type}: it is built otherwise"
        )
    # Placeholders in the copy's memory keep the layers that go from being copied at
    # all.
    model = copy.deepcopy(
        model, {id(layer_stack(model)[i]): nn.Identity() for i in gone}
    )
    kept = nn.ModuleList(m for i, m in enumerate(layer_stack(model)) if i not in gone)
    for position, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position
    model.set_submodule(architecture.layers, kept)
    if kinds := getattr(model.config, "layer_types", None):
        model.config.layer_types = [
            kind for i, kind in enumerate(kinds) if i not in gone
        ]
    model.config.num_hidden_layers = len(kept)
    return model.eval()
