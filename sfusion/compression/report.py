"""The directory of a compressed model: weights, ONNX files, measurements, figure, card."""

import contextlib
import copy
import hashlib
import importlib.util
import json
import logging
import platform
import shutil
import tempfile
import time
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path
from timeit import timeit

import numpy as np
import pandas as pd
import torch
from huggingface_hub import EvalResult, ModelCard, ModelCardData, metadata_load
from scipy.stats import binomtest
from transformers import AutoModelForSequenceClassification

from sfusion.analysis.compressing import compression_curve, compression_table
from sfusion.analysis.exhibits import Exhibit, write
from sfusion.analysis.statistics import interval_text
from sfusion.data.splits import SPLITS
from sfusion.errors import SfusionError, first_line
from sfusion.models.architectures import architecture_of
from sfusion.models.layers import copy_model
from sfusion.models.size import size
from sfusion.pruning.path import ORIGINAL
from sfusion.training.evaluation import predict_logits

TEMPLATE = Path(__file__).with_name("card.md.jinja")
WITHIN = 0.01  # one percentage point of accuracy, where the user names no other limit
BATCHES, WARM_UP, ROUNDS = (1, 32), 3, 15
DRAWS = 5000  # of the bootstrap
ONNX = ("onnx", "onnx_int8")
OPSET = 18
ONNX_BATCH = 64
TOLERANCE = (
    1e-3  # of a logit, or of the largest where that is above 1: two runtimes' rounding
)


def licence(directory):
    """Read the licence of a model from its card; None where there is none."""
    try:
        found = metadata_load(Path(directory) / "README.md")["license"]
    except Exception:  # none, or none that can be read
        return None
    return found if isinstance(found, str) else None


def ready_tokenizer(tokenizer, config):
    """Make sure that a tokenizer pads, and that the model knows with what.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        Changed in place: a decoder's often pads with nothing; then the model's padding
        token does, or where it has none, the end of text.
    config : transformers.PreTrainedConfig
        Changed in place.

    Raises
    ------
    SfusionError
        When there is nothing to pad with, a decoder would take padding for its last
        token, or the model lacks embeddings for the tokenizer.
    """
    if tokenizer.pad_token is None:
        number = config.pad_token_id
        own = (
            tokenizer.eos_token
            if number is None
            else tokenizer.convert_ids_to_tokens(number)
        )
        if own is None:
            raise SfusionError(
                "the tokenizer has neither a padding nor an end token: add one"
            )
        tokenizer.pad_token = own
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    if (
        config.pad_token_id != tokenizer.pad_token_id
        and architecture_of(config).reads == "last"
    ):
        raise SfusionError(
            f"the tokenizer pads with token {tokenizer.pad_token_id}, the model expects "
            f"{config.pad_token_id} and would read padding: make them agree"
        )
    if max(tokenizer.get_vocab().values()) >= config.vocab_size:
        raise SfusionError(
            f"the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}: they do not belong together"
        )


def build(folder, tree, chosen, curve, model, asked, *, held_out, onnx, int8, started):
    """Write the model with everything that is reported about it.

    What is reported is measured on the files: loaded again as plain transformers does.

    Parameters
    ----------
    folder : Path
        An empty one.
    tree : PruningTree
    chosen : tuple
        Of the model to write: path, and condition or None; see
        :meth:`PruningTree.model`.
    curve : DataFrame
        See :class:`sfusion.compression.compress.CompressionResult`.
    model : ModelSource
        The user's; its tokenizer and stored type are kept.
    asked : dict
        ``strategy`` and ``target``.
    held_out : bool
        Whether the test texts were held out.
    onnx, int8 : bool
        Also export.
    started : tuple of float
        ``time.perf_counter()`` and ``time.process_time()`` at the beginning.

    Returns
    -------
    dict
        The report.
    """
    task, base, source = tree.task, tree.base, tree.source().config
    tokenizer, stored = model.tokenizer, model.config.dtype or torch.float32
    runs, right, found = {}, {}, {}
    with tempfile.TemporaryDirectory(dir=folder.parent) as original:
        for name, target, node in (
            ("before", original, (ORIGINAL, None)),
            ("after", folder, chosen),
        ):
            copied = copy_model(tree.model(*node), stored).cpu()
            ready_tokenizer(tokenizer, copied.config)
            copied.save_pretrained(target)
            runs[name] = load_plain(target)
            found[name], right[name] = describe(
                runs[name], task.test, base["max_length"]
            )
    tokenizer.save_pretrained(folder)
    if onnx or int8:
        for name, entry, run in export(
            folder, runs["after"], task, int8, _limit(asked["target"])
        ):
            found[name] = entry
            runs |= {name: run} if run else {}
    times, ratios = latency(runs, task.test)
    for name, entry in times.items():
        found[name]["latency_ms"] = entry
    # Not its place on this machine.
    local = Path(model.name).is_dir()
    public = Path(model.name).resolve().name if local else model.name
    data = {
        "fingerprint": task.fingerprint,
        "held_out_test": held_out,
        "max_length": base["max_length"],
    }
    counts = {name: len(getattr(task, name)) for name in SPLITS} | {
        "unlabelled": len(tree.taught) - len(task.train)
    }
    processor = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    libraries = {
        name: version(name).split("+")[0]
        for name in ("torch", "transformers", "sfusion")
    }
    found |= {
        "model": {
            "name": public,
            "type": source.model_type,
            "licence": licence(model.directory),
            "was_fine_tuned": tree.tuned,
        },
        **asked,
        "layers": {"original": tree.depth, "removed": list(chosen[0].removed)},
        "recipes": {
            stage: recipe.model_dump(exclude={"removals"})
            for stage, recipe in tree.recipes.items()
        },
        "data": {"classes": list(task.label_names), **data, **counts},
        "machine": {
            **{k: base[k] for k in ("threads", "precision", "device")},
            "processor": processor,
            **libraries,
        },
        "seed": base["seed"],
        "change": paired_change(right["before"], right["after"], base["seed"]),
        "latency_ratio": ratios,
        "curve": curve.to_dict("records"),
    }
    found["verdict"] = verdict(found)
    write(Exhibit("curve", curve, figure=compression_curve(curve)), folder)
    # On a busy machine the clock says little: the processor's own seconds, over its
    # threads, too.
    spent = time.perf_counter() - started[0], time.process_time() - started[1]
    found["seconds"] = {"clock": round(spent[0], 1), "processor": round(spent[1], 1)}
    text = json.dumps(found, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    (folder / "report.json").write_text(text, "utf-8")
    (folder / "README.md").write_text(str(card(found)), "utf-8")
    for file in folder.iterdir():
        shutil.copymode(
            folder / "report.json", file
        )  # some libraries leave theirs to the owner
    return found


def load_plain(directory):
    """Load a model directory as any user of transformers would, in evaluation mode."""
    options = {"use_safetensors": True, "trust_remote_code": False}
    return AutoModelForSequenceClassification.from_pretrained(
        directory, **options
    ).eval()


def accuracy_interval(correct, total):
    """Compute an accuracy with its 95% interval (Wilson 1927).

    Parameters
    ----------
    correct, total : int
        Samples.

    Returns
    -------
    dict
        ``accuracy``, ``low`` and ``high``, shares; ``correct`` and ``samples``.
    """
    bounds = binomtest(int(correct), int(total)).proportion_ci(method="wilson")
    share = {
        "accuracy": float(correct / total),
        "low": float(bounds.low),
        "high": float(bounds.high),
    }
    return share | {"correct": int(correct), "samples": int(total)}


def paired_change(before, after, seed=0):
    """Compute the change of accuracy on the same samples, with a 95% bootstrap interval.

    Parameters
    ----------
    before, after : ndarray of bool, shape (N,)
        Whether each sample was right.
    seed : int

    Returns
    -------
    dict
        ``accuracy``, ``low``, ``high``: change, as shares.
    """
    change = after.astype(float) - before.astype(float)
    # Only three values occur: drawing how often each comes up is drawing the samples.
    values, counts = np.unique(change, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(
        len(change), counts / len(change), DRAWS
    )
    low, high = np.quantile(drawn @ values / len(change), [0.025, 0.975])
    return {"accuracy": float(change.mean()), "low": float(low), "high": float(high)}


def describe(model, data, max_length):
    """Measure one model on the test samples.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        From :func:`load_plain`.
    data : Encoded
    max_length : int
        Tokens per sequence, for the count of FLOPs.

    Returns
    -------
    tuple of (dict, ndarray of bool)
        Accuracy with interval, hash of the predicted class names in the order of the
        samples (a line each), sizes; and which samples were right.
    """
    predicted = predict_logits(model, data).argmax(-1)
    right = (predicted == data.labels).numpy()
    names = "\n".join(model.config.id2label[int(number)] for number in predicted)
    entry = {
        **accuracy_interval(right.sum(), len(right)),
        "predictions_sha256": hashlib.sha256(names.encode()).hexdigest(),
        **size(model, max_length),
        "bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
    }
    return entry, right


def latency(runs, data):
    """Time several forward passes alternately, so that a busy machine slows all of them alike.

    Parameters
    ----------
    runs : dict of str to callable
        Each takes token numbers, and an attention mask as ``attention_mask``.
        ``before`` is what the others are compared with.
    data : Encoded
        Where the tokens come from; batches are of full length, so that no padding is
        timed.

    Returns
    -------
    tuple of (dict, dict)
        By run and batch size, milliseconds per batch: ``median``, and the quartiles
        ``low`` and ``high`` over the rounds. And by run and batch size how many times
        as fast as ``before``: the median over the rounds of the two times of one round,
        which a disturbance of some rounds does not move.
    """
    found, ratios = (
        {name: {} for name in runs},
        {name: {} for name in runs if name != "before"},
    )
    for count in BATCHES:
        ids = data.input_ids[torch.arange(count) % len(data)]
        calls = {
            name: partial(run, ids, attention_mask=torch.ones_like(ids))
            for name, run in runs.items()
        }
        with torch.inference_mode():
            rounds = [
                {name: timeit(call, number=1) for name, call in calls.items()}
                for _ in range(WARM_UP + ROUNDS)
            ]
        times = 1000 * pd.DataFrame(rounds[WARM_UP:])
        quartiles = (
            times.quantile([0.25, 0.5, 0.75])
            .set_axis(["low", "median", "high"])
            .round(3)
        )
        for name in runs:
            found[name][f"batch_{count}"] = quartiles[name].to_dict()
        for name in ratios:
            ratios[name][f"batch_{count}"] = round(
                float((times["before"] / times[name]).median()), 3
            )
    return found, ratios


def check_onnx():
    """Make sure that the extra is installed, else raise an SfusionError."""
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


def export(folder, model, task, int8, limit=WITHIN):
    """Export a model to ONNX in float32 and, where its accuracy bears that, in 8 bits.

    Parameters
    ----------
    folder : Path
        Gets ``model.onnx``, and ``model.int8.onnx``: weights in 8 bits, activations
        quantised as they come.
    model : transformers.PreTrainedModel
    task : Task
        What is written is measured on its test samples.
    int8 : bool
    limit : float
        Share of validation accuracy that 8 bits may lose; else their file is not
        written.

    Returns
    -------
    list of tuple of (str, dict, callable)
        A name of ``ONNX``, its part of the report, and the session as a function of
        token numbers and an attention mask. Of a file that is not written: why, and
        None.

    Raises
    ------
    SfusionError
        When the export fails or its logits are not PyTorch's.
    """
    model, files = copy.deepcopy(model).float(), [folder / "model.onnx"]
    # The exporters report operators that no classifier has.
    with warnings.catch_warnings(action="ignore"), contextlib.ExitStack() as after:
        after.callback(logging.disable, logging.NOTSET)
        logging.disable(logging.WARNING)
        _export(model, task.test, files[0])
        if int8:
            from onnxruntime.quantization import quantize_dynamic

            files.append(folder / "model.int8.onnx")
            quantize_dynamic(*files)
    if int8:
        plain, eight = (
            _measure(file, None, task.validation)[0]["accuracy"] for file in files
        )
        if lost := plain - eight > limit + 1e-9:
            files.pop().unlink()
    logits = predict_logits(model, task.test).numpy()
    found = [
        (name, *_measure(file, logits, task.test))
        for name, file in zip(ONNX, files, strict=False)
    ]
    difference = found[0][1]["largest_difference"]
    if difference > TOLERANCE * max(1.0, float(np.abs(logits).max())):
        raise SfusionError(
            f"the ONNX export differs from PyTorch by {difference:.2g} in a logit: leave out "
            "--onnx, and report which architecture it was"
        )
    if int8 and lost:
        why = f"not written: {plain:.1%} of the validation texts right in float32, {eight:.1%} in 8 bits"
        found.append((ONNX[1], {"left_out": why}, None))
    return found


def _export(model, data, file):
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    two = torch.arange(2) % len(data)
    try:
        program = torch.onnx.export(
            _Logits(model).eval(), (data.input_ids[two], data.attention_mask[two]), dynamo=True,
            input_names=["input_ids", "attention_mask"], output_names=["logits"], opset_version=OPSET,
            dynamic_shapes={"input_ids": shape, "attention_mask": shape}, verbose=False,
        )  # fmt: skip
        # Every node names the line and file on this machine that it came from.
        for part in (program.model.graph, *program.model.functions.values()):
            for node in part.all_nodes():
                node.metadata_props.clear()
        program.save(file, external_data=False)
    except Exception as error:  # the exporter's errors have no common base
        raise SfusionError(
            f"the model cannot be exported to ONNX: {first_line(error)}"
        ) from error


def _measure(file, logits, data):
    """Run a file over samples and compare its logits with PyTorch's, where these are given."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Its idle threads would go on spinning beside the next model that is timed.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        file, options, providers=["CPUExecutionProvider"]
    )

    def run(input_ids, attention_mask):
        feed = {
            "input_ids": input_ids.numpy(),
            "attention_mask": attention_mask.numpy(),
        }
        return session.run(None, feed)[0]

    batches = zip(
        data.input_ids.split(ONNX_BATCH),
        data.attention_mask.split(ONNX_BATCH),
        strict=True,
    )
    found = np.concatenate([run(*batch) for batch in batches])
    predicted = found.argmax(-1)
    entry = {
        "file": file.name,
        **accuracy_interval((predicted == data.labels.numpy()).sum(), len(data)),
        "bytes": file.stat().st_size,
    }
    if logits is not None:
        entry["same_labels"] = int((predicted == logits.argmax(-1)).sum())
        entry["largest_difference"] = float(np.abs(found - logits).max())
    return entry, run


def _limit(target):
    """Return the share of accuracy that may be lost."""
    return WITHIN if target["max_drop"] is None else target["max_drop"]


def verdict(found):
    """Write in one sentence whether the accuracy held, and whether the test texts settle it."""
    if not found["layers"]["removed"]:
        return "No smaller model stays within the limit on validation: the original is written."
    limit, before, after = _limit(found["target"]), found["before"], found["after"]
    change = [found["change"][key] for key in ("accuracy", "low", "high")]
    held, *ends = (number >= -limit - 1e-9 for number in change)
    settled = all(end == held for end in ends)
    points = interval_text(*(100 * number for number in change), signed=True)
    return (
        f"{after['layers']} of {before['layers']} layers are left, {found['latency_ratio']['after']['batch_1']:.1f} "
        f"times as fast; test accuracy went from {before['accuracy']:.1%} to {after['accuracy']:.1%}, "
        f"{points} pp: {'within' if held else 'NOT within'} {100 * limit:g} pp of the original"
        f"{'' if settled else ' on these texts, which are too few to settle it'}."
    )


def summary(found):
    """Put a report into a few lines."""
    gone = ", ".join(map(str, found["layers"]["removed"])) or "none"
    table = compression_table(found).to_string(
        float_format="{:.4g}".format, index_names=False
    )
    notes = [
        f"{name}: {found[name]['left_out']}"
        for name in ONNX
        if "left_out" in found.get(name, ())
    ]
    return "\n".join(
        [
            found["verdict"],
            f"removed by {found['strategy']}: layers {gone}",
            table,
            *notes,
        ]
    )


def card(found):
    """Fill the template of the model card.

    Parameters
    ----------
    found : dict
        The report.

    Returns
    -------
    huggingface_hub.ModelCard
    """
    base, accuracy = found["model"]["name"], round(found["after"]["accuracy"], 4)
    name, about = f"{base}, {found['after']['layers']} layers", "the user's test texts"
    result = EvalResult(
        "text-classification",
        "own",
        about,
        "accuracy",
        accuracy,
        task_name="Text classification",
    )
    metadata = ModelCardData(
        base_model=base if "/" in base else None,  # a name on the Hub
        license=found["model"]["licence"], library_name="transformers", pipeline_tag="text-classification",
        tags=["layer-pruning", "sfusion"], model_name=name, eval_results=[result],
    )  # fmt: skip
    taught = [row["chosen"] for row in found["curve"] if row["distilled"]]
    exported = [found[name] for name in ONNX if name in found]
    table = compression_table(found).to_markdown(floatfmt=".4g")
    made = {"base": base, "table": table, "taught": taught, "exported": exported}
    return ModelCard.from_template(
        metadata, template_path=str(TEMPLATE), **made, **found
    )
