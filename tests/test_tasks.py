"""Tasks: sources, splits, refusals."""

import functools
import subprocess
import sys
import time
from collections import Counter
from itertools import compress
from unittest import mock

import datasets
import huggingface_hub
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from sfusion.data import corpora, pools, tasks
from sfusion.data.encoding import READ_AHEAD, encode
from sfusion.data.hub import resolve_revision
from sfusion.data.pools import TEXT_LIMIT, TaskSpec
from sfusion.data.sources import read_pool
from sfusion.data.splits import (
    SPLITS,
    allocate,
    count_classes,
    draw,
    hold_out,
)
from sfusion.data.tokenizers import load_tokenizer

FAST = settings(deadline=None, max_examples=60)
COLOURS = ("red", "green", "blue")
COUNTS = {"train": 60, "validation": 12, "test": 24}
# What `datasets` writes into a file whose labels are numbers of the colours.
DECLARED = datasets.Features(
    {"label": datasets.ClassLabel(names=COLOURS)}
).arrow_schema.metadata


@pytest.fixture(autouse=True)
def _no_folder(monkeypatch):
    monkeypatch.delenv("SFUSION_DATA", raising=False)
    read_pool.cache_clear()
    resolve_revision.cache_clear()


def _texts(split, count):
    labels = [number % 3 for number in range(count)]
    texts = [
        f"The {COLOURS[label]} boat number {split}{i} sails"
        for i, label in enumerate(labels)
    ]
    return {"text": texts, "label": labels}


def _write(folder, split, columns, metadata=DECLARED):
    pq.write_table(
        pa.table(columns).replace_schema_metadata(metadata),
        folder / "boats" / f"{split}.parquet",
    )


@pytest.fixture
def folder(tmp_path):
    """A data folder with a task of 3 classes: 60, 12 and 24 texts."""
    (tmp_path / "boats").mkdir()
    for split, count in COUNTS.items():
        _write(tmp_path, split, _texts(split, count))
    return tmp_path


def _load(folder, **arguments):
    return tasks.load_task("boats", source="folder", folder=folder, **arguments)


def _sizes(task):
    return [len(task.train), len(task.validation), len(task.test)]


def _labels(task, split):
    return [task.label_names[number] for number in getattr(task, split).labels]


def _pooled(task):
    return set(task.texts["train"] + task.texts["validation"])


def _refuses(message, function, *arguments, **keywords):
    with tiny.refused(match=message):
        function(*arguments, **keywords)


def _fails(message, name, **arguments):
    _refuses(message, tasks.load_task, name, **arguments)


def test_registry_holds_the_embedded_and_the_nine():
    assert sorted(tasks.TASKS) == sorted([*corpora.CORPORA, *tiny.NINE])


# --- embedded tasks
# --------------------------------------------------------------------------


@pytest.mark.parametrize("name", corpora.CORPORA)
def test_embedded_task_is_large_enough_and_no_object_is_in_two_splits(name):
    task = tasks.load_task(name, sizes=(1600, 500, 600))
    frame = corpora.build(name).set_index("text")
    assert _sizes(task) == [1600, 500, 600]
    assert task.source == f"embedded: {corpora.versions(name)}"
    assert task.label_names == corpora.CORPORA[name].label_names
    for split, texts in task.texts.items():
        assert _labels(task, split) == frame.loc[texts, "label"].tolist()
        assert set(_labels(task, split)) == set(task.label_names)
    train, validation, test = (
        set(frame.loc[task.texts[split], "source"]) for split in SPLITS
    )
    assert not train & validation
    assert not (train | validation) & test


def test_seed_changes_train_and_validation_but_not_test():
    first, second = (
        tasks.load_task("subject", seed=seed, sizes=(200, 80, 90)) for seed in (0, 1)
    )
    assert first.fingerprint == second.fingerprint
    for split in ("train", "validation"):
        assert set(first.texts[split]) != set(second.texts[split])
    common = set(first.texts["train"]) & set(second.texts["train"])
    orders = [
        [text for text in task.texts["train"] if text in common]
        for task in (first, second)
    ]
    assert len(common) > 2 and orders[0] != orders[1]
    # Nor do the other sizes change it.
    large = tasks.load_task("subject", sizes=(900, 400, 90))
    assert first.texts["test"] == second.texts["test"] == large.texts["test"]


def test_another_process_builds_and_draws_the_same(monkeypatch, tmp_path):
    call = "load_task('input-or-output', seed=3, sizes=(50, 20, 30))"
    code = f"from sfusion import load_task; task = {call}; "
    code += "print(ascii([task.fingerprint, task.texts]))"
    with (
        monkeypatch.context() as patch
    ):  # without the cache, and with other hashes than this process
        patch.setenv("SFUSION_CACHE", str(tmp_path))
        patch.setenv("PYTHONHASHSEED", "7")
        printed = subprocess.check_output([sys.executable, "-c", code], text=True)
    task = tasks.load_task("input-or-output", seed=3, sizes=(50, 20, 30))
    assert printed == f"{[task.fingerprint, task.texts]!a}\n"


@pytest.mark.parametrize("given_as", [str, load_tokenizer])
def test_encoding_by_a_named_or_a_given_tokenizer(given_as):
    task = tasks.load_task(
        "input-or-output",
        sizes=(30, 10, 20),
        max_length=16,
        tokenizer=given_as("minilm-l6"),
    )
    tokenizer = load_tokenizer("minilm-l6")
    for split in SPLITS:
        part = getattr(task, split)
        texts = task.texts[split]
        assert (
            part.input_ids.dtype
            == part.attention_mask.dtype
            == part.labels.dtype
            == torch.long
        )
        for ids, real, text in zip(
            part.input_ids, part.attention_mask, texts, strict=True
        ):
            whole = tokenizer(text)["input_ids"]
            length = min(len(whole), 16)
            padding = [tokenizer.pad_token_id] * (16 - length)
            assert ids.tolist() == [
                *whole[: length - 1],
                tokenizer.sep_token_id,
                *padding,
            ]
            assert real.tolist() == [1] * length + [0] * (16 - length)


def _byte_level(words):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def _sentence_pieces(words):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, unk_token="<unk>")
    tokenizer.train_from_iterator(words, trainer)
    return tokenizer


def _unsplit(words):
    tokenizer = _sentence_pieces(words)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    return tokenizer


@functools.cache
def _tokenizers():
    words = [" ".join(tiny.FILLER), *tiny.THEMES]
    made = [make(words) for make in (_byte_level, _sentence_pieces, _unsplit)]
    readers = [
        PreTrainedTokenizerFast(tokenizer_object=one, pad_token="<pad>") for one in made
    ]
    for side in ("right", "left"):
        readers.append(load_tokenizer("minilm-l6"))
        readers[-1].truncation_side = side
    return readers


PIECES = [*tiny.FILLER, "unbelievably", "[MASK]", "don't", "naïve", "e\u0301", "漢字"]
GAPS = [" ", " ", " ", "  ", "\n", "\u00a0", "\u200b", "-", ""]


@FAST
@given(
    st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(GAPS)), max_size=60),
    st.integers(4, 12),
    st.integers(0, 4),
)
def test_the_start_of_a_text_gives_the_tokens_of_the_whole(pieces, length, which):
    tokenizer = _tokenizers()[which]
    text = "".join(piece + gap for piece, gap in pieces)
    whole = tokenizer([text], truncation=True, max_length=length)["input_ids"][0]
    part = encode([text], [0], tokenizer, length)
    assert part.input_ids[0][part.attention_mask[0] == 1].tolist() == whole


def test_of_a_long_text_only_the_start_is_read():
    reader = mock.Mock(wraps=load_tokenizer("minilm-l6"), is_fast=True)
    reader.configure_mock(truncation_side="right")
    texts = ["a word " * 500, "x" * 3500, "short"]
    encode(texts, [0, 0, 0], reader, 32)
    read = [call.args[0] for call in reader.call_args_list]
    assert [len(text) for text in read[0]] == [READ_AHEAD * 32] * 2 + [5]
    assert read[1:] == [[texts[1]]]


def test_rows_are_taken_together_and_trim_cuts_shared_padding_off_and_nothing_else():
    part = tasks.load_task("input-or-output", sizes=(30, 10, 20), max_length=64).train
    lengths = part.attention_mask.sum(1)
    rows = lengths.argsort()[[2, 0, 2]].tolist()
    width = int(lengths[rows].max())
    assert 3 < width < 64
    taken = part.take(rows)
    for field in ("input_ids", "attention_mask", "labels"):
        assert torch.equal(getattr(taken, field), getattr(part, field)[rows])
        # The 3 labels are fewer than the columns.
        assert torch.equal(
            getattr(taken.trim(), field), getattr(taken, field)[..., :width]
        )
    # Padding in front stays: positions would move.
    front = tasks.Encoded(
        taken.input_ids.flip(1), taken.attention_mask.flip(1), taken.labels
    )
    assert front.trim().input_ids.shape == (3, 64)


# --- splitting
# -------------------------------------------------------------------------------

ITEMS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 15)), min_size=1, max_size=80
)


@FAST
@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 40), min_size=1),
    st.integers(0, 200),
)
def test_allocate_sums_up_in_proportion(counts, n):
    places = allocate(counts, n)
    total = sum(counts.values())
    assert sum(places.values()) == min(n, total)
    assert all(0 <= places[label] <= count for label, count in counts.items())
    if n >= len(counts):
        assert min(places.values()) >= 1
    if n <= total:
        for label, count in counts.items():
            assert (
                abs(places[label] - n * count / total) < 2 + len(counts) * count / total
            )


@FAST
@given(ITEMS, st.floats(0.0, 0.9), st.integers(0, 5))
def test_hold_out_keeps_groups_whole_and_classes_covered(items, share, seed):
    # A group has one class here, as an object has one module.
    labels = [label for label, _ in items]
    groups = [f"{label}{group}" for label, group in items]
    held = hold_out(labels, groups, share, f"validation {seed}")
    assert held.shape == (len(items),)
    assert len(set(zip(groups, held, strict=True))) == len(set(groups))
    taken = Counter(compress(labels, held))
    for label, count in Counter(labels).items():
        largest = max(
            size for group, size in Counter(groups).items() if group[0] == label
        )
        assert taken[label] < count
        assert taken[label] <= share * count + 2 + largest / 2


@FAST
@given(ITEMS, st.floats(0.0, 1.0))
def test_single_items_are_held_out_and_drawn_exactly_in_proportion(items, share):
    labels = [label for label, _ in items]
    n = round(share * len(items))
    quota = allocate(count_classes(labels), n)
    held = hold_out(labels, range(len(items)), share, "salt")
    spared = {
        label: min(places, labels.count(label) - 1) for label, places in quota.items()
    }
    assert Counter(compress(labels, held)) == Counter(spared)
    drawn = draw(labels, range(len(items)), n, "salt")
    assert len(set(drawn)) == len(drawn)
    assert Counter(labels[i] for i in drawn) == Counter(quota)


@FAST
@given(ITEMS, st.integers(1, 20), st.randoms(use_true_random=False))
def test_what_is_held_out_or_drawn_does_not_depend_on_the_order(items, n, random):
    def chosen(rows):
        labels, groups, numbers = zip(*rows, strict=True)
        held = set(compress(groups, hold_out(labels, groups, 0.3, "salt")))
        return held, [rows[i] for i in draw(labels, numbers, n, "salt")]

    rows = [(*item, number) for number, item in enumerate(items)]
    assert chosen(rows) == chosen(random.sample(rows, len(rows)))


# --- folders
# ---------------------------------------------------------------------------------


def test_folder_task_pools_train_and_validation_and_splits_them_again(folder):
    task = _load(folder)
    assert task.label_names == ("red", "green", "blue")  # as the file declares them
    assert _sizes(task) == [60, 12, 24]
    assert task.source == "folder"
    for split, texts in task.texts.items():
        assert [text.split()[1] for text in texts] == _labels(task, split)
    assert _pooled(task) == {
        *_texts("train", 60)["text"],
        *_texts("validation", 12)["text"],
    }
    assert not set(_texts("validation", 12)["text"]) >= set(task.texts["validation"])
    assert torch.bincount(task.validation.labels).tolist() == [4, 4, 4]


def test_sizes_hold_as_far_as_there_are_texts_and_a_validation_file_may_be_missing(
    folder,
):
    assert _sizes(_load(folder, sizes=(30, 9, 6))) == [30, 9, 6]
    assert _sizes(_load(folder, sizes=(None, None, 6))) == [60, 12, 6]
    assert _sizes(_load(folder, sizes=(60, 12, 24))) == [60, 12, 24]
    assert _sizes(_load(folder, sizes=(900, 300, 400))) == [54, 18, 24]
    assert (
        torch.bincount(_load(folder, sizes=(30, 9, 6)).train.labels).tolist()
        == [10] * 3
    )
    (folder / "boats" / "validation.parquet").unlink()
    assert _sizes(_load(folder)) == [48, 12, 24]


def test_repeats_test_texts_and_the_order_of_the_rows_change_nothing(folder):
    before = _load(folder, sizes=(30, 9, 10)).texts
    train = _texts("train", 60)
    test = _texts("test", 24)
    more = {key: train[key] + train[key][:5] + test[key][:7] for key in train}
    for split, columns in (
        ("train", more),
        ("validation", _texts("validation", 12)),
        ("test", test),
    ):
        _write(folder, split, {key: values[::-1] for key, values in columns.items()})
    assert _load(folder, sizes=(30, 9, 10)).texts == before
    task = _load(folder)
    assert len(task.train) + len(task.validation) == len(_pooled(task)) == 72


def test_fingerprint_covers_every_split_but_no_sampling(folder):
    prints = [
        _load(folder, sizes=sizes, seed=3).fingerprint
        for sizes in ((None,) * 3, (30, 9, 6))
    ]
    for split, count in COUNTS.items():
        columns = _texts(split, count)
        columns["text"][3] += " home"
        _write(folder, split, columns)
        prints.append(_load(folder).fingerprint)
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [(COLOURS, ("blue", "green", "red")), ((10, 9, 2), ("2", "9", "10"))],
)
def test_labels_without_declared_names_are_sorted_numbers_by_value(
    folder, labels, ordered
):
    for split in SPLITS:
        columns = _texts(split, 24)
        _write(
            folder,
            split,
            {**columns, "label": [labels[number] for number in columns["label"]]},
            metadata=None,
        )
    task = _load(folder)
    assert task.label_names == ordered
    colours = [text.split()[1] for text in task.texts["test"]]
    assert _labels(task, "test") == [
        str(labels[COLOURS.index(colour)]) for colour in colours
    ]


def test_rows_without_text_or_label_go(folder):
    columns = {
        "text": [None, "", "  ", "a", "b", "c"],
        "label": ["red", "red", "red", None, "red", "blue"],
    }
    _write(folder, "train", columns, metadata=None)
    assert _pooled(_load(folder)) == {"b", "c", *_texts("validation", 12)["text"]}


def test_long_texts_and_many_rows_are_cut(folder, monkeypatch):
    columns = _texts("train", 60)
    _write(
        folder,
        "train",
        {**columns, "text": [text + " far" * 5000 for text in columns["text"]]},
    )
    assert max(len(text) for text in _load(folder).texts["train"]) == TEXT_LIMIT
    read_pool.cache_clear()
    monkeypatch.setattr(pools, "ROW_LIMIT", 40)
    first = _load(folder, seed=0)
    second = _load(folder, seed=1)
    assert len(first.train) + len(first.validation) == 40 + 12
    assert _pooled(first) == _pooled(second)


def test_folder_comes_from_the_environment(folder, monkeypatch):
    (folder / "boats").rename(folder / "imdb")
    monkeypatch.setenv("SFUSION_DATA", str(folder))
    assert tasks.load_task("imdb").source == "folder"
    assert tasks.load_task("input-or-output", sizes=(9, 9, 9)).source.startswith(
        "embedded"
    )


def test_files_are_read_once_until_they_change(folder, monkeypatch):
    before = _load(folder).fingerprint
    monkeypatch.setattr(pq, "read_table", mock.Mock(side_effect=pq.read_table))
    assert _load(folder, seed=5).fingerprint == before
    assert pq.read_table.call_count == 0
    _write(folder, "test", _texts("other", 24))
    assert _load(folder).fingerprint != before
    assert pq.read_table.call_count == 3


# --- the Hub, on local copies of the same shape
# -----------------------------------------------

CLASSES = dict(zip(tiny.NINE, (20, 14, 11, 9, 10, 5, 4, 2, 2), strict=True))
# The columns of the text, where there are several.
COLUMNS = {"dbpedia": ("title", "content"), "amazon": ("title", "content")}
COLUMNS["yahoo"] = ("question_title", "question_content", "best_answer")
CONVERTED = {"arxiv": "no_ref", "patent": "abstract"}
SHA = "0123456789abcdef0123456789abcdef01234567"


def _hub_split(name, split):
    """Columns of a Hub set, named as its card says, with invented texts."""
    names = [f"{name} class {number:02d}" for number in range(CLASSES[name])]
    labels = list(range(len(names))) * 4
    lines = [f"{split} line {i} on {names[label]}" for i, label in enumerate(labels)]
    *before, text = COLUMNS.get(name, ("text",))
    label = "topic" if name == "yahoo" else "label"
    columns = {
        text: lines,
        label: labels,
        "label_text": [names[number] for number in labels],
    }
    data = datasets.Dataset.from_pandas(
        pd.DataFrame({**dict(zip(before, ("Title", ""), strict=False)), **columns})
    )
    # The numbers of newsgroup have no names.
    return (
        data
        if name == "newsgroup"
        else data.cast_column(label, datasets.ClassLabel(names=names))
    )


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that holds the nine, as Parquet files in the layout that each has."""
    load = datasets.load_dataset
    info = mock.Mock(return_value=mock.Mock(sha=SHA))

    def load_local(repo, data_files=None, revision=None):
        assert revision == SHA
        (name,) = (name for name, spec in tasks.TASKS.items() if spec.repo == repo)
        more = {
            "arxiv": ["validation"],
            "patent": ["validation"],
            "imdb": ["unsupervised"],
        }
        for split in ("train", "test", *more.get(name, ())):
            file = f"data/{split}-00000-of-00001.parquet"
            if (
                name in CONVERTED
            ):  # the Hub's own conversion has a folder a configuration and a split
                file = f"{CONVERTED[name]}/{split}/0000.parquet"
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            _hub_split(name, split).to_parquet(path)
        return load(
            str(tmp_path / name),
            data_files=data_files,
            cache_dir=str(tmp_path / "cache"),
        )

    monkeypatch.setattr(huggingface_hub, "dataset_info", info)
    monkeypatch.setattr(datasets, "load_dataset", load_local)
    return info


@pytest.mark.parametrize("name", tiny.NINE)
def test_hub_task(hub, name):
    task = tasks.load_task(name)
    repo = tasks.TASKS[name].repo
    assert task.source == f"hub: {repo}@{SHA}"
    read_pool.cache_clear()
    assert tasks.load_task(name).texts == task.texts
    # Asked once a process. Sets that are made with a script are read from the Hub's
    # conversion.
    revision = "refs/convert/parquet" if name in CONVERTED else None
    hub.assert_called_once_with(repo, revision=revision, timeout=5)
    assert task.label_names == tuple(
        f"{name} class {number:02d}" for number in range(CLASSES[name])
    )
    assert len(_pooled(task)) == (2 if name in CONVERTED else 1) * 4 * CLASSES[name]
    assert len(task.test) == 4 * CLASSES[name]
    start = {"dbpedia": "Title ", "amazon": "Title ", "yahoo": "Title  "}.get(name, "")
    for split, texts in task.texts.items():
        assert _labels(task, split) == [text.partition(" on ")[2] for text in texts]
        assert {text.partition(" line ")[0] for text in texts} <= {
            start + part for part in SPLITS
        }


def test_hub_column_that_has_gone(hub, monkeypatch):
    monkeypatch.setitem(
        tasks.TASKS, "agnews", TaskSpec("agnews", "fancyzhx/ag_news", ("headline",))
    )
    _fails(f"fancyzhx/ag_news@{SHA} has no column 'headline': it has label", "agnews")


@pytest.mark.parametrize("offline", [True, False])
def test_offline_fails_at_once_and_names_the_folder_form(monkeypatch, offline):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    # Nothing listens on the discard port.
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", "http://127.0.0.1:9")
    start = time.monotonic()
    form = r"set SFUSION_DATA to a folder that holds "
    form += r"imdb/\{train,validation,test\}.parquet"
    _fails(f"task 'imdb': stanfordnlp/imdb cannot .* {form}", "imdb")
    assert time.monotonic() - start < 10


# --- inputs that are turned down
# --------------------------------------------------------------


def test_bad_arguments():
    _fails("unknown task 'nope': choose one of input-or-output, .*amazon", "nope")
    _fails("unknown source 'web': choose one of auto,", "imdb", source="web")
    _fails("task 'imdb' has no embedded source", "imdb", source="embedded")
    _fails("task 'subject' has no hub source", "subject", source="hub")
    _fails("task 'imdb' from a folder: set SFUSION_DATA", "imdb", source="folder")
    _fails("no file .*missing.imdb.train.parquet", "imdb", folder="missing")
    _fails(r"sizes \(1, 2\): give 3 positive", "subject", sizes=(1, 2))
    _fails(r"sizes \(0, 9, 9\): give 3 positive", "subject", sizes=(0, 9, 9))
    _fails("max_length 2: give 3 to 512 tokens", "subject", max_length=2)
    _fails("max_length 513: give 3 to 512 tokens", "subject", max_length=513)


@pytest.mark.parametrize(
    ("message", "files"),
    [
        (
            "train.parquet has no column 'text': it has .*other",
            {"train": {"other": ["a"], "label": [0]}},
        ),
        (
            "train.parquet has no column 'label': it has .*other",
            {"train": {"text": ["a"], "other": [0]}},
        ),
        (
            "train.parquet has label 3: there are 3 label names",
            {"train": {"text": ["a"], "label": [3]}},
        ),
        *(
            (f"the {split} split is empty", {split: {"text": [], "label": []}})
            for split in COUNTS
        ),
        (
            "the train split has 1 class",
            dict.fromkeys(["train", "validation"], {"text": ["a"], "label": [0]}),
        ),
        (
            "every training text occurs in the test split",
            dict.fromkeys(["train", "validation"], _texts("test", 24)),
        ),
        (
            "too few texts for a validation split",
            dict.fromkeys(["train", "validation"], _texts("train", 3)),
        ),
    ],
)
def test_bad_splits(folder, message, files):
    for split, columns in files.items():
        _write(folder, split, columns)
    _fails(message, "boats", source="folder", folder=folder)


def test_bad_files(folder):
    (folder / "boats" / "test.parquet").unlink()
    _fails(
        "no file .*boats.test.parquet: a task folder holds",
        "boats",
        source="folder",
        folder=folder,
    )
    (folder / "boats" / "train.parquet").write_text("text,label\na,1\n")
    _fails(
        "train.parquet cannot be read: ",
        "boats",
        source="folder",
        folder=folder,
    )
