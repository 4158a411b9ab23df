"""Compressing one's own model: plain result, truthful report, nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import tiny
import torch
from safetensors.torch import load_file

import sfusion as sf
from sfusion import SfusionError, cli
from sfusion.compression import report
from sfusion.compression.compress import recipes
from sfusion.compression.report import accuracy_interval, latency, paired_change, verdict
from sfusion.data import tasks
from sfusion.models.loading import load_tokenizer
from sfusion.pruning.strategies import COMPRESSION_STRATEGIES
from sfusion.pruning.tree import PruningTree, follow
from sfusion.records.profiles import ROOT, Recipe
from sfusion.records.store import RecordStore
from sfusion.signals import MEASURES

NAMES = ("boats", "works", "songs")
FAST = {"learning_rate": 0.003, "threads": 1, "quiet": True}


def _write(folder, name, count, seed):
    texts, labels = tiny.sentences(count, 3, seed)
    texts = [f"{text} {i % 7} {i}" for i, text in enumerate(texts)]
    frame = pd.DataFrame({"words": texts, "kind": [NAMES[label] for label in labels]})
    frame.to_csv(folder / name, index=False)
    return folder / name


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A base model, the same fine-tuned, and labelled texts."""
    folder = tmp_path_factory.mktemp("given")
    tiny.write_model(folder / "base", layers=4)
    train, test = (_write(folder, *what) for what in (("train.csv", 240, 1), ("test.csv", 90, 2)))
    # In an order of its own, to see that it is respected.
    own = ("songs", "boats", "works")
    model = sf.load_model(folder / "base", label_names=own)
    frame = pd.read_csv(train)
    data = tasks.encode(
        frame["words"].tolist(), [own.index(kind) for kind in frame["kind"]], load_tokenizer(folder / "base"), 16
    )
    recipe = Recipe(samples=2400, learning_rate=0.003, freeze_embeddings=False)
    sf.fine_tune(model, data, recipe, seed=0)
    model.save_pretrained(folder / "tuned")
    load_tokenizer(folder / "base").save_pretrained(folder / "tuned")
    return folder


def _compress(given, out, model="tuned", **options):
    options = {"text_column": "words", "label_column": "kind", **FAST, **options}
    test = options.pop("test", given / "test.csv")
    return sf.compress(given / model, given / "train.csv", test, out=out, **options)


@pytest.fixture(scope="module")
def result(given, tmp_path_factory):
    """The fine-tuned model with two of its four layers."""
    return _compress(given, tmp_path_factory.mktemp("result") / "small", keep=2)


PLAIN = """
import hashlib, json, sys
import pandas as pd, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, file = sys.argv[1:]
report = json.load(open(folder + "/report.json"))
tokenizer = AutoTokenizer.from_pretrained(folder)
model, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
frame = pd.read_csv(file)
batch = tokenizer(frame["words"].tolist(), padding=True, truncation=True,
                  max_length=report["data"]["max_length"], return_tensors="pt")
with torch.no_grad():
    numbers = model.eval()(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1)
names = [model.config.id2label[int(number)] for number in numbers]
print(json.dumps({
    "modules": [name for name in sys.modules if name.startswith("sfusion")],
    "unmatched": [sorted(info[k]) for k in ("missing_keys", "unexpected_keys", "mismatched_keys")],
    "layers": model.config.num_hidden_layers,
    "parameters": sum(p.numel() for p in model.parameters()),
    "correct": sum(a == b for a, b in zip(names, frame["kind"])),
    "sha256": hashlib.sha256("\\n".join(names).encode()).hexdigest(),
}))
"""


def test_plain_transformers_predicts_what_the_report_says(result, given, tmp_path):
    command = [sys.executable, "-I", "-c", PLAIN, result.directory, given / "test.csv"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, after = json.loads(done.stdout), result.report["after"]
    assert found["modules"] == []
    assert found["unmatched"] == [[], [], []]
    assert found["layers"] == after["layers"] == 2
    assert found["parameters"] == after["parameters"]
    assert found["correct"] == after["correct"]
    assert found["sha256"] == after["predictions_sha256"]


def test_what_is_written(result):
    names = {file.name for file in result.directory.iterdir()}
    assert {"config.json", "model.safetensors", "report.json", "README.md", "curve.png",
            "curve.csv", "tokenizer.json"} <= names  # fmt: skip
    assert not [name for name in names if name.endswith((".bin", ".pkl", ".pt"))]
    assert list(result.directory.parent.iterdir()) == [result.directory], "work is left behind"
    assert json.loads((result.directory / "report.json").read_text()) == result.report
    assert len({file.stat().st_mode for file in result.directory.iterdir()}) == 1


def test_a_tuned_model_is_kept_with_its_own_order_of_labels(result, given):
    assert result.report["model"]["was_fine_tuned"]
    assert result.report["data"]["classes"] == ["songs", "boats", "works"]
    config = json.loads((result.directory / "config.json").read_text())
    assert config["id2label"] == {"0": "songs", "1": "boats", "2": "works"}
    plain = sf.load_model(given / "tuned")
    frame = pd.read_csv(given / "test.csv")
    data = tasks.encode(
        frame["words"].tolist(),
        frame["kind"].map(plain.config.label2id).tolist(),
        load_tokenizer(given / "tuned"),
        result.report["data"]["max_length"],
    )
    with torch.no_grad():
        right = plain(data.input_ids, data.attention_mask).logits.argmax(-1) == data.labels
    assert result.report["before"]["correct"] == int(right.sum())
    assert result.report["before"]["accuracy"] > 0.8, "the tiny model has learnt nothing"


def test_the_report_is_consistent(result, given):
    told, curve = result.report, result.curve
    assert len(told["layers"]["removed"]) == 2 == 4 - told["after"]["layers"]
    assert told["before"]["samples"] == told["data"]["test"] == 90
    assert (told["data"]["train"], told["data"]["validation"]) == (100, 48)  # of 240; more are not needed
    for entry in (told["before"], told["after"]):
        assert entry["low"] <= entry["accuracy"] == entry["correct"] / 90 <= entry["high"]
        for batch in ("batch_1", "batch_32"):
            times = entry["latency_ms"][batch]
            assert 0 < times["low"] <= times["median"] <= times["high"]
    difference = told["after"]["accuracy"] - told["before"]["accuracy"]
    assert told["change"]["accuracy"] == pytest.approx(difference)
    weights = load_file(result.directory / "model.safetensors")
    assert told["after"]["bytes"] == sum(t.numel() * t.element_size() for t in weights.values())
    assert told["curve"] == curve.to_dict("records")
    assert curve["layers"].tolist() == [4, 3, 2, 2]
    assert curve["distilled"].tolist() == [False, False, False, True]
    (chosen,) = curve.index[curve["chosen"]]
    last = curve[curve["layers"] == 2]
    assert curve.loc[chosen, "validation_accuracy"] == last["validation_accuracy"].max()
    assert str(ROOT) not in json.dumps(told) and str(given) not in json.dumps(told)


def test_the_card_says_the_same_and_reads_as_one(result):
    from huggingface_hub import ModelCard

    found = ModelCard.load(result.directory / "README.md")
    assert found.data.pipeline_tag == "text-classification"
    assert found.data.eval_results[0].metric_value == round(result.report["after"]["accuracy"], 4)
    assert result.report["verdict"] in found.text
    assert result.report["verdict"] in str(result)


@pytest.mark.parametrize(
    ("change", "low", "high", "held", "settled"),
    [
        (0.2, 0.1, 0.3, True, True),
        (-0.01, -0.01, 0.01, True, True),
        (-0.01, -0.011, 0.01, True, False),
        (-0.011, -0.02, -0.01, False, False),
        (-0.012, -0.02, -0.011, False, True),
    ],
)
def test_the_verdict_says_plainly_whether_accuracy_held(result, change, low, high, held, settled):
    numbers = {"accuracy": change, "low": low, "high": high}
    told = {**result.report, "target": {**result.report["target"], "max_drop": None}}
    said = verdict({**told, "change": {**result.report["change"], **numbers}})
    assert ("NOT within 1 pp" in said) != held and "within 1 pp of" in said
    assert ("too few" in said) != settled


def test_it_is_the_same_again_from_python_frames_and_without_the_distillation(given, result, tmp_path):
    train, test = (pd.read_csv(given / f"{name}.csv") for name in ("train", "test"))
    again = sf.compress(
        given / "tuned", train, test, out=tmp_path / "again", text_column="words",
        label_column="kind", keep=2, distill=False, **FAST,
    )  # fmt: skip
    first = result.curve[~result.curve["distilled"]].drop(columns="chosen")
    pd.testing.assert_frame_equal(again.curve.drop(columns="chosen"), first.reset_index(drop=True), check_exact=True)
    assert again.report["before"]["predictions_sha256"] == (result.report["before"]["predictions_sha256"])


def test_a_base_model_is_tuned_first_and_a_test_part_is_held_out(given, tmp_path):
    found = _compress(given, tmp_path / "out", "base", test=None, keep=3, strategy="top-first")
    assert not found.report["model"]["was_fine_tuned"]
    assert found.report["data"]["held_out_test"]
    assert found.report["data"]["classes"] == sorted(NAMES)
    assert found.report["layers"]["removed"] == [3]
    parts = [found.report["data"][name] for name in ("train", "validation", "test")]
    assert parts == [100, 38, 48]  # of 240; more training texts are not needed


def _chosen(curve):
    (row,) = curve[curve["chosen"]].to_dict("records")
    return row


@pytest.mark.parametrize("drop", [0.0, 0.3, 0.99])
def test_max_drop_writes_the_smallest_model_within_it(given, tmp_path, drop):
    found = _compress(given, tmp_path / "out", max_drop=drop, strategy="weight-norm")
    curve, chosen = found.curve, _chosen(found.curve)
    floor = curve["validation_accuracy"].iloc[0] - drop - 1e-9
    assert chosen["validation_accuracy"] >= floor
    smaller = curve[(curve["layers"] < chosen["layers"])]
    assert (smaller["validation_accuracy"] < floor).all()
    assert found.report["after"]["layers"] == chosen["layers"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_without_a_target_there_is_a_curve_and_the_choice_is_quick(given, tmp_path, monkeypatch):
    found = _compress(given, tmp_path / "out", strategy="weight-norm", distill=False)
    assert found.curve["layers"].tolist() == [4, 3, 2, 1]
    original = found.curve["validation_accuracy"].iloc[0]
    spread = (original * (1 - original) / found.report["data"]["validation"]) ** 0.5
    within = found.curve[found.curve["validation_accuracy"] >= original - spread]
    assert _chosen(found.curve)["layers"] == within["layers"].min()
    # The work is still there: nothing is trained again, and then it goes.
    (tmp_path / "out").rename(tmp_path / "curve")

    def train(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("sfusion.pruning.tree.fine_tune", train)
    again = _compress(given, tmp_path / "out", strategy="weight-norm", distill=False, keep=3)
    assert again.report["after"]["layers"] == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == ["curve", "out"]


def _tree(given, store, tuned=True):
    model = sf.load_model(given / "tuned")
    texts, labels = tiny.sentences(60, 3, seed=3)
    data = tasks.encode(texts, labels, load_tokenizer(given / "tuned"), 16)
    task = tasks.Task("own", NAMES, data, data, data, {}, "by hand", "by hand")
    base = {"seed": 0, "precision": "fp32", "device": "cpu", "threads": 1}
    return PruningTree(lambda: model, task, store, recipes(60, 16), base=base, probe=range(60), tuned=tuned)


def test_the_original_is_trained_once_however_little_room_there_is(given, tmp_path, monkeypatch):
    trained, train = [], sf.fine_tune
    monkeypatch.setattr("sfusion.pruning.tree.fine_tune", lambda *a, **k: trained.append(1) or train(*a, **k))
    tree = _tree(given, RecordStore(tmp_path), tuned=False)
    tree.model(())
    (original,) = (tmp_path / "weights").iterdir()
    tree.store.weights_gb = 1.1e-9 * original.stat().st_size
    follow(tree, "weight-norm", 1)
    tree.model(())
    assert len(trained) == 4


@pytest.mark.parametrize("name", COMPRESSION_STRATEGIES)
def test_every_strategy_that_is_offered_can_choose(name, given, tmp_path):
    out = tmp_path / "out"
    (removed,) = _compress(given, out, keep=3, distill=False, strategy=name).report["layers"]["removed"]
    assert removed == {"top-first": 3, "bottom-first": 0}.get(name, removed)


def test_it_is_the_signal_that_chooses(given, tmp_path):
    tree = _tree(given, RecordStore(tmp_path))
    signals = sf.extract_signals(tree.source(), tree.task.train)
    assert follow(tree, "weight-norm", 3) == (signals["weight-norm"].idxmin(),)
    assert follow(tree, "attention-entropy", 3) == (signals["attention-entropy"].idxmax(),)


def test_a_signal_that_is_not_there_is_one_line(given, tmp_path, monkeypatch):
    def blind(*_, **__):
        return pd.DataFrame({name: [float("nan")] * 4 for name in MEASURES})

    monkeypatch.setattr("sfusion.pruning.tree.extract_signals", blind)
    with pytest.raises(SfusionError, match="'attention-weight': this architecture has no such signal"):
        _compress(given, tmp_path / "out", keep=3, strategy="attention-weight")
    # A fusion does without: what is not there tells no layers apart.
    found = _compress(given, tmp_path / "out", keep=3, strategy="linear-regression")
    assert found.report["after"]["layers"] == 3


def test_latencies_are_compared_in_pairs(make_probe):
    runs = {"before": lambda *_, **__: time.sleep(0.004), "after": lambda *_, **__: time.sleep(0.002)}
    times, ratios = latency(runs, make_probe(n=4))
    assert set(ratios) == {"after"}
    for batch in ("batch_1", "batch_32"):
        assert times["after"][batch]["low"] >= 2
        assert 1.2 < ratios["after"][batch] < 2.5


def test_intervals_agree_with_the_textbook():
    found = accuracy_interval(81, 263)  # Newcombe 1998, table I: method 3
    assert (round(found["low"], 4), round(found["high"], 4)) == (0.2553, 0.3662)
    right = torch.arange(1000).numpy() % 10 != 0
    assert paired_change(right, right) == {"accuracy": 0.0, "low": 0.0, "high": 0.0}
    worse = right & (torch.arange(1000).numpy() % 7 != 1)
    change = paired_change(right, worse)
    assert change["low"] < change["accuracy"] == worse.mean() - right.mean() < change["high"] < 0


# --- bad input -------------------------------------------------------------------------------


@pytest.fixture
def refused(given, tmp_path, capsys, monkeypatch):
    """Run a command that must fail: exit code 2, one line, and nothing written."""
    monkeypatch.delenv("CI", raising=False)  # a bar would show

    def refused(**changes):
        options = {
            "model": given / "tuned", "train": given / "train.csv", "test": given / "test.csv",
            "text_column": "words", "label_column": "kind", "keep": 2, "threads": 1,
            "out": tmp_path / "out", **changes,
        }  # fmt: skip
        before = sorted(tmp_path.rglob("*"))
        arguments = ["compress"]
        for name, value in options.items():
            if value is not None:
                arguments += [f"--{name.replace('_', '-')}", str(value)]
        assert cli.main(arguments) == 2
        line = capsys.readouterr().err
        assert line.startswith("error: ") and line.count("\n") == 1 and "\r" not in line, line
        assert sorted(tmp_path.rglob("*")) == before
        return line

    return refused


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text_column": "text"}, "no column 'text': it has words, kind"),
        ({"train": "nothing.csv"}, "no file nothing.csv"),
        ({"keep": 0}, "cannot keep 0 layers"),
        ({"keep": 4}, "cannot keep 4 layers: give 1 to 3"),
        ({"keep": 3, "max_drop": 0.1}, "not allowed with"),
        ({"keep": None, "max_drop": 1.5}, "max_drop 1.5"),
        ({"strategy": "magic"}, "'magic'"),
        *(({"strategy": s}, f"{s!r} is not known") for s in ("random-forest-position", "greedy-oracle")),
        ({"strategy": "random-forest-transfer"}, "'random-forest-transfer' is not known"),
        ({"max_length": 33}, "max_length 33: the model takes 3 to 32 tokens"),
        ({"threads": -1}, "threads -1"),
        ({"learning_rate": "inf"}, "learning_rate inf"),
        ({"model": "no-such-model"}, "'no-such-model'"),
        ({"labels": "a,b"}, "2 labels are given for the model's 3 classes"),
        ({"labels": "a,b,b"}, "labels a, b, b: name each once"),
        ({"seed": -1}, "seed -1"),
        ({"out": "no/such/place"}, "no/such is not a directory; create it first"),
    ],
    ids=str,
)
def test_bad_options_are_one_line(changes, words, refused, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert words in refused(**changes)


def test_bad_data_is_one_line(refused, given, tmp_path):
    frame = pd.read_csv(given / "train.csv")

    def line(changed):
        changed.to_csv(tmp_path / "bad.csv", index=False)
        return refused(train=tmp_path / "bad.csv")

    assert "bad.csv has 1 class" in line(frame[frame["kind"] == "boats"])
    assert "has the label 'works', " in line(frame[frame["kind"] != "works"])
    loud = frame.assign(kind=frame["kind"].str.upper())
    loud.to_csv(tmp_path / "loud.csv", index=False)
    assert "the model's classes are 'songs'" in refused(train=tmp_path / "loud.csv", test=None)
    assert "row 1 has no text" in line(frame.assign(words=[None, *frame["words"][1:]]))
    assert "too few texts" in line(frame.groupby("kind").head(1))
    (tmp_path / "bad.csv").write_bytes(frame.to_csv(index=False).encode("utf-16"))
    assert "UTF-8" in refused(train=tmp_path / "bad.csv")


def test_a_bad_model_is_one_line(refused, given, tmp_path):
    from shutil import copytree

    (tmp_path / "empty").mkdir()
    assert "no config.json" in refused(model=tmp_path / "empty")
    folder = copytree(given / "tuned", tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "pickled" in refused(model=folder)
    folder = copytree(given / "tuned", tmp_path / "code")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('ran')")
    assert "code" in refused(model=folder)
    folder = copytree(given / "tuned", tmp_path / "deeper")
    config = json.loads((given / "tuned" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    assert "lacks weights, bert.encoder.layer.4" in refused(model=folder)


@pytest.mark.parametrize(
    ("metadata", "found"), [("license: mit", "mit"), ("license: [mit", None), ("- mit", None), ("1: mit", None)]
)
def test_a_card_that_cannot_be_read_names_no_licence(metadata, found, tmp_path):
    (tmp_path / "README.md").write_text(f"---\n{metadata}\n---\n")
    assert report.licence(tmp_path) == found


def test_a_place_that_is_taken_or_closed_is_one_line(refused, given, tmp_path):
    (tmp_path / "file").write_text("")
    assert "not empty" in refused(out=tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert "not empty" in refused(out=tmp_path / "full")
    (tmp_path / "link").symlink_to("nowhere")
    assert "is a link" in refused(out=tmp_path / "link")
    if os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        assert "cannot be written" in refused(out=tmp_path / "closed" / "out")


def test_the_place_may_be_where_one_is(given, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path / "out")
    found = _compress(given, ".", keep=3, strategy="top-first", distill=False)
    assert (tmp_path / "out" / "report.json").is_file()
    assert found.directory == tmp_path / "out"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_new_head_takes_other_labels(given, tmp_path):
    frame = pd.read_csv(given / "train.csv")
    frame["kind"] = frame["kind"].map({"boats": 3, "works": 1, "songs": 2})
    found = sf.compress(
        given / "tuned", frame, out=tmp_path / "out", text_column="words", label_column="kind",
        keep=3, new_head=True, distill=False, **FAST,
    )  # fmt: skip
    assert found.report["data"]["classes"] == ["1", "2", "3"]
    assert not found.report["model"]["was_fine_tuned"]


# --- stopping and going on -------------------------------------------------------------------


def test_killed_at_any_moment_the_same_command_goes_on(given, result, tmp_path):
    options = {"text_column": "words", "label_column": "kind", **FAST, "keep": 2}
    code = (
        "import json, sys, sfusion as sf; from sfusion.compression import compress as c\n"
        "c.BUDGETS = {k: (m, p / 20, a // 20, b // 20) for k, (m, p, a, b) in c.BUDGETS.items()}\n"
        "a = json.loads(sys.argv[1]); sf.compress(*a.pop('given'), **a)"
    )
    names = [given / "tuned", given / "train.csv", given / "test.csv"]
    call = json.dumps({"given": list(map(str, names)), "out": str(tmp_path / "out"), **options})
    work, kills = tmp_path / ".out.sfusion", 0
    for records in (1, 3):
        process = subprocess.Popen([sys.executable, "-c", code, call], cwd=ROOT)
        while process.poll() is None:
            if len(list(work.rglob("records/*/*.json"))) >= records:
                process.send_signal(signal.SIGKILL)
                kills += process.wait() == -signal.SIGKILL
                break
            time.sleep(0.02)
        if records == 1:
            assert not (tmp_path / "out").exists()
    assert kills, "never killed in time"
    if (tmp_path / "out").exists():
        return  # the second run was too quick to be killed
    again = _compress(given, tmp_path / "out", keep=2)
    pd.testing.assert_frame_equal(again.curve, result.curve, check_exact=True)
    assert again.report["after"]["predictions_sha256"] == (result.report["after"]["predictions_sha256"])
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_stopped_while_writing_nothing_is_there_and_it_goes_on(given, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def stop(*_, **__):
            raise KeyboardInterrupt

        patch.setattr("sfusion.compression.report.latency", stop)
        with pytest.raises(KeyboardInterrupt):
            _compress(given, tmp_path / "out", keep=3)
    assert not (tmp_path / "out").exists()
    assert _compress(given, tmp_path / "out", keep=3).report["after"]["layers"] == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_two_at_once_at_one_place_do_not_meet(given, tmp_path, monkeypatch):
    latency = report.latency

    def meanwhile(*arguments):
        monkeypatch.setattr("sfusion.compression.report.latency", latency)
        with pytest.raises(SfusionError, match="out is being made by another process") as caught:
            _compress(given, tmp_path / "out", keep=3)
        tiny.one_line(caught)
        return latency(*arguments)

    monkeypatch.setattr("sfusion.compression.report.latency", meanwhile)
    assert _compress(given, tmp_path / "out", keep=3).report["after"]["layers"] == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_the_command_prints_what_it_did(given, tmp_path, capsys):
    code = cli.main(
        ["compress", "--model", str(given / "tuned"), "--train", str(given / "train.csv"),
         "--test", str(given / "test.csv"), "--text-column", "words", "--label-column", "kind",
         "--keep", "3", "--no-distill", "--threads", "1",
         "--out", str(tmp_path / "out")]
    )  # fmt: skip
    assert code == 0
    printed = capsys.readouterr().out
    assert "layers 4 -> 3" in printed and "Test accuracy went from" in printed
    assert isinstance(SfusionError("x"), Exception)
