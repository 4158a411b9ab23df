"""What in the user's texts may not be meant, each in a line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from sfusion.data.labels import list_names, shown
from sfusion.data.splits import count_classes
from sfusion.errors import SfusionError

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerBase

    from sfusion.data.encoding import Encoded
    from sfusion.data.files import Rows

FEW = 8  # texts of a class
MANY = 10  # labels, above which they may be no classes
REPEATED = 10  # times that every text stands there, from which they may be no texts
# Share of texts that hold nothing that the tokenizer knows: said, and refused.
SOME_UNKNOWN = 0.02
MOST_UNKNOWN = 0.5


def doubt_rows(train: Rows, test: Rows | None) -> list[str]:
    """Look for contradictions and repetitions in files of labelled texts.

    Parameters
    ----------
    train : Rows
    test : Rows, optional

    Returns
    -------
    list of str

    Raises
    ------
    SfusionError
        When the labels are hardly fewer than the texts, or hardly any texts differ.
    """
    classes = train.frame["label"].nunique()
    different = train.frame["text"].nunique()
    if different <= classes < len(train.frame) or (
        REPEATED * different <= len(train.frame)
    ):
        raise SfusionError(
            f"{train.where} has only {different} different text(s) in "
            f"{len(train.frame)} rows: name the column of the texts (--text-column)"
        )
    if classes > max(MANY, len(train.frame) / 2):
        raise SfusionError(
            f"{train.where} has {classes} labels for {len(train.frame)} texts: name "
            "the column of the classes (--label-column)"
        )
    first = "the first of them counts for training"
    lines = [*train.notes, *_contradictions(train, first)]
    if test is None:
        return lines
    both = "no model can get all of them right"
    lines += [*test.notes, *_contradictions(test, both)]
    own = train.frame.drop_duplicates("text").set_index("text")["label"]
    shared = test.frame[test.frame["text"].isin(own.index)]
    if len(shared):
        differing = shared["text"].map(own) != shared["label"]
        lines.append(
            f"{shared['text'].nunique()} text(s) of {test.where} stand in "
            f"{train.where} too, {int(differing.sum())} with another label: they are "
            "not trained on"
        )
    missing = sorted(set(train.frame["label"]) - set(test.frame["label"]))
    if missing:
        lines.append(
            f"{test.where} has no text of the class(es) {list_names(missing)}: what "
            "happens to them is not measured"
        )
    return lines


def _contradictions(rows: Rows, so: str) -> list[str]:
    labels = rows.frame.groupby("text", sort=False)["label"].agg(lambda held: set(held))
    unsure = labels[labels.map(len) > 1]
    if unsure.empty:
        return []
    first = ", ".join(sorted(unsure.iloc[0]))
    return [
        f"{rows.where}: {len(unsure)} text(s) stand there with several labels, "
        f"{shown(unsure.index[0])} for one ({first}): {so}"
    ]


def doubt_classes(labels: Sequence[str], known: Sequence[str]) -> list[str]:
    """Look for classes with few texts to train on, or none.

    Parameters
    ----------
    labels : sequence of str
        Of the training texts.
    known : sequence of str
        Labels of all classes of the model.

    Returns
    -------
    list of str
    """
    counts = count_classes(labels)
    lines = []
    few = [f"{name!r} ({count})" for name, count in counts.items() if count < FEW]
    if few:
        lines.append(f"classes with very few texts to train on: {', '.join(few)}")
    absent = [name for name in known if name not in counts]
    if absent:
        lines.append(
            f"no text to train on has the class(es) {list_names(absent)} of the model: "
            "it may forget them"
        )
    return lines


def doubt_tokens(
    splits: Mapping[str, pd.DataFrame],
    encoded: Mapping[str, Encoded],
    tokenizer: PreTrainedTokenizerBase,
) -> list[str]:
    """Look for texts of which the tokenizer makes nothing that it knows.

    Parameters
    ----------
    splits : mapping of str to DataFrame
        Column ``text``.
    encoded : mapping of str to Encoded
        The same texts.
    tokenizer : transformers.PreTrainedTokenizerBase

    Returns
    -------
    list of str

    Raises
    ------
    SfusionError
        When a text has no token at all, or most have none that is known.
    """
    unknown: Counter[str] = Counter()
    total = 0
    for name, data in encoded.items():
        texts = splits[name]["text"].tolist()
        is_empty = ~_real_tokens(data, tokenizer).any(1)
        if is_empty.any():
            text = texts[int(is_empty.nonzero()[0])]
            raise SfusionError(
                f"the tokenizer makes no token of the text {shown(text)}: leave out "
                "such texts, or give a model that reads them"
            )
        is_unknown = ~_real_tokens(data, tokenizer, without_unknown=True).any(1)
        unknown.update(texts[row] for row in is_unknown.nonzero().flatten().tolist())
        total += len(texts)
    share = unknown.total() / total
    if share <= SOME_UNKNOWN:
        return []
    example = shown(next(iter(unknown)))
    if share > MOST_UNKNOWN:
        raise SfusionError(
            f"the tokenizer knows no token of {share:.0%} of the texts, {example} for "
            "one: it does not read this language, or its vocabulary is damaged"
        )
    return [f"the tokenizer knows no token of {share:.0%} of the texts, as {example}"]


def _real_tokens(
    data: Encoded, tokenizer: PreTrainedTokenizerBase, without_unknown: bool = False
) -> torch.Tensor:
    """Mark the tokens that are neither padding nor put around every text.

    Returns
    -------
    torch.BoolTensor, shape (N, T)
    """
    unknown = tokenizer.unk_token_id
    around = set(tokenizer.all_special_ids) - {unknown}
    if without_unknown and unknown is not None:
        around.add(unknown)
    is_around = torch.isin(data.input_ids, torch.tensor(sorted(around)))
    return data.attention_mask.bool() & ~is_around
