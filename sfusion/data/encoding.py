"""Tokenised texts."""

from dataclasses import dataclass

import torch


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

    def take(self, indices):
        """Rows by number, in the order given."""
        rows = torch.as_tensor(indices, dtype=torch.long)
        return Encoded(
            self.input_ids[rows], self.attention_mask[rows], self.labels[rows]
        )

    def __add__(self, other):
        """Put other rows behind these."""
        pairs = (
            (getattr(part, name) for part in (self, other))
            for name in ("input_ids", "attention_mask", "labels")
        )
        return Encoded(*(torch.cat(tuple(pair)) for pair in pairs))

    def to(self, device):
        """Move the rows to a device."""
        return Encoded(
            self.input_ids.to(device),
            self.attention_mask.to(device),
            self.labels.to(device),
        )

    def trim(self):
        """Cut off the last columns, where every row is padding."""
        columns = self.attention_mask.any(0).nonzero()
        width = int(columns.max()) + 1 if len(columns) else 1
        return Encoded(
            self.input_ids[:, :width], self.attention_mask[:, :width], self.labels
        )


def encode(texts, labels, tokenizer, max_length):
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
        Tokens per text, by truncation or padding.

    Returns
    -------
    Encoded
    """
    tokens = tokenizer(
        texts,
        padding="max_length",
        truncation=True,
        max_length=max_length,
        return_tensors="pt",
    )
    return Encoded(
        tokens["input_ids"],
        tokens["attention_mask"],
        torch.tensor(labels, dtype=torch.long),
    )
