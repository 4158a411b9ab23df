"""Tokenised texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from transformers import BatchEncoding, PreTrainedTokenizerBase

from sfusion.errors import one_line

# Characters read for each token that is kept: English has four to five.
READ_AHEAD = 8


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

    def take(self, indices: Sequence[int]) -> Encoded:
        """Rows by number, in the order given."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        return Encoded(
            self.input_ids[rows], self.attention_mask[rows], self.labels[rows]
        )

    def __add__(self, other: Encoded) -> Encoded:
        """Put other rows behind these."""
        names = [field.name for field in fields(self)]
        pairs = [(getattr(self, name), getattr(other, name)) for name in names]
        return Encoded(*map(torch.cat, pairs))

    def to(self, device: torch.device | str) -> Encoded:
        """Move the rows to a device."""
        return Encoded(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.labels.to(device),
        )

    def trim(self) -> Encoded:
        """Cut off the last columns, where every row is padding."""
        columns = self.attention_mask.any(0).nonzero()
        width = int(columns.max()) + 1 if len(columns) else 1
        return Encoded(
            self.input_ids[:, :width], self.attention_mask[:, :width], self.labels
        )


def encode(
    texts: Sequence[str],
    labels: Sequence[int],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> Encoded:
    """Tokenise texts, N of them, padded at the end.

    Of a long text only as much is read as its first tokens need.

    Parameters
    ----------
    texts : sequence of str
        Texts.
    labels : sequence of int, length N
        Class numbers.
    tokenizer : transformers tokenizer
        Must know a padding token.
    max_length : int
        Tokens per text, by truncation or padding.

    Returns
    -------
    Encoded

    Raises
    ------
    SfusionError
        When the tokenizer cannot read a text.
    """
    with one_line("the tokenizer cannot read the texts"):
        tokens = _read_starts(list(texts), tokenizer, max_length)
    return Encoded(
        tokens["input_ids"],
        tokens["attention_mask"],
        torch.tensor(labels, dtype=torch.long),
    )


def _tokenise(
    texts: list[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    **options: bool,
) -> BatchEncoding:
    return tokenizer(
        texts,
        padding="max_length",
        padding_side="right",
        truncation=True,
        max_length=max_length,
        return_attention_mask=True,
        return_tensors="pt",
        **options,
    )


def _read_starts(
    texts: list[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> BatchEncoding:
    """Tokenise the start of each text, and whole those where that does not suffice.

    It suffices where all tokens that are kept end before the last blank of the start:
    what follows a blank changes no word before it.
    """
    if not _splits_at_blanks(tokenizer):
        return _tokenise(texts, tokenizer, max_length)
    limit = READ_AHEAD * max_length
    starts = [text if len(text) <= limit else text[:limit].rstrip() for text in texts]
    safe_ends = [len(start.rpartition(" ")[0].rstrip()) for start in starts]
    tokens = _tokenise(starts, tokenizer, max_length, return_offsets_mapping=True)
    token_ends = tokens["offset_mapping"][:, :, 1].amax(1).tolist()
    is_full = tokens["attention_mask"].all(1).tolist()
    unsure = [
        number
        for number, text in enumerate(texts)
        if starts[number] != text
        and not (is_full[number] and token_ends[number] <= safe_ends[number])
    ]
    if unsure:
        again = _tokenise([texts[number] for number in unsure], tokenizer, max_length)
        for name in ("input_ids", "attention_mask"):
            tokens[name][unsure] = again[name]
    return tokens


def _splits_at_blanks(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Check whether a tokenizer reads from the front, word by word, with offsets."""
    if not tokenizer.is_fast or tokenizer.truncation_side != "right":
        return False
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    return splitter is not None and len(splitter.pre_tokenize_str("a b")) > 1
