"""How long a forward pass takes, before and after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from timeit import timeit
from typing import TYPE_CHECKING

import pandas as pd
import torch

if TYPE_CHECKING:
    from sfusion.data.encoding import Encoded

BATCHES = (1, 32)
WARM_UP = 3
ROUNDS = 15

BEFORE = "before"  # the run that the others are compared with


@dataclass(frozen=True)
class Latencies:
    """Times of several forward passes.

    Attributes
    ----------
    milliseconds : dict
        By run and batch size: ``median``, and the quartiles ``low`` and ``high`` over
        the rounds.
    ratios : dict
        By run and batch size, how many times as fast as ``before``: the median over the
        rounds of the two times of one round, which a disturbance of some rounds does
        not move.
    """

    milliseconds: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)


def latency(
    runs: Mapping[str, Callable], data: Encoded | Mapping[str, Encoded]
) -> Latencies:
    """Time several forward passes alternately: a busy machine slows all of them alike.

    Parameters
    ----------
    runs : mapping of str to callable
        Each takes token numbers, and an attention mask as ``attention_mask``; one is
        ``before``.
    data : Encoded or mapping of str to Encoded
        Where the tokens come from, for all of them or by run; batches are of full
        length, so that no padding is timed.

    Returns
    -------
    Latencies
    """
    found = Latencies()
    for count in BATCHES:
        calls = {}
        for name, run in runs.items():
            texts = data[name] if isinstance(data, Mapping) else data
            ids = texts.input_ids[torch.arange(count) % len(texts)]
            calls[name] = partial(run, ids, attention_mask=torch.ones_like(ids))
        times = _time_alternately(calls)
        quartiles = times.quantile([0.25, 0.5, 0.75]).round(3)
        quartiles.index = ["low", "median", "high"]
        ratios = times.rdiv(times[BEFORE], axis=0).median().round(3)
        batch = f"batch_{count}"
        for name in runs:
            found.milliseconds.setdefault(name, {})[batch] = quartiles[name].to_dict()
            if name != BEFORE:
                found.ratios.setdefault(name, {})[batch] = float(ratios[name])
    return found


def _time_alternately(calls: Mapping[str, Callable[[], object]]) -> pd.DataFrame:
    """Time each call once a round; milliseconds, a row per round."""
    rounds = []
    with torch.inference_mode():
        for _ in range(WARM_UP + ROUNDS):
            rounds.append(
                {name: timeit(call, number=1) for name, call in calls.items()}
            )
    return 1000 * pd.DataFrame(rounds[WARM_UP:])
