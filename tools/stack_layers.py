"""A twelve-layer surrogate: the layers of a pretrained model, stacked in block order.

No pretrained 12-layer BERT comes with any package. Progressive stacking (Gong et al. 2019,
"Efficient Training of BERT by Progressively Stacking") starts a deep model from two copies of a
shallow one, layers 0 to 5 and then 0 to 5 again; fine-tuned, such a model classifies about as well
as the shallow one. It is a surrogate for twelve depths, not a BERT-base: its upper half began as a
copy of its lower half.
"""

import copy
import os
import shutil
import tempfile
from pathlib import Path

from torch import nn
from transformers import AutoModel

from sfusion import SfusionError

COPIES = 2


def stack(source, folder):
    """Write a model whose layers are those of another, twice over.

    Parameters
    ----------
    source : Path
        Directory of a BERT model.
    folder : Path
        Where the deeper model goes, with the source's tokenizer; made whole or not at all.

    Returns
    -------
    Path
        The folder. It is left as it is when it exists.

    Raises
    ------
    SfusionError
        When the folder cannot be written.
    """
    folder = Path(folder)
    if (folder / "config.json").is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
            made = Path(partial) / folder.name
            model = AutoModel.from_pretrained(source, use_safetensors=True)
            layers = [copy.deepcopy(one) for _ in range(COPIES) for one in model.encoder.layer]
            model.encoder.layer = nn.ModuleList(layers)
            model.config.num_hidden_layers = len(layers)
            model.save_pretrained(made)
            for file in source.iterdir():
                if file.is_file() and file.name not in {"config.json", "model.safetensors"}:
                    shutil.copy(file, made)
            os.rename(made, folder)
    except OSError as error:
        if (folder / "config.json").is_file():
            return folder  # another process was first
        raise SfusionError(f"cannot write {folder}: {error.strerror}; set SFUSION_CACHE to another folder") from error
    return folder
