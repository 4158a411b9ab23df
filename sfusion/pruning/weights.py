"""The cache of trained weights: what training changed, filed beside the records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from safetensors.torch import load, save

from sfusion.models.architectures import embedding_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.nn import Parameter
    from transformers import PreTrainedModel

Spec = dict[str, Any]


class Store(Protocol):
    """What a pruning tree files its results in; see the record store of the studies."""

    def recorded(
        self, spec: Spec, compute: Callable[[], Any], clock: Callable[[], float]
    ) -> dict[str, Any]:
        """Return ``value`` and ``seconds``, computed unless it is filed."""

    def get_weights(self, spec: Spec) -> bytes | None:
        """Look weights up."""

    def put_weights(self, spec: Spec, content: bytes) -> None:
        """Cache weights."""

    def trim(self, last: Spec | None = None) -> None:
        """Cut the cache of weights to its limit; those of ``last`` go last."""


class WeightsCache:
    """Trained weights, by specification.

    Parameters
    ----------
    store : Store
    frozen_embeddings : bool
        Whether no training changes the embeddings: then they are left out.
    """

    def __init__(self, store: Store, frozen_embeddings: bool) -> None:
        self.store = store
        self.frozen_embeddings = frozen_embeddings

    def save(self, spec: Spec, model: PreTrainedModel) -> None:
        """Cache what training changed of a model.

        Parameters
        ----------
        spec : dict
        model : transformers.PreTrainedModel
        """
        tensors = {
            name: parameter.detach().cpu().contiguous()
            for name, parameter in self._trained(model)
        }
        self.store.put_weights(spec, save(tensors))

    def load(
        self, spec: Spec, pretrained: Callable[[], PreTrainedModel]
    ) -> PreTrainedModel | None:
        """Put cached weights into a copy of the pretrained model.

        Parameters
        ----------
        spec : dict
        pretrained : callable
            Makes the copy, without the layers that are gone.

        Returns
        -------
        transformers.PreTrainedModel or None
            None where there are no weights that fit: library versions may name
            parameters anew.
        """
        content = self.store.get_weights(spec)
        if content is None:
            return None
        model = pretrained()
        missing, unexpected = model.load_state_dict(load(content), strict=False)
        lacking = {name for name, _ in self._trained(model)} & set(missing)
        return None if unexpected or lacking else model

    def _trained(self, model: PreTrainedModel) -> Iterator[tuple[str, Parameter]]:
        """List the parameters that training changes, by name."""
        frozen: set[int] = set()
        if self.frozen_embeddings:
            frozen = {id(parameter) for parameter in embedding_parameters(model)}
        for name, parameter in model.named_parameters():
            if id(parameter) not in frozen:
                yield name, parameter
