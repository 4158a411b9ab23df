"""What the recipe itself does to a model: fine-tuning, recoveries with and without a removal.

Every run changes one thing of a profile. Fine-tuning the original: samples, rate, rate
of the head, dropout, learning embeddings. Recoveries: samples and rate, five in a row,
on a model that loses nothing (the null path) and on one that loses a layer before each.
Distillation: its rate, of a model that lost half of its layers at once and was
recovered. Accuracy is measured on validation alone: recipes are chosen with these rows.

usage: python benchmarks/recipe.py STAGE [--profile nine] [--seeds 0] [--out results/recipe.csv]
"""

import argparse
import itertools
from pathlib import Path

import pandas as pd

from sfusion.data.pretrained import MPNET
from sfusion.experiments.parallel import pool, progress
from sfusion.experiments.profiles import ROOT, load_profile
from sfusion.experiments.results import BUILD
from sfusion.experiments.store import RecordStore
from sfusion.experiments.trees import Experiment, open_tree
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.training.precision import fixed_threads

TASKS = ("newsgroup", "agnews", "imdb")
RATES = (3e-5, 1e-4, 3e-4)
CHANGES = {
    # stage: the changes that are tried, each a dict of stage of training to fields
    "original": [
        *(
            {"original": {"samples": 8000, "learning_rate": r, "head_rate": h}}
            for r in RATES
            for h in (1.0, 10.0)
        ),
        {"original": {"samples": 24000}},
        {"original": {"dropout": True}},
        {"original": {"freeze_embeddings": False}},
    ],
    "recovery": [
        {"recovery": {"samples": n, "learning_rate": r}}
        for n in (640, 2000)
        for r in RATES
    ],
    "distillation": [
        {"distillation": {"samples": 10000, "learning_rate": r}} for r in (*RATES, 1e-3)
    ],
}
# Of wider models, the rates alone.
WIDE_RATES = {
    "original": (2e-5, 5e-5, 1e-4, 2e-4),
    "recovery": (5e-6, 1.5e-5, 5e-5),
    "distillation": (3e-5, 1e-4, 3e-4),
}
NULL = PruningPath(((),) * 5)


def changes(model):
    """Return what is tried of a model, see ``CHANGES``."""
    wide = {
        stage: [{stage: {"learning_rate": rate}} for rate in rates]
        for stage, rates in WIDE_RATES.items()
    }
    return wide if model == MPNET else CHANGES


def paths(stage, depth):
    """List a stage's paths, each with the condition of its distillation or None."""
    # The middle first, the last layer stays.
    order = sorted(
        range(depth - 1), key=lambda layer: (abs(layer - (depth / 2 - 1)), -layer)
    )
    pruned = PruningPath.of(*order[: len(NULL)])
    half = PruningPath.at_once(order[: depth // 2])
    return {
        "original": [(ORIGINAL, None)],
        "recovery": [
            (PruningPath(path.steps[:count]), None)
            for path in (NULL, pruned)
            for count in range(len(NULL) + 1)
        ],
        "distillation": [(ORIGINAL, None), (half, None), (half, "distilled")],
    }[stage]


def variant(profile, change):
    """Change recipes of a profile."""
    recipes = {
        stage: getattr(profile, stage).model_copy(update=fields)
        for stage, fields in change.items()
    }
    return profile.model_copy(update=recipes)


def measure(experiment, stage, store):
    """Return a row per node, computed unless it is filed."""
    tree, profile = open_tree(experiment, store), experiment.profile
    key = {
        "model": profile.model,
        "stage": stage,
        "task": experiment.task,
        "seed": experiment.seed,
    }
    key |= getattr(profile, stage).model_dump(exclude={"removals"})
    with fixed_threads(profile.threads):
        rows = [
            {
                **key,
                "path": path.name + ", distilled" * bool(condition),
                "validation_accuracy": tree.evaluate(path, "validation", condition),
            }
            for path, condition in paths(stage, tree.depth)
        ]
    tree.release()
    store.trim()
    return rows


def main():
    """Run a stage, as far as its records are not there yet, and write its rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=CHANGES)
    parser.add_argument("--profile", default="nine")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "recipe.csv")
    options = parser.parse_args()
    profile, store = (
        load_profile(options.profile),
        RecordStore(BUILD / "recipe" / "store"),
    )
    units = itertools.product(
        changes(profile.model)[options.stage], options.tasks, options.seeds
    )
    calls = [
        (Experiment(variant(profile, change), *unit), options.stage, store)
        for change, *unit in units
    ]
    with pool(profile.threads) as run, progress(len(calls), options.stage) as bar:
        for rows in run(measure, calls):
            found = (
                [pd.read_csv(options.out, keep_default_na=False)]
                if options.out.is_file()
                else []
            )
            frame = pd.concat([*found, pd.DataFrame(rows)], ignore_index=True)
            keys = [column for column in frame if column != "validation_accuracy"]
            options.out.parent.mkdir(parents=True, exist_ok=True)
            frame.drop_duplicates(keys, keep="last").to_csv(
                options.out, index=False, float_format="%.6g"
            )
            bar.update()


if __name__ == "__main__":
    main()
