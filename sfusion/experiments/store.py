"""The record store: what each run found, filed under everything that decided it."""

import contextlib
import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sfusion.disk import write_atomically
from sfusion.errors import SfusionError

Spec = dict[str, Any]  # everything that decided a result, as plain JSON values


def content_key(spec: Any) -> str:
    """Hash a specification.

    Parameters
    ----------
    spec
        Plain JSON values.

    Returns
    -------
    str
        SHA-256 of its canonical JSON, hexadecimal.
    """
    text = json.dumps(spec, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _weights_gb() -> float:
    text = os.environ.get("SFUSION_WEIGHTS_GB", "12")
    try:
        return float(text)
    except ValueError:
        raise SfusionError(
            f"SFUSION_WEIGHTS_GB={text!r}: give a number of GB"
        ) from None


class RecordStore:
    """Records in a folder, one JSON file each; safe under several processes.

    A record is written once, atomically, and carries a checksum. Processes that compute
    the same record write the same numbers (all but the times), so there is nothing to
    lock. Weights that were trained on the way lie beside the records, a cache that may
    be emptied at any time.

    Parameters
    ----------
    folder : Path
        Made when missing.
    weights_gb : float, optional
        Size to which :meth:`trim` cuts the cache of weights, in GB (10^9 bytes); by
        default ``SFUSION_WEIGHTS_GB``, or 12: a study of three small tasks fills 10.
    """

    def __init__(self, folder: str | Path, weights_gb: float | None = None) -> None:
        self.folder = Path(folder)
        self.weights_gb = _weights_gb() if weights_gb is None else weights_gb

    def _file(self, key: str) -> Path:
        return self.folder / "records" / key[:2] / f"{key}.json"

    def get(self, spec: Spec) -> dict[str, Any] | None:
        """Look a record up.

        Parameters
        ----------
        spec : dict

        Returns
        -------
        dict or None
            The result; None when there is no record, or it was damaged: then it is
            named in a warning, set aside in ``damaged/``, and left to be computed
            again.
        """
        file = self._file(content_key(spec))
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SfusionError(
                f"cannot read record {file}: {error.strerror}"
            ) from error
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(content)
            if record["spec"] == spec and record["sha256"] == content_key(
                [spec, record["result"]]
            ):
                return record["result"]
        self._set_aside(file, "record")
        return None

    def _set_aside(self, file: Path, what: str) -> None:
        aside = self.folder / "damaged" / file.name
        try:
            aside.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, aside)
        except FileNotFoundError:
            return  # another process set it aside first
        except OSError as error:
            raise SfusionError(
                f"{what} {file} is damaged: {error.strerror}; remove it"
            ) from error
        # The caller of the method that found it.
        warnings.warn(
            f"{what} {file} is damaged: set aside, computing it again", stacklevel=3
        )

    def put(self, spec: Spec, result: dict[str, Any]) -> None:
        """File a result.

        Parameters
        ----------
        spec, result : dict
            Plain JSON values; numbers must be finite.
        """
        record = {"spec": spec, "result": result, "sha256": content_key([spec, result])}
        content = json.dumps(record, sort_keys=True, allow_nan=False, indent=1)
        write_atomically(self._file(content_key(spec)), content.encode())

    def recorded(
        self,
        spec: Spec,
        compute: Callable[[], Any],
        clock: Callable[[], float] = time.process_time,
    ) -> dict[str, Any]:
        """Return a result and the seconds it took, computed unless it is filed.

        Parameters
        ----------
        spec : dict
            Everything that decides the result.
        compute : callable
            Returns plain JSON values.
        clock : callable
            By default the processor's time, which other work on the machine does not
            lengthen.

        Returns
        -------
        dict
            ``value`` and ``seconds``.
        """
        record = self.get(spec)
        if record is None:
            start = clock()
            value = compute()
            record = {"value": value, "seconds": clock() - start}
            self.put(spec, record)
        return record

    def get_weights(self, spec: Spec) -> bytes | None:
        """Look cached weights up.

        Parameters
        ----------
        spec : dict

        Returns
        -------
        bytes or None
            As they were put; None when they are not there, or were damaged: see
            :meth:`get`.
        """
        for file in (self.folder / "weights").glob(f"{content_key(spec)}-*"):
            try:
                content = file.read_bytes()
            except FileNotFoundError:
                continue  # trimmed by a process beside this one
            except OSError as error:
                raise SfusionError(
                    f"cannot read weights {file}: {error.strerror}"
                ) from error
            if file.stem.endswith(hashlib.sha256(content).hexdigest()):
                with contextlib.suppress(OSError):
                    os.utime(file)  # the cache drops what was used longest ago
                return content
            self._set_aside(file, "weights file")
        return None

    def put_weights(self, spec: Spec, content: bytes) -> None:
        """Cache weights under a name that ends in their checksum.

        Parameters
        ----------
        spec : dict
        content : bytes
            In the safetensors format.
        """
        name = f"{content_key(spec)}-{hashlib.sha256(content).hexdigest()}.safetensors"
        write_atomically(self.folder / "weights" / name, content)

    def trim(self, last: Spec | None = None) -> None:
        """Remove the cached weights that were used longest ago until the rest fit.

        Parameters
        ----------
        last : dict, optional
            Specification of weights that go after all others.
        """
        spared = content_key(last)  # of none, a key that no file has
        cached = []
        # Not what another process is just writing, which has another name.
        for file in (self.folder / "weights").glob("*.safetensors"):
            with contextlib.suppress(FileNotFoundError):  # another one trims, too
                stat = file.stat()
                goes_last = file.name.startswith(spared)
                cached.append((goes_last, stat.st_mtime, stat.st_size, file))
        total = sum(size for *_, size, _ in cached)
        for *_, size, file in sorted(cached):
            if total <= self.weights_gb * 1e9:
                return
            file.unlink(missing_ok=True)
            total -= size
