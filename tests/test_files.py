"""A user's own files: what is read, how it is split, labels never guessed."""

import gzip
import json

import datasets
import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from sfusion.data.files import Rows, read_rows
from sfusion.data.labels import resolve_labels
from sfusion.data.splits import split_rows

COLOURS = ("red", "green", "blue")


def _frame(count):
    """As many different texts, of three classes in turn."""
    return pd.DataFrame(
        {"text": f"text {i}", "label": COLOURS[i % 3]} for i in range(count)
    )


def _refuses(message, function, *arguments, **keywords):
    with tiny.refused(match=message):
        function(*arguments, **keywords)


def test_columns_go_by_name_integers_are_labels_and_texts_stay_as_they_are(tmp_path):
    texts = [
        "NA",
        "  two spaces ",
        "null",
        "007",
        "a\nline",
        "Grüße, 'quoted' \"twice\"",
    ]
    # What looks like a date is a text, too.
    kinds = {"label": ["10", "2"] * 3, "date": ["2020-01-01", "2021-01-01"] * 3}
    frame = pd.DataFrame({"body": texts, **kinds, "label": [10, 2] * 3})
    frame.to_csv(tmp_path / "data.csv", index=False)
    frame.to_json(tmp_path / "data.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "data.parquet")
    for source in (frame, datasets.Dataset.from_pandas(frame), *tmp_path.iterdir()):
        for column, labels in kinds.items():
            rows = read_rows(source, text_column="body", label_column=column)
            assert rows.frame.to_dict("list") == {"text": texts, "label": labels}


def _declared(labels):
    data = datasets.Dataset.from_dict(
        {"text": [f"text {i}" for i in range(len(labels))], "label": labels}
    )
    return data.cast_column("label", datasets.ClassLabel(names=COLOURS))


def test_declared_names_number_the_classes(tmp_path):
    data = _declared([0, 2, 1])
    data.to_parquet(tmp_path / "data.parquet")
    for source in (tmp_path / "data.parquet", data):
        rows = read_rows(source)
        assert (rows.names, rows.frame["label"].tolist()) == (
            COLOURS,
            ["red", "blue", "green"],
        )


def test_kinds_of_labels():
    def read(labels):
        return (
            read_rows(pd.DataFrame({"text": ["one", "two"], "label": labels}))
            .frame["label"]
            .tolist()
        )

    assert read([1.0, 0.0]) == ["1", "0"]
    assert read([True, False]) == ["True", "False"]
    assert read(["1", "01"]) == ["1", "01"]
    assert read(pd.Categorical(["b", "a"])) == ["b", "a"]
    assert read(np.array([3, 4], dtype="uint8")) == ["3", "4"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "data.txt",
            b"text,label\na,b\n",
            "data.txt: the suffix must be .csv, .tsv, .jsonl, .json or",
        ),
        ("data.csv", b"", "data.csv is empty"),
        ("data.csv", b"text,label\n", "data.csv holds no text"),
        (
            "data.csv",
            b"text,other\na,b\n",
            "data.csv has no column 'label': it has text, other",
        ),
        ("data.csv", b"text,label\n\xe9t\xe9,b\nc,d\n", "data.csv is not UTF-8 text"),
        ("data.csv", b"text,label\na,b\n,c\n", "row 2 has no text in column 'text'"),
        (
            "data.csv",
            b"text,label\na,b\nc,\n",
            "row 2 has the label '': give one name or integer",
        ),
        ("data.csv", b'text,label\na,b,c\n"d', "data.csv cannot be read: "),
        (
            "data.csv",
            b"text,label\nHello, world,pos\n",
            "put texts with commas in quotes",
        ),
        (
            "data.jsonl",
            b"{broken",
            "data.jsonl cannot be read: not one object per line",
        ),
        (
            "data.jsonl",
            b'{"text": "a", "label": 1}\n5\n',
            "row 2 is not an object such as",
        ),
        ("data.jsonl", b"\xff\xfa", "data.jsonl is not "),
        ("data.jsonl", b'{"text": null, "label": 1}', "row 1 has no text"),
        ("data.jsonl", b'{"text": 5, "label": 1}', "row 1 has 5 in .* not text"),
        ("data.csv", b"text,label\na,b\nc, \n", "row 2 has the label ' '"),
        ("data.csv", b"text,label\na,b\ntext,label\n", "row 2 is the header again"),
        ("data.csv", b"text,label\na,b\nc,B\n", "'b' and 'B', which differ only by"),
        ("data.csv", b"sep=,;\ntext,label\na,b\n", "give one separator there"),
        ("data.csv", b"text,label,text\na,b,c\n", "has the column 'text' twice"),
        ("data.csv", b"text,label\na,b\nLabel,TEXT\n", "row 2 is the header again"),
        ("data.csv", b"text,label\na,b c\nd,b  c\n", "differ only by blanks"),
        ("data.csv", b"text,label\na,1\nb,1.0\nc,x\n", "zeros of a fraction"),
        (
            "data.csv",
            "text,label\na,\u00fcb\nb,u\u0308b\n".encode(),
            "differ only by case, blanks or Unicode form",
        ),
        (
            "data.csv",
            b'text,label\n"a,one\nb,two\nc",two\nd,one\n',
            "row 1 has a text of 3 lines, which are rows",
        ),
        (
            "data.csv",
            b'label,text\none,"a\ntwo,b\none,c"\ntwo,d\n',
            "row 1 has a text of 3 lines, which are rows",
        ),
        ("data.csv", "text,label\na,b\n".encode("utf-16-le"), "holds zero bytes"),
        ("data.csv.gz", b"text,label\na,b\n", "data.csv.gz cannot be read: "),
        ("data.json", b'{"text": ["a"], "label": [0]}', "one object that holds all"),
        (
            "data.csv",
            b'text,label\n"a,b\nc,d\n"e,f\ng,h\n',
            "a quote in line 2 spans rows up to line 4",
        ),
        ("data.jsonl", b'{\n"text": "a" 1}', "not one object per line .line 2"),
        ("data.jsonl", b'{"text": "a", "label": 0.5}', "row 1 has the label 0.5"),
        ("data.jsonl", b'{"text": "a", "label": [1]}', r"row 1 has the label \[1\]"),
        ("data.parquet", b"text", "data.parquet cannot be read: "),
    ],
)
def test_a_bad_file_is_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    _refuses(message, read_rows, tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "the name of a file is empty"),
        ("https://example.org/data.csv", "is an address: fetch the file"),
        ("s3://bucket/data.csv", "is an address"),
        (".", ". is a directory: give one file"),
        ("nothing.csv", "no file nothing.csv"),
    ],
)
def test_what_is_no_file_is_named_for_what_it_is(name, message):
    _refuses(message, read_rows, name)


@pytest.mark.parametrize(
    ("text", "label"),
    [("I give it\n5", 5), ("Sports\nThe match was", "Sports"), ("Good, 5\nso", 5)],
)
def test_a_text_may_have_a_line_that_names_a_class(text, label):
    frame = pd.DataFrame({"text": [text, "other"], "label": [label, "none"]})
    assert read_rows(frame).frame["text"].tolist() == [text, "other"]


ROWS = [{"text": "a, b", "label": "one"}, {"text": "c|d", "label": "two"}]
COMMAS = pd.DataFrame(ROWS).to_csv(index=False)
LINES = "\n".join(map(json.dumps, ROWS))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data.csv", COMMAS),
        ("DATA.CSV", COMMAS),
        ("crlf.csv", COMMAS.replace("\n", "\r\n")),
        ("blanks.csv", COMMAS.replace("text,label", " text, label")),
        ("excel.csv", "sep=;\r\n" + pd.DataFrame(ROWS).to_csv(index=False, sep=";")),
        ("semicolons.csv", pd.DataFrame(ROWS).to_csv(index=False, sep=";")),
        ("data.TSV", pd.DataFrame(ROWS).to_csv(index=False, sep="\t")),
        ("data.jsonl", LINES),
        ("data.ndjson", LINES),
        ("array.jsonl", json.dumps(ROWS)),
        ("array.json", json.dumps(ROWS, indent=1)),
        ("indented.jsonl", "\n\n".join(json.dumps(row, indent=1) for row in ROWS)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_forms_that_others_write_are_read(tmp_path, name, content, encoding):
    encoded = content.encode(encoding)
    (tmp_path / name).write_bytes(encoded)
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(encoded))
    for file in (name, f"{name}.gz"):
        assert read_rows(tmp_path / file).frame.to_dict("records") == ROWS


def test_labels_that_differ_by_blanks_are_one_class_and_that_is_noted(tmp_path):
    (tmp_path / "data.csv").write_text('text,label\na,x\nb," x "\nc,x\u00a0\n')
    rows = read_rows(tmp_path / "data.csv")
    assert rows.frame["label"].tolist() == ["x"] * 3
    assert "2 label(s) have blanks around them, ' x ' for one" in rows.notes[0]
    assert read_rows(pd.DataFrame(ROWS)).notes == ()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_one_point_nought_is_one_where_all_labels_are_numbers(tmp_path, suffix):
    frame = pd.DataFrame({"text": list("abc"), "label": [1.0, 0.0, 1.0]})
    file = tmp_path / f"data{suffix}"
    frame.to_parquet(file) if suffix == ".parquet" else frame.to_csv(file)
    assert read_rows(file).frame["label"].tolist() == ["1", "0", "1"]
    mixed = "text,label\na,1\nb,1.0\nc,01\nd,2.\n"
    (tmp_path / "mixed.csv").write_text(mixed)
    labels = read_rows(tmp_path / "mixed.csv").frame["label"].tolist()
    assert labels == ["1", "1", "01", "2"]
    assert resolve_labels(["0", "1"], ["1.0", "0.0"], "data") == {"0": 1, "1": 0}


def test_texts_of_several_lines_are_no_rows(tmp_path):
    poem = "so much depends,\nsaid one,\nupon joy"
    frame = pd.DataFrame({"text": [poem, "b"], "label": ["joy", "one"]})
    assert read_rows(frame).frame["text"].tolist() == [poem, "b"]


def test_other_bad_data_is_one_line():
    doubled = pd.DataFrame([["a", "b", "c"]], columns=["text", "text", "label"])
    _refuses("the data frame has 2 columns 'text': keep one", read_rows, doubled)
    _refuses("no file .*gone.csv", read_rows, "no/such/gone.csv")
    _refuses("label -1: there are 3 label names", read_rows, _declared([0, 1, -1]))
    _refuses("data of type list", read_rows, [("a text", "a label")])


def _split(train, test=None, seed=0, limit=1000):
    if test is not None:
        test = Rows(test, (), "test.csv")
    return split_rows(Rows(train, (), "train.csv"), test, seed=seed, limit=limit)


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
    assert {k: set(v["text"]) for k, v in again.items()} == {
        k: set(v["text"]) for k, v in split.items()
    }


def test_a_test_file_is_kept_whole_and_out_of_the_training_texts():
    frame = _frame(60)
    test = pd.concat([frame[:9], frame[:3]], ignore_index=True)
    split = _split(frame, test)
    assert split["test"].equals(test)
    assert not set(split["test"]["text"]) & {
        *split["train"]["text"],
        *split["validation"]["text"],
    }
    assert len(split["train"]) + len(split["validation"]) == 51


def test_what_cannot_be_split_is_one_line():
    frame = _frame(30)
    strange = frame.assign(label=["violet", *frame["label"][1:]])
    _refuses(
        "test.csv has the label 'violet', train.csv has not", _split, frame, strange
    )
    _refuses("every text occurs in test.csv", _split, frame, frame)
    _refuses(
        "every text of the class 'green' occurs in test.csv",
        _split,
        frame,
        frame[frame["label"] != "red"],
    )
    _refuses("train.csv has 1 class", _split, frame[frame["label"] == "red"])
    _refuses("too few texts for a validation split", _split, frame[:3])


def _numbers(found, labels=None):
    return resolve_labels(
        found, ("negative", "neutral", "positive"), "train.csv", labels
    )


def test_labels_take_the_models_numbers():
    assert _numbers(["positive", "negative"]) == {"positive": 2, "negative": 0}
    assert _numbers(["2", "0", "1"]) == {"2": 2, "0": 0, "1": 1}
    assert _numbers(["good", "bad"], ["bad", "fair", "good"]) == {"good": 2, "bad": 0}


def test_labels_are_never_guessed():
    _refuses(
        "has the label 'good', the model's classes are 'negative'",
        _numbers,
        ["good", "bad"],
    )
    # Counted from 0 or from 1? Not guessed.
    _refuses("has the label '1'", _numbers, ["1", "2"])
    _refuses("has the label '1'", _numbers, ["1", "2", "3"])
    _refuses(
        "2 labels are given for the model's 3 classes",
        _numbers,
        ["good", "bad"],
        ["bad", "good"],
    )
