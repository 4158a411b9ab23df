"""Architectures: where each keeps its layers, and in what they differ. One entry each."""

from dataclasses import dataclass

from sfusion import SfusionError


@dataclass(frozen=True)
class Architecture:
    """What the rest of the package needs to know of one architecture.

    Attributes
    ----------
    layers : str
        Dotted path of the ``nn.ModuleList`` of layers in the classifier.
    embeddings : tuple of str
        Paths of the modules below the layers; those that a configuration leaves out are skipped.
    reads : {"first", "last"}
        Token that the head reads: the first, or the last real one.
    spare_positions : int
        Rows of the position table that no token uses.
    fixed : tuple of int
        Layers that must stay where they are.
    per_layer : tuple of str
        Fields of the configuration that hold one entry a layer.
    shared : bool
        Whether a layer may use a projection for two things at once, so that a sample's gradient
        is no longer told from one input and one output.
    """

    layers: str
    embeddings: tuple[str, ...]
    reads: str = "first"
    spare_positions: int = 0
    fixed: tuple[int, ...] = ()
    per_layer: tuple[str, ...] = ()
    shared: bool = False


_DECODER = Architecture(
    "model.layers", ("model.embed_tokens",), reads="last", per_layer=("layer_types",)
)

ARCHITECTURES = {
    # model_type of the configuration: entry. The configuration's layer count is always
    # num_hidden_layers: where it has another name, transformers maps the one to the other.
    "bert": Architecture("bert.encoder.layer", ("bert.embeddings",)),
    "distilbert": Architecture("distilbert.transformer.layer", ("distilbert.embeddings",)),
    # Positions are counted from the padding token's number plus one.
    "roberta": Architecture("roberta.encoder.layer", ("roberta.embeddings",), spare_positions=2),
    "xlm-roberta": Architecture(
        "roberta.encoder.layer", ("roberta.embeddings",), spare_positions=2
    ),
    "electra": Architecture(
        "electra.encoder.layer", ("electra.embeddings", "electra.embeddings_project")
    ),
    "mpnet": Architecture("mpnet.encoder.layer", ("mpnet.embeddings",), spare_positions=2),
    # Keys and queries of the contents may project the relative positions too.
    "deberta-v2": Architecture("deberta.encoder.layer", ("deberta.embeddings",), shared=True),
    # Layer 0 has no attention norm of its own, the embeddings' serves: no other can take its place.
    "modernbert": Architecture(
        "model.layers", ("model.embeddings",), fixed=(0,), per_layer=("layer_types",)
    ),
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
            "the path of its layer list to ARCHITECTURES in sfusion/architectures.py"
        )
    return ARCHITECTURES[config.model_type]
