"""Tasks: labelled texts, split and tokenised."""

import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sfusion.data import corpora
from sfusion.data.encoding import Encoded, encode
from sfusion.data.pools import ASK_FOLDER, TaskSpec
from sfusion.data.sources import read_pool
from sfusion.data.splits import SPLITS, divide
from sfusion.data.tokenizers import load_tokenizer
from sfusion.disk import stamped
from sfusion.errors import SfusionError

SOURCES = ("auto", "embedded", "folder", "hub")

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


def resolve(name, source="auto", folder=None):
    """Determine where a task is read from.

    Parameters
    ----------
    name, source, folder
        See :func:`load_task`.

    Returns
    -------
    tuple of (str, str or None, tuple)
        The source, the folder where one is used, and its files with their times and
        sizes.

    Raises
    ------
    SfusionError
        For an unknown task or source, or when there is no folder.
    """
    if source not in SOURCES:
        raise SfusionError(
            f"unknown source {source!r}: choose one of {', '.join(SOURCES)}"
        )
    if name not in TASKS and source != "folder":
        raise SfusionError(f"unknown task {name!r}: choose one of {', '.join(TASKS)}")
    folder = folder or os.environ.get("SFUSION_DATA") or None
    if source == "auto":
        source = "embedded" if not TASKS[name].repo else "folder" if folder else "hub"
    if source != "folder":
        if bool(TASKS[name].repo) == (source == "embedded"):
            raise SfusionError(f"task {name!r} has no {source} source: use 'auto'")
        return source, None, ()
    if folder is None:
        raise SfusionError(f"task {name!r} from a folder: {ASK_FOLDER.format(name)}")
    folder = os.path.abspath(folder)
    return (
        source,
        folder,
        stamped(Path(folder, name, f"{split}.parquet") for split in SPLITS),
    )


def load_task(
    name,
    *,
    seed=0,
    sizes=(None, None, None),
    max_length=32,
    tokenizer="minilm-l6",
    source="auto",
    folder=None,
):
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
    pool = read_pool(TASKS.get(name, TaskSpec(name)), *resolve(name, source, folder))
    tokenizer = (
        load_tokenizer(tokenizer) if isinstance(tokenizer, str | Path) else tokenizer
    )
    if not 3 <= max_length <= tokenizer.model_max_length:
        raise SfusionError(
            f"max_length {max_length}: give 3 to {tokenizer.model_max_length} tokens"
        )
    drawn = divide(pool, sizes, seed, f"task {name!r}")
    numbers = {label: number for number, label in enumerate(pool.label_names)}
    return tokenise(
        name,
        drawn,
        pool.label_names,
        numbers,
        tokenizer,
        max_length,
        [pool.rest, pool.test],
        pool.source,
    )


def tokenise(name, frames, label_names, numbers, tokenizer, max_length, whole, source):
    """Make a task of the texts of its splits.

    Parameters
    ----------
    name : str
    frames : dict of str to DataFrame
        ``train``, ``validation`` and ``test``: columns ``text`` and ``label``.
    label_names : sequence of str
        Name of each class number.
    numbers : mapping of str to int
        Class number of each label of the texts.
    tokenizer, max_length
        See :func:`encode`.
    whole : list of DataFrame
        What the fingerprint is taken of.
    source : str

    Returns
    -------
    Task
    """
    texts = {split: frame["text"].tolist() for split, frame in frames.items()}
    labels = {
        split: frame["label"].map(numbers).tolist() for split, frame in frames.items()
    }
    encoded = {
        split: encode(texts[split], labels[split], tokenizer, max_length)
        for split in frames
    }
    fingerprint = corpora.fingerprint(pd.concat(whole))
    return Task(
        name,
        tuple(label_names),
        **encoded,
        texts=texts,
        fingerprint=fingerprint,
        source=source,
    )
