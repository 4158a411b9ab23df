"""Which matrix products of an ONNX file suffer most from 8 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

    from sfusion.data.encoding import Encoded

TINY = float(np.finfo(np.float32).tiny)  # divides where there is nothing


def rank_products(file: Path, data: Encoded) -> list[str]:
    """Rank the products with weights by the error that 8 bits make in each alone.

    The squared error of a product's result in 8 bits, activations per tensor and
    weights per channel, as a share of the result's own square; on the activations of
    the model in float32. Declared here.

    Parameters
    ----------
    file : Path
        In float32.
    data : Encoded
        A few samples, which go through one at a time, without padding.

    Returns
    -------
    list of str
        Names of the nodes, that of the largest error first.
    """
    model = onnx.load(file)
    weights = {one.name: one for one in model.graph.initializer}
    products = []
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in weights:
            products.append(node)
    read = sorted({node.input[0] for node in products})
    del model.graph.output[:]
    for name in read:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    activations = _run(model, data, read)
    errors = {}
    for node in products:
        weight = numpy_helper.to_array(weights[node.input[1]])
        errors[node.name] = _relative_error(activations[node.input[0]], weight)
    return sorted(errors, key=errors.__getitem__, reverse=True)


def _run(
    model: onnx.ModelProto, data: Encoded, names: list[str]
) -> dict[str, list[np.ndarray]]:
    """Return what some tensors hold, an array per sample."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number in range(len(data)):
        part = data.take([number]).trim()
        fed = {
            "input_ids": part.input_ids.numpy(),
            "attention_mask": part.attention_mask.numpy(),
        }
        for name, values in zip(names, session.run(names, fed), strict=True):
            found[name].append(values)
    return found


def _relative_error(activations: list[np.ndarray], weight: np.ndarray) -> float:
    rounded_weight = _round_per_channel(weight)
    error = 0.0
    whole = 0.0
    for values in activations:
        exact = values @ weight
        error += float(np.square(_round_tensor(values) @ rounded_weight - exact).sum())
        whole += float(np.square(exact).sum())
    return error / max(whole, TINY)


def _round_tensor(values: np.ndarray) -> np.ndarray:
    """Round to 256 even steps between the extremes, of which 0 is one."""
    low = min(0.0, float(values.min()))
    high = max(0.0, float(values.max()))
    step = max((high - low) / 255, TINY)
    zero = round(-low / step)
    return (np.clip(np.round(values / step) + zero, 0, 255) - zero) * step


def _round_per_channel(weight: np.ndarray) -> np.ndarray:
    """Round every column to 255 even steps around 0."""
    step = np.abs(weight).max(0, keepdims=True) / 127
    step = np.maximum(step, TINY)
    return np.round(weight / step) * step
