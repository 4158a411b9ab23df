"""Per-sample gradient norms, from inputs and output gradients."""

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

LINEAR = (nn.Linear, Conv1D)


def _squared_weight_gradient(inputs, gradient, wide):
    """Squared norm of each sample's weight gradient of a linear map, without forming it.

    ||G^T X||_F^2 = sum((X X^T) * (G G^T)) costs T^2 (in + out) instead of T in out (the
    "ghost norm", Goodfellow 2015, arXiv:1510.01799; Li et al. 2021, arXiv:2110.05679).
    """
    tokens, columns, rows = inputs.shape[1], inputs.shape[2], gradient.shape[2]
    if tokens * (columns + rows) > columns * rows:
        return torch.bmm(gradient.mT, inputs).to(wide).square().sum((1, 2))
    input_products = torch.bmm(inputs, inputs.mT).to(wide)
    return (input_products * torch.bmm(gradient, gradient.mT).to(wide)).sum((1, 2))


def _normalise(module, x):
    """Return a norm's output before its gain."""
    if isinstance(module, nn.LayerNorm):
        return functional.layer_norm(x, module.normalized_shape, eps=module.eps)
    return functional.rms_norm(x, x.shape[-1:], eps=module.variance_epsilon)


def _owners(module):
    """List the modules that have parameters of their own."""
    return [
        part
        for part in module.modules()
        if next(part.parameters(recurse=False), None) is not None
    ]


def _has_rule(module):
    """Check whether there is a rule for a module's per-sample gradients."""
    # Every decoder has an RMS norm of its own class.
    return isinstance(module, (*LINEAR, nn.LayerNorm)) or type(
        module
    ).__name__.endswith("RMSNorm")


def _watch_gradient(module, layer, wide):
    """Add a module's squared per-sample gradients to ``layer`` in the backward pass."""

    # The hook takes the module as it is called: holding it would tie a knot that keeps
    # the whole copy in memory until the garbage collector comes.
    def forward_hook(module, inputs, output):
        x = inputs[0].detach()

        def backward_hook(gradient):
            if isinstance(module, LINEAR):
                total = _squared_weight_gradient(x, gradient, wide)
            else:
                normalised = _normalise(module, x)
                total = (gradient * normalised).sum(1).to(wide).square().sum(-1)
            if getattr(module, "bias", None) is not None:
                total = total + gradient.sum(1).to(wide).square().sum(-1)
            layer.squared_gradient += float(total.double().sum())

        output.register_hook(backward_hook)

    module.register_forward_hook(forward_hook)


def _add_gradients(module, layer, wide, samples, ruled):
    """Add a batch's gradients to their mean, and clear them."""
    for total, parameter in zip(layer.mean_gradient, module.parameters(), strict=True):
        if parameter.grad is None:  # a parameter that this configuration does not use
            continue
        if not ruled:
            layer.squared_gradient += float(parameter.grad.to(wide).square().sum())
        # Summed in the wide type: bfloat16 sums would lose the small batches.
        total.add_(parameter.grad, alpha=1 / samples)
        parameter.grad = None
