"""Training: one loop, the same bits for the same seed, float32 masters under bfloat16 passes."""

import copy
import hashlib
import math
from collections import Counter

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from sfusion import SfusionError, fine_tune
from sfusion.models.layers import embedding_parameters
from sfusion.records.profiles import Distillation, Recipe
from sfusion.training import (
    _sample_order,
    accuracy,
    cast,
    derive_seed,
    distillation_loss,
    predict_logits,
    resolve_precision,
)

RECIPE = Recipe(samples=60, batch_size=16, learning_rate=3e-3)


@pytest.fixture
def model(make_bert):
    return make_bert(num_layers=2)


def _trained(model, data, recipe=RECIPE, seed=0, **kwargs):
    model = copy.deepcopy(model)
    fine_tune(model, data, recipe, seed=seed, **kwargs)
    return model


def _change(recipe, **values):
    return recipe.model_copy(update=values)


def _vector(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [False, True])
def test_same_seed_same_bits_other_seed_other_bits(dropout, precision, model, probe):
    recipe = _change(RECIPE, dropout=dropout)
    one, same, other = (_vector(_trained(model, probe, recipe, seed, precision=precision)) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("dropout", [False, True])
def test_only_the_seed_decides_not_the_global_state(dropout, model, probe):
    recipe = _change(RECIPE, dropout=dropout)
    torch.manual_seed(1)
    one = _vector(_trained(model, probe, recipe))
    state = torch.manual_seed(2).get_state()
    other = _vector(_trained(model, probe, recipe))
    assert torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_is_off_unless_the_recipe_says_so(model, probe):
    plain, dropped = (_vector(_trained(model, probe, _change(RECIPE, dropout=on))) for on in (False, True))
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert torch.equal(plain, _vector(_trained(model, probe)))
    assert not torch.equal(plain, dropped)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_frozen_embeddings_stay_bit_equal_and_the_rest_moves(precision, model, probe):
    trained = _trained(model, probe, precision=precision)
    before = dict(model.named_parameters())
    moved = {name for name, p in trained.named_parameters() if not torch.equal(p, before[name])}
    frozen = {id(p) for p in embedding_parameters(trained)}
    assert moved == {name for name, p in trained.named_parameters() if id(p) not in frozen}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_unfrozen_embeddings_move(precision, model, probe):
    trained = _trained(model, probe, _change(RECIPE, freeze_embeddings=False), precision=precision)
    before = dict(model.named_parameters())
    still = {name for name, p in trained.named_parameters() if torch.equal(p, before[name])}
    assert not still


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_learnable_set_is_learned(precision, model, probe):
    def loss(model):
        return float(functional.cross_entropy(predict_logits(model, probe), probe.labels))

    recipe = _change(RECIPE, samples=900)
    trained = copy.deepcopy(model)
    seen = fine_tune(trained, probe, recipe, seed=0, precision=precision)
    # Words of the classes overlap by half, and chance is log 3 = 1.1 nats.
    assert loss(trained) < 0.5 < loss(model)
    assert loss(trained) < seen < loss(model)


def test_the_mean_loss_is_over_the_samples_seen(model, probe):
    # So small a rate leaves the model as it is; 45 samples twice are two whole epochs.
    recipe = Recipe(samples=90, batch_size=8, learning_rate=1e-12)
    expected = functional.cross_entropy(predict_logits(model, probe), probe.labels)
    found = fine_tune(model, probe, recipe, seed=0)
    assert found == pytest.approx(float(expected), rel=1e-5)  # float32, summed in other batches


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_trained_model_is_fp32_still_and_free_of_gradients(precision, model, probe):
    fine_tune(model, probe, _change(RECIPE, dropout=True), seed=0, precision=precision)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not model.training
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_parameter_that_is_not_used_stays(precision, model, probe):
    model.spare = torch.nn.Parameter(torch.ones(3))
    assert torch.equal(_trained(model, probe, precision=precision).spare, torch.ones(3))


def test_bf16_differs_little_from_fp32(model, probe):
    start = _vector(model)
    wide = _vector(_trained(model, probe)) - start
    low = _vector(_trained(model, probe, precision="bf16")) - start
    # bfloat16 keeps 8 bits, so gradients are off by about 2^-8 a product; Adam turns them into
    # steps of one size, and gradients near zero may take the wrong sign. An eighth of the way is
    # what four steps make of that; gradients left over from the step before make a quarter.
    assert (low - wide).norm() < wide.norm() / 5
    assert not torch.equal(low, wide)


def test_bf16_keeps_updates_that_bfloat16_itself_would_round_away(model, probe):
    recipe = _change(RECIPE, learning_rate=1e-6, weight_decay=0.0)
    trained = _trained(model, probe, recipe, precision="bf16")
    weights = trained.classifier.weight.detach()
    step = (weights - model.classifier.weight).abs()
    assert (step > 0).float().mean() > 0.95
    # bfloat16 numbers of this size lie 2^-9 of themselves apart and more: a thousand steps.
    assert float(step.max()) < 2**-9 * float(weights.abs().median())
    assert not torch.equal(weights.bfloat16().float(), weights)


def test_lower_copies_to_bf16_and_leaves_fp32_alone(model):
    assert cast(model, "fp32") is model
    copied = cast(model, "bf16")
    assert {p.dtype for p in copied.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


@given(count=st.integers(1, 40), samples=st.integers(1, 150), seed=st.integers(0, 99))
def test_the_order_takes_every_sample_once_an_epoch(count, samples, seed):
    order = _sample_order(count, samples, torch.Generator().manual_seed(seed)).tolist()
    assert len(order) == samples
    epochs = [order[start : start + count] for start in range(0, samples, count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs[: samples // count])
    assert max(Counter(epochs[-1]).values()) == 1


def test_epochs_are_shuffled_apart():
    order = _sample_order(30, 60, torch.Generator().manual_seed(0)).tolist()
    assert order[:30] != order[30:]
    assert order[:30] != sorted(order[:30])


def test_each_batch_is_what_the_order_says(model, probe, monkeypatch):
    seen, take = [], type(probe).take
    monkeypatch.setattr(type(probe), "take", lambda data, i: seen.append(i) or take(data, i))
    fine_tune(model, probe, RECIPE, seed=8)
    order = _sample_order(len(probe), 60, torch.Generator().manual_seed(8))
    assert torch.equal(torch.cat(seen), order)
    assert [len(batch) for batch in seen] == [16, 16, 16, 12]


def _by_hand(logits, teacher, labels, temperature, hard_weight):
    """Hinton's mixture in float64, sample by sample."""
    total = 0.0
    for z, t, label in zip(logits, teacher, labels, strict=True):
        hard = -z[label] + math.log(sum(math.exp(v) for v in z))
        q = [math.exp(v / temperature) for v in z]
        p = [math.exp(v / temperature) for v in t]
        p, q = ([v / sum(s) for v in s] for s in (p, q))
        soft = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
        total += hard_weight * hard + (1 - hard_weight) * temperature**2 * soft
    return total / len(labels)


logits = st.lists(st.lists(st.floats(-8, 8), min_size=3, max_size=3), min_size=4, max_size=4)


@given(
    student=logits,
    teacher=logits,
    labels=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    temperature=st.floats(0.5, 10),
    hard_weight=st.floats(0, 1),
)
def test_distillation_loss_is_the_formula(student, teacher, labels, temperature, hard_weight):
    found = distillation_loss(
        torch.tensor(student, dtype=torch.float64),
        torch.tensor(teacher, dtype=torch.float64),
        torch.tensor(labels),
        temperature,
        hard_weight,
    )
    expected = _by_hand(student, teacher, labels, temperature, hard_weight)
    # Both float64; the absolute part is for sums that cancel to almost nothing.
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_distillation_loss_at_the_limits():
    generator = torch.Generator().manual_seed(0)
    student, teacher, other = (torch.randn(5, 4, generator=generator) for _ in range(3))
    labels = torch.tensor([0, 1, 2, 3, 0])
    hard = functional.cross_entropy(student, labels)
    assert torch.equal(distillation_loss(student, teacher, labels, 2.0, 1.0), hard)
    assert torch.equal(distillation_loss(student, other, labels, 2.0, 1.0), hard)
    soft = distillation_loss(student, teacher, labels, 2.0, 0.0)
    assert torch.equal(soft, distillation_loss(student, teacher, labels.flip(0), 2.0, 0.0))
    assert soft > 0
    # Nothing is left to learn from a teacher that says the same, up to a constant.
    assert float(distillation_loss(student, student + 3, labels, 2.0, 0.0)) == pytest.approx(0.0, abs=1e-6)


def test_teacher_logits_go_with_their_samples(model, probe):
    # With the labels' weight 0, a teacher who gives each sample its own class must teach it.
    recipe = Distillation(samples=900, batch_size=16, learning_rate=3e-3, hard_weight=0.0, removals=[1])
    labels = probe.labels.flip(0)
    teacher = 6.0 * functional.one_hot(probe.labels, 3).float()
    mislabelled = type(probe)(probe.input_ids, probe.attention_mask, labels)
    fine_tune(model, mislabelled, recipe, seed=0, teacher_logits=teacher)
    taught = (predict_logits(model, probe).argmax(-1) == probe.labels).float().mean()
    assert taught > 0.9


def test_accuracy_is_the_share_of_right_answers(model, make_probe):
    data, right = make_probe(n=31, seed=1), 0
    for row in range(len(data)):
        with torch.no_grad():
            answer = model(data.input_ids[[row]], data.attention_mask[[row]]).logits
        right += int(answer.argmax()) == int(data.labels[row])
    assert accuracy(model, data) == right / len(data)


def test_predictions_do_not_depend_on_the_padding_beside_them(model, probe):
    together = predict_logits(model, probe, batch_size=8)
    for row in range(0, 45, 7):
        real = probe.attention_mask[row].bool()
        with torch.no_grad():
            alone = model(probe.input_ids[row, real][None]).logits[0]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=0)


def test_predictions_keep_the_order_whatever_the_batch(model, probe):
    whole, parts = predict_logits(model, probe), predict_logits(model, probe, batch_size=7)
    assert whole.shape == (45, 3)
    # Matrix products of another size round otherwise, in float32's last digits.
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_named_precision_is_taken(precision):
    assert resolve_precision(precision) == precision


@pytest.mark.parametrize(
    "able, expected",
    [
        ({}, "fp32"),
        ({"avx512_f": True, "amx_tile": True}, "fp32"),
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_bf16": True}, "bf16"),
    ],
)
def test_auto_takes_bf16_where_the_processor_multiplies_in_it(able, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert resolve_precision("auto") == expected


@pytest.mark.parametrize("name", ["fp16", "", None, "BF16"])
def test_an_unknown_precision_is_one_line(name):
    with pytest.raises(SfusionError) as error:
        resolve_precision(name)
    assert repr(name) in tiny.one_line(error)


def test_derived_seeds_are_the_same_on_every_machine():
    # Written down once: a change here would make every committed record stale.
    digest = hashlib.sha256(b"('order', 0, (4, 2))").digest()
    assert derive_seed("order", 0, (4, 2)) == int.from_bytes(digest[:4], "big") // 2
    assert derive_seed("head", 0) == 403694991
    assert derive_seed("strategy", 2, "random-1") == 492837492


@given(seed=st.integers(0, 10**6), path=st.lists(st.integers(0, 11), max_size=11, unique=True))
def test_derived_seeds_are_in_range_and_tell_paths_apart(seed, path):
    here = derive_seed("order", seed, tuple(path))
    assert 0 <= here < 2**31
    assert here != derive_seed("order", seed, (*path, 12))
    assert here != derive_seed("order", seed + 1, tuple(path))
    np.random.default_rng(here)
