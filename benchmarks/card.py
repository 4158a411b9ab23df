"""Training steps per second on a card, for one process and for several that share it.

A model of a known one's shape with random weights trains as a study does; each process
warms up, then all start together. Processes share a card best through CUDA's
Multi-Process Service (`nvidia-cuda-mps-control -d`). Operations are those of the
forward pass, times three for training.

usage: python benchmarks/card.py [--model minilm-l6] [--processes 1 16] [--steps 100]
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

import torch
from experiments import seconds
from torch import multiprocessing
from transformers import AutoConfig, AutoModelForSequenceClassification

from sfusion.data.encoding import Encoded
from sfusion.data.pretrained import locate_model
from sfusion.models.size import size
from sfusion.training.loop import fine_tune
from sfusion.training.precision import default_device, resolve_precision
from sfusion.training.recipes import Recipe

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

    from transformers import PreTrainedModel

TEXTS = 2000
TOKENS = 32
CLASSES = 10
BATCH_SIZE = 32


def make(name: str, device: str) -> PreTrainedModel:
    """Make a model of a known one's shape."""
    config = AutoConfig.from_pretrained(locate_model(name), num_labels=CLASSES)
    model = AutoModelForSequenceClassification.from_config(config)
    if device == "cuda" and model._supports_sdpa:  # as in a study
        model.set_attn_implementation("sdpa")
    return model.to(device)


def work(name: str, steps: int, start: Barrier, times: Queue) -> None:
    """Train for so many steps, after a warm-up and when all processes are ready."""
    torch.set_num_threads(1)
    device = default_device()
    precision = resolve_precision("auto", device)
    model = make(name, device)
    data = Encoded(
        torch.randint(1000, 20000, (TEXTS, TOKENS)),
        torch.ones(TEXTS, TOKENS, dtype=torch.long),
        torch.randint(0, CLASSES, (TEXTS,)),
    )
    for count in (min(steps, 20), steps):
        recipe = Recipe(samples=BATCH_SIZE * count, batch_size=BATCH_SIZE)
        start.wait()
        # The loss that is returned has waited for the card.
        train = partial(fine_tune, model, data, recipe, seed=0, precision=precision)
        spent = seconds(train)
    times.put(spent)


def slowest(count: int, name: str, steps: int) -> float:
    """Return the seconds of the slowest of so many processes."""
    context = multiprocessing.get_context("spawn")
    times = context.Queue()
    arguments = (name, steps, context.Barrier(count), times)
    for _ in range(count):
        context.Process(target=work, args=arguments).start()
    return max(times.get() for _ in range(count))


def main() -> None:
    """Print a line per number of processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--model",
        default="minilm-l6",
        help="by name or directory (default: %(default)s)",
    )
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    forward = size(make(options.model, "cpu"), TOKENS)["flops"]
    for count in options.processes:
        spent = slowest(count, options.model, options.steps)
        rate = count * options.steps / spent
        speed = rate * 3 * BATCH_SIZE * forward / 1e12
        print(
            f"{count} processes: {rate:.0f} steps of {BATCH_SIZE} texts per second, "
            f"{1000 * spent / options.steps:.1f} ms each, {speed:.1f} TFLOP/s"
        )


if __name__ == "__main__":
    main()
