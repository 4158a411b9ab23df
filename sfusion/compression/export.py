"""Models as ONNX files: written from PyTorch, checked against it, and run."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sfusion.compression.accuracy import accuracy_interval
from sfusion.errors import SfusionError, one_line
from sfusion.training.evaluation import predict_logits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sfusion.data.encoding import Encoded

ONNX_NAMES = ("onnx", "onnx_int8")  # of the files, in a report
OPSET = 18
BATCH = 64  # texts
# Of a logit, or of the largest where that is above 1: two runtimes' rounding.
TOLERANCE = 1e-3


class OnnxModel:
    """A file in onnxruntime, as a function of token numbers and an attention mask.

    Parameters
    ----------
    file : Path
    """

    def __init__(self, file: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        # Its idle threads would go on spinning beside the next model that is timed.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self.file = file
        self._session = onnxruntime.InferenceSession(file, options, providers)

    @property
    def inputs(self) -> list[str]:
        """Names of what the file reads."""
        return [one.name for one in self._session.get_inputs()]

    def __call__(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> np.ndarray:
        """Compute the logits, shape (N, classes)."""
        fed = {"input_ids": input_ids.numpy(), "attention_mask": attention_mask.numpy()}
        return self._session.run(None, fed)[0]

    def logits(self, data: Encoded, batch: int = BATCH) -> np.ndarray:
        """Compute the logits of all samples, batch by batch.

        Parameters
        ----------
        data : Encoded
            N samples.
        batch : int
            Samples that go through together, padded to the longest of them.

        Returns
        -------
        ndarray of shape (N, classes)
        """
        found = []
        for indices in torch.arange(len(data)).split(batch):
            part = data.take(indices).trim()
            found.append(self(part.input_ids, part.attention_mask))
        return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """A file that was written, or not.

    Attributes
    ----------
    entry : dict
        Its part of the report.
    run : OnnxModel or None
        None where it was left out; then the entry says why.
    """

    entry: dict[str, Any]
    run: OnnxModel | None = None


class _Logits(torch.nn.Module):
    """A classifier as a function of two tensors."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep exporters from reporting operators that no classifier has.

    Yields
    ------
    None
    """
    with warnings.catch_warnings(action="ignore"):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def export(file: Path, model: PreTrainedModel, data: Encoded) -> OnnxFile:
    """Export a model to ONNX in float32, and check it against PyTorch.

    Parameters
    ----------
    file : Path
    model : transformers.PreTrainedModel
    data : Encoded
        Samples that it is measured on.

    Returns
    -------
    OnnxFile

    Raises
    ------
    SfusionError
        When the export fails or its logits are not PyTorch's.
    """
    with quiet_libraries(), one_line("the model cannot be exported to ONNX"):
        _write(file, copy.deepcopy(model).float().eval(), data)
    logits = predict_logits(model, data).numpy()
    written = compare(file, logits, data)
    difference = written.entry["largest_difference"]
    if difference > TOLERANCE * max(1.0, float(np.abs(logits).max())):
        raise SfusionError(
            f"the ONNX export differs from PyTorch by {difference:.2g} in a logit: "
            "leave out --onnx, and report which architecture it was"
        )
    return written


def _write(file: Path, model: PreTrainedModel, data: Encoded) -> None:
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    two = torch.arange(2) % len(data)
    program = torch.onnx.export(
        _Logits(model),
        (data.input_ids[two], data.attention_mask[two]),
        dynamo=True,
        input_names=["input_ids", "attention_mask"],
        output_names=["logits"],
        opset_version=OPSET,
        dynamic_shapes={"input_ids": shape, "attention_mask": shape},
        verbose=False,
    )
    # Every node names the line and file on this machine that it came from.
    for part in (program.model.graph, *program.model.functions.values()):
        for node in part.all_nodes():
            node.metadata_props.clear()
    program.save(file, external_data=False)


def compare(
    file: Path, logits: np.ndarray, data: Encoded, batch: int = BATCH
) -> OnnxFile:
    """Measure a file on samples, and compare its logits with PyTorch's.

    Parameters
    ----------
    file : Path
    logits : ndarray of shape (N, classes)
        PyTorch's.
    data : Encoded
    batch : int
        See :meth:`OnnxModel.logits`.

    Returns
    -------
    OnnxFile
    """
    run = OnnxModel(file)
    own = run.logits(data, batch)
    predicted = own.argmax(-1)
    correct = (predicted == data.labels.numpy()).sum()
    entry = {
        "file": file.name,
        **asdict(accuracy_interval(correct, len(data))),
        "bytes": file.stat().st_size,
        "same_labels": int((predicted == logits.argmax(-1)).sum()),
        "largest_difference": float(np.abs(own - logits).max()),
    }
    return OnnxFile(entry, run)
