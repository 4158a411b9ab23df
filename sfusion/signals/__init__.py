"""The twelve signals: what each is of what one pass over the probe set collects for a layer.

The table is :data:`SIGNALS`. A signal is a function of :class:`LayerPass`, which
:mod:`sfusion.signals.extraction` fills; to add one, write that function under its line of
``@_signal``.

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
from scipy.special import digamma
from sklearn.decomposition import PCA

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
        Mean of A over the real tokens, a (B, H) array per batch.
    labels, predictions : ndarray
        Shape (N,), integers.
    squared_gradient : float
        Sum over samples of the squared norm of the per-sample gradient.
    mean_gradient : list of Tensor
        gbar, a tensor per parameter, in the parameters' order.
    parameters : list of Tensor
        theta, in the same order.
    largest_attention, attention_entropy : float
        Sums over queries and heads.
    cosine : float
        Sum over real tokens of the cosine between the layer's input and its output.
    angle : float
        Sum over samples of the angle between the two at the token that the head reads, in
        half-turns.
    loss_without : float
        Mean cross-entropy of the model that bridges the layer, in nats.
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
    loss_without: float = math.nan

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


SIGNALS = {}
# The measures by which other work ranks layers: how little a layer changes what passes through
# it. They are baselines beside the paper's twelve; of the fusions only that of all features
# reads them.
REDUNDANCY = {}


def _signal(title, group, unit, *, removed_first="lowest", table=SIGNALS):
    """Register the function below it: its docstring holds reading, formula and source, a paragraph each."""

    def register(compute):
        slug = title.lower().replace(" ", "-")
        reading, formula, source = (" ".join(part.split()) for part in compute.__doc__.split("\n\n"))
        table[slug] = Signal(slug, title, group, formula, unit, removed_first, reading, source, compute)
        return compute

    return register


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
    same = inverse[:, None] == inverse[None, :]
    counted = []
    for column in columns:  # one at a time: all pairs of all columns are too many to hold
        distance = np.abs(column[:, None] - column[None, :])
        # Position 0 of the sorted distances within a class is the sample itself.
        ranked = np.sort(np.where(same, distance, np.inf), axis=1)[:, : neighbours + 1]
        within = distance <= ranked[np.arange(len(near)), near][:, None]
        # Closed balls without the sample itself: copies of a text may lie at distance 0.
        counted.append([within.sum(1) - 1, (within & same).sum(1) - 1])
    # Laid out as the values are: sums of another order would round otherwise.
    everyone, alike = np.stack(counted, axis=2).transpose(0, 2, 1)
    constant = digamma(len(size)) - digamma(size).mean()
    return np.maximum(0.0, constant + (digamma(alike) - digamma(everyone)).mean(1))


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
    from torch.special import entr  # here, because a replay reads the table and needs no torch

    low, high = ENTROPY_RANGE
    counts = sum(w.clamp(low, high).histc(ENTROPY_BINS, low, high).double() for w in _matrices(layer))
    return float(entr(counts / counts.sum()).sum())


@_signal("Attention-Weight", "attention", "probability")
def _attention_weight(layer):
    """Selective attention: layers that single nothing out go first.

    mean over samples, heads and real queries of max(a)

    name from the paper's abstract; formula declared here
    """
    return layer.largest_attention / layer.queries


@_signal("Attention-Entropy", "attention", "share of the uniform entropy", removed_first="highest")
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

    Gromov et al. 2024, arXiv:2403.17887, eq. 6, blocks of one layer; theirs is the last token
    of a decoder, ours the one that the head reads (declared here)
    """
    return layer.angle / layer.samples


@_signal("Removal loss", "redundancy", "nats", table=REDUNDANCY)
def _removal_loss(layer):
    """What the response is worth when the layer is bridged, before anything is learned anew.

    (1/N) sum_b cross-entropy of the model whose layer returns its input

    Shortened LLaMA, Kim et al. 2024, arXiv:2402.02834: theirs is the perplexity of a decoder
    """
    return layer.loss_without


MEASURES = {**SIGNALS, **REDUNDANCY}
