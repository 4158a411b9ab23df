"""How long and at which rate each stage of a compression trains."""

from __future__ import annotations

from dataclasses import dataclass

from sfusion.training.recipes import Distillation, Recipe


@dataclass(frozen=True)
class Budget:
    """Samples that a stage sees: passes over the training set, within limits.

    Attributes
    ----------
    kind : type
        Of the recipe.
    passes : float
    least, most : int
        Samples.
    """

    kind: type[Recipe]
    passes: float
    least: int
    most: int

    def samples(self, texts: int) -> int:
        """Count the samples for a training set of so many texts."""
        return int(min(max(self.passes * texts, self.least), self.most))


# Rates, by hidden units, were found on validation (results/recipe): an untrained head
# learns fast, a recovery slowly, for a high rate costs even a model that loses nothing,
# and what the original teaches fast again. All declared here.
BUDGETS = {
    "original": Budget(Recipe, 4, 2000, 9000),
    "recovery": Budget(Recipe, 1, 1000, 2000),
    "distillation": Budget(Distillation, 5, 2000, 10000),
}
RATES = {
    384: {"original": 1e-4, "recovery": 3e-5, "distillation": 3e-4},
    768: {"original": 1e-4, "recovery": 1.5e-5, "distillation": 1e-4},
}
HEAD_RATE = 10.0  # of the original, whose head starts untrained


def recipes(
    samples: int,
    hidden: int,
    learning_rate: float | None = None,
    unlabelled: int = 0,
) -> dict[str, Recipe]:
    """Fix how each stage trains.

    Parameters
    ----------
    samples : int
        Training samples there are.
    hidden : int
        Hidden units: the rates are those of the next width in ``RATES``; above the last
        one they fall inversely to the width.
    learning_rate : float, optional
        In place of that rule, in every stage.
    unlabelled : int
        More samples for the distillation.

    Returns
    -------
    dict of str to Recipe
        Keys of ``BUDGETS``.
    """
    wide_enough = [width for width in RATES if width >= hidden]
    width = min(wide_enough, default=max(RATES))
    made = {}
    for stage, budget in BUDGETS.items():
        texts = samples + unlabelled if stage == "distillation" else samples
        rate = RATES[width][stage] * min(1.0, width / hidden)
        made[stage] = budget.kind(
            samples=budget.samples(texts),
            learning_rate=learning_rate or rate,
            head_rate=HEAD_RATE if stage == "original" else 1.0,
        )
    return made


def most_samples(texts: int) -> int:
    """Count the samples of the stage that sees most: more texts are not needed.

    Parameters
    ----------
    texts : int
        Texts there are.

    Returns
    -------
    int
    """
    return max(budget.samples(texts) for budget in BUDGETS.values())
