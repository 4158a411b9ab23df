"""Tokenizers of pretrained models."""

from transformers import AutoTokenizer

from sfusion.data.pretrained import TOKENIZER_FILES, locate_model
from sfusion.errors import SfusionError, first_line


def load_tokenizer(name_or_dir):
    """Load the tokenizer of a model.

    Parameters
    ----------
    name_or_dir : str or Path
        As in :func:`locate_model`.

    Returns
    -------
    transformers.PreTrainedTokenizerBase
    """
    directory = locate_model(name_or_dir)
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        raise SfusionError(
            f"{str(directory)!r} has no tokenizer: it lacks {TOKENIZER_FILES[0]}"
        )
    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # the libraries below have no common base
        raise SfusionError(
            f"the tokenizer in {str(directory)!r} cannot be loaded: {first_line(error)}"
        ) from error
