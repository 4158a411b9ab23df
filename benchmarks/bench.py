"""Speed as ratios, each measured in one run on this machine; written to build/bench.json."""

import copy
import json
import statistics
import time

import torch

from sfusion.models import embedding_parameters, load_model, size
from sfusion.nodes import fixed_threads
from sfusion.profiles import load_profile
from sfusion.results import BUILD
from sfusion.signals import extract_signals
from sfusion.tasks import load_task
from sfusion.training import default_device, fine_tune, lower, resolve_precision

REPEATS = 5
MATRIX = (1024, 384, 1536)  # 32 sequences of 32 tokens through the model's feed-forward map


def median_seconds(function):
    function()  # the first call pays for kernels and memory that later ones reuse
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matrix_rate(kind):
    rows, inner, columns = MATRIX
    left, right = torch.randn(rows, inner, dtype=kind), torch.randn(inner, columns, dtype=kind)
    count = 20

    def products():
        for _ in range(count):
            left @ right

    return 2 * rows * inner * columns * count / median_seconds(products)


def main():
    profile = load_profile("embedded")
    precision = resolve_precision(profile.precision, default_device())
    task = load_task(profile.tasks[0], sizes=(320, 32, 32), max_length=profile.max_length)
    model = load_model(profile.model, label_names=task.label_names)
    probe = task.train.take(range(profile.sizes.probe))
    with fixed_threads(profile.threads):
        passes = lower(copy.deepcopy(model), precision)
        for parameter in embedding_parameters(passes):
            parameter.requires_grad_(False)

        def forward_backward():
            for start in range(0, len(probe), 32):
                batch = probe.take(range(start, min(start + 32, len(probe))))
                logits = passes(batch.input_ids, batch.attention_mask).logits.float()
                torch.nn.functional.cross_entropy(logits, batch.labels).backward()
                passes.zero_grad()

        base = median_seconds(forward_backward)
        signals = median_seconds(lambda: extract_signals(model, probe, precision=precision))
        recipe = profile.recovery
        steps = median_seconds(
            lambda: fine_tune(copy.deepcopy(model), task.train, recipe, seed=0, precision=precision)
        )
        # A backward pass costs two forward passes.
        achieved = 3 * size(model, profile.max_length)["flops"] * recipe.samples / steps
        rate = matrix_rate(torch.bfloat16 if precision == "bf16" else torch.float32)
    found = {
        "precision": precision,
        "threads": profile.threads,
        "signals_over_forward_backward": round(signals / base, 2),
        "step_share_of_matrix_rate": round(achieved / rate, 2),
        "training_samples_per_second": round(recipe.samples / steps, 1),
        "matrix_gflops_per_second": round(rate / 1e9, 1),
    }
    BUILD.mkdir(exist_ok=True)
    (BUILD / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
