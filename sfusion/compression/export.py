"""ONNX: the compressed model for other runtimes, checked against PyTorch."""

import contextlib
import copy
import importlib.util
import logging
import warnings

import numpy as np
import torch

from sfusion import SfusionError
from sfusion.compression.measure import accuracy_interval

KINDS = ("onnx", "onnx_int8")
OPSET = 18
BATCH = 64
TOLERANCE = 1e-3  # of a logit, or of the largest where that is above 1: two runtimes' rounding


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


@contextlib.contextmanager
def _quiet():
    """Keep back what the exporters say of operators that no classifier has."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def write(folder, model, data, int8):
    """Export a model in float32, and measure what was exported on the test samples.

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
        When the extra is missing, the export fails or its logits are not PyTorch's.
    """
    check_available()
    model = copy.deepcopy(model).float()
    files = {"onnx": folder / "model.onnx"}
    with _quiet():
        _export(model, data, files["onnx"])
        if int8:
            from onnxruntime.quantization import quantize_dynamic

            files["onnx_int8"] = folder / "model.int8.onnx"
            quantize_dynamic(files["onnx"], files["onnx_int8"])
    logits = _batched(lambda *batch: _Logits(model)(*batch).float().numpy(), data)
    found = [(name, *_measure(path, logits, data)) for name, path in files.items()]
    difference = found[0][1]["largest_difference"]
    if difference > TOLERANCE * max(1.0, float(np.abs(logits).max())):
        raise SfusionError(
            f"the ONNX export differs from PyTorch by {difference:.2g} in a logit: leave out "
            "--onnx, and tell us which architecture it was"
        )
    return found


def _export(model, data, file):
    import onnx

    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    two = torch.arange(2) % len(data)
    try:
        torch.onnx.export(
            _Logits(model).eval(),
            (data.input_ids[two], data.attention_mask[two]),
            file,
            dynamo=True,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    except Exception as error:  # the exporter's errors have no common base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SfusionError(f"the model cannot be exported to ONNX: {reason}") from error
    # Every node tells from which line of which file on this machine it came.
    graph = onnx.load(file)
    for part in (graph.graph, *graph.functions):
        for node in part.node:
            del node.metadata_props[:]
    onnx.save(graph, file)


def _batched(run, data):
    with torch.inference_mode():
        return np.concatenate(
            [
                run(batch.input_ids, batch.attention_mask)
                for batch in (
                    data.take(range(start, min(start + BATCH, len(data))))
                    for start in range(0, len(data), BATCH)
                )
            ]
        )


def _measure(file, logits, data):
    """Run a file over the test samples and hold it against PyTorch's logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(input_ids, attention_mask):
        feed = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return session.run(None, feed)[0]

    found = _batched(run, data)
    entry = {
        "file": file.name,
        **accuracy_interval((found.argmax(-1) == data.labels.numpy()).sum(), len(data)),
        "same_labels": int((found.argmax(-1) == logits.argmax(-1)).sum()),
        "largest_difference": float(np.abs(found - logits).max()),
        "bytes": file.stat().st_size,
    }
    return entry, run
