"""A smaller vocabulary: texts of kept pieces are read and answered as before."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

import sfusion as sf
from sfusion.compression import trimming
from sfusion.compression.trimming import trim_vocabulary, with_pieces
from sfusion.compression.vocabulary import (
    check_trimmable,
    trim_tokenizer,
    used_pieces,
)
from sfusion.data.encoding import encode
from sfusion.data.tasks import Task
from sfusion.data.tokenizers import load_tokenizer
from sfusion.training.evaluation import predict_logits

SEEN = [
    "The lakes were calm, and boats lay near the shores.",
    "An engine has gears; bolts hold them together!",
    "Choirs sang well-known tunes with drums.",
]
UNSEEN = "Photosynthesis xylophones in Ljubljana \u00e9\u4e2d"


def _byte_pairs(texts):
    """Train a small byte-level tokenizer as RoBERTa has it, padding numbered 1."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        texts,
        BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet),
    )
    core.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
    )


@pytest.fixture(scope="module", params=["word pieces", "byte pairs"])
def tokenizer(request):
    if request.param == "word pieces":
        return load_tokenizer("minilm-l6")
    return _byte_pairs([*SEEN * 3, "unusual words as photographs of xylophones " * 3])


def test_texts_of_kept_pieces_are_read_as_before_and_others_are_spelled(
    tokenizer, tmp_path
):
    trimmed, former = trim_tokenizer(tokenizer, used_pieces(tokenizer, SEEN))
    assert len(former) < len(tokenizer) == max(tokenizer.get_vocab().values()) + 1
    trimmed.save_pretrained(tmp_path)
    for loaded in (trimmed, AutoTokenizer.from_pretrained(tmp_path)):
        assert sorted(loaded.get_vocab().values()) == list(range(len(former)))
        for text in (*SEEN, f"{SEEN[0]} {SEEN[2]}"):
            before = tokenizer(text)["input_ids"]
            assert former[loaded(text)["input_ids"]].tolist() == before
        assert loaded.unk_token_id not in loaded("photographs engines")["input_ids"]
        for name in ("pad", "unk", "cls", "sep"):
            number = getattr(loaded, f"{name}_token_id")
            assert former[number] == getattr(tokenizer, f"{name}_token_id")
        padded = loaded([SEEN[0], "boats"], padding=True)
        assert padded["input_ids"][1][-1] == loaded.pad_token_id
        assert padded["attention_mask"][1][-1] == 0
    assert trimmed.pad_token_id == tokenizer.pad_token_id
    assert trimmed.model_max_length == tokenizer.model_max_length


def test_what_cannot_be_spelled_before_is_the_only_unknown_after():
    tokenizer = load_tokenizer("minilm-l6")
    trimmed, _ = trim_tokenizer(tokenizer, used_pieces(tokenizer, SEEN))
    words = UNSEEN.split()
    unknown = [tokenizer.unk_token_id in tokenizer(word)["input_ids"] for word in words]
    after = [trimmed.unk_token_id in trimmed(word)["input_ids"] for word in words]
    assert after == unknown
    longer = len(trimmed(UNSEEN)["input_ids"])
    assert longer > len(tokenizer(UNSEEN)["input_ids"])


def test_other_kinds_are_refused_in_one_line():
    core = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
    other = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    with tiny.refused("Unigram", "--trim-vocabulary"):
        check_trimmable(other)


def _task(tokenizer, texts, validation):
    labels = [0, 1, 2] * len(texts)
    encoded = {
        split: encode(given, labels[: len(given)], tokenizer, 16)
        for split, given in (
            ("train", texts),
            ("validation", validation),
            ("test", validation),
        )
    }
    split_texts = {"train": texts, "validation": validation, "test": validation}
    return Task(
        "own", ("a", "b", "c"), **encoded, texts=split_texts, fingerprint="", source=""
    )


def test_a_model_that_counts_positions_from_its_padding_answers_as_before():
    tokenizer = _byte_pairs([*SEEN * 3, "unusual words as photographs " * 3])
    torch.manual_seed(0)
    sizes = {**tiny.COMMON, "pad_token_id": 1, "max_position_embeddings": 20}
    config = RobertaConfig(**sizes, vocab_size=len(tokenizer), num_labels=3)
    model = RobertaForSequenceClassification(config).eval()
    found = trim_vocabulary(model, tokenizer, _task(tokenizer, SEEN, SEEN), SEEN)
    assert "left_out" not in found.entry
    assert found.model.config.pad_token_id == 1 == found.tokenizer.pad_token_id
    data = encode(SEEN, [0, 1, 2], found.tokenizer, 16)
    torch.testing.assert_close(
        predict_logits(found.model, data),
        predict_logits(model, encode(SEEN, [0, 1, 2], tokenizer, 16)),
    )
    assert found.entry["bytes_after"] < found.entry["bytes_before"]
    assert found.model.get_input_embeddings().weight.shape[0] == len(found.tokenizer)


def test_it_is_left_out_where_validation_falls_or_answers_change(monkeypatch):
    tokenizer = load_tokenizer("minilm-l6")
    model = sf.load_model("minilm-l6", num_labels=3)
    validation = [UNSEEN, "Zymurgy", "quarterbacks threw touchdowns"]
    task = _task(tokenizer, SEEN, validation)
    found = trim_vocabulary(model, tokenizer, task, SEEN)
    assert 0 < found.entry["unseen_tokens"] < 1
    assert found.entry["texts_with_unseen"] > 0.5
    monkeypatch.setattr(trimming, "TOLERANCE", -1.0)
    found = trim_vocabulary(model, tokenizer, task, SEEN)
    assert "of the validation texts right" in found.entry["left_out"]
    assert found.model is model and found.tokenizer is tokenizer and found.task is task

    def harmed(model, former):
        smaller = with_pieces(model, former)
        with torch.no_grad():
            smaller.get_input_embeddings().weight.mul_(2)
        return smaller

    monkeypatch.setattr(trimming, "TOLERANCE", 1.0)
    monkeypatch.setattr(trimming, "with_pieces", harmed)
    found = trim_vocabulary(model, tokenizer, task, SEEN)
    assert "answers training texts in another way" in found.entry["left_out"]


def test_a_compression_writes_a_plain_model_of_fewer_pieces(tmp_path):
    """On the embedded model: two of its layers, both ways, the same answers."""
    texts, labels = tiny.sentences(120, 3, seed=4)
    frame = pd.DataFrame({"text": texts, "label": labels})
    common = {"keep": 2, "distill": False, "threads": 1, "quiet": True}
    whole = sf.compress("minilm-l6", frame, out=tmp_path / "whole", **common)
    options = {**common, "trim_vocabulary": True}
    small = sf.compress("minilm-l6", frame, out=tmp_path / "small", **options)
    entry = small.report["vocabulary"]
    assert "left_out" not in entry
    model = AutoModelForSequenceClassification.from_pretrained(small.directory)
    tokenizer = AutoTokenizer.from_pretrained(small.directory)
    assert model.config.vocab_size == len(tokenizer) == entry["pieces_after"] < 5000
    assert small.report["after"]["bytes"] == entry["bytes_after"]
    assert whole.report["after"]["bytes"] == entry["bytes_before"]
    other = AutoModelForSequenceClassification.from_pretrained(whole.directory)
    reader = AutoTokenizer.from_pretrained(whole.directory)
    with torch.no_grad():
        found = model(**tokenizer(texts, padding=True, return_tensors="pt")).logits
        expected = other(**reader(texts, padding=True, return_tensors="pt")).logits
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    hashes = [one.report["after"]["predictions_sha256"] for one in (whole, small)]
    assert len(set(hashes)) == 1
    for said in (str(small), (small.directory / "README.md").read_text()):
        assert f"{entry['pieces_after']:,} of {entry['pieces_before']:,}" in said
    assert json.loads((small.directory / "report.json").read_text()) == small.report


def test_a_model_of_fewer_pieces_is_exported_to_onnx(tmp_path):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    texts, labels = tiny.sentences(120, 3, seed=4)
    options = {"keep": 1, "distill": False, "threads": 1, "quiet": True}
    small = sf.compress(
        "minilm-l6",
        pd.DataFrame({"text": texts, "label": labels}),
        out=tmp_path / "small",
        onnx=True,
        trim_vocabulary=True,
        **options,
    )
    entry = small.report["vocabulary"]
    assert entry["pieces_after"] < entry["pieces_before"]
    tokenizer = AutoTokenizer.from_pretrained(small.directory)
    read = tokenizer([*texts[:8], UNSEEN], padding=True, return_tensors="pt")
    session = onnxruntime.InferenceSession(small.directory / "model.onnx")
    fed = {name: read[name].numpy() for name in ("input_ids", "attention_mask")}
    (found,) = session.run(None, fed)
    model = AutoModelForSequenceClassification.from_pretrained(small.directory)
    with torch.no_grad():
        expected = model(**read).logits.numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert small.report["onnx"]["largest_difference"] < 1e-3
    size = (small.directory / "model.onnx").stat().st_size
    assert size < small.report["vocabulary"]["bytes_before"]


def test_rows_are_copied_and_special_tokens_renumbered(tiny_bert):
    former = np.array([0, 2, 3, 7, 20])
    smaller = with_pieces(tiny_bert, former)
    rows = smaller.get_input_embeddings().weight
    torch.testing.assert_close(rows, tiny_bert.get_input_embeddings().weight[former])
    config = smaller.config
    assert (config.vocab_size, config.cls_token_id, config.sep_token_id) == (5, 1, 2)
    assert tiny_bert.config.vocab_size == 50
