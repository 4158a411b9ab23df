"""The directory of a compressed model: weights, report, figure, and a card for people."""

import json
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sfusion import export
from sfusion.architectures import architecture_of
from sfusion.errors import SfusionError
from sfusion.measure import describe, latency, load_plain, paired_change
from sfusion.plots import compression_curve, save_figure
from sfusion.runs import write_atomically

WITHIN = 0.01  # one point of accuracy, where the user names no other


def public_name(model):
    """Name a model without saying where on a machine it lies."""
    return Path(model).resolve().name if Path(model).is_dir() else str(model)


def licence(directory):
    """Read the licence of a model from its card.

    Parameters
    ----------
    directory : Path

    Returns
    -------
    str or None
        Identifier as the card gives it; None where there is none.
    """
    card = Path(directory) / "README.md"
    try:
        found = ModelCard.load(card, ignore_metadata_errors=True).data.license
    except (OSError, ValueError):
        return None
    return found if isinstance(found, str) else None


def ready_tokenizer(tokenizer, config):
    """See to it that a tokenizer pads, and that the model knows with what.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Changed in place: a decoder's often pads with nothing; then the model's padding token
        does, or where it has none, the end of text.
    config : transformers.PreTrainedConfig
        Changed in place.

    Raises
    ------
    SfusionError
        When there is nothing to pad with, a decoder would take padding for its last token, or
        the model lacks embeddings for the tokenizer.
    """
    if tokenizer.pad_token is None:
        number = config.pad_token_id
        own = tokenizer.eos_token if number is None else tokenizer.convert_ids_to_tokens(number)
        if own is None:
            raise SfusionError("the tokenizer has neither a padding nor an end token: add one")
        tokenizer.pad_token = own
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    if config.pad_token_id != tokenizer.pad_token_id and architecture_of(config).reads == "last":
        raise SfusionError(
            f"the tokenizer pads with token {tokenizer.pad_token_id}, the model expects "
            f"{config.pad_token_id} and would read padding: make them agree"
        )
    if max(tokenizer.get_vocab().values()) >= config.vocab_size:
        raise SfusionError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}: they do "
            "not belong together"
        )


def build(folder, models, tokenizer, task, curve, facts, *, dtype, onnx, int8, started):
    """Write the model and everything that is said about it.

    What the report says is measured on the files: loaded again as plain transformers does.

    Parameters
    ----------
    folder : Path
        Made anew.
    models : dict of str to transformers.PreTrainedModel
        ``before`` and ``after``.
    tokenizer : transformers.PreTrainedTokenizerBase
    task : Task
    curve : DataFrame
        See :class:`sfusion.compression.CompressionResult`.
    facts : dict
        What is known so far.
    dtype : torch.dtype
        Of the saved weights.
    onnx, int8 : bool
        Also export.
    started : tuple of float
        ``time.perf_counter()`` and ``time.process_time()`` at the beginning.

    Returns
    -------
    dict
        The report.
    """
    shutil.rmtree(folder, ignore_errors=True)
    original = folder.with_name("original")
    places = {"before": original, "after": folder}
    ready_tokenizer(tokenizer, models["after"].config)
    tokenizer.save_pretrained(folder)
    plain, rights, told = {}, {}, dict(facts)
    for name, model in models.items():
        shutil.rmtree(original, ignore_errors=True)
        model.config.pad_token_id = models["after"].config.pad_token_id
        model.cpu().to(dtype).save_pretrained(places[name])
        plain[name] = load_plain(places[name])
        told[name], rights[name] = describe(plain[name], task.test, facts["data"]["max_length"])
    shutil.rmtree(original, ignore_errors=True)
    told["change"] = paired_change(rights["before"], rights["after"], facts["seed"])
    runs = dict(plain)
    if onnx or int8:
        for name, entry, run in export.write(folder, plain["after"], task.test, int8):
            told[name], runs[name] = entry, run
    for name, times in latency(runs, task.test).items():
        told[name]["latency_ms"] = times
    told["curve"] = curve.to_dict("records")
    told["machine"] = {
        **facts["machine"],
        "processor": torch.cpu.get_capabilities().get("cpu_name") or platform.machine(),
        "transformers": version("transformers"),
        "sfusion": version("sfusion"),
    }
    told["verdict"] = verdict(told)
    save_figure("curve", compression_curve(curve), curve, folder)
    # On a busy machine the clock says little: the processor's own seconds, over its threads, too.
    told["seconds"] = {
        "clock": round(time.perf_counter() - started[0], 1),
        "processor": round(time.process_time() - started[1], 1),
    }
    text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(folder / "report.json", text.encode())
    write_atomically(folder / "README.md", str(card(told)).encode())
    for file in folder.iterdir():
        file.chmod(0o644)  # some libraries leave files to their owner alone
    return told


def _percent(share, digits=1):
    return f"{100 * share:.{digits}f}%"


def _points(change):
    mean, low, high = (100 * change[key] for key in ("accuracy", "low", "high"))
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]".replace("-", "−")


def verdict(told):
    """Say plainly whether the accuracy held.

    Parameters
    ----------
    told : dict
        The report so far.

    Returns
    -------
    str
        One sentence.
    """
    if not told["layers"]["removed"]:
        return "No smaller model stays within the limit on validation: the original is written."
    limit = told["target"]["max_drop"]
    limit = WITHIN if limit is None else limit
    held = told["change"]["accuracy"] >= -limit - 1e-9
    return (
        f"Test accuracy went from {_percent(told['before']['accuracy'])} to "
        f"{_percent(told['after']['accuracy'])}, {_points(told['change'])}: "
        f"{'within' if held else 'NOT within'} {100 * limit:g} point{'s' * (limit != 0.01)} of "
        "the original."
    )


def summary(told):
    """Put a report into a few lines.

    Parameters
    ----------
    told : dict
        The report.

    Returns
    -------
    str
    """
    lines = [
        f"layers {told['before']['layers']} -> {told['after']['layers']}, removed in the original "
        f"{told['layers']['removed']} by {told['strategy']}",
        told["verdict"],
        f"parameters {told['before']['parameters'] / 1e6:.1f} M -> "
        f"{told['after']['parameters'] / 1e6:.1f} M, weights "
        f"{told['before']['bytes'] / 1e6:.1f} MB -> {told['after']['bytes'] / 1e6:.1f} MB",
    ]
    for batch, before in told["before"]["latency_ms"].items():
        after = told["after"]["latency_ms"][batch]
        lines.append(
            f"{batch.replace('_', ' ')}: {before['median']:.1f} ms -> {after['median']:.1f} ms, "
            f"{before['median'] / after['median']:.2f} times as fast"
        )
    return "\n".join(lines)


def _distillation(curve):
    """Say whether the original taught at the end, and whether that stayed."""
    if not any(row["distilled"] for row in curve):
        return "It was not distilled."
    if any(row["distilled"] and row["chosen"] for row in curve):
        return "At the end the original taught it (distillation)."
    return "Distillation did not raise its validation accuracy and was left out."


def card(told):
    """Write the model card.

    Parameters
    ----------
    told : dict
        The report.

    Returns
    -------
    huggingface_hub.ModelCard
    """
    data, after, before = told["data"], told["after"], told["before"]
    base = told["model"]["name"]
    on_hub = "/" in base
    metadata = ModelCardData(
        base_model=base if on_hub else None,
        license=told["model"]["licence"],
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=["layer-pruning", "sfusion"],
        model_name=f"{base}, {after['layers']} layers",
        eval_results=[
            EvalResult("text-classification", "own", "the user's test texts", "accuracy",
                       round(after["accuracy"], 4), task_name="Text classification")
        ],
    )  # fmt: skip
    rows = {
        "layers": (before["layers"], after["layers"]),
        "test accuracy [95% interval]": tuple(
            f"{_percent(e['accuracy'])} [{_percent(e['low'])}, {_percent(e['high'])}]"
            for e in (before, after)
        ),
        "parameters": (f"{before['parameters']:,}", f"{after['parameters']:,}"),
        "bytes of weights": (f"{before['bytes']:,}", f"{after['bytes']:,}"),
        "FLOPs a text": (f"{before['flops']:,}", f"{after['flops']:,}"),
        **{
            f"ms, {batch.replace('_', ' ')} (quartiles)": tuple(
                f"{e['latency_ms'][batch]['median']:.1f} ({e['latency_ms'][batch]['low']:.1f} to "
                f"{e['latency_ms'][batch]['high']:.1f})"
                for e in (before, after)
            )
            for batch in before["latency_ms"]
        },
    }
    table = "\n".join(f"| {name} | {one} | {two} |" for name, (one, two) in rows.items())
    tuned = "was fine-tuned already" if told["model"]["was_fine_tuned"] else "was fine-tuned first"
    test = "held out of the training file" if data["held_out_test"] else "of the test file"
    exported = "".join(
        f"- `{told[name]['file']}`: test accuracy {_percent(told[name]['accuracy'])}, "
        f"{told[name]['bytes']:,} bytes, largest difference of a logit from PyTorch "
        f"{told[name]['largest_difference']:.2g}\n"
        for name in export.KINDS
        if name in told
    )
    classes = ", ".join(f"`{name}`" for name in data["classes"])
    removed = ", ".join(map(str, told["layers"]["removed"])) or "none"
    machine = told["machine"]
    text = f"""---
{metadata.to_yaml()}
---

# {base} with {after["layers"]} of {before["layers"]} layers

{told["verdict"]}

| | original | this model |
|---|---|---|
{table}

Measured on {data["test"]:,} texts {test}, of {data["max_length"]} tokens at most; times with
{machine["threads"]} threads on {machine["processor"]}, {machine["device"]}, transformers
{machine["transformers"]}, torch {machine["torch"]}.

![Validation accuracy against parameters](curve.png)

## How it was made

The original (`{base}`, licence: {told["model"]["licence"] or "not known"}) {tuned}. Layers removed,
in this order, numbered from 0 at the embeddings: {removed}; chosen by `{told["strategy"]}`, with
fine-tuning after each on {data["train"]:,} texts; {data["validation"]:,} more decided what is
kept. {_distillation(told["curve"])} Classes: {classes}. Everything else stands in `report.json`.
{exported}
## How to use it

```python
from transformers import pipeline

classify = pipeline("text-classification", "path/of/this/directory")
classify("a text", truncation=True, max_length={data["max_length"]})
```
"""
    return ModelCard(text)
