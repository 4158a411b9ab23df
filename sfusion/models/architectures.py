"""Architectures: where each keeps its layers, embeddings and head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sfusion.errors import SfusionError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True)
class Architecture:
    """What the package needs to know of one architecture.

    Attributes
    ----------
    layers : str
        Dotted path of the ``nn.ModuleList`` of layers in the classifier.
    embeddings : tuple of str
        Paths of the modules below the layers, and of those that all layers read; those
        that a configuration leaves out are skipped.
    reads : {"first", "last"}
        Token that the head reads: the first, or the last real one.
    spare_positions : int or "padding"
        Rows of the position table that no token uses; or positions are counted from the
        row behind the padding token's.
    fixed : tuple of int
        Layers that must stay where they are.
    shared : bool
        Whether a layer may use a projection for two things at once, so that a sample's
        gradient does not follow from one input and one output.
    """

    layers: str
    embeddings: tuple[str, ...]
    reads: Literal["first", "last"] = "first"
    spare_positions: int | Literal["padding"] = 0
    fixed: tuple[int, ...] = ()
    shared: bool = False


_DECODER = Architecture("model.layers", ("model.embed_tokens",), reads="last")

ARCHITECTURES = {
    # model_type of the configuration: entry. The configuration's layer count is always
    # num_hidden_layers: where it has another name, transformers maps the one to the
    # other.
    "bert": Architecture("bert.encoder.layer", ("bert.embeddings",)),
    "distilbert": Architecture(
        "distilbert.transformer.layer", ("distilbert.embeddings",)
    ),
    "roberta": Architecture(
        "roberta.encoder.layer", ("roberta.embeddings",), spare_positions="padding"
    ),
    "xlm-roberta": Architecture(
        "roberta.encoder.layer", ("roberta.embeddings",), spare_positions="padding"
    ),
    "electra": Architecture(
        "electra.encoder.layer", ("electra.embeddings", "electra.embeddings_project")
    ),
    # The layers of these two share a table of relative positions; DeBERTa's keys and
    # queries of the contents may project it too. MPNet counts positions from 2,
    # whichever token pads.
    "mpnet": Architecture(
        "mpnet.encoder.layer",
        ("mpnet.embeddings", "mpnet.encoder.relative_attention_bias"),
        spare_positions=2,
    ),
    "deberta-v2": Architecture(
        "deberta.encoder.layer",
        ("deberta.embeddings", "deberta.encoder.rel_embeddings"),
        shared=True,
    ),
    # Layer 0 has no attention norm of its own, the embeddings' serves: no other can
    # take its place.
    "modernbert": Architecture("model.layers", ("model.embeddings",), fixed=(0,)),
    "gpt2": Architecture(
        "transformer.h", ("transformer.wte", "transformer.wpe"), reads="last"
    ),
    "llama": _DECODER,
    "qwen2": _DECODER,
}

# One layer's weights serve every layer: to leave layers out would save no memory.
SAME_WEIGHTS = ("albert",)


def architecture_of(config: PreTrainedConfig) -> Architecture:
    """Look an architecture up.

    Parameters
    ----------
    config : transformers.PreTrainedConfig

    Returns
    -------
    Architecture

    Raises
    ------
    SfusionError
        When ``ARCHITECTURES`` does not name it, or its layers have no weights of their
        own.
    """
    if config.model_type in SAME_WEIGHTS:
        raise SfusionError(
            f"architecture {config.model_type!r} uses the same weights in every layer, "
            "without a layer it would be as large: give a model whose layers have "
            "weights of their own"
        )
    if config.model_type not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise SfusionError(
            f"architecture {config.model_type!r} is not known ({known}): add the path "
            "of its layer list to ARCHITECTURES in sfusion/models/architectures.py"
        )
    return ARCHITECTURES[config.model_type]


def layer_stack(model: PreTrainedModel) -> nn.ModuleList:
    """Return the list of transformer layers of a classifier.

    Parameters
    ----------
    model : transformers.PreTrainedModel

    Returns
    -------
    torch.nn.ModuleList
        The model's own list, not a copy.

    Raises
    ------
    SfusionError
        For an architecture that ``ARCHITECTURES`` does not name.
    """
    return model.get_submodule(architecture_of(model.config).layers)


def embedding_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Return the parameters below the layers: token, position and segment embeddings.

    Parameters
    ----------
    model : transformers.PreTrainedModel

    Returns
    -------
    list of torch.nn.Parameter
    """
    modules = dict(model.named_modules())
    paths = architecture_of(model.config).embeddings
    parameters: list[nn.Parameter] = []
    for path in paths:
        if path in modules:
            parameters += modules[path].parameters()
    return parameters


def head_parameters(model: PreTrainedModel) -> list[nn.Parameter]:
    """Return the parameters above the layers: pooler, head, a decoder's last norm.

    Parameters
    ----------
    model : transformers.PreTrainedModel

    Returns
    -------
    list of torch.nn.Parameter
    """
    below = [*embedding_parameters(model), *layer_stack(model).parameters()]
    known = set(map(id, below))
    return [p for p in model.parameters() if id(p) not in known]


def token_limit(config: PreTrainedConfig) -> int | None:
    """Give the longest sequence that a model takes.

    Parameters
    ----------
    config : transformers.PreTrainedConfig

    Returns
    -------
    int or None
        Tokens; None where positions have no table and the configuration names no limit.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if not positions:
        return None
    spare = architecture_of(config).spare_positions
    if spare == "padding":
        spare = config.pad_token_id + 1
    return positions - spare
