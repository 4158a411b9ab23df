"""Distillation: the student moves towards the teacher, and the controls differ by that alone."""

import pytest
import tiny
import torch
from torch.nn import functional
from torch.nn.utils import parameters_to_vector

from sfusion import distill, fine_tune, remove_layers
from sfusion.records.profiles import Distillation
from sfusion.training import predict_logits

RECIPE = Distillation(samples=90, batch_size=16, learning_rate=3e-3, removals=[1])


@pytest.fixture
def teacher(make_bert):
    return make_bert()


@pytest.fixture
def student(teacher):
    return remove_layers(teacher, [1, 2])


def _state(model):
    tensors = [tensor.numpy().tobytes() for tensor in model.state_dict().values()]
    return tensors, model.training, [(p.requires_grad, p.grad is None) for p in model.parameters()]


def _divergence(student, teacher, data, temperature=2.0):
    """KL(teacher || student) of the softened predictions, mean over the samples."""
    p, q = (functional.log_softmax(predict_logits(m, data).double() / temperature, -1) for m in (teacher, student))
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("training", [False, True])
def test_student_and_teacher_are_left_as_they_are(training, precision, student, teacher, probe):
    student.train(training), teacher.train(training)
    before = _state(student), _state(teacher)
    taught = distill(student, teacher, probe, RECIPE, precision=precision)
    assert (_state(student), _state(teacher)) == before
    assert not taught.training
    assert taught.config.num_hidden_layers == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_the_labels_the_student_moves_towards_the_teacher(precision, student, teacher, probe):
    # Labels that contradict the teacher: with weight 0 they must not matter.
    data = type(probe)(probe.input_ids, probe.attention_mask, 2 - probe.labels)
    recipe = RECIPE.model_copy(update={"hard_weight": 0.0, "samples": 450})
    taught, other = (distill(student, teacher, labelled, recipe, precision=precision) for labelled in (data, probe))
    assert _divergence(taught, teacher, probe) < 0.5 * _divergence(student, teacher, probe)
    assert torch.equal(predict_logits(taught, probe), predict_logits(other, probe))


def test_where_the_labels_alone_teach_it_is_fine_tuning(student, teacher, make_bert, probe):
    labels = RECIPE.model_copy(update={"hard_weight": 1.0})
    for judge, recipe in ((teacher, labels), (make_bert(seed=7), labels), (None, RECIPE)):
        taught, plain = distill(student, judge, probe, recipe), remove_layers(student, ())
        fine_tune(plain, probe, recipe, seed=0)
        assert torch.equal(parameters_to_vector(taught.parameters()), parameters_to_vector(plain.parameters()))


def test_teacher_and_seed_decide_and_logits_teach_as_their_model(student, teacher, make_bert, probe):
    variants = ((teacher, 1), (predict_logits(teacher, probe), 1), (teacher, 2), (make_bert(seed=7), 1))
    one, *others = (distill(student, t, probe, RECIPE, seed=seed).classifier.weight for t, seed in variants)
    assert [torch.equal(one, other) for other in others] == [True, False, False]


def test_models_of_different_classes_are_one_line(student, make_bert, probe):
    with tiny.refused("3 and 5 classes"):
        distill(student, make_bert(num_labels=5), probe, RECIPE)
