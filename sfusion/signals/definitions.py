"""The twelve signals, each a function of what one pass collects for a layer.

:mod:`sfusion.signals.extraction` fills a :class:`LayerPass` for every layer. To add a
signal, write a function of it under a line of ``@signal``.

Notation of the formulas: A[b,t,h] is the layer's output hidden state; m[b,t] marks real
tokens ([CLS] and [SEP] among them, padding not); N samples, H hidden units; g_b is the
gradient of sample b's cross-entropy over all parameters theta of the layer, gbar their
mean over samples; W are the entries of the layer's weight matrices; a are attention
rows of real queries.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sfusion.signals.information import mutual_information
from sfusion.signals.registry import REDUNDANCY, SIGNALS, signal

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from sfusion.signals.layer_pass import LayerPass

ENTROPY_BINS = 512
ENTROPY_RANGE = (-1.0, 1.0)


def _information(layer: LayerPass, target: np.ndarray) -> float:
    return float(mutual_information(layer.components, target).mean())


def _norm(tensors: list[Tensor]) -> float:
    return math.hypot(*(float(tensor.norm()) for tensor in tensors))


def _histogram(matrix: Tensor) -> Tensor:
    """Count entries as ``torch.histc`` does, in a third of its time.

    An entry of the upper end belongs to the last bin.
    """
    low, high = ENTROPY_RANGE
    scaled = matrix.clamp(low, high).sub_(low).mul_(ENTROPY_BINS / (high - low))
    counts = scaled.int().flatten().bincount(minlength=ENTROPY_BINS + 1).double()
    counts[-2] += counts[-1]
    return counts[:-1]


@signal("Inhibition", "activation", "activation")
def _inhibition(layer: LayerPass) -> float:
    """Neurons held below their resting level say little: inhibited layers go first.

    sum(m A) / (H sum(m))

    name from a third-party summary; formula declared here
    """
    return layer.activation / (layer.units * layer.tokens)


@signal("Intensity", "activation", "activation")
def _intensity(layer: LayerPass) -> float:
    """The firing rate of a layer: low-firing layers go first.

    sum_bt(m ||A[b,t]||) / sum(m)

    name from a third-party summary; formula declared here
    """
    return layer.norm / layer.tokens


@signal("Energy", "activation", "activation^2")
def _energy(layer: LayerPass) -> float:
    """The metabolic cost of a response: layers that spend little go first.

    (1/N) sum_bt(m ||A[b,t]||^2)

    name from a third-party summary; formula declared here
    """
    return layer.energy / layer.samples


@signal("Task-Relevance-MI", "mutual information", "nats per component")
def _task_relevance(layer: LayerPass) -> float:
    """How well a population's response separates the stimulus classes.

    mean_i I(PCA_i(pooled A); label), i = 1..8, nearest-neighbour estimate (k = 3)

    name from the paper's abstract; formula declared here
    """
    return _information(layer, layer.labels)


@signal("Information-Flow-MI", "mutual information", "nats per component")
def _information_flow(layer: LayerPass) -> float:
    """How much of an area's response reaches the behaviour.

    mean_i I(PCA_i(pooled A); predicted label), same estimate

    declared here
    """
    return _information(layer, layer.predictions)


@signal("Gradient-Norm", "gradient", "loss / weight")
def _gradient_norm(layer: LayerPass) -> float:
    """Plasticity: layers whose synapses the error no longer moves go first.

    ||gbar||

    name from a third-party summary; formula declared here
    """
    return _norm(layer.mean_gradient)


@signal("Gradient-Fisher", "gradient", "(loss / weight)^2")
def _gradient_fisher(layer: LayerPass) -> float:
    """Sensitivity of the response to each synapse, stimulus by stimulus.

    (1/N) sum_b ||g_b||^2, the trace of the empirical Fisher

    name from the paper's abstract; formula declared here
    """
    return layer.squared_gradient / layer.samples


@signal("Gradient-Taylor", "gradient", "loss")
def _gradient_taylor(layer: LayerPass) -> float:
    """First-order estimate of what a lesion of the layer would cost.

    |sum_j gbar_j theta_j|

    Molchanov et al. 2017, summed over a layer; choice declared here
    """
    pairs = zip(layer.mean_gradient, layer.parameters, strict=True)
    products = [float(gradient.flatten().dot(p.flatten())) for gradient, p in pairs]
    return abs(sum(products))


@signal("Weight-Norm", "weight", "weight")
def _weight_norm(layer: LayerPass) -> float:
    """Synaptic strength: weakly wired layers go first.

    ||W|| / sqrt(count(W))

    name from a third-party summary; formula declared here
    """
    count = sum(matrix.numel() for matrix in layer.matrices)
    return _norm(layer.matrices) / count**0.5


@signal("Weight-Entropy", "weight", "nats")
def _weight_entropy(layer: LayerPass) -> float:
    """Diversity of synapses: layers wired uniformly go first.

    entropy of the histogram of W, 512 equal bins on [-1, 1], outer values clipped

    name from the paper's abstract; formula declared here
    """
    from torch.special import entr  # a replay reads the table and needs no torch

    counts = sum(_histogram(matrix) for matrix in layer.matrices)
    return float(entr(counts / counts.sum()).sum())


@signal("Attention-Weight", "attention", "probability")
def _attention_weight(layer: LayerPass) -> float:
    """Selective attention: layers that single nothing out go first.

    mean over samples, heads and real queries of max(a)

    name from the paper's abstract; formula declared here
    """
    return layer.largest_attention / layer.queries


@signal(
    "Attention-Entropy",
    "attention",
    "share of the uniform entropy",
    removed_first="highest",
)
def _attention_entropy(layer: LayerPass) -> float:
    """Diffuse attention: layers that look everywhere alike go first.

    mean over the same of entropy(a) / log(number of real keys)

    name from a third-party summary; formula declared here
    """
    return layer.attention_entropy / layer.queries


@signal("Block Influence", "redundancy", "1 - cosine")
def _block_influence(layer: LayerPass) -> float:
    """A relay that passes on what it receives can be bridged.

    1 - sum_bt(m cos(input[b,t], A[b,t])) / sum(m)

    ShortGPT, Men et al. 2024, arXiv:2403.03853, eq. 1
    """
    return 1 - layer.cosine / layer.tokens


@signal("Angular distance", "redundancy", "half-turns")
def _angular_distance(layer: LayerPass) -> float:
    """The same, at the one neuron pool that the read-out listens to.

    (1/N) sum_b arccos(cos(input[b,c], A[b,c])) / pi, c the token that the head reads

    Gromov et al. 2024, arXiv:2403.17887, eq. 6, blocks of one layer; theirs is the last
    token of a decoder, ours the one that the head reads (declared here)
    """
    return layer.angle / layer.samples


@signal("Removal loss", "redundancy", "nats")
def _removal_loss(layer: LayerPass) -> float:
    """What the response is worth when the layer is bridged, before learning goes on.

    (1/N) sum_b cross-entropy of the model whose layer returns its input

    Shortened LLaMA, Kim et al. 2024, arXiv:2402.02834: theirs is the perplexity of a
    decoder
    """
    return layer.loss_without


MEASURES = {**SIGNALS, **REDUNDANCY}
