"""Removing layers of a model."""

from __future__ import annotations

import copy
from collections.abc import Iterable
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


def remove_layers(model: PreTrainedModel, layers: Iterable[int]) -> PreTrainedModel:
    """Copy a model without some of its layers.

    The configuration's layer count follows: a model saved with the old count would
    reload as a full model with randomly drawn layers, without a word.

    Parameters
    ----------
    model : PreTrainedModel
        Left as it is.
    layers : iterable of int
        Positions in the present stack, counted from 0 at the embeddings.

    Returns
    -------
    PreTrainedModel
        A new model in evaluation mode.

    Raises
    ------
    SfusionError
        When a position does not exist or must stay, or no layer would be left.
    """
    removed = sorted(set(layers))
    _check_removal(model, removed)
    architecture = architecture_of(model.config)
    # Placeholders in the copy's memory keep the layers that go from being copied.
    stack = layer_stack(model)
    placeholders = {id(stack[layer]): nn.Identity() for layer in removed}
    model = copy.deepcopy(model, placeholders)
    kept = [layer for layer in range(len(stack)) if layer not in removed]
    left = nn.ModuleList(layer_stack(model)[layer] for layer in kept)
    for position, layer in enumerate(left):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position
    model.set_submodule(architecture.layers, left)
    kinds = getattr(model.config, "layer_types", None)
    if kinds:
        model.config.layer_types = [kinds[layer] for layer in kept]
    model.config.num_hidden_layers = len(left)
    return model.eval()


def _check_removal(model: PreTrainedModel, removed: list[int]) -> None:
    depth = len(layer_stack(model))
    if any(not 0 <= layer < depth for layer in removed):
        raise SfusionError(
            f"cannot remove layers {removed}: the model has layers 0 to {depth - 1}"
        )
    if len(removed) == depth:
        raise SfusionError(f"cannot remove all {depth} layers: keep at least one")
    for layer in architecture_of(model.config).fixed:
        if layer in removed:
            raise SfusionError(
                f"cannot remove layer {layer} of a {model.config.model_type}: it is "
                "built otherwise"
            )
