"""An ONNX file with its weights in 8 bits, where the accuracy bears that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfusion.compression.export import OnnxFile, OnnxModel, compare, quiet_libraries
from sfusion.errors import one_line
from sfusion.training.evaluation import predict_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sfusion.data.tasks import Task


def quantise(
    exported: OnnxModel, model: PreTrainedModel, task: Task, limit: float
) -> OnnxFile:
    """Write weights in 8 bits beside a file; activations are quantised as they come.

    Parameters
    ----------
    exported : OnnxModel
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

    file = exported.file.with_name("model.int8.onnx")
    with quiet_libraries(), one_line("the ONNX file cannot be quantised"):
        quantize_dynamic(exported.file, file)
    before = exported.accuracy(task.validation)
    after = OnnxModel(file).accuracy(task.validation)
    if before - after > limit + 1e-9:
        file.unlink()
        reason = (
            f"not written: {before:.1%} of the validation texts right in float32, "
            f"{after:.1%} in 8 bits"
        )
        return OnnxFile({"left_out": reason})
    return compare(file, predict_logits(model, task.test).numpy(), task.test)
