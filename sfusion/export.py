"""ONNX: the compressed model for other runtimes, checked against PyTorch."""

import importlib.util

import numpy as np
import torch

from sfusion.errors import SfusionError
from sfusion.measure import accuracy_interval

KINDS = ("onnx", "onnx_int8")
OPSET = 18
BATCH = 64


def check_available():
    """Make sure that the extra is installed.

    Raises
    ------
    SfusionError
        When it is not.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise SfusionError(f"ONNX needs {name!r}: pip install 'sfusion[onnx]'")


class _Logits(torch.nn.Module):
    """A classifier as a function of two tensors."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def write(folder, model, data, int8):
    """Export a model, and measure what was exported on the test samples.

    Parameters
    ----------
    folder : Path
        Gets ``model.onnx``, and ``model.int8.onnx``: weights in 8 bits, activations quantised
        as they come.
    model : transformers.PreTrainedModel
    data : Encoded
    int8 : bool

    Returns
    -------
    list of tuple of (str, dict, callable)
        A name of ``KINDS``, its part of the report, and the session as a function of token
        numbers and an attention mask.

    Raises
    ------
    SfusionError
        When the export fails or its logits are not PyTorch's.
    """
    check_available()
    file = folder / "model.onnx"
    ids = data.input_ids[:2].repeat(2, 1)[:2]
    mask = data.attention_mask[:2].repeat(2, 1)[:2]
    batch, tokens = torch.export.Dim("batch"), torch.export.Dim("tokens")
    try:
        torch.onnx.export(
            _Logits(model).eval(),
            (ids, mask),
            file,
            dynamo=True,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={
                "input_ids": {0: batch, 1: tokens},
                "attention_mask": {0: batch, 1: tokens},
            },
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    except Exception as error:  # the exporter's errors have no common base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SfusionError(f"the model cannot be exported to ONNX: {reason}") from error
    files = {"onnx": file}
    if int8:
        from onnxruntime.quantization import quantize_dynamic

        files["onnx_int8"] = folder / "model.int8.onnx"
        quantize_dynamic(file, files["onnx_int8"])
    return [(name, *_measure(path, model, data)) for name, path in files.items()]


def _measure(file, model, data):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(ids, attention_mask):
        feed = {"input_ids": ids.numpy(), "attention_mask": attention_mask.numpy()}
        return session.run(None, feed)[0]

    parts = range(0, len(data), BATCH)
    found = np.concatenate([
        run(data.input_ids[i : i + BATCH], data.attention_mask[i : i + BATCH]) for i in parts
    ])  # fmt: skip
    right = (found.argmax(-1) == data.labels.numpy()).sum()
    with torch.inference_mode():
        logits = (
            model(data.input_ids[:BATCH], attention_mask=data.attention_mask[:BATCH])
            .logits.float()
            .numpy()
        )
    entry = {
        "file": file.name,
        **accuracy_interval(right, len(data)),
        "bytes": file.stat().st_size,
        "largest_difference": float(np.abs(found[:BATCH] - logits).max()),
    }
    return entry, run
