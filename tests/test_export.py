"""ONNX files: PyTorch's logits for any batch and length, nothing of the machine."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

import sfusion as sf
from sfusion import SfusionError, errors
from sfusion.compression import export, quantisation, request
from sfusion.compression.card import ONNX_NAMES
from sfusion.compression.output import load_plain
from sfusion.compression.quantisation import quantise
from sfusion.data.encoding import Encoded
from sfusion.models.layers import remove_layers
from sfusion.models.source import load_model
from sfusion.training.evaluation import predict_logits

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
helper = pytest.importorskip("onnx.helper")
numpy_helper = pytest.importorskip("onnx.numpy_helper")


@pytest.fixture(scope="module")
def written(tmp_path_factory, make_probe):
    """A tiny model, exported both ways."""
    folder = tmp_path_factory.mktemp("onnx")
    data = make_probe(n=70)
    data = replace(
        data, input_ids=data.input_ids % 40
    )  # the tiny model knows no more words
    base = load_model(tiny.write_model(folder / "base", layers=3), 3)
    remove_layers(base, [1]).save_pretrained(folder / "model")
    model = load_plain(folder / "model")
    task = SimpleNamespace(test=data, validation=data)
    plain = export.export(folder / "model.onnx", model, data)
    found = {"onnx": plain, "onnx_int8": quantise(plain.run, model, task, 1.0)}
    return folder, model, data, found


def test_the_export_gives_pytorchs_logits_for_any_shape(written):
    folder, model, data, found = written
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    for rows, columns in ((1, 3), (2, 12), (70, 9)):
        ids = data.input_ids[:rows, :columns]
        mask = data.attention_mask[:rows, :columns]
        (logits,) = session.run(
            None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        )
        with torch.no_grad():
            expected = model(ids, attention_mask=mask).logits
        torch.testing.assert_close(
            torch.from_numpy(logits), expected, atol=1e-5, rtol=0
        )
    entry = found["onnx"].entry
    assert entry["largest_difference"] < 1e-5
    assert entry["same_labels"] == entry["samples"] == 70
    assert entry["correct"] == int(
        (predict_logits(model, data).argmax(-1) == data.labels).sum()
    )


def test_what_is_said_of_the_files_is_so_and_they_name_no_path_of_the_machine(written):
    folder, _, data, found = written
    for file in found.values():
        entry = file.entry
        run = file.run
        content = (folder / entry["file"]).read_bytes()
        assert entry["bytes"] == len(content)
        assert b"site-packages" not in content and b".py" not in content
        # Alone and without padding, for activations in 8 bits depend on it.
        predicted = []
        for ids, mask in zip(data.input_ids, data.attention_mask, strict=True):
            length = int(mask.sum())
            logits = run(ids[None, :length], attention_mask=mask[None, :length])
            predicted.append(int(logits.argmax()))
        right = np.array(predicted) == data.labels.numpy()
        assert entry["correct"] == int(right.sum())
    eight = onnx.load(folder / "model.int8.onnx")
    kinds = {tensor.data_type for tensor in eight.graph.initializer}
    assert kinds & {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    assert found["onnx_int8"].entry["bytes"] < found["onnx"].entry["bytes"]


def test_an_export_that_differs_is_refused(written, tmp_path, monkeypatch):
    _, model, data, _ = written
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(SfusionError, match="differs from PyTorch"):
        export.export(tmp_path / "model.onnx", model, data)


@pytest.mark.parametrize(("limit", "there"), [(1.0, True), (-1.0, False)])
def test_eight_bits_are_written_only_where_validation_accuracy_holds(
    limit, there, written, tmp_path
):
    _, model, data, _ = written
    plain = export.export(tmp_path / "model.onnx", model, data)
    task = SimpleNamespace(test=data, validation=data)
    eight = quantise(plain.run, model, task, limit)
    assert (tmp_path / "model.int8.onnx").exists() == there == (eight.run is not None)
    said = eight.entry["kept" if there else "left_out"]
    assert "of the validation texts right in float32" in said
    assert (
        sorted(file.name for file in tmp_path.iterdir())
        == [
            "model.int8.onnx",
            "model.onnx",
        ][not there :]
    )


def test_of_all_ways_to_round_the_best_on_validation_is_kept(
    written, tmp_path, monkeypatch
):
    _, model, data, _ = written
    plain = export.export(tmp_path / "model.onnx", model, data)
    # Labels as the model answers: another label is an error.
    data = replace(data, labels=predict_logits(model, data).argmax(-1))
    task = SimpleNamespace(test=data, validation=data)
    rounded = quantisation._round_weights

    def spoilt(source, file, **options):
        """Round, and leave nothing of the weights that are rounded per tensor."""
        rounded(source, file, **options)
        if options["per_channel"]:
            return
        broken = onnx.load(file)
        for tensor in broken.graph.initializer:
            if tensor.name.endswith("_scale"):
                values = np.zeros_like(numpy_helper.to_array(tensor))
                tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        onnx.save(broken, file)

    monkeypatch.setattr(quantisation, "_round_weights", spoilt)
    eight = quantise(plain.run, model, task, 1.0)
    trials = {one["variant"]: one for one in eight.entry["variants"]}
    assert list(trials) == [*quantisation.VARIANTS, quantisation.PARTLY]
    for name in ("per tensor", "per tensor, unsigned"):
        assert trials[name]["same_labels"] < trials["per channel"]["same_labels"]
    (best,) = [name for name in trials if f"bits, {name}: " in eight.entry["kept"]]
    assert best.startswith("per channel")
    assert eight.entry["bytes"] == trials[best]["bytes"]
    # Validation is test here: what was decided by is what is reported.
    assert eight.entry["accuracy"] == trials[best]["accuracy"]
    assert eight.entry["batch_32"]["accuracy"] == trials[best]["accuracy_batched"]
    assert eight.entry["same_labels"] / len(data) == trials[best]["same_labels"]
    assert trials[quantisation.PARTLY]["bytes"] > trials["per channel"]["bytes"]


def test_the_product_whose_activations_have_an_outlier_comes_first(tmp_path):
    from sfusion.compression.sensitivity import rank_products

    rng = np.random.default_rng(0)
    table = rng.normal(size=(9, 8)).astype(np.float32)
    table[4, 3] = 500.0  # all other numbers of that text share its few steps
    flat = rng.normal(size=(9, 8)).astype(np.float32)
    weight = rng.normal(size=(8, 3)).astype(np.float32)
    weight[3] = 0.0
    nodes = []
    for name in ("even", "outlier"):
        nodes.append(helper.make_node("Gather", [f"{name}_table", "input_ids"], [name]))
        product = f"{name}_product"
        nodes.append(helper.make_node("MatMul", [name, "weight"], [product], product))
    nodes.append(
        helper.make_node("Add", ["even_product", "outlier_product"], ["logits"])
    )
    tokens = [
        helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask")
    ]
    out = helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, None)
    arrays = {"even_table": flat, "outlier_table": table, "weight": weight}
    graph = helper.make_graph(
        nodes,
        "two products",
        tokens,
        [out],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = [helper.make_opsetid("", export.OPSET)]
    file = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), file)
    ids = torch.tensor([[4, 1, 2], [3, 4, 5]])
    data = Encoded(ids, torch.ones_like(ids), torch.zeros(2, dtype=torch.long))
    assert rank_products(file, data) == ["outlier_product", "even_product"]


@pytest.mark.parametrize("loss", [1.0, -1.0])
def test_a_compression_writes_and_reports_the_files_that_hold(
    loss, tmp_path, monkeypatch
):
    monkeypatch.setattr(request, "WITHIN", loss)
    texts, labels = tiny.sentences(120, 3, seed=4)
    frame = pd.DataFrame({"text": texts, "label": labels})
    options = {
        "keep": 1,
        "onnx": True,
        "int8": True,
        "learning_rate": 0.003,
        "threads": 1,
        "quiet": True,
    }
    found = sf.compress(
        tiny.write_model(tmp_path / "model", layers=2),
        frame,
        out=tmp_path / "out",
        **options,
    )
    card = (tmp_path / "out" / "README.md").read_text()
    for name in ONNX_NAMES[: 2 if loss > 0 else 1]:
        entry = found.report[name]
        assert entry["bytes"] == (tmp_path / "out" / entry["file"]).stat().st_size
        assert entry["samples"] == found.report["data"]["test"]
        assert entry["latency_ms"]["batch_32"]["median"] > 0
        assert entry["file"] in card
    assert found.report["onnx"]["correct"] == found.report["after"]["correct"]
    shown = re.findall("```python\n(.*?)```", card, re.DOTALL)[1]
    place = {}
    exec(shown.replace("path/of/this/directory", str(tmp_path / "out")), place)
    assert place["logits"].shape == (1, 3)
    if loss > 0:
        assert found.report["onnx_int8"]["kept"] in str(found)
        assert found.report["onnx_int8"]["kept"] in card
    else:
        reason = found.report["onnx_int8"]["left_out"]
        assert reason in card and reason in str(found)


def test_without_the_extra_it_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(errors, "requires", lambda _: ["absent; extra == 'onnx'"])
    with tiny.refused(match=r"pip install 'sfusion\[onnx\]'"):
        sf.compress("model", "train.csv", out=tmp_path / "out", onnx=True)
