"""Distillation: the student moves towards the teacher, and the controls differ by that alone."""

import pytest
import tiny
import torch
from sfusion.pruning.distillation import ARMS, distillation_spec
from sfusion.pruning.nodes import Unit, grow, unit_task
from torch.nn import functional

from sfusion import SfusionError, distill, fine_tune, remove_layers
from sfusion.pruning import distillation as module
from sfusion.pruning.searches import compute_distillation
from sfusion.records.profiles import Distillation
from sfusion.records.store import RecordStore
from sfusion.training import predict_logits

RECIPE = Distillation(samples=90, batch_size=16, learning_rate=3e-3, removals=[1])


@pytest.fixture
def teacher(make_bert):
    return make_bert()


@pytest.fixture
def student(teacher):
    return remove_layers(teacher, [1, 2])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One tree of a tiny profile, and its record store."""
    folder = tmp_path_factory.mktemp("distillation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFUSION_DATA", str(tiny.data_folder()))
        profile = tiny.make_profile(tiny.write_model(folder / "model"))
        yield Unit(profile, "agnews", 0), RecordStore(folder / "store")


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
    p, q = (
        functional.log_softmax(predict_logits(m, data).double() / temperature, -1)
        for m in (teacher, student)
    )
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
def test_without_the_labels_the_student_moves_towards_the_teacher(
    precision, student, teacher, probe
):
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
    one, same, other = (
        distill(student, teacher, probe, RECIPE, seed=seed).classifier.weight for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_models_of_different_classes_are_one_line(student, make_bert, probe):
    with pytest.raises(SfusionError) as error:
        distill(student, make_bert(num_labels=5), probe, RECIPE)
    assert "3 and 5 classes" in tiny.one_line(error)


def test_the_arms_are_the_taught_model_and_two_controls():
    assert ARMS == {
        "distilled": ("pruned", True),
        "same-steps": ("pruned", False),
        "original-same-steps": ("original", False),
    }


@pytest.mark.parametrize("arm, path", [("distilled", (2,)), ("same-steps", (2,)),
                                       ("original-same-steps", ())])  # fmt: skip
def test_an_arm_starts_from_its_node_and_is_recorded(arm, path, study, monkeypatch):
    unit, store = study
    calls = []

    def watched(model, data, recipe, **kwargs):
        calls.append((predict_logits(model, data), data, recipe, kwargs))
        return fine_tune(model, data, recipe, **kwargs)

    monkeypatch.setattr(module, "fine_tune", watched)
    record = compute_distillation(unit, path, arm, store)
    assert set(record) == {"validation_accuracy", "test_accuracy"}
    ((start, data, recipe, kwargs),) = calls
    train = unit_task(unit).train
    assert data is train
    assert recipe == unit.profile.distillation
    assert torch.equal(start, predict_logits(grow(unit, path, store), train))
    if arm == "distilled":
        teacher = predict_logits(grow(unit, (), store), train)
        assert torch.equal(kwargs["teacher_logits"], teacher)
    else:
        assert kwargs.get("teacher_logits") is None
    assert compute_distillation(unit, path, arm, store) == record
    assert len(calls) == 1
    assert store.get(distillation_spec(unit, path, arm)) == record


def test_arms_see_the_samples_in_the_same_order(study, monkeypatch):
    unit, store = study
    seeds = []
    monkeypatch.setattr(module, "fine_tune", lambda *_, seed, **__: seeds.append(seed))
    for arm in ARMS:
        compute_distillation(unit, (1,), arm, store)
    assert len(seeds) == 3
    assert len(set(seeds)) == 1


def test_a_process_notices_another_teacher(study, tmp_path, monkeypatch):
    unit, store = study
    unit = Unit(unit.profile.model_copy(update={"model": str(tmp_path)}), unit.task, unit.seed)
    taught = []
    monkeypatch.setattr(module, "fine_tune", lambda *_, teacher_logits, **__: taught.append(
        teacher_logits))  # fmt: skip
    for seed in range(2):
        tiny.write_model(tmp_path, seed=seed)
        compute_distillation(unit, (), "distilled", store)
    assert not torch.equal(*taught)


@pytest.mark.parametrize("value", [{"temperature": 3.0}, {"hard_weight": 0.1}, {"samples": 8}])
def test_the_recipe_is_in_the_specification(value, study):
    unit, _ = study
    changed = unit.profile.distillation.model_copy(update=value)
    other = Unit(unit.profile.model_copy(update={"distillation": changed}), unit.task, unit.seed)
    here, there = (distillation_spec(u, (1,), "distilled") for u in (unit, other))
    assert {key for key in here if here[key] != there[key]} == {"distillation"}


def test_depths_that_are_distilled_do_not_touch_each_others_records(study):
    unit, _ = study
    changed = unit.profile.distillation.model_copy(update={"removals": (3,)})
    other = Unit(unit.profile.model_copy(update={"distillation": changed}), unit.task, unit.seed)
    assert distillation_spec(other, (1,), "distilled") == distillation_spec(unit, (1,), "distilled")
    assert len({str(distillation_spec(unit, (1,), arm)) for arm in ARMS}) == 3
