"""The model as it stands, tried on some texts before any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from sfusion.errors import SfusionError, one_line
from sfusion.training.evaluation import predict_logits

if TYPE_CHECKING:
    from sfusion.compression.inputs import Start
    from sfusion.data.encoding import Encoded

TRIED = 200  # texts
# Of an accuracy below chance: so unlikely for a model that guesses.
SURE = 0.001
FEW = 3  # texts of a class, below which its answers are not judged


@dataclass(frozen=True, eq=False)
class Trial:
    """What a model answered to some texts.

    Attributes
    ----------
    answers : ndarray of int, shape (classes, classes)
        Texts of each class (rows), by the class that the model answered.
    """

    answers: np.ndarray

    @property
    def texts(self) -> int:
        """Texts that were tried."""
        return int(self.answers.sum())

    @property
    def right(self) -> int:
        """Texts that were answered rightly."""
        return int(self.answers.trace())

    @property
    def accuracy(self) -> float:
        """Share of the texts that were answered rightly."""
        return self.right / self.texts

    @property
    def most_frequent(self) -> float:
        """Share of the most frequent class."""
        return float(self.answers.sum(1).max()) / self.texts

    @property
    def is_below_chance(self) -> bool:
        """Whether a model that guesses is surely better."""
        chance = 1 / len(self.answers)
        test = binomtest(self.right, self.texts, chance, alternative="less")
        return bool(test.pvalue < SURE)

    def best_order(self) -> tuple[np.ndarray, float]:
        """Find the order of the classes that makes most answers right.

        Returns
        -------
        ndarray of int, shape (classes,)
            The class that is to stand at each number.
        float
            Share of the texts that are then answered rightly.
        """
        own, turned = linear_sum_assignment(self.answers, maximize=True)
        best = float(self.answers[own, turned].sum()) / self.texts
        return own[turned.argsort()], best

    def exchanged(self) -> list[int]:
        """Find classes most of whose texts get another one's name, each its own.

        Returns
        -------
        list of int
        """
        _, turned = linear_sum_assignment(self.answers, maximize=True)
        found = []
        for number, other in enumerate(turned):
            of_class = self.answers[number].sum()
            if number != other and self.answers[number, other] > of_class / 2:
                found.append((number, of_class))
        return [number for number, count in found if count >= FEW]


def try_model(start: Start, data: Encoded) -> Trial:
    """Let the model answer some texts, spread over all of them.

    Parameters
    ----------
    start : Start
    data : Encoded

    Returns
    -------
    Trial

    Raises
    ------
    SfusionError
        When the model cannot read them, or its answers are no numbers.
    """
    count = min(TRIED, len(data))
    step = len(data) // count
    some = data.take(range(0, count * step, step))
    with one_line("the model cannot read the texts"):
        logits = predict_logits(start.model, some)
    if not torch.isfinite(logits).all():
        raise SfusionError(
            "the model answers with numbers that are not finite: give a checkpoint "
            "that works in float32"
        )
    classes = start.model.config.num_labels
    answers = np.zeros((classes, classes), dtype=int)
    np.add.at(answers, (some.labels.numpy(), logits.argmax(1).numpy()), 1)
    return Trial(answers)


def judge(
    trial: Trial, names: Sequence[str], where: str, is_order_given: bool
) -> list[str]:
    """Judge whether the model's classes are the labels.

    Parameters
    ----------
    trial : Trial
        Of a fine-tuned model.
    names : sequence of str
        The label at each of the model's numbers.
    where : str
        The texts, for the message.
    is_order_given : bool
        Whether the user said which label is which; then nothing is refused.

    Returns
    -------
    list of str
        What the user may not have meant.

    Raises
    ------
    SfusionError
        When most answers are right if the classes stand in another order, and half of
        them or fewer as they stand; or when guessing is better.
    """
    order, best = trial.best_order()
    share = f"{trial.accuracy:.0%} of {trial.texts} texts rightly"
    doubt = ""
    if best >= 0.5 and best >= 2 * trial.accuracy:
        listed = ",".join(names[number] for number in order)
        doubt = (
            f"the model answers {share}, and {best:.0%} if its classes stand in "
            f"another order: name them in the model's order (--labels), maybe {listed}"
        )
    elif trial.is_below_chance:
        doubt = (
            f"the model answers {share}, below chance: check that these are the labels "
            "it was fine-tuned on, or train a new head (--new-head)"
        )
    if doubt and not is_order_given:
        raise SfusionError(f"{where}: {doubt}")
    if doubt:
        return [doubt]
    swapped = [names[number] for number in trial.exchanged()]
    if len(swapped) > 1:
        return [
            f"the model answers {share}; it takes most texts of each of the classes "
            f"{', '.join(map(repr, swapped))} for another of them: check their order "
            "(--labels)"
        ]
    if trial.accuracy <= trial.most_frequent < 1:
        return [
            f"the model answers {share}, no more than if it always said the most "
            "frequent class: check that it was fine-tuned on these labels"
        ]
    return []
