"""What the choice of layers is worth once the original has taught what is left.

Strategies have named the layers that they would remove, in the committed records of a
pruning study; a lookup table names them from its searches of the other datasets. Here
every set of layers that they came to is removed at once from the same original,
recovered and distilled in the same way, so that models differ in the choice alone;
strategies that came to the same set share its model. Nothing is chosen on either
accuracy.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, PositiveInt

from sfusion.errors import SfusionError
from sfusion.experiments.comparison import SINGLE_ACCURACY, Compared
from sfusion.experiments.profiles import Names, Seeds, StudyProfile, load_profile
from sfusion.experiments.results import open_results
from sfusion.experiments.study import Row, RowStudy
from sfusion.experiments.trees import Experiment, open_tree
from sfusion.pruning.lookup_table import make_lookup_table
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.registry import LAYER_SETS
from sfusion.pruning.setting import Setting
from sfusion.pruning.strategies import STRATEGIES
from sfusion.training.recipes import Recipe

if TYPE_CHECKING:
    from sfusion.experiments.results import Results
    from sfusion.experiments.store import RecordStore

# What is evaluated of every set: name, and the condition of its extra steps.
STAGES = {"recovered": None, "distilled": "distilled"}

ORIGINAL_MODEL = "original"


class ChoicesProfile(StudyProfile):
    """Whose choices are compared, and where.

    Attributes
    ----------
    profile : str
        The pruning study whose committed records name the layers, and whose model,
        samples and distillation are used.
    original, recovery : Recipe
        In place of that study's own.
    removals : int
        Layers that go.
    strategies : tuple of str
        Labels of strategies, see :func:`sfusion.pruning.strategies.expand`.
    """

    study: Literal["choices"]
    profile: str
    tasks: Annotated[Names, Field(min_length=1)]
    seeds: Seeds
    original: Recipe
    recovery: Recipe
    removals: PositiveInt
    strategies: Annotated[Names, Field(min_length=1)]


@dataclass(frozen=True)
class Choice:
    """A set of layers that goes on one task and seed, and who chose it."""

    task: str
    seed: int
    removed: tuple[int, ...] = ()
    strategies: tuple[str, ...] = (ORIGINAL_MODEL,)


class ChoicesStudy(RowStudy):
    """Accuracy of every strategy's choice before and after the distillation."""

    profile_type = ChoicesProfile
    profile: ChoicesProfile
    frames = {
        "rows": Compared(
            keys=("task", "seed", "strategy", "stage"),
            values=("validation_accuracy", "test_accuracy"),
            tolerance=SINGLE_ACCURACY,
        )
    }

    def rounds(self) -> list[list[Choice]]:
        """List the sets of layers that were chosen, after the originals.

        Those are trained first, or workers would each train them.
        """
        results = open_results(self.profile.profile)
        originals = []
        choices = []
        for task, seed in itertools.product(self.profile.tasks, self.profile.seeds):
            originals.append(Choice(task, seed))
            choices += self._choices(results, task, seed)
        return [originals, choices]

    def _choices(self, results: Results, task: str, seed: int) -> list[Choice]:
        """List the sets that strategies came to on one task and seed, each once."""
        chosen = defaultdict(list)
        for label in self.profile.strategies:
            known = STRATEGIES.get(label)
            if known is not None and known.reads == LAYER_SETS:
                removed = _looked_up(results, task, seed, self.profile.removals)
            else:
                removed = self._followed(results, task, seed, label)
            chosen[removed].append(label)
        return [
            Choice(task, seed, removed, tuple(labels))
            for removed, labels in chosen.items()
        ]

    def _followed(
        self, results: Results, task: str, seed: int, label: str
    ) -> tuple[int, ...]:
        """Read which layers a strategy removed."""
        rows = results.trajectories
        keys = {
            "task": task,
            "seed": seed,
            "strategy": label,
            "removed": self.profile.removals,
        }
        for column, value in keys.items():
            rows = rows[rows[column] == value]
        if rows.empty:
            raise SfusionError(
                f"results/{self.profile.profile} does not say which layers {label} "
                f"removes on {task}, seed {seed}: leave it out of profile "
                f"{self.profile.name!r}"
            )
        return tuple(sorted(PruningPath.parse(rows["path"].iloc[0]).removed))

    def measure(self, unit: Choice, store: RecordStore) -> dict[str, list[Row]]:
        """Recover and distil the layers that one choice leaves."""
        changed = {"original": self.profile.original, "recovery": self.profile.recovery}
        profile = load_profile(self.profile.profile).model_copy(update=changed)
        tree = open_tree(Experiment(profile, unit.task, unit.seed), store)
        path = PruningPath.at_once(unit.removed) if unit.removed else ORIGINAL
        stages = STAGES if unit.removed else {ORIGINAL_MODEL: None}
        kept = PruningPath.of(*path.remaining(tree.depth)).name
        rows = []
        for stage, condition in stages.items():
            validation = tree.outcome(path, "validation", condition)
            test = tree.outcome(path, "test", condition)
            for strategy in unit.strategies:
                row = {
                    "task": unit.task,
                    "seed": unit.seed,
                    "strategy": strategy,
                    "stage": stage,
                    "kept": kept,
                    "validation_accuracy": validation.accuracy,
                    "test_accuracy": test.accuracy,
                    "test_correct": test.correct,
                }
                rows.append(row)
        tree.release()
        return {"rows": rows}


def _looked_up(
    results: Results, task: str, seed: int, removals: int
) -> tuple[int, ...]:
    """Choose the layers that the other tasks' searches of the same seed prefer."""
    nodes = results.nodes
    others = nodes[(nodes["task"] != task) & (nodes["seed"] == seed)]
    setting = Setting(results.depth, fixed=(), seed=seed, task=task)
    return make_lookup_table(others, setting).best(removals)


STUDY = ChoicesStudy
