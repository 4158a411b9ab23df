"""The twelve signals: what each is of what one pass over the probe set collects for a layer.

The table is :data:`SIGNALS`. A signal is a function of :class:`LayerPass`, which
:mod:`sfusion.signals.extraction` fills; to add one, write that function under its line
of ``@_signal``.

Notation of the formulas: A[b,t,h] is the layer's output hidden state; m[b,t] marks real
tokens ([CLS] and [SEP] among them, padding not); N samples, H hidden units; g_b is the
gradient of sample b's cross-entropy over all parameters theta of the layer, gbar their
mean over samples; W are the entries of the layer's weight matrices; a are attention
rows of real queries.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from sfusion.signals.information import mutual_information

ENTROPY_BINS = 512

ENTROPY_RANGE = (-1.0, 1.0)


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


SIGNALS = {}

# The measures by which other work ranks layers: how little a layer changes what passes
# through it. They are baselines beside the paper's twelve; of the fusions only that of
# all features reads them.
REDUNDANCY = {}


def _signal(title, group, unit, *, removed_first="lowest", table=SIGNALS):
    """Register the function below it: its docstring holds reading, formula and source, a paragraph each."""

    def register(compute):
        slug = title.lower().replace(" ", "-")
        reading, formula, source = (
            " ".join(part.split()) for part in compute.__doc__.split("\n\n")
        )
        table[slug] = Signal(
            slug, title, group, formula, unit, removed_first, reading, source, compute
        )
        return compute

    return register


def _information(layer, target):
    return float(mutual_information(layer.components, target).mean())


def _matrices(layer):
    return [p for p in layer.parameters if p.dim() == 2]


@_signal("Inhibition", "activation", "activation")
def _inhibition(layer):
    """Neurons held below their resting level say little: inhibited layers go first.

    sum(m A) / (H sum(m))

    name from a third-party summary; formula declared here
    """
    return layer.activation / (layer.units * layer.tokens)


@_signal("Intensity", "activation", "activation")
def _intensity(layer):
    """The firing rate of a layer: low-firing layers go first.

    sum_bt(m ||A[b,t]||) / sum(m)

    name from a third-party summary; formula declared here
    """
    return layer.norm / layer.tokens


@_signal("Energy", "activation", "activation^2")
def _energy(layer):
    """The metabolic cost of a response: layers that spend little go first.

    (1/N) sum_bt(m ||A[b,t]||^2)

    name from a third-party summary; formula declared here
    """
    return layer.energy / layer.samples


@_signal("Task-Relevance-MI", "mutual information", "nats per component")
def _task_relevance(layer):
    """How well a population's response separates the stimulus classes.

    mean_i I(PCA_i(pooled A); label), i = 1..8, nearest-neighbour estimate (k = 3)

    name from the paper's abstract; formula declared here
    """
    return _information(layer, layer.labels)


@_signal("Information-Flow-MI", "mutual information", "nats per component")
def _information_flow(layer):
    """How much of an area's response reaches the behaviour.

    mean_i I(PCA_i(pooled A); predicted label), same estimate

    declared here
    """
    return _information(layer, layer.predictions)


@_signal("Gradient-Norm", "gradient", "loss / weight")
def _gradient_norm(layer):
    """Plasticity: layers whose synapses the error no longer moves go first.

    ||gbar||

    name from a third-party summary; formula declared here
    """
    return math.hypot(*(float(g.norm()) for g in layer.mean_gradient))


@_signal("Gradient-Fisher", "gradient", "(loss / weight)^2")
def _gradient_fisher(layer):
    """Sensitivity of the response to each synapse, stimulus by stimulus.

    (1/N) sum_b ||g_b||^2, the trace of the empirical Fisher

    name from the paper's abstract; formula declared here
    """
    return layer.squared_gradient / layer.samples


@_signal("Gradient-Taylor", "gradient", "loss")
def _gradient_taylor(layer):
    """First-order estimate of what a lesion of the layer would cost.

    |sum_j gbar_j theta_j|

    Molchanov et al. 2017, summed over a layer; choice declared here
    """
    pairs = zip(layer.mean_gradient, layer.parameters, strict=True)
    return abs(sum(float(g.flatten().dot(p.flatten())) for g, p in pairs))


@_signal("Weight-Norm", "weight", "weight")
def _weight_norm(layer):
    """Synaptic strength: weakly wired layers go first.

    ||W|| / sqrt(count(W))

    name from a third-party summary; formula declared here
    """
    matrices = _matrices(layer)
    norm = math.hypot(*(float(w.norm()) for w in matrices))
    return norm / sum(w.numel() for w in matrices) ** 0.5


@_signal("Weight-Entropy", "weight", "nats")
def _weight_entropy(layer):
    """Diversity of synapses: layers wired uniformly go first.

    entropy of the histogram of W, 512 equal bins on [-1, 1], outer values clipped

    name from the paper's abstract; formula declared here
    """
    from torch.special import (
        entr,  # here, because a replay reads the table and needs no torch
    )

    low, high = ENTROPY_RANGE
    counts = sum(
        w.clamp(low, high).histc(ENTROPY_BINS, low, high).double()
        for w in _matrices(layer)
    )
    return float(entr(counts / counts.sum()).sum())


@_signal("Attention-Weight", "attention", "probability")
def _attention_weight(layer):
    """Selective attention: layers that single nothing out go first.

    mean over samples, heads and real queries of max(a)

    name from the paper's abstract; formula declared here
    """
    return layer.largest_attention / layer.queries


@_signal(
    "Attention-Entropy",
    "attention",
    "share of the uniform entropy",
    removed_first="highest",
)
def _attention_entropy(layer):
    """Diffuse attention: layers that look everywhere alike go first.

    mean over the same of entropy(a) / log(number of real keys)

    name from a third-party summary; formula declared here
    """
    return layer.attention_entropy / layer.queries


@_signal("Block Influence", "redundancy", "1 - cosine", table=REDUNDANCY)
def _block_influence(layer):
    """A relay that passes on what it receives can be bridged.

    1 - sum_bt(m cos(input[b,t], A[b,t])) / sum(m)

    ShortGPT, Men et al. 2024, arXiv:2403.03853, eq. 1
    """
    return 1 - layer.cosine / layer.tokens


@_signal("Angular distance", "redundancy", "half-turns", table=REDUNDANCY)
def _angular_distance(layer):
    """The same, at the one neuron pool that the read-out listens to.

    (1/N) sum_b arccos(cos(input[b,c], A[b,c])) / pi, c the token that the head reads

    Gromov et al. 2024, arXiv:2403.17887, eq. 6, blocks of one layer; theirs is the last
    token of a decoder, ours the one that the head reads (declared here)
    """
    return layer.angle / layer.samples


@_signal("Removal loss", "redundancy", "nats", table=REDUNDANCY)
def _removal_loss(layer):
    """What the response is worth when the layer is bridged, before anything is learned anew.

    (1/N) sum_b cross-entropy of the model whose layer returns its input

    Shortened LLaMA, Kim et al. 2024, arXiv:2402.02834: theirs is the perplexity of a
    decoder
    """
    return layer.loss_without


MEASURES = {**SIGNALS, **REDUNDANCY}
