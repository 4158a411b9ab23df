"""Files that are there whole or not at all, their stamps, and the folder of caches."""

import hashlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from sfusion.errors import SfusionError


def cache_folder() -> Path:
    """Name the folder of what is made or fetched once.

    Returns
    -------
    Path
        ``$SFUSION_CACHE``, by default ``sfusion`` in ``$XDG_CACHE_HOME`` or
        ``~/.cache``.
    """
    users = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("SFUSION_CACHE") or f"{users}/sfusion").expanduser()


def stamp_files(files: Iterable[Path]) -> tuple[tuple[Path, int, int], ...]:
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


def hash_file(file: Path) -> bytes:
    """Hash a file in pieces: it may be half a gigabyte.

    Parameters
    ----------
    file : Path

    Returns
    -------
    bytes
        SHA-256.
    """
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all.

    Parameters
    ----------
    file : Path
        Its folder is made when missing.
    content : bytes

    Raises
    ------
    SfusionError
        When the disk is full or the folder cannot be written.
    """
    partial = file.with_name(f".partial-{uuid.uuid4().hex}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Not by tempfile, whose files are their owner's alone: a result is for whom the
        # umask says.
        stream = open(partial, "xb")
    except OSError as error:
        raise SfusionError(
            f"cannot write {file}: {error.strerror}; choose another folder"
        ) from error
    try:
        with stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    except OSError as error:
        raise SfusionError(
            f"cannot write {file}: {error.strerror}; free some space"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
