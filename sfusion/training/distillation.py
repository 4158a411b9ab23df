"""Distillation: a teacher's softened predictions beside the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from sfusion.errors import SfusionError
from sfusion.models.layers import remove_layers
from sfusion.training.evaluation import predict_logits
from sfusion.training.loop import Objective, fine_tune
from sfusion.training.precision import cast

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel
    from transformers.modeling_outputs import ModelOutput

    from sfusion.data.encoding import Encoded
    from sfusion.training.recipes import Distillation

# Of a sample that a teacher alone explains; torch's own number for that.
NO_LABEL = -100


def distillation_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float,
    hard_weight: float,
) -> Tensor:
    """Mix the labels' cross-entropy with the teacher's softened distribution.

    ``hard_weight * CE + (1 - hard_weight) * T^2 * KL(teacher / T || student / T)``
    (Hinton et al. 2015, arXiv:1503.02531); without the first term and its weight for a
    sample that has no label.

    Parameters
    ----------
    logits, teacher_logits : Tensor of shape (B, classes)
    labels : Tensor of shape (B,)
        Class numbers, or ``NO_LABEL``.
    temperature, hard_weight : float

    Returns
    -------
    Tensor
        Scalar, mean over the batch.
    """
    student = functional.log_softmax(logits / temperature, -1)
    teacher = functional.log_softmax(teacher_logits / temperature, -1)
    divergence = functional.kl_div(student, teacher, reduction="none", log_target=True)
    soft = temperature**2 * divergence.sum(-1)
    hard = functional.cross_entropy(
        logits, labels, reduction="none", ignore_index=NO_LABEL
    )
    weight = hard_weight * (labels != NO_LABEL).to(logits.dtype)
    return (weight * hard + (1 - weight) * soft).mean()


def distill(
    student: PreTrainedModel,
    teacher: PreTrainedModel | Tensor | None,
    data: Encoded,
    recipe: Distillation,
    *,
    seed: int = 0,
    precision: str = "fp32",
    on_batch: Callable[[int], None] | None = None,
) -> PreTrainedModel:
    """Teach a student with a teacher's softened predictions and the labels.

    Parameters
    ----------
    student : PreTrainedModel
        Left as it is.
    teacher : PreTrainedModel, Tensor of shape (N, classes) or None
        A classifier of the same classes, left as it is; or its logits on ``data``,
        which serve many students; or nothing: the control, where the labels alone
        teach.
    data : Encoded
        N training samples.
    recipe : Distillation
        Steps, temperature and the labels' weight.
    seed, precision, on_batch
        See :func:`fine_tune`.

    Returns
    -------
    PreTrainedModel
        The taught copy of the student.

    Raises
    ------
    SfusionError
        When the two have different numbers of classes.
    """
    objective = None
    if teacher is not None:
        logits = teacher
        if not isinstance(teacher, torch.Tensor):
            _check_classes(student, teacher)
            logits = predict_logits(cast(teacher, precision), data)
        objective = _teaching(logits.to(student.device), recipe)
    taught = remove_layers(student, ())
    fine_tune(
        taught,
        data,
        recipe,
        seed=seed,
        precision=precision,
        objective=objective,
        on_batch=on_batch,
    )
    return taught


def _teaching(teacher_logits: Tensor, recipe: Distillation) -> Objective:
    def objective(output: ModelOutput, labels: Tensor, indices: Tensor) -> Tensor:
        return distillation_loss(
            output.logits.float(),
            teacher_logits[indices],
            labels,
            recipe.temperature,
            recipe.hard_weight,
        )

    return objective


def _check_classes(student: PreTrainedModel, teacher: PreTrainedModel) -> None:
    own = student.config.num_labels
    others = teacher.config.num_labels
    if own != others:
        raise SfusionError(
            f"student and teacher have {own} and {others} classes: "
            "give two models of the same task"
        )
