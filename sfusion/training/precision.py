"""The type, the device and the threads that a model runs with."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from threadpoolctl import threadpool_limits
from torch.nn import functional

from sfusion.disk import cache_folder, write_atomically
from sfusion.errors import SfusionError
from sfusion.models.layers import copy_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PRECISIONS = ("fp32", "bf16")

# The products of a layer of the study's model over a batch: 32 sequences of 32 tokens,
# through its attention and both maps of its feed-forward part.
TOKENS = 1024
MAPS = ((384, 384), (384, 1536), (1536, 384))

# A processor on which bfloat16 pays reaches about twice float32's rate, one on which it
# does not 0.6 of it. What is measured moves by a few per cent under other work.
MARGIN = 1.2
ROUNDS = 13


@dataclass(frozen=True)
class PrecisionChoice:
    """A precision, and why it was taken.

    Attributes
    ----------
    precision : {"fp32", "bf16"}
    reason : str
        A clause for people, such as ``"it was asked for"``.
    """

    precision: str
    reason: str


def choose_precision(
    precision: str, device: str | torch.device = "cpu"
) -> PrecisionChoice:
    """Turn ``"auto"`` into the precision that pays on a device, and say why.

    Parameters
    ----------
    precision : {"auto", "fp32", "bf16"}
    device : str or torch.device

    Returns
    -------
    PrecisionChoice
        For ``"auto"``: bfloat16 on CUDA from Ampere on; on a processor that has
        instructions for it where products in it, measured once a machine and kept in
        :func:`sfusion.disk.cache_folder`, are at least ``MARGIN`` times as fast as in
        float32; else float32.

    Raises
    ------
    SfusionError
        For any other name.
    """
    if precision in PRECISIONS:
        return PrecisionChoice(precision, "it was asked for")
    if precision != "auto":
        raise SfusionError(
            f"precision {precision!r} is not known: use auto, fp32 or bf16"
        )
    if torch.device(device).type == "cpu":
        return _choose_on_processor()
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return PrecisionChoice("bf16", "the GPU multiplies in bfloat16")
    return PrecisionChoice("fp32", "the GPU does not multiply in bfloat16")


def resolve_precision(precision: str, device: str | torch.device = "cpu") -> str:
    """Return the precision of :func:`choose_precision` alone."""
    return choose_precision(precision, device).precision


def _choose_on_processor() -> PrecisionChoice:
    able = torch.cpu.get_capabilities()
    if not (able.get("amx_bf16") or able.get("avx512_bf16")):
        return PrecisionChoice("fp32", "the processor has no bfloat16 instructions")
    return _kept_choice(json.dumps([dict(able), torch.__version__], sort_keys=True))


@functools.cache
def _kept_choice(machine: str) -> PrecisionChoice:
    """Read the choice for a machine, or measure and keep it.

    A file that is damaged is written again; one that cannot be written is done without.
    """
    digest = hashlib.sha256(machine.encode()).hexdigest()[:16]
    file = cache_folder() / "precision" / f"{digest}.json"
    choice = _read_choice(file)
    if choice is None:
        choice = _measured_choice()
        with contextlib.suppress(SfusionError):
            write_atomically(file, json.dumps(asdict(choice)).encode())
    return choice


def _read_choice(file: Path) -> PrecisionChoice | None:
    try:
        choice = PrecisionChoice(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return choice if choice.precision in PRECISIONS else None


def _measured_choice() -> PrecisionChoice:
    speed = bfloat16_speed()
    measured = f"products in bfloat16 run at {speed:.2f} times float32's rate"
    if speed >= MARGIN:
        return PrecisionChoice("bf16", measured)
    return PrecisionChoice("fp32", f"{measured}, and {MARGIN} is asked for")


def bfloat16_speed() -> float:
    """Measure the products of a layer in bfloat16 against float32, with one thread.

    Returns
    -------
    float
        Median time in float32 over that in bfloat16, in rounds of one after the other,
        so that a processor that slows down slows both.
    """
    operands = {
        dtype: [
            (torch.ones(TOKENS, inner, dtype=dtype), torch.ones(outer, inner).to(dtype))
            for inner, outer in MAPS
        ]
        for dtype in (torch.float32, torch.bfloat16)
    }
    seconds: dict[torch.dtype, list[float]] = {dtype: [] for dtype in operands}
    with fixed_threads(1), torch.inference_mode():
        for _ in range(1 + ROUNDS):
            for dtype, pairs in operands.items():
                seconds[dtype].append(_product_seconds(pairs))
    # The first round is a warm-up.
    medians = {dtype: statistics.median(times[1:]) for dtype, times in seconds.items()}
    return medians[torch.float32] / medians[torch.bfloat16]


def _product_seconds(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    start = time.thread_time()  # other work on the machine does not lengthen it
    for inputs, weight in pairs:
        functional.linear(inputs, weight)
    return time.thread_time() - start


def default_device() -> str:
    """Return ``"cuda"`` where there is a card, else ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def cast(model: PreTrainedModel, precision: str) -> PreTrainedModel:
    """Return what runs the passes: a bfloat16 copy, or the model itself."""
    return copy_model(model, torch.bfloat16) if precision == "bf16" else model


@contextlib.contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Fix the threads of torch and of numpy's linear algebra, and restore them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
