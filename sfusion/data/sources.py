"""Where a task is read from: an embedded corpus, a folder or the Hub."""

import functools
from pathlib import Path

from sfusion.data import corpora
from sfusion.data.files import _load
from sfusion.data.hub import _hub
from sfusion.data.pools import _pooled, _rows
from sfusion.data.splits import (
    CORPUS_TEST_SHARE,
    SPLITS,
    VALIDATION_SHARE,
    Pool,
    _held_out,
)
from sfusion.errors import SfusionError


def _embedded(name):
    rest, test = _held_out(corpora.build(name), "source", CORPUS_TEST_SHARE, "test")
    names, source = (
        corpora.CORPORA[name].label_names,
        f"embedded: {corpora.versions(name)}",
    )
    return Pool(rest, test, "source", names, VALIDATION_SHARE, source)


def _folder(name, folder):
    where, splits = Path(folder, name), {}
    for split in SPLITS:
        file = where / f"{split}.parquet"
        if file.is_file():
            raw, *declared = _load(file, "label")
            splits[split] = [raw.iloc[_rows(len(raw))]], *declared
        elif split != "validation":
            raise SfusionError(
                f"no file {file}: a task folder holds train, validation and test.parquet"
            )
    return _pooled(splits, ("text",), "label", "folder", where)


@functools.lru_cache(maxsize=16)
def read_pool(spec, source, folder, stamp):
    """Read a task, once per process.

    Parameters
    ----------
    spec : TaskSpec
    source : {"embedded", "folder", "hub"}
    folder : str or None
        For ``"folder"``.
    stamp : tuple
        Times and sizes of the folder's files, so that new files are noticed.

    Returns
    -------
    Pool
    """
    if source == "folder":
        return _folder(spec.name, folder)
    return _embedded(spec.name) if source == "embedded" else _hub(spec)
