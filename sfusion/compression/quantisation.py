"""An ONNX file with its weights in 8 bits, where the accuracy bears that."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfusion.compression.export import (
    ONNX_NAMES,
    OnnxFile,
    OnnxModel,
    compare,
    export,
    quiet_libraries,
)
from sfusion.compression.latency import BATCHES
from sfusion.errors import one_line
from sfusion.training.evaluation import predict_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded
    from sfusion.data.tasks import Task

INT8_NAME = "model.int8.onnx"

# What :func:`onnxruntime.quantization.quantize_dynamic` is told. Which of them holds
# depends on the model: no one of them is best on all.
VARIANTS: dict[str, dict[str, Any]] = {
    "per channel": {"per_channel": True, "unsigned": False},
    "per channel, unsigned": {"per_channel": True, "unsigned": True},
    "per tensor": {"per_channel": False, "unsigned": False},
    "per tensor, unsigned": {"per_channel": False, "unsigned": True},
}
PARTLY = "per channel, a tenth of the products in float32"
SPARED = 0.1  # share of the products that stay in float32 there
CALIBRATION = 16  # texts by which they are chosen

PADDING = (
    "the scale of the activations is taken anew from every batch, padding included: "
    "accuracy is of texts that go through alone, without padding; as many as "
    f"{BATCHES[-1]} together, padded to the longest, stand beside it"
)


@dataclass(frozen=True)
class Trial:
    """A file in 8 bits on the validation samples.

    Attributes
    ----------
    variant : str
        How its weights were rounded.
    bytes : int
    accuracy : float
        Share of the samples that go through alone and are answered rightly.
    same_labels : float
        Share of them with the label of the file in float32.
    accuracy_batched, same_labels_batched : float
        The same of samples that go through together, padded to the longest.
    """

    variant: str
    bytes: int
    accuracy: float
    same_labels: float
    accuracy_batched: float
    same_labels_batched: float

    @property
    def score(self) -> tuple[float, float]:
        """The lower accuracy of the two uses; of equal ones, the same labels."""
        return (
            min(self.accuracy, self.accuracy_batched),
            min(self.same_labels, self.same_labels_batched),
        )


def write_onnx(
    folder: Path, model: PreTrainedModel, task: Task, limit: float | None = None
) -> dict[str, OnnxFile]:
    """Export a model to ONNX in float32 and, where its accuracy bears that, in 8 bits.

    Parameters
    ----------
    folder : Path
        Gets ``model.onnx`` and ``model.int8.onnx``.
    model : transformers.PreTrainedModel
    task : Task
        What is written is measured on its test samples.
    limit : float, optional
        Share of validation accuracy that 8 bits may lose; without it they are not
        tried.

    Returns
    -------
    dict of str to OnnxFile
        By names of ``ONNX_NAMES``.
    """
    plain = export(folder / "model.onnx", model, task.test)
    files = [plain]
    if limit is not None and plain.run is not None:
        files.append(quantise(plain.run, model, task, limit))
    return dict(zip(ONNX_NAMES, files, strict=False))


def quantise(
    plain: OnnxModel, model: PreTrainedModel, task: Task, limit: float
) -> OnnxFile:
    """Write weights in 8 bits beside a file, in the way that validation prefers.

    Activations are quantised as they come. Every variant is tried, and the file of the
    best ``score`` is kept, if that is within the limit.

    Parameters
    ----------
    plain : OnnxModel
        In float32.
    model : transformers.PreTrainedModel
        What it was exported from.
    task : Task
        Its validation samples decide, its test samples are reported.
    limit : float
        Share of validation accuracy that may be lost; else the file is left out.

    Returns
    -------
    OnnxFile

    Raises
    ------
    SfusionError
        When the file cannot be quantised.
    """
    file = plain.file.with_name(INT8_NAME)
    expected = plain.logits(task.validation).argmax(-1)
    before = float((expected == task.validation.labels.numpy()).mean())
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        kept = Path(scratch, "kept.onnx")
        trials = _try_all(plain, task.validation, expected, kept)
        best = max(trials, key=lambda trial: trial.score)
        after = best.score[0]
        holds = before - after <= limit + 1e-9
        if holds:
            os.replace(kept, file)
    found = (
        f"{before:.1%} of the validation texts right in float32, {after:.1%} in 8 "
        f"bits, {best.variant}: the best of {len(trials)} ways"
    )
    tried = {"variants": [asdict(trial) for trial in trials]}
    if not holds:
        return OnnxFile({"left_out": f"not written: {found}", **tried})
    return _report(file, model, task.test, {"kept": found, **tried})


def _try_all(
    plain: OnnxModel, data: Encoded, expected: np.ndarray, kept: Path
) -> list[Trial]:
    """Try every variant; the file of the best one stays."""
    trials: list[Trial] = []
    best = (-math.inf, -math.inf)
    candidate = kept.with_name("candidate.onnx")
    for variant, options in _options(plain.file, data).items():
        _round_weights(plain.file, candidate, **options)
        trial = _try(variant, candidate, data, expected)
        trials.append(trial)
        if trial.score > best:
            best = trial.score
            os.replace(candidate, kept)
    return trials


def _options(file: Path, data: Encoded) -> dict[str, dict[str, Any]]:
    """List the variants, the one that spares some products among them."""
    from sfusion.compression.sensitivity import rank_products

    sample = data.take(range(min(CALIBRATION, len(data))))
    with one_line("the ONNX file cannot be quantised"):
        ranked = rank_products(file, sample)
    spared = ranked[: math.ceil(SPARED * len(ranked))]
    partly = {**VARIANTS["per channel"], "spared": spared}
    return {**VARIANTS, PARTLY: partly}


def _round_weights(
    plain: Path,
    file: Path,
    *,
    per_channel: bool,
    unsigned: bool,
    spared: list[str] | None = None,
) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet_libraries(), one_line("the ONNX file cannot be quantised"):
        quantize_dynamic(
            plain,
            file,
            per_channel=per_channel,
            weight_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            nodes_to_exclude=spared or [],
        )


def _try(variant: str, file: Path, data: Encoded, expected: np.ndarray) -> Trial:
    run = OnnxModel(file)
    labels = data.labels.numpy()
    shares = []
    for batch in BATCHES:
        predicted = run.logits(data, batch).argmax(-1)
        shares.append(float((predicted == labels).mean()))
        shares.append(float((predicted == expected).mean()))
    return Trial(variant, file.stat().st_size, *shares)


def _report(
    file: Path, model: PreTrainedModel, data: Encoded, decided: dict[str, Any]
) -> OnnxFile:
    """Measure the file that is kept in both of its uses."""
    logits = predict_logits(model, data).numpy()
    alone, batched = (compare(file, logits, data, batch) for batch in BATCHES)
    beside = {"accuracy": batched.entry["accuracy"]}
    beside["same_labels"] = batched.entry["same_labels"]
    entry = {**alone.entry, f"batch_{BATCHES[-1]}": beside, "padding": PADDING}
    return OnnxFile({**entry, **decided}, alone.run)
