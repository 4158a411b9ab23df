"""Distillation: the student moves towards the teacher, and the controls differ by that alone."""

import pytest
import tiny
import torch
from torch.nn import functional

from sfusion import SfusionError, distill, fine_tune, remove_layers
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
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()], model.training
    return tensors, flags, [p.grad is None for p in model.parameters()]


def _untouched(model, before):
    tensors, *flags = _state(model)
    assert all(torch.equal(tensors[name], before[0][name]) for name in before[0])
    assert flags == list(before[1:])


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
    _untouched(student, before[0])
    _untouched(teacher, before[1])
    assert not taught.training
    assert taught.config.num_hidden_layers == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_the_labels_the_student_moves_towards_the_teacher(precision, student, teacher, probe):
    # Labels that contradict the teacher: with weight 0 they must not matter.
    data = type(probe)(probe.input_ids, probe.attention_mask, 2 - probe.labels)
    recipe = RECIPE.model_copy(update={"hard_weight": 0.0, "samples": 450})
    taught = distill(student, teacher, data, recipe, precision=precision)
    before, after = (_divergence(model, teacher, probe) for model in (student, taught))
    assert after < 0.5 * before
    other = distill(student, teacher, probe, recipe, precision=precision)
    assert torch.equal(predict_logits(taught, probe), predict_logits(other, probe))


def test_with_the_labels_alone_the_teacher_does_not_matter(student, teacher, make_bert, probe):
    recipe = RECIPE.model_copy(update={"hard_weight": 1.0})
    one = distill(student, teacher, probe, recipe)
    other = distill(student, make_bert(seed=7), probe, recipe)
    plain = remove_layers(student, ())
    fine_tune(plain, probe, recipe, seed=0)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(one.state_dict()[name], tensor)
        assert torch.equal(other.state_dict()[name], tensor)


def test_the_teacher_matters_between_the_limits(student, teacher, make_bert, probe):
    one, other = (distill(student, t, probe, RECIPE) for t in (teacher, make_bert(seed=7)))
    assert not torch.equal(one.classifier.weight, other.classifier.weight)


def test_the_seed_fixes_the_result(student, teacher, probe):
    one, same, other = (distill(student, teacher, probe, RECIPE, seed=seed).classifier.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_models_of_different_classes_are_one_line(student, make_bert, probe):
    with pytest.raises(SfusionError) as error:
        distill(student, make_bert(num_labels=5), probe, RECIPE)
    assert "3 and 5 classes" in tiny.one_line(error)


def test_logits_teach_as_their_model_does_and_nothing_is_the_control(student, teacher, probe):
    one = distill(student, teacher, probe, RECIPE)
    other = distill(student, predict_logits(teacher, probe), probe, RECIPE)
    assert torch.equal(one.classifier.weight, other.classifier.weight)
    control, plain = distill(student, None, probe, RECIPE), remove_layers(student, ())
    fine_tune(plain, probe, RECIPE, seed=0)
    assert torch.equal(control.classifier.weight, plain.classifier.weight)
