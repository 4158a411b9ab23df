"""What the step leaves out, and what it does to accuracy: dropout, embeddings, float32.

Every variant differs from the profile's recipe in one thing. Each fine-tunes the original and one
recovery after removing the middle layer, from the same seeds; differences are paired.

usage: python benchmarks/ablation.py [--profile nine] [--tasks agnews] [--seeds 0 1] [--out FILE]
"""

import argparse
import time
from pathlib import Path

import pandas as pd
from scipy.stats import ttest_1samp
from sfusion.pruning.nodes import Unit, unit_model, unit_task
from summary import table

from sfusion.models.layers import remove_layers
from sfusion.records.profiles import load_profile
from sfusion.training import accuracies, default_device, derive_seed, fine_tune, fixed_threads, resolve_precision

VARIANTS = {
    # name: (what changes in the recipe, precision; None: the profile's own)
    "as in the profile": ({}, None),
    "dropout on": ({"dropout": True}, None),
    "embeddings learn": ({"freeze_embeddings": False}, None),
    "float32": ({}, "fp32"),
}
BASE = next(iter(VARIANTS))
RECORD = Path(__file__).with_name("ablation.csv")
REMOVED = 2  # the third of six layers


def measure(profile, unit, variant):
    """Fine-tune and recover under one variant; give a row a stage."""
    changes, precision = VARIANTS[variant]
    own = resolve_precision(profile.precision, default_device())
    precision = precision or own
    task, model = unit_task(unit), remove_layers(unit_model(unit), ())
    recipes = {"original": profile.original, "recovered": profile.recovery}
    for number, (stage, recipe) in enumerate(recipes.items()):
        if number:
            model = remove_layers(model, [REMOVED])
        path = (REMOVED,) * number
        start = time.process_time()
        fine_tune(
            model,
            task.train,
            recipe.model_copy(update=changes),
            seed=derive_seed("order", unit.seed, path),
            precision=precision,
        )
        seconds = time.process_time() - start
        yield {
            "task": unit.task,
            "seed": unit.seed,
            "variant": variant,
            "stage": stage,
            "precision": precision,
            **accuracies(model, task, precision),
            "seconds": round(seconds, 1),
        }


def differences(rows):
    """Take the profile's recipe less each variant, in points of test accuracy.

    Returns a row a variant and stage: mean over tasks and seeds, and its 95% t interval.
    """
    wide = rows.pivot_table(index=["stage", "task", "seed"], columns="variant", values="test_accuracy")
    found = []
    for variant in (name for name in VARIANTS if name != BASE):
        for stage, pairs in (100 * (wide[BASE] - wide[variant])).groupby("stage"):
            interval = ttest_1samp(pairs, 0).confidence_interval()
            found.append((variant, stage, len(pairs), pairs.mean(), *interval))
    columns = ["the profile less", "stage", "pairs", "points", "low", "high"]
    return pd.DataFrame(found, columns=columns)


def markdown(rows):
    """Write the differences as a table, with what they rest on."""
    found = differences(rows).itertuples(index=False, name=None)
    lines = [
        (variant, stage, f"{points:+.1f} [{low:+.1f}, {high:+.1f}]") for variant, stage, _, points, low, high in found
    ]
    seconds = rows.groupby(["variant", "stage"])["seconds"].mean().unstack()["original"]
    dearer = ", ".join(f"{name} {seconds[name] / seconds[BASE]:.2f} times" for name in VARIANTS if name != BASE)
    return (
        f"{table(['the profile less', 'stage', 'points of test accuracy [95%]'], lines)}\n\n"
        f"Tasks: {', '.join(rows['task'].unique())}; seeds a task: {rows['seed'].nunique()}. "
        f"Processor time of the original's fine-tuning, over the profile's: {dearer}."
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="embedded")
    parser.add_argument("--tasks", nargs="+", help="by default those of the profile")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--samples", type=int, help="of the original's fine-tuning")
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    profile = load_profile(options.profile)
    if options.samples:
        original = profile.original.model_copy(update={"samples": options.samples})
        profile = profile.model_copy(update={"original": original})
    rows = []
    with fixed_threads(profile.threads):
        for task in options.tasks or profile.tasks:
            for seed in options.seeds:
                for variant in VARIANTS:
                    for row in measure(profile, Unit(profile, task, seed), variant):
                        rows.append(row)
                        print(*row.values(), flush=True)
                    pd.DataFrame(rows).to_csv(options.out, index=False, float_format="%.6g")
    print(differences(pd.DataFrame(rows)).round(1).to_string(index=False))


if __name__ == "__main__":
    main()
