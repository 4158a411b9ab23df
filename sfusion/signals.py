"""The twelve signals, taken in one pass: one forward and one backward a batch of the probe set.

The table is :data:`SIGNALS`. A signal is a function of what the pass collects for one layer
(:class:`LayerPass`); to add one, write that function and add its line to the table.

Notation of the formulas: A[b,t,h] is the layer's output hidden state; m[b,t] marks real tokens
([CLS] and [SEP] among them, padding not); N samples, H hidden units; g_b is the gradient of
sample b's cross-entropy over all parameters theta of the layer, gbar their mean over samples;
W are the entries of the layer's weight matrices; a are attention rows of real queries.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from scipy.special import digamma
from sklearn.decomposition import PCA
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from sfusion.architectures import architecture_of
from sfusion.errors import SfusionError
from sfusion.models import copy_model, layer_stack

LINEAR = (nn.Linear, Conv1D)
TOKENS_A_PASS = 4096  # larger products waste less, until they outgrow the cache
MI_COMPONENTS = 8
ENTROPY_BINS = 512
ENTROPY_RANGE = (-1.0, 1.0)


@dataclass
class LayerPass:
    """What one pass over the probe set collects for one layer; sums are over the probe set.

    Attributes
    ----------
    samples, tokens, queries : int
        Samples, real tokens, and real queries times heads.
    units : int
        Hidden units H.
    activation, norm, energy : float
        Sums of A, of the tokens' L2 norms, and of their squares.
    pooled : list of ndarray
        Mean of A over the real tokens, a (B, H) array a batch.
    labels, predictions : ndarray
        Shape (N,), integers.
    squared_gradient : float
        Sum over samples of the squared norm of the per-sample gradient.
    mean_gradient : list of Tensor
        gbar, a tensor a parameter, in the parameters' order.
    parameters : list of Tensor
        theta, in the same order.
    largest_attention, attention_entropy : float
        Sums over queries and heads.
    cosine : float
        Sum over real tokens of the cosine between the layer's input and its output.
    angle : float
        Sum over samples of the angle between the two at the first token, which the head reads,
        in half-turns.
    """

    units: int = 0
    samples: int = 0
    tokens: int = 0
    queries: int = 0
    activation: float = 0.0
    norm: float = 0.0
    energy: float = 0.0
    squared_gradient: float = 0.0
    largest_attention: float = 0.0
    attention_entropy: float = 0.0
    cosine: float = 0.0
    angle: float = 0.0
    pooled: list = field(default_factory=list)
    labels: np.ndarray | None = None
    predictions: np.ndarray | None = None
    mean_gradient: list = field(default_factory=list)
    parameters: list = field(default_factory=list)

    @functools.cached_property
    def components(self):
        """Leading principal components of the pooled output, an (N, at most 8) array.

        Raw units are too many for the estimator; the components hold most of their variance.
        """
        pooled = np.concatenate(self.pooled).astype(np.float64)
        count = min(MI_COMPONENTS, len(pooled) - 1, pooled.shape[1])
        return PCA(count, svd_solver="full").fit_transform(pooled)


@dataclass(frozen=True)
class Signal:
    """One signal: its definition, its reading, and the function that computes it.

    Attributes
    ----------
    slug, title, group : str
        Name in code, name in print, and one of the paper's five groups.
    formula, unit : str
        In the notation at the head of this module.
    removed_first : str
        ``"lowest"`` or ``"highest"``: which layer a single-signal strategy removes.
    reading : str
        The biological reading.
    source : str
        Where the name or the definition comes from.
    compute : callable
        ``LayerPass -> float``.
    """

    slug: str
    title: str
    group: str
    formula: str
    unit: str
    removed_first: str
    reading: str
    source: str
    compute: Callable


def mutual_information(values, target, neighbours=3):
    """Estimate the mutual information of each column with a discrete target.

    The nearest-neighbour estimator of Ross (2014, doi:10.1371/journal.pone.0087357) with exact
    neighbour counts, for all columns at once. scikit-learn's ``mutual_info_classif`` gives the
    same where classes have 8 samples or more (its rounding moves the counts in smaller ones),
    but the trees it builds for every class and column cost more than the model's own passes.

    Parameters
    ----------
    values : ndarray of shape (N, columns)
        Continuous values.
    target : ndarray of shape (N,)
        Class of each sample. A class of a single sample is left out.
    neighbours : int
        Neighbours of the same class; fewer where a class is smaller.

    Returns
    -------
    ndarray of shape (columns,)
        Nats, at least 0; all 0 where fewer than two classes remain.
    """
    classes, inverse, counts = np.unique(target, return_inverse=True, return_counts=True)
    kept = counts[inverse] > 1
    if len(np.unique(target[kept])) < 2:
        return np.zeros(values.shape[1])
    columns, inverse = values[kept].T, inverse[kept]
    size = counts[inverse]
    near = np.minimum(neighbours, size - 1)
    distance = np.abs(columns[:, :, None] - columns[:, None, :])
    same = inverse[:, None] == inverse[None, :]
    # Position 0 of the sorted distances within a class is the sample itself.
    ranked = np.sort(np.where(same, distance, np.inf), axis=2)[:, :, : neighbours + 1]
    radius = ranked[:, np.arange(len(near)), near]
    # Closed balls without the sample itself: copies of a text may lie at distance 0.
    within = distance <= radius[:, :, None]
    everyone, alike = within.sum(2) - 1, (within & same).sum(2) - 1
    constant = digamma(len(size)) - digamma(size).mean()
    return np.maximum(0.0, constant + (digamma(alike) - digamma(everyone)).mean(1))


def _information(layer, target):
    return float(mutual_information(layer.components, target).mean())


def _matrices(layer):
    return [p for p in layer.parameters if p.dim() == 2]


def _weight_entropy(layer):
    low, high = ENTROPY_RANGE
    counts = sum(
        torch.histc(w.clamp(low, high), bins=ENTROPY_BINS, min=low, max=high).double()
        for w in _matrices(layer)
    )
    return float(torch.special.entr(counts / counts.sum()).sum())


def _gradient_norm(layer):
    return math.hypot(*(float(torch.linalg.vector_norm(g)) for g in layer.mean_gradient))


def _taylor(layer):
    pairs = zip(layer.mean_gradient, layer.parameters, strict=True)
    return abs(sum(float(torch.dot(g.flatten(), p.flatten())) for g, p in pairs))


def _weight_norm(layer):
    matrices = _matrices(layer)
    norm = math.hypot(*(float(torch.linalg.vector_norm(w)) for w in matrices))
    return norm / sum(w.numel() for w in matrices) ** 0.5


_DECLARED = "declared here"
_SUMMARY = "name from a third-party summary; formula declared here"
_AUTHOR = "name from the paper's abstract; formula declared here"

SIGNALS = {
    signal.slug: signal
    for signal in (
        Signal(
            "inhibition",
            "Inhibition",
            "activation",
            "sum(m A) / (H sum(m))",
            "activation",
            "lowest",
            "Neurons held below their resting level say little: inhibited layers go first.",
            _SUMMARY,
            lambda layer: layer.activation / (layer.units * layer.tokens),
        ),
        Signal(
            "intensity",
            "Intensity",
            "activation",
            "sum_bt(m ||A[b,t]||) / sum(m)",
            "activation",
            "lowest",
            "The firing rate of a layer: low-firing layers go first.",
            _SUMMARY,
            lambda layer: layer.norm / layer.tokens,
        ),
        Signal(
            "energy",
            "Energy",
            "activation",
            "(1/N) sum_bt(m ||A[b,t]||^2)",
            "activation^2",
            "lowest",
            "The metabolic cost of a response: layers that spend little go first.",
            _SUMMARY,
            lambda layer: layer.energy / layer.samples,
        ),
        Signal(
            "task-relevance-mi",
            "Task-Relevance-MI",
            "mutual information",
            "mean_i I(PCA_i(pooled A); label), i = 1..8, nearest-neighbour estimate (k = 3)",
            "nats a component",
            "lowest",
            "How well a population's response tells the stimulus classes apart.",
            _AUTHOR,
            lambda layer: _information(layer, layer.labels),
        ),
        Signal(
            "information-flow-mi",
            "Information-Flow-MI",
            "mutual information",
            "mean_i I(PCA_i(pooled A); predicted label), same estimate",
            "nats a component",
            "lowest",
            "How much of an area's response reaches the behaviour.",
            _DECLARED,
            lambda layer: _information(layer, layer.predictions),
        ),
        Signal(
            "gradient-norm",
            "Gradient-Norm",
            "gradient",
            "||gbar||",
            "loss / weight",
            "lowest",
            "Plasticity: layers whose synapses the error no longer moves go first.",
            _SUMMARY,
            _gradient_norm,
        ),
        Signal(
            "gradient-fisher",
            "Gradient-Fisher",
            "gradient",
            "(1/N) sum_b ||g_b||^2, the trace of the empirical Fisher",
            "(loss / weight)^2",
            "lowest",
            "Sensitivity of the response to each synapse, stimulus by stimulus.",
            _AUTHOR,
            lambda layer: layer.squared_gradient / layer.samples,
        ),
        Signal(
            "gradient-taylor",
            "Gradient-Taylor",
            "gradient",
            "|sum_j gbar_j theta_j|",
            "loss",
            "lowest",
            "First-order estimate of what a lesion of the layer would cost.",
            "Molchanov et al. 2017, summed over a layer; choice declared here",
            _taylor,
        ),
        Signal(
            "weight-norm",
            "Weight-Norm",
            "weight",
            "||W|| / sqrt(count(W))",
            "weight",
            "lowest",
            "Synaptic strength: weakly wired layers go first.",
            _SUMMARY,
            _weight_norm,
        ),
        Signal(
            "weight-entropy",
            "Weight-Entropy",
            "weight",
            "entropy of the histogram of W, 512 equal bins on [-1, 1], outer values clipped",
            "nats",
            "lowest",
            "Diversity of synapses: layers wired uniformly go first.",
            _AUTHOR,
            _weight_entropy,
        ),
        Signal(
            "attention-weight",
            "Attention-Weight",
            "attention",
            "mean over samples, heads and real queries of max(a)",
            "probability",
            "lowest",
            "Selective attention: layers that single nothing out go first.",
            _AUTHOR,
            lambda layer: layer.largest_attention / layer.queries,
        ),
        Signal(
            "attention-entropy",
            "Attention-Entropy",
            "attention",
            "mean over the same of entropy(a) / log(number of real keys)",
            "share of the uniform entropy",
            "highest",
            "Diffuse attention: layers that look everywhere alike go first.",
            _SUMMARY,
            lambda layer: layer.attention_entropy / layer.queries,
        ),
    )
}

# What other work ranks layers by: how little a layer changes what passes through it. They are
# baselines beside the paper's twelve; no fusion reads them.
REDUNDANCY = {
    signal.slug: signal
    for signal in (
        Signal(
            "block-influence",
            "Block Influence",
            "redundancy",
            "1 - sum_bt(m cos(input[b,t], A[b,t])) / sum(m)",
            "1 - cosine",
            "lowest",
            "A relay that passes on what it receives can be bridged.",
            "ShortGPT, Men et al. 2024, arXiv:2403.03853, eq. 1",
            lambda layer: 1 - layer.cosine / layer.tokens,
        ),
        Signal(
            "angular-distance",
            "Angular distance",
            "redundancy",
            "(1/N) sum_b arccos(cos(input[b,0], A[b,0])) / pi",
            "half-turns",
            "lowest",
            "The same, at the one neuron pool that the read-out listens to.",
            "Gromov et al. 2024, arXiv:2403.17887, eq. 6, blocks of one layer; theirs is the last "
            "token of a decoder, ours the one that the head reads (declared here)",
            lambda layer: layer.angle / layer.samples,
        ),
    )
}
MEASURES = {**SIGNALS, **REDUNDANCY}


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


def _is_rms_norm(module):
    return type(module).__name__.endswith("RMSNorm")  # every decoder has a class of its own


def _normalise(module, x):
    """Give a norm's output before its gain."""
    if isinstance(module, nn.LayerNorm):
        return functional.layer_norm(x, module.normalized_shape, eps=module.eps)
    return functional.rms_norm(x, x.shape[-1:], eps=module.variance_epsilon)


def _has_rules(stack, architecture):
    """Tell whether every module of the layers has a rule for its per-sample gradients."""
    return not architecture.shared and all(
        isinstance(module, (*LINEAR, nn.LayerNorm)) or _is_rms_norm(module)
        for module in stack.modules()
        if next(module.parameters(recurse=False), None) is not None
    )


def _watch_gradient(module, layer, wide):
    """Let a module add its squared per-sample gradients to ``layer`` in the backward pass."""

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
        Samples a forward and backward pass, by default as many as make ``TOKENS_A_PASS``;
        changes the results by rounding only.
    precision : {"fp32", "bf16"}
        ``"fp32"`` keeps the model's own type; ``"bf16"`` runs the passes in bfloat16 and the
        statistics in float32. The weight signals always read the model's own weights.
    measures : dict of str to Signal, optional
        What to compute; by default ``SIGNALS``.

    Returns
    -------
    DataFrame
        A row a layer (index ``layer``, from the embeddings up), a column a signal, in the
        order of ``measures`` and in the units given there.

    Raises
    ------
    SfusionError
        For an empty probe set, one with a single class, or an unknown precision.
    """
    data = getattr(data, "train", data)
    if len(data) == 0:
        raise SfusionError("the probe set is empty: give at least two samples")
    if len(data.labels.unique()) < 2:
        raise SfusionError(
            f"the probe set has the single class {int(data.labels[0])}: give two classes or more"
        )
    if batch_size is None:
        batch_size = max(1, TOKENS_A_PASS // data.input_ids.shape[1])
    if batch_size < 1:
        raise SfusionError(f"batch size {batch_size}: give 1 or more")
    if precision not in ("fp32", "bf16"):
        raise SfusionError(f"precision {precision!r} is not known: use fp32 or bf16")
    own = next(model.parameters()).dtype
    wide = torch.float32 if precision == "bf16" else own
    working = copy_model(model, torch.bfloat16 if precision == "bf16" else own)
    working.eval().requires_grad_(False)
    working.set_attn_implementation("eager")
    stack = layer_stack(working).requires_grad_(True)
    layers = [
        LayerPass(parameters=[p.detach() for p in module.parameters()])
        for module in layer_stack(model)
    ]
    device, architecture = next(working.parameters()).device, architecture_of(model.config)
    ruled = _has_rules(stack, architecture)
    # Without a rule for every module, a sample's gradient is that of a batch of one.
    batch_size = batch_size if ruled else 1
    batch_mask = []
    for module, layer in zip(stack, layers, strict=True):
        _watch_layer(module, layer, lambda: batch_mask[-1], architecture.reads, wide)
        for child in module.modules() if ruled else ():
            if next(child.parameters(recurse=False), None) is not None:
                _watch_gradient(child, layer, wide)
        layer.mean_gradient = [torch.zeros_like(p, dtype=wide) for p in module.parameters()]
    predictions = []
    for start in range(0, len(data), batch_size):
        batch = data.take(range(start, min(start + batch_size, len(data))))
        mask = batch.attention_mask.to(device)
        batch_mask.append(mask.to(wide))
        with torch.enable_grad():
            output = working(
                batch.input_ids.to(device), attention_mask=mask, output_attentions=True
            )
            logits = output.logits.to(wide)
            loss = functional.cross_entropy(logits, batch.labels.to(device), reduction="sum")
        loss.backward()
        predictions.append(logits.detach().argmax(-1).cpu())
        for module, layer, attention in zip(stack, layers, output.attentions, strict=True):
            _add_attention(layer, attention, batch_mask[-1])
            for total, parameter in zip(layer.mean_gradient, module.parameters(), strict=True):
                if parameter.grad is None:  # a parameter that this configuration does not use
                    continue
                if not ruled:
                    layer.squared_gradient += float(parameter.grad.to(wide).square().sum())
                # Summed in the wide type: bfloat16 sums would lose the small batches.
                total.add_(parameter.grad, alpha=1 / len(data))
                parameter.grad = None
    for layer in layers:
        layer.samples = len(data)
        layer.tokens = int(data.attention_mask.sum())
        layer.labels = data.labels.numpy()
        layer.predictions = torch.cat(predictions).numpy()
    measures = SIGNALS if measures is None else measures
    rows = [{slug: s.compute(layer) for slug, s in measures.items()} for layer in layers]
    return pd.DataFrame(rows).rename_axis("layer")
