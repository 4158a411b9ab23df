"""Datasets from the Hub."""

import functools

import huggingface_hub

from sfusion.data.pools import ASK_FOLDER, _pooled, _rows
from sfusion.data.splits import SPLITS
from sfusion.errors import SfusionError, first_line, need_extra

CONVERTED = "refs/convert/parquet"  # the Hub's own conversion, for sets made with loading scripts

HUB_TIMEOUT = 5  # seconds; an offline machine must say so at once


@functools.cache
def _revision(repo, revision):
    """Resolve a branch once per process, so that one that moves changes no result midway."""
    return huggingface_hub.dataset_info(
        repo, revision=revision, timeout=HUB_TIMEOUT
    ).sha


def _hub(spec):
    need_extra("studies")
    import datasets  # slow to import, and needed for the Hub alone

    # The conversion names its files config/split/*.parquet.
    files = spec.config and {
        split: f"{spec.config}/*{split}/*.parquet" for split in SPLITS
    }
    # The errors of both libraries have no common base.
    try:
        revision = _revision(spec.repo, spec.config and CONVERTED)
        loaded = datasets.load_dataset(spec.repo, data_files=files, revision=revision)
    except Exception as error:
        line = f"task {spec.name!r}: {spec.repo} cannot be had from the Hub ({first_line(error)}); offline, "
        raise SfusionError(line + ASK_FOLDER.format(spec.name)) from error
    splits, where = {}, f"{spec.repo}@{revision}"
    for split in (split for split in SPLITS if split in loaded):
        data = loaded[split]
        wanted = [
            column for column in data.column_names if column in (*spec.text, spec.label)
        ]
        names = getattr(data.features.get(spec.label), "names", None)
        # In batches, so that of long texts no more than the part that is kept stays in
        # memory.
        batches = (
            data.select(_rows(len(data)))
            .select_columns(wanted)
            .to_pandas(batch_size=1000, batched=True)
        )
        splits[split] = batches, names, where
    return _pooled(splits, spec.text, spec.label, f"hub: {where}", where)
