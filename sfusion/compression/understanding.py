"""What was understood of model and texts, said before any training."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfusion.compression.doubts import doubt_classes, doubt_tokens
from sfusion.compression.trial import judge, try_model
from sfusion.data.labels import counted, list_names
from sfusion.data.splits import SPLITS, count_classes
from sfusion.models.architectures import architecture_of, layer_stack
from sfusion.models.weights import group_names

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sfusion.compression.inputs import Start, Texts
    from sfusion.compression.tokens import TextLength
    from sfusion.compression.trial import Trial
    from sfusion.data.encoding import Encoded
    from sfusion.data.tasks import Task

# Classes whose texts are counted one by one; of more the smallest and the largest.
COUNTED = 10
MANY_CUT = 0.1  # share of the texts, above which it is more than a remark


@dataclass(frozen=True, eq=False)
class Understanding:
    """What was understood of the input.

    Attributes
    ----------
    lines : tuple of str
        What is said in any case.
    doubts : tuple of str
        What the user may not have meant; a report holds these lines, too.
    facts : dict
        The same for a report, plain JSON values.
    """

    lines: tuple[str, ...]
    doubts: tuple[str, ...]
    facts: dict[str, Any]

    def say(self, quiet: bool | None = None) -> None:
        """Print it on stderr, a line each.

        Parameters
        ----------
        quiet : bool, optional
            Whether to say nothing.
        """
        if quiet:
            return
        for line in self.lines:
            print(line, file=sys.stderr)
        for doubt in self.doubts:
            print(f"warning: {doubt}", file=sys.stderr)


def understand(
    start: Start,
    splits: Mapping[str, pd.DataFrame],
    encoded: Mapping[str, Encoded],
    tokenizer: PreTrainedTokenizerBase,
    length: TextLength,
    where: str,
    *,
    is_order_given: bool,
    doubts: tuple[str, ...] = (),
) -> Understanding:
    """Put together what was understood, and refuse what cannot be meant.

    Parameters
    ----------
    start : Start
    splits : mapping of str to DataFrame
        Columns ``text`` and ``label``; the first gives what is learnt from.
    encoded : mapping of str to Encoded
        The same texts. The model is tried on those of ``validation``, or the first.
    tokenizer : transformers.PreTrainedTokenizerBase
    length : TextLength
    where : str
        The file of the texts, for messages.
    is_order_given : bool
        Whether the user said which label is which of the model's classes.
    doubts : tuple of str
        Those of the files.

    Returns
    -------
    Understanding

    Raises
    ------
    SfusionError
        See :func:`sfusion.compression.trial.judge` and
        :func:`sfusion.compression.doubts.doubt_tokens`.
    """
    first = next(iter(splits))
    found = [
        *doubts,
        *doubt_classes(splits[first]["label"].tolist(), _label_names(start)),
        *doubt_tokens(splits, encoded, tokenizer),
        *_doubt_length(length, first),
        *_doubt_model(start),
    ]
    tried_on = "validation" if "validation" in encoded else first
    trial = try_model(start, encoded[tried_on])
    if start.is_tuned:
        found += judge(trial, _label_names(start), where, is_order_given)
    counts = {
        name: count_classes(split["label"].tolist()) for name, split in splits.items()
    }
    lines = [_count_line(name, held) for name, held in counts.items()]
    lines.append(_length_line(length, first, len(splits[first])))
    lines += _model_lines(start, trial, tried_on)
    facts = {
        "texts_per_class": counts,
        "unused_weights": list(start.unused),
        "new_weights": list(start.missing),
        "accuracy_as_it_stands": trial.accuracy if start.is_tuned else None,
    }
    return Understanding(tuple(lines), tuple(found), facts)


def understand_texts(
    texts: Texts,
    start: Start,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    length: TextLength,
    labels: Sequence[str] | None,
) -> Understanding:
    """Say what was understood of a compression's input.

    Parameters
    ----------
    texts : Texts
    start : Start
    task : Task
    tokenizer : transformers.PreTrainedTokenizerBase
    length : TextLength
    labels
        See :func:`sfusion.compress`.

    Returns
    -------
    Understanding

    Raises
    ------
    SfusionError
        See :func:`understand`.
    """
    return understand(
        start,
        texts.split,
        {split: getattr(task, split) for split in SPLITS},
        tokenizer,
        length,
        texts.rows.where,
        is_order_given=labels is not None,
        doubts=texts.doubts,
    )


def _label_names(start: Start) -> list[str]:
    """Return the label of each of the model's numbers, its own name where none is."""
    label_of = {number: label for label, number in start.numbers.items()}
    config = start.model.config
    return [
        label_of.get(number, str(config.id2label[number]))
        for number in range(config.num_labels)
    ]


def _count_line(name: str, counts: Mapping[str, int]) -> str:
    total = sum(counts.values())
    head = f"{name}: {counted(total, 'text')} of {counted(len(counts), 'class')}"
    if len(counts) <= COUNTED:
        listed = ", ".join(f"{label!r} {count:,}" for label, count in counts.items())
        return f"{head}: {listed}"
    by_count = sorted(counts, key=lambda label: counts[label])
    least = by_count[0]
    most = by_count[-1]
    fewest = f"{counts[least]:,} ({least!r})"
    return f"{head}, from {fewest} to {counts[most]:,} ({most!r}) each"


def _length_line(length: TextLength, split: str, count: int) -> str:
    cut = round(length.cut * count)
    how = "are cut there"
    if length.end == "tail":
        how = f"the last {length.tokens} are read"
    return (
        f"tokens: {length.tokens} a text at most; {cut:,} of {count:,} {split} texts "
        f"are longer and {how}"
    )


def _model_lines(start: Start, trial: Trial, tried_on: str) -> list[str]:
    kind = start.model.config.model_type
    head = f"model: {kind} with {len(layer_stack(start.model))} layers"
    if start.is_tuned:
        lines = [
            f"{head}, taken as it is: it answers {trial.accuracy:.1%} of "
            f"{trial.texts} {tried_on} texts rightly"
        ]
    else:
        lines = [f"{head}, with a new head"]
    if start.unused:
        unused = list_names(group_names(start.unused))
        lines.append(f"weights in its files that are not used: {unused}")
    return lines


def _doubt_length(length: TextLength, split: str) -> list[str]:
    if length.cut <= MANY_CUT:
        return []
    texts = "training texts" if split == "train" else "texts"
    unread = "what stands behind"
    if length.end == "tail":
        unread = "what stands before the last of them"
    return [
        f"{length.cut:.0%} of the {texts} are longer than {length.tokens} tokens, and "
        f"{unread} is not read: a larger max_length (--max-length) reads more of them, "
        "where the model takes it"
    ]


def _doubt_model(start: Start) -> list[str]:
    doubts = []
    unused = list_names(group_names(start.unused))
    stack = f"{architecture_of(start.model.config).layers}."
    beyond = [key for key in start.unused if key.startswith(stack)]
    if beyond:
        doubts.append(
            f"the model's files hold layers that its configuration leaves out: {unused}"
        )
    if not start.is_tuned:
        also = f" (not used: {unused})" if unused else ""
        if start.missing:
            doubts.append(f"the model's files hold no head: it gets a new one{also}")
        else:
            doubts.append(f"the model gets a new head in place of its own{also}")
    elif start.unused and not beyond:
        doubts.append(f"weights in the model's files that are not used: {unused}")
    return doubts
