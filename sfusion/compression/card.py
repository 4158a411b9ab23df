"""What is said of a compressed model in words: verdict, summary, model card."""

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from sfusion.compression.export import KINDS

WITHIN = 0.01  # one point of accuracy, where the user names no other


def _percent(share, digits=1):
    return f"{100 * share:.{digits}f}%"


def _points(change):
    mean, low, high = (100 * change[key] for key in ("accuracy", "low", "high"))
    return f"{mean:+.1f} points [{low:+.1f}, {high:+.1f}]".replace("-", "−")


def verdict(told):
    """Say plainly whether the accuracy held, and whether the test texts suffice to say so.

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
    change = told["change"]
    held, *ends = (change[key] >= -limit - 1e-9 for key in ("accuracy", "low", "high"))
    settled = all(end == held for end in ends)
    return (
        f"Test accuracy went from {_percent(told['before']['accuracy'])} to "
        f"{_percent(told['after']['accuracy'])}, {_points(change)}: "
        f"{'within' if held else 'NOT within'} {100 * limit:g} point{'s' * (limit != 0.01)} of "
        f"the original{'' if settled else ' on these texts, which are too few to settle it'}."
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
        for name in KINDS
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
{machine["threads"]} thread(s) on the processor ({machine["processor"]}), transformers
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
