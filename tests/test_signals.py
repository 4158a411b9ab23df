"""The 12 signals against a slow reference, closed forms, invariances and error lines."""

import copy
import dataclasses
import gc
import itertools
import math
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from reference_signals import COLUMNS, principal_components, reference_redundancy, reference_signals, ross_mi
from sklearn.decomposition import PCA
from sklearn.feature_selection import mutual_info_classif
from transformers.models.bert import modeling_bert

from sfusion import SfusionError
from sfusion.data.tasks import Encoded, Task
from sfusion.models.layers import remove_layers
from sfusion.signals import MEASURES, REDUNDANCY, SIGNALS, mutual_information
from sfusion.signals.extraction import extract_signals

GROUPS = ["activation"] * 3 + ["mutual information"] * 2 + ["gradient"] * 3
GROUPS += ["weight"] * 2 + ["attention"] * 2
INFORMATION = ["task-relevance-mi", "information-flow-mi"]
SMOOTH = [column for column in COLUMNS if column not in INFORMATION]
ATTENTION = ["attention-weight", "attention-entropy"]

# Float64 against float64: the sums are the same, only their order differs.
EXACT = {"rtol": 1e-8, "atol": 1e-12}

# No shrinking: a failing example is small already, and looking for a smaller one takes minutes.
few_examples = settings(max_examples=8, deadline=None, derandomize=True, database=None, phases=[Phase.generate])


def assert_same(table, expected, columns=COLUMNS, rtol=EXACT["rtol"], atol=EXACT["atol"]):
    for column in columns:
        np.testing.assert_allclose(
            table[column].to_numpy(), expected[column].to_numpy(), rtol=rtol, atol=atol, err_msg=column
        )


def class_sizes(targets):
    return np.unique(np.asarray(targets), return_counts=True)[1]


def predictions(model, data):
    with torch.no_grad():
        return model(input_ids=data.input_ids, attention_mask=data.attention_mask).logits.argmax(1)


@pytest.fixture(scope="module")
def bert64(make_bert):
    return make_bert().double()


@pytest.fixture(scope="module")
def expected(bert64, probe):
    return reference_signals(bert64, probe)


@pytest.fixture(scope="module")
def table64(bert64, probe):
    return extract_signals(bert64, probe)


@pytest.fixture(scope="module")
def table32(make_bert, probe):
    return extract_signals(make_bert(), probe)


@pytest.fixture(scope="module")
def small64(make_bert):
    """Give a 2-layer model in float64: quick enough for generated examples."""
    return make_bert(num_layers=2).double()


# --- the judge judged ------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [1, 2, 4])
@pytest.mark.parametrize(("n", "classes"), [(24, 3), (45, 2), (60, 5)])
def test_reference_estimator_is_sklearns(n, classes, copies):
    rng = np.random.default_rng(n)
    y = np.arange(n) % classes
    x = rng.normal(size=n) + 0.8 * y
    x, y = np.repeat(x, copies), np.repeat(y, copies)
    theirs = mutual_info_classif(x[:, None], y, n_neighbors=3, random_state=0)[0]
    # Both count the same neighbours, unless scikit-learn's noise of 1e-10 turns a near tie, and
    # the digamma terms are then the same. Classes have 8 samples or more: below that
    # scikit-learn searches by a matrix product whose rounding (1e-8) already moves the counts,
    # by up to 0.1 nats, so there the reference alone is the judge.
    assert ross_mi(x, y) == pytest.approx(theirs, abs=1e-10)
    assert theirs > 0.05


def test_the_estimator_holds_the_pairs_of_one_column_at_a_time():
    values = np.random.default_rng(0).normal(size=(400, 8))
    tracemalloc.start()
    mutual_information(values, np.arange(400) % 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * values.shape[0] ** 2 * values.shape[1]  # bytes of all pairs of all columns


def test_reference_components_are_sklearns():
    pooled = np.random.default_rng(0).normal(size=(6, 16))
    ours, theirs = principal_components(pooled), PCA(5, svd_solver="full").fit_transform(pooled)
    assert ours.shape == (6, 5)
    np.testing.assert_allclose(abs(ours), abs(theirs), rtol=1e-9)


def test_reference_needs_no_padding(bert64, probe, expected):
    assert_same(reference_signals(bert64, probe, strip=False), expected)


def test_probe_can_tell_the_signals_apart(bert64, probe, expected):
    """Guard the other tests: no signal is constant over layers and no class is too small."""
    assert class_sizes(probe.labels).tolist() == [15, 15, 15]
    predicted = class_sizes(predictions(bert64, probe))
    assert len(predicted) == 3
    assert predicted.min() >= 8
    assert (expected.nunique() == 4).all()
    assert (expected[INFORMATION] > 0.01).all(axis=None)
    weights = bert64.bert.encoder.layer[0].intermediate.dense.weight
    assert weights.abs().max() > 1, "no weight is clipped"


# --- the table -------------------------------------------------------------------------------


def test_registry():
    assert list(SIGNALS) == COLUMNS
    assert [signal.group for signal in SIGNALS.values()] == GROUPS
    for slug, signal in SIGNALS.items():
        texts = [signal.title, signal.formula, signal.unit, signal.reading, signal.source]
        assert all(text == text.strip() and len(text) > 1 for text in texts), slug
        assert all(getattr(signal, field.name) for field in dataclasses.fields(signal)), slug
        assert signal.slug == slug
        assert signal.removed_first == ("highest" if slug == "attention-entropy" else "lowest")
    assert len({signal.title for signal in SIGNALS.values()}) == 12


def test_shape_of_the_table(table64):
    assert list(table64.columns) == COLUMNS
    assert table64.index.name == "layer"
    assert table64.index.tolist() == [0, 1, 2, 3]
    assert (table64.dtypes == np.float64).all()
    assert np.isfinite(table64.to_numpy()).all()


@pytest.mark.parametrize("signal", COLUMNS)
def test_float64_equals_the_reference(signal, table64, expected):
    # The estimates of information too: they are functions of neighbour counts, which differ from
    # the reference's only where two distances agree to within scikit-learn's noise of 1e-10. In
    # this probe none do, and a single count would shift a mean by 1 / (45 * 8 * count) > 1e-5.
    assert_same(table64, expected, [signal])


@pytest.mark.parametrize("signal", COLUMNS)
def test_float32_is_close_to_the_reference(signal, table32, expected):
    # Inhibition and Taylor are sums with cancellation: their rounding goes with the size of the
    # terms (about 1 and 5 here), not with the small result, hence the absolute part.
    assert_same(table32, expected, [signal], rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_redundancy_equals_the_reference(batch_size, bert64, probe):
    table = extract_signals(bert64, probe, batch_size=batch_size, measures=REDUNDANCY)
    assert list(table) == list(REDUNDANCY)
    assert_same(table, reference_redundancy(bert64, probe), list(REDUNDANCY))


def test_measures_add_columns_and_change_none(bert64, probe, table64):
    table = extract_signals(bert64, probe, measures=MEASURES)
    assert list(table) == [*COLUMNS, *REDUNDANCY]
    pd.testing.assert_frame_equal(table[COLUMNS], table64, check_exact=True)


@pytest.mark.parametrize("batch_size", [1, 3, 45, 64])
def test_batch_size_changes_nothing(batch_size, bert64, probe, expected):
    assert_same(extract_signals(bert64, probe, batch_size=batch_size), expected)


def test_same_call_same_bits(tiny_bert, probe, table32):
    pd.testing.assert_frame_equal(extract_signals(tiny_bert, probe), table32, check_exact=True)


def test_task_means_its_train_split(bert64, probe, make_probe, table64):
    other = make_probe(n=9, seed=5)
    task = Task(
        name="toy",
        label_names=("a", "b", "c"),
        train=probe,
        validation=other,
        test=other,
        texts={},
        fingerprint="0" * 64,
        source="made for this test",
    )
    assert_same(extract_signals(bert64, task), table64)


@pytest.mark.parametrize("removed", [[0], [1, 2], [0, 1, 3]])
def test_pruned_model(removed, bert64, probe):
    pruned = remove_layers(bert64, removed)
    assert_same(extract_signals(pruned, probe), reference_signals(pruned, probe))


def test_model_with_one_layer(make_bert, probe):
    model = make_bert(num_layers=1).double()
    table = extract_signals(model, probe)
    assert table.index.tolist() == [0]
    assert_same(table, reference_signals(model, probe))


def test_one_predicted_class_carries_no_information(make_bert, probe):
    model = make_bert().double()
    with torch.no_grad():
        model.classifier.bias[1] += 50
    table = extract_signals(model, probe)
    assert (table["information-flow-mi"] == 0).all()
    # The gradients are tiny for samples of that class and near 1 for others: a hard case too.
    assert_same(table, reference_signals(model, probe))


# --- invariances -----------------------------------------------------------------------------


@few_examples
@given(extra=st.integers(1, 9), filler=st.integers(0, 49), batch_size=st.integers(1, 50))
def test_padding_changes_nothing(bert64, probe, expected, extra, filler, batch_size):
    # The filler is any word: only the mask says what is real.
    wide = torch.full((len(probe), extra), filler)
    padded = Encoded(
        input_ids=torch.cat([probe.input_ids, wide], dim=1),
        attention_mask=torch.cat([probe.attention_mask, torch.zeros_like(wide)], dim=1),
        labels=probe.labels,
    )
    assert_same(extract_signals(bert64, padded, batch_size=batch_size), expected)


@few_examples
@given(order=st.permutations(range(45)))
def test_order_of_samples_changes_nothing(bert64, probe, expected, order):
    shuffled = probe.take(torch.tensor(order))
    assert_same(extract_signals(bert64, shuffled, batch_size=16), expected)


@few_examples
@given(names=st.permutations(range(3)))
def test_names_of_classes_change_nothing(make_bert, probe, expected, names):
    model = make_bert().double()
    head = model.classifier
    with torch.no_grad():
        head.weight[names], head.bias[names] = head.weight.clone(), head.bias.clone()
    renamed = Encoded(probe.input_ids, probe.attention_mask, torch.tensor(names)[probe.labels])
    assert_same(extract_signals(model, renamed), expected)


@few_examples
@given(copies=st.integers(2, 3), seed=st.integers(0, 99), batch_size=st.integers(1, 20))
def test_copies_of_the_probe_change_nothing(small64, make_probe, copies, seed, batch_size):
    # Not so the estimates of information: a copy is a neighbour at distance 0, see below.
    data = make_probe(n=6, classes=2, seed=seed)
    repeated = data.take(torch.arange(6).repeat(copies))
    once = extract_signals(small64, data)
    assert_same(extract_signals(small64, repeated, batch_size=batch_size), once, SMOOTH)


@pytest.mark.parametrize("copies", [2, 4])
def test_information_survives_copies(copies, bert64, probe):
    # Texts do repeat in real corpora. With 4 copies the third neighbour is at distance 0 and the
    # location gives the class away: about log(3) nats, and not infinity.
    repeated = probe.take(torch.arange(45).repeat(copies))
    table = extract_signals(bert64, repeated)
    assert_same(table, reference_signals(bert64, repeated), INFORMATION)
    if copies == 4:
        assert table[INFORMATION].sub(math.log(3)).abs().max().max() < 0.05


@few_examples
@given(seed=st.integers(0, 99), cut=st.integers(4, 8))
def test_parts_add_up_to_the_whole(small64, make_probe, seed, cut):
    """Means over samples and means over tokens combine with the samples' or tokens' weights."""
    whole = make_probe(n=12, classes=2, seed=seed)
    parts = [whole.take(torch.arange(cut)), whole.take(torch.arange(cut, 12))]
    tables = [extract_signals(small64, part) for part in parts]
    together = extract_signals(small64, whole)
    per_sample = np.array([len(part) for part in parts])
    per_token = np.array([int(part.attention_mask.sum()) for part in parts])
    for column, weights in [
        ("energy", per_sample),
        ("gradient-fisher", per_sample),
        ("inhibition", per_token),
        ("intensity", per_token),
        ("attention-weight", per_token),
        ("attention-entropy", per_token),
    ]:
        mean = sum(w * t[column] for w, t in zip(weights, tables, strict=True)) / weights.sum()
        np.testing.assert_allclose(together[column], mean, **EXACT, err_msg=column)


@few_examples
@given(
    n=st.integers(4, 7),
    seed=st.integers(0, 999),
    width=st.integers(8, 14),
    shortest=st.integers(4, 8),
    batch_size=st.integers(1, 8),
)
def test_any_small_probe(small64, make_probe, n, seed, width, shortest, batch_size):
    # Classes of 2 to 4 samples: fewer neighbours than 3, and predicted classes of one sample.
    data = make_probe(n=n, width=width, classes=2, seed=seed, lengths=(shortest, 8))
    table = extract_signals(small64, data, batch_size=batch_size)
    assert_same(table, reference_signals(small64, data))


def test_mask_with_holes(bert64, make_probe):
    # The formulas know the mask only, not that real tokens come first. (A hole in a sample of
    # one word would leave copies of the empty sentence, hence the longer samples.)
    data = make_probe(lengths=(5, 10))
    holes = data.attention_mask.clone()
    holes[::2, 1] = 0
    data = Encoded(data.input_ids, holes, data.labels)
    table = extract_signals(bert64, data, batch_size=7)
    assert_same(table, reference_signals(bert64, data, strip=False))


# --- closed forms and known inequalities -----------------------------------------------------


def test_unit_layer_norm_fixes_the_activation_signals(make_bert, probe):
    """Post-LN: with unit gain and no bias, mean 0 and norm sqrt(H) whatever the layer does."""
    model = make_bert().double()
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.output.LayerNorm.weight.fill_(1)
            layer.output.LayerNorm.bias.zero_()
    table = extract_signals(model, probe)
    tokens = float(probe.attention_mask.sum()) / len(probe)
    np.testing.assert_allclose(table["inhibition"], 0, atol=1e-12)
    np.testing.assert_allclose(table["intensity"], math.sqrt(16), rtol=1e-9)
    np.testing.assert_allclose(table["energy"], 16 * tokens, rtol=1e-9)


def test_uniform_attention(make_bert, probe):
    """Queries of zero attend to all keys alike: entropy 1, largest weight 1 / keys."""
    model = make_bert().double()
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.self.query.weight.zero_()
            layer.attention.self.query.bias.zero_()
    table = extract_signals(model, probe)
    # A sample of n tokens has n queries of 1 / n each: it adds 1 to the sum, n to the count.
    mean = len(probe) / float(probe.attention_mask.sum())
    np.testing.assert_allclose(table["attention-entropy"], 1, rtol=1e-9)
    np.testing.assert_allclose(table["attention-weight"], mean, rtol=1e-9)


def fill_matrices(model, values):
    """Write `values` over the 2,048 matrix entries of every layer, again and again."""
    values = torch.as_tensor(values, dtype=torch.float64)
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            start = 0
            for matrix in (p for p in layer.parameters() if p.dim() == 2):
                places = torch.arange(start, start + matrix.numel()) % len(values)
                matrix.copy_(values[places].reshape(matrix.shape))
                start += matrix.numel()


@pytest.mark.parametrize(
    ("values", "entropy"),
    [
        # The centres of all 512 bins, four times over.
        ((torch.arange(512, dtype=torch.float64) + 0.5) / 256 - 1, math.log(512)),
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
    model = copy.deepcopy(small64)
    fill_matrices(model, values)
    table = extract_signals(model, probe.take(torch.arange(6)))
    norm = np.sqrt(np.mean(np.square(np.asarray(values))))
    np.testing.assert_allclose(table["weight-entropy"], entropy, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(table["weight-norm"], norm, rtol=1e-9)


@pytest.mark.parametrize("lengths", [(6, 6), (2, 12)])
def test_energy_and_intensity_obey_jensen(bert64, make_probe, lengths):
    """The mean square is not below the squared mean, and here it is near it.

    With post-LN outputs the token norms hardly differ, which is why the two rank alike.
    """
    data = make_probe(lengths=lengths)
    table = extract_signals(bert64, data)
    tokens = float(data.attention_mask.sum()) / len(data)
    ratio = table["energy"] / (tokens * table["intensity"] ** 2)
    assert (ratio > 1).all()
    assert (ratio < 1.2).all()


def test_fisher_is_no_less_than_the_squared_norm(table64):
    """The mean gradient's square is below the gradients' mean square: a batch mean would tie."""
    assert (table64["gradient-fisher"] > 2 * table64["gradient-norm"] ** 2).all()


# --- the model is left as it was -------------------------------------------------------------

HOOKS = ["_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"]


def snapshot(model):
    """Everything about a model and the process that a reader of signals must not change."""
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    tensors |= {
        f"gradient of {name}": parameter.grad.clone()
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    tensors["torch's random state"] = torch.get_rng_state()
    facts = {
        "parameters": {name: id(p) for name, p in model.named_parameters()},
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "tensor hooks": {name: len(p._backward_hooks or {}) for name, p in model.named_parameters()},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: [len(getattr(module, kind)) for kind in HOOKS] for name, module in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "config": copy.deepcopy(model.config.to_dict()),
        "attention": model.config._attn_implementation,
        "library": (modeling_bert.eager_attention_forward, modeling_bert.BertLayer.forward),
        "grad mode": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
        "numpy's random state": str(np.random.get_state(legacy=False)),
    }
    return tensors, facts


def assert_untouched(before, after):
    assert before[1] == after[1]
    assert list(before[0]) == list(after[0])
    changed = [name for name in before[0] if not torch.equal(before[0][name], after[0][name])]
    assert changed == []


def ready(model, probe):
    """As it comes from loading."""


def training(model, probe):
    """In the middle of training: mixed modes, gradients waiting."""
    model.train()
    model.bert.encoder.layer[1].eval()
    model(input_ids=probe.input_ids[:4], labels=probe.labels[:4]).loss.backward()


def frozen(model, probe):
    """Partly frozen, as for fine-tuning the upper layers."""
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[0].requires_grad_(False)
    model.bert.encoder.layer[2].attention.requires_grad_(False)


def all_frozen(model, probe):
    """For inference."""
    model.requires_grad_(False)


def hooked(model, probe):
    """With the owner's own hook."""
    model.bert.encoder.layer[0].register_forward_hook(lambda *_: None)


def sdpa(model, probe):
    """With the library's default attention, which returns no attention weights."""
    model.set_attn_implementation("sdpa")


@pytest.mark.parametrize("state", [ready, training, frozen, all_frozen, hooked, sdpa])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_model_is_left_as_it_was(state, precision, tiny_bert, probe, table32):
    state(tiny_bert, probe)
    before = snapshot(tiny_bert)
    table = extract_signals(tiny_bert, probe, precision=precision)
    assert_untouched(before, snapshot(tiny_bert))
    if precision == "fp32":
        # Whatever its state, it is the same model: dropout off, all parameters of a layer count.
        assert_same(table, table32, SMOOTH, rtol=1e-4, atol=5e-6)


def test_failure_leaves_the_model_as_it_was(tiny_bert, probe):
    words = probe.input_ids.clone()
    words[-1, 1] = 999
    training(tiny_bert, probe)
    sdpa(tiny_bert, probe)
    before = snapshot(tiny_bert)
    with pytest.raises((IndexError, SfusionError)):
        extract_signals(tiny_bert, Encoded(words, probe.attention_mask, probe.labels))
    assert_untouched(before, snapshot(tiny_bert))


def test_works_where_gradients_are_switched_off(bert64, probe, table64):
    with torch.no_grad():
        assert_same(extract_signals(bert64, probe), table64)


def test_default_attention_gives_the_same_signals(make_bert, probe, expected):
    model = make_bert(attention="sdpa").double()
    table = extract_signals(model, probe)
    assert model.config._attn_implementation == "sdpa"
    assert_same(table, expected, ATTENTION)


# --- precision -------------------------------------------------------------------------------


def test_a_bfloat16_model_is_probed_as_its_passes_are(tiny_bert, probe):
    tiny_bert.to(torch.bfloat16)
    tables = [extract_signals(tiny_bert, probe, precision=name) for name in ("fp32", "bf16")]
    pd.testing.assert_frame_equal(*tables)
    assert np.isfinite(tables[0].to_numpy()).all()


def test_bfloat16_is_close_enough_to_rank(make_bert, probe, table32):
    model = make_bert()
    table = extract_signals(model, probe, precision="bf16")
    # The weights are read as they are, not through activations.
    assert_same(table, table32, ["weight-norm", "weight-entropy"], rtol=1e-6)

    # A bfloat16 number is off by up to 2^-9 = 0.2 per cent and a value passes some ten roundings
    # a layer, partly averaged out over the probe: 2 per cent of a signal's size. Sums with
    # cancellation (signed activations, the mean gradient) are measured by the size of their
    # terms, so a mean gradient that nearly vanishes is not ranked reliably in bfloat16.
    theta = [
        float(torch.nn.utils.parameters_to_vector(layer.parameters()).detach().norm())
        for layer in model.bert.encoder.layer
    ]
    size = table32.copy()
    size["inhibition"] = table32["intensity"] / math.sqrt(16)
    size["gradient-norm"] = np.sqrt(table32["gradient-fisher"])
    size["gradient-taylor"] = size["gradient-norm"] * theta
    smooth = [column for column in SMOOTH if not column.startswith("weight")]
    error = ((table - table32).abs() / size)[smooth]
    assert error.max().max() < 0.02, error.to_string()
    assert error.max().min() > 1e-6, "bfloat16 was asked for and float32 was computed"
    # So layers that differ by more than twice that keep their order.
    kept = 0
    for column, (i, j) in itertools.product(smooth, itertools.combinations(range(4), 2)):
        gap = table32[column][i] - table32[column][j]
        if abs(gap) > 0.04 * size[column].max():
            assert gap * (table[column][i] - table[column][j]) > 0, (column, i, j)
            kept += 1
    assert kept > len(smooth), "hardly any pair of layers was far enough apart to compare"

    # Neighbour counts move with the last digits: the estimates of information agree only to
    # their own sampling error, about 0.1 nats at 45 samples, out of log(3) = 1.1.
    assert (table - table32)[INFORMATION].abs().max().max() < 0.1


# --- errors for people -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        (slice(0), {}, "empty|no samples|0 samples"),
        (slice(0, None, 3), {}, "class|label"),
        (slice(0, 1), {}, "class|label"),
        (slice(None), {"precision": "fp8"}, "fp8"),
        (slice(None), {"batch_size": 0}, "0"),
    ],
)
def test_bad_input_is_one_line(tiny_bert, probe, rows, options, says):
    data = Encoded(probe.input_ids[rows], probe.attention_mask[rows], probe.labels[rows])
    with pytest.raises(SfusionError, match=says) as caught:
        extract_signals(tiny_bert, data, **options)
    assert "\n" not in str(caught.value)


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
