"""The weights in a model's files: what they lack, what is left over, what is harmed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open

from sfusion.errors import SfusionError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FLOATING = ("F64", "F32", "F16", "BF16")  # as safetensors writes them


def refuse_adapter(directory: Path, name: str) -> None:
    """Refuse a folder with an adapter: its weights would be left out.

    Parameters
    ----------
    directory : Path
    name : str
        The model, for the message.

    Raises
    ------
    SfusionError
    """
    for pattern in ("adapter_config.json", "adapter_model.*"):
        for file in sorted(directory.glob(pattern)):
            raise SfusionError(
                f"model {name!r}: Adapters are not read ({file.name}); merge it into "
                "its model and give that"
            )


def refuse_integers(directory: Path, model: PreTrainedModel, name: str) -> None:
    """Refuse files whose weights are integers: they are quantised.

    Parameters
    ----------
    directory : Path
    model : transformers.PreTrainedModel
        Made from these files.
    name : str
        The model, for the message.

    Raises
    ------
    SfusionError
    """
    parameters = dict(model.named_parameters())
    for file in sorted(directory.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():
                stored = tensors.get_slice(key).get_dtype()
                known = key in parameters or key.endswith(".weight")
                if known and stored not in FLOATING:
                    raise SfusionError(
                        f"model {name!r}: {key} is stored as {stored}, quantised: give "
                        "its weights in floating point"
                    )


def refuse_not_finite(model: PreTrainedModel, name: str) -> None:
    """Refuse weights that are not numbers, or infinite.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    name : str
        The model, for the message.

    Raises
    ------
    SfusionError
    """
    for key, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise SfusionError(
                f"model {name!r}: {key} holds weights that are not finite: give a "
                "checkpoint from before its training failed"
            )


def body_prefixes(model: PreTrainedModel, layers: str) -> tuple[str, ...]:
    """Name the beginnings of the names of all weights that are no head's.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    layers : str
        Path of its layers.

    Returns
    -------
    tuple of str
    """
    return (f"{model.base_model_prefix}.", f"{layers}.")


def of_body(keys: Iterable[str], prefixes: tuple[str, ...]) -> list[str]:
    """Choose the weights that a head does not replace; a pooler counts to the head.

    Parameters
    ----------
    keys : iterable of str
    prefixes : tuple of str
        See :func:`body_prefixes`.

    Returns
    -------
    list of str
    """
    return [
        key for key in keys if key.startswith(prefixes) and ".pooler." not in f".{key}"
    ]


def group_names(keys: Iterable[str]) -> list[str]:
    """Shorten names of weights to the modules that they are in: to two parts each.

    Parameters
    ----------
    keys : iterable of str

    Returns
    -------
    list of str
        Each once.
    """
    parts = [key.split(".")[:2] for key in keys]
    return list(dict.fromkeys(".".join(part) for part in parts))
