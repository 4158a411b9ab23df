"""Tokenizers of pretrained models."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sfusion.data.pretrained import TOKENIZER_FILES, locate_model
from sfusion.errors import SfusionError, one_line

# On which side a text is cut, by the end that is read.
CUT_SIDES = {"head": "right", "tail": "left"}


def load_tokenizer(
    name_or_dir: str | Path, end: str | None = None
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`sfusion.data.pretrained.locate_model`.
    end : {"head", "tail"}, optional
        Which end of a text that is too long it reads, also once it is saved and loaded
        again; by default as it was saved.

    Returns
    -------
    transformers.PreTrainedTokenizerBase

    Raises
    ------
    SfusionError
        When there is none, or it cannot be loaded.
    """
    directory = locate_model(name_or_dir)
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise SfusionError(
            f"{str(directory)!r} has no tokenizer: it lacks {TOKENIZER_FILES[0]}"
        )
    with one_line(f"the tokenizer in {str(directory)!r} cannot be loaded"):
        # An attribute that is set later is not saved: it has to be given here.
        options = {} if end is None else {"truncation_side": CUT_SIDES[end]}
        tokenizer = AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, **options
        )
    try:
        _ = tokenizer.unk_token_id
    except RecursionError:  # it is looked up as an unknown token, and so on
        raise SfusionError(
            f"the tokenizer in {str(directory)!r} has the unknown token "
            f"{tokenizer.unk_token!r}, which its vocabulary lacks: name one that it "
            "has (unk_token in tokenizer_config.json)"
        ) from None
    return tokenizer
