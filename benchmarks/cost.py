"""What the profile `paper` would cost on one GPU and on many.

Operations are counted in closed form (`sfusion.models.layers.size`; a backward pass
counts twice) and divided by a GPU's published dense bf16 rate times the share of it
that is reached: by default the one that the study `base`, a model of the same size,
reached on one H200.

usage: python benchmarks/cost.py [--profile paper] [--rate 989] [--share 0.09] [--gpus 1 8 64]
"""

import argparse
import math

import pandas as pd
from transformers import AutoModelForSequenceClassification, BertConfig

from sfusion.experiments.profiles import load_profile
from sfusion.models.size import size
from sfusion.pruning.strategies import STRATEGIES, STUDIED, expand

RATE = 989  # of an H200 SXM, dense bf16, 10^12 operations per second, from the maker's data sheet
REACHED = 0.09  # 3.2e16 operations in 352 seconds, docs/scaling.md
DEPTH = 12  # BERT-base, whose configuration is the library's default


def flops(profile):
    """Count the operations of a forward pass over one sequence, by the layers that are left."""
    few = []
    for left in (1, 2):
        config = BertConfig(
            num_hidden_layers=left, vocab_size=8
        )  # words cost no operations
        few.append(
            size(
                AutoModelForSequenceClassification.from_config(config),
                profile.max_length,
            )["flops"]
        )
    return {
        left: few[0] + (left - 1) * (few[1] - few[0]) for left in range(1, DEPTH + 1)
    }


def waves(profile):
    """List (what, nodes over all experiments, operations per node), in the order in which they wait.

    The nodes are the most there can be: a path per strategy, but never more than there
    are sequences of that many layers. Strategies that agree share, so fewer are
    trained.
    """
    forward = flops(profile)
    experiments = len(profile.tasks) * len(profile.seeds)
    looked_at = profile.sizes.validation + profile.sizes.test
    names = [name for name in profile.strategies or STUDIED if name != "greedy-oracle"]
    for fused in (False, True):
        chosen = [n for n in names if (STRATEGIES[n].learned_from is not None) == fused]
        labels = len(expand(chosen, profile.random_orders))
        for removed in range(fused, DEPTH):
            samples = profile.recovery.samples if removed else profile.original.samples
            passes = 3 * (samples + profile.sizes.probe) + looked_at
            nodes = experiments * min(labels, math.perm(DEPTH, removed))
            yield f"{removed} removed", nodes, passes * forward[DEPTH - removed]
    for removed in range(
        1, DEPTH
    ):  # the greedy search trains every child, and reads no signals
        passes = 3 * profile.recovery.samples + looked_at
        yield (
            "greedy",
            experiments * (DEPTH - removed + 1),
            passes * forward[DEPTH - removed],
        )
    taught = profile.distillation
    for removed in taught.removals:  # two students, one of them with a teacher
        passes = 2 * (3 * taught.samples + looked_at) + taught.samples
        yield "distillation", experiments, passes * forward[DEPTH - removed]


def estimate(profile, rate, share, gpus):
    """Estimate hours: nodes of a wave run side by side, and a wave waits for the one before.

    ``rate``: 10^12 operations per second of one GPU; ``share``: of it, that is reached.
    Returns a row per number of GPUs: ``hours``, ``gpu_hours``, and ``busy``, the share
    of the GPUs' time with work in it.
    """
    found = [
        (nodes, operations / (rate * 1e12 * share) / 3600)
        for _, nodes, operations in waves(profile)
    ]
    work = sum(nodes * hours for nodes, hours in found)
    rows = []
    for count in gpus:
        hours = sum(math.ceil(nodes / count) * each for nodes, each in found)
        rows.append(
            {
                "gpus": count,
                "hours": hours,
                "gpu_hours": work,
                "busy": work / hours / count,
            }
        )
    return pd.DataFrame(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="paper")
    parser.add_argument("--rate", type=float, default=RATE, help="10^12 a second")
    parser.add_argument("--share", type=float, default=REACHED)
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 8, 64])
    options = parser.parse_args()
    profile = load_profile(options.profile)
    found = list(waves(profile))
    nodes, work = sum(n for _, n, _ in found), sum(n * o for _, n, o in found)
    print(f"profile {profile.name}: at most {nodes} trainings, {work:.2e} operations")
    print(f"at {options.rate:g}e12 operations per second, {options.share:.0%} of it:")
    print(
        estimate(profile, options.rate, options.share, options.gpus)
        .round(2)
        .to_string(index=0)
    )


if __name__ == "__main__":
    main()
