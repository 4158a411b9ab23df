"""What one pass over the probe set collects for a layer."""

import functools
import math
from dataclasses import dataclass, field

import numpy as np
from sklearn.decomposition import PCA

MI_COMPONENTS = 8


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
        Sum over samples of the angle between the two at the token that the head reads,
        in half-turns.
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

        Raw units are too many for the estimator; the components hold most of their
        variance.
        """
        pooled = np.concatenate(self.pooled).astype(np.float64)
        count = min(MI_COMPONENTS, len(pooled) - 1, pooled.shape[1])
        return PCA(count, svd_solver="full").fit_transform(pooled)
