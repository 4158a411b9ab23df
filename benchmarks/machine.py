"""What the machine can do: its matrix rate, and its memory's.

Two numbers judge a training step: its operations over the machine's matrix rate, and
its bytes over the memory's rate; each as a share of the time that the step takes.
"""

from __future__ import annotations

from typing import Any

import torch
from experiments import median_seconds
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PRODUCTS = ("aten::addmm", "aten::mm", "aten::bmm", "aten::baddbmm")
# 32 sequences of 32 tokens through the model's feed-forward map.
ROWS = 1024
INNER = 384
COLUMNS = 1536
STREAM = 2**28  # bytes, far beyond any cache


class Operators(TorchDispatchMode):
    """Note every matrix product, and the bytes of every operator.

    The bytes are of all operators' arguments and results: what would move without
    caches. Products of the same shapes and strides share their operands, so that these
    are in the cache oftener than in the step: the rate of ``run`` is rather too high
    than too low.

    Attributes
    ----------
    products : list of (operator, list of Tensor)
    bytes : int
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[Any, list[torch.Tensor]]] = []
        self.bytes = 0
        self._operands: dict[tuple[Any, ...], list[torch.Tensor]] = {}

    def __torch_dispatch__(self, function, types, arguments=(), kwargs=None):
        result = function(*arguments, **(kwargs or {}))
        name = function._schema.name
        if name in PRODUCTS:
            key = (name, *((a.shape, a.stride()) for a in arguments))
            if key not in self._operands:
                self._operands[key] = [torch.randn_like(a) for a in arguments]
            self.products.append((function, self._operands[key]))
        if not function.is_view:
            moved = tree_leaves((arguments, kwargs, result))
            self.bytes += sum(t.nbytes for t in moved if isinstance(t, torch.Tensor))
        return result

    def run(self) -> None:
        """Run all products again, and nothing else."""
        for function, operands in self.products:
            function(*operands)


def best_product_rate(dtype: torch.dtype, count: int = 20) -> float:
    """Measure operations per second of one pair's product, again and again."""
    left = torch.randn(ROWS, INNER, dtype=dtype)
    right = torch.randn(INNER, COLUMNS, dtype=dtype)

    def multiply() -> None:
        for _ in range(count):
            left @ right

    return 2 * ROWS * INNER * COLUMNS * count / median_seconds(multiply)


def memory_rate() -> float:
    """Measure bytes per second of a copy: as many are read as are written."""
    source = torch.zeros(STREAM, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * STREAM / median_seconds(lambda: target.copy_(source))
