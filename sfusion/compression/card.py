"""The model card of a compressed model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData, metadata_load

from sfusion.analysis.compressing import compression_table
from sfusion.compression.export import ONNX_NAMES

TEMPLATE = Path(__file__).with_name("card.md.jinja")


def licence(directory: Path) -> str | None:
    """Read the licence of a model from its card.

    Parameters
    ----------
    directory : Path

    Returns
    -------
    str or None
        None where there is none, or none that can be read.
    """
    try:
        named = metadata_load(directory / "README.md")["license"]
    except Exception:
        return None
    return named if isinstance(named, str) else None


def command(report: dict[str, Any]) -> str:
    """Write the command that makes such a model, with names in the place of files.

    Parameters
    ----------
    report : dict
        See :func:`card`.

    Returns
    -------
    str
    """
    words = [f"--model {shlex.quote(report['model']['name'])}", "--train TRAIN_FILE"]
    if not report["data"]["held_out_test"]:
        words.append("--test TEST_FILE")
    if report["data"]["unlabelled"]:
        words.append("--unlabelled MORE_TEXTS")
    target = report["target"]
    if target["keep"] is not None:
        words.append(f"--keep {target['keep']}")
    if target["max_drop"] is not None:
        words.append(f"--max-drop {target['max_drop']}")
    words.append(f"--strategy {report['strategy']}")
    words.append(f"--max-length {report['data']['max_length']}")
    if report["data"].get("read") == "tail":
        words.append("--read tail")
    if not any(row["distilled"] for row in report["curve"]):
        words.append("--no-distill")
    options = {
        "onnx": "--onnx",
        "onnx_int8": "--int8",
        "vocabulary": "--trim-vocabulary",
    }
    words += [option for part, option in options.items() if part in report]
    words += [f"--seed {report['seed']}", "--out DIRECTORY"]
    return " \\\n  ".join(["sfusion compress", *words])


def card(report: dict[str, Any]) -> ModelCard:
    """Fill the template of the model card.

    Parameters
    ----------
    report : dict
        See :attr:`sfusion.compression.compress.CompressionResult.report`.

    Returns
    -------
    huggingface_hub.ModelCard
    """
    base = report["model"]["name"]
    name = f"{base}, {report['after']['layers']} layers"
    result = EvalResult(
        task_type="text-classification",
        task_name="Text classification",
        dataset_type="own",
        dataset_name="the user's test texts",
        metric_type="accuracy",
        metric_value=round(report["after"]["accuracy"], 4),
    )
    metadata = ModelCardData(
        base_model=base if "/" in base else None,  # a name on the Hub
        license=report["model"]["licence"],
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["layer-pruning", "sfusion"],
        model_name=name,
        eval_results=[result],
    )
    exported = [report[name] for name in ONNX_NAMES if name in report]
    return ModelCard.from_template(
        metadata,
        template_path=str(TEMPLATE),
        base=base,
        table=compression_table(report).to_markdown(floatfmt=".4g"),
        taught=[row["chosen"] for row in report["curve"] if row["distilled"]],
        exported=exported,
        written=[file for file in exported if "left_out" not in file],
        command=command(report),
        **report,
    )
