"""The command line: what it writes, and that bad input is one line and exit code 2."""

import errno
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import time
from unittest.mock import Mock

import nbformat
import pandas as pd
import pytest
import tiny
import torch
import yaml

from sfusion import SIGNALS, cli, errors, load_model, load_profile, load_results
from sfusion import notebooks as registry
from sfusion.compression import compress
from sfusion.data.tokenizers import load_tokenizer
from sfusion.experiments import profiles
from sfusion.experiments import results as results_module
from sfusion.experiments.profiles import ROOT

COMMANDS = ["reproduce", "replay", "compare", "signals", "compress"]


@pytest.fixture(autouse=True)
def folders(tiny_data, tmp_path, monkeypatch):
    """Keep what commands write and read away from the project's own folders."""
    for module in (cli, registry, results_module):
        monkeypatch.setattr(module, "BUILD", tmp_path / "build")
        monkeypatch.setattr(module, "COMMITTED", tmp_path / "results")
    monkeypatch.setenv("CI", "1")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny.write_model(tmp_path_factory.mktemp("cli") / "model", layers=3)


@pytest.fixture
def mine(model, tmp_path):
    """The YAML file of a tiny profile."""
    profile = tiny.make_profile(model, tasks=("agnews",), random_orders=1)
    (tmp_path / "mine.yaml").write_text(
        yaml.safe_dump(profile.model_dump(mode="json", exclude={"name"}))
    )
    return tmp_path / "mine.yaml"


@pytest.fixture
def executed(monkeypatch):
    """Note the notebooks instead of running them."""
    calls = []
    monkeypatch.setattr(registry, "execute", lambda *call: calls.append(call))
    return calls


def _main(*arguments):
    return cli.main([str(argument) for argument in arguments])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("", "Missing command"),
        ("reproduced", "'reproduced'"),
        ("reproduce --profile x y", "unexpected extra argument(s) (y)"),
        ("reproduce --profil x", "--profile"),
        ("reproduce --profile", "requires an argument"),
        ("replay --accept", "--accept"),
        ("compare a b", "--data FILE"),
        ("compare --data test.csv", "name two or more"),
        ("compare a b --data test.csv --profile smoke", "not both"),
        ("compare a --data test.csv", "give two or more, each once"),
        ("compare a a --data test.csv", "give two or more, each once"),
        ("compare a b --data test.csv --threads 0", "threads 0"),
        ("signals --model minilm-l6", "'--data'"),
        ("signals --model m --data d --max-length many", "'--max-length'"),
        ("compress --model m --train t --out o --strategy best", "'best'"),
        *(
            (f"{command} --profile embeded", "'embeded'")
            for command in ("reproduce", "replay", "compare")
        ),
    ],
)
def test_bad_arguments_are_one_line(arguments, words, refused):
    assert words in refused(*arguments.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_what_every_option_is_and_ends_with_an_example(command, capsys):
    assert _main(command, "--help") == 0
    printed = capsys.readouterr().out
    assert f"sfusion {command} --" in printed.partition("Example:")[2]
    for option in inspect.signature(getattr(cli, command)).parameters:
        if option == "models":  # these stand without a name
            continue
        line = rf"^  --{option.replace('_', '-')}\b.*\n? +[A-Z]"
        assert re.search(line, printed, re.MULTILINE), f"--{option} has no help"


def test_compress_has_the_options_of_the_function():
    options = inspect.signature(cli.compress).parameters
    function = inspect.signature(compress.compress).parameters
    assert set(options) == set(function) - {"quiet"}
    for name, option in options.items():
        assert option.default == function[name].default


def _run(*arguments, **options):
    """Run the command line in a process of its own."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_help_comes_without_torch_and_beside_a_folder_of_the_same_name(tmp_path):
    (tmp_path / "sfusion").mkdir()
    done = _run("-X", "importtime", "-m", "sfusion", "--help", cwd=tmp_path)
    assert "Usage: sfusion" in done.stdout
    assert not re.search(r"\| +(torch|transformers)$", done.stderr, re.MULTILINE)


def test_a_console_that_lacks_a_character_still_gets_the_line():
    strict = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = _run("-m", "sfusion", "compare", "--profile", "größer", env=strict)
    assert done.returncode == 2
    assert done.stderr.startswith("error: profile 'gr??er'")


@pytest.mark.parametrize("command", ["reproduce", "replay"])
def test_outside_a_checkout_a_study_is_refused_before_any_work(
    command, refused, executed, monkeypatch, tmp_path
):
    # An installed wheel must not execute the notebooks of the folder it is called in.
    monkeypatch.setattr(profiles, "CHECKOUT", False)
    assert f"{command} needs a checkout" in refused(command)
    assert executed == []
    assert not (tmp_path / "build").exists()


def test_a_missing_extra_is_named_before_any_work(refused, mine, monkeypatch, tmp_path):
    needed = ["papermill>=2; extra == 'notebooks'", 'absent>=1; extra == "notebooks"']
    monkeypatch.setattr(errors, "requires", lambda _: needed)
    assert "absent is not installed: pip install 'sfusion[notebooks]'" in refused(
        "reproduce", "--profile", mine
    )
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SFUSION_JOBS", "two", "SFUSION_JOBS='two'"),
        ("SFUSION_BACKEND", "spark", "SFUSION_BACKEND='spark'"),
        ("SFUSION_DATA", "nothing", "nothing/agnews/train.parquet"),
    ],
)
def test_a_bad_environment_is_one_line(
    name, value, words, refused, mine, monkeypatch, tmp_path
):
    monkeypatch.setenv(name, value)
    assert words in refused("reproduce", "--profile", mine)
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("command", ["replay", "compare"])
def test_missing_results_and_a_build_folder_that_cannot_be_written_are_one_line(
    command, refused, mine, tmp_path
):
    assert "`sfusion reproduce --accept`" in refused(command, "--profile", mine)
    (tmp_path / "build").write_text("in the way")
    assert "cannot" in refused("reproduce", "--profile", mine)


@pytest.fixture
def data(tmp_path):
    """A labelled CSV file."""
    texts, labels = tiny.sentences(24, 3, seed=5)
    pd.DataFrame(
        {"text": texts, "label": [f"class {label}" for label in labels]}
    ).to_csv(tmp_path / "data.csv")
    return tmp_path / "data.csv"


@pytest.fixture
def signals(model, data, capsys):
    """Run the command on a model and a file, and return what it prints."""

    def signals(*options, model=model, data=data):
        assert _main("signals", "--model", model, "--data", data, *options) == 0
        captured = capsys.readouterr()
        assert captured.err.startswith("probe: ")
        return captured.out

    return signals


def _own_model(base, names, folder, order=(0, 1, 2)):
    """Save a classifier with names of its classes and an order of its head's rows."""
    tuned = load_model(base, label_names=names)
    with torch.no_grad():
        tuned.classifier.weight.copy_(tuned.classifier.weight[list(order)])
    for part in (tuned, load_tokenizer(base)):
        part.save_pretrained(folder)
    return folder


def test_signals_prints_a_row_a_layer(signals):
    table = pd.read_csv(io.StringIO(signals()))
    assert list(table) == ["layer", *SIGNALS]
    assert table["layer"].tolist() == [0, 1, 2]
    assert table.notna().all(axis=None)


def test_signals_takes_columns_by_name(signals, data):
    renamed = data.with_name("renamed.csv")
    pd.read_csv(data).rename(columns={"text": "words", "label": "kind"}).to_csv(renamed)
    expected = signals()
    assert (
        signals("--text-column", "words", "--label-column", "kind", data=renamed)
        == expected
    )
    assert signals("--seed", 1) != expected


def test_signals_keep_the_order_of_labels_of_a_model_that_has_them(
    model, signals, tmp_path
):
    # Somebody's fine-tuned model numbers its classes as it likes; the file only names
    # them.
    tables = []
    for order in ([0, 1, 2], [2, 0, 1]):
        own = _own_model(
            model, [f"class {number}" for number in order], tmp_path / str(order), order
        )
        tables.append(pd.read_csv(io.StringIO(signals(model=own))))
    # The same model but for the numbers of its classes: their sums round otherwise.
    pd.testing.assert_frame_equal(*tables, rtol=1e-3)


def test_signals_settle_labels_as_compress_does(
    model, data, refused, signals, tmp_path
):
    own = _own_model(model, ["bad", "fair", "good"], tmp_path / "own")
    arguments = ["signals", "--model", own, "--data", data]
    assert "the model's classes are 'bad', 'fair', 'good'" in refused(*arguments)
    assert "class 0, class 0: name each once" in refused(
        *arguments, "--labels", "class 0,class 0"
    )
    frame = pd.read_csv(data)
    frame[frame["label"] != "class 1"].to_csv(data)  # not all of the model's classes
    printed = signals("--labels", "class 0,class 1,class 2", model=own)
    printed += signals("--new-head", "--seed", 2**64, model=own)
    assert len(set(printed.splitlines())) == 7


def test_signals_of_a_tokenizer_that_pads_with_nothing(model, signals, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    tokenizer = load_tokenizer(model)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path / "model")
    assert signals(model=tmp_path / "model") == signals()


def test_signals_of_a_large_file_are_those_of_a_probe(signals, data, monkeypatch):
    pd.DataFrame(
        {"text": [f"river {i}" for i in range(1200)], "label": [0, 1, 2] * 400}
    ).to_csv(data)
    counted = "sfusion.compression.probing.extract_signals"
    monkeypatch.setattr(
        counted, lambda _, probe: pd.DataFrame({"count": probe.labels.bincount()})
    )
    assert sorted(pd.read_csv(io.StringIO(signals()))["count"]) == [42, 43, 43]


def test_signals_of_bad_input_are_one_line(refused, model, data):
    signals = ["signals", "--model", model, "--data", data]
    assert "no column 'words'" in refused(*signals, "--text-column", "words")
    # The tiny model has 32 positions; its tokenizer, as many do, does not say so.
    for tokens in (1, 33):
        assert f"max_length {tokens}: the model takes 3 to 32 tokens" in refused(
            *signals, "--max-length", tokens
        )
    pd.read_csv(data).assign(label="all alike").to_csv(data)
    assert "data.csv has 1 class" in refused(*signals)


def _committed(folder, change=0.0):
    tiny.make_results(lambda *_: (0.5, 0.5 + change)).save(folder)


@pytest.mark.parametrize(
    ("change", "code", "words"), [(0.0, 0, "agrees"), (0.1, 1, "DIFFERS")]
)
def test_compare_tells_whether_results_agree(
    change, code, words, mine, capsys, tmp_path
):
    _committed(tmp_path / "results" / "mine")
    _committed(tmp_path / "build" / "mine" / "results", change)
    assert _main("compare", "--profile", mine) == code
    printed = capsys.readouterr().out
    assert words in printed and "same numbers" in printed
    assert pd.read_csv(tmp_path / "build" / "mine" / "comparison.csv")[
        "passed"
    ].all() == (code == 0)


def test_compare_without_committed_results_says_so(mine, capsys, tmp_path):
    _committed(tmp_path / "build" / "mine" / "results")
    assert _main("compare", "--profile", mine) == 0
    assert "nothing to compare with" in capsys.readouterr().out


def test_reproduce_computes_keeps_draws_and_compares(mine, executed, capsys, tmp_path):
    assert _main("reproduce", "--profile", mine, "--accept") == 0
    names = [call[0] for call in executed]
    assert sorted(names) == registry.NOTEBOOKS
    assert names == registry.longest_first()
    built = load_results(tmp_path / "build" / "mine" / "results")
    accepted = load_results(tmp_path / "results" / "mine")
    pd.testing.assert_frame_equal(built.nodes, accepted.nodes)
    assert "accepted as results/mine" in capsys.readouterr().out
    # Again: all is there, and nothing differs.
    assert _main("reproduce", "--profile", mine) == 0
    assert "the reproduction agrees" in capsys.readouterr().out
    assert (tmp_path / "build" / "mine" / "comparison.csv").is_file()


def test_notebooks_of_ones_own_profile_find_it_from_their_folder(
    mine, executed, monkeypatch, tmp_path
):
    _committed(tmp_path / "results" / "mine")
    monkeypatch.chdir(mine.parent)
    assert cli.main(["replay", "--profile", "mine.yaml"]) == 0
    monkeypatch.chdir(ROOT / "notebooks")
    for _, profile, _, target in executed:
        assert load_profile(profile).name == "mine"
        for folder in (target.notebooks, target.figures, target.tables):
            assert folder.is_relative_to(tmp_path / "build")


def test_replay_of_the_shown_profile_draws_what_is_committed(executed, tmp_path):
    _committed(tmp_path / "results" / registry.SHOWN)
    assert cli.main(["replay"]) == 0
    for _, profile, mode, target in executed:
        assert (profile, mode) == (registry.SHOWN, "replay")
        assert target.figures == ROOT / "figures"
        assert target.tables == tmp_path / "results" / registry.SHOWN / "tables"


def test_stopping_says_how_to_go_on(mine, monkeypatch, capsys):
    monkeypatch.setattr(
        "sfusion.experiments.pruning_study.PruningStudy.run",
        Mock(side_effect=KeyboardInterrupt),
    )
    assert _main("reproduce", "--profile", mine) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_from_outside_an_error_is_one_line_and_comes_at_once_without_a_network(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("SFUSION_DATA")
    monkeypatch.setenv("SFUSION_BUILD", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    seconds = []
    for profile, words in (("embeded", "profile 'embeded'"), ("nine", "SFUSION_DATA")):
        start = time.monotonic()
        done = _run("-m", "sfusion", "reproduce", "--profile", profile, cwd=ROOT)
        seconds.append(time.monotonic() - start)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith("error: ") and words in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert not list(tmp_path.iterdir())
    # Beyond what it takes to start: importing torch, once, and no waiting for a
    # network.
    assert seconds[1] < 2 * seconds[0] + 20


def _everything_in(folder):
    return registry.Folders(folder, folder, folder)


def _execute_cells(folder, *sources):
    """Execute a notebook of these cells, whose name is bad."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "language": "python", "display_name": "3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    (folder / "notebooks").mkdir()
    nbformat.write(notebook, folder / "notebooks" / "bad.ipynb")
    registry.execute("bad", "smoke", "replay", _everything_in(folder / "out"))


@pytest.mark.slow
def test_a_notebook_that_fails_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    with tiny.refused("bad", "first line"):
        _execute_cells(tmp_path, "raise ValueError('first line\\nsecond line')")


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_a_kernel_is_heard_only_where_its_notebook_fails(
    fails, tmp_path, monkeypatch, capfd
):
    monkeypatch.setattr(registry, "ROOT", tmp_path)
    # As a kernel does that closes while a thread of it waits.
    cells = ["import os", "_ = os.write(2, b'Traceback of a kernel')"]
    if fails:
        with tiny.refused("bad", "no-such-name"):
            _execute_cells(tmp_path, *cells, "raise KeyError('no-such-name')")
    else:
        _execute_cells(tmp_path, *cells)
    assert ("Traceback of a kernel" in capfd.readouterr().err) == fails


RUN = """
import sys
from sfusion import cli, notebooks
notebooks.execute_all = lambda *_: None  # the study alone
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
    return (
        shutil.which("unshare")
        and subprocess.run(command, capture_output=True).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not _namespaces(), reason="the system lets no user mount a file system"
)
def test_a_full_disk_and_a_read_only_one_are_one_line_and_lose_nothing(mine, tmp_path):
    (folder := tmp_path / "disk").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SFUSION_BUILD": str(folder)}
    command = ["unshare", "-rm", "sh", "-c", DISK, "sh", folder, sys.executable]
    command += [RUN, mine]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    # The second run finds room and finishes; that nothing is there to compare with is
    # no error.
    assert done.stdout.splitlines() == ["full 2 mine", "room 0", "read-only 2"], (
        done.stderr
    )
    full, read_only = (
        line for line in done.stderr.splitlines() if line[:8] != "profile "
    )
    assert full.startswith("error: cannot write") and os.strerror(errno.ENOSPC) in full
    assert (
        read_only.startswith("error: cannot write")
        and os.strerror(errno.EROFS) in read_only
    )


def test_a_notebook_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with tiny.refused(str(tmp_path / "file")):
        target = _everything_in(tmp_path / "file" / "folder")
        registry.execute("00_start_here", "embedded", "replay", target)
