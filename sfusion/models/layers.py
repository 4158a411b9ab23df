"""Layers: where each architecture keeps them, removing them, and what is left counted."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from sfusion import SfusionError

# The form of these models' layers that `size` counts in closed form.
CLOSED_FORM = ("bert", "roberta", "xlm-roberta")


@dataclass(frozen=True)
class Architecture:
    """What the package needs to know of one architecture.

    Attributes
    ----------
    layers : str
        Dotted path of the ``nn.ModuleList`` of layers in the classifier.
    embeddings : tuple of str
        Paths of the modules below the layers, and of those that all layers read; those that a
        configuration leaves out are skipped.
    reads : {"first", "last"}
        Token that the head reads: the first, or the last real one.
    spare_positions : int
        Rows of the position table that no token uses.
    fixed : tuple of int
        Layers that must stay where they are.
    shared : bool
        Whether a layer may use a projection for two things at once, so that a sample's gradient
        does not follow from one input and one output.
    """

    layers: str
    embeddings: tuple[str, ...]
    reads: str = "first"
    spare_positions: int = 0
    fixed: tuple[int, ...] = ()
    shared: bool = False


_DECODER = Architecture("model.layers", ("model.embed_tokens",), reads="last")

ARCHITECTURES = {
    # model_type of the configuration: entry. The configuration's layer count is always
    # num_hidden_layers: where it has another name, transformers maps the one to the other.
    "bert": Architecture("bert.encoder.layer", ("bert.embeddings",)),
    "distilbert": Architecture("distilbert.transformer.layer", ("distilbert.embeddings",)),
    # Positions are counted from the padding token's number plus one.
    "roberta": Architecture("roberta.encoder.layer", ("roberta.embeddings",), spare_positions=2),
    "xlm-roberta": Architecture("roberta.encoder.layer", ("roberta.embeddings",), spare_positions=2),
    "electra": Architecture("electra.encoder.layer", ("electra.embeddings", "electra.embeddings_project")),
    # The layers of these two share a table of relative positions; DeBERTa's keys and queries of the
    # contents may project it too.
    "mpnet": Architecture(
        "mpnet.encoder.layer", ("mpnet.embeddings", "mpnet.encoder.relative_attention_bias"), spare_positions=2
    ),
    "deberta-v2": Architecture(
        "deberta.encoder.layer", ("deberta.embeddings", "deberta.encoder.rel_embeddings"), shared=True
    ),
    # Layer 0 has no attention norm of its own, the embeddings' serves: no other can take its place.
    "modernbert": Architecture("model.layers", ("model.embeddings",), fixed=(0,)),
    "gpt2": Architecture("transformer.h", ("transformer.wte", "transformer.wpe"), reads="last"),
    "llama": _DECODER,
    "qwen2": _DECODER,
}


def architecture_of(config):
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
        When ``ARCHITECTURES`` does not name it.
    """
    if config.model_type not in ARCHITECTURES:
        raise SfusionError(
            f"architecture {config.model_type!r} is not known ({', '.join(ARCHITECTURES)}): add "
            "the path of its layer list to ARCHITECTURES in sfusion/models/layers.py"
        )
    return ARCHITECTURES[config.model_type]


def layer_stack(model):
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


def embedding_parameters(model):
    """Return the parameters below the layer stack: token, position and segment embeddings.

    Parameters
    ----------
    model : transformers.PreTrainedModel

    Returns
    -------
    list of torch.nn.Parameter
    """
    modules = dict(model.named_modules())
    paths = architecture_of(model.config).embeddings
    return [p for path in paths if path in modules for p in modules[path].parameters()]


def head_parameters(model):
    """Return the parameters above the layer stack: pooler, classifier, a decoder's last norm.

    Parameters
    ----------
    model : transformers.PreTrainedModel

    Returns
    -------
    list of torch.nn.Parameter
    """
    below = {id(p) for p in (*embedding_parameters(model), *layer_stack(model).parameters())}
    return [p for p in model.parameters() if id(p) not in below]


def copy_model(model, dtype):
    """Copy a model with its parameters in a given type.

    A copy in the model's own type on the way, as ``deepcopy(model).to(dtype)`` makes it, would
    cost more than the conversion.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    dtype : torch.dtype

    Returns
    -------
    transformers.PreTrainedModel
    """
    copies = {id(p): nn.Parameter(p.detach().to(dtype, copy=True), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, copies)


def remove_layers(model, layers):
    """Copy a model without some of its layers.

    The configuration's layer count follows: a model saved with the old count would reload as a
    full model with randomly drawn layers, without a word.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Left as it is.
    layers : iterable of int
        Positions in the present stack, counted from 0 at the embeddings.

    Returns
    -------
    transformers.PreTrainedModel
        A new model in evaluation mode.

    Raises
    ------
    SfusionError
        When a position does not exist or must stay, or no layer would be left.
    """
    depth, architecture = len(layer_stack(model)), architecture_of(model.config)
    gone = sorted(set(layers))
    if any(not 0 <= layer < depth for layer in gone):
        raise SfusionError(f"cannot remove layers {gone}: the model has layers 0 to {depth - 1}")
    if len(gone) == depth:
        raise SfusionError(f"cannot remove all {depth} layers: keep at least one")
    if fixed := sorted(set(gone) & set(architecture.fixed)):
        raise SfusionError(f"cannot remove layer {fixed[0]} of a {model.config.model_type}: it is built otherwise")
    # Placeholders in the copy's memory keep the layers that go from being copied at all.
    model = copy.deepcopy(model, {id(layer_stack(model)[i]): nn.Identity() for i in gone})
    kept = nn.ModuleList(m for i, m in enumerate(layer_stack(model)) if i not in gone)
    for position, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position
    model.set_submodule(architecture.layers, kept)
    if kinds := getattr(model.config, "layer_types", None):
        model.config.layer_types = [kind for i, kind in enumerate(kinds) if i not in gone]
    model.config.num_hidden_layers = len(kept)
    return model.eval()


def size(model, max_length):
    """Count what a model costs.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    max_length : int
        Tokens per sequence.

    Returns
    -------
    dict
        ``layers``; ``parameters`` and ``encoder_parameters`` (counts); ``flops`` of the forward
        pass over one sequence, a multiply-add counted as two: of the matrix products alone, in
        closed form for BERT and its like (declared here), else as ``torch.utils.flop_counter``
        counts them.
    """
    layers, closed = layer_stack(model), model.config.model_type in CLOSED_FORM
    return {
        "layers": len(layers),
        "parameters": sum(p.numel() for p in model.parameters()),
        "encoder_parameters": sum(p.numel() for p in layers.parameters()),
        "flops": (_flops if closed else _counted_flops)(model, max_length),
    }


def _flops(model, tokens):
    hidden, wide = model.config.hidden_size, model.config.intermediate_size
    # Projections, attention, feed-forward.
    layer = 8 * tokens * hidden**2 + 4 * tokens**2 * hidden + 4 * tokens * hidden * wide
    return len(layer_stack(model)) * layer + 2 * hidden**2 + 2 * hidden * model.config.num_labels


def _counted_flops(model, tokens):
    ids = torch.ones(1, tokens, dtype=torch.long, device=model.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops()


def token_limit(config):
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
    return positions and positions - architecture_of(config).spare_positions
