"""An ONNX file with its weights in 8 bits, where the accuracy bears that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfusion.compression.export import (
    ONNX_NAMES,
    OnnxFile,
    OnnxModel,
    compare,
    export,
    quiet_libraries,
)
from sfusion.errors import one_line
from sfusion.training.evaluation import predict_logits

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from sfusion.data.tasks import Task


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
    """Write weights in 8 bits beside a file; activations are quantised as they come.

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
    from onnxruntime.quantization import quantize_dynamic

    file = plain.file.with_name("model.int8.onnx")
    with quiet_libraries(), one_line("the ONNX file cannot be quantised"):
        quantize_dynamic(plain.file, file)
    before = plain.accuracy(task.validation)
    after = OnnxModel(file).accuracy(task.validation)
    if before - after > limit + 1e-9:
        file.unlink()
        reason = (
            f"not written: {before:.1%} of the validation texts right in float32, "
            f"{after:.1%} in 8 bits"
        )
        return OnnxFile({"left_out": reason})
    return compare(file, predict_logits(model, task.test).numpy(), task.test)
