"""Datasets from the Hub."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import huggingface_hub

from sfusion.data.files import Table
from sfusion.data.pools import ASK_FOLDER, TaskSpec, pool_splits, row_numbers
from sfusion.data.splits import SPLITS, Pool
from sfusion.errors import one_line

if TYPE_CHECKING:
    import datasets

# The Hub's own conversion, for sets made with loading scripts.
CONVERTED = "refs/convert/parquet"

HUB_TIMEOUT = 5  # seconds; an offline machine must say so at once

BATCH = 1000  # rows


@functools.cache
def resolve_revision(repo: str, revision: str | None) -> str:
    """Resolve a branch once per process: one that moves changes no result midway.

    Parameters
    ----------
    repo : str
    revision : str or None
        A branch, by default the main one.

    Returns
    -------
    str
        Its commit.
    """
    found = huggingface_hub.dataset_info(repo, revision=revision, timeout=HUB_TIMEOUT)
    return found.sha


def read_hub(spec: TaskSpec) -> Pool:
    """Read a task from the Hub.

    Parameters
    ----------
    spec : TaskSpec

    Returns
    -------
    Pool

    Raises
    ------
    SfusionError
        When it cannot be had; the line names the form as a folder.
    """
    import datasets  # slow to import, and needed for the Hub alone

    branch = files = None
    if spec.config:
        # The conversion names its files config/split/*.parquet.
        branch = CONVERTED
        files = {split: f"{spec.config}/*{split}/*.parquet" for split in SPLITS}
    ask_folder = ASK_FOLDER.format(spec.name)
    with one_line(
        f"task {spec.name!r}: {spec.repo} cannot be had from the Hub; offline, "
        f"{ask_folder}"
    ):
        revision = resolve_revision(spec.repo, branch)
        loaded = datasets.load_dataset(spec.repo, data_files=files, revision=revision)
    where = f"{spec.repo}@{revision}"
    splits = {
        split: _read_batches(loaded[split], spec, where)
        for split in SPLITS
        if split in loaded
    }
    return pool_splits(splits, spec.text, spec.label, f"hub: {where}", where)


def _read_batches(
    data: datasets.Dataset, spec: TaskSpec, where: str
) -> Iterator[Table]:
    """Read in batches: of long texts no more than is kept of them stays in memory."""
    wanted = [name for name in (*spec.text, spec.label) if name in data.column_names]
    names = getattr(data.features.get(spec.label), "names", None)
    rows = data.select(row_numbers(len(data))).select_columns(wanted)
    for frame in rows.to_pandas(batch_size=BATCH, batched=True):
        yield Table(frame, names, where)
