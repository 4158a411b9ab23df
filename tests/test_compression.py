"""Compressing one's own model: plain result, truthful report, nothing half-written."""

import base64
import dataclasses
import hashlib
import html
import json
import multiprocessing
import os
import re
import shlex
import shutil
import signal
import time
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

import sfusion as sf
from sfusion import SfusionError, cli
from sfusion.compression import budgets, output
from sfusion.compression.accuracy import Change, accuracy_interval, paired_change
from sfusion.compression.card import card, licence
from sfusion.compression.latency import latency
from sfusion.compression.report import verdict
from sfusion.data import tasks
from sfusion.data.tokenizers import load_tokenizer
from sfusion.experiments.parallel import progress
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.store import RecordStore
from sfusion.pruning.path import ORIGINAL
from sfusion.pruning.searches import follow
from sfusion.pruning.strategies import COMPRESSION_STRATEGIES
from sfusion.pruning.tree import PruningTree
from sfusion.signals import MEASURES
from sfusion.training.distillation import NO_LABEL, distill
from sfusion.training.evaluation import predict_logits
from sfusion.training.recipes import Recipe

NAMES = ("boats", "works", "songs")
OWN = (
    "songs",
    "boats",
    "works",
)  # the tuned model's order, to see that it is respected


def _encode(given, name, tokens=16):
    frame = pd.read_csv(given / name)
    labels = frame["kind"].map(OWN.index).tolist()
    return tasks.encode(
        frame["words"].tolist(), labels, load_tokenizer(given / "base"), tokens
    )


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A base model, the same fine-tuned, and labelled texts."""
    folder = tmp_path_factory.mktemp("given")
    tiny.write_model(folder / "base", layers=4)
    for name, count, seed in (("train.csv", 240, 1), ("test.csv", 90, 2)):
        texts, labels = tiny.sentences(count, 3, seed)
        texts = [f"{text} {i % 7} {i}" for i, text in enumerate(texts)]
        kinds = [NAMES[label] for label in labels]
        pd.DataFrame({"words": texts, "kind": kinds}).to_csv(folder / name, index=False)
    model = sf.load_model(folder / "base", label_names=OWN)
    recipe = Recipe(samples=2400, learning_rate=0.003, freeze_embeddings=False)
    sf.fine_tune(model, _encode(folder, "train.csv"), recipe, seed=0)
    for part in (model, load_tokenizer(folder / "base")):
        part.save_pretrained(folder / "tuned")
    return folder


def _compress(given, out, model="tuned", **options):
    files = {"train": given / "train.csv", "test": given / "test.csv", "out": out}
    common = {
        "text_column": "words",
        "label_column": "kind",
        "learning_rate": 0.003,
        "threads": 1,
        "quiet": True,
    }
    return sf.compress(given / model, **files | common | options)


@pytest.fixture(scope="module")
def result(given, tmp_path_factory):
    """The fine-tuned model with two of its four layers."""
    return _compress(given, tmp_path_factory.mktemp("result") / "small", keep=2)


def test_plain_transformers_predicts_what_the_report_says(result, given):
    after = result.report["after"]
    frame = pd.read_csv(given / "test.csv")
    tokenizer = AutoTokenizer.from_pretrained(result.directory)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        result.directory, output_loading_info=True
    )
    assert not any(
        info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")
    )
    assert {
        type(part).__module__.partition(".")[0]
        for part in (model, model.config, tokenizer)
    } == {"transformers"}
    options = {
        "max_length": result.report["data"]["max_length"],
        "padding": True,
        "truncation": True,
    }
    with torch.no_grad():
        logits = model(
            **tokenizer(frame["words"].tolist(), **options, return_tensors="pt")
        ).logits
    names = [model.config.id2label[number] for number in logits.argmax(-1).tolist()]
    assert model.config.num_hidden_layers == after["layers"] == 2
    assert sum(p.numel() for p in model.parameters()) == after["parameters"]
    assert (frame["kind"] == names).sum() == after["correct"]
    assert (
        hashlib.sha256("\n".join(names).encode()).hexdigest()
        == after["predictions_sha256"]
    )


def test_what_is_written(result):
    names = {file.name for file in result.directory.iterdir()}
    assert {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "curve.png",
        "curve.csv",
    } <= names
    assert not [name for name in names if name.endswith((".bin", ".pkl", ".pt"))]
    assert list(result.directory.parent.iterdir()) == [result.directory], (
        "work is left behind"
    )
    assert json.loads((result.directory / "report.json").read_text()) == result.report
    assert len({file.stat().st_mode for file in result.directory.iterdir()}) == 1
    card = ModelCard.load(result.directory / "README.md")
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.eval_results[0].metric_value == round(
        result.report["after"]["accuracy"], 4
    )
    assert result.report["verdict"] in card.text
    assert result.report["verdict"] in str(result)


def test_the_card_shows_first_how_to_use_it_and_what_it_shows_works(
    result, given, capsys
):
    card = (result.directory / "README.md").read_text()
    headings = re.findall("^## (.*)$", card, re.MULTILINE)
    assert headings == [
        "How to use it",
        "What it costs",
        "What it is for, and its limits",
        "How it was made",
    ]
    (code,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    place = {}
    exec(code.replace("path/of/this/directory", str(result.directory)), place)
    assert place["classify"]("river song")[0]["label"] in NAMES
    assert not re.search(r"\n{3,}|{{|}}| None\b", card)


def test_the_command_on_the_card_is_one_that_the_command_line_takes(result, given):
    command = re.findall("```bash\n(.*?)```", str(card(result.report)), re.DOTALL)[0]
    words = shlex.split(command.replace("\\\n", " "))
    files = {
        "tuned": given / "tuned",
        "TRAIN_FILE": given / "train.csv",
        "TEST_FILE": given / "test.csv",
        "DIRECTORY": result.directory,
    }
    words = [str(files.get(word, word)) for word in words]
    assert words[:2] == ["sfusion", "compress"] and "--keep" in words
    columns = ["--text-column", "words", "--label-column", "kind"]
    # The directory is there already: the last thing that is checked before any work.
    with pytest.raises(SfusionError, match="is not empty: give a new directory"):
        cli.app([*words[1:], *columns], standalone_mode=False)


def test_a_notebook_shows_the_report_with_its_curve(result, tmp_path):
    shown = result._repr_html_()
    assert html.escape(result.report["verdict"]) in shown
    picture = re.search('src="data:image/png;base64,(.*?)"', shown)[1]
    assert base64.b64decode(picture) == (result.directory / "curve.png").read_bytes()
    moved = dataclasses.replace(result, directory=tmp_path)
    assert "<img" not in moved._repr_html_() and "<pre>" in moved._repr_html_()


def test_a_tuned_model_is_kept_with_its_own_order_of_labels(result, given):
    assert result.report["model"]["was_fine_tuned"]
    assert result.report["data"]["classes"] == list(OWN)
    assert sf.load_model(result.directory).config.id2label == dict(enumerate(OWN))
    data = _encode(given, "test.csv", result.report["data"]["max_length"])
    right = (
        predict_logits(sf.load_model(given / "tuned"), data).argmax(-1) == data.labels
    )
    assert result.report["before"]["correct"] == int(right.sum())
    assert result.report["before"]["accuracy"] > 0.8, (
        "the tiny model has learnt nothing"
    )


def test_the_report_is_consistent(result, given):
    told = result.report
    curve = result.curve
    assert len(told["layers"]["removed"]) == 2 == told["after"]["layers"]
    # Of 240 texts to train on; more are not needed.
    assert [told["data"][name] for name in ("train", "validation", "test")] == [
        100,
        48,
        90,
    ]
    for entry in (told["before"], told["after"]):
        assert entry["samples"] == 90
        assert (
            entry["low"] <= entry["accuracy"] == entry["correct"] / 90 <= entry["high"]
        )
        for batch in ("batch_1", "batch_32"):
            times = entry["latency_ms"][batch]
            assert 0 < times["low"] <= times["median"] <= times["high"]
    assert told["change"]["accuracy"] == pytest.approx(
        told["after"]["accuracy"] - told["before"]["accuracy"]
    )
    weights = load_file(result.directory / "model.safetensors")
    assert told["after"]["bytes"] == sum(
        t.numel() * t.element_size() for t in weights.values()
    )
    assert told["curve"] == curve.to_dict("records")
    assert curve["layers"].tolist() == [4, 2, 2]
    assert curve["distilled"].tolist() == [False, False, True]
    best = curve.loc[curve["layers"] == 2, "validation_accuracy"].max()
    assert _chosen(curve)["validation_accuracy"] == best
    assert str(ROOT) not in json.dumps(told) and str(given) not in json.dumps(told)


def _chosen(curve):
    (row,) = curve[curve["chosen"]].to_dict("records")
    return row


@pytest.mark.parametrize(
    ("change", "held", "settled"),
    [
        ((0.1, 0.05, 0.3), True, True),
        ((-0.01, -0.01, 0.01), True, True),
        ((-0.01, -0.011, 0.01), True, False),
        ((-0.011, -0.02, -0.01), False, False),
        ((-0.012, -0.02, -0.011), False, True),
    ],
)
def test_the_verdict_says_plainly_whether_accuracy_held(result, change, held, settled):
    change = dict(zip(("accuracy", "low", "high"), change, strict=True))
    said = verdict(
        {**result.report, "target": {"keep": 2, "max_drop": None}, "change": change}
    )
    assert ("not more than 1 pp below the original" in said) == held
    assert ("it is more than 1 pp below the original" in said) != held
    assert ("too few" in said) != settled


@pytest.mark.parametrize("trims", [False, True])
def test_the_tail_of_long_texts_is_read_and_plain_transformers_reads_it(
    trims, given, tmp_path
):
    files = {}
    for name in ("train", "test"):
        frame = pd.read_csv(given / f"{name}.csv")
        # What tells the class stands behind more than is read.
        frame["words"] = "the " * 40 + frame["words"]
        files[name] = frame
    options = {**files, "keep": 3, "max_length": 16, "distill": False}
    head = _compress(given, tmp_path / "head", **options)
    options["trim_vocabulary"] = trims
    tail = _compress(given, tmp_path / "tail", read="tail", **options)
    assert tail.report["after"]["accuracy"] > head.report["after"]["accuracy"] + 0.2
    assert tail.report["data"]["read"] == "tail"
    assert any(
        "what stands before the last of them" in note for note in tail.report["notes"]
    )
    card = (tail.directory / "README.md").read_text()
    assert "It reads the last 16 tokens" in card and "--read tail" in card
    classify = pipeline("text-classification", str(tail.directory))
    texts = files["test"]["words"].tolist()
    answers = classify(texts, truncation=True, max_length=16)
    right = [answer["label"] for answer in answers] == files["test"]["kind"]
    assert right.sum() == tail.report["after"]["correct"]


def test_the_verdict_says_where_it_says_little(result):
    report = result.report
    few = {**report, "data": {**report["data"], "test": 1}}
    assert "on 1 text, too few to say anything of others" in verdict(few)
    assert "too few to say anything" not in verdict(report)
    much = {**report, "change": {"accuracy": 0.8, "low": 0.7, "high": 0.9}}
    assert "is no measure" in verdict(much) and "is no measure" not in verdict(report)
    slow = {**report, "latency_ratio": {"after": {"batch_1": 0.5}}}
    assert "0.5 times as fast (that is slower)" in verdict(slow)


def test_a_model_of_one_layer_has_nothing_to_remove(given, tmp_path, fails):
    model = sf.remove_layers(sf.load_model(given / "tuned"), [1, 2, 3])
    for part in (model, load_tokenizer(given / "tuned")):
        part.save_pretrained(tmp_path / "one")
    for keep in (1, None):
        assert "has 1 layer, of which 1 must stay" in fails(
            model=tmp_path / "one", keep=keep
        )
    assert "is a file: give the directory" in fails(model=given / "train.csv")


def test_it_is_the_same_again_from_python_frames_and_without_the_distillation(
    given, result, tmp_path
):
    train, test = (pd.read_csv(given / f"{name}.csv") for name in ("train", "test"))
    again = _compress(
        given, tmp_path / "again", train=train, test=test, keep=2, distill=False
    )
    first = result.curve[~result.curve["distilled"]].drop(columns="chosen")
    pd.testing.assert_frame_equal(
        again.curve.drop(columns="chosen"),
        first.reset_index(drop=True),
        check_exact=True,
    )
    assert (
        again.report["before"]["predictions_sha256"]
        == result.report["before"]["predictions_sha256"]
    )


def test_a_base_model_is_tuned_first_and_a_test_part_is_held_out(given, tmp_path):
    told = _compress(
        given, tmp_path / "out", "base", test=None, keep=3, strategy="top-first"
    ).report
    assert not told["model"]["was_fine_tuned"]
    assert told["data"]["held_out_test"]
    assert told["data"]["classes"] == sorted(NAMES)
    assert told["layers"]["removed"] == [3]
    # Of 240; more training texts are not needed.
    assert [told["data"][name] for name in ("train", "validation", "test")] == [
        100,
        38,
        48,
    ]


def test_a_new_head_takes_other_labels(given, tmp_path):
    frame = pd.read_csv(given / "train.csv")
    frame["kind"] = frame["kind"].map({"boats": 3, "works": 1, "songs": 2})
    told = _compress(
        given,
        tmp_path / "out",
        train=frame,
        test=None,
        keep=3,
        new_head=True,
        distill=False,
    ).report
    assert told["data"]["classes"] == ["1", "2", "3"]
    assert not told["model"]["was_fine_tuned"]


def test_labels_in_another_order_are_no_starting_point(given, tmp_path):
    frame = pd.read_csv(given / "train.csv")
    turned = {"songs": 1, "boats": 2, "works": 0}
    frame["kind"] = frame["kind"].map(turned)
    with tiny.refused(match="if its classes stand in another order: .* 1,2,0"):
        _compress(given, tmp_path / "out", train=frame, test=None, keep=3)


def test_what_the_user_may_not_have_meant_is_noted(given, tmp_path):
    options = {"keep": 3, "max_length": 4, "distill": False}
    found = _compress(given, tmp_path / "out", "base", **options)
    card = (tmp_path / "out" / "README.md").read_text()
    cut = "100% of the training texts are longer than 4 tokens"
    for words in (cut, "what stands behind is not read", "hold no head"):
        assert words in str(found) and words in card


@pytest.mark.parametrize("drop", [0.0, 0.3, 0.99])
def test_max_drop_writes_the_smallest_model_within_it(given, tmp_path, drop):
    found = _compress(given, tmp_path / "out", max_drop=drop, strategy="weight-norm")
    curve = found.curve
    chosen = _chosen(found.curve)
    floor = curve["validation_accuracy"].iloc[0] - drop - 1e-9
    assert chosen["validation_accuracy"] >= floor
    smaller = curve[curve["layers"] < chosen["layers"]]
    assert (smaller["validation_accuracy"] < floor).all()
    assert found.report["after"]["layers"] == chosen["layers"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_without_a_target_there_is_a_curve_and_the_choice_is_quick(
    given, tmp_path, monkeypatch
):
    found = _compress(given, tmp_path / "out", strategy="weight-norm", distill=False)
    assert found.curve["layers"].tolist() == [4, 3, 2, 1]
    original = found.curve["validation_accuracy"].iloc[0]
    spread = (original * (1 - original) / found.report["data"]["validation"]) ** 0.5
    within = found.curve[found.curve["validation_accuracy"] >= original - spread]
    assert _chosen(found.curve)["layers"] == within["layers"].min()
    left = str(tmp_path / ".out.sfusion")
    assert left in str(found) and "To take none, delete that folder" in str(found)
    # The work is still there: nothing is trained again, and then it goes.
    (tmp_path / "out").rename(tmp_path / "curve")
    monkeypatch.delattr(torch.Tensor, "backward")
    bar = progress(1, "compress", quiet=False)
    monkeypatch.setattr("sfusion.compression.compress.progress", lambda *_: bar)
    again = _compress(
        given, tmp_path / "out", strategy="weight-norm", distill=False, keep=3
    )
    assert bar.n == bar.total > 1
    assert again.report["after"]["layers"] == 3
    assert left not in str(again) and left not in str(found)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curve", "out"]


def test_the_original_is_trained_once_however_little_room_there_is(given, tmp_path):
    data = _encode(given, "train.csv")
    source = sf.load_model(given / "tuned")
    work = []
    task = tasks.Task("own", OWN, data, data, data, {}, "by hand", "by hand")
    base = {
        "seed": 0,
        "task": "own",
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
    }
    stages = budgets.recipes(60, 16)
    options = {"base": base, "probe": range(60), "on_work": work.append}
    tree = PruningTree(lambda: source, task, RecordStore(tmp_path), stages, **options)
    tree.model(ORIGINAL)
    (original,) = (tmp_path / "weights").iterdir()
    tree.store.weights_gb = 1.1e-9 * original.stat().st_size
    follow(tree, "weight-norm", 1)
    tree.model(ORIGINAL)
    # Samples times layers: the original's four, and then three, two and one.
    assert sum(work) == 4 * stages["original"].samples + 6 * stages["recovery"].samples


@pytest.mark.parametrize("name", COMPRESSION_STRATEGIES)
def test_every_strategy_that_is_offered_can_choose(name, given, tmp_path):
    found = _compress(given, tmp_path / "out", keep=3, distill=False, strategy=name)
    (removed,) = found.report["layers"]["removed"]
    assert removed == {"top-first": 3, "one-shot-top-first": 3, "bottom-first": 0}.get(
        name, removed
    )


@pytest.mark.parametrize("keep", [None, 1])
def test_one_shot_removes_from_the_original_all_at_once(keep, given, tmp_path):
    name = "one-shot-middle-first"
    options = {"keep": keep, "distill": False}
    found = _compress(given, tmp_path / "out", strategy=name, **options)
    paths = {4: "", 3: "2", 2: "1+2", 1: "0+1+2"}
    rows = dict(zip(found.curve["layers"], found.curve["path"], strict=True))
    assert rows == (paths if keep is None else {4: "", 1: paths[1]})
    assert "Layers removed,\nat once" in (tmp_path / "out" / "README.md").read_text()


def test_unlabelled_texts_teach_and_their_labels_are_not_read(
    given, result, tmp_path, monkeypatch
):
    seen = pd.read_csv(given / "train.csv")["words"].tolist()
    more = pd.DataFrame(
        {"words": [*tiny.sentences(60, 3, 5)[0], *seen[:20]], "kind": [np.nan] * 80}
    )
    taught = mock.Mock(side_effect=distill)
    monkeypatch.setattr("sfusion.pruning.tree.distill", taught)
    found = _compress(given, tmp_path / "out", keep=2, unlabelled=more)
    count = found.report["data"]["unlabelled"]
    labels = taught.call_args.args[2].labels
    assert 0 < count <= 60 + 20 and result.report["data"]["unlabelled"] == 0
    assert (labels == NO_LABEL).tolist() == [False] * found.report["data"]["train"] + [
        True
    ] * count
    curves = (
        one.curve[~one.curve["distilled"]].drop(columns="chosen")
        for one in (found, result)
    )
    pd.testing.assert_frame_equal(*curves)
    with tiny.refused(match="every text is among the labelled ones"):
        _compress(
            given, tmp_path / "none", keep=2, unlabelled=pd.read_csv(given / "test.csv")
        )
    with tiny.refused(match="for the distillation"):
        _compress(given, tmp_path / "none", keep=2, unlabelled=more, distill=False)


def test_a_signal_that_is_not_there_is_one_line(given, tmp_path, monkeypatch):
    nothing = pd.DataFrame(np.nan, range(4), list(MEASURES))
    monkeypatch.setattr(
        "sfusion.pruning.tree.extract_signals", lambda *_, **__: nothing
    )
    with pytest.raises(
        SfusionError, match="'attention-weight': this architecture has no such signal"
    ):
        _compress(given, tmp_path / "out", keep=3, strategy="attention-weight")
    # A fusion does without: what is not there tells no layers apart.
    found = _compress(given, tmp_path / "out", keep=3, strategy="linear-regression")
    assert found.report["after"]["layers"] == 3


def test_latencies_are_compared_in_pairs(make_probe):
    runs = {
        "before": lambda *_, **__: time.sleep(0.02),
        "after": lambda *_, **__: time.sleep(0.01),
    }
    found = latency(runs, make_probe(n=4))
    times = found.milliseconds
    ratios = found.ratios
    assert set(ratios) == {"after"}
    for batch in ("batch_1", "batch_32"):
        assert times["after"][batch]["low"] >= 10
        assert 1.2 < ratios["after"][batch] < 2.5


def test_intervals_agree_with_the_textbook():
    found = accuracy_interval(81, 263)  # Newcombe 1998, table I: method 3
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    right = np.arange(1000) % 10 != 0
    assert paired_change(right, right) == Change(0.0, 0.0, 0.0)
    worse = right & (np.arange(1000) % 7 != 1)
    change = paired_change(right, worse)
    assert change.accuracy == worse.mean() - right.mean()
    assert change.low < change.accuracy < change.high < 0


@pytest.mark.parametrize(
    ("metadata", "found"),
    [
        ("license: mit", "mit"),
        ("license: [mit", None),
        ("- mit", None),
        ("1: mit", None),
    ],
)
def test_a_card_that_cannot_be_read_names_no_licence(metadata, found, tmp_path):
    (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\n")
    assert licence(tmp_path) == found


# --- the command, and bad input
# --------------------------------------------------------------


def _arguments(given, out, **changes):
    options = {
        "model": given / "tuned",
        "train": given / "train.csv",
        "test": given / "test.csv",
        "text_column": "words",
        "label_column": "kind",
        "keep": 2,
        "threads": 1,
        "out": out,
        **changes,
    }
    named = {
        f"--{name.replace('_', '-')}": str(value)
        for name, value in options.items()
        if value is not None
    }
    return ["compress", *(word for pair in named.items() for word in pair)]


def test_the_command_prints_what_it_did_and_may_write_where_one_is(
    given, tmp_path, capsys, monkeypatch
):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    assert cli.main([*_arguments(given, ".", keep=3), "--no-distill"]) == 0
    printed = capsys.readouterr().out
    assert "3 of 4 layers are left" in printed and "test accuracy went from" in printed
    assert f"written to {tmp_path / 'out'}\n" in printed
    assert (tmp_path / "out" / "report.json").is_file()
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.fixture
def fails(given, tmp_path, refused, monkeypatch):
    """Run a compression that must fail with one line, and nothing written."""
    monkeypatch.delenv("CI", raising=False)  # a bar would show

    def fails(**changes):
        before = sorted(tmp_path.rglob("*"))
        line = refused(*_arguments(given, **{"out": tmp_path / "out", **changes}))
        assert sorted(tmp_path.rglob("*")) == before
        return line

    return fails


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_column": "text"}, "no column 'text': it has words, kind"),
        ({"keep": 0}, "cannot keep 0 layers"),
        ({"keep": 4}, "cannot keep 4 layers: give 1 to 3"),
        ({"keep": 3, "max_drop": 0.1}, "not both"),
        ({"keep": None, "max_drop": 1.5}, "max_drop 1.5"),
        ({"strategy": "greedy-oracle"}, "'greedy-oracle' is not known"),
        ({"threads": -1}, "threads -1"),
        ({"learning_rate": "inf"}, "learning_rate inf"),
        ({"learning_rate": 100}, "learning_rate 100: give a number between 0 and 1"),
        ({"model": "./none/such"}, "'./none/such': there is no such directory"),
        ({"read": "both"}, "both ends of a text are not built"),
        ({"read": "middle"}, "read 'middle': give head or tail"),
        ({"text_column": "kind"}, "has only 3 different text(s) in"),
        ({"labels": "a,b"}, "2 labels are given for the model's 3 classes"),
        ({"seed": -1}, "seed -1"),
        ({"out": "no/such/place"}, "no/such is not a directory; create it first"),
    ],
    ids=str,
)
def test_bad_options_are_one_line(changes, words, fails):
    assert words in fails(**changes)


def test_bad_data_is_one_line(fails, given, tmp_path):
    frame = pd.read_csv(given / "train.csv")
    bad = tmp_path / "bad.csv"
    frame[frame["kind"] == "boats"].to_csv(bad, index=False)
    assert "bad.csv has 1 class" in fails(train=bad, test=None)
    frame[frame["kind"] != "works"].to_csv(bad, index=False)
    assert "has the label 'works', " in fails(train=bad)


def test_a_model_with_code_or_without_some_layers_is_one_line(fails, given, tmp_path):
    folder = shutil.copytree(given / "tuned", tmp_path / "own")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    assert "lacks weights, bert.encoder.layer.4" in fails(model=folder)
    (folder / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "code.Own"}}'
    )
    (folder / "code.py").write_text("raise SystemExit('ran')")
    assert "cannot be loaded" in fails(model=folder)


def test_a_place_that_is_taken_or_closed_is_one_line(fails, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert "not empty" in fails(out=tmp_path / "full")
    assert "is a file: give a new directory" in fails(out=tmp_path / "full" / "file")
    (tmp_path / "link").symlink_to("nowhere")
    assert "is a link" in fails(out=tmp_path / "link")
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        assert "cannot be written" in fails(out=tmp_path / "closed" / "out")


# --- stopping and going on
# -------------------------------------------------------------------


def _short_compress(short, *arguments):
    budgets.BUDGETS = short
    _compress(*arguments, keep=2)


def test_killed_at_any_moment_the_same_command_goes_on(given, result, tmp_path):
    out = tmp_path / "out"
    work = tmp_path / ".out.sfusion"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["sfusion.compression.compress"]
    )  # what is slow to import, once for both
    for records in (1, 3):
        process = context.Process(
            target=_short_compress, args=(budgets.BUDGETS, given, out)
        )
        process.start()
        while (
            process.is_alive() and len(list(work.rglob("records/*/*.json"))) < records
        ):
            time.sleep(0.01)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL and not out.exists()
    again = _compress(given, out, keep=2)
    pd.testing.assert_frame_equal(again.curve, result.curve, check_exact=True)
    assert (
        again.report["after"]["predictions_sha256"]
        == result.report["after"]["predictions_sha256"]
    )
    assert list(tmp_path.iterdir()) == [out]


def test_stopped_while_writing_it_goes_on_and_two_at_once_at_one_place_do_not_meet(
    given, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    stops = [KeyboardInterrupt]

    def meanwhile(*arguments):
        with tiny.refused(match="out is being made by another process"):
            _compress(given, out, keep=3)
        if stops:
            raise stops.pop()
        return latency(*arguments)

    monkeypatch.setattr(output, "latency", meanwhile)
    with pytest.raises(KeyboardInterrupt):
        _compress(given, out, keep=3)
    assert not out.exists()
    assert _compress(given, out, keep=3).report["after"]["layers"] == 3
    assert list(tmp_path.iterdir()) == [out]
