"""The command line: what it writes, and that bad input is one line and exit code 2."""

import errno
import io
import os
import shutil
import subprocess
import sys
import time

import nbformat
import pandas as pd
import pytest
import tiny
import torch
import yaml
from transformers import RobertaConfig, RobertaModel

from sfusion import SIGNALS, SfusionError, cli, load_model, load_profile, load_results
from sfusion import notebooks as artefacts
from sfusion.models.loading import load_tokenizer
from sfusion.records import results as results_module
from sfusion.records.profiles import ROOT


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    """Keep what commands write and read away from the project's own folders."""
    for module in (cli, results_module):
        monkeypatch.setattr(module, "BUILD", tmp_path / "build")
        monkeypatch.setattr(module, "COMMITTED", tmp_path / "results")
    monkeypatch.setenv("SFUSION_DATA", str(tiny.data_folder()))
    monkeypatch.setenv("SFUSION_JOBS", "1")
    monkeypatch.setenv("CI", "1")
    monkeypatch.delenv("SFUSION_BACKEND", raising=False)
    return tmp_path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("cli") / "model", layers=3)


@pytest.fixture
def mine(model, tmp_path):
    """The YAML file of a tiny profile."""
    profile = tiny.make_profile(model, random_orders=1)
    content = profile.model_dump(mode="json", exclude={"name"})
    content["distillation"]["removals"] = [1]
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture
def executed(monkeypatch):
    """Note the notebooks instead of running them."""
    calls = []
    monkeypatch.setattr(artefacts, "execute", lambda *arguments: calls.append(arguments))
    return calls


@pytest.fixture
def refused(capsys):
    """Run a command that must fail: exit code 2, and one line on stderr."""

    def refused(*arguments):
        capsys.readouterr()
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        line = capsys.readouterr().err
        assert code == 2
        assert line.count("\n") == 1 and line.endswith("\n"), line
        return line

    return refused


def _python(*arguments, **environment):
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "sfusion", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={k: v for k, v in {**os.environ, **environment}.items() if v is not None},
    )
    return done, time.monotonic() - started


@pytest.mark.parametrize("command", ["reproduce", "replay", "compare"])
def test_an_unknown_profile_is_one_line(command, refused):
    assert "'embeded'" in refused(command, "--profile", "embeded")


def test_a_profile_with_a_mistake_is_one_line(refused, mine):
    mine.write_text(mine.read_text().replace("threads: 1", "threads: many"))
    assert "threads" in refused("reproduce", "--profile", mine)


@pytest.mark.parametrize("command", ["replay", "compare"])
def test_missing_results_are_one_line(command, refused, mine):
    line = refused(command, "--profile", mine)
    assert "`sfusion reproduce --accept`" in line


@pytest.mark.parametrize("text", ["0", "two", "-1"])
def test_bad_jobs_are_one_line(text, refused, mine, monkeypatch, tmp_path):
    monkeypatch.setenv("SFUSION_JOBS", text)
    assert f"SFUSION_JOBS={text!r}" in refused("reproduce", "--profile", mine)
    assert not (tmp_path / "build").exists()


def test_a_bad_backend_is_one_line(refused, mine, monkeypatch, tmp_path):
    monkeypatch.setenv("SFUSION_BACKEND", "spark")
    assert "SFUSION_BACKEND='spark'" in refused("reproduce", "--profile", mine)
    assert not (tmp_path / "build").exists()


def test_a_folder_without_the_data_is_one_line(refused, mine, monkeypatch, tmp_path):
    monkeypatch.setenv("SFUSION_DATA", str(tmp_path / "nothing"))
    mine.write_text(mine.read_text().replace("agnews", "newsgroup"))
    assert "newsgroup" in refused("reproduce", "--profile", mine)


def test_a_build_folder_that_cannot_be_written_is_one_line(refused, mine, tmp_path):
    (tmp_path / "build").write_text("in the way")
    assert "cannot" in refused("reproduce", "--profile", mine)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["reproduced"],
        ["reproduce", "--profil", "x", "y"],
        ["replay", "--accept"],
        ["signals", "--model", "minilm-l6"],
        ["signals", "--model", "m", "--data", "d", "--max-length", "many"],
    ],
    ids=" ".join,
)
def test_bad_arguments_are_one_line(arguments, refused):
    refused(*arguments)


@pytest.fixture
def data(tmp_path):
    """A labelled CSV file."""
    texts, labels = tiny.sentences(24, 3, seed=5)
    frame = pd.DataFrame({"text": texts, "label": [f"class {label}" for label in labels]})
    frame.to_csv(tmp_path / "data.csv", index=False)
    return tmp_path / "data.csv"


def test_signals_prints_a_row_a_layer(model, data, capsys):
    assert cli.main(["signals", "--model", str(model), "--data", str(data)]) == 0
    captured = capsys.readouterr()
    table = pd.read_csv(io.StringIO(captured.out))
    assert list(table) == ["layer", *SIGNALS]
    assert table["layer"].tolist() == [0, 1, 2]
    assert table.notna().all(axis=None)
    assert captured.err == ""


def test_signals_takes_columns_by_name(model, data, capsys):
    main = ["signals", "--model", str(model), "--data"]
    cli.main([*main, str(data)])
    expected = capsys.readouterr().out
    renamed = data.with_name("renamed.csv")
    pd.read_csv(data).rename(columns={"text": "words", "label": "kind"}).to_csv(renamed)
    cli.main([*main, str(renamed), "--text-column", "words", "--label-column", "kind"])
    assert capsys.readouterr().out == expected
    cli.main([*main, str(data), "--seed", "1"])
    assert capsys.readouterr().out != expected


def test_signals_keep_the_order_of_labels_of_a_model_that_has_them(model, data, capsys, tmp_path):
    # Somebody's fine-tuned model numbers its classes as it likes; the file only names them.
    names, tokenizer = ["class 0", "class 1", "class 2"], load_tokenizer(model)
    tuned = load_model(model, label_names=names)
    for order, folder in (([0, 1, 2], tmp_path / "sorted"), ([2, 0, 1], tmp_path / "own")):
        tuned.config.id2label = {i: names[k] for i, k in enumerate(order)}
        tuned.config.label2id = {names[k]: i for i, k in enumerate(order)}
        with torch.no_grad():
            head = load_model(model, label_names=names).classifier
            tuned.classifier.weight.copy_(head.weight[order])
            tuned.classifier.bias.copy_(head.bias[order])
        tuned.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        cli.main(["signals", "--model", str(folder), "--data", str(data)])
    # The same model but for the numbers of its classes: their sums round otherwise.
    one, other = (
        pd.read_csv(io.StringIO("layer,inhibition" + part))
        for part in capsys.readouterr().out.split("layer,inhibition")[1:]
    )
    pd.testing.assert_frame_equal(one, other, rtol=1e-3)


def test_signals_settle_labels_as_compress_does(model, data, refused, capsys, tmp_path):
    tuned = load_model(model, label_names=["bad", "fair", "good"])
    tuned.save_pretrained(tmp_path / "tuned")
    load_tokenizer(model).save_pretrained(tmp_path / "tuned")
    signals = ["signals", "--model", tmp_path / "tuned", "--data", data]
    assert "the model's classes are 'bad', 'fair', 'good'" in refused(*signals)
    assert "class 0, class 0: name each once" in refused(*signals, "--labels", "class 0,class 0")
    frame = pd.read_csv(data)
    frame[frame["label"] != "class 1"].to_csv(data)  # not all of the model's classes
    for options in (["--labels", "class 0,class 1,class 2"], ["--new-head", "--seed", 2**64]):
        assert cli.main([str(argument) for argument in (*signals, *options)]) == 0
    assert len(set(capsys.readouterr().out.splitlines())) == 7


def test_signals_of_a_tokenizer_that_pads_with_nothing(model, data, capsys, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    tokenizer = load_tokenizer(model)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "model")
    for folder in (model, tmp_path / "model"):
        assert cli.main(["signals", "--model", str(folder), "--data", str(data)]) == 0
    first, second = capsys.readouterr().out.split("layer,")[1:]
    assert first == second


def test_signals_of_a_large_file_are_those_of_a_probe(model, data, monkeypatch):
    texts, labels = tiny.sentences(1200, 3, seed=6)
    texts = [f"{text} {number}" for number, text in enumerate(texts)]
    pd.DataFrame({"text": texts, "label": labels}).to_csv(data)
    read = []

    def extract(_, probe):
        read.append(probe)
        return pd.DataFrame()

    monkeypatch.setattr("sfusion.signals.extraction.extract_signals", extract)
    assert cli.main(["signals", "--model", str(model), "--data", str(data)]) == 0
    assert sorted(read[0].labels.bincount().tolist()) == [42, 43, 43]


def test_signals_of_bad_input_are_one_line(refused, model, data, tmp_path):
    signals = ["signals", "--model", model, "--data"]
    assert "nothing.csv" in refused(*signals, tmp_path / "nothing.csv")
    assert "'words'" in refused(*signals, data, "--text-column", "words")
    (tmp_path / "data.txt").write_text("text")
    assert "data.txt" in refused(*signals, tmp_path / "data.txt")
    (tmp_path / "empty.csv").write_text("")
    assert "empty.csv" in refused(*signals, tmp_path / "empty.csv")
    pd.read_csv(data).assign(label="all alike").to_csv(tmp_path / "one.csv")
    assert "one.csv" in refused(*signals, tmp_path / "one.csv")
    assert "'no-such-model'" in refused("signals", "--model", "no-such-model", "--data", data)


@pytest.mark.parametrize("tokens", [1, 33])
def test_more_tokens_than_the_model_has_positions_are_one_line(tokens, refused, model, data):
    # The tiny model has 32 positions; its tokenizer, as many do, does not say so.
    line = refused("signals", "--model", model, "--data", data, "--max-length", tokens)
    assert str(tokens) in line


def test_positions_that_a_model_spares_are_no_tokens(refused, model, data, tmp_path):
    config = RobertaConfig(
        vocab_size=45, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=16, pad_token_id=0,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(tmp_path / "model")
    load_tokenizer(model).save_pretrained(tmp_path / "model")
    signals = ["signals", "--model", tmp_path / "model", "--data", data, "--max-length", 16]
    assert "max_length 16: the model takes 3 to 14 tokens" in refused(*signals)


def _committed(folder, profile, change=0.0):
    results = tiny.make_results(lambda *_: (0.5, 0.5 + change))
    results.save(folder / profile)
    return results


def test_compare_of_equal_results_agrees(mine, capsys, tmp_path):
    _committed(tmp_path / "results", "mine")
    _committed(tmp_path / "build" / "mine", "results")
    assert cli.main(["compare", "--profile", str(mine)]) == 0
    assert "agrees" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "build" / "mine" / "comparison.csv")
    assert table["passed"].all()


def test_compare_of_a_difference_exits_1_and_shows_it(mine, capsys, tmp_path):
    _committed(tmp_path / "results", "mine")
    _committed(tmp_path / "build" / "mine", "results", change=0.1)
    assert cli.main(["compare", "--profile", str(mine)]) == 1
    out = capsys.readouterr().out
    assert "DIFFERS" in out and "same numbers" in out
    table = pd.read_csv(tmp_path / "build" / "mine" / "comparison.csv")
    assert not table["passed"].all()


def test_compare_without_committed_results_says_so(mine, capsys, tmp_path):
    _committed(tmp_path / "build" / "mine", "results")
    assert cli.main(["compare", "--profile", str(mine)]) == 0
    assert "nothing to compare with" in capsys.readouterr().out


def test_compare_with_damaged_results_is_one_line(mine, refused, tmp_path):
    _committed(tmp_path / "results", "mine")
    _committed(tmp_path / "build" / "mine", "results")
    (tmp_path / "results" / "mine" / "nodes.parquet").write_bytes(b"torn")
    assert "damaged" in refused("compare", "--profile", mine)


def test_reproduce_computes_keeps_draws_and_compares(mine, executed, capsys, tmp_path):
    main = ["reproduce", "--profile", str(mine)]
    assert cli.main([*main, "--accept"]) == 0
    assert [call[0] for call in executed] == list(artefacts.NOTEBOOKS)
    built = load_results(tmp_path / "build" / "mine" / "results")
    accepted = load_results(tmp_path / "results" / "mine")
    pd.testing.assert_frame_equal(built.nodes, accepted.nodes)
    assert "the reproduction agrees" in capsys.readouterr().out
    # Again: all is there, and nothing differs.
    assert cli.main(main) == 0
    assert (tmp_path / "build" / "mine" / "comparison.csv").is_file()


def test_notebooks_of_ones_own_profile_find_it_from_their_folder(mine, executed, monkeypatch, tmp_path):
    _committed(tmp_path / "results", "mine")
    monkeypatch.chdir(mine.parent)
    assert cli.main(["replay", "--profile", "mine.yaml"]) == 0
    monkeypatch.chdir(ROOT / "notebooks")
    for _, profile, _, folder, figures, tables in executed:
        assert load_profile(profile).name == "mine"
        assert all(path.is_relative_to(tmp_path / "build") for path in (folder, figures, tables))


def test_replay_of_the_shown_profile_draws_what_is_committed(executed, tmp_path):
    _committed(tmp_path / "results", artefacts.SHOWN)
    assert cli.main(["replay"]) == 0
    for _, profile, mode, _, figures, tables in executed:
        assert (profile, mode) == (artefacts.SHOWN, "replay")
        assert figures == ROOT / "figures"
        assert tables == tmp_path / "results" / artefacts.SHOWN / "tables"


def test_stopping_says_how_to_go_on(mine, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sfusion.study.run_study", stop)
    assert cli.main(["reproduce", "--profile", str(mine)]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(["--help"])
    assert error.value.code == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("reproduce", "replay", "compare", "signals"))


def test_from_outside_an_error_is_one_line_without_a_traceback(tmp_path):
    done, _ = _python("reproduce", "--profile", "embeded", SFUSION_BUILD=str(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: profile 'embeded'")
    assert done.stdout == ""


def test_nine_without_network_and_folder_fails_at_once(tmp_path):
    _, start = _python("--help")
    done, seconds = _python(
        "reproduce", "--profile", "nine", SFUSION_BUILD=str(tmp_path), SFUSION_DATA=None,
        HF_HUB_OFFLINE="1",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert "SFUSION_DATA" in done.stderr
    assert not list(tmp_path.iterdir())
    # Beyond what it takes to start: importing torch, once, and no waiting for a network.
    assert seconds < 2 * start + 20


@pytest.mark.slow
def test_a_notebook_that_fails_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(artefacts, "ROOT", tmp_path)
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_code_cell("PROFILE = 0", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell("raise ValueError('first line\\nsecond line')"),
        ],
        metadata={"kernelspec": {"name": "python3", "language": "python", "display_name": "3"}},
    )
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "bad.ipynb")
    with pytest.raises(SfusionError) as error:
        artefacts.execute("bad", "smoke", "replay", tmp_path / "out", tmp_path, tmp_path)
    message = tiny.one_line(error)
    assert "bad" in message and "first line" in message


RUN = """
import sys
from sfusion import cli
cli._notebooks = lambda *_: None  # the study alone
sys.exit(cli.main(sys.argv[1:]))
"""
# A file system of 150 kB, then with room, then read-only.
DISK = """
mount -t tmpfs -o size=150k none "$1" || exit 9
"$2" -c "$3" reproduce --profile "$4" >&2; echo full $? $(ls -A "$1")
mount -o remount,size=50m "$1"
"$2" -c "$3" reproduce --profile "$4" >&2; echo room $?
mount -o remount,ro "$1"
"$2" -c "$3" reproduce --profile "$4" >&2; echo read-only $?
"""


def _namespaces():
    """Tell whether a user may mount a file system that only the own children see."""
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _namespaces(), reason="the system lets no user mount a file system")
def test_a_full_disk_and_a_read_only_one_are_one_line_and_lose_nothing(mine, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SFUSION_BUILD": str(folder)}
    command = ["unshare", "-rm", "sh", "-c", DISK, "sh", folder, sys.executable, RUN, mine]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    # The second run finds room and finishes; that nothing is there to compare with is no error.
    assert done.stdout.splitlines() == ["full 2 mine", "room 0", "read-only 2"], done.stderr
    full, read_only = (line for line in done.stderr.splitlines() if line[:8] != "profile ")
    assert full.startswith("error: cannot write") and os.strerror(errno.ENOSPC) in full
    assert read_only.startswith("error: cannot write") and os.strerror(errno.EROFS) in read_only


def test_a_notebook_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    folders = [tmp_path / "file" / name for name in ("notebooks", "figures", "tables")]
    with pytest.raises(SfusionError) as error:
        artefacts.execute("00_start_here", "embedded", "replay", *folders)
    assert str(folders[0]) in tiny.one_line(error)
