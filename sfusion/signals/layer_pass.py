"""What one pass over the probe set collects for a layer."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.decomposition import PCA
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

MI_COMPONENTS = 8


@dataclass
class ProbeBatch:
    """Which tokens of the batch on its way are real, and which the head reads.

    Attributes
    ----------
    reads : {"first", "last"}
        Token that the head reads: the first, or the last real one.
    mask : Tensor of shape (B, T)
        1 for real tokens, 0 for padding, in the type of the statistics.
    head_token : Tensor of shape (B, 1)
        Position of the token that the head reads.
    """

    reads: str
    mask: Tensor | None = None
    head_token: Tensor | None = None

    def enter(self, mask: Tensor) -> None:
        """Let the next batch follow, with its mask."""
        self.mask = mask
        positions = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        # The last real token, wherever the padding is; or the first.
        last = (mask * positions).argmax(1, keepdim=True)
        self.head_token = last if self.reads == "last" else torch.zeros_like(last)


@dataclass
class LayerPass:
    """What one pass collects for one layer; sums are over the probe set.

    Attributes
    ----------
    samples, tokens, queries : int
        Samples, real tokens, and real queries times heads.
    labels, predictions : ndarray of shape (N,)
        Integers.
    parameters : list of Tensor
        theta, in the type of the statistics.
    units : int
        Hidden units H.
    activation, norm, energy : float
        Sums of A, of the tokens' L2 norms, and of their squares.
    pooled : list of ndarray
        Mean of A over the real tokens, a (B, H) array per batch.
    squared_gradient : float
        Sum over samples of the squared norm of the per-sample gradient.
    mean_gradient : list of Tensor
        gbar, a tensor per parameter, in the parameters' order.
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

    samples: int
    tokens: int
    labels: np.ndarray
    parameters: list[Tensor]
    queries: int = 0
    units: int = 0
    activation: float = 0.0
    norm: float = 0.0
    energy: float = 0.0
    squared_gradient: float = 0.0
    largest_attention: float = 0.0
    attention_entropy: float = 0.0
    cosine: float = 0.0
    angle: float = 0.0
    loss_without: float = math.nan
    pooled: list[np.ndarray] = field(default_factory=list)
    mean_gradient: list[Tensor] = field(init=False)
    predictions: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.mean_gradient = [torch.zeros_like(p) for p in self.parameters]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the statistics."""
        return self.parameters[0].dtype

    @property
    def matrices(self) -> list[Tensor]:
        """W, the weight matrices among the parameters."""
        return [p for p in self.parameters if p.dim() == 2]

    @functools.cached_property
    def components(self) -> np.ndarray:
        """Leading principal components of the pooled output, an (N, at most 8) array.

        Raw units are too many for the estimator; the components hold most of their
        variance.
        """
        pooled = np.concatenate(self.pooled).astype(np.float64)
        count = min(MI_COMPONENTS, len(pooled) - 1, pooled.shape[1])
        return PCA(count, svd_solver="full").fit_transform(pooled)

    def add_output(self, output: Tensor, mask: Tensor) -> None:
        """Add a batch's output.

        Parameters
        ----------
        output : Tensor of shape (B, T, H)
        mask : Tensor of shape (B, T)
        """
        real = output * mask.unsqueeze(-1)
        squares = real.square().sum(-1)
        self.units = output.shape[-1]
        self.activation += float(real.double().sum())
        self.norm += float(squares.sqrt().double().sum())
        self.energy += float(squares.double().sum())
        pooled = real.sum(1) / mask.sum(1, keepdim=True)
        self.pooled.append(pooled.cpu().numpy())

    def add_change(self, inputs: Tensor, output: Tensor, batch: ProbeBatch) -> None:
        """Add the angles between a batch's input and output.

        Parameters
        ----------
        inputs, output : Tensor of shape (B, T, H)
        batch : ProbeBatch
        """
        cosine = functional.cosine_similarity(inputs, output, dim=-1)
        self.cosine += float((cosine * batch.mask).double().sum())
        read = cosine.gather(1, batch.head_token)[:, 0]
        self.angle += float(read.double().clamp(-1, 1).arccos().sum()) / math.pi

    def add_attention(self, attention: Tensor, mask: Tensor) -> None:
        """Add a batch's attention weights.

        Parameters
        ----------
        attention : Tensor of shape (B, heads, T, T)
        mask : Tensor of shape (B, T)
        """
        real_queries = mask.unsqueeze(1)  # (B, 1, T): the same for every head
        largest = attention.amax(-1) * real_queries
        # A lone token attends to itself alone: entropy 0, over log 2 rather than log 1.
        log_keys = mask.sum(-1).clamp(min=2).log()[:, None, None]
        # A weight of exactly 0 (padding) adds 0; the clamp is far below any other.
        tiny = torch.finfo(mask.dtype).tiny
        products = attention * attention.clamp(min=tiny).log()
        entropy = -products.sum(-1) * real_queries / log_keys
        self.largest_attention += float(largest.double().sum())
        self.attention_entropy += float(entropy.double().sum())
        self.queries += int(mask.sum()) * attention.shape[1]
