"""The signals of a user's own model on the user's own texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sfusion.compression.doubts import doubt_rows
from sfusion.compression.inputs import load_start
from sfusion.compression.tokens import fit_tokens
from sfusion.compression.understanding import understand
from sfusion.data.encoding import encode
from sfusion.data.files import read_rows
from sfusion.data.splits import draw
from sfusion.errors import one_line
from sfusion.experiments.profiles import PROBE
from sfusion.models.source import ModelSource
from sfusion.signals.extraction import extract_signals

if TYPE_CHECKING:
    import pandas as pd

    from sfusion.data.files import Source


def probe_signals(
    model: str | Path,
    data: Source,
    *,
    text_column: str = "text",
    label_column: str = "label",
    labels: Sequence[str] | None = None,
    new_head: bool = False,
    max_length: int | None = None,
    seed: int = 0,
    quiet: bool | None = None,
) -> pd.DataFrame:
    """Extract the signals of a model's layers, and say what was understood.

    Parameters
    ----------
    model, text_column, label_column, labels, new_head, max_length, seed, quiet
        See :func:`sfusion.compress`.
    data : str, Path, DataFrame or datasets.Dataset
        Of more than ``PROBE`` texts so many are drawn, classes in proportion.

    Returns
    -------
    DataFrame
        A row per layer, a column per signal.

    Raises
    ------
    SfusionError
        For whatever is wrong with the input.
    """
    source = ModelSource.open(model)
    rows = read_rows(data, text_column, label_column)
    doubts = tuple(doubt_rows(rows, None))
    start = load_start(source, rows, labels, new_head, seed)
    drawn = draw(
        rows.frame["label"].tolist(),
        rows.frame["text"].tolist(),
        PROBE,
        f"probe {seed}",
    )
    probe = rows.frame.iloc[sorted(drawn)]
    texts = probe["text"].tolist()
    tokenizer = source.tokenizer
    length = fit_tokens(tokenizer, start.model.config, texts, max_length)
    numbers = probe["label"].map(start.numbers).tolist()
    encoded = encode(texts, numbers, tokenizer, length.tokens)
    understood = understand(
        start,
        {"probe": probe},
        {"probe": encoded},
        tokenizer,
        length,
        rows.where,
        is_order_given=labels is not None,
        doubts=doubts,
    )
    understood.say(quiet)
    with one_line("the signals of the model cannot be computed"):
        return extract_signals(start.model, encoded)
