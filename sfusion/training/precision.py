"""The type, the device and the threads that a model runs with."""

import contextlib

import torch
from threadpoolctl import threadpool_limits

from sfusion.errors import SfusionError
from sfusion.models.layers import copy_model


def resolve_precision(precision, device="cpu"):
    """Turn ``"auto"`` into the precision that pays on a device.

    Parameters
    ----------
    precision : {"auto", "fp32", "bf16"}
    device : str or torch.device

    Returns
    -------
    {"fp32", "bf16"}
        For ``"auto"``: bfloat16 where the processor multiplies in it (CUDA from Ampere
        on; on a CPU AMX or AVX512-BF16, where a step takes about half as long as in
        float32), else float32.

    Raises
    ------
    SfusionError
        For any other name.
    """
    if precision in ("fp32", "bf16"):
        return precision
    if precision != "auto":
        raise SfusionError(
            f"precision {precision!r} is not known: use auto, fp32 or bf16"
        )
    if torch.device(device).type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        fast = able.get("amx_bf16", False) or able.get("avx512_bf16", False)
    return "bf16" if fast else "fp32"


def default_device():
    """Return ``"cuda"`` where there is a card, else ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def cast(model, precision):
    """Return a model in the type in which its passes run: a bfloat16 copy, or the model itself."""
    return copy_model(model, torch.bfloat16) if precision == "bf16" else model


@contextlib.contextmanager
def fixed_threads(count):
    """Fix the threads of torch and of the linear algebra under numpy, and restore them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
