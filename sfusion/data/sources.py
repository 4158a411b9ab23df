"""Where a task is read from: an embedded corpus, a folder or the Hub."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sfusion.data import corpora
from sfusion.data.files import Table, read_table
from sfusion.data.hub import read_hub
from sfusion.data.pools import TaskSpec, pool_splits, row_numbers
from sfusion.data.splits import (
    CORPUS_TEST_SHARE,
    SPLITS,
    VALIDATION_SHARE,
    Pool,
    part_off,
)
from sfusion.errors import SfusionError


@dataclass(frozen=True)
class Origin:
    """Where a task is read from.

    Attributes
    ----------
    kind : {"embedded", "folder", "hub"}
    folder : Path or None
        The task's own, for ``"folder"``.
    stamps : tuple
        Times and sizes of the folder's files, so that new files are noticed.
    """

    kind: Literal["embedded", "folder", "hub"]
    folder: Path | None = None
    stamps: tuple = ()


@functools.lru_cache(maxsize=16)
def read_pool(spec: TaskSpec, origin: Origin) -> Pool:
    """Read a task, once per process.

    Parameters
    ----------
    spec : TaskSpec
    origin : Origin

    Returns
    -------
    Pool

    Raises
    ------
    SfusionError
        When it cannot be read.
    """
    if origin.folder is not None:
        return _read_folder(origin.folder)
    if origin.kind == "embedded":
        return _read_corpus(spec.name)
    return read_hub(spec)


def _read_corpus(name: str) -> Pool:
    texts = corpora.build(name)
    rest, test = part_off(texts, "source", CORPUS_TEST_SHARE, "test")
    return Pool(
        rest,
        test,
        group="source",
        label_names=corpora.CORPORA[name].label_names,
        validation_share=VALIDATION_SHARE,
        source=f"embedded: {corpora.versions(name)}",
    )


def _read_folder(folder: Path) -> Pool:
    splits = {}
    for split in SPLITS:
        file = folder / f"{split}.parquet"
        if file.is_file():
            table = read_table(file, "label")
            drawn = table.frame.iloc[row_numbers(len(table.frame))]
            splits[split] = [Table(drawn, table.names, table.where)]
        elif split != "validation":
            raise SfusionError(
                f"no file {file}: a task folder holds train, validation and "
                "test.parquet"
            )
    return pool_splits(splits, ("text",), "label", "folder", folder)
