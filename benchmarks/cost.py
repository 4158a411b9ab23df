"""What the profile `paper` would cost on one GPU and on many.

Operations are counted in closed form (`sfusion.models.size.size`; a backward pass
counts twice) and divided by a GPU's published dense bf16 rate times the share of it
that is reached: by default the one that the study `base`, a model of the same size,
reached on one H200.

usage: python benchmarks/cost.py [--profile paper] [--rate 989] [--share 0.09]
       [--gpus 1 8 64]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
from experiments import evaluated_texts
from transformers import AutoModelForSequenceClassification, BertConfig

from sfusion.experiments.profiles import Profile, load_profile
from sfusion.models.size import size
from sfusion.pruning.strategies import STRATEGIES, STUDIED, expand

# Of an H200 SXM, dense bf16, 10^12 operations per second, from the maker's data sheet.
RATE = 989
REACHED = 0.09  # 3.2e16 operations in 352 seconds, docs/scaling.md
DEPTH = 12  # BERT-base, whose configuration is the library's default


@dataclass(frozen=True)
class Wave:
    """Nodes that may run side by side.

    Attributes
    ----------
    what : str
    nodes : int
        Over all experiments.
    operations : int
        Per node.
    """

    what: str
    nodes: int
    operations: int


def flops(profile: Profile) -> dict[int, int]:
    """Count the operations of a forward pass over one sequence, by the layers left."""
    one, two = (_flops_of_layers(count, profile.max_length) for count in (1, 2))
    return {left: one + (left - 1) * (two - one) for left in range(1, DEPTH + 1)}


def _flops_of_layers(count: int, tokens: int) -> int:
    config = BertConfig(num_hidden_layers=count, vocab_size=8)  # words cost nothing
    model = AutoModelForSequenceClassification.from_config(config)
    return size(model, tokens)["flops"]


def waves(profile: Profile) -> Iterator[Wave]:
    """List the waves of a study, in the order in which they wait.

    The nodes are the most there can be: a path per strategy, but never more than there
    are sequences of that many layers. Strategies that agree share, so fewer are
    trained.
    """
    forward = flops(profile)
    experiments = len(profile.tasks) * len(profile.seeds)
    texts = evaluated_texts(profile)
    names = [name for name in profile.strategies or STUDIED if name != "greedy-oracle"]
    for fused in (False, True):
        chosen = [n for n in names if (STRATEGIES[n].learned_from is not None) == fused]
        labels = len(expand(chosen, profile.random_orders))
        for removed in range(1 if fused else 0, DEPTH):
            recipe = profile.recovery if removed else profile.original
            passes = 3 * (recipe.samples + profile.sizes.probe) + texts
            nodes = experiments * min(labels, math.perm(DEPTH, removed))
            yield Wave(f"{removed} removed", nodes, passes * forward[DEPTH - removed])
    # The greedy search trains every child, and reads no signals.
    for removed in range(1, DEPTH):
        nodes = experiments * (DEPTH - removed + 1)
        passes = 3 * profile.recovery.samples + texts
        yield Wave("greedy", nodes, passes * forward[DEPTH - removed])
    taught = profile.distillation
    for removed in taught.removals:  # two students, one of them with a teacher
        passes = 2 * (3 * taught.samples + texts) + taught.samples
        yield Wave("distillation", experiments, passes * forward[DEPTH - removed])


def estimate(
    profile: Profile, rate: float, share: float, gpus: list[int]
) -> pd.DataFrame:
    """Estimate hours: nodes of a wave run side by side, and each waits for the last.

    Parameters
    ----------
    profile : Profile
    rate : float
        10^12 operations per second of one GPU.
    share : float
        Of the rate, that is reached.
    gpus : list of int

    Returns
    -------
    DataFrame
        A row per number of GPUs: ``hours``, ``gpu_hours``, and ``busy``, the share of
        the GPUs' time with work in it.
    """
    speed = rate * 1e12 * share * 3600
    frame = pd.DataFrame(waves(profile))
    work = (frame["nodes"] * frame["operations"]).sum() / speed
    rows = []
    for count in gpus:
        turns = (frame["nodes"] / count).map(math.ceil)
        hours = (turns * frame["operations"]).sum() / speed
        busy = work / hours / count
        rows.append({"gpus": count, "hours": hours, "gpu_hours": work, "busy": busy})
    return pd.DataFrame(rows)


def main() -> None:
    """Print the operations of a profile and the hours that they would take."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="paper")
    parser.add_argument("--rate", type=float, default=RATE, help="10^12 a second")
    parser.add_argument("--share", type=float, default=REACHED)
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 8, 64])
    options = parser.parse_args()
    profile = load_profile(options.profile)
    frame = pd.DataFrame(waves(profile))
    nodes = frame["nodes"].sum()
    work = (frame["nodes"] * frame["operations"]).sum()
    hours = estimate(profile, options.rate, options.share, options.gpus)
    print(f"profile {profile.name}: at most {nodes} trainings, {work:.2e} operations")
    print(f"at {options.rate:g}e12 operations per second, {options.share:.0%} of it:")
    print(hours.round(2).to_markdown(index=False))


if __name__ == "__main__":
    main()
