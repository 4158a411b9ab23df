"""Harmed models, odd labels and odd files: an answer or one line, never a traceback.

``SFUSION_FUZZ=5000 pytest tests/test_fuzz.py`` tries so many of each.
"""

import gzip
import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pandas as pd
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sfusion import SfusionError
from sfusion.compression.doubts import doubt_rows
from sfusion.compression.probing import probe_signals
from sfusion.compression.tokens import fit_tokens
from sfusion.data.files import Rows, read_rows
from sfusion.data.splits import split_rows
from sfusion.models.source import ModelSource

EXAMPLES = int(os.environ.get("SFUSION_FUZZ", "12"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "model.safetensors",
)
SETTINGS = (
    "model_type",
    "architectures",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "vocab_size",
    "type_vocab_size",
    "pad_token_id",
    "hidden_act",
    "hidden_dropout_prob",
    "layer_norm_eps",
    "initializer_range",
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "dtype",
    "torch_dtype",
    "quantization_config",
    "auto_map",
    "classifier_dropout",
    "is_decoder",
    "layer_types",
    "attn_implementation",
    "transformers_version",
    "use_cache",
)
TOKENIZER_SETTINGS = (
    "tokenizer_class",
    "model_max_length",
    "pad_token",
    "unk_token",
    "cls_token",
    "padding_side",
    "truncation_side",
    "model_input_names",
    "do_lower_case",
    "added_tokens_decoder",
    "auto_map",
    "extra_special_tokens",
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.floats(),
    st.sampled_from(
        ("", "0", "4", "bert", "roberta", "gpt2", "t5", "albert", "float16", "int8")
    ),
    st.text(max_size=4),
    st.lists(st.integers(0, 3), max_size=3),
    st.dictionaries(
        st.sampled_from(("0", "1", "2", "x")),
        st.one_of(st.text(max_size=3), st.integers(0, 2), st.none()),
        max_size=3,
    ),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A fine-tuned model and labelled texts."""
    folder = tmp_path_factory.mktemp("fuzz")
    tiny.write_tuned_model(folder / "model")
    return folder


def _answers_or_refuses(work, *arguments, **options):
    """Do something that may be refused, in one line and in no other way."""
    try:
        with warnings.catch_warnings(action="ignore"):
            work(*arguments, **options)
    except SfusionError as error:
        message = str(error)
        assert message and "\n" not in message, message


@FUZZ
@given(
    file=st.sampled_from(("config.json", "tokenizer_config.json")),
    name=st.sampled_from(SETTINGS),
    tokenizer_name=st.sampled_from(TOKENIZER_SETTINGS),
    value=VALUES,
    new_head=st.booleans(),
)
def test_a_setting_of_any_value(base, file, name, tokenizer_name, value, new_head):
    if file == "tokenizer_config.json":
        name = tokenizer_name
    with tempfile.TemporaryDirectory() as folder:
        model = Path(shutil.copytree(base / "model", Path(folder) / "model"))
        content = json.loads((model / file).read_text())
        (model / file).write_text(json.dumps(content | {name: value}))
        frame = tiny.labelled(30, 3)
        _answers_or_refuses(probe_signals, model, frame, new_head=new_head, quiet=True)


@FUZZ
@given(
    file=st.sampled_from(FILES),
    start=st.floats(0, 1),
    length=st.integers(0, 400),
    put=st.binary(max_size=8),
)
def test_a_file_with_a_harmed_place(base, file, start, length, put):
    with tempfile.TemporaryDirectory() as folder:
        model = Path(shutil.copytree(base / "model", Path(folder) / "model"))
        content = (model / file).read_bytes()
        place = round(start * len(content))
        (model / file).write_bytes(content[:place] + put + content[place + length :])
        _answers_or_refuses(probe_signals, model, tiny.labelled(30, 3), quiet=True)


def _replace_by_folder(file):
    file.unlink()
    file.mkdir()


def _replace_by_loop(file):
    file.unlink()
    file.symlink_to(file.name)


@pytest.mark.parametrize("harm", [Path.unlink, _replace_by_folder, _replace_by_loop])
@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_none(base, tmp_path, file, harm):
    model = Path(shutil.copytree(base / "model", tmp_path / "model"))
    harm(model / file)
    _answers_or_refuses(probe_signals, model, tiny.labelled(30, 3), quiet=True)


@pytest.mark.parametrize("name", ["", "n" * 5000, "a/b/c", "config.json", "\0"])
def test_a_model_of_any_name(base, monkeypatch, name):
    monkeypatch.chdir(base / "model")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with tiny.refused():
        ModelSource.open(name)
    with tiny.refused():
        read_rows(name)


LABELS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(("a", "A", " a", "1", "1.0", "a\u200b", "\u00e9", "e\u0301")),
    st.binary(max_size=3),
    st.lists(st.integers(0, 3), max_size=2),
)


def _read_and_split(source, test=None):
    rows = read_rows(source)
    tests = None if test is None else read_rows(test)
    doubt_rows(rows, tests)
    parts = split_rows(rows, tests, seed=0, limit=50)
    assert not set(parts["train"]["text"]) & set(parts["test"]["text"])


@FUZZ
@given(
    labels=st.lists(LABELS, max_size=12),
    repeated=st.integers(1, 5),
    texts=st.integers(1, 30),
    own_test=st.booleans(),
)
def test_labels_of_any_kind(labels, repeated, texts, own_test):
    labels = labels * repeated
    names = [f"text {number % texts}" for number in range(len(labels))]
    frame = pd.DataFrame({"text": names, "label": pd.Series(labels, dtype=object)})
    test = frame[::3] if own_test else None
    _answers_or_refuses(_read_and_split, frame, test)


ROWS = tiny.labelled(12, 4)
CONTENTS = (
    ROWS.to_csv(index=False),
    ROWS.to_csv(index=False, sep="\t"),
    ROWS.to_json(orient="records"),
    ROWS.to_json(orient="records", lines=True),
    ROWS.to_json(),
    "sep=;\n" + ROWS.to_csv(index=False, sep=";"),
    "[" * 3000,
    "",
)
PIECES = st.sampled_from(('"', ",", "\n", "\r", "\0", "{", "]", "\ufeff", "\u2028"))


@FUZZ
@given(
    content=st.sampled_from(CONTENTS),
    suffix=st.sampled_from((".csv", ".TSV", ".jsonl", ".json", ".parquet", ".gz", "")),
    encoding=st.sampled_from(("utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le")),
    place=st.floats(0, 1),
    piece=st.one_of(PIECES, st.text(max_size=3)),
    is_packed=st.booleans(),
    has_mark=st.booleans(),
)
def test_a_file_of_any_form(
    content, suffix, encoding, place, piece, is_packed, has_mark
):
    where = round(place * len(content))
    spoilt = content[:where] + piece + content[where:]
    encoded = spoilt.encode(encoding, "surrogatepass")
    name = f"data{suffix}"
    if is_packed:
        encoded = gzip.compress(encoded)
        name += ".gz" if has_mark else ""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(encoded)
        _answers_or_refuses(_read_and_split, file)


@FUZZ
@given(texts=st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=6))
def test_texts_of_any_characters(base, texts):
    source = ModelSource.open(base / "model")
    frame = pd.DataFrame({"text": texts, "label": "a"})

    def read():
        rows = read_rows(frame)
        assert isinstance(rows, Rows)
        fit_tokens(source.tokenizer, source.config, rows.frame["text"].tolist())

    _answers_or_refuses(read)
