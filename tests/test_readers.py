"""The user's own files: read strictly, split without leaks, labels never guessed."""

import datasets
import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from sfusion.data import readers

COLOURS = ("red", "green", "blue")


def _frame(count):
    """As many different texts, of three classes in turn."""
    return pd.DataFrame({"text": f"text {i}", "label": COLOURS[i % 3]} for i in range(count))


def _fails(message, function, *arguments, **keywords):
    with tiny.refused(match=message):
        function(*arguments, **keywords)


def test_columns_go_by_name_integers_are_labels_and_texts_stay_as_they_are(tmp_path):
    texts = ["NA", "  two spaces ", "null", "007", "a\nline", "Grüße, 'quoted' \"twice\""]
    # What looks like a date is a text, too.
    kinds = {"label": ["10", "2"] * 3, "date": ["2020-01-01", "2021-01-01"] * 3}
    frame = pd.DataFrame({"body": texts, **kinds, "label": [10, 2] * 3})
    frame.to_csv(tmp_path / "data.csv", index=False)
    frame.to_json(tmp_path / "data.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "data.parquet")
    for source in (frame, datasets.Dataset.from_pandas(frame), *tmp_path.iterdir()):
        for column, labels in kinds.items():
            rows = readers.read_rows(source, text_column="body", label_column=column)
            assert rows.frame.to_dict("list") == {"text": texts, "label": labels}


def _declared(labels):
    data = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(len(labels))], "label": labels})
    return data.cast_column("label", datasets.ClassLabel(names=COLOURS))


def test_declared_names_number_the_classes(tmp_path):
    data = _declared([0, 2, 1])
    data.to_parquet(tmp_path / "data.parquet")
    for source in (tmp_path / "data.parquet", data):
        rows = readers.read_rows(source)
        assert (rows.names, rows.frame["label"].tolist()) == (COLOURS, ["red", "blue", "green"])


def test_kinds_of_labels():
    def read(labels):
        return readers.read_rows(pd.DataFrame({"text": ["one", "two"], "label": labels})).frame["label"].tolist()

    assert read([1.0, 0.0]) == ["1", "0"]
    assert read([True, False]) == ["True", "False"]
    assert read(["1", "01"]) == ["1", "01"]
    assert read(pd.Categorical(["b", "a"])) == ["b", "a"]
    assert read(np.array([3, 4], dtype="uint8")) == ["3", "4"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
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
    (tmp_path / name).write_bytes(content)
    _fails(message, readers.read_rows, tmp_path / name)


def test_other_bad_data_is_one_line():
    _fails("no file .*gone.csv", readers.read_rows, "no/such/gone.csv")
    _fails("label -1: there are 3 label names", readers.read_rows, _declared([0, 1, -1]))
    _fails("data of type list", readers.read_rows, [("a text", "a label")])


def _split(train, test=None, seed=0, limit=1000):
    if test is not None:
        test = readers.Rows(test, (), "test.csv")
    return readers.split_rows(readers.Rows(train, (), "train.csv"), test, seed=seed, limit=limit)


@settings(deadline=None, max_examples=20)
@given(count=st.integers(12, 90), seed=st.integers(0, 5), limit=st.integers(3, 100))
def test_no_text_is_in_two_splits_and_every_class_in_each(count, seed, limit):
    frame = pd.concat([_frame(80), _frame(10)], ignore_index=True)[:count]
    split = _split(frame, seed=seed, limit=limit)
    texts = [text for part in split.values() for text in part["text"]]
    assert len(set(texts)) == len(texts) <= frame["text"].nunique()
    assert set(split["train"]["label"]) == set(COLOURS)
    assert len(split["train"]) <= limit
    again = _split(frame.sample(frac=1, random_state=1), seed=seed, limit=limit)
    assert {k: set(v["text"]) for k, v in again.items()} == {k: set(v["text"]) for k, v in split.items()}


def test_a_test_file_is_kept_whole_and_out_of_the_training_texts():
    frame = _frame(60)
    test = pd.concat([frame[:9], frame[:3]], ignore_index=True)
    split = _split(frame, test)
    assert split["test"].equals(test)
    assert not set(split["test"]["text"]) & {*split["train"]["text"], *split["validation"]["text"]}
    assert len(split["train"]) + len(split["validation"]) == 51


def test_what_cannot_be_split_is_one_line():
    frame = _frame(30)
    strange = frame.assign(label=["violet", *frame["label"][1:]])
    _fails("test.csv has the label 'violet', train.csv has not", _split, frame, strange)
    _fails("every text occurs in test.csv", _split, frame, frame)
    _fails("train.csv has 1 class", _split, frame, frame[frame["label"] != "red"])
    _fails("too few texts for a validation split", _split, frame[:3])


def _numbers(found, labels=None):
    return readers.resolve_labels(found, ("negative", "neutral", "positive"), "train.csv", labels)


def test_labels_take_the_models_numbers():
    assert _numbers(["positive", "negative"]) == {"positive": 2, "negative": 0}
    assert _numbers(["2", "0", "1"]) == {"2": 2, "0": 0, "1": 1}
    assert _numbers(["good", "bad"], ["bad", "fair", "good"]) == {"good": 2, "bad": 0}


def test_labels_are_never_guessed():
    _fails("has the label 'good', the model's classes are 'negative'", _numbers, ["good", "bad"])
    # Counted from 0 or from 1? Not guessed.
    _fails("has the label '1'", _numbers, ["1", "2"])
    _fails("has the label '1'", _numbers, ["1", "2", "3"])
    _fails("2 labels are given for the model's 3 classes", _numbers, ["good", "bad"], ["bad", "good"])
