"""Where the samples go: the same total spent during the removals, or after them.

Half of the layers go, the middle first, and every way of getting there sees the same
number of samples since the original was trained. *Step by step* recovers after every
removal, *at once* after all of them; both learn from the labels. *Taught* spends all
samples in the distillation of the smaller model, without a recovery before it.
*Recovered, then taught* divides them as the study ``nine`` does at half: the share of
its recoveries first, the rest with the teacher. As a distillation has a rate of its
own, *at once, the teacher's rate* learns from the labels at that rate: what is between
it and *taught* is the teacher's doing. A way of compressing is chosen by validation
accuracy; test accuracy says what it is worth.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from sfusion.experiments.comparison import SINGLE_ACCURACY, Compared
from sfusion.experiments.profiles import (
    Names,
    Profile,
    Seeds,
    StudyProfile,
    load_profile,
)
from sfusion.experiments.study import Row, RowStudy
from sfusion.experiments.trees import Experiment, open_tree
from sfusion.models.layers import remove_layers
from sfusion.pruning.node import Outcome, pack
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.searches import pruning_path
from sfusion.training.distillation import distill
from sfusion.training.evaluation import classified
from sfusion.training.recipes import Distillation, Recipe
from sfusion.training.seeds import derive_seed

if TYPE_CHECKING:
    from sfusion.experiments.store import RecordStore
    from sfusion.pruning.tree import PruningTree

ORDER = "middle-first"  # reads no signals
SPLITS = ("validation", "test")

# What the study nine spends on the recoveries of three removals, 3 x 2,000 samples,
# beside the 20,000 of its distillation.
RECOVERED_SHARE = 3 / 13

ORIGINAL_MODEL = "original"
WAYS = (
    "step by step",
    "at once",
    "at once, the teacher's rate",
    "taught",
    "recovered, then taught",
)


class DosesProfile(StudyProfile):
    """Which totals are spent, and on what.

    Attributes
    ----------
    profile : str
        The pruning study whose model, samples and distillation are used.
    original, recovery : Recipe
        In place of that study's own; how many samples a recovery sees, the total says.
    removals : int
        Layers that go, the middle first.
    totals : tuple of int
        Samples seen since the original was trained.
    """

    study: Literal["doses"]
    profile: str
    tasks: Annotated[Names, Field(min_length=1)]
    seeds: Seeds
    original: Recipe
    recovery: Recipe
    removals: PositiveInt
    totals: Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]


@dataclass(frozen=True)
class DoseRun:
    """One way of spending a total on one task and seed; of the original, none."""

    task: str
    seed: int
    way: str
    total: int = 0


class DosesStudy(RowStudy):
    """Accuracy at half of the layers, a row per way and total."""

    profile_type = DosesProfile
    profile: DosesProfile
    frames = {
        "rows": Compared(
            keys=("task", "seed", "way", "total"),
            values=("validation_accuracy", "test_accuracy"),
            tolerance=SINGLE_ACCURACY,
        )
    }

    def rounds(self) -> list[list[DoseRun]]:
        """List every way of spending every total, after the originals.

        Those are trained first, or workers would each train them.
        """
        experiments = list(itertools.product(self.profile.tasks, self.profile.seeds))
        spent = itertools.product(experiments, self.profile.totals, WAYS)
        return [
            [DoseRun(task, seed, ORIGINAL_MODEL) for task, seed in experiments],
            [DoseRun(task, seed, way, total) for (task, seed), total, way in spent],
        ]

    def measure(self, unit: DoseRun, store: RecordStore) -> dict[str, list[Row]]:
        """Train and evaluate the model of one way."""
        tree = open_tree(Experiment(self._spent(unit), unit.task, unit.seed), store)
        outcomes = self._outcomes(tree, unit.way)
        tree.release()
        row: Row = {
            "task": unit.task,
            "seed": unit.seed,
            "way": unit.way,
            "total": unit.total,
        }
        for split, outcome in outcomes.items():
            row[f"{split}_accuracy"] = outcome.accuracy
        row["test_correct"] = outcomes["test"].correct
        return {"rows": [row]}

    def _spent(self, unit: DoseRun) -> Profile:
        """Write how a unit spends its total as the recipes of a pruning study."""
        profile = load_profile(self.profile.profile)
        recovered = unit.total
        taught = unit.total
        if unit.way == "recovered, then taught":
            recovered = round(RECOVERED_SHARE * unit.total)
            taught = unit.total - recovered
        # A tree multiplies a recovery's samples by the layers that go before it.
        each = max(1, recovered // self.profile.removals)
        recipes = {
            "original": self.profile.original,
            "recovery": self.profile.recovery.model_copy(update={"samples": each}),
            "distillation": profile.distillation.model_copy(
                update={"samples": max(1, taught)}
            ),
        }
        return profile.model_copy(update=recipes)

    def _outcomes(self, tree: PruningTree, way: str) -> dict[str, Outcome]:
        """Evaluate the model of a way on both splits."""
        steps = pruning_path(ORDER, tree.signals, tree.setting)
        step_by_step = next(itertools.islice(steps, self.profile.removals, None))
        at_once = PruningPath.at_once(step_by_step.removed)
        nodes = {
            ORIGINAL_MODEL: (ORIGINAL, None),
            "step by step": (step_by_step, None),
            "at once": (at_once, None),
            "recovered, then taught": (at_once, "distilled"),
        }
        if way in nodes:
            path, condition = nodes[way]
            return {split: tree.outcome(path, split, condition) for split in SPLITS}
        return _without_recovery(tree, at_once, teaches=way == "taught")


def _without_recovery(
    tree: PruningTree, path: PruningPath, *, teaches: bool
) -> dict[str, Outcome]:
    """Evaluate what a distillation alone, or its control, makes of fewer layers."""
    recipe = tree.recipes["distillation"]
    assert isinstance(recipe, Distillation)

    def compute() -> dict[str, str]:
        trained = distill(
            remove_layers(tree.model(ORIGINAL), path.removed),
            tree.teacher if teaches else None,
            tree.taught,
            recipe,
            seed=derive_seed("distillation", tree.base["seed"]),
            precision=tree.base["precision"],
        )
        found = {}
        for split in SPLITS:
            data = getattr(tree.task, split)
            found[split] = pack(classified(trained, data, tree.base["precision"]))
        return found

    # The record's key names no recovery, for there was none.
    method = {
        "removed": path.name,
        "teaches": teaches,
        **recipe.model_dump(exclude={"removals"}),
    }
    record = tree.record("unrecovered distillation", ORIGINAL, compute, method=method)
    outcomes = {}
    for split in SPLITS:
        count = len(getattr(tree.task, split))
        outcomes[split] = Outcome(record["value"][split], count, record["seconds"])
    return outcomes


STUDY = DosesStudy
