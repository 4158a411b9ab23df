"""One node of the removal tree: train it, evaluate it, probe it.

A node is (task, seed, layers removed so far, in order). Its weights and numbers are a pure
function of that and of the profile's training values: its random numbers derive from seed and
path, so neither the strategies that are present nor the order of the work changes it.
"""

import contextlib
import functools
import time
from dataclasses import dataclass

import torch
from safetensors.torch import load, save
from threadpoolctl import threadpool_limits

from sfusion import SfusionError
from sfusion.data.tasks import load_task, resolve
from sfusion.models import loading as models
from sfusion.records.profiles import Profile
from sfusion.records.store import SCHEMA, content_key, versions
from sfusion.signals import MEASURES
from sfusion.signals.extraction import extract_signals
from sfusion.training import (
    accuracies,
    default_device,
    derive_seed,
    fine_tune,
    resolve_precision,
)


@dataclass(frozen=True)
class Unit:
    """One tree: a task and a seed under a profile."""

    profile: Profile
    task: str
    seed: int


def path_name(path):
    """Write a path as text: ``(4, 2)`` becomes ``"4-2"``, the root ``""``."""
    return "-".join(map(str, path))


def remaining(path, depth):
    """List the layers that a path leaves, by their number in the original model."""
    return tuple(layer for layer in range(depth) if layer not in path)


# A process may outlive the files that it has read: so both caches below also go by the fingerprint
# of the model's files, and the first by place and times of the data's.


@functools.lru_cache(maxsize=32)
def _samples(unit, fingerprint, data):
    profile, sizes = unit.profile, unit.profile.sizes
    return load_task(
        unit.task,
        seed=unit.seed,
        sizes=(sizes.train, sizes.validation, sizes.test),
        max_length=profile.max_length,
        tokenizer=profile.model,
        source=profile.source,
    )


def unit_task(unit):
    """Load the samples of a unit; kept for the process, for a walk asks often.

    Parameters
    ----------
    unit : Unit

    Returns
    -------
    Task
    """
    profile = unit.profile
    return _samples(unit, models.fingerprint(profile.model), resolve(unit.task, profile.source))


@functools.lru_cache(maxsize=1)  # 90 MB each; a wave goes through the units in order
def _pretrained(model, fingerprint, label_names, seed):
    return models.load_model(model, label_names=label_names, seed=seed)


def unit_model(unit):
    """Load the pretrained model of a unit, its head drawn by the unit's seed.

    Parameters
    ----------
    unit : Unit

    Returns
    -------
    transformers.PreTrainedModel
        Shared within the process: copy before changing it.
    """
    model, seed = unit.profile.model, derive_seed("head", unit.seed)
    return _pretrained(model, models.fingerprint(model), unit_task(unit).label_names, seed)


def node_spec(unit, path):
    """Write down everything that decides a node's result.

    Parameters
    ----------
    unit : Unit
    path : tuple of int
        Layers removed, in order, by their number in the original model.

    Returns
    -------
    dict
        Plain JSON values.
    """
    profile, device = unit.profile, default_device()
    return {
        "schema": SCHEMA,
        "kind": "node",
        "task": unit_task(unit).fingerprint,
        "model": models.fingerprint(profile.model),
        "seed": unit.seed,
        "path": list(path),
        "max_length": profile.max_length,
        "sizes": profile.sizes.model_dump(),
        "original": profile.original.model_dump(),
        "recovery": profile.recovery.model_dump() if path else None,
        "threads": profile.threads,
        "precision": resolve_precision(profile.precision, device),
        "device": device,
        "versions": versions(),
    }


def _load_weights(unit, path, content):
    """Put cached weights into the pretrained model without the path's layers; None if unfit."""
    model = models.remove_layers(unit_model(unit), path)
    missing, unexpected = model.load_state_dict(load(content), strict=False)
    # Only frozen embeddings may be left out; other library versions may name parameters anew.
    complete = not unexpected and all(".embeddings." in name for name in missing)
    return model if complete else None


def grow(unit, path, store):
    """Train the model of a node, or take its weights from the cache.

    Parameters
    ----------
    unit : Unit
    path : tuple of int
    store : RecordStore

    Returns
    -------
    transformers.PreTrainedModel
        In evaluation mode, on the node's device.
    """
    spec = node_spec(unit, path)
    profile, device = unit.profile, spec["device"]
    content = store.get_weights(spec)
    cached = _load_weights(unit, path, content) if content else None
    if cached is not None:
        return cached.to(device)
    if path:
        parent = grow(unit, path[:-1], store)
        position = path[-1] - sum(layer < path[-1] for layer in path[:-1])
        model, recipe = models.remove_layers(parent, [position]), profile.recovery
    else:
        model, recipe = models.remove_layers(unit_model(unit), ()).to(device), profile.original
    fine_tune(
        model,
        unit_task(unit).train,
        recipe,
        seed=derive_seed("order", unit.seed, tuple(path)),
        precision=spec["precision"],
    )
    frozen = ()
    if profile.original.freeze_embeddings and profile.recovery.freeze_embeddings:
        frozen = {id(p) for p in models.embedding_parameters(model)}
    state = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if id(parameter) not in frozen
    }
    store.put_weights(spec, save(state))
    return model


def check_key(spec, key):
    """Make sure that a worker is about to do what it was asked for.

    Parameters
    ----------
    spec : dict
        As the worker sees it.
    key : str, optional
        Content key of the specification as the asking process saw it; unchecked when left out.

    Raises
    ------
    SfusionError
        When the two differ: other data, code or library versions on the worker's side.
    """
    if key is not None and content_key(spec) != key:
        raise SfusionError(
            f"a worker sees other data, code or versions than the process that asked (task "
            f"{spec['task'][:12]}): install the same on both and start again"
        )


def compute_node(unit, path, store, key=None):
    """Train, evaluate and probe one node, unless its record is there.

    Parameters
    ----------
    unit : Unit
    path : tuple of int
    store : RecordStore
    key : str, optional
        See :func:`check_key`.

    Returns
    -------
    dict
        ``validation_accuracy``, ``test_accuracy`` (shares); ``signals`` (a list a measure, one
        number a layer that is left); ``seconds`` for training, evaluation and signals: of the
        processor, which other work on the machine does not lengthen; on a card, of the clock.
    """
    spec = node_spec(unit, path)
    check_key(spec, key)
    record = store.get(spec)
    if record is not None:
        return record
    task, precision = unit_task(unit), spec["precision"]
    clock = time.process_time if spec["device"] == "cpu" else time.perf_counter
    with fixed_threads(unit.profile.threads):
        start = clock()
        model = grow(unit, path, store)
        trained = clock()
        scores = accuracies(model, task, precision)
        evaluated = clock()
        generator = torch.Generator().manual_seed(derive_seed("probe", unit.seed))
        chosen = torch.randperm(len(task.train), generator=generator)[: unit.profile.sizes.probe]
        signals = extract_signals(
            model, task.train.take(chosen), precision=precision, measures=MEASURES
        )
        probed = clock()
    record = {
        **scores,
        "signals": {slug: signals[slug].tolist() for slug in MEASURES},
        "seconds": {
            "training": trained - start,
            "evaluation": evaluated - trained,
            "signals": probed - evaluated,
        },
    }
    store.put(spec, record)
    return record


@contextlib.contextmanager
def fixed_threads(count):
    """Fix the threads of torch and of the linear algebra under numpy, and restore them."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)
