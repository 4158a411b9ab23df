"""What the recipe itself does to a model: fine-tuning, recoveries with and without a removal.

Every run changes one thing of a profile. Fine-tuning the original: samples, rate, rate of the head,
dropout, learning embeddings. Recoveries: samples and rate, five in a row, on a model that loses
nothing (the null path) and on one that loses a layer before each. Accuracy is measured on
validation alone: recipes are chosen with these rows.

usage: python benchmarks/recipe.py STAGE [--profile nine] [--seeds 0] [--out results/recipe.csv]
"""

import argparse
import itertools
from pathlib import Path

import pandas as pd

from sfusion.pruning.searches import Experiment, open_tree
from sfusion.pruning.strategies import path_name
from sfusion.records.parallel import pool, progress
from sfusion.records.profiles import ROOT, load_profile
from sfusion.records.results import BUILD
from sfusion.records.store import RecordStore
from sfusion.training import fixed_threads

TASKS = ("newsgroup", "agnews", "imdb")
RATES = (3e-4, 1e-4, 5e-5)
REMOVED = (3, 2, 4, 1, 0)  # the middle first, the last layer stays
NULL, PRUNED = ((),) * len(REMOVED), REMOVED
CHANGES = {
    # stage: the changes that are tried, each a dict of stage of training to fields
    "original": [
        *({"original": {"samples": n, "learning_rate": r}} for n in (6000, 12000, 24000) for r in RATES),
        *(
            {"original": {"samples": 12000, "learning_rate": 1e-4, **more}}
            for more in ({"head_rate": 10.0}, {"dropout": True}, {"freeze_embeddings": False})
        ),
    ],
    "recovery": [{"recovery": {"samples": n, "learning_rate": r}} for n in (640, 2000, 6000) for r in RATES],
}


def variant(profile, changes):
    """Change recipes of a profile."""
    recipes = {stage: getattr(profile, stage).model_copy(update=fields) for stage, fields in changes.items()}
    return profile.model_copy(update=recipes)


def measure(experiment, paths, store):
    """Return the validation accuracies of some nodes, each computed unless it is filed."""
    tree = open_tree(experiment, store)
    with fixed_threads(experiment.profile.threads):
        found = [tree.evaluate(path, "validation") for path in paths]
    tree.release()
    store.trim()
    return found


def main():
    """Run a stage, as far as its records are not there yet, and write all of its rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=CHANGES)
    parser.add_argument("--profile", default="nine")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "recipe.csv")
    options = parser.parse_args()
    profile, store = load_profile(options.profile), RecordStore(BUILD / "recipe" / "store")
    paths = {"original": [()], "recovery": [NULL[:n] for n in range(6)] + [PRUNED[:n] for n in range(1, 6)]}
    units = itertools.product(CHANGES[options.stage], options.tasks, options.seeds)
    experiments = [Experiment(variant(profile, changes), task, seed) for changes, task, seed in units]
    asked, rows = paths[options.stage], []
    with pool(profile.threads) as run, progress(len(experiments), options.stage) as bar:
        found = run(measure, [(experiment, asked, store) for experiment in experiments])
        for experiment, accuracies in zip(experiments, found, strict=True):
            recipe = getattr(experiment.profile, options.stage).model_dump()
            key = {"stage": options.stage, "task": experiment.task, "seed": experiment.seed}
            for path, accuracy in zip(asked, accuracies, strict=True):
                rows.append(key | {"path": path_name(path)} | recipe | {"validation_accuracy": accuracy})
            bar.update()
    old = pd.read_csv(options.out, keep_default_na=False) if options.out.is_file() else pd.DataFrame(columns=["stage"])
    rows = pd.concat([old[old["stage"] != options.stage], pd.DataFrame(rows)], ignore_index=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows.to_csv(options.out, index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
