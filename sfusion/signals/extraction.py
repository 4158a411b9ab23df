"""The pass that gives all signals: one forward and one backward per batch of the probe set.

Per-sample gradient norms are computed here, from inputs and output gradients, because autograd and
``torch.func`` form every sample's gradient.
"""

import math

import pandas as pd
import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from sfusion import SfusionError
from sfusion.models.layers import architecture_of, copy_model, layer_stack
from sfusion.signals import SIGNALS, LayerPass

LINEAR = (nn.Linear, Conv1D)
# Larger products waste less, until they outgrow the cache; so many of a model of 6 layers of 384 hidden
# units, of a larger one fewer: its activations would take more memory than its training.
TOKENS_PER_PASS, UNITS = 4096, 6 * 384


def _squared_weight_gradient(inputs, gradient, wide):
    """Squared norm of each sample's weight gradient of a linear map, without forming it.

    ||G^T X||_F^2 = sum((X X^T) * (G G^T)) costs T^2 (in + out) instead of T in out
    (the "ghost norm", Goodfellow 2015, arXiv:1510.01799; Li et al. 2021, arXiv:2110.05679).
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
    return [part for part in module.modules() if next(part.parameters(recurse=False), None) is not None]


def _has_rule(module):
    """Check whether there is a rule for a module's per-sample gradients."""
    # Every decoder has an RMS norm of its own class.
    return isinstance(module, (*LINEAR, nn.LayerNorm)) or type(module).__name__.endswith("RMSNorm")


def _watch_gradient(module, layer, wide):
    """Add a module's squared per-sample gradients to ``layer`` in the backward pass."""

    # The hook takes the module as it is called: holding it would tie a knot that keeps the whole
    # copy in memory until the garbage collector comes.
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


def _watch_layer(module, layer, mask_of, reads, wide):
    def forward_hook(_, inputs, output):
        hidden = (output[0] if isinstance(output, tuple) else output).detach().to(wide)
        mask = mask_of()
        cosine = functional.cosine_similarity(inputs[0].detach().to(wide), hidden, dim=-1)
        layer.cosine += float((cosine * mask).double().sum())
        # The last real token, wherever the padding is; or the first.
        token = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
        token = token if reads == "last" else torch.zeros_like(token)
        cosine = cosine.gather(1, token[:, None])[:, 0]
        layer.angle += float(cosine.double().clamp(-1, 1).arccos().sum()) / math.pi
        real = hidden * mask.unsqueeze(-1)
        squares = real.square().sum(-1)
        layer.units = hidden.shape[-1]
        layer.activation += float(real.double().sum())
        layer.norm += float(squares.sqrt().double().sum())
        layer.energy += float(squares.double().sum())
        layer.pooled.append((real.sum(1) / mask.sum(1, keepdim=True)).cpu().numpy())

    module.register_forward_hook(forward_hook)


def _add_attention(layer, attention, mask):
    real_queries = mask.unsqueeze(1)  # (B, 1, T): the same for every head
    attention = attention.detach().to(mask.dtype)
    largest = attention.amax(-1) * real_queries
    # A lone token attends to itself alone: entropy 0, over log 2 rather than log 1 = 0.
    log_keys = mask.sum(-1).clamp(min=2).log()[:, None, None]
    # A weight of exactly 0 (padding) adds 0; the clamp is far below any other weight.
    products = attention * attention.clamp(min=torch.finfo(mask.dtype).tiny).log()
    entropy = -products.sum(-1) * real_queries / log_keys
    layer.largest_attention += float(largest.double().sum())
    layer.attention_entropy += float(entropy.double().sum())
    layer.queries += int(mask.sum()) * attention.shape[1]


def extract_signals(model, data, *, batch_size=None, precision="fp32", measures=None):
    """Compute the twelve signals of every layer in one pass over a probe set.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A classifier; a copy of it does the work, so it is left as it is.
    data : Encoded or Task
        The probe set, N samples of T tokens; of a task, its training split.
    batch_size : int, optional
        Samples per forward and backward pass, by default as many as make ``TOKENS_PER_PASS``, fewer of a
        large model; changes the results by rounding only.
    precision : {"fp32", "bf16"}
        ``"fp32"`` keeps the model's own type; ``"bf16"`` runs the passes in bfloat16. The
        statistics are in float32 at least. The weight signals always read the model's own weights.
    measures : dict of str to Signal, optional
        What to compute; by default ``SIGNALS``.

    Returns
    -------
    DataFrame
        A row per layer (index ``layer``, from the embeddings up), a column per signal, in the
        order of ``measures`` and in the units given there.

    Raises
    ------
    SfusionError
        For an empty probe set, one with a single class, or an unknown precision.
    """
    data = getattr(data, "train", data)
    batch_size = _check(data, batch_size, precision, model.config.hidden_size * len(layer_stack(model)))
    own = next(model.parameters()).dtype
    wide = torch.float32 if precision == "bf16" else torch.promote_types(own, torch.float32)
    working = copy_model(model, torch.bfloat16 if precision == "bf16" else own)
    working.eval().requires_grad_(False)
    working.set_attn_implementation("eager")
    stack, architecture = layer_stack(working).requires_grad_(True), architecture_of(model.config)
    known = {"samples": len(data), "tokens": int(data.attention_mask.sum()), "labels": data.labels.numpy()}
    layers = [LayerPass(parameters=[p.detach().to(wide) for p in m.parameters()], **known) for m in layer_stack(model)]
    ruled = not architecture.shared and all(map(_has_rule, _owners(stack)))
    measures = SIGNALS if measures is None else measures
    if "removal-loss" in measures:  # a pass per layer: before the layers are watched
        for module, layer in zip(stack, layers, strict=True):
            layer.loss_without = _loss_without(working, module, data, batch_size, wide)
    batch_mask = []
    for module, layer in zip(stack, layers, strict=True):
        _watch_layer(module, layer, lambda: batch_mask[-1], architecture.reads, wide)
        for child in _owners(module) if ruled else ():
            _watch_gradient(child, layer, wide)
        layer.mean_gradient = [torch.zeros_like(p, dtype=wide) for p in module.parameters()]
    predictions = []
    # Without a rule for every module, a sample's gradient is that of a batch of one.
    for indices in torch.arange(len(data)).split(batch_size if ruled else 1):
        batch = data.take(indices).to(working.device)
        batch_mask.append(batch.attention_mask.to(wide))
        with torch.enable_grad():
            output = working(batch.input_ids, attention_mask=batch.attention_mask, output_attentions=True)
            functional.cross_entropy(output.logits.to(wide), batch.labels, reduction="sum").backward()
        predictions.append(output.logits.detach().to(wide).argmax(-1).cpu())
        for module, layer, attention in zip(stack, layers, output.attentions, strict=True):
            _add_attention(layer, attention, batch_mask[-1])
            _add_gradients(module, layer, wide, len(data), ruled)
    for layer in layers:
        layer.predictions = torch.cat(predictions).numpy()
    rows = [{slug: s.compute(layer) for slug, s in measures.items()} for layer in layers]
    return pd.DataFrame(rows).rename_axis("layer")


def _check(data, batch_size, precision, units):
    """Refuse what cannot be probed; return the samples per pass."""
    if len(data) == 0:
        raise SfusionError("the probe set is empty: give at least two samples")
    if len(data.labels.unique()) < 2:
        raise SfusionError(f"the probe set has the single class {int(data.labels[0])}: give two classes or more")
    if batch_size is None:
        batch_size = max(1, TOKENS_PER_PASS * UNITS // max(UNITS, units) // data.input_ids.shape[1])
    if batch_size < 1:
        raise SfusionError(f"batch size {batch_size}: give 1 or more")
    if precision not in ("fp32", "bf16"):
        raise SfusionError(f"precision {precision!r} is not known: use fp32 or bf16")
    return batch_size


def _loss_without(working, module, data, batch_size, wide):
    """Compute the mean cross-entropy of a model whose layer ``module`` returns its input."""

    def bridge(_, inputs, output):
        return (inputs[0], *output[1:]) if isinstance(output, tuple) else inputs[0]

    handle, total = module.register_forward_hook(bridge), 0.0
    with torch.no_grad():
        for indices in torch.arange(len(data)).split(batch_size):
            batch = data.take(indices).trim().to(working.device)
            logits = working(batch.input_ids, attention_mask=batch.attention_mask).logits
            total += float(functional.cross_entropy(logits.to(wide), batch.labels, reduction="sum"))
    handle.remove()
    return total / len(data)


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
