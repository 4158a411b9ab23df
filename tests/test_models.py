"""Models: found, loaded, pruned, counted, and saved so that plain transformers reads them."""

import json
import shutil

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from scipy.special import erf
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForSequenceClassification, BertConfig

from sfusion import SfusionError, load_model, remove_layers
from sfusion.models import loading
from sfusion.models.layers import copy_model, embedding_parameters, layer_stack, size
from sfusion.models.loading import fingerprint, load_classifier, load_tokenizer, locate_model

DEPTH = 4
some_layers = st.sets(st.integers(0, DEPTH - 1), max_size=DEPTH - 1)


@pytest.fixture(scope="module")
def model(make_bert):
    return make_bert(num_layers=DEPTH)


@pytest.fixture(scope="module")
def batch(make_probe):
    return make_probe(n=6)


@pytest.fixture
def directory(tmp_path):
    return tiny.write_model(tmp_path / "model", layers=2)


def _states(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def _linear(weights, name, x):
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _norm(weights, name, x, eps):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _hidden_states_by_hand(model, data, kept):
    """Run the kept layers only, in float64 NumPy from the weights alone; embeddings first."""
    eps, heads = model.config.layer_norm_eps, model.config.num_attention_heads
    weights = {k: v.double().numpy() for k, v in model.state_dict().items()}
    ids, mask = data.input_ids.numpy(), data.attention_mask.numpy()
    part = "bert.embeddings"
    hidden = weights[f"{part}.word_embeddings.weight"][ids]
    hidden = hidden + weights[f"{part}.position_embeddings.weight"][: ids.shape[1]]
    hidden = hidden + weights[f"{part}.token_type_embeddings.weight"][0]
    states = [_norm(weights, f"{part}.LayerNorm", hidden, eps)]
    for layer in kept:
        part, x = f"bert.encoder.layer.{layer}", states[-1]
        split = (*x.shape[:2], heads, -1)
        query, key, value = (
            _linear(weights, f"{part}.attention.self.{name}", x).reshape(split).swapaxes(1, 2)
            for name in ("query", "key", "value")
        )
        scores = query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1])
        scores = np.where(mask[:, None, None, :] == 1, scores, -np.inf)
        attention = np.exp(scores - scores.max(-1, keepdims=True))
        attention /= attention.sum(-1, keepdims=True)
        context = (attention @ value).swapaxes(1, 2).reshape(x.shape)
        dense = _linear(weights, f"{part}.attention.output.dense", context)
        x = _norm(weights, f"{part}.attention.output.LayerNorm", dense + x, eps)
        wide = _linear(weights, f"{part}.intermediate.dense", x)
        wide = wide * (1 + erf(wide / np.sqrt(2))) / 2
        dense = _linear(weights, f"{part}.output.dense", wide)
        states.append(_norm(weights, f"{part}.output.LayerNorm", dense + x, eps))
    return states


@pytest.mark.parametrize("gone", [(), (0,), (3,), (1, 2), (0, 3), (0, 1, 2)])
def test_hidden_states_are_those_of_a_forward_that_skips_the_layers(gone, model, batch):
    kept = [layer for layer in range(DEPTH) if layer not in gone]
    pruned = remove_layers(model, gone).double()
    with torch.no_grad():
        output = pruned(batch.input_ids, batch.attention_mask, output_hidden_states=True)
    expected = _hidden_states_by_hand(model, batch, kept)
    assert len(output.hidden_states) == len(expected) == len(kept) + 1
    real = batch.attention_mask.bool().numpy()
    for ours, theirs in zip(output.hidden_states, expected, strict=True):
        # Both in float64: 1e-9 leaves room for the order of summation alone.
        np.testing.assert_allclose(ours.numpy()[real], theirs[real], atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(gone=some_layers)
def test_what_stays_is_bit_equal_and_the_original_is_untouched(gone, model):
    before, depth = _states(model), len(layer_stack(model))
    pruned = remove_layers(model, gone)
    kept = [layer for layer in range(DEPTH) if layer not in gone]
    assert pruned.config.num_hidden_layers == len(layer_stack(pruned)) == len(kept)
    for position, layer in enumerate(kept):
        ours, theirs = layer_stack(pruned)[position], layer_stack(model)[layer]
        assert _equal(ours.state_dict(), theirs.state_dict())
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.add_(1.0)
    assert _equal(_states(model), before)
    assert model.config.num_hidden_layers == len(layer_stack(model)) == depth


@settings(deadline=None, max_examples=10)
@given(gone=some_layers.filter(lambda s: len(s) > 1), data=st.data())
def test_layers_removed_one_by_one_equal_layers_removed_at_once(gone, data, model):
    order = data.draw(st.permutations(sorted(gone)))
    step, left = model, list(range(DEPTH))
    for layer in order:
        step = remove_layers(step, [left.index(layer)])
        left.remove(layer)
    assert _equal(_states(step), _states(remove_layers(model, gone)))


@settings(deadline=None, max_examples=8)
@given(gone=some_layers)
def test_plain_transformers_reloads_a_pruned_model(gone, model, batch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    pruned = remove_layers(model, gone)
    pruned.save_pretrained(folder)
    assert [file.name for file in folder.glob("*.safetensors")] == ["model.safetensors"]
    again, info = AutoModelForSequenceClassification.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        ours = pruned(batch.input_ids, batch.attention_mask).logits
        theirs = again.eval()(batch.input_ids, batch.attention_mask).logits
    assert torch.equal(ours, theirs)


def test_a_pruned_model_reloads_with_the_default_attention_too(model, batch, tmp_path):
    pruned = remove_layers(model, [1, 2])
    pruned.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        ours = pruned(batch.input_ids, batch.attention_mask).logits
        theirs = again(batch.input_ids, batch.attention_mask).logits
    # Another attention kernel rounds otherwise: float32's 1e-7 through two layers.
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_layer_indices_follow_the_new_positions(model):
    pruned = remove_layers(model, [0, 2])
    indices = [
        {m.layer_idx for m in layer.modules() if getattr(m, "layer_idx", None) is not None}
        for layer in layer_stack(pruned)
    ]
    assert indices == [{0}, {1}]


def test_a_pruned_model_is_in_evaluation_mode(make_bert):
    assert not remove_layers(make_bert(num_layers=2).train(), [0]).training


@pytest.mark.parametrize(
    "gone, words",
    [
        (range(DEPTH), "cannot remove all 4 layers"),
        ([DEPTH], "the model has layers 0 to 3"),
        ([-1], "the model has layers 0 to 3"),
        ([1, 7], "[1, 7]"),
    ],
)
def test_removing_too_much_or_what_is_not_there(gone, words, model):
    with pytest.raises(SfusionError) as error:
        remove_layers(model, gone)
    assert words in tiny.one_line(error)


def test_an_unknown_architecture_is_named(make_bert):
    model = make_bert(num_layers=2)
    model.config.model_type = "unheard-of"
    with pytest.raises(SfusionError) as error:
        layer_stack(model)
    assert "'unheard-of'" in tiny.one_line(error)


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("tokens", [1, 12, 40])
def test_size_counts_parameters_and_flops(layers, tokens, make_bert):
    model = make_bert(num_layers=layers, num_labels=5)
    found = size(model, tokens)
    parameters = {name: p.numel() for name, p in model.named_parameters()}
    encoder = sum(count for name, count in parameters.items() if ".layer." in name)
    assert found["layers"] == layers
    assert found["parameters"] == sum(parameters.values())
    assert found["encoder_parameters"] == encoder
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.ones(1, tokens, dtype=torch.long), torch.ones(1, tokens, dtype=torch.long))
    assert found["flops"] == counter.get_total_flops()


def test_embedding_parameters_are_what_lies_below_the_layers(model):
    names = {id(p): name for name, p in model.named_parameters()}
    found = {names[id(p)] for p in embedding_parameters(model)}
    assert found == {name for name in names.values() if name.startswith("bert.embeddings.")}


def test_the_embedded_model_needs_no_network():
    model = load_model("minilm-l6", num_labels=7)
    found = size(model, 32)
    assert found["layers"] == 6
    head = 384 * 7 + 7
    # all-MiniLM-L6-v2's published 22.7 million, with its pooler.
    assert found["parameters"] - head == pytest.approx(22.7e6, abs=0.05e6)
    assert len(load_tokenizer("minilm-l6")) == 30522


def test_a_loaded_model_is_fp32_eager_and_still(directory):
    names = ["left", "right", "neither"]
    model = load_model(directory, label_names=names)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert model.config._attn_implementation == "eager"
    assert not model.training
    assert model.config.id2label == dict(enumerate(names))
    assert model.config.label2id == {name: i for i, name in enumerate(names)}
    assert model.classifier.out_features == 3


def test_the_seed_draws_the_head_and_nothing_else(directory):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (_states(load_model(directory, 3, seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert _equal(one, same)
    differing = {name for name in one if not torch.equal(one[name], other[name])}
    assert "classifier.weight" in differing
    assert not any(name.startswith("bert.e") for name in differing)


def test_a_pooler_that_the_files_lack_is_the_same_every_time(directory):
    weights = load_file(directory / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, tuned = load_classifier(directory)
    assert not tuned and len(kept) < len(weights)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert _equal(_states(load_classifier(directory)[0]), _states(one))


def test_a_saved_head_is_kept_where_it_fits(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert _equal(_states(load_model(tmp_path)), _states(model))
    assert _equal(_states(load_model(tmp_path, num_labels=3, seed=9)), _states(model))


def test_a_saved_head_of_another_size_is_drawn_anew_or_refused_in_one_line(model, tmp_path):
    model.save_pretrained(tmp_path)
    try:
        again = load_model(tmp_path, num_labels=2)
    except SfusionError as error:
        assert "\n" not in str(error)
    else:
        assert again.classifier.out_features == 2
        assert _equal(layer_stack(again).state_dict(), layer_stack(model).state_dict())


def _no_config(folder):
    (folder / "config.json").unlink()


def _pickle_only(folder):
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _unheard_of(folder):
    (folder / "config.json").write_text('{"model_type": "unheard-of"}')


def _torn_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def _torn_config(folder):
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize("harm", [_no_config, _pickle_only, _unheard_of, _torn_weights, _torn_config])
def test_a_directory_that_is_no_safe_model_is_one_line(harm, directory):
    harm(directory)
    with pytest.raises(SfusionError) as error:
        load_model(directory, 2)
    assert str(directory) in tiny.one_line(error)


def test_the_hub_is_asked_for_a_model_once_a_process(directory, monkeypatch):
    asked = []
    monkeypatch.setattr(
        loading.huggingface_hub, "snapshot_download", lambda name, **_: asked.append(name) or directory
    )
    loading._from_hub.cache_clear()
    for _ in range(2):
        load_model("somebody/model", 2)
    loading._from_hub.cache_clear()
    assert asked == ["somebody/model"]


@pytest.mark.parametrize("name", ["no-such-model", "nobody/nothing", "/no/such/folder", "a b", ""])
def test_an_unknown_name_is_one_line(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SfusionError) as error:
        locate_model(name)
    assert repr(name) in tiny.one_line(error)


def test_a_tokenizer_that_is_not_there_is_one_line(directory):
    for file in directory.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(SfusionError) as error:
        load_tokenizer(directory)
    assert str(directory) in tiny.one_line(error)


def test_fingerprint_is_of_the_content_not_of_the_place(directory, tmp_path):
    copy = shutil.copytree(directory, tmp_path / "copy")
    assert fingerprint(str(copy)) == fingerprint(str(directory))
    assert len(fingerprint(str(copy))) == 64


def _change_weight(folder):
    weights = load_file(folder / "model.safetensors")
    name = sorted(weights)[3]
    # The smallest step that float32 has.
    weights[name].view(-1)[0] = torch.nextafter(weights[name].view(-1)[0], torch.tensor(9.0))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _change_config(folder):
    content = json.loads((folder / "config.json").read_text())
    content["layer_norm_eps"] = 1e-9
    (folder / "config.json").write_text(json.dumps(content))


def _change_vocabulary(folder):
    content = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(content.replace("river", "delta"))


def _change_casing(folder):
    file = folder / "tokenizer_config.json"
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps({**content, "do_lower_case": not content.get("do_lower_case")}))


@pytest.mark.parametrize("change", [_change_weight, _change_config, _change_vocabulary, _change_casing])
def test_fingerprint_changes_with_what_decides_the_result(change, directory, tmp_path):
    copy = shutil.copytree(directory, tmp_path / "copy")
    change(copy)
    assert fingerprint(str(copy)) != fingerprint(str(directory))


def test_fingerprint_follows_a_directory_that_is_written_anew(directory):
    before = fingerprint(str(directory))
    _change_weight(directory)
    assert fingerprint(str(directory)) != before


def test_the_stack_of_a_default_bert_is_found():
    config = BertConfig(
        vocab_size=9, hidden_size=4, num_attention_heads=1, intermediate_size=8, num_hidden_layers=3, num_labels=2
    )
    model = AutoModelForSequenceClassification.from_config(config)
    assert layer_stack(model) is model.bert.encoder.layer


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_in_another_type_holds_nothing_of_the_original(dtype):
    original = load_model("minilm-l6", num_labels=3)
    before = {name: value.clone() for name, value in original.state_dict().items()}
    copied = copy_model(original, dtype)
    for name, value in copied.state_dict().items():
        assert value.dtype == dtype
        assert torch.equal(value, before[name].to(dtype))
        value.add_(1)
    for name, value in original.state_dict().items():
        assert torch.equal(value, before[name])
