"""The directory of a compressed model: weights, ONNX files, figure, report and card."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from huggingface_hub.utils import WeakFileLock
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from sfusion.analysis.compressing import compression_curve
from sfusion.analysis.exhibits import Exhibit, write
from sfusion.compression.accuracy import measure
from sfusion.compression.card import card
from sfusion.compression.depth import Candidate, Choice
from sfusion.compression.latency import latency
from sfusion.compression.quantisation import write_onnx
from sfusion.compression.report import Job, Stopwatch, assemble
from sfusion.compression.tokens import ready_tokenizer
from sfusion.errors import SfusionError, one_line
from sfusion.models.layers import copy_model
from sfusion.pruning.path import ORIGINAL

if TYPE_CHECKING:
    from sfusion.compression.export import OnnxFile
    from sfusion.pruning.tree import PruningTree


@contextlib.contextmanager
def workplace(out: Path) -> Iterator[Path]:
    """Hold the folder of the work for this process alone.

    Parameters
    ----------
    out : Path
        The directory that is being made.

    Yields
    ------
    Path
        A folder beside it.

    Raises
    ------
    SfusionError
        When another process holds it, or in place of a disk's errors.
    """
    work = out.parent / f".{out.name}.sfusion"
    try:
        work.mkdir(exist_ok=True)
        with WeakFileLock(work / "lock", timeout=0.1):
            yield work
    except TimeoutError:  # of the lock: nothing else here waits
        raise SfusionError(
            f"{out} is being made by another process: wait for it, or give another "
            "place"
        ) from None
    except OSError as error:
        raise SfusionError(f"cannot write {out}: {error.strerror or error}") from error


def write_output(
    out: Path,
    work: Path,
    job: Job,
    tree: PruningTree,
    choice: Choice,
    curve: pd.DataFrame,
    *,
    onnx: bool,
    int8: bool,
    stopwatch: Stopwatch,
) -> dict[str, Any]:
    """Write the model with everything that is reported about it.

    What is reported is measured on the files: loaded again as plain transformers does.

    Parameters
    ----------
    out : Path
        Is there whole or not at all.
    work : Path
        A folder on the same disk.
    job : Job
    tree : PruningTree
    choice : Choice
    curve : DataFrame
        See :class:`sfusion.compression.compress.CompressionResult`.
    onnx, int8 : bool
        Also export.
    stopwatch : Stopwatch
        Made when the compression began.

    Returns
    -------
    dict
        The report.
    """
    folder = work / "output"
    shutil.rmtree(folder, ignore_errors=True)  # of a killed run
    folder.mkdir()
    with tempfile.TemporaryDirectory(dir=work) as original:
        models = {
            "before": write_model(Path(original), job, tree, Candidate(ORIGINAL)),
            "after": write_model(folder, job, tree, choice.chosen),
        }
    length = job.length.tokens
    test = tree.task.test
    measured = {name: measure(model, test, length) for name, model in models.items()}
    onnx_files: dict[str, OnnxFile] = {}
    if onnx or int8:
        limit = job.target.limit if int8 else None
        onnx_files = write_onnx(folder, models["after"], tree.task, limit)
    runs: dict[str, Callable] = dict(models)
    for name, exported in onnx_files.items():
        if exported.run is not None:
            runs[name] = exported.run
    latencies = latency(runs, test)
    report = assemble(job, tree, choice, curve, measured, onnx_files, latencies)
    write(Exhibit("curve", curve, figure=compression_curve(curve)), folder)
    report["seconds"] = stopwatch.read()
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / "report.json").write_text(text, "utf-8")
    (folder / "README.md").write_text(str(card(report)), "utf-8")
    for file in folder.iterdir():  # some libraries leave theirs to the owner
        shutil.copymode(folder / "report.json", file)
    os.replace(folder, out)  # an empty directory gives way
    return report


def write_model(
    folder: Path, job: Job, tree: PruningTree, candidate: Candidate
) -> PreTrainedModel:
    """Write a model and its tokenizer, in the type that the user's was stored in.

    Parameters
    ----------
    folder : Path
    job : Job
    tree : PruningTree
    candidate : Candidate

    Returns
    -------
    transformers.PreTrainedModel
        As any user of transformers loads it.
    """
    stored = job.source.config.dtype or torch.float32
    model = copy_model(tree.model(candidate.path, candidate.condition), stored).cpu()
    tokenizer = job.source.tokenizer
    ready_tokenizer(tokenizer, model.config)
    with one_line("the model cannot be written, give a place with space"):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return load_plain(folder)


def load_plain(directory: Path) -> PreTrainedModel:
    """Load a model directory as any user of transformers would, in evaluation mode.

    Parameters
    ----------
    directory : Path

    Returns
    -------
    transformers.PreTrainedModel
    """
    model = AutoModelForSequenceClassification.from_pretrained(
        directory, use_safetensors=True, trust_remote_code=False
    )
    return model.eval()
