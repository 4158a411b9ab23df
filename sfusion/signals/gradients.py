"""Per-sample gradient norms, from inputs and output gradients.

They are computed here because autograd and ``torch.func`` form every sample's gradient.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

if TYPE_CHECKING:
    from torch import Tensor

    from sfusion.signals.layer_pass import LayerPass

LINEAR = (nn.Linear, Conv1D)


def modules_with_parameters(module: nn.Module) -> list[nn.Module]:
    """List the modules, this one and those in it, that have parameters of their own."""
    return [p for p in module.modules() if list(p.parameters(recurse=False))]


def has_rule(module: nn.Module) -> bool:
    """Tell whether there is a rule for a module's per-sample gradients."""
    # Every decoder has an RMS norm of its own class.
    is_rms_norm = type(module).__name__.endswith("RMSNorm")
    return is_rms_norm or isinstance(module, (*LINEAR, nn.LayerNorm))


def watch_gradients(module: nn.Module, layer: LayerPass) -> None:
    """Let the backward pass add a module's squared per-sample gradients to a layer's.

    Parameters
    ----------
    module : Module
        One that has a rule.
    layer : LayerPass
    """

    # The hook takes the module as it is called: holding it would tie a knot that keeps
    # the whole copy in memory until the garbage collector comes.
    def forward_hook(
        module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> None:
        received = inputs[0].detach()

        def backward_hook(gradient: Tensor) -> None:
            squares = _squared_gradients(module, received, gradient, layer.dtype)
            layer.squared_gradient += float(squares.double().sum())

        output.register_hook(backward_hook)

    module.register_forward_hook(forward_hook)


def add_gradients(module: nn.Module, layer: LayerPass) -> None:
    """Add a batch's gradients to their mean over the probe set, and clear them.

    Parameters
    ----------
    module : Module
        The layer, after a backward pass of the summed loss.
    layer : LayerPass
    """
    for total, parameter in zip(layer.mean_gradient, module.parameters(), strict=True):
        # A configuration may leave a parameter unused.
        if parameter.grad is not None:
            # Summed in the wide type: bfloat16 sums would lose the small batches.
            total.add_(parameter.grad, alpha=1 / layer.samples)
            parameter.grad = None


def add_squared_gradients(module: nn.Module, layer: LayerPass) -> None:
    """Add the squared gradients of a batch of one sample, whatever the modules."""
    for parameter in module.parameters():
        if parameter.grad is not None:
            squares = parameter.grad.to(layer.dtype).square()
            layer.squared_gradient += float(squares.sum())


def _squared_gradients(
    module: nn.Module, inputs: Tensor, gradient: Tensor, dtype: torch.dtype
) -> Tensor:
    """Squared norm of each sample's gradient over a module's parameters, shape (B,)."""
    if isinstance(module, LINEAR):
        total = _squared_weight_gradients(inputs, gradient, dtype)
    else:
        gains = (gradient * _normalise(module, inputs)).sum(1)
        total = gains.to(dtype).square().sum(-1)
    if getattr(module, "bias", None) is not None:
        total = total + gradient.sum(1).to(dtype).square().sum(-1)
    return total


def _squared_weight_gradients(
    inputs: Tensor, gradient: Tensor, dtype: torch.dtype
) -> Tensor:
    """Squared norm of each sample's weight gradient of a linear map, not formed.

    ||G^T X||_F^2 = sum((X X^T) * (G G^T)) costs T^2 (in + out) instead of T in out (the
    "ghost norm", Goodfellow 2015, arXiv:1510.01799; Li et al. 2021, arXiv:2110.05679).
    """
    tokens = inputs.shape[1]
    columns = inputs.shape[2]
    rows = gradient.shape[2]
    if tokens * (columns + rows) > columns * rows:
        return torch.bmm(gradient.mT, inputs).to(dtype).square().sum((1, 2))
    input_products = torch.bmm(inputs, inputs.mT).to(dtype)
    gradient_products = torch.bmm(gradient, gradient.mT).to(dtype)
    return (input_products * gradient_products).sum((1, 2))


def _normalise(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return a norm's output before its gain."""
    if isinstance(module, nn.LayerNorm):
        return functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    return functional.rms_norm(inputs, inputs.shape[-1:], eps=module.variance_epsilon)
