"""The report of a compression: what was asked, what was measured, what it means."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from sfusion.analysis.compressing import compression_table
from sfusion.analysis.statistics import interval_text
from sfusion.compression.accuracy import Measured, paired_change
from sfusion.compression.card import licence
from sfusion.compression.export import ONNX_NAMES, OnnxFile
from sfusion.compression.recall import lost_classes
from sfusion.compression.request import Target
from sfusion.data.labels import counted
from sfusion.data.splits import SPLITS

if TYPE_CHECKING:
    from sfusion.compression.depth import Choice
    from sfusion.compression.inputs import Start, Texts
    from sfusion.compression.latency import Latencies
    from sfusion.compression.tokens import TextLength
    from sfusion.compression.understanding import Understanding
    from sfusion.models.source import ModelSource
    from sfusion.pruning.tree import PruningTree

# Test texts, below which an interval of them says nothing of others (declared here).
FEWEST = 30

# Accuracy that no removal of layers gains, so that something else is wrong with the
# original (declared here).
TOO_MUCH = 0.1

# Of what was understood: what concerns the model.
MODEL_FACTS = ("unused_weights", "new_weights", "accuracy_as_it_stands")


@dataclass(frozen=True)
class Stopwatch:
    """Seconds since it was made.

    On a busy machine the clock says little: the processor's own seconds, over its
    threads, too.
    """

    clock: float = field(default_factory=time.perf_counter)
    processor: float = field(default_factory=time.process_time)

    def read(self) -> dict[str, float]:
        """Return the seconds of the clock and of the processor."""
        return {
            "clock": round(time.perf_counter() - self.clock, 1),
            "processor": round(time.process_time() - self.processor, 1),
        }


@dataclass(frozen=True, eq=False)
class Job:
    """What a compression works on.

    Attributes
    ----------
    source : ModelSource
    start : Start
    texts : Texts
    length : TextLength
    strategy : str
    target : Target
    understood : Understanding
    """

    source: ModelSource
    start: Start
    texts: Texts
    length: TextLength
    strategy: str
    target: Target
    understood: Understanding


def assemble(
    job: Job,
    tree: PruningTree,
    choice: Choice,
    curve: pd.DataFrame,
    measured: Mapping[str, Measured],
    onnx_files: Mapping[str, OnnxFile],
    latencies: Latencies,
) -> dict[str, Any]:
    """Assemble the report; all of it are plain JSON values.

    Parameters
    ----------
    job : Job
    tree : PruningTree
    choice : Choice
    curve : DataFrame
        See :class:`sfusion.compression.compress.CompressionResult`.
    measured : mapping of str to Measured
        ``before`` and ``after``.
    onnx_files : mapping of str to OnnxFile
        By names of ``ONNX_NAMES``.
    latencies : Latencies
        By names of both.

    Returns
    -------
    dict
    """
    entries = {name: side.entry for name, side in measured.items()}
    entries.update({name: file.entry for name, file in onnx_files.items()})
    for name, times in latencies.milliseconds.items():
        entries[name]["latency_ms"] = times
    seed = tree.base["seed"]
    change = paired_change(measured["before"].right, measured["after"].right, seed)
    recipes = {
        stage: recipe.model_dump(exclude={"removals"})
        for stage, recipe in tree.recipes.items()
    }
    recalls = {name: side.entry["recall"] for name, side in measured.items()}
    report = {
        **entries,
        "model": _describe_model(job),
        "strategy": job.strategy,
        "target": asdict(job.target),
        "layers": {
            "original": tree.depth,
            "removed": list(choice.chosen.path.removed),
        },
        "recipes": recipes,
        "data": _describe_data(job, tree),
        "machine": _describe_machine(tree),
        "seed": seed,
        "change": asdict(change),
        "latency_ratio": latencies.ratios,
        "curve": curve.to_dict("records"),
        "notes": [*job.understood.doubts, *lost_classes(recalls)],
    }
    report["verdict"] = verdict(report)
    return report


def _describe_model(job: Job) -> dict[str, Any]:
    source = job.source
    facts = job.understood.facts
    place = Path(source.name)
    # Not its place on this machine.
    name = place.resolve().name if place.is_dir() else source.name
    return {
        "name": name,
        "type": source.config.model_type,
        "licence": licence(source.directory),
        "was_fine_tuned": job.start.is_tuned,
        **{name: facts[name] for name in MODEL_FACTS},
    }


def _describe_data(job: Job, tree: PruningTree) -> dict[str, Any]:
    task = tree.task
    return {
        "classes": list(task.label_names),
        "fingerprint": task.fingerprint,
        "held_out_test": job.texts.held_out,
        "max_length": job.length.tokens,
        "cut": job.length.cut,
        "read": job.length.end,
        "texts_per_class": job.understood.facts["texts_per_class"],
        **{split: len(getattr(task, split)) for split in SPLITS},
        "unlabelled": len(tree.taught) - len(task.train),
    }


def _describe_machine(tree: PruningTree) -> dict[str, Any]:
    processor = torch.cpu.get_capabilities().get("cpu_name")
    return {
        "threads": tree.base["threads"],
        "precision": tree.base["precision"],
        "device": tree.base["device"],
        "processor": processor or platform.machine(),
        **{
            library: version(library).split("+")[0]
            for library in ("torch", "transformers", "sfusion")
        },
    }


def verdict(report: dict[str, Any]) -> str:
    """Say in one sentence whether the accuracy held, and whether the texts settle it.

    Parameters
    ----------
    report : dict

    Returns
    -------
    str
    """
    if not report["layers"]["removed"]:
        return (
            "No smaller model stays within the limit on validation: the original is "
            "written."
        )
    limit = Target(**report["target"]).limit
    before, after, change = report["before"], report["after"], report["change"]
    numbers = [change[key] for key in ("accuracy", "low", "high")]
    held, low_held, high_held = [number >= -limit - 1e-9 for number in numbers]
    points = interval_text(*(100 * number for number in numbers), signed=True)
    speed = report["latency_ratio"]["after"]["batch_1"]
    is_slower = " (that is slower)" if speed < 1 else ""
    left = f"{after['layers']} of {before['layers']} layers are left"
    said = (
        f"{left}, {speed:.1f} times as fast{is_slower}; test accuracy went from "
        f"{before['accuracy']:.1%} to {after['accuracy']:.1%}, {points} pp: "
        f"{'not' if held else 'it is'} more than {100 * limit:g} pp below the original"
    )
    texts = report["data"]["test"]
    if texts < FEWEST:
        said += f" on {counted(texts, 'text')}, too few to say anything of others"
    elif low_held != held or high_held != held:
        said += " on these texts, which are too few to settle it"
    if change["accuracy"] > TOO_MUCH:
        said += (
            ". An original that does so much worse than what is left of it is no "
            "measure: see the warnings, and whether its classes are these labels"
        )
    return f"{said}."


def _onnx_lines(entry: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say what an ONNX file takes and answers, or why there is none."""
    if "left_out" in entry:
        return [f"8 bits: {entry['left_out']}"]
    times = {batch: found["median"] for batch, found in entry["latency_ms"].items()}
    line = (
        f"{entry['file']}: {entry['bytes'] / 1e6:.4g} MB, test accuracy "
        f"{entry['accuracy']:.1%}, {times['batch_1']:.4g} ms for one text, "
        f"{times['batch_32']:.4g} ms for 32"
    )
    if times["batch_32"] > after["latency_ms"]["batch_32"]["median"]:
        line += ", which is slower than PyTorch"
    lines = [line]
    if "kept" in entry:
        lines.append(f"{entry['file']}: {entry['kept']}")
    return lines


def summary(report: dict[str, Any]) -> str:
    """Put a report into a few lines.

    Parameters
    ----------
    report : dict

    Returns
    -------
    str
    """
    removed = ", ".join(map(str, report["layers"]["removed"])) or "none"
    table = compression_table(report)
    lines = [
        report["verdict"],
        f"layers removed by {report['strategy']}, counted from 0: {removed}",
        table.to_string(float_format="{:.4g}".format, index_names=False),
    ]
    for name in ONNX_NAMES:
        if name in report:
            lines += _onnx_lines(report[name], report["after"])
    return "\n".join([*lines, *report["notes"]])
