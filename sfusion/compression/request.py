"""What a compression is asked for, refused before anything is read if it cannot be."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfusion.data.labels import counted, shown
from sfusion.data.tokenizers import CUT_SIDES
from sfusion.errors import SfusionError, one_line
from sfusion.pruning.strategies import COMPRESSION_STRATEGIES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# At once on the disk: the original and what becomes of it; each ONNX form takes as much
# again at most, with what is tried on the way to 8 bits.
MODELS_KEPT = 2

# One percentage point of accuracy, where the user names no other limit.
WITHIN = 0.01


@dataclass(frozen=True)
class Target:
    """How small the model is to become.

    Attributes
    ----------
    keep : int, optional
        Layers to keep.
    max_drop : float, optional
        Share of validation accuracy that may be lost.
    """

    keep: int | None = None
    max_drop: float | None = None

    @property
    def limit(self) -> float:
        """Share of accuracy that may be lost."""
        return WITHIN if self.max_drop is None else self.max_drop

    @property
    def is_open(self) -> bool:
        """Whether the whole curve is wanted, to choose from."""
        return self.keep is None and self.max_drop is None

    def check_depth(self, lowest: int, depth: int) -> None:
        """Refuse to keep layers that a model has not, or too few.

        Parameters
        ----------
        lowest : int
            Fewest layers that can be left.
        depth : int
            Layers of the model.

        Raises
        ------
        SfusionError
        """
        if depth <= lowest:
            raise SfusionError(
                f"the model has {counted(depth, 'layer')}, of which {lowest} must "
                "stay: there is nothing to remove"
            )
        if self.keep is not None and not lowest <= self.keep < depth:
            raise SfusionError(
                f"cannot keep {counted(self.keep, 'layer')}: give {lowest} to "
                f"{depth - 1}"
            )


@dataclass(frozen=True)
class Forms:
    """In which forms the model is written.

    Attributes
    ----------
    onnx, int8, trim_vocabulary : bool
        See :func:`sfusion.compress`.
    """

    onnx: bool = False
    int8: bool = False
    trim_vocabulary: bool = False


def check_target(target: Target) -> None:
    """Refuse a target that no model can meet.

    Parameters
    ----------
    target : Target

    Raises
    ------
    SfusionError
    """
    keep, max_drop = target.keep, target.max_drop
    if keep is not None and max_drop is not None:
        raise SfusionError("give keep (--keep) or max_drop (--max-drop), not both")
    if max_drop is not None and not 0 <= max_drop < 1:
        raise SfusionError(
            f"max_drop {max_drop}: give a share such as 0.01, one percentage point"
        )
    if keep is not None and keep < 1:
        raise SfusionError(f"cannot keep {counted(keep, 'layer')}: keep at least one")


def check_options(
    strategy: str,
    seed: int,
    learning_rate: float | None,
    threads: int | None,
    read: str | None,
) -> None:
    """Refuse options that make no sense; see :func:`sfusion.compress`.

    Parameters
    ----------
    strategy, seed, learning_rate, threads, read

    Raises
    ------
    SfusionError
    """
    if strategy not in COMPRESSION_STRATEGIES:
        known = ", ".join(COMPRESSION_STRATEGIES)
        raise SfusionError(f"strategy {strategy!r} is not known: use one of {known}")
    if seed < 0:
        raise SfusionError(f"seed {seed}: give 0 or more")
    if threads is not None and threads < 1:
        raise SfusionError(f"threads {threads}: give a positive number")
    if read == "both":
        raise SfusionError(
            "read 'both': both ends of a text are not built, for plain transformers "
            "would not read them so: give head or tail"
        )
    if read not in (None, *CUT_SIDES):
        raise SfusionError(f"read {read!r}: give {' or '.join(CUT_SIDES)}")
    if learning_rate is not None and not 0 < learning_rate < 1:
        raise SfusionError(
            f"learning_rate {learning_rate:g}: give a number between 0 and 1, such as "
            "0.0001"
        )


def check_place(out: Path) -> None:
    """Refuse a place where no directory can be made.

    Parameters
    ----------
    out : Path
        Absolute.

    Raises
    ------
    SfusionError
    """
    with one_line(f"{shown(str(out))} cannot be written"):
        if out.is_symlink():
            raise SfusionError(f"{out} is a link: give the directory itself")
        if out.is_file():
            raise SfusionError(f"{out} is a file: give a new directory")
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise SfusionError(
                f"{out} exists already and is not empty: give a new directory"
            )
        if os.path.ismount(out):
            raise SfusionError(
                f"{out} is where another disk is mounted, nothing can take its place: "
                "give a directory in it"
            )
        if not out.parent.is_dir():
            raise SfusionError(f"{out.parent} is not a directory; create it first")
    try:
        with tempfile.TemporaryFile(dir=out.parent) as trial:
            trial.write(b"some text")
    except OSError as error:
        raise SfusionError(
            f"{out.parent} cannot be written ({error.strerror or error}): choose "
            "another directory"
        ) from None


def check_space(out: Path, model: PreTrainedModel, forms: Forms) -> None:
    """Refuse a place with no space for the models that lie there meanwhile.

    Parameters
    ----------
    out : Path
        Absolute.
    model : transformers.PreTrainedModel
        The original, in float32.
    forms : Forms
        What is written beside it.

    Raises
    ------
    SfusionError
    """
    size = sum(
        weights.numel() * weights.element_size() for weights in model.parameters()
    )
    files = 2 if forms.int8 else int(forms.onnx)  # 8 bits are made of the other
    needed = (MODELS_KEPT + files) * size
    free = shutil.disk_usage(out.parent).free
    if free < needed:
        raise SfusionError(
            f"no space in {out.parent}: about {needed / 1e6:,.1f} MB are needed while "
            f"the model is made, {free / 1e6:,.1f} MB are free"
        )
