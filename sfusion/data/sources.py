"""Where labelled texts come from: the embedded corpora, a folder, or the Hub.

A line of ``TASKS`` is a data set. Whatever the source, a task is read into a pool: texts to be
split by seed, and the test part.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sfusion import SfusionError
from sfusion.data import corpora
from sfusion.data.splits import hold_out

SPLITS = ("train", "validation", "test")
SOURCES = ("auto", "embedded", "folder", "hub")
# Held out of an embedded corpus for testing; and of what is left, for validation, where neither
# sizes nor a validation file say how much.
TEST_SHARE, VALIDATION_SHARE = 0.25, 0.2
# Of a larger split a fixed draw of this many rows is read; of a longer text, this many characters
# (some hundreds of tokens).
ROW_LIMIT, TEXT_LIMIT = 50_000, 4_000
HUB_TIMEOUT = 5  # seconds; an offline machine must say so at once


@dataclass(frozen=True)
class TaskSpec:
    """One line of the registry; without ``repo`` the task is an embedded corpus.

    Attributes
    ----------
    name : str
        Slug.
    repo : str
        Dataset repository on the Hub. Label names come with it.
    text : tuple of str
        Columns that are joined, with a space, into the text.
    label : str
        Column of class numbers (with names in the features) or of class names.
    revision : str, optional
        Git revision, where another than the default branch is needed.
    config : str, optional
        Configuration, for a revision that names its files ``config/split/*.parquet``.
    """

    name: str
    repo: str = ""
    text: tuple[str, ...] = ("text",)
    label: str = "label"
    revision: str | None = None
    config: str | None = None


PARQUET = "refs/convert/parquet"  # the Hub's own conversion, for sets made with loading scripts

# The paper's nine: repositories and columns are our reading, its sources are not known.
TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        *(TaskSpec(name) for name in corpora.CORPORA),
        TaskSpec("newsgroup", "SetFit/20_newsgroups", label="label_text"),
        TaskSpec("dbpedia", "fancyzhx/dbpedia_14", ("title", "content")),
        TaskSpec("arxiv", "ccdv/arxiv-classification", revision=PARQUET, config="no_ref"),
        TaskSpec("patent", "ccdv/patent-classification", revision=PARQUET, config="abstract"),
        TaskSpec(
            "yahoo",
            "community-datasets/yahoo_answers_topics",
            ("question_title", "question_content", "best_answer"),
            "topic",
        ),
        TaskSpec("yelp", "Yelp/yelp_review_full"),
        TaskSpec("agnews", "fancyzhx/ag_news"),
        TaskSpec("imdb", "stanfordnlp/imdb"),
        TaskSpec("amazon", "fancyzhx/amazon_polarity", ("title", "content")),
    )
}


@dataclass(frozen=True, eq=False)
class Pool:
    """All there is of a task.

    Attributes
    ----------
    rest : DataFrame
        What is split by seed: ``text``, ``label`` and ``group``, whose rows stay together.
    test : DataFrame
        Columns ``text`` and ``label``.
    label_names : tuple of str
    validation_share : float
        Of ``rest``, where nothing else is asked for.
    source : str
        As in ``Task``.
    """

    rest: pd.DataFrame
    test: pd.DataFrame
    label_names: tuple[str, ...]
    validation_share: float
    source: str


def _tidy(
    raw: pd.DataFrame, text: Sequence[str], label: str, names: Sequence[str] | None, where: str
) -> pd.DataFrame:
    """Bring a table to the columns text and label (class names); rows without either go."""
    missing = [column for column in (*text, label) if column not in raw]
    if missing:
        raise SfusionError(f"{where} has no column {missing[0]!r}: it has {', '.join(raw)}")
    raw = raw[raw[label].notna()]
    texts = [
        " ".join(part for part in parts if isinstance(part, str))[:TEXT_LIMIT].strip()
        for parts in zip(*(raw[column] for column in text), strict=True)
    ]
    labels = raw[label].tolist()
    if names is not None:
        labels = [int(number) for number in labels]
        if wrong := [number for number in labels if not 0 <= number < len(names)]:
            raise SfusionError(f"{where} has label {wrong[0]}: there are {len(names)} label names")
        labels = [names[number] for number in labels]
    frame = pd.DataFrame({"text": texts, "label": [str(name) for name in labels]}, dtype=object)
    return frame[frame["text"] != ""].reset_index(drop=True)


def order_labels(declared: Sequence[str], frames: Sequence[pd.DataFrame], where: str):
    """Put class names in order: as declared, else sorted, numbers by value.

    Parameters
    ----------
    declared : sequence of str
        Names in the order of the class numbers; they count if they cover all that are used.
    frames : sequence of DataFrame
        Columns text and label.
    where : str
        Source, for the message.

    Returns
    -------
    tuple of str

    Raises
    ------
    SfusionError
        When fewer than two classes are used.
    """
    found = {name for frame in frames for name in frame["label"]}
    if len(found) < 2:
        raise SfusionError(f"{where} has {len(found)} class(es): at least 2 are needed")
    if set(declared) >= found:
        return tuple(declared)
    return tuple(
        sorted(found, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
    )


def class_names(schema: pa.Schema, label: str) -> list[str] | None:
    """Read the names of a ClassLabel column from the metadata that `datasets` writes.

    Parameters
    ----------
    schema : pyarrow.Schema
        Of a Parquet file.
    label : str
        Column.

    Returns
    -------
    list of str or None
    """
    metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    feature = metadata.get("info", {}).get("features", {}).get(label, {})
    return feature.get("names") if isinstance(feature, dict) else None


def _read_parquet(
    path: Path, text: Sequence[str], label: str
) -> tuple[pd.DataFrame, list[str] | None]:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise SfusionError(f"{path} is no readable Parquet file: {first_line(error)}") from None
    names = class_names(table.schema, label)
    return _tidy(table.take(_rows(len(table))).to_pandas(), text, label, names, str(path)), names


def _rows(count: int) -> np.ndarray:
    """Row numbers to read: all, or the same draw of `ROW_LIMIT` at every seed."""
    if count <= ROW_LIMIT:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:ROW_LIMIT])


def first_line(error: Exception) -> str:
    """Shorten an error's message to its first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _embedded(name: str) -> Pool:
    frame = corpora.build(name).rename(columns={"source": "group"})
    test = hold_out(frame["label"].tolist(), frame["group"].tolist(), TEST_SHARE, "test")
    return Pool(
        rest=frame[~test].reset_index(drop=True),
        test=frame[test].reset_index(drop=True),
        label_names=corpora.CORPORA[name].label_names,
        validation_share=VALIDATION_SHARE,
        source=f"embedded: {corpora.versions(name)}",
    )


def _pooled(parts: Mapping[str, pd.DataFrame], declared, source: str, where: str) -> Pool:
    """Join train and validation, without repeats and without texts of the test split."""
    for split in ("train", "test"):
        if split not in parts:
            raise SfusionError(f"{where} has no {split} split")
    for split, frame in parts.items():
        if frame.empty:
            raise SfusionError(f"{where}: the {split} split is empty")
    test = parts["test"]
    kept = [parts[split] for split in ("train", "validation") if split in parts]
    rest = pd.concat(kept, ignore_index=True)
    rest = rest[~rest["text"].isin(set(test["text"]))].drop_duplicates("text", ignore_index=True)
    if rest.empty:
        raise SfusionError(f"{where}: every training text occurs in the test split")
    order_labels((), [rest], f"{where}: the train split")
    share = len(kept[1]) / (len(kept[0]) + len(kept[1])) if len(kept) == 2 else VALIDATION_SHARE
    return Pool(
        rest=rest.assign(group=rest["text"]),
        test=test,
        label_names=order_labels(declared, [rest, test], where),
        validation_share=share,
        source=source,
    )


def _folder(name: str, folder: str) -> Pool:
    where = Path(folder) / name
    files = {split: where / f"{split}.parquet" for split in SPLITS}
    for split in ("train", "test"):
        if not files[split].is_file():
            raise SfusionError(
                f"no file {files[split]}: a task folder holds train, validation and test.parquet"
            )
    read = {
        split: _read_parquet(file, ("text",), "label")
        for split, file in files.items()
        if file.is_file()
    }
    declared = list(dict.fromkeys(name for _, names in read.values() for name in names or ()))
    return _pooled(
        {split: frame for split, (frame, _) in read.items()}, declared, "folder", str(where)
    )


def _hub(name: str) -> Pool:
    # Slow to import, and needed for the Hub alone.
    import datasets
    import huggingface_hub

    spec = TASKS[name]
    files = spec.config and {split: f"{spec.config}/*{split}/*.parquet" for split in SPLITS}
    # The errors of both libraries have no common base.
    try:
        info = huggingface_hub.dataset_info(spec.repo, revision=spec.revision, timeout=HUB_TIMEOUT)
        loaded = datasets.load_dataset(spec.repo, data_files=files, revision=info.sha)
    except Exception as error:
        raise SfusionError(
            f"task {name!r}: {spec.repo} cannot be had from the Hub ({first_line(error)}); "
            f"offline, set SFUSION_DATA to a folder that holds {name}/"
            "{train,validation,test}.parquet"
        ) from error
    parts, declared, where = {}, [], f"{spec.repo}@{info.sha}"
    for split in (split for split in SPLITS if split in loaded):
        data = loaded[split]
        wanted = [column for column in data.column_names if column in (*spec.text, spec.label)]
        names = getattr(data.features.get(spec.label), "names", None)
        declared = declared or names or []
        # In batches, so that of long texts no more than the part that is kept stays in memory.
        batches = data.select(_rows(len(data))).select_columns(wanted).iter(1000)
        tidy = [
            _tidy(pd.DataFrame(batch), spec.text, spec.label, names, where) for batch in batches
        ]
        parts[split] = pd.concat(tidy, ignore_index=True) if tidy else pd.DataFrame()
    return _pooled(parts, declared, f"hub: {where}", where)


@functools.lru_cache(maxsize=16)
def read_pool(name: str, source: str, folder: str | None, stamp: tuple) -> Pool:
    """Read a task, once a process.

    Parameters
    ----------
    name : str
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
        return _folder(name, folder)
    return _embedded(name) if source == "embedded" else _hub(name)
