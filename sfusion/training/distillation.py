"""Distillation: a teacher's softened predictions beside the labels."""

import torch
from torch.nn import functional

from sfusion.errors import SfusionError
from sfusion.models.layers import remove_layers
from sfusion.training.evaluation import predict_logits
from sfusion.training.loop import fine_tune
from sfusion.training.precision import cast

NO_LABEL = (
    -100
)  # of a sample that a teacher alone explains; torch's own number for that


def distillation_loss(logits, teacher_logits, labels, temperature, hard_weight):
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
    student, teacher = (
        functional.log_softmax(x / temperature, -1) for x in (logits, teacher_logits)
    )
    soft = temperature**2 * functional.kl_div(
        student, teacher, reduction="none", log_target=True
    ).sum(-1)
    hard = functional.cross_entropy(
        logits, labels, reduction="none", ignore_index=NO_LABEL
    )
    weight = hard_weight * (labels != NO_LABEL).to(logits.dtype)
    return (weight * hard + (1 - weight) * soft).mean()


def distill(student, teacher, data, recipe, *, seed=0, precision="fp32", on_batch=None):
    """Teach a student with a teacher's softened predictions and the labels.

    Parameters
    ----------
    student : transformers.PreTrainedModel
        Left as it is.
    teacher : transformers.PreTrainedModel, Tensor of shape (N, classes) or None
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
    transformers.PreTrainedModel
        The taught copy of the student.

    Raises
    ------
    SfusionError
        When the two have different numbers of classes.
    """
    if not (teacher is None or isinstance(teacher, torch.Tensor)):
        own, its = student.config.num_labels, teacher.config.num_labels
        if own != its:
            raise SfusionError(
                f"student and teacher have {own} and {its} classes: give two models of the same task"
            )
        teacher = predict_logits(cast(teacher, precision), data)

    def objective(output, labels, indices):
        logits = output.logits.float()
        return distillation_loss(
            logits, teacher[indices], labels, recipe.temperature, recipe.hard_weight
        )

    taught = remove_layers(student, ())
    teacher = None if teacher is None else teacher.to(next(taught.parameters()).device)
    options = {"seed": seed, "precision": precision, "on_batch": on_batch}
    fine_tune(
        taught,
        data,
        recipe,
        objective=None if teacher is None else objective,
        **options,
    )
    return taught
