"""Knowledge distillation at the end, and the controls that tell it from mere further training."""

import functools

from sfusion import SfusionError
from sfusion.models.loading import remove_layers
from sfusion.pruning.nodes import check_key, fixed_threads, grow, node_spec, unit_task
from sfusion.records.store import RecordStore, content_key
from sfusion.training import accuracies, derive_seed, fine_tune, lower, predict_logits

ARMS = {
    # name: (who is trained on, whether the original teaches); "same steps" are the controls.
    "distilled": ("pruned", True),
    "same-steps": ("pruned", False),
    "original-same-steps": ("original", False),
}


def distill(student, teacher, data, recipe, *, seed=0, precision="fp32", on_batch=None):
    """Teach a student with a teacher's softened predictions and the labels.

    Parameters
    ----------
    student, teacher : transformers.PreTrainedModel
        Classifiers of the same classes; both are left as they are.
    data : Encoded
        Training samples.
    recipe : Distillation
        Steps, temperature and the labels' weight.
    seed : int
        Fixes the order of samples and the dropout.
    precision : {"fp32", "bf16"}
    on_batch : callable, optional
        See :func:`sfusion.training.fine_tune`.

    Returns
    -------
    transformers.PreTrainedModel
        The taught copy of the student.

    Raises
    ------
    SfusionError
        When the two have different numbers of classes.
    """
    classes = student.config.num_labels, teacher.config.num_labels
    if classes[0] != classes[1]:
        raise SfusionError(
            f"student and teacher have {classes[0]} and {classes[1]} classes: give two models of "
            "the same task"
        )
    taught = remove_layers(student, ())
    logits = predict_logits(lower(teacher, precision), data)
    fine_tune(
        taught,
        data,
        recipe,
        seed=seed,
        precision=precision,
        teacher_logits=logits,
        on_batch=on_batch,
    )
    return taught


def distillation_spec(unit, path, arm):
    """Write down everything that decides a distillation's result.

    Parameters
    ----------
    unit : Unit
    path : tuple of int
        Layers removed, in order; empty for the original.
    arm : str
        A name in ``ARMS``.

    Returns
    -------
    dict
    """
    recipe = unit.profile.distillation.model_dump(exclude={"removals"})
    return {
        **node_spec(unit, path),
        "kind": "distillation",
        "condition": arm,
        "distillation": recipe,
    }


# One teacher teaches at every depth of its unit; its key tells whether model or data have changed.
@functools.lru_cache(maxsize=1)
def _teacher_logits(unit, folder, precision, key):
    teacher = grow(unit, (), RecordStore(folder))
    return predict_logits(lower(teacher, precision), unit_task(unit).train)


def compute_distillation(unit, path, arm, store, key=None):
    """Train and evaluate one arm at one node, unless its record is there.

    The order of samples is the same in every arm of a unit, so arms differ by the teacher alone.

    Parameters
    ----------
    unit : Unit
    path : tuple of int
    arm : str
    store : RecordStore
    key : str, optional
        See :func:`sfusion.pruning.nodes.check_key`.

    Returns
    -------
    dict
        ``validation_accuracy`` and ``test_accuracy``.
    """
    spec = distillation_spec(unit, path, arm)
    check_key(spec, key)
    record = store.get(spec)
    if record is not None:
        return record
    task, recipe, precision = unit_task(unit), unit.profile.distillation, spec["precision"]
    seed = derive_seed("distillation", unit.seed)
    with fixed_threads(unit.profile.threads):
        student = grow(unit, path, store)
        taught = None
        if ARMS[arm][1]:
            root = content_key(node_spec(unit, ()))
            taught = _teacher_logits(unit, store.folder, precision, root)
        fine_tune(
            student, task.train, recipe, seed=seed, precision=precision, teacher_logits=taught
        )
        record = accuracies(student, task, precision)
    store.put(spec, record)
    return record
