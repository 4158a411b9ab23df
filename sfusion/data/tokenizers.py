"""Tokenizers of pretrained models."""

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sfusion.data.pretrained import TOKENIZER_FILES, locate_model
from sfusion.errors import SfusionError, one_line


def load_tokenizer(name_or_dir: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`sfusion.data.pretrained.locate_model`.

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
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
