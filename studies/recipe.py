"""What the recipe itself does to a model: tuning, recoveries, the rate of distillation.

Every trial changes one recipe of a pruning profile. *Original*: samples, rate, rate of
the head, dropout, learning embeddings. *Recovery*: samples and rate, five in a row, on
a model that loses nothing (the null path) and on one that loses a layer before each,
the middle first. *Distillation*: its rate, of a model that lost half of its layers at
once and was recovered. Accuracy is measured on validation alone: recipes are chosen by
it, and a rule in the profile says how.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field

from sfusion.experiments.comparison import SINGLE_ACCURACY, Compared
from sfusion.experiments.profiles import (
    Names,
    Profile,
    Seeds,
    StudyProfile,
    load_profile,
)
from sfusion.experiments.store import RecordStore
from sfusion.experiments.study import Row, RowStudy
from sfusion.experiments.trees import Experiment, open_tree
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.training.recipes import Recipe, StrictModel

RECOVERIES = 5

Stage = Literal["original", "recovery", "distillation"]


class Trial(StrictModel):
    """Changes of one stage's recipe that are tried on a profile's model.

    Attributes
    ----------
    profile : str
        Of a pruning study: all that is not changed is its own.
    stage : {"original", "recovery", "distillation"}
        Whose recipe is changed.
    seeds : tuple of int
    changes : tuple of dict
        Fields of the recipe, each set tried by itself.
    """

    profile: str
    stage: Stage
    seeds: Seeds
    changes: Annotated[tuple[dict[str, Any], ...], Field(strict=False, min_length=1)]


class Rule(StrictModel):
    """How recipes are chosen by their validation accuracies, means over all trials.

    *Recovery*: of those that change a model which loses nothing by at most
    ``null_change``, the one that leaves most after as many removals. *Original*: its
    samples are raised until that gains less than ``gain``. Declared here.

    Attributes
    ----------
    removals : dict of str to int
        Removals, and recoveries of the null path, after which recoveries are compared,
        by model.
    null_change, gain : float
        Percentage points.
    """

    removals: dict[str, Annotated[int, Field(ge=1, le=RECOVERIES)]]
    null_change: Annotated[float, Field(gt=0)]
    gain: Annotated[float, Field(gt=0)]


class RecipeProfile(StudyProfile):
    """Which trials are made, on which tasks, and what chooses among them."""

    study: Literal["recipe"]
    tasks: Annotated[Names, Field(min_length=1)]
    trials: Annotated[tuple[Trial, ...], Field(strict=False, min_length=1)]
    rule: Rule | None = None


@dataclass(frozen=True)
class TrialRun:
    """One changed recipe on one task and seed."""

    profile: str
    stage: Stage
    recipe: Recipe
    task: str
    seed: int


def measured_paths(stage: Stage, depth: int) -> list[tuple[PruningPath, str | None]]:
    """List what is evaluated in a stage.

    Parameters
    ----------
    stage : {"original", "recovery", "distillation"}
    depth : int
        Layers of the original model.

    Returns
    -------
    list of (PruningPath, str or None)
        Each with the condition of its distillation.
    """
    # From the middle of the layers below the last one, which stays. Of six layers that
    # is 2, 3, 1, 4, 0, where the strategy middle-first goes 3, 2, 4, 1, 0.
    middle = (depth - 2) / 2
    order = sorted(range(depth - 1), key=lambda layer: (abs(layer - middle), -layer))
    if stage == "original":
        return [(ORIGINAL, None)]
    if stage == "distillation":
        half = PruningPath.at_once(order[: depth // 2])
        return [(ORIGINAL, None), (half, None), (half, "distilled")]
    null = PruningPath(((),) * RECOVERIES)
    pruned = PruningPath.of(*order[:RECOVERIES])
    paths: list[tuple[PruningPath, str | None]] = [(ORIGINAL, None)]
    for path in (null, pruned):
        for count in range(1, RECOVERIES + 1):
            paths.append((PruningPath(path.steps[:count]), None))
    return paths


class RecipeStudy(RowStudy):
    """Validation accuracy under changed recipes, a row per model."""

    profile_type = RecipeProfile
    profile: RecipeProfile
    frames = {
        "rows": Compared(
            keys=(
                "model",
                "stage",
                "task",
                "seed",
                "samples",
                "learning_rate",
                "head_rate",
                "dropout",
                "freeze_embeddings",
                "path",
            ),
            values=("validation_accuracy",),
            tolerance=SINGLE_ACCURACY,
        )
    }

    def rounds(self) -> list[list[TrialRun]]:
        """List every change on every task and seed, in one round."""
        runs = []
        for trial in self.profile.trials:
            recipe = getattr(load_profile(trial.profile), trial.stage)
            for change, task, seed in itertools.product(
                trial.changes, self.profile.tasks, trial.seeds
            ):
                changed = type(recipe)(**recipe.model_dump() | change)
                runs.append(TrialRun(trial.profile, trial.stage, changed, task, seed))
        return [runs]

    def measure(self, unit: TrialRun, store: RecordStore) -> dict[str, list[Row]]:
        """Evaluate the models of one trial on validation."""
        profile = load_profile(unit.profile)
        profile = profile.model_copy(update={unit.stage: unit.recipe})
        tree = open_tree(Experiment(profile, unit.task, unit.seed), store)
        shared = {
            "model": profile.model,
            "stage": unit.stage,
            "task": unit.task,
            "seed": unit.seed,
            **unit.recipe.model_dump(exclude={"removals"}),
        }
        rows = []
        for path, condition in measured_paths(unit.stage, tree.depth):
            name = path.name if condition is None else f"{path.name}, {condition}"
            accuracy = tree.evaluate(path, "validation", condition)
            rows.append({**shared, "path": name, "validation_accuracy": accuracy})
        tree.release()
        return {"rows": rows}


# What tells the recoveries that were tried apart.
RECOVERY = ["samples", "learning_rate"]


def compare_recoveries(rows: pd.DataFrame, model: str, rule: Rule) -> pd.DataFrame:
    """Tabulate what the rule compares of the recoveries that were tried on a model.

    Parameters
    ----------
    rows : DataFrame
        Of the study.
    model : str
    rule : Rule

    Returns
    -------
    DataFrame
        Index ``samples`` and ``learning_rate``; columns ``null_change``, of the model
        that loses nothing, in percentage points, ``accuracy`` after the removals, in
        per cent, and ``allowed``.
    """
    tried = rows[(rows["model"] == model) & (rows["stage"] == "recovery")]
    recoveries = rule.removals[model]
    paths = tried["path"].map(PruningPath.parse)
    count = paths.map(len)
    loses_nothing = paths.map(lambda path: not path.removed)
    means = {}
    for name, asked in {
        "original": count == 0,
        "null": loses_nothing & (count == recoveries),
        "pruned": ~loses_nothing & (count == recoveries),
    }.items():
        accuracies = tried[asked].groupby(RECOVERY)["validation_accuracy"]
        means[name] = 100 * accuracies.mean()
    change = means["null"] - means["original"]
    table = pd.DataFrame({"null_change": change, "accuracy": means["pruned"]})
    return table.assign(allowed=change.abs() <= rule.null_change)


def choose_recovery(
    rows: pd.DataFrame, model: str, rule: Rule
) -> tuple[int, float] | None:
    """Choose the recovery of a model by the rule.

    Parameters
    ----------
    rows : DataFrame
        Of the study.
    model : str
    rule : Rule

    Returns
    -------
    tuple of (int, float) or None
        Samples and learning rate; None where every recovery that was tried changes the
        unpruned model by more than the rule allows.
    """
    table = compare_recoveries(rows, model, rule)
    allowed = table.loc[table["allowed"], "accuracy"]
    return None if allowed.empty else allowed.idxmax()


def choose_original_samples(rows: pd.DataFrame, in_use: Profile, rule: Rule) -> int:
    """Choose by the rule on how many samples a model is fine-tuned.

    Parameters
    ----------
    rows : DataFrame
        Of the study.
    in_use : Profile
        Of the trials of the model: all but the samples is its original's.
    rule : Rule

    Returns
    -------
    int
        Of the numbers that were tried the first whose successor gains less; the largest
        where every one gains more.
    """
    tried = rows[(rows["model"] == in_use.model) & (rows["stage"] == "original")]
    for name, value in in_use.original.model_dump(exclude={"samples"}).items():
        tried = tried[tried[name] == value]
    means = 100 * tried.groupby("samples")["validation_accuracy"].mean()
    chosen, *more = means.index
    for samples in more:
        if means[samples] - means[chosen] < rule.gain:
            break
        chosen = samples
    return int(chosen)


STUDY = RecipeStudy
