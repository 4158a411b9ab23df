"""A tokenizer with fewer pieces: those that texts use, and all that spell the rest.

For WordPiece and byte-level byte-pair tokenizers. Texts of kept pieces are cut as
before: both kinds decide by what is longest, or first in the list of merges, and what
is kept stays so among fewer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from sfusion.errors import SfusionError

TOKENIZER_FILE = "tokenizer.json"
# They would number all pieces again.
SLOW_FILES = ("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json")
PROCESSORS = ("TemplateProcessing", "BertProcessing", "RobertaProcessing")
TEXTS_AT_ONCE = 1000
# A padding token among the first numbers may be what a model counts positions from.
FIRST_NUMBERS = 16

Json = dict[str, Any]


def check_trimmable(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer whose pieces cannot be left out.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase

    Raises
    ------
    SfusionError
    """
    kind = "a tokenizer without tokenizer.json"
    if tokenizer.is_fast:
        content = _content(tokenizer)
        kind = content["model"].get("type", "unknown")
        if kind == "WordPiece" or _is_byte_level(content):
            return
    raise SfusionError(
        f"the vocabulary of {kind} cannot be trimmed, only WordPiece and byte-level "
        "byte pairs: leave out --trim-vocabulary"
    )


def used_pieces(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> frozenset[int]:
    """Collect the numbers of the pieces that texts use, read to their ends.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
    texts : sequence of str

    Returns
    -------
    frozenset of int
    """
    used: set[int] = set()
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        part = list(texts[start : start + TEXTS_AT_ONCE])
        for numbers in tokenizer(part, truncation=False)["input_ids"]:
            used.update(numbers)
    return frozenset(used)


def trim_tokenizer(
    tokenizer: PreTrainedTokenizerBase, used: Iterable[int]
) -> tuple[PreTrainedTokenizerBase, np.ndarray]:
    """Leave out the pieces that are neither used nor needed to spell other words.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Left as it is.
    used : iterable of int
        Numbers of the pieces that must stay.

    Returns
    -------
    transformers.PreTrainedTokenizerBase
        With the other pieces numbered anew, in their order.
    ndarray of int, shape (pieces that stay,)
        Their former numbers, by their new ones.

    Raises
    ------
    SfusionError
        See :func:`check_trimmable`.
    """
    check_trimmable(tokenizer)
    content = _content(tokenizer)
    former = _kept(content, set(used), tokenizer.pad_token_id)
    renumbered = {number: new for new, number in enumerate(former)}
    _renumber(content, renumbered)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        for slow in SLOW_FILES:
            (folder / slow).unlink(missing_ok=True)
        text = json.dumps(content, ensure_ascii=False)
        (folder / TOKENIZER_FILE).write_text(text, "utf-8")
        _renumber_settings(folder / "tokenizer_config.json", renumbered)
        trimmed = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    trimmed.name_or_path = tokenizer.name_or_path
    return trimmed, np.array(former)


def _content(tokenizer: PreTrainedTokenizerBase) -> Json:
    return json.loads(tokenizer.backend_tokenizer.to_str())


def _is_byte_level(content: Json) -> bool:
    """Check for byte pairs over bytes, whose 256 pieces can spell any text."""
    model = content["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        return False
    if model.get("end_of_word_suffix") or model.get("continuing_subword_prefix"):
        return False
    splitter = content.get("pre_tokenizer") or {}
    parts = splitter.get("pretokenizers", [splitter])
    return any(part.get("type") == "ByteLevel" for part in parts)


def _kept(content: Json, used: set[int], padding: int | None) -> list[int]:
    """List the numbers of the pieces that stay, in order."""
    model = content["model"]
    vocabulary: dict[str, int] = model["vocab"]
    kept = set(used)
    kept.update(token["id"] for token in content["added_tokens"])
    if model.get("unk_token") in vocabulary:
        kept.add(vocabulary[model["unk_token"]])
    prefix = model.get("continuing_subword_prefix") or ""
    for piece, number in vocabulary.items():
        if len(piece.removeprefix(prefix)) == 1 or len(piece) == 1:
            kept.add(number)
    if padding is not None and padding < FIRST_NUMBERS:
        known = {*vocabulary.values(), *kept}
        kept.update(number for number in range(padding) if number in known)
    if model["type"] == "BPE":
        names = {number: piece for piece, number in vocabulary.items()}
        ranks = {tuple(pair): rank for rank, pair in enumerate(_pairs(model))}
        for number in sorted(kept & set(names)):
            for piece in _steps(names[number], ranks):
                kept.add(vocabulary[piece])
    return sorted(kept)


def _pairs(model: Json) -> list[list[str]]:
    """List the merges, which older files write with a blank between the parts."""
    pairs = []
    for merge in model["merges"]:
        pairs.append(merge.split(" ") if isinstance(merge, str) else list(merge))
    return pairs


def _steps(piece: str, ranks: dict[tuple[str, ...], int]) -> list[str]:
    """List the pieces that arise while byte pairs are merged into one."""
    parts = list(piece)
    found = []
    while len(parts) > 1:
        pairs = list(zip(parts, parts[1:], strict=False))
        first = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
        if first not in ranks:
            break
        place = pairs.index(first)
        parts[place : place + 2] = ["".join(first)]
        found.append(parts[place])
    return found


def _renumber(content: Json, renumbered: dict[int, int]) -> None:
    """Write new numbers wherever a tokenizer's file has numbers."""
    model = content["model"]
    kept = {}
    for piece, number in model["vocab"].items():
        if number in renumbered:
            kept[piece] = renumbered[number]
    model["vocab"] = kept
    if model["type"] == "BPE":
        model["merges"] = [
            pair for pair in _pairs(model) if {*pair, "".join(pair)} <= kept.keys()
        ]
    for token in content["added_tokens"]:
        token["id"] = renumbered[token["id"]]
    content["truncation"] = None
    content["padding"] = None
    _renumber_processor(content.get("post_processor"), renumbered)


def _renumber_processor(processor: Json | None, renumbered: dict[int, int]) -> None:
    """Renumber the tokens that are put around every text."""
    if processor is None or processor["type"] == "ByteLevel":
        return
    if processor["type"] == "Sequence":
        for part in processor["processors"]:
            _renumber_processor(part, renumbered)
        return
    if processor["type"] not in PROCESSORS:
        raise SfusionError(
            f"the vocabulary of a tokenizer with {processor['type']} cannot be "
            "trimmed: leave out --trim-vocabulary"
        )
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [renumbered[number] for number in token["ids"]]
    for end in ("sep", "cls"):
        if end in processor:
            name, number = processor[end]
            processor[end] = [name, renumbered[number]]


def _renumber_settings(file: Path, renumbered: dict[int, int]) -> None:
    """Renumber the added tokens that the settings list a second time."""
    settings = json.loads(file.read_text("utf-8"))
    listed = settings.get("added_tokens_decoder")
    if listed:
        settings["added_tokens_decoder"] = {
            str(renumbered[int(number)]): token for number, token in listed.items()
        }
        file.write_text(json.dumps(settings, ensure_ascii=False), "utf-8")
