"""Classifiers side by side on one file."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

import sfusion as sf
from sfusion import cli
from sfusion.compression import comparison
from sfusion.compression.accuracy import paired_change
from sfusion.compression.quantisation import write_onnx
from sfusion.data.tasks import Task
from sfusion.data.tokenizers import load_tokenizer
from sfusion.training.evaluation import predict_logits

NAMES = ("boats", "works", "songs")


def _classifier(folder, names, seed=0):
    """Save a tiny classifier whose head is not drawn but reads the words."""
    base = tiny.write_model(folder, layers=2, seed=1)
    model = sf.load_model(base, label_names=names, seed=seed)
    for part in (model, load_tokenizer(base)):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Two classifiers whose classes stand in another order, and texts."""
    folder = tmp_path_factory.mktemp("comparison")
    _classifier(folder / "one", NAMES)
    _classifier(folder / "other", NAMES[::-1], seed=5)
    texts, labels = tiny.sentences(60, 3, seed=3)
    frame = pd.DataFrame({"text": texts, "label": [NAMES[one] for one in labels]})
    frame.to_csv(folder / "test.csv", index=False)
    return folder


def _answers(folder, texts):
    """Let plain transformers answer, one text at a time."""
    model = sf.load_model(folder)
    tokenizer = load_tokenizer(folder)
    answers = []
    for text in texts:
        with torch.no_grad():
            logits = model(**tokenizer(text, return_tensors="pt")).logits
        answers.append(model.config.id2label[int(logits.argmax())])
    return np.array(answers)


def test_two_classifiers_are_measured_as_plain_transformers_answers(given):
    found = sf.compare_classifiers(
        [given / "one", given / "other"], given / "test.csv", threads=1
    )
    frame = pd.read_csv(given / "test.csv")
    truth = frame["label"].to_numpy()
    one = _answers(given / "one", frame["text"])
    other = _answers(given / "other", frame["text"])
    table = found.table
    assert table.index.tolist() == ["one", "other"]
    assert table["accuracy"].tolist() == [
        (one == truth).mean(),
        (other == truth).mean(),
    ]
    assert table["same_labels"].tolist() == [1.0, (one == other).mean()]
    assert table["same_labels"]["other"] < 1, "the two are the same"
    change = paired_change(one == truth, other == truth)
    columns = ["change", "change_low", "change_high"]
    assert table.loc["other", columns].tolist() == [
        change.accuracy,
        change.low,
        change.high,
    ]
    assert (table[["ms_batch_1", "ms_batch_32", "megabytes"]] > 0).all(axis=None)
    for name in NAMES:
        row = found.recalls.loc[name]
        assert row["texts"] == (truth == name).sum()
        assert row["one"] == (one[truth == name] == name).mean()
    differences = (found.recalls["one"] - found.recalls["other"]).abs()
    assert differences.is_monotonic_decreasing


def test_onnx_files_are_compared_one_text_at_a_time(given, tmp_path):
    pytest.importorskip("onnxruntime")
    folder = shutil.copytree(given / "one", tmp_path / "one")
    frame = pd.read_csv(given / "test.csv")
    labels = frame["label"].map(NAMES.index).tolist()
    tokenizer = load_tokenizer(folder)
    data = comparison.encode(frame["text"].tolist(), labels, tokenizer, 16)
    model = sf.load_model(folder)
    task = Task("own", NAMES, data, data, data, {}, "by hand", "by hand")
    written = write_onnx(folder, model, task, limit=1.0)
    found = sf.compare_classifiers([folder, given / "other"], frame, threads=1)
    assert found.table.index.tolist() == [
        "one",
        "one/model.onnx",
        "one/model.int8.onnx",
        "other",
    ]
    assert found.table["same_labels"]["one/model.onnx"] == 1
    eight = found.table.loc["one/model.int8.onnx"]
    assert eight["megabytes"] == written["onnx_int8"].entry["bytes"] / 1e6
    predicted = written["onnx_int8"].run.logits(data, batch=1).argmax(-1)
    expected = predict_logits(model, data).argmax(-1).numpy()
    assert eight["same_labels"] == (predicted == expected).mean()
    assert eight["accuracy"] == (predicted == labels).mean()


def test_models_are_read_to_the_length_that_one_was_compressed_for(given, tmp_path):
    small = shutil.copytree(given / "other", tmp_path / "small")
    models = [given / "one", small]

    def length(**options):
        found = sf.compare_classifiers(models, given / "test.csv", **options)
        assert f"of {found.max_length} tokens at most" in str(found)
        return found.max_length

    usual = length()
    (small / "report.json").write_text(json.dumps({"data": {"max_length": 5}}))
    assert usual != 5 and length() == 5 and length(max_length=7) == 7
    (small / "report.json").write_text("[]")  # of another program
    assert length() == usual


def test_the_command_prints_both_tables(given, capsys):
    arguments = ["compare", given / "one", given / "other"]
    arguments += ["--data", given / "test.csv", "--threads", 1]
    assert cli.main([str(one) for one in arguments]) == 0
    printed = capsys.readouterr().out
    for words in ("60 texts", "minus the first (pp)", "MB", "boats", "Recall (%)"):
        assert words in printed


def test_models_that_cannot_be_compared_are_one_line(given, tmp_path, refused):
    base = tiny.write_model(tmp_path / "base", layers=2)
    data = ["--data", given / "test.csv"]
    line = refused("compare", given / "one", base, *data)
    assert "no classification head" in line
    folder = shutil.copytree(given / "one", tmp_path / "one")
    (folder / "model.onnx").write_text("no such thing")
    assert "model.onnx cannot be read" in refused(
        "compare", folder, given / "other", *data
    )
    config = json.loads((given / "one" / "config.json").read_text())
    config["id2label"] = {"0": "a", "1": "b", "2": "c"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.onnx").unlink()
    line = refused("compare", given / "one", folder, *data)
    assert "the model's classes are 'a', 'b', 'c'" in line
