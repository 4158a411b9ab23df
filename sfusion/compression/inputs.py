"""What a compression starts from: the texts, split, and the model with its labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import PreTrainedModel

from sfusion.compression.budgets import most_samples
from sfusion.compression.doubts import doubt_rows
from sfusion.compression.tokens import TextLength
from sfusion.data.encoding import Encoded, encode
from sfusion.data.files import Rows, read_rows
from sfusion.data.labels import order_labels, resolve_labels
from sfusion.data.splits import draw, split_rows
from sfusion.data.tasks import Task, tokenise
from sfusion.errors import SfusionError
from sfusion.models.source import ModelSource, numbered
from sfusion.training.distillation import NO_LABEL
from sfusion.training.seeds import derive_seed

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from sfusion.data.files import Source


@dataclass(frozen=True, eq=False)
class Texts:
    """The user's texts.

    Attributes
    ----------
    rows : Rows
        Of the training file.
    split : dict of str to DataFrame
        See :func:`sfusion.data.splits.split_rows`.
    unlabelled : Rows or None
        More, whose labels are not read.
    most : int
        Texts that a stage sees at most.
    held_out : bool
        Whether the test texts were held out of the training file.
    doubts : tuple of str
        What in the files the user may not have meant.
    """

    rows: Rows
    split: Mapping[str, pd.DataFrame]
    unlabelled: Rows | None
    most: int
    held_out: bool
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Start:
    """The classifier that a compression starts from.

    Attributes
    ----------
    model : transformers.PreTrainedModel
    is_tuned : bool
        Whether it was fine-tuned on these labels, and is taken as it is.
    numbers : dict of str to int
        Class number of each label of the texts.
    unused : tuple of str
        Weights in the model's files that it does not use.
    missing : tuple of str
        Weights of a head that the files lack.
    """

    model: PreTrainedModel
    is_tuned: bool
    numbers: dict[str, int]
    unused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def read_texts(
    train: Source,
    test: Source | None,
    unlabelled: Source | None,
    columns: tuple[str, str],
    seed: int,
) -> Texts:
    """Read and split the texts.

    Parameters
    ----------
    train, test, unlabelled
        See :func:`sfusion.compress`.
    columns : tuple of str
        Of the text and of the label.
    seed : int
        Varies the splits.

    Returns
    -------
    Texts

    Raises
    ------
    SfusionError
        For whatever is wrong with a file.
    """
    rows = read_rows(train, *columns)
    tests = None if test is None else read_rows(test, *columns)
    more = None if unlabelled is None else read_rows(unlabelled, columns[0], None)
    most = most_samples(len(rows.frame))
    doubts = tuple(doubt_rows(rows, tests))
    split = split_rows(rows, tests, seed=seed, limit=most)
    return Texts(rows, split, more, most, held_out=test is None, doubts=doubts)


def load_start(
    source: ModelSource,
    rows: Rows,
    labels: Sequence[str] | None = None,
    new_head: bool = False,
    seed: int = 0,
) -> Start:
    """Load a model for labelled texts, and map the labels to its classes.

    Parameters
    ----------
    source : ModelSource
    rows : Rows
        The texts.
    labels, new_head, seed
        See :func:`sfusion.compress`.

    Returns
    -------
    Start

    Raises
    ------
    SfusionError
        When the model cannot be loaded, or its labels are not those of the texts.
    """
    if labels is not None and len(set(labels)) < len(labels):
        raise SfusionError(f"labels {', '.join(labels)}: name each once")
    saved = source.as_saved(new_head)
    used = sorted(set(rows.frame["label"]))
    if saved.has_head:
        new_head_instead = ", or train a new head (--new-head)"
        numbers = resolve_labels(
            used, source.labels, rows.where, labels, new_head_instead
        )
        saved.model.config.update(numbered(labels or source.labels))
        return Start(saved.model, True, numbers, saved.unused)
    names = tuple(labels or order_labels(rows.names, [rows.frame], rows.where))
    for label in used:
        if label not in names:
            raise SfusionError(
                f"{rows.where} has the label {label!r}, which labels (--labels) do not "
                "name"
            )
    model = saved.with_new_head(names, derive_seed("head", seed))
    numbers = {label: names.index(label) for label in used}
    return Start(model, False, numbers, saved.unused, saved.missing)


def tokenise_splits(
    texts: Texts, start: Start, tokenizer: PreTrainedTokenizerBase, length: TextLength
) -> Task:
    """Tokenise the splits.

    Parameters
    ----------
    texts : Texts
    start : Start
    tokenizer : transformers.PreTrainedTokenizerBase
        From :func:`sfusion.compression.tokens.fit_tokens`.
    length : TextLength

    Returns
    -------
    Task
    """
    config = start.model.config
    return tokenise(
        "own",
        texts.split,
        start.numbers,
        [config.id2label[number] for number in range(config.num_labels)],
        tokenizer,
        length.tokens,
        whole=[texts.split["train"], texts.split["validation"]],
        source="files",
    )


def encode_unlabelled(
    rows: Rows,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    most: int,
    seed: int,
) -> Encoded:
    """Draw texts that are in no split, and tokenise them.

    Parameters
    ----------
    rows : Rows
    task : Task
    tokenizer : transformers.PreTrainedTokenizerBase
    most : int
        Texts to draw at most.
    seed : int

    Returns
    -------
    Encoded

    Raises
    ------
    SfusionError
        When all of them are in a split.
    """
    known = {text for split in task.texts.values() for text in split}
    unseen = [text for text in dict.fromkeys(rows.frame["text"]) if text not in known]
    if not unseen:
        raise SfusionError(
            f"{rows.where}: every text is among the labelled ones: give others"
        )
    drawn = draw([""] * len(unseen), unseen, most, f"unlabelled {seed}")
    return encode(
        [unseen[position] for position in drawn],
        [NO_LABEL] * len(drawn),
        tokenizer,
        task.train.input_ids.shape[1],
    )
