"""Whether a model and its tokenizer agree, and how many tokens a text has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from sfusion.errors import SfusionError, one_line
from sfusion.models.architectures import architecture_of, token_limit

LONGEST = 128  # tokens, unless the user asks for more
ENOUGH = 0.95  # share of the texts that are read whole, where the limits allow it
STEP = 8  # tokens; lengths are multiples of it
SHORTEST = 3  # tokens: one between the two that stand around a text


@dataclass(frozen=True)
class TextLength:
    """How many tokens a text has at most.

    Attributes
    ----------
    tokens : int
    cut : float
        Share of the texts that are longer.
    end : {"head", "tail"}
        Which end of those is read.
    """

    tokens: int
    cut: float
    end: str = "head"


def ready_tokenizer(
    tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig
) -> None:
    """Make sure that a tokenizer pads at the end, and that the model knows with what.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Changed in place: a decoder's often pads with nothing; then the model's padding
        token does, or where it has none, the end of text.
    config : transformers.PreTrainedConfig
        Changed in place.

    Raises
    ------
    SfusionError
        When there is nothing to pad with, a decoder would take padding for its last
        token, or the model lacks embeddings for the tokenizer.
    """
    # Positions are counted from the front, and padding there would move them.
    tokenizer.padding_side = "right"
    if "attention_mask" not in tokenizer.model_input_names:
        names = [*tokenizer.model_input_names, "attention_mask"]
        tokenizer.model_input_names = names
    if tokenizer.pad_token is None:
        tokenizer.pad_token = _padding_of(tokenizer, config)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    reads_last = architecture_of(config).reads == "last"
    if config.pad_token_id != tokenizer.pad_token_id and reads_last:
        raise SfusionError(
            f"the tokenizer pads with token {tokenizer.pad_token_id}, the model "
            f"expects {config.pad_token_id} and would read padding: make them agree"
        )
    if max(tokenizer.get_vocab().values()) >= config.vocab_size:
        raise SfusionError(
            f"the tokenizer has {len(tokenizer)} tokens, the model "
            f"{config.vocab_size}: they do not belong together"
        )


def _padding_of(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> str:
    """Choose the token to pad with."""
    token = tokenizer.eos_token
    if config.pad_token_id is not None:
        token = tokenizer.convert_ids_to_tokens(config.pad_token_id)
    if token is None:
        raise SfusionError(
            "the tokenizer has neither a padding nor an end token: add one"
        )
    return token


def fit_tokens(
    tokenizer: PreTrainedTokenizerBase,
    config: PreTrainedConfig,
    texts: Sequence[str],
    max_length: int | None = None,
) -> TextLength:
    """Determine how many tokens a text has: what the texts need and the model can take.

    Parameters
    ----------
    tokenizer, config
        See :func:`ready_tokenizer`, which changes both.
    texts : sequence of str
    max_length : int, optional
        See :func:`sfusion.compress`.

    Returns
    -------
    TextLength

    Raises
    ------
    SfusionError
        When the model takes no texts of that length, or not this tokenizer's.
    """
    with one_line("the tokenizer does not fit the model"):
        ready_tokenizer(tokenizer, config)
        limit = tokenizer.model_max_length
        limit = min(token_limit(config) or limit, limit)
        lengths = _count_tokens(tokenizer, list(texts))
    if max_length is None:
        enough = int(np.quantile(lengths, ENOUGH, method="higher"))
        rounded = STEP * -(-max(enough, STEP) // STEP)
        max_length = min(rounded, LONGEST, limit)
    if not SHORTEST <= max_length <= limit:
        raise SfusionError(
            f"max_length {max_length}: the model takes {SHORTEST} to {limit} tokens"
        )
    end = "tail" if tokenizer.truncation_side == "left" else "head"
    return TextLength(max_length, float(np.mean(lengths > max_length)), end)


def _count_tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> np.ndarray:
    with one_line("the tokenizer cannot read the texts"):
        tokens = tokenizer(texts)["input_ids"]
    return np.array([len(numbers) for numbers in tokens])
