"""What is said before any training: what was understood, doubted and refused."""

import errno
import json
import os
import pkgutil
import re
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, pipeline

import sfusion as sf
from sfusion import cli
from sfusion.compression.doubts import doubt_classes, doubt_rows
from sfusion.compression.recall import lost_classes, recall_per_class
from sfusion.compression.trial import Trial, judge
from sfusion.data.files import Rows

NAMES = tiny.THEME_NAMES


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A fine-tuned model and labelled texts, not to be changed."""
    folder = tmp_path_factory.mktemp("own")
    tiny.write_tuned_model(folder / "model")
    tiny.labelled(120, 5).to_csv(folder / "data.csv", index=False)
    return folder


@pytest.fixture
def model(own, tmp_path):
    """A copy of the model, to be harmed."""
    return shutil.copytree(own / "model", tmp_path / "model")


@pytest.fixture
def signals(own, capsys):
    """Run the command; return its exit code and the lines on stderr."""

    def signals(model=own / "model", data=own / "data.csv", *options):
        arguments = ["signals", "--model", model, "--data", data, *options]
        code = cli.main(list(map(str, arguments)))
        return code, capsys.readouterr().err

    return signals


def _change(file, **changes):
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps(content))


def _change_weights(model, change):
    file = model / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


def test_texts_tokens_and_model_are_said_in_a_few_lines(signals):
    code, said = signals()
    assert code == 0
    lines = said.splitlines()
    assert lines[0] == (
        "probe: 120 texts of 3 classes: 'boats' 40, 'songs' 40, 'works' 40"
    )
    assert lines[1].startswith("tokens: 16 a text at most; 0 of 120 probe texts")
    assert lines[2].startswith("model: bert with 3 layers, taken as it is: it answers")
    assert len(lines) == 3


def test_many_classes_are_said_by_the_smallest_and_the_largest(own, signals, tmp_path):
    texts, _ = tiny.sentences(150, 3, 8)
    labels = [f"kind {min(number % 15, number // 8)}" for number in range(150)]
    pd.DataFrame({"text": texts, "label": labels}).to_csv(tmp_path / "many.csv")
    code, said = signals(own / "model", tmp_path / "many.csv", "--new-head")
    assert code == 0
    assert re.search(r"128 texts of 15 classes, from 3 \('kind 1\d'\) to ", said)


def test_a_new_head_and_what_is_not_used_are_said(own, signals, model):
    code, said = signals(own / "model", own / "data.csv", "--new-head")
    assert code == 0
    assert "3 layers, with a new head" in said

    def rename(weights):
        return {name.replace("classifier", "top"): w for name, w in weights.items()}

    _change_weights(model, rename)
    code, said = signals(model)
    assert code == 0
    assert "weights in its files that are not used: 'top.bias', 'top.weight'" in said
    assert "warning: the model's files hold no head: it gets a new one" in said


def test_an_unknown_token_that_is_none_is_refused(signals, model):
    _change(model / "tokenizer_config.json", unk_token="")
    code, said = signals(model)
    assert code == 2 and said.count("\n") == 1
    assert "has the unknown token '', which its vocabulary lacks" in said


def test_layers_that_the_configuration_leaves_out_are_said(signals, model):
    _change(model / "config.json", num_hidden_layers=2)
    code, said = signals(model)
    assert code == 0 and "hold layers that its configuration leaves out" in said


def test_labels_in_another_order_are_refused_unless_the_user_names_it(
    own, signals, tmp_path
):
    frame = pd.read_csv(own / "data.csv")
    frame["label"] = frame["label"].map({"boats": 1, "works": 2, "songs": 0})
    frame.to_csv(tmp_path / "turned.csv", index=False)
    code, said = signals(own / "model", tmp_path / "turned.csv")
    assert code == 2 and "maybe 1,2,0" in said and said.count("\n") == 1
    order = ("--labels", "0,1,2")
    code, said = signals(own / "model", tmp_path / "turned.csv", *order)
    assert code == 0 and "warning: the model answers" in said


SURE = [[30, 1, 0, 0], [0, 28, 2, 0], [1, 0, 29, 0], [0, 0, 0, 30]]
SWAPPED = [[30, 1, 0], [0, 2, 28], [1, 29, 0]]
PAIR_OF_SIX = np.eye(6, dtype=int)[[0, 1, 2, 3, 5, 4]] * 20


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (SURE, None),
        (PAIR_OF_SIX, "most texts of each of the classes 'e', 'f' for another"),
        ([[12, 8], [9, 11]], None),
        ([[40, 0], [9, 1]], None),
        ([[40, 0], [10, 0]], "the most frequent class"),
        ([[10, 30], [2, 8]], "the most frequent class"),
    ],
    ids=str,
)
def test_a_model_that_answers_oddly_is_doubted(answers, words):
    found = judge(Trial(np.array(answers)), "abcdef", "data.csv", False)
    assert (words is None) == (found == [])
    assert words is None or words in found[0]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (SWAPPED, "maybe a,c,b"),
        ([[0, 20, 0], [0, 0, 20], [20, 0, 0]], "maybe c,a,b"),
        (np.array([[2, 9, 9], [9, 2, 9], [9, 9, 2]]) * 3, "below chance"),
    ],
    ids=str,
)
def test_a_model_below_chance_is_refused(answers, words):
    trial = Trial(np.array(answers))
    with tiny.refused("data.csv: the model answers", words):
        judge(trial, "abcdef", "data.csv", False)
    assert words in judge(trial, "abcdef", "data.csv", True)[0]


def _rows(pairs, where="train.csv"):
    return Rows(pd.DataFrame(pairs, columns=["text", "label"]), (), where)


def test_contradictions_and_repetitions_are_doubted():
    pairs = [("one", "a"), ("two", "b"), ("three", "a"), ("four", "b"), ("five", "c")]
    clean = _rows(pairs)
    assert doubt_rows(clean, None) == []
    unsure = _rows([*pairs, ("one", "b"), ("one", "b")])
    (line,) = doubt_rows(unsure, None)
    assert "1 text(s) stand there with several labels, 'one' for one (a, b)" in line
    test = _rows([("one", "b"), ("two", "b"), ("six", "a")], "test.csv")
    shared, missing = doubt_rows(clean, test)
    assert (
        "2 text(s) of test.csv stand in train.csv too, 1 with another label" in shared
    )
    assert "test.csv has no text of the class(es) 'c'" in missing
    no_classes = _rows([(f"text {n}", f"label {n}") for n in range(20)])
    with tiny.refused("has 20 labels for 20 texts", "--label-column"):
        doubt_rows(no_classes, None)


def test_classes_of_few_texts_or_none_are_doubted():
    labels = ["a"] * 8 + ["b"] * 7
    few, absent = doubt_classes(labels, ["a", "b", "c"])
    assert few == "classes with very few texts to train on: 'b' (7)"
    assert "the class(es) 'c' of the model" in absent
    assert doubt_classes(["a"] * 8 + ["b"] * 9, ["a", "b"]) == []


def test_a_class_whose_texts_all_stand_in_the_test_file_is_refused(own, tmp_path):
    train = tiny.labelled(90, 6).drop_duplicates("text")
    test = train[train["label"] == "songs"]
    with tiny.refused("every text of the class 'songs' occurs in"):
        sf.compress(own / "model", train, test, out=tmp_path / "out", keep=2)


def test_a_text_without_a_token_is_refused_wherever_it_stands(own, tmp_path):
    frame = tiny.labelled(90, 6)
    test = tiny.labelled(30, 7)
    test.loc[11, "text"] = "\x01"
    with tiny.refused(r"makes no token of the text '\x01'"):
        sf.compress(
            own / "model", frame, test, out=tmp_path / "out", keep=2, quiet=True
        )


@pytest.mark.parametrize(("share", "code"), [(0.1, 0), (0.8, 2)])
def test_texts_of_another_language_are_doubted_and_refused(
    own, signals, tmp_path, share, code
):
    frame = pd.read_csv(own / "data.csv")
    foreign = round(share * len(frame))
    frame.loc[: foreign - 1, "text"] = [f"\u4eca\u65e5 {n}" for n in range(foreign)]
    frame.to_csv(tmp_path / "foreign.csv", index=False)
    found, said = signals(own / "model", tmp_path / "foreign.csv")
    assert found == code and f"knows no token of {share:.0%} of the texts" in said


HARMS = {
    "not finite": lambda name, w: torch.full_like(w, torch.nan),
    "quantised": lambda name, w: (w * 20).to(torch.int8),
}


@pytest.mark.parametrize("words", HARMS)
def test_weights_that_are_no_floating_numbers_are_refused(signals, model, words):
    harmed = "bert.encoder.layer.1.attention.self.query.weight"

    def harm(weights):
        return weights | {harmed: HARMS[words](harmed, weights[harmed])}

    _change_weights(model, harm)
    code, said = signals(model)
    assert code == 2 and words in said and harmed in said


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "tokenizer.json", "data.csv"],
)
def test_a_file_that_may_not_be_read_is_one_line(signals, monkeypatch, name):
    """Permission bits hold back no administrator, therefore the opening refuses."""

    def forbid(opening):
        def opened(file, *arguments, **options):
            if not isinstance(file, int) and Path(file).name == name:
                raise PermissionError(errno.EACCES, "Permission denied", str(file))
            return opening(file, *arguments, **options)

        return opened

    for place in (
        "builtins.open",
        "io.open",
        "sfusion.models.weights.safe_open",
        "transformers.modeling_utils.safe_open",
    ):
        monkeypatch.setattr(place, forbid(pkgutil.resolve_name(place)))
    code, said = signals()
    assert code == 2
    assert name in said and "Permission denied" in said
    assert len(said.splitlines()) == 1


def test_a_new_head_is_put_on_whatever_head_there_is(own, signals, model, tmp_path):
    data = own / "data.csv"
    _change(model / "config.json", problem_type="multi_label_classification")
    code, said = signals(model)
    assert code == 2 and "several labels" in said and "not built" in said
    assert signals(model, data, "--new-head")[0] == 0
    _change(model / "config.json", problem_type=None, id2label={"0": "a", "1": "b"})
    assert signals(model)[0] == 2
    assert signals(model, data, "--new-head")[0] == 0
    _change(model / "config.json", id2label={"1": "a", "2": "b", "3": "c"})
    assert "number them from 0" in signals(model)[1]
    assert signals(model, data, "--new-head")[0] == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"padding_side": "left"},
        {"model_input_names": ["input_ids", "token_type_ids"]},
        {"truncation_side": "left"},
    ],
    ids=str,
)
def test_what_is_reported_is_what_plain_transformers_answers(model, tmp_path, settings):
    _change(model / "tokenizer_config.json", **settings)
    frame = tiny.labelled(150, 6)
    test = tiny.labelled(60, 9)
    out = tmp_path / "out"
    options = {"keep": 2, "distill": False, "threads": 1, "quiet": True}
    report = sf.compress(model, frame, test, out=out, **options).report
    for side, folder in (("before", model), ("after", out)):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        names = list(tokenizer.model_input_names)
        if "attention_mask" not in names:
            tokenizer.model_input_names = [*names, "attention_mask"]
        classify = pipeline("text-classification", str(folder), tokenizer=tokenizer)
        answers = classify(test["text"].tolist(), truncation=True, max_length=16)
        right = [a["label"] for a in answers] == test["label"]
        assert report[side]["correct"] == right.sum()


def test_doubts_and_facts_go_into_the_report_and_the_card(own, tmp_path, capsys):
    train = tiny.labelled(120, 6)
    test = tiny.labelled(60, 9)
    test = test[test["label"] != "works"]
    out = tmp_path / "out"
    options = {"keep": 2, "distill": False, "threads": 1}
    found = sf.compress(own / "model", train, test, out=out, **options)
    doubt = "the data frame has no text of the class(es) 'works'"
    said = capsys.readouterr().err
    assert f"warning: {doubt}" in said and "train: " in said and "test: 40" in said
    assert any(doubt in note for note in found.report["notes"])
    assert doubt in (out / "README.md").read_text().replace("The data", "the data")
    counts = found.report["data"]["texts_per_class"]
    assert counts["test"] == {"boats": 20, "songs": 20}
    assert sum(counts["train"].values()) == found.report["data"]["train"]
    stands = found.report["model"]["accuracy_as_it_stands"]
    assert stands > 0.6 and f"answers {stands:.1%} of" in said
    assert set(found.report["after"]["recall"]) == {"boats", "songs"}


def test_recall_is_counted_per_class_and_a_lost_class_is_named():
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])
    before = torch.tensor([0, 0, 0, 0, 1, 0, 2, 2, 1])
    after = torch.tensor([0, 0, 0, 1, 0, 0, 0, 0, 2])
    names = ["a", "b", "c", "d"]
    recalls = {
        "before": recall_per_class(before, labels, names),
        "after": recall_per_class(after, labels, names),
    }
    assert recalls["after"] == {
        "a": {"found": 3, "texts": 4},
        "b": {"found": 0, "texts": 2},
        "c": {"found": 1, "texts": 3},
    }
    assert lost_classes(recalls) == []
    labels = labels.repeat(3)
    recalls = {
        "before": recall_per_class(before.repeat(3), labels, names),
        "after": recall_per_class(after.repeat(3), labels, names),
    }
    lost = lost_classes(recalls)
    assert [line.split("'")[1] for line in lost] == ["b"]
    assert "0 of its 6 test texts are found, 3 before" in lost[0]


def test_a_place_that_cannot_take_the_model_is_refused_before_the_training(
    own, tmp_path, monkeypatch
):
    frame = tiny.labelled(90, 6)

    def refusal(**forms):
        options = {"out": tmp_path / "out", "keep": 2, "quiet": True, **forms}
        line = tiny.refusal(sf.compress, own / "model", frame, **options)
        assert list(tmp_path.iterdir()) == []
        return line

    with monkeypatch.context() as patch:
        patch.setattr("os.path.ismount", lambda _: True)
        assert "where another disk is mounted" in refusal()
    with monkeypatch.context() as patch:
        free = mock.Mock(free=10_000)
        patch.setattr("shutil.disk_usage", lambda _: free)
        assert "about 0.1 MB are needed" in refusal() and "no space in" in refusal()
    with monkeypatch.context() as patch:  # for the model, and not for its ONNX files
        free = mock.Mock(free=80_000)
        patch.setattr("shutil.disk_usage", lambda _: free)
        assert "about 0.1 MB are needed" in refusal(int8=True)
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device")
        patch.setattr("tempfile.TemporaryFile", mock.Mock(side_effect=full))
        assert "cannot be written (No space left on device)" in refusal()


def test_the_finished_work_is_kept_and_named_when_the_last_step_fails(
    own, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    replace = os.replace

    def fail(source, target):
        if target == out:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr("os.replace", fail)
    options = {"keep": 2, "distill": False, "threads": 1, "quiet": True}
    frame = tiny.labelled(90, 6)
    with tiny.refused("the model is finished, but cannot be moved") as error:
        sf.compress(own / "model", frame, out=out, **options)
    folder = tmp_path / ".out.sfusion" / "output"
    assert str(error.value).endswith(f"it is kept in {folder}")
    assert (folder / "report.json").is_file() and not out.exists()
    assert sf.load_model(folder).config.num_hidden_layers == 2


def test_labels_are_named_at_once_one_by_one_or_in_a_file(own, signals, tmp_path):
    frame = pd.read_csv(own / "data.csv")
    longer = {"boats": "boats, all", "works": "the works", "songs": "songs"}
    frame["label"] = frame["label"].map(longer)
    data = tmp_path / "longer.csv"
    frame.to_csv(data, index=False)
    one_by_one = [word for name in longer.values() for word in ("--labels", name)]
    assert signals(own / "model", data, *one_by_one)[0] == 0
    file = tmp_path / "names.txt"
    file.write_text("\n".join(longer.values()) + "\n", "utf-8-sig")
    assert signals(own / "model", data, "--labels", file)[0] == 0
    code, said = signals(own / "model", data, "--labels", "boats, works, songs")
    assert code == 2 and "has the label 'boats, all'" in said
    frame["label"] = frame["label"].replace("boats, all", "boats")
    frame.to_csv(data, index=False)
    assert signals(own / "model", data, "--labels", "boats, the works, songs")[0] == 0
