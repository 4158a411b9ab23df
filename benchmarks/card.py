"""Training steps per second on a card, for one process and for several that share it.

A model of a known one's shape with random weights trains as a study does; each process
warms up, then all start together. Processes share a card best through CUDA's
Multi-Process Service (`nvidia-cuda-mps-control -d`). Operations are those of the
forward pass, times three for training.

usage: python benchmarks/card.py [--model minilm-l6] [--processes 1 16] [--steps 100]
"""

import argparse
import time

import torch
from torch import multiprocessing
from transformers import AutoConfig, AutoModelForSequenceClassification

from sfusion.data.encoding import Encoded
from sfusion.data.pretrained import locate_model
from sfusion.models.size import size
from sfusion.training.loop import fine_tune
from sfusion.training.precision import default_device, resolve_precision
from sfusion.training.recipes import Recipe

TEXTS, TOKENS, CLASSES = 2000, 32, 10


def make(name, device):
    """Make a model of a known one's shape."""
    model = AutoModelForSequenceClassification.from_config(
        AutoConfig.from_pretrained(locate_model(name), num_labels=CLASSES)
    )
    if device == "cuda" and model._supports_sdpa:  # as in a study
        model.set_attn_implementation("sdpa")
    return model.to(device)


def work(name, steps, start, seconds):
    """Train for so many steps, after a warm-up and when all processes are ready."""
    torch.set_num_threads(1)
    device = default_device()
    model, ones = make(name, device), torch.ones(TEXTS, TOKENS, dtype=torch.long)
    data = Encoded(
        torch.randint(1000, 20000, ones.shape),
        ones,
        torch.randint(0, CLASSES, (TEXTS,)),
    )
    precision = resolve_precision("auto", device)
    for count in (min(steps, 20), steps):
        start.wait()
        begin = time.perf_counter()
        fine_tune(
            model, data, Recipe(samples=32 * count), seed=0, precision=precision
        )  # waits for the card
    seconds.put(time.perf_counter() - begin)


def main():
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
    each_step = 3 * 32 * size(make(options.model, "cpu"), TOKENS)["flops"]
    context = multiprocessing.get_context("spawn")
    for count in options.processes:
        start, seconds = context.Barrier(count), context.Queue()
        given = options.model, options.steps, start, seconds
        workers = [context.Process(target=work, args=given) for _ in range(count)]
        for worker in workers:
            worker.start()
        slowest = max(seconds.get() for _ in workers)
        rate, each = count * options.steps / slowest, 1000 * slowest / options.steps
        speed = rate * each_step / 1e12
        print(
            f"{count} processes: {rate:.0f} steps of 32 texts per second, {each:.1f} ms each, {speed:.1f} TFLOP/s"
        )


if __name__ == "__main__":
    main()
