"""Every architecture of the table: layers go, signals come, and plain transformers reloads it."""

import copy
import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForSequenceClassification

import sfusion as sf
from sfusion import SfusionError
from sfusion.compression import report
from sfusion.models.layers import ARCHITECTURES, architecture_of, embedding_parameters, layer_stack, size, token_limit
from sfusion.models.loading import load_tokenizer
from sfusion.signals import MEASURES

COMMON = {"vocab_size": 60, "num_labels": 3, "pad_token_id": 0, "initializer_range": 0.2}
BERT = {
    "hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 32,
}  # fmt: skip
DECODER = {**BERT, "num_key_value_heads": 1, "bos_token_id": 2, "eos_token_id": 3}
SMALL = {
    "bert": BERT,
    "distilbert": {
        "dim": 16, "n_layers": 4, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 32,
    },
    "roberta": {**BERT, "max_position_embeddings": 34, "bos_token_id": 2, "eos_token_id": 3},
    "xlm-roberta": {**BERT, "max_position_embeddings": 34, "bos_token_id": 2, "eos_token_id": 3},
    "electra": {**BERT, "embedding_size": 8},
    "mpnet": {**BERT, "max_position_embeddings": 34, "bos_token_id": 2, "eos_token_id": 3},
    "deberta-v2": {
        **BERT, "relative_attention": True, "position_buckets": 8, "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm", "conv_kernel_size": 3,
        "position_biased_input": False, "pooler_hidden_size": 16,
    },
    "modernbert": {**BERT, "global_attn_every_n_layers": 3, "local_attention": 8,
                   "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    "gpt2": {"n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 32, "n_inner": 24,
             "bos_token_id": 2, "eos_token_id": 3},
    "llama": DECODER,
    "qwen2": {**DECODER, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2},
}  # fmt: skip


@functools.cache
def _classifier(kind):
    """Draw a model whose layers differ in every parameter, norms and biases too."""
    config = AutoConfig.for_model(kind, **{**COMMON, **SMALL[kind]})
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(params=ARCHITECTURES)
def model(request):
    return _classifier(request.param)


def _logits(model, data):
    with torch.no_grad():
        return model(data.input_ids, attention_mask=data.attention_mask).logits


def test_every_architecture_is_tested():
    assert SMALL.keys() == ARCHITECTURES.keys()


def test_the_table_finds_layers_and_embeddings(model):
    assert len(layer_stack(model)) == model.config.num_hidden_layers == 4
    names = {id(p): name for name, p in model.named_parameters()}
    inside = {id(p) for p in layer_stack(model).parameters()}
    below = {id(p) for p in embedding_parameters(model)}
    assert below and not inside & below
    assert id(model.get_input_embeddings().weight) in below
    around = {names[i] for i in names.keys() - inside - below}
    assert not [name for name in around if "embed" in name and "rel" not in name], around


@pytest.mark.parametrize("gone", [(1,), (3,), (1, 2)])
def test_a_removed_layer_is_one_that_lets_everything_through(model, probe, gone, monkeypatch):
    pruned = sf.remove_layers(model, gone)
    assert pruned.config.num_hidden_layers == 4 - len(gone)
    for place in gone:
        layer = layer_stack(model)[place]
        # With a class of its own the layer keeps what its neighbours look up in it.
        was = layer.forward

        def through(*args, was=was, **kwargs):
            output = was(*args, **kwargs)
            hidden = args[0] if args else kwargs["hidden_states"]
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        monkeypatch.setattr(layer, "forward", through)
    torch.testing.assert_close(_logits(pruned, probe), _logits(model, probe), rtol=0, atol=1e-5)


@pytest.mark.parametrize("gone", [(), (1,), (1, 2)])
def test_plain_transformers_reloads_it(model, probe, gone, tmp_path):
    pruned = sf.remove_layers(model, gone)
    pruned.save_pretrained(tmp_path)
    again, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert again.config.num_hidden_layers == 4 - len(gone)
    assert torch.equal(_logits(pruned, probe), _logits(again.eval(), probe))
    for field in architecture_of(model.config).per_layer:
        entries = getattr(model.config, field, None)
        left = entries and [e for i, e in enumerate(entries) if i not in gone]
        assert getattr(again.config, field, None) == left


def test_layer_0_goes_only_where_another_can_take_its_place(model, probe, tmp_path):
    if 0 in architecture_of(model.config).fixed:
        with pytest.raises(SfusionError, match="cannot remove layer 0 of a modernbert"):
            sf.remove_layers(model, [0])
        return
    pruned = sf.remove_layers(model, [0])
    pruned.save_pretrained(tmp_path)
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path, attn_implementation="eager")
    assert torch.equal(_logits(pruned, probe), _logits(again.eval(), probe))


def _fisher_by_hand(model, data):
    """Square each sample's gradient, from one backward pass a sample."""
    total = np.zeros(len(layer_stack(model)))
    for row in range(len(data)):
        one = data.take([row])
        model.zero_grad()
        logits = model(one.input_ids, attention_mask=one.attention_mask).logits
        functional.cross_entropy(logits, one.labels).backward()
        total += [
            sum(float(p.grad.double().square().sum()) for p in layer.parameters()
                if p.grad is not None)
            for layer in layer_stack(model)
        ]  # fmt: skip
    model.zero_grad()
    return total / len(data)


def test_every_signal_is_there(model, make_probe):
    data = make_probe(n=20)
    table = sf.extract_signals(model, data, measures=MEASURES, batch_size=7)
    assert table.shape == (4, len(MEASURES))
    assert np.isfinite(table).all(axis=None)
    measured = table.drop(columns=["task-relevance-mi", "information-flow-mi"])  # may be 0
    assert (measured.nunique() == 4).all(), "a signal that tells no layers apart"
    fisher = _fisher_by_hand(model, data)
    np.testing.assert_allclose(table["gradient-fisher"], fisher, rtol=1e-4)
    one_by_one = sf.extract_signals(model, data, measures=MEASURES, batch_size=1)
    pd.testing.assert_frame_equal(table, one_by_one, rtol=1e-3)
    for kind in ("attention-weight", "attention-entropy"):
        assert table[kind].between(0, 1).all()


def test_the_angle_is_taken_where_the_head_reads(model, make_probe):
    # Tokens that the head does not read cannot turn it: only padding, of the decoders, differs.
    data = make_probe(n=12)
    wide = dataclasses.replace(
        data,
        input_ids=functional.pad(data.input_ids, (0, 3)),
        attention_mask=functional.pad(data.attention_mask, (0, 3)),
    )
    one, other = (sf.extract_signals(model, d, measures=MEASURES) for d in (data, wide))
    np.testing.assert_allclose(one["angular-distance"], other["angular-distance"], rtol=1e-3)


def test_sizes_are_counted(model):
    found, smaller = size(model, 12), size(sf.remove_layers(model, [1]), 12)
    ids = torch.ones(1, 12, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(ids, attention_mask=torch.ones_like(ids))
    assert found["flops"] == counter.get_total_flops()
    layer = sum(p.numel() for p in layer_stack(model)[1].parameters())
    assert found["parameters"] - smaller["parameters"] == layer
    assert 0 < found["flops"] - smaller["flops"] < found["flops"] / 3


def test_the_longest_text_goes_through(model):
    limit = token_limit(model.config)
    assert limit == 32
    ids = torch.full((2, limit), 7)
    assert torch.isfinite(model(ids, attention_mask=torch.ones_like(ids)).logits).all()


@pytest.fixture(scope="module")
def texts():
    words, labels = tiny.sentences(120, 3, seed=4)
    return pd.DataFrame({"text": [f"{w} {i}" for i, w in enumerate(words)], "label": labels})


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_compressed_from_end_to_end(kind, texts, tmp_path):
    model = copy.deepcopy(_classifier(kind))
    tiny.write_model(tmp_path / "words")
    tokenizer = load_tokenizer(tmp_path / "words")
    if kind == "gpt2":  # as many decoders', it has nothing to pad with
        tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
        model.config.pad_token_id = None
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    found = sf.compress(
        tmp_path / "model", texts, out=tmp_path / "out", keep=2, labels=["0", "1", "2"],
        threads=1, quiet=True,
    )  # fmt: skip
    assert found.report["model"]["was_fine_tuned"]
    assert found.report["after"]["layers"] == 2
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert plain.config.num_hidden_layers == 2
    assert plain.config.model_type == kind
    assert plain.config.pad_token_id == load_tokenizer(tmp_path / "out").pad_token_id


def test_a_decoder_that_would_read_padding_is_one_line(tmp_path):
    tokenizer = load_tokenizer(tiny.write_model(tmp_path))
    tokenizer.pad_token = "[SEP]"
    with pytest.raises(SfusionError, match="pads with token 3, the model expects 0"):
        report.ready_tokenizer(tokenizer, _classifier("llama").config)


def test_an_unknown_architecture_says_where_to_add_it():
    config = AutoConfig.for_model("albert")
    with pytest.raises(SfusionError) as error:
        architecture_of(config)
    line = tiny.one_line(error)
    assert "'albert'" in line and "sfusion/models/layers.py" in line
