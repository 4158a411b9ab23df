"""Classifiers side by side on one file: accuracy, agreement, time and size."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from joblib import cpu_count

from sfusion.analysis.statistics import interval_text
from sfusion.compression.accuracy import accuracy_interval, paired_change
from sfusion.compression.latency import BEFORE, Latencies, latency
from sfusion.compression.output import REPORT, load_plain
from sfusion.compression.quantisation import INT8_NAME
from sfusion.compression.tokens import fit_tokens
from sfusion.data.encoding import Encoded, encode
from sfusion.data.files import read_rows
from sfusion.data.labels import counted, resolve_labels
from sfusion.errors import SfusionError, need_extra, one_line
from sfusion.models.source import ModelSource
from sfusion.training.evaluation import predict_logits
from sfusion.training.precision import fixed_threads

if TYPE_CHECKING:
    from sfusion.compression.export import OnnxModel
    from sfusion.data.files import Rows, Source

ONNX_FILES = ("model.onnx", INT8_NAME)
CLASSES_SHOWN = 5


@dataclass(frozen=True, eq=False)
class Contender:
    """One classifier that is compared: of a directory, or an ONNX file in it.

    Attributes
    ----------
    name : str
    run : callable
        Takes token numbers, and an attention mask as ``attention_mask``.
    data : Encoded
        The texts, as its tokenizer reads them.
    predicted : ndarray of str, shape (N,)
        Its answers, in the labels of the file.
    bytes : int
        Of its weights, or of the ONNX file.
    """

    name: str
    run: Callable
    data: Encoded
    predicted: np.ndarray
    bytes: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """Classifiers side by side; the first is the one that the others stand beside.

    Attributes
    ----------
    table : DataFrame
        A row per classifier: ``accuracy`` with its 95% interval ``low`` and ``high``;
        ``change`` of accuracy against the first with its paired 95% interval
        ``change_low`` and ``change_high``; ``same_labels``, the share of texts with the
        first one's answer; ``ms_batch_1`` and ``ms_batch_32``, median milliseconds;
        ``megabytes``. Shares, not percent.
    recalls : DataFrame
        A row per class, those first where the recalls differ most: ``texts``, and a
        column per classifier.
    max_length : int
        Tokens of a text that a classifier reads at most.
    """

    table: pd.DataFrame
    recalls: pd.DataFrame
    max_length: int

    def __str__(self) -> str:
        """Return the comparison in two small tables."""
        shown = pd.DataFrame(index=self.table.index)
        percent = 100 * self.table
        shown["accuracy (%)"] = percent["accuracy"].map("{:.1f}".format)
        shown["minus the first (pp)"] = [
            interval_text(*points, signed=True)
            for points in zip(
                percent["change"],
                percent["change_low"],
                percent["change_high"],
                strict=True,
            )
        ]
        shown["same label (%)"] = percent["same_labels"].map("{:.1f}".format)
        for batch in (1, 32):
            times = self.table[f"ms_batch_{batch}"]
            shown[f"ms, batch {batch}"] = times.map("{:.2f}".format)
        shown["MB"] = self.table["megabytes"].map("{:.1f}".format)
        shown.iloc[0, [1, 2]] = ""
        texts = self.recalls["texts"].sum()
        differing = self.recalls.head(CLASSES_SHOWN)
        recalls = (100 * differing.drop(columns="texts")).map("{:.1f}".format)
        recalls.insert(0, "texts", differing["texts"])
        of = f"{len(differing)} of {len(self.recalls)} classes"
        return "\n".join(
            [
                f"{counted(texts, 'text')} of {self.max_length} tokens at most; 95% "
                "intervals, of the same texts resampled",
                shown.to_string(),
                "",
                f"Recall (%) where it differs most, {of}:",
                recalls.to_string(index_names=False),
            ]
        )


def compare_classifiers(
    models: Sequence[str | Path],
    data: Source,
    *,
    text_column: str = "text",
    label_column: str = "label",
    labels: Sequence[str] | None = None,
    max_length: int | None = None,
    threads: int | None = None,
) -> Comparison:
    """Measure classifiers on one file, each as plain transformers loads it.

    Where a directory holds ``model.onnx`` or ``model.int8.onnx``, these are compared
    too, one text at a time, without padding.

    Parameters
    ----------
    models : sequence of str or Path
        Two or more, as in :func:`sfusion.data.pretrained.locate_model`; the first is
        the one that the others are compared with.
    data : str, Path, DataFrame or datasets.Dataset
        Labelled texts that no model has been trained on.
    text_column, label_column, labels, threads
        See :func:`sfusion.compress`.
    max_length : int, optional
        Tokens of a text; each model counts its own. By default as many as a compressed
        model among them was made for (its ``report.json`` says so, the largest number
        counts); without one as in :func:`sfusion.compress`.

    Returns
    -------
    Comparison

    Raises
    ------
    SfusionError
        When a model has no head, its labels are not the file's, or it cannot be read.
    """
    names = _names(models)
    if threads is not None and threads < 1:
        raise SfusionError(f"threads {threads}: give a positive number")
    rows = read_rows(data, text_column, label_column)
    sources = [ModelSource.open(model) for model in models]
    if max_length is None:
        max_length = _length_of_reports(sources)
    with fixed_threads(threads or cpu_count()):
        contenders = []
        for name, source in zip(names, sources, strict=True):
            contenders += _open(name, source, rows, labels, max_length)
        runs = {}
        texts = {}
        for contender in contenders:
            key = BEFORE if contender is contenders[0] else contender.name
            runs[key] = contender.run
            texts[key] = contender.data
        times = latency(runs, texts)
    truth = rows.frame["label"].to_numpy()
    return Comparison(
        _tabulate(contenders, truth, times),
        _recalls(contenders, truth),
        max(one.data.input_ids.shape[1] for one in contenders),
    )


def _length_of_reports(sources: Sequence[ModelSource]) -> int | None:
    """Read for how many tokens compressed models were made; None where none says so."""
    lengths = []
    for source in sources:
        file = source.directory / REPORT
        try:
            lengths.append(int(json.loads(file.read_bytes())["data"]["max_length"]))
        except (OSError, ValueError, LookupError, TypeError):  # none, or another's
            continue
    return max(lengths, default=None)


def _names(models: Sequence[str | Path]) -> list[str]:
    """Name the models in short, and in full where that tells them not apart."""
    given = [str(model) for model in models]
    if len(set(given)) < len(given) or len(given) < 2:
        raise SfusionError(
            f"models {', '.join(given) or 'none'}: give two or more, each once"
        )
    short = [Path(model).name or model for model in given]
    counts = Counter(short)
    return [
        name if counts[name] == 1 else whole
        for name, whole in zip(short, given, strict=True)
    ]


def _open(
    name: str,
    source: ModelSource,
    rows: Rows,
    labels: Sequence[str] | None,
    max_length: int | None,
) -> list[Contender]:
    """Let a model answer all texts, and its ONNX files."""
    if not source.as_saved().has_head:
        raise SfusionError(
            f"model {str(source.name)!r} has no classification head: give a "
            "fine-tuned one"
        )
    used = sorted(set(rows.frame["label"]))
    numbers = resolve_labels(used, source.labels, rows.where, labels)
    answers = np.array(labels or source.labels, dtype=object)
    for label, number in numbers.items():
        answers[number] = label
    plain = load_plain(source.directory)
    tokenizer = source.tokenizer
    texts = rows.frame["text"].tolist()
    length = fit_tokens(tokenizer, plain.config, texts, max_length)
    classes = rows.frame["label"].map(numbers).tolist()
    data = encode(texts, classes, tokenizer, length.tokens)
    predicted = predict_logits(plain, data).argmax(-1).numpy()
    weights = sum(p.numel() * p.element_size() for p in plain.parameters())
    found = [Contender(name, plain, data, answers[predicted], weights)]
    for file_name in ONNX_FILES:
        file = source.directory / file_name
        if file.is_file():
            run = _open_onnx(file)
            given = answers[run.logits(data, batch=1).argmax(-1)]
            size = file.stat().st_size
            found.append(Contender(f"{name}/{file_name}", run, data, given, size))
    return found


def _open_onnx(file: Path) -> OnnxModel:
    need_extra("onnx")
    from sfusion.compression.export import OnnxModel

    with one_line(f"{file} cannot be read"):
        run = OnnxModel(file)
    if set(run.inputs) != {"input_ids", "attention_mask"}:
        raise SfusionError(
            f"{file} reads {', '.join(run.inputs)}: give a file that reads input_ids "
            "and attention_mask, or take it out of the directory"
        )
    return run


def _tabulate(
    contenders: Sequence[Contender], truth: np.ndarray, times: Latencies
) -> pd.DataFrame:
    first = contenders[0]
    rows = {}
    for contender in contenders:
        right = contender.predicted == truth
        accuracy = accuracy_interval(right.sum(), len(truth))
        change = paired_change(first.predicted == truth, right)
        timed = times.milliseconds[BEFORE if contender is first else contender.name]
        rows[contender.name] = {
            "accuracy": accuracy.accuracy,
            "low": accuracy.low,
            "high": accuracy.high,
            "change": change.accuracy,
            "change_low": change.low,
            "change_high": change.high,
            "same_labels": float((contender.predicted == first.predicted).mean()),
            **{f"ms_{batch}": one["median"] for batch, one in timed.items()},
            "megabytes": contender.bytes / 1e6,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _recalls(contenders: Sequence[Contender], truth: np.ndarray) -> pd.DataFrame:
    right = pd.DataFrame({one.name: one.predicted == truth for one in contenders})
    by_class = right.groupby(truth)
    recalls = by_class.mean()
    spread = recalls.max(axis=1) - recalls.min(axis=1)
    recalls.insert(0, "texts", by_class.size())
    order = spread.sort_values(ascending=False, kind="stable").index
    return recalls.loc[order].rename_axis("class")
