"""The signals against a slow reference, closed forms, invariances and error lines."""

import copy
import gc
import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reference_signals import GROUPS, reference_signals, ross_mi
from sklearn.feature_selection import mutual_info_classif
from transformers.models.bert import modeling_bert

from sfusion import SfusionError
from sfusion.data.encoding import Encoded
from sfusion.data.tasks import Task
from sfusion.models.layers import remove_layers
from sfusion.signals import MEASURES, REDUNDANCY, SIGNALS, registry
from sfusion.signals.extraction import extract_signals
from sfusion.signals.information import mutual_information

INFORMATION = GROUPS["mutual information"]
# A signal that the reference does not have yet is not judged.
JUDGED = {slug: MEASURES[slug] for slug in sum(GROUPS.values(), [])}
SMOOTH = [name for name in JUDGED if name not in INFORMATION]
# Inhibition and Taylor are sums with cancellation: their rounding goes with the size of
# the terms (about 1 and 5 here), not with the small result, hence the absolute part.
FLOAT32 = {"rtol": 1e-4, "atol": 5e-6}

# No shrinking: a failing example is small already, and looking for a smaller one takes
# minutes.
few_examples = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
)


def assert_same(table, expected, rtol=1e-8, atol=1e-12):
    """Float64 against float64: the sums are the same, only their order differs."""
    pd.testing.assert_frame_equal(table, expected, rtol=rtol, atol=atol)


def assert_as_reference(model, data, **options):
    table = extract_signals(model, data, measures=JUDGED, **options)
    assert_same(table, reference_signals(model, data))
    return table


@pytest.fixture
def model64(make_bert):
    return make_bert().double()


@pytest.fixture(scope="module")
def expected(make_bert, probe):
    return reference_signals(make_bert(), probe)


@pytest.fixture(scope="module")
def table32(make_bert, probe):
    return extract_signals(make_bert(), probe, measures=JUDGED)


@pytest.fixture(scope="module")
def small64(make_bert):
    """Give a 2-layer model in float64: quick enough for generated examples."""
    return make_bert(num_layers=2).double()


# --- the judge judged
# ------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [1, 2, 4])
@pytest.mark.parametrize(("n", "classes"), [(24, 3), (45, 2), (60, 5)])
def test_reference_estimator_is_sklearns(n, classes, copies):
    rng = np.random.default_rng(n)
    y = np.arange(n) % classes
    x = rng.normal(size=n) + 0.8 * y
    x, y = np.repeat(x, copies), np.repeat(y, copies)
    theirs = mutual_info_classif(x[:, None], y, n_neighbors=3, random_state=0)[0]
    # Both count the same neighbours, unless scikit-learn's noise of 1e-10 turns a near
    # tie, and the digamma terms are then the same. Classes have 8 samples or more:
    # below that scikit-learn searches by a matrix product whose rounding (1e-8) already
    # moves the counts, by up to 0.1 nats, so there the reference alone is the judge.
    assert ross_mi(x, y) == pytest.approx(theirs, abs=1e-10)
    assert theirs > 0.05


def test_the_estimator_takes_memory_with_the_samples_not_with_their_pairs():
    def peak(samples):
        values = np.random.default_rng(0).normal(size=(samples, 8))
        tracemalloc.start()
        mutual_information(values, np.arange(samples) % 3)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(2000) < 2.2 * peak(1000)


@few_examples
@given(
    seed=st.integers(0, 999),
    samples=st.integers(4, 90),
    classes=st.integers(2, 9),
    decimals=st.integers(0, 8),
)
def test_the_estimator_is_the_reference_where_values_tie(
    seed, samples, classes, decimals
):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(samples, 3)).round(decimals)
    target = rng.integers(classes, size=samples)
    expected = [ross_mi(column, target) for column in values.T]
    np.testing.assert_allclose(
        mutual_information(values, target), expected, rtol=0, atol=1e-12
    )


def test_probe_can_tell_the_signals_apart(tiny_bert, probe, expected):
    """Guard the other tests: no signal is constant and no class is too small."""
    predicted = tiny_bert(probe.input_ids, probe.attention_mask).logits.argmax(1)
    assert probe.labels.bincount().tolist() == [15, 15, 15]
    assert predicted.bincount(minlength=3).min() >= 8
    assert (expected.nunique() == 4).all()
    assert (expected[INFORMATION] > 0.01).all(axis=None)
    weights = tiny_bert.bert.encoder.layer[0].intermediate.dense.weight
    assert weights.abs().max() > 1, "no weight is clipped"


# --- the table
# -------------------------------------------------------------------------------


def test_registry():
    assert MEASURES == SIGNALS | REDUNDANCY
    assert list(REDUNDANCY)[:3] == GROUPS["redundancy"]
    for group, slugs in GROUPS.items():
        assert {MEASURES[slug].group for slug in slugs} == {group}
    turned = [slug for slug in JUDGED if JUDGED[slug].removed_first == "highest"]
    assert turned == ["attention-entropy"]
    for slug, signal in MEASURES.items():
        texts = (
            signal.title,
            signal.formula,
            signal.unit,
            signal.reading,
            signal.source,
        )
        assert all(text == text.strip() and len(text) > 1 for text in texts), slug
        assert signal.slug == slug


@pytest.mark.parametrize("batch_size", [None, 1, 7, 45, 64])
def test_float64_equals_the_reference_whatever_the_batch(
    batch_size, model64, probe, expected
):
    # The estimates of information too: they are functions of neighbour counts, which
    # differ from the reference's only where two distances agree to within
    # scikit-learn's noise of 1e-10. In this probe none do, and a single count would
    # shift a mean by 1 / (45 * 8 * count) > 1e-5.
    assert_same(
        extract_signals(model64, probe, batch_size=batch_size, measures=JUDGED),
        expected,
    )


def test_float32_is_close_to_the_reference(table32, expected):
    assert_same(table32, expected, **FLOAT32)


@pytest.mark.parametrize(
    ("measures", "columns"), [(None, SIGNALS), (REDUNDANCY, REDUNDANCY)]
)
def test_measures_choose_the_columns_and_change_no_bit(
    measures, columns, tiny_bert, probe, table32
):
    table = extract_signals(tiny_bert, probe, measures=measures)
    assert list(table) == list(columns)
    judged = [column for column in columns if column in JUDGED]
    pd.testing.assert_frame_equal(table[judged], table32[judged], check_exact=True)


@pytest.mark.parametrize("removed", [[0], [1, 2], [0, 1, 3]])
def test_pruned_model(removed, model64, probe):
    assert_as_reference(remove_layers(model64, removed), probe)


def test_one_predicted_class_carries_no_information(model64, probe):
    with torch.no_grad():
        model64.classifier.bias[1] += 50
    # The gradients are tiny for samples of that class and near 1 for others: a hard
    # case too.
    table = assert_as_reference(model64, probe)
    assert (table["information-flow-mi"] == 0).all()


@few_examples
@given(
    n=st.integers(4, 7),
    seed=st.integers(0, 999),
    width=st.integers(8, 14),
    shortest=st.integers(4, 8),
    batch_size=st.integers(1, 8),
)
def test_any_small_probe(small64, make_probe, n, seed, width, shortest, batch_size):
    # Classes of 2 to 4 samples: fewer neighbours than 3, and predicted classes of one
    # sample.
    data = make_probe(n=n, width=width, classes=2, seed=seed, lengths=(shortest, 8))
    assert_as_reference(small64, data, batch_size=batch_size)


def test_mask_with_holes(model64, make_probe):
    # The formulas know the mask only, not that real tokens come first. (A hole in a
    # sample of one word would leave copies of the empty sentence, hence the longer
    # samples.)
    data = make_probe(lengths=(5, 10))
    data.attention_mask[::2, 1] = 0
    assert_as_reference(model64, data, batch_size=7)


# --- invariances
# -----------------------------------------------------------------------------


@few_examples
@given(
    order=st.permutations(range(45)),
    names=st.permutations(range(3)),
    extra=st.integers(1, 9),
    filler=st.integers(0, 49),
    batch_size=st.integers(4, 50),
)
def test_order_padding_and_names_of_classes_change_nothing(
    make_bert, probe, expected, order, names, extra, filler, batch_size
):
    model = make_bert().double()
    head = model.classifier
    with torch.no_grad():
        head.weight[names], head.bias[names] = head.weight.clone(), head.bias.clone()
    # The filler is any word: only the mask says what is real.
    pad = torch.nn.functional.pad
    ids, mask = (
        pad(probe.input_ids, (0, extra), value=filler),
        pad(probe.attention_mask, (0, extra)),
    )
    data = Encoded(ids, mask, torch.tensor(names)[probe.labels]).take(
        torch.tensor(order)
    )
    assert_same(
        extract_signals(model, data, batch_size=batch_size, measures=JUDGED), expected
    )


@pytest.mark.parametrize("copies", [2, 4])
def test_copies_of_the_probe_change_nothing_but_the_information(
    copies, model64, probe, expected
):
    repeated = probe.take(torch.arange(45).repeat(copies))
    table = assert_as_reference(model64, repeated, batch_size=16)
    assert_same(table[SMOOTH], expected[SMOOTH])
    # Texts do repeat in real corpora. With 4 copies the third neighbour is at distance
    # 0 and the location gives the class away: about log(3) nats, and not infinity.
    if copies == 4:
        assert table[INFORMATION].sub(math.log(3)).abs().max().max() < 0.05


# --- closed forms
# ----------------------------------------------------------------------------


def test_unit_norms_and_queries_of_zero_fix_activation_and_attention(model64, probe):
    """Outputs of mean 0 and norm sqrt(H) everywhere; attention to all keys alike."""
    with torch.no_grad():
        for layer in model64.bert.encoder.layer:
            norm, query = layer.output.LayerNorm, layer.attention.self.query
            norm.weight.fill_(1)
            for parameter in (norm.bias, query.weight, query.bias):
                parameter.zero_()
    table = extract_signals(model64, probe)
    tokens = float(probe.attention_mask.sum()) / len(probe)
    # A sample of n tokens has n queries of 1 / n each: it adds 1 to the sum, n to the
    # count.
    closed = {
        "intensity": math.sqrt(16),
        "energy": 16 * tokens,
        "attention-entropy": 1,
        "attention-weight": 1 / tokens,
    }
    np.testing.assert_allclose(table["inhibition"], 0, atol=1e-12)
    for column, value in closed.items():
        np.testing.assert_allclose(table[column], value, rtol=1e-9, err_msg=column)


@pytest.mark.parametrize(
    ("values", "entropy"),
    [
        # The centres of all 512 bins, four times over.
        ((torch.arange(512) + 0.5) / 256 - 1, math.log(512)),
        ([0.301], 0.0),
        # Two values in one bin (1/256 wide), then in two neighbouring ones.
        ([0.0001, 0.0038], 0.0),
        ([-0.0001, 0.0001], math.log(2)),
        # The end bins hold what lies outside, and the ends themselves.
        ([7.0, 1.0, 0.9999, 1.5], 0.0),
        ([-7.0, -1.0, 2.0, 0.9999], math.log(2)),
        ([-3.0, 0.2, 0.2, 0.2], math.log(4) - 0.75 * math.log(3)),
    ],
)
def test_weight_signals_of_known_weights(small64, probe, values, entropy):
    model, values = copy.deepcopy(small64), torch.as_tensor(values, dtype=torch.float64)
    for layer in model.bert.encoder.layer:
        matrices = [p for p in layer.parameters() if p.dim() == 2]  # 2,048 entries
        torch.nn.utils.vector_to_parameters(
            values.repeat(2048 // len(values)), matrices
        )
    table = extract_signals(model, probe.take(torch.arange(6)))
    np.testing.assert_allclose(table["weight-entropy"], entropy, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        table["weight-norm"], values.square().mean().sqrt(), rtol=1e-9
    )


# --- the model is left as it was
# -------------------------------------------------------------


def snapshot(model):
    """List all of a model and the process that a reader of signals must not change."""
    named = list(model.named_parameters())
    gradients = {
        f"gradient of {name}": p.grad for name, p in named if p.grad is not None
    }
    tensors = (
        model.state_dict() | gradients | {"torch's random state": torch.get_rng_state()}
    )
    return {
        "tensors": {name: tensor.numpy().tobytes() for name, tensor in tensors.items()},
        "parameters": [
            (name, id(p), p.requires_grad, len(p._backward_hooks or {}))
            for name, p in named
        ],
        "modules": [
            {
                name: len(value) if name.endswith("hooks") else None
                for name, value in vars(module).items()
            }
            | {"training": module.training}
            for module in model.modules()
        ],
        "config": (
            copy.deepcopy(model.config.to_dict()),
            model.config._attn_implementation,
        ),
        "library": (
            modeling_bert.eager_attention_forward,
            modeling_bert.BertLayer.forward,
        ),
        "process": (
            torch.is_grad_enabled(),
            torch.get_num_threads(),
            str(np.random.get_state(legacy=False)),
        ),
    }


def training(model, probe):
    """In the middle of training: mixed modes, gradients waiting, an owner's hook."""
    model.train()
    model.bert.encoder.layer[1].eval()
    model(input_ids=probe.input_ids[:4], labels=probe.labels[:4]).loss.backward()
    model.bert.encoder.layer[0].register_forward_hook(lambda *_: None)


def frozen(model, probe):
    """Partly frozen, as for fine-tuning the upper layers."""
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[0].requires_grad_(False)
    model.bert.encoder.layer[2].attention.requires_grad_(False)


def inference(model, probe):
    """All frozen, with the library's default attention, which returns no weights."""
    model.requires_grad_(False)
    model.set_attn_implementation("sdpa")


@pytest.mark.parametrize("state", [training, frozen, inference])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_model_is_left_as_it_was(state, precision, tiny_bert, probe, table32):
    state(tiny_bert, probe)
    before = snapshot(tiny_bert)
    table = extract_signals(tiny_bert, probe, precision=precision, measures=JUDGED)
    assert snapshot(tiny_bert) == before
    if precision == "fp32":
        # Whatever its state, it is the same model: dropout off, all parameters of a
        # layer count.
        assert_same(table[SMOOTH], table32[SMOOTH], **FLOAT32)


def test_failure_leaves_the_model_as_it_was(tiny_bert, probe):
    data = copy.deepcopy(probe)
    data.input_ids[-1, 1] = 999
    training(tiny_bert, probe)
    tiny_bert.set_attn_implementation("sdpa")
    before = snapshot(tiny_bert)
    with pytest.raises((IndexError, SfusionError)):
        extract_signals(tiny_bert, data)
    assert snapshot(tiny_bert) == before


def test_a_task_means_its_train_split_also_where_gradients_are_off(
    tiny_bert, probe, table32
):
    names = ("a", "b", "c")
    task = Task("probe", names, probe, probe, probe, {}, fingerprint="", source="")
    with torch.no_grad():
        table = extract_signals(tiny_bert, task, measures=JUDGED)
    pd.testing.assert_frame_equal(table, table32, check_exact=True)


def test_nothing_is_left_to_the_garbage_collector(tiny_bert, probe):
    def tensors():
        return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = tensors()
        extract_signals(tiny_bert, probe)
        assert tensors() == before
    finally:
        gc.enable()


# --- precision and errors
# --------------------------------------------------------------------


def test_a_bfloat16_model_is_probed_as_its_passes_are(tiny_bert, probe):
    tiny_bert.to(torch.bfloat16)
    tables = [
        extract_signals(tiny_bert, probe, precision=name) for name in ("fp32", "bf16")
    ]
    pd.testing.assert_frame_equal(*tables)
    assert np.isfinite(tables[0].to_numpy()).all()


def test_bfloat16_is_close_enough_to_rank(tiny_bert, probe, table32):
    table = extract_signals(tiny_bert, probe, precision="bf16")
    # The weights are read as they are, not through activations.
    weights = GROUPS["weight"]
    assert_same(table[weights], table32[weights], rtol=1e-6)

    # A bfloat16 number is off by up to 2^-9 = 0.2 per cent and a value passes some ten
    # roundings a layer, partly averaged out over the probe: 2 per cent of a signal's
    # size. Sums with cancellation (signed activations, the mean gradient) are measured
    # by the size of their terms, so a mean gradient that nearly vanishes is not ranked
    # reliably in bfloat16.
    vectors = [
        torch.nn.utils.parameters_to_vector(layer.parameters())
        for layer in tiny_bert.bert.encoder.layer
    ]
    size = table32.copy()
    size["inhibition"] = table32["intensity"] / math.sqrt(16)
    size["gradient-norm"] = np.sqrt(table32["gradient-fisher"])
    size["gradient-taylor"] = size["gradient-norm"] * [
        float(vector.detach().norm()) for vector in vectors
    ]
    smooth = [name for name in SMOOTH if name in SIGNALS and name not in weights]
    error = ((table - table32).abs() / size)[smooth]
    assert error.max().max() < 0.02, error.to_string()
    assert error.max().min() > 1e-6, "bfloat16 was asked for and float32 was computed"
    # So layers that differ by more than twice that keep their order.
    apart = [
        (table32.diff(steps).abs() > 0.04 * size.max())[smooth].sum().sum()
        for steps in (1, 2, 3)
    ]
    assert sum(apart) > len(smooth), (
        "hardly any pair of layers is far enough apart to compare"
    )

    # Neighbour counts move with the last digits: the estimates of information agree
    # only to their own sampling error, about 0.1 nats at 45 samples, out of log(3) =
    # 1.1.
    assert (table - table32)[INFORMATION].abs().max().max() < 0.1


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (slice(0), {}, "the probe set is empty"),
        (slice(0, None, 3), {}, "single class 0"),
        (slice(0, 1), {}, "single class 0"),
        (slice(None), {"precision": "fp8"}, "precision 'fp8'"),
        (slice(None), {"batch_size": 0}, "batch size 0"),
    ],
)
def test_bad_input_is_one_line(tiny_bert, probe, rows, options, says):
    data = Encoded(
        probe.input_ids[rows], probe.attention_mask[rows], probe.labels[rows]
    )
    with tiny.refused(says):
        extract_signals(tiny_bert, data, **options)


def test_a_signal_is_registered_once_and_with_three_paragraphs():
    def no_paragraphs(layer):
        """Low means little."""

    with pytest.raises(ValueError, match="no_paragraphs needs three paragraphs"):
        registry.signal("A New One", "weight", "units")(no_paragraphs)
    with pytest.raises(ValueError, match="'weight-norm' is registered already"):
        registry.signal("Weight-Norm", "weight", "units")(no_paragraphs)
    assert "a-new-one" not in SIGNALS
