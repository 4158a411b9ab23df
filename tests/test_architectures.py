"""Every architecture: layers go, signals come, plain transformers reloads it."""

import functools
import string

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

import sfusion as sf
from sfusion import SfusionError
from sfusion.compression.tokens import ready_tokenizer
from sfusion.data.tokenizers import load_tokenizer
from sfusion.models.architectures import (
    ARCHITECTURES,
    architecture_of,
    embedding_parameters,
    layer_stack,
    token_limit,
)
from sfusion.models.size import size
from sfusion.signals import MEASURES

SMALL = {
    "bert": {},
    "distilbert": {"hidden_dim": 24},
    "roberta": {"max_position_embeddings": 33},
    "xlm-roberta": {"max_position_embeddings": 36, "pad_token_id": 3},
    "electra": {"embedding_size": 8},
    "mpnet": {"max_position_embeddings": 34},
    "deberta-v2": {
        "relative_attention": True,
        "position_buckets": 8,
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "conv_kernel_size": 3,
        "position_biased_input": False,
        "pooler_hidden_size": 16,
    },
    "modernbert": {"global_attn_every_n_layers": 3, "local_attention": 8},
    "gpt2": {"n_inner": 24},
    "llama": {"num_key_value_heads": 1},
    "qwen2": {
        "num_key_value_heads": 1,
        "use_sliding_window": True,
        "sliding_window": 8,
        "max_window_layers": 2,
    },
}


@functools.cache
def _classifier(kind):
    """Draw a model whose layers differ in every parameter, norms and biases too."""
    config = AutoConfig.for_model(
        kind, **tiny.COMMON | {"vocab_size": 60, "num_labels": 3} | SMALL[kind]
    )
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(
        config, attn_implementation="eager"
    )
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


def test_the_table_finds_layers_and_embeddings(model):
    assert len(layer_stack(model)) == model.config.num_hidden_layers == 4
    names = {id(p): name for name, p in model.named_parameters()}
    inside = {id(p) for p in layer_stack(model).parameters()}
    below = {id(p) for p in embedding_parameters(model)}
    assert id(model.get_input_embeddings().weight) in below
    assert not inside & below
    for number in names.keys() - inside:
        # The relative positions of some lie beside the layers, which all read them.
        embeds = any(
            word in names[number]
            for word in ("embed", "wte", "wpe", "relative_attention_bias")
        )
        assert embeds == (number in below), names[number]


@pytest.mark.parametrize("gone", [(1,), (3,), (1, 2)])
def test_a_removed_layer_is_one_that_lets_everything_through(model, probe, gone):
    def through(layer, args, kwargs, output):
        hidden = args[0] if args else kwargs["hidden_states"]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    hooks = [
        layer_stack(model)[place].register_forward_hook(through, with_kwargs=True)
        for place in gone
    ]
    expected = _logits(model, probe)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(
        _logits(sf.remove_layers(model, gone), probe), expected, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("gone", [(), (0,), (1,), (1, 2)])
def test_plain_transformers_reloads_it(model, probe, gone, tmp_path):
    if 0 in gone and 0 in architecture_of(model.config).fixed:
        with pytest.raises(SfusionError, match="cannot remove layer 0 of a modernbert"):
            sf.remove_layers(model, gone)
        return
    pruned = sf.remove_layers(model, gone)
    pruned.save_pretrained(tmp_path)
    again, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, attn_implementation="eager", output_loading_info=True
    )
    assert not any(
        info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
    )
    assert again.config.num_hidden_layers == 4 - len(gone)
    assert torch.equal(_logits(pruned, probe), _logits(again, probe))
    kinds = getattr(model.config, "layer_types", None)
    assert getattr(again.config, "layer_types", None) == (
        kinds and [k for i, k in enumerate(kinds) if i not in gone]
    )


def _fisher_by_hand(model, data):
    """Square each sample's gradient, from one backward pass a sample."""
    total = 0.0
    for one in (data.take([row]) for row in range(len(data))):
        model.zero_grad()
        logits = model(one.input_ids, attention_mask=one.attention_mask).logits
        functional.cross_entropy(logits, one.labels).backward()
        grads = [
            [p.grad.double() for p in layer.parameters() if p.grad is not None]
            for layer in layer_stack(model)
        ]
        total += np.array(
            [sum(float(grad.square().sum()) for grad in layer) for layer in grads]
        )
    model.zero_grad()
    return total / len(data)


def test_every_signal_is_there(model, make_probe):
    data = make_probe(n=20)
    table = sf.extract_signals(model, data, measures=MEASURES, batch_size=7)
    assert table.shape == (4, len(MEASURES))
    assert np.isfinite(table).all(axis=None)
    measured = table.drop(
        columns=["task-relevance-mi", "information-flow-mi"]
    )  # may be 0
    assert (measured.nunique() == 4).all(), "a signal that tells no layers apart"
    np.testing.assert_allclose(
        table["gradient-fisher"], _fisher_by_hand(model, data), rtol=1e-4
    )
    loss = functional.cross_entropy(
        _logits(sf.remove_layers(model, [2]), data), data.labels
    )
    assert table["removal-loss"][2] == pytest.approx(float(loss), rel=1e-4)
    one_by_one = sf.extract_signals(model, data, measures=MEASURES, batch_size=1)
    pd.testing.assert_frame_equal(table, one_by_one, rtol=1e-3)
    for kind in ("attention-weight", "attention-entropy"):
        assert table[kind].between(0, 1).all()


def test_the_angle_is_taken_where_the_head_reads(model, make_probe):
    # Tokens that the head does not read cannot turn it: only padding, of the decoders,
    # differs.
    data, wide = (make_probe(n=12, width=width) for width in (12, 15))
    one, other = (sf.extract_signals(model, d, measures=MEASURES) for d in (data, wide))
    np.testing.assert_allclose(
        one["angular-distance"], other["angular-distance"], rtol=1e-3
    )


@pytest.mark.parametrize("gone", [(), (1,), (1, 2, 3)])
@pytest.mark.parametrize("tokens", [1, 12, 32])
def test_sizes_are_counted(model, gone, tokens):
    pruned = sf.remove_layers(model, gone)
    ids = torch.ones(1, tokens, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pruned(ids, attention_mask=torch.ones_like(ids))
    layers = [
        sum(p.numel() for p in layer.parameters()) for layer in layer_stack(model)
    ]
    assert size(pruned, tokens) == {
        "layers": 4 - len(gone),
        "parameters": model.num_parameters() - sum(layers[place] for place in gone),
        "encoder_parameters": sum(layers) - sum(layers[place] for place in gone),
        "flops": counter.get_total_flops(),
    }


def test_the_longest_text_goes_through(model):
    assert token_limit(model.config) == 32
    ids = torch.full((2, 32), 7)
    assert torch.isfinite(model(ids, attention_mask=torch.ones_like(ids)).logits).all()


def _letters():
    """A tokenizer of letters: decoders' classes split words in ways of their own."""
    vocabulary = [*tiny.SPECIAL, "Ġ", "▁", *string.ascii_lowercase]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    letters = Tokenizer(BPE(numbers, [], unk_token="[UNK]"))
    letters.pre_tokenizer = ByteLevel(add_prefix_space=False)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]"}
    return PreTrainedTokenizerFast(tokenizer_object=letters, **names)


def test_compressed_from_end_to_end(model, tmp_path):
    texts, labels = tiny.sentences(120, 3, seed=4)
    kind = model.config.model_type
    model = sf.remove_layers(model, ())
    tokenizer = load_tokenizer(tiny.write_model(tmp_path / "words"))
    if ARCHITECTURES[kind].reads == "last":
        tokenizer = _letters()
    if kind == "gpt2":  # as many decoders', it has nothing to pad with
        tokenizer.pad_token = None
        tokenizer.eos_token = "[SEP]"
        model.config.pad_token_id = None
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "model")
    texts = pd.DataFrame({"text": texts, "label": labels})
    options = {"keep": 2, "labels": ["0", "1", "2"], "threads": 1, "quiet": True}
    found = sf.compress(tmp_path / "model", texts, out=tmp_path / "out", **options)
    assert found.report["model"]["was_fine_tuned"]
    assert found.report["after"]["layers"] == 2
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")
    assert (plain.config.num_hidden_layers, plain.config.model_type) == (2, kind)
    padding = model.config.pad_token_id
    if padding is None:  # then the tokenizer's is written down
        padding = load_tokenizer(tmp_path / "out").pad_token_id
    assert plain.config.pad_token_id == padding


def test_a_decoder_that_would_read_padding_is_one_line(tmp_path):
    tokenizer = load_tokenizer(tiny.write_model(tmp_path))
    tokenizer.pad_token = "[SEP]"
    with pytest.raises(SfusionError, match="pads with token 3, the model expects 0"):
        ready_tokenizer(tokenizer, _classifier("llama").config)


def test_a_tokenizer_pads_at_the_end_and_masks(tmp_path):
    tokenizer = load_tokenizer(tiny.write_model(tmp_path))
    tokenizer.padding_side = "left"
    tokenizer.model_input_names = ["input_ids"]
    whole = tokenizer(["the river"])["input_ids"][0]
    ready_tokenizer(tokenizer, _classifier("bert").config)
    padded = tokenizer(["the river"], padding="max_length", max_length=8)
    assert padded["input_ids"][0] == whole + [0] * (8 - len(whole))
    assert sum(padded["attention_mask"][0]) == len(whole)


def test_an_unknown_architecture_says_where_to_add_it():
    file = "sfusion/models/architectures.py"
    with tiny.refused(match=f"'t5' is not known .*: add .* in {file}"):
        architecture_of(AutoConfig.for_model("t5"))


def test_a_model_with_the_same_weights_in_every_layer_is_refused():
    with tiny.refused("'albert'", "same weights in every layer", "give a model"):
        architecture_of(AutoConfig.for_model("albert"))
