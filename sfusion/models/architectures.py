"""Architectures: where each keeps its layers, embeddings and head."""

from dataclasses import dataclass

from sfusion.errors import SfusionError


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
    spare_positions : int
        Rows of the position table that no token uses.
    fixed : tuple of int
        Layers that must stay where they are.
    shared : bool
        Whether a layer may use a projection for two things at once, so that a sample's
        gradient does not follow from one input and one output.
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
    # num_hidden_layers: where it has another name, transformers maps the one to the
    # other.
    "bert": Architecture("bert.encoder.layer", ("bert.embeddings",)),
    "distilbert": Architecture(
        "distilbert.transformer.layer", ("distilbert.embeddings",)
    ),
    # Positions are counted from the padding token's number plus one.
    "roberta": Architecture(
        "roberta.encoder.layer", ("roberta.embeddings",), spare_positions=2
    ),
    "xlm-roberta": Architecture(
        "roberta.encoder.layer", ("roberta.embeddings",), spare_positions=2
    ),
    "electra": Architecture(
        "electra.encoder.layer", ("electra.embeddings", "electra.embeddings_project")
    ),
    # The layers of these two share a table of relative positions; DeBERTa's keys and
    # queries of the contents may project it too.
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
    below = {
        id(p) for p in (*embedding_parameters(model), *layer_stack(model).parameters())
    }
    return [p for p in model.parameters() if id(p) not in below]


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
