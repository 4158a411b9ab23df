"""The pass that gives all signals: one forward and one backward per batch of the probe set.

Per-sample gradient norms are computed here, from inputs and output gradients, because
autograd and ``torch.func`` form every sample's gradient.
"""

import math

import pandas as pd
import torch
from torch.nn import functional

from sfusion.errors import SfusionError
from sfusion.models.architectures import architecture_of, layer_stack
from sfusion.models.layers import copy_model
from sfusion.signals.definitions import SIGNALS
from sfusion.signals.gradients import (
    _add_gradients,
    _has_rule,
    _owners,
    _watch_gradient,
)
from sfusion.signals.layer_pass import LayerPass

# Larger products waste less, until they outgrow the cache; so many of a model of 6
# layers of 384 hidden units, of a larger one fewer: its activations would take more
# memory than its training.
TOKENS_PER_PASS, UNITS = 4096, 6 * 384


def _watch_layer(module, layer, mask_of, reads, wide):
    def forward_hook(_, inputs, output):
        hidden = (output[0] if isinstance(output, tuple) else output).detach().to(wide)
        mask = mask_of()
        cosine = functional.cosine_similarity(
            inputs[0].detach().to(wide), hidden, dim=-1
        )
        layer.cosine += float((cosine * mask).double().sum())
        # The last real token, wherever the padding is; or the first.
        token = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(
            1
        )
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
        Samples per forward and backward pass, by default as many as make
        ``TOKENS_PER_PASS``, fewer of a large model; changes the results by rounding
        only.
    precision : {"fp32", "bf16"}
        ``"fp32"`` keeps the model's own type; ``"bf16"`` runs the passes in bfloat16.
        The statistics are in float32 at least. The weight signals always read the
        model's own weights.
    measures : dict of str to Signal, optional
        What to compute; by default ``SIGNALS``.

    Returns
    -------
    DataFrame
        A row per layer (index ``layer``, from the embeddings up), a column per signal,
        in the order of ``measures`` and in the units given there.

    Raises
    ------
    SfusionError
        For an empty probe set, one with a single class, or an unknown precision.
    """
    data = getattr(data, "train", data)
    batch_size = _check(
        data, batch_size, precision, model.config.hidden_size * len(layer_stack(model))
    )
    own = next(model.parameters()).dtype
    wide = (
        torch.float32
        if precision == "bf16"
        else torch.promote_types(own, torch.float32)
    )
    working = copy_model(model, torch.bfloat16 if precision == "bf16" else own)
    working.eval().requires_grad_(False)
    working.set_attn_implementation("eager")
    stack, architecture = (
        layer_stack(working).requires_grad_(True),
        architecture_of(model.config),
    )
    known = {
        "samples": len(data),
        "tokens": int(data.attention_mask.sum()),
        "labels": data.labels.numpy(),
    }
    layers = [
        LayerPass(parameters=[p.detach().to(wide) for p in m.parameters()], **known)
        for m in layer_stack(model)
    ]
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
        layer.mean_gradient = [
            torch.zeros_like(p, dtype=wide) for p in module.parameters()
        ]
    predictions = []
    # Without a rule for every module, a sample's gradient is that of a batch of one.
    for indices in torch.arange(len(data)).split(batch_size if ruled else 1):
        batch = data.take(indices).to(working.device)
        batch_mask.append(batch.attention_mask.to(wide))
        with torch.enable_grad():
            output = working(
                batch.input_ids,
                attention_mask=batch.attention_mask,
                output_attentions=True,
            )
            functional.cross_entropy(
                output.logits.to(wide), batch.labels, reduction="sum"
            ).backward()
        predictions.append(output.logits.detach().to(wide).argmax(-1).cpu())
        for module, layer, attention in zip(
            stack, layers, output.attentions, strict=True
        ):
            _add_attention(layer, attention, batch_mask[-1])
            _add_gradients(module, layer, wide, len(data), ruled)
    for layer in layers:
        layer.predictions = torch.cat(predictions).numpy()
    rows = [
        {slug: s.compute(layer) for slug, s in measures.items()} for layer in layers
    ]
    return pd.DataFrame(rows).rename_axis("layer")


def _check(data, batch_size, precision, units):
    """Refuse what cannot be probed; return the samples per pass."""
    if len(data) == 0:
        raise SfusionError("the probe set is empty: give at least two samples")
    if len(data.labels.unique()) < 2:
        raise SfusionError(
            f"the probe set has the single class {int(data.labels[0])}: give two classes or more"
        )
    if batch_size is None:
        batch_size = max(
            1, TOKENS_PER_PASS * UNITS // max(UNITS, units) // data.input_ids.shape[1]
        )
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
            logits = working(
                batch.input_ids, attention_mask=batch.attention_mask
            ).logits
            total += float(
                functional.cross_entropy(logits.to(wide), batch.labels, reduction="sum")
            )
    handle.remove()
    return total / len(data)
