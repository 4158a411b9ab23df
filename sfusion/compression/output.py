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
from sfusion.compression.trimming import ReadyModel, said_of, trim_vocabulary
from sfusion.errors import SfusionError, one_line
from sfusion.models.layers import copy_model
from sfusion.pruning.path import ORIGINAL

if TYPE_CHECKING:
    from sfusion.compression.export import OnnxFile
    from sfusion.compression.inputs import Texts
    from sfusion.compression.request import Forms
    from sfusion.pruning.tree import PruningTree


REPORT = "report.json"  # in the directory of the model


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
        raise SfusionError(
            f"cannot write {out}: {error.strerror or error}; what is done so far is "
            f"kept in {work}, and the same command goes on from there"
        ) from error


def write_output(
    out: Path,
    work: Path,
    job: Job,
    tree: PruningTree,
    choice: Choice,
    curve: pd.DataFrame,
    *,
    forms: Forms,
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
    forms : Forms
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
    original = ready_model(job, tree, Candidate(ORIGINAL))
    chosen = ready_model(job, tree, choice.chosen)
    if forms.trim_vocabulary:
        chosen = trim_vocabulary(
            chosen.model, chosen.tokenizer, chosen.task, training_texts(job.texts)
        )
    with tempfile.TemporaryDirectory(dir=work) as place:
        models = {
            "before": write_model(Path(place), original),
            "after": write_model(folder, chosen),
        }
    tests = {"before": original.task.test, "after": chosen.task.test}
    length = job.length.tokens
    measured = {
        name: measure(model, tests[name], length) for name, model in models.items()
    }
    onnx_files: dict[str, OnnxFile] = {}
    if forms.onnx or forms.int8:
        limit = job.target.limit if forms.int8 else None
        onnx_files = write_onnx(folder, models["after"], chosen.task, limit)
    runs: dict[str, Callable] = dict(models)
    for name, exported in onnx_files.items():
        if exported.run is not None:
            runs[name] = exported.run
            tests[name] = chosen.task.test
    latencies = latency(runs, tests)
    report = assemble(job, tree, choice, curve, measured, onnx_files, latencies)
    if forms.trim_vocabulary:
        report["vocabulary"] = chosen.entry
        report["notes"].append(said_of(chosen.entry))
    report["seconds"] = stopwatch.read()
    write(Exhibit("curve", curve, figure=compression_curve(curve)), folder)
    text = json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / REPORT).write_text(text, "utf-8")
    (folder / "README.md").write_text(str(card(report)), "utf-8")
    for file in folder.iterdir():  # some libraries leave theirs to the owner
        shutil.copymode(folder / REPORT, file)
    _move(folder, out)
    return report


def _move(folder: Path, out: Path) -> None:
    """Put the finished directory in its place; an empty one gives way."""
    try:
        os.replace(folder, out)
    except OSError as error:
        raise SfusionError(
            f"the model is finished, but cannot be moved to {out} "
            f"({error.strerror or error}): it is kept in {folder}"
        ) from error


def ready_model(job: Job, tree: PruningTree, candidate: Candidate) -> ReadyModel:
    """Take a model from the tree, in the type that the user's was stored in.

    Parameters
    ----------
    job : Job
    tree : PruningTree
    candidate : Candidate

    Returns
    -------
    ReadyModel
        With all pieces of its vocabulary.
    """
    stored = job.source.config.dtype or torch.float32
    model = copy_model(tree.model(candidate.path, candidate.condition), stored).cpu()
    tokenizer = job.source.tokenizer
    ready_tokenizer(tokenizer, model.config)
    return ReadyModel(model, tokenizer, tree.task, {})


def training_texts(texts: Texts) -> list[str]:
    """List the texts that a model may learn its vocabulary from.

    Parameters
    ----------
    texts : Texts

    Returns
    -------
    list of str
        Of the training file those in neither validation nor test, and the unlabelled
        ones.
    """
    held_out: set[str] = set()
    for split in ("validation", "test"):
        held_out.update(texts.split[split]["text"])
    given = texts.rows.frame["text"].tolist()
    if texts.unlabelled is not None:
        given += texts.unlabelled.frame["text"].tolist()
    return [text for text in dict.fromkeys(given) if text not in held_out]


def write_model(folder: Path, ready: ReadyModel) -> PreTrainedModel:
    """Write a model and its tokenizer.

    Parameters
    ----------
    folder : Path
    ready : ReadyModel

    Returns
    -------
    transformers.PreTrainedModel
        As any user of transformers loads it.
    """
    with one_line("the model cannot be written, give a place with space"):
        ready.model.save_pretrained(folder)
        ready.tokenizer.save_pretrained(folder)
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
