"""Training steps per second on a card, for one process and for several that share it.

A BERT of the embedded model's shape with random weights trains as a study does; each process warms
up, then all start together. Processes share a card best through CUDA's Multi-Process Service
(`nvidia-cuda-mps-control -d`).

usage: python benchmarks/card.py [--processes 1 16] [--steps 100]
"""

import argparse
import time

import torch
from torch import multiprocessing
from transformers import BertConfig, BertForSequenceClassification

from sfusion.data.tasks import Encoded
from sfusion.records.profiles import Recipe
from sfusion.training import default_device, fine_tune, resolve_precision

TEXTS, TOKENS, CLASSES = 2000, 32, 10
SHAPE = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


def work(steps, start, seconds):
    """Train for so many steps, after a warm-up and when all processes are ready."""
    torch.set_num_threads(1)
    device = default_device()
    attention = "sdpa" if device == "cuda" else "eager"  # as in a study
    config = BertConfig(**SHAPE, num_labels=CLASSES, attn_implementation=attention)
    model, ones = BertForSequenceClassification(config).to(device), torch.ones(TEXTS, TOKENS, dtype=torch.long)
    data = Encoded(torch.randint(1000, 20000, ones.shape), ones, torch.randint(0, CLASSES, (TEXTS,)))
    precision = resolve_precision("auto", device)
    for count in (min(steps, 20), steps):
        start.wait()
        begin = time.perf_counter()
        fine_tune(model, data, Recipe(samples=32 * count), seed=0, precision=precision)  # waits for the card
    seconds.put(time.perf_counter() - begin)


def main():
    """Print a line per number of processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for count in options.processes:
        start, seconds = context.Barrier(count), context.Queue()
        workers = [context.Process(target=work, args=(options.steps, start, seconds)) for _ in range(count)]
        for worker in workers:
            worker.start()
        slowest = max(seconds.get() for _ in workers)
        rate, each = count * options.steps / slowest, 1000 * slowest / options.steps
        print(f"{count} processes: {rate:.0f} steps of 32 samples per second, {each:.1f} ms each")


if __name__ == "__main__":
    main()
