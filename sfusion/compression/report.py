"""The directory of a compressed model: weights, measured report, figure, card."""

import json
import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

import torch
import yaml
from huggingface_hub import ModelCard

from sfusion import SfusionError
from sfusion.analysis.figures.compression import compression_curve
from sfusion.analysis.figures.look import save_figure
from sfusion.compression import export
from sfusion.compression.card import card, verdict
from sfusion.compression.measure import describe, latency, load_plain, paired_change
from sfusion.models.layers import architecture_of
from sfusion.records.store import write_atomically


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
    except (OSError, TypeError, ValueError, yaml.YAMLError):  # none, or none that can be read
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
        An empty one.
    models : dict of str to transformers.PreTrainedModel
        ``before`` and ``after``.
    tokenizer : transformers.PreTrainedTokenizerBase
    task : Task
    curve : DataFrame
        See :class:`sfusion.compression.compress.CompressionResult`.
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
    original = folder.with_name(f"{folder.name}-original")
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
        shutil.copymode(folder / "report.json", file)  # some libraries leave theirs to the owner
    return told
