"""Tasks: labelled texts from the embedded corpora, a folder or the Hub, split and tokenised."""

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from sfusion import corpora
from sfusion.errors import SfusionError
from sfusion.models import load_tokenizer
from sfusion.splitting import draw, hold_out

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
class Encoded:
    """Tokenised texts with their labels, N sequences of T tokens.

    Attributes
    ----------
    input_ids, attention_mask : torch.LongTensor, shape (N, T)
        Token numbers, and 1 for real tokens, 0 for padding.
    labels : torch.LongTensor, shape (N,)
        Class numbers.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int] | torch.Tensor) -> "Encoded":
        """Rows by number, in the order given."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        return Encoded(self.input_ids[rows], self.attention_mask[rows], self.labels[rows])

    def trim(self) -> "Encoded":
        """Cut off the last columns, where every row is padding."""
        columns = self.attention_mask.any(0).nonzero()
        width = int(columns.max()) + 1 if len(columns) else 1
        return Encoded(self.input_ids[:, :width], self.attention_mask[:, :width], self.labels)


@dataclass(frozen=True, eq=False)
class Task:
    """A classification task, split and tokenised.

    Attributes
    ----------
    name : str
        Slug.
    label_names : tuple of str
        Name of each class number.
    train, validation, test : Encoded
        The splits.
    texts : dict of str to list of str
        The texts of each split.
    fingerprint : str
        Sha256 (hex) over all texts and labels, before any sampling.
    source : str
        Where they come from, such as "embedded: scipy 1.17.1" or "hub: repo@revision".
    """

    name: str
    label_names: tuple[str, ...]
    train: Encoded
    validation: Encoded
    test: Encoded
    texts: Mapping[str, list[str]]
    fingerprint: str
    source: str


# --- reading ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Pool:
    """All there is of a task: what is split by seed (text, label, group), and the test part."""

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


def _embedded(name: str) -> _Pool:
    frame = corpora.build(name).rename(columns={"source": "group"})
    test = hold_out(frame["label"].tolist(), frame["group"].tolist(), TEST_SHARE, "test")
    return _Pool(
        rest=frame[~test].reset_index(drop=True),
        test=frame[test].reset_index(drop=True),
        label_names=corpora.CORPORA[name].label_names,
        validation_share=VALIDATION_SHARE,
        source=f"embedded: {corpora.versions(name)}",
    )


def _pooled(parts: Mapping[str, pd.DataFrame], declared, source: str, where: str) -> _Pool:
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
    return _Pool(
        rest=rest.assign(group=rest["text"]),
        test=test,
        label_names=order_labels(declared, [rest, test], where),
        validation_share=share,
        source=source,
    )


def _folder(name: str, folder: str) -> _Pool:
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


def _hub(name: str) -> _Pool:
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
def _pool(name: str, source: str, folder: str | None, stamp: tuple) -> _Pool:
    """Read a task once a process; the stamp (times and sizes of files) notices new files."""
    if source == "folder":
        return _folder(name, folder)
    return _embedded(name) if source == "embedded" else _hub(name)


# --- loading ---------------------------------------------------------------------------------


def encode(texts: list[str], labels: Sequence[int], tokenizer, max_length: int) -> Encoded:
    """Tokenise texts, N of them.

    Parameters
    ----------
    texts : list of str
        Texts.
    labels : sequence of int, length N
        Class numbers.
    tokenizer : transformers tokenizer
        Must know a padding token.
    max_length : int
        Tokens a text, by truncation or padding.

    Returns
    -------
    Encoded
    """
    tokens = tokenizer(
        texts, padding="max_length", truncation=True, max_length=max_length, return_tensors="pt"
    )
    return Encoded(
        tokens["input_ids"], tokens["attention_mask"], torch.tensor(labels, dtype=torch.long)
    )


def _resolve(name: str, source: str, folder) -> tuple[str, str | None]:
    """Settle the source, and the folder where one is used."""
    if source not in SOURCES:
        raise SfusionError(f"unknown source {source!r}: choose one of {', '.join(SOURCES)}")
    if name not in TASKS and source != "folder":
        raise SfusionError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    folder = folder or os.environ.get("SFUSION_DATA") or None
    if source == "auto":
        source = "folder" if folder else "hub"
        source = source if TASKS[name].repo else "embedded"
    if source != "folder":
        if bool(TASKS[name].repo) == (source == "embedded"):
            raise SfusionError(f"task {name!r} has no {source} source: use 'auto'")
        return source, None
    if folder is None:
        raise SfusionError(
            f"task {name!r} from a folder: set SFUSION_DATA to a folder that holds {name}/"
            "{train,validation,test}.parquet"
        )
    return source, os.path.abspath(folder)


def load_task(
    name: str,
    *,
    seed: int = 0,
    sizes: Sequence[int | None] | None = None,
    max_length: int = 32,
    tokenizer="minilm-l6",
    source: str = "auto",
    folder: str | Path | None = None,
) -> Task:
    """Load a task, split and tokenised.

    The test part is fixed: a quarter of an embedded corpus, by a hash of the documented object's
    name, or the data set's own test split; and so is the draw from it. The rest, without texts
    that occur in the test part, is split into training and validation by the seed, classes in
    proportion; for an embedded corpus no documented object is in two splits.

    Parameters
    ----------
    name : str
        A key of `TASKS`; any name with ``source="folder"``.
    seed : int
        Varies the training and validation texts and their order.
    sizes : sequence of 3 ints or None, optional
        Texts of train, validation and test; None, or too many, for all there are.
    max_length : int
        Tokens a text, by truncation or padding.
    tokenizer : transformers tokenizer, str or Path
        A tokenizer, or the model whose tokenizer to use.
    source : {"auto", "embedded", "folder", "hub"}
        "auto": embedded corpora as such; others from the folder where one is given, else the Hub.
    folder : str or Path, optional
        Holds ``<name>/{train,validation,test}.parquet`` with columns text (strings) and label
        (class numbers with names in the `datasets` metadata, or class names); the validation
        file may be missing. By default ``$SFUSION_DATA``.

    Returns
    -------
    Task

    Raises
    ------
    SfusionError
        If the task or a file is unknown, unreadable or empty, a column is missing, there are
        fewer than 2 classes, the Hub is out of reach, or an argument makes no sense.
    """
    if sizes is None:
        sizes = (None, None, None)
    if len(sizes) != 3 or any(size is not None and size < 1 for size in sizes):
        raise SfusionError(f"sizes {tuple(sizes)}: give 3 positive numbers, or None for all")
    source, folder = _resolve(name, source, folder)
    files = [Path(folder, name, f"{split}.parquet") for split in SPLITS] if folder else []
    stats = [file.stat() for file in files if file.is_file()]
    pool = _pool(name, source, folder, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))

    n_train, n_validation, n_test = sizes
    share = pool.validation_share
    if n_train and n_validation:
        share = n_validation / (n_train + n_validation)
    labels, groups = pool.rest["label"].tolist(), pool.rest["group"].tolist()
    held = hold_out(labels, groups, share, f"validation {seed}")
    parts = (
        ("train", pool.rest[~held], n_train, f"train {seed}"),
        ("validation", pool.rest[held], n_validation, f"validation {seed}"),
        ("test", pool.test, n_test, "test"),
    )
    tokenizer, max_length = check_tokenizer(tokenizer, max_length)
    numbers = {label: number for number, label in enumerate(pool.label_names)}
    texts, encoded = {}, {}
    for split, part, size, salt in parts:
        drawn = part.iloc[draw(part["label"].tolist(), part["text"].tolist(), size, salt)]
        if drawn.empty:
            raise SfusionError(f"task {name!r}: too few texts for a {split} split")
        texts[split] = drawn["text"].tolist()
        labels = [numbers[label] for label in drawn["label"]]
        encoded[split] = encode(texts[split], labels, tokenizer, max_length)
    return Task(
        name=name,
        label_names=pool.label_names,
        **encoded,
        texts=texts,
        fingerprint=corpora.fingerprint(pd.concat([pool.rest, pool.test])),
        source=pool.source,
    )


def check_tokenizer(tokenizer, max_length: int):
    """Load a tokenizer where a name is given, and hold the length against its limit.

    Parameters
    ----------
    tokenizer : transformers tokenizer, str or Path
        A tokenizer, or the model whose tokenizer to use.
    max_length : int
        Tokens a text.

    Returns
    -------
    tuple of (transformers tokenizer, int)

    Raises
    ------
    SfusionError
        When texts cannot be so long.
    """
    if isinstance(tokenizer, str | Path):
        tokenizer = load_tokenizer(tokenizer)
    limit = tokenizer.model_max_length
    if not 3 <= max_length <= limit:
        raise SfusionError(f"max_length {max_length}: give 3 to {limit} tokens")
    return tokenizer, max_length
