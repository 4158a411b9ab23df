"""The user's own files: read strictly, split without leaks, labels never guessed."""

import datasets
import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from sfusion import SfusionError
from sfusion.data import readers

COLOURS = ["red", "green", "blue"]


def _frame(count, classes=3, seed=0):
    texts, labels = tiny.sentences(count, classes, seed)
    return pd.DataFrame({"text": texts, "label": [COLOURS[label] for label in labels]})


def _write(frame, path):
    {
        ".csv": lambda: frame.to_csv(path, index=False),
        ".jsonl": lambda: frame.to_json(path, orient="records", lines=True),
        ".parquet": lambda: frame.to_parquet(path),
    }[path.suffix]()
    return path


def _fails(message, function, *arguments, **keywords):
    with pytest.raises(SfusionError, match=message) as caught:
        function(*arguments, **keywords)
    tiny.one_line(caught)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_columns_go_by_name(tmp_path, suffix):
    frame = _frame(9)
    path = _write(frame.rename(columns={"text": "body", "label": "kind"}), tmp_path / f"d{suffix}")
    rows = readers.read_rows(path, text_column="body", label_column="kind")
    assert rows.frame.to_dict("list") == frame.to_dict("list")


def _declared(labels):
    data = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(9)], "label": labels})
    return data.cast_column("label", datasets.ClassLabel(names=COLOURS))


def test_declared_names_number_the_classes(tmp_path):
    labels = np.tile([0, 1, 2], 3).tolist()
    _declared(labels).to_parquet(tmp_path / "data.parquet")
    for source in (tmp_path / "data.parquet", _declared(labels)):
        rows = readers.read_rows(source)
        assert rows.names == tuple(COLOURS)
        assert rows.frame["label"].tolist() == [COLOURS[label] for label in labels]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", "frame", "dataset"])
def test_integers_are_labels_and_texts_stay_as_they_are(tmp_path, suffix):
    texts = ["NA", "  two spaces ", "null", "007", "a\nline", "Grüße, 'quoted' \"twice\""]
    frame = pd.DataFrame({"text": texts, "label": [10, 2, 10, 2, 10, 2]})
    if suffix == "frame":
        source = frame
    elif suffix == "dataset":
        source = datasets.Dataset.from_pandas(frame)
    else:
        source = _write(frame, tmp_path / f"data{suffix}")
    rows = readers.read_rows(source)
    assert rows.frame["text"].tolist() == texts
    assert rows.frame["label"].tolist() == ["10", "2"] * 3


@pytest.mark.parametrize(
    ("labels", "read"),
    [
        ([1.0, 0.0], ["1", "0"]),
        ([True, False], ["True", "False"]),
        (["1", "01"], ["1", "01"]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
        (np.array([3, 4], dtype="uint8"), ["3", "4"]),
    ],
)
def test_kinds_of_labels(labels, read):
    rows = readers.read_rows(pd.DataFrame({"text": ["one", "two"], "label": labels}))
    assert rows.frame["label"].tolist() == read


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.csv", None, "no file .*gone.csv"),
        ("data.txt", b"text,label\na,b\n", "data.txt: the suffix must be .csv, .jsonl or .parquet"),
        ("data.csv", b"", "data.csv is not a readable file: "),
        ("data.csv", b"text,label\n", "data.csv holds no labelled text"),
        ("data.csv", b"text,other\na,b\n", "data.csv has no column 'label': it has text, other"),
        ("data.csv", b"text,label\n\xe9t\xe9,b\nc,d\n", "data.csv is not UTF-8 text"),
        ("data.csv", b"text,label\na,b\n,c\n", "row 2 has no text in column 'text'"),
        ("data.csv", b"text,label\na,b\nc,\n", "row 2 has the label '': give a name or an integer"),
        ("data.csv", b'text,label\na,b,c\n"d', "data.csv is not a readable file: "),
        ("data.csv", b"text,label\nHello, world,pos\n", "put texts with commas in quotes"),
        ("data.jsonl", b"{broken", "data.jsonl is not a readable file: "),
        ("data.jsonl", b'{"text": "a", "label": 1}\n5\n', "a line is not an object such as"),
        ("data.jsonl", b"\xff\xfe", "data.jsonl is not "),
        ("data.jsonl", b'{"text": null, "label": 1}', "row 1 has no text"),
        ("data.jsonl", b'{"text": 5, "label": 1}', "row 1 has no text"),
        ("data.jsonl", b'{"text": "a", "label": 0.5}', "row 1 has the label 0.5"),
        ("data.jsonl", b'{"text": "a", "label": [1]}', r"row 1 has the label \[1\]"),
        ("data.parquet", b"text", "data.parquet is not a readable Parquet file: "),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    _fails(message, readers.read_rows, tmp_path / name)


def test_a_column_that_looks_like_dates_stays_text(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b"], "date": ["2020-01-01", "2021-01-01"]})
    rows = readers.read_rows(_write(frame, tmp_path / "data.jsonl"), label_column="date")
    assert rows.frame["label"].tolist() == ["2020-01-01", "2021-01-01"]


def test_numbers_without_a_declared_name_are_turned_down(tmp_path):
    data = _declared([0, 1, 2] * 3)
    data = data.map(lambda row: {"label": -1 if row["label"] == 2 else row["label"]})
    data.to_parquet(tmp_path / "data.parquet")
    _fails("label -1: there are 3 label names", readers.read_rows, tmp_path / "data.parquet")
    _fails("data of type list", readers.read_rows, [("a text", "a label")])


def _rows(frame):
    return readers.Rows(frame.astype(object), (), "train.csv")


def _split(train, test=None, seed=0, limit=1000):
    return readers.split_rows(_rows(train), test and _rows(test), seed=seed, limit=limit)


@settings(deadline=None, max_examples=20)
@given(count=st.integers(12, 90), seed=st.integers(0, 5), limit=st.integers(3, 100))
def test_no_text_is_in_two_splits_and_every_class_in_each(count, seed, limit):
    frame = pd.DataFrame(
        {"text": [f"text {i % 80}" for i in range(count)],
         "label": [COLOURS[i % 80 % 3] for i in range(count)]}
    )  # fmt: skip
    split = _split(frame, seed=seed, limit=limit)
    texts = [text for part in split.values() for text in part["text"]]
    assert len(set(texts)) == len(texts) <= frame["text"].nunique()
    assert set(split["train"]["label"]) == set(COLOURS)
    assert len(split["train"]) <= limit
    again = _split(frame.sample(frac=1, random_state=1), seed=seed, limit=limit)
    assert {k: set(v["text"]) for k, v in again.items()} == {k: set(v["text"]) for k, v in split.items()}


def test_a_test_file_is_kept_whole_and_out_of_the_training_texts():
    frame = _frame(60)
    frame["text"] += [f" {i}" for i in range(60)]
    test = readers.Rows(pd.concat([frame[:9], frame[:3]], ignore_index=True), (), "test.csv")
    split = readers.split_rows(_rows(frame), test, seed=0, limit=1000)
    assert split["test"].equals(test.frame)
    assert not set(split["test"]["text"]) & {*split["train"]["text"], *split["validation"]["text"]}
    assert len(split["train"]) + len(split["validation"]) == 51


def test_what_cannot_be_split_is_one_line():
    frame = _frame(30)
    frame["text"] += [f" {i}" for i in range(30)]

    def split(train, test):
        test = readers.Rows(test, (), "test.csv")
        return readers.split_rows(_rows(train), test, seed=0, limit=1000)

    strange = frame.assign(label=["violet", *frame["label"][1:]])
    _fails("test.csv has the label 'violet', train.csv has not", split, frame, strange)
    _fails("every text occurs in test.csv", split, frame, frame)
    _fails("train.csv has 1 class", split, frame, frame[frame["label"] != "red"])
    _fails("too few texts for a validation split", _split, frame[:3])


OWN = ("negative", "neutral", "positive")


@pytest.mark.parametrize(
    ("found", "labels", "numbers"),
    [
        (["positive", "negative"], None, [2, 0]),
        (["2", "0", "1"], None, [2, 0, 1]),
        (["good", "bad"], ["bad", "fair", "good"], [2, 0]),
    ],
)
def test_labels_take_the_models_numbers(found, labels, numbers):
    resolved = readers.resolve_labels(found, OWN, "train.csv", labels)
    assert [resolved[label] for label in found] == numbers


@pytest.mark.parametrize(
    ("found", "labels", "message"),
    [
        (["good", "bad"], None, "has the label 'good', the model's classes are 'negative'"),
        # Counted from 0 or from 1? Not guessed.
        (["1", "2"], None, "has the label '1'"),
        (["1", "2", "3"], None, "has the label '3'|has the label '1'"),
        (["good", "bad"], ["bad", "good"], "2 labels are given for the model's 3 classes"),
    ],
)
def test_labels_are_never_guessed(found, labels, message):
    _fails(message, readers.resolve_labels, found, OWN, "train.csv", labels)
