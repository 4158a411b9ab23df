"""Tasks: labelled texts, split and tokenised."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pandas as pd
from transformers import PreTrainedTokenizerBase

from sfusion.data import corpora
from sfusion.data.encoding import Encoded, encode
from sfusion.data.pools import ASK_FOLDER, TaskSpec
from sfusion.data.sources import Origin, read_pool
from sfusion.data.splits import SPLITS, divide
from sfusion.data.tokenizers import load_tokenizer
from sfusion.disk import stamp_files
from sfusion.errors import SfusionError

Source = Literal["auto", "embedded", "folder", "hub"]

_YAHOO = ("question_title", "question_content", "best_answer")

# The paper's nine: repositories and columns are our reading, its sources are not known.
_SPECS = [
    *map(TaskSpec, corpora.CORPORA),
    TaskSpec("newsgroup", "SetFit/20_newsgroups", label="label_text"),
    TaskSpec("dbpedia", "fancyzhx/dbpedia_14", ("title", "content")),
    TaskSpec("arxiv", "ccdv/arxiv-classification", config="no_ref"),
    TaskSpec("patent", "ccdv/patent-classification", config="abstract"),
    TaskSpec("yahoo", "community-datasets/yahoo_answers_topics", _YAHOO, "topic"),
    TaskSpec("yelp", "Yelp/yelp_review_full"),
    TaskSpec("agnews", "fancyzhx/ag_news"),
    TaskSpec("imdb", "stanfordnlp/imdb"),
    TaskSpec("amazon", "fancyzhx/amazon_polarity", ("title", "content")),
]

TASKS = {spec.name: spec for spec in _SPECS}


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
    texts: dict[str, list[str]]
    fingerprint: str
    source: str


def resolve(
    name: str, source: Source = "auto", folder: str | Path | None = None
) -> Origin:
    """Determine where a task is read from.

    Parameters
    ----------
    name, source, folder
        See :func:`load_task`.

    Returns
    -------
    Origin

    Raises
    ------
    SfusionError
        For an unknown task or source, or when there is no folder.
    """
    sources = get_args(Source)
    if source not in sources:
        raise SfusionError(
            f"unknown source {source!r}: choose one of {', '.join(sources)}"
        )
    if name not in TASKS and source != "folder":
        raise SfusionError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    folder = folder or os.environ.get("SFUSION_DATA")
    if source == "folder":
        return _resolve_folder(name, folder)
    is_corpus = not TASKS[name].repo
    if source == "auto":
        if is_corpus:
            return Origin("embedded")
        return _resolve_folder(name, folder) if folder else Origin("hub")
    if is_corpus != (source == "embedded"):
        raise SfusionError(f"task {name!r} has no {source} source: use 'auto'")
    return Origin(source)


def _resolve_folder(name: str, folder: str | Path | None) -> Origin:
    if not folder:
        raise SfusionError(f"task {name!r} from a folder: {ASK_FOLDER.format(name)}")
    place = Path(os.path.abspath(folder), name)
    files = [place / f"{split}.parquet" for split in SPLITS]
    return Origin("folder", place, stamp_files(files))


def load_task(
    name: str,
    *,
    seed: int = 0,
    sizes: Sequence[int | None] = (None, None, None),
    max_length: int = 32,
    tokenizer: PreTrainedTokenizerBase | str | Path = "minilm-l6",
    source: Source = "auto",
    folder: str | Path | None = None,
) -> Task:
    """Load a task, split and tokenised.

    The test part is fixed: a quarter of an embedded corpus, by a hash of the documented
    object's name, or the data set's own test split; and so is the draw from it. The
    rest, without texts that occur in the test part, is split into training and
    validation by the seed, classes in proportion; for an embedded corpus no documented
    object is in two splits.

    Parameters
    ----------
    name : str
        A key of `TASKS`; any name with ``source="folder"``.
    seed : int
        Varies the training and validation texts and their order.
    sizes : sequence of 3 ints or None, optional
        Texts of train, validation and test; None, or too many, for all there are.
    max_length : int
        Tokens per text, by truncation or padding.
    tokenizer : transformers tokenizer, str or Path
        A tokenizer, or the model whose tokenizer to use.
    source : {"auto", "embedded", "folder", "hub"}
        "auto": embedded corpora as such; others from the folder where one is given,
        else the Hub.
    folder : str or Path, optional
        Holds ``<name>/{train,validation,test}.parquet`` with columns text (strings) and
        label (class numbers with names in the `datasets` metadata, or class names); the
        validation file may be missing. By default ``$SFUSION_DATA``.

    Returns
    -------
    Task

    Raises
    ------
    SfusionError
        If the task or a file is unknown, unreadable or empty, a column is missing,
        there are fewer than 2 classes, the Hub is out of reach, or an argument makes no
        sense.
    """
    if len(sizes) != 3 or any(size is not None and size < 1 for size in sizes):
        raise SfusionError(
            f"sizes {tuple(sizes)}: give 3 positive numbers, or None for all"
        )
    pool = read_pool(TASKS.get(name, TaskSpec(name)), resolve(name, source, folder))
    if isinstance(tokenizer, str | Path):
        tokenizer = load_tokenizer(tokenizer)
    if not 3 <= max_length <= tokenizer.model_max_length:
        raise SfusionError(
            f"max_length {max_length}: give 3 to {tokenizer.model_max_length} tokens"
        )
    return tokenise(
        name,
        divide(pool, sizes, seed, f"task {name!r}"),
        {label: number for number, label in enumerate(pool.label_names)},
        pool.label_names,
        tokenizer,
        max_length,
        whole=[pool.rest, pool.test],
        source=pool.source,
    )


def tokenise(
    name: str,
    frames: Mapping[str, pd.DataFrame],
    numbers: Mapping[str, int],
    label_names: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    whole: Sequence[pd.DataFrame],
    source: str,
) -> Task:
    """Make a task of the texts of its splits.

    Parameters
    ----------
    name : str
    frames : mapping of str to DataFrame
        ``train``, ``validation`` and ``test``: columns ``text`` and ``label``.
    numbers : mapping of str to int
        Class number of each label of the texts.
    label_names : sequence of str
        Name of each class number.
    tokenizer, max_length
        See :func:`sfusion.data.encoding.encode`.
    whole : sequence of DataFrame
        What the fingerprint is taken of.
    source : str
        As in ``Task``.

    Returns
    -------
    Task
    """
    texts = {}
    encoded = {}
    for split, frame in frames.items():
        texts[split] = frame["text"].tolist()
        labels = frame["label"].map(numbers).tolist()
        encoded[split] = encode(texts[split], labels, tokenizer, max_length)
    return Task(
        name,
        tuple(label_names),
        **encoded,
        texts=texts,
        fingerprint=corpora.fingerprint(pd.concat(whole)),
        source=source,
    )
