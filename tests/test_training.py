"""Training and distillation: the same bits for the same seed, in both precisions."""

import copy

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from torch.nn import functional
from torch.nn.utils import parameters_to_vector

from sfusion import distill, fine_tune, remove_layers
from sfusion.models.architectures import embedding_parameters
from sfusion.training.distillation import NO_LABEL, distillation_loss
from sfusion.training.evaluation import classified, predict_logits
from sfusion.training.recipes import Distillation, Recipe
from sfusion.training.seeds import derive_seed

RECIPE = Recipe(samples=60, batch_size=16, learning_rate=3e-3)
TAUGHT = Distillation(samples=90, batch_size=16, learning_rate=3e-3, removals=[1])

both_precisions = pytest.mark.parametrize("precision", ["fp32", "bf16"])


@pytest.fixture
def model(make_bert):
    return make_bert(num_layers=2)


def _trained(model, data, seed=0, precision="fp32", **changes):
    model = copy.deepcopy(model)
    fine_tune(
        model, data, RECIPE.model_copy(update=changes), seed=seed, precision=precision
    )
    return model


def _vector(model):
    return parameters_to_vector(model.parameters()).detach()


@both_precisions
@pytest.mark.parametrize("dropout", [False, True])
def test_the_seed_alone_decides_not_the_global_state(dropout, precision, model, probe):
    vectors = []
    for seed, elsewhere in ((3, 1), (3, 2), (4, 2)):
        state = torch.manual_seed(elsewhere).get_state()
        vectors.append(
            _vector(_trained(model, probe, seed, precision, dropout=dropout))
        )
        assert torch.equal(torch.get_rng_state(), state)
    one, same, other = vectors
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_dropout_is_off_unless_the_recipe_says_so(model, probe):
    plain, dropped = (
        _vector(_trained(model, probe, dropout=on)) for on in (False, True)
    )
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert torch.equal(plain, _vector(_trained(model, probe, dropout=True)))
    assert not torch.equal(plain, dropped)


@both_precisions
@pytest.mark.parametrize("freeze", [True, False])
def test_all_but_frozen_embeddings_move_and_the_model_is_ready(
    freeze, precision, model, probe
):
    model.spare = torch.nn.Parameter(torch.ones(3))  # not used: it stays
    trained = _trained(
        model, probe, precision=precision, freeze_embeddings=freeze, dropout=True
    )
    before = dict(model.named_parameters())
    moved = {
        name
        for name, p in trained.named_parameters()
        if not torch.equal(p, before[name])
    }
    still = {
        id(p)
        for p in (trained.spare, *(embedding_parameters(trained) if freeze else ()))
    }
    assert moved == {
        name for name, p in trained.named_parameters() if id(p) not in still
    }
    assert not trained.training
    assert all(
        p.dtype == torch.float32 and p.requires_grad and p.grad is None
        for p in trained.parameters()
    )


def test_the_head_has_a_rate_of_its_own(model, probe):
    # Adam's first step is as long as its rate, whatever the gradient.
    trained = _trained(model, probe, samples=16, head_rate=10.0, weight_decay=0.0)
    for part, rate in (
        ("bert.encoder", 0.003),
        ("bert.pooler", 0.03),
        ("classifier", 0.03),
    ):
        step = _vector(trained.get_submodule(part)) - _vector(model.get_submodule(part))
        assert float(step.abs().max()) == pytest.approx(rate, rel=1e-3)


@both_precisions
def test_a_learnable_set_is_learned(precision, model, probe):
    def loss():
        return float(
            functional.cross_entropy(predict_logits(model, probe), probe.labels)
        )

    before = loss()
    seen = fine_tune(
        model,
        probe,
        RECIPE.model_copy(update={"samples": 900}),
        seed=0,
        precision=precision,
    )
    # Words of the classes overlap by half, and chance is log 3 = 1.1 nats.
    assert loss() < 0.5 < before
    assert loss() < seen < before


def test_the_mean_loss_is_over_the_samples_seen(model, probe):
    # So small a rate leaves the model as it is; 45 samples twice are two whole epochs.
    recipe = Recipe(samples=90, batch_size=8, learning_rate=1e-12)
    expected = functional.cross_entropy(predict_logits(model, probe), probe.labels)
    found = fine_tune(model, probe, recipe, seed=0)
    assert found == pytest.approx(
        float(expected), rel=1e-5
    )  # float32, summed in other batches


def test_bf16_differs_little_from_fp32(model, probe):
    wide, low = (
        _vector(_trained(model, probe, precision=name)) - _vector(model)
        for name in ("fp32", "bf16")
    )
    # bfloat16 keeps 8 bits, so gradients are off by about 2^-8 a product; Adam turns
    # them into steps of one size, and gradients near zero may take the wrong sign. An
    # eighth of the way is what four steps make of that; gradients left over from the
    # step before make a quarter.
    assert (low - wide).norm() < wide.norm() / 5
    assert not torch.equal(low, wide)


def test_bf16_keeps_updates_that_bfloat16_itself_would_round_away(model, probe):
    trained = _trained(
        model, probe, precision="bf16", learning_rate=1e-6, weight_decay=0.0
    )
    weights = trained.classifier.weight.detach()
    step = (weights - model.classifier.weight.detach()).abs()
    assert (step > 0).float().mean() > 0.95
    # bfloat16 numbers of this size lie 2^-9 of themselves apart and more: a thousand
    # steps.
    assert float(step.max()) < 2**-9 * float(weights.abs().median())
    assert not torch.equal(weights.bfloat16().float(), weights)


@pytest.mark.parametrize("samples", [30, 45, 100])
def test_batches_take_every_sample_once_an_epoch_and_shuffle_each_anew(
    samples, model, probe, monkeypatch
):
    batches, take = [], type(probe).take
    monkeypatch.setattr(
        type(probe),
        "take",
        lambda data, rows: batches.append(rows.tolist()) or take(data, rows),
    )
    fine_tune(model, probe, RECIPE.model_copy(update={"samples": samples}), seed=8)
    assert [len(batch) for batch in batches] == [16] * (samples // 16) + [samples % 16]
    order = sum(batches, [])
    epochs = [order[start : start + 45] for start in range(0, samples, 45)]
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch)
        assert set(epoch) <= set(range(45))
        assert epoch != sorted(epoch)
    assert epochs[1:2] != epochs[:1]


logits = st.lists(
    st.lists(st.floats(-8, 8), min_size=3, max_size=3), min_size=4, max_size=4
).map(np.array)


@given(
    student=logits,
    teacher=logits,
    labels=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    temperature=st.floats(0.5, 10),
    hard_weight=st.floats(0, 1),
)
def test_distillation_loss_is_the_formula(
    student, teacher, labels, temperature, hard_weight
):
    tensors = map(torch.tensor, (student, teacher, labels))
    hard = -np.log(softmax(student, axis=1)[range(4), labels])
    soft = rel_entr(
        *(softmax(each / temperature, axis=1) for each in (teacher, student))
    ).sum(axis=1)
    expected = np.mean(hard_weight * hard + (1 - hard_weight) * temperature**2 * soft)
    # Both float64; the absolute part is for sums that cancel to almost nothing.
    found = float(distillation_loss(*tensors, temperature, hard_weight))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_teacher_logits_go_with_their_samples(model, probe):
    # With the labels' weight 0, a teacher who gives each sample its own class must
    # teach it.
    recipe = TAUGHT.model_copy(update={"samples": 900, "hard_weight": 0.0})
    teacher = 6.0 * functional.one_hot(probe.labels, 3).float()
    mislabelled = type(probe)(
        probe.input_ids, probe.attention_mask, probe.labels.flip(0)
    )
    taught = distill(model, teacher, mislabelled, recipe)
    assert classified(taught, probe).mean() > 0.9


def test_samples_without_a_label_learn_from_the_teacher_alone():
    logits, soft = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, NO_LABEL, NO_LABEL])
    parts = [
        distillation_loss(logits[:4], soft[:4], labels[:4], 4.0, 0.3),
        distillation_loss(logits[4:], soft[4:], torch.tensor([0, 0]), 4.0, 0.0),
    ]
    found = distillation_loss(logits, soft, labels, 4.0, 0.3)
    torch.testing.assert_close(found, (4 * parts[0] + 2 * parts[1]) / 6)


@pytest.mark.parametrize("batch_size", [None, 7])
def test_predictions_are_those_of_every_sample_alone_without_padding(
    batch_size, model, probe
):
    pairs = zip(probe.input_ids, probe.attention_mask.bool(), strict=True)
    with torch.no_grad():
        alone = torch.cat([model(ids[real][None]).logits for ids, real in pairs])
    # Matrix products of another size round otherwise, in float32's last digits.
    torch.testing.assert_close(
        predict_logits(model, probe, batch_size), alone, atol=1e-5, rtol=0
    )
    np.testing.assert_array_equal(
        classified(model, probe), alone.argmax(1) == probe.labels
    )


def test_derived_seeds_are_the_same_on_every_machine():
    # Written down once: a change here would make every committed record stale.
    assert derive_seed("order", 0, (4, 2)) == 762634867
    assert derive_seed("head", 0) == 403694991
    assert derive_seed("strategy", 2, "random-1") == 492837492


@given(
    seed=st.integers(0, 10**6),
    path=st.lists(st.integers(0, 11), max_size=11, unique=True),
)
def test_derived_seeds_are_in_range_and_tell_paths_apart(seed, path):
    here = derive_seed("order", seed, tuple(path))
    assert 0 <= here < 2**31
    assert here != derive_seed("order", seed, (*path, 12))
    assert here != derive_seed("order", seed + 1, tuple(path))


# --- distillation: the student moves towards the teacher, and the controls differ by
# that alone


@pytest.fixture
def teacher(make_bert):
    return make_bert()


@pytest.fixture
def student(teacher):
    return remove_layers(teacher, [1, 2])


def _state(model):
    tensors = [tensor.numpy().tobytes() for tensor in model.state_dict().values()]
    return (
        tensors,
        model.training,
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
    )


def _divergence(student, teacher, data, temperature=2.0):
    """KL(teacher || student) of the softened predictions, mean over the samples."""
    p, q = (
        functional.log_softmax(predict_logits(m, data).double() / temperature, -1)
        for m in (teacher, student)
    )
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("training", [False, True])
def test_student_and_teacher_are_left_as_they_are(
    training, precision, student, teacher, probe
):
    student.train(training), teacher.train(training)
    before = _state(student), _state(teacher)
    taught = distill(student, teacher, probe, TAUGHT, precision=precision)
    assert (_state(student), _state(teacher)) == before
    assert not taught.training
    assert taught.config.num_hidden_layers == 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_the_labels_the_student_moves_towards_the_teacher(
    precision, student, teacher, probe
):
    # Labels that contradict the teacher: with weight 0 they must not matter.
    data = type(probe)(probe.input_ids, probe.attention_mask, 2 - probe.labels)
    recipe = TAUGHT.model_copy(update={"hard_weight": 0.0, "samples": 450})
    taught, other = (
        distill(student, teacher, labelled, recipe, precision=precision)
        for labelled in (data, probe)
    )
    assert _divergence(taught, teacher, probe) < 0.5 * _divergence(
        student, teacher, probe
    )
    assert torch.equal(predict_logits(taught, probe), predict_logits(other, probe))


def test_where_the_labels_alone_teach_it_is_fine_tuning(
    student, teacher, make_bert, probe
):
    labels = TAUGHT.model_copy(update={"hard_weight": 1.0})
    for judge, recipe in (
        (teacher, labels),
        (make_bert(seed=7), labels),
        (None, TAUGHT),
    ):
        taught, plain = (
            distill(student, judge, probe, recipe),
            remove_layers(student, ()),
        )
        fine_tune(plain, probe, recipe, seed=0)
        assert torch.equal(
            parameters_to_vector(taught.parameters()),
            parameters_to_vector(plain.parameters()),
        )


def test_teacher_and_seed_decide_and_logits_teach_as_their_model(
    student, teacher, make_bert, probe
):
    variants = (
        (teacher, 1),
        (predict_logits(teacher, probe), 1),
        (teacher, 2),
        (make_bert(seed=7), 1),
    )
    one, *others = (
        distill(student, t, probe, TAUGHT, seed=seed).classifier.weight
        for t, seed in variants
    )
    assert [torch.equal(one, other) for other in others] == [True, False, False]


def test_models_of_different_classes_are_one_line(student, make_bert, probe):
    with tiny.refused("3 and 5 classes"):
        distill(student, make_bert(num_labels=5), probe, TAUGHT)
