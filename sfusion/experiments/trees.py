"""The trees of a study, opened once a process, and one node of them in a worker."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sfusion.data.pretrained import fingerprint
from sfusion.data.tasks import load_task, resolve
from sfusion.errors import SfusionError
from sfusion.experiments.profiles import Profile
from sfusion.experiments.store import RecordStore, content_key
from sfusion.models.source import load_model
from sfusion.pruning.identity import identity
from sfusion.pruning.searches import Request
from sfusion.pruning.strategies import STUDIED
from sfusion.pruning.tree import PruningTree, probe_samples
from sfusion.training.precision import default_device, fixed_threads
from sfusion.training.seeds import derive_seed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sfusion.data.tasks import Task
    from sfusion.pruning.node import NodeResult


@dataclass(frozen=True)
class Experiment:
    """One tree of a study: a task and a seed under a profile."""

    profile: Profile
    task: str
    seed: int


def load_samples(experiment: Experiment) -> Task:
    """Load the samples of an experiment.

    Parameters
    ----------
    experiment : Experiment

    Returns
    -------
    Task
    """
    profile = experiment.profile
    sizes = profile.sizes
    return load_task(
        experiment.task,
        seed=experiment.seed,
        sizes=(sizes.train, sizes.validation, sizes.test),
        max_length=profile.max_length,
        tokenizer=profile.model,
        source=profile.source,
    )


@functools.lru_cache(maxsize=1)
def _shared_tensors(name: str, model: str) -> dict[str, torch.Tensor]:
    """Hold the tensors that all models of one name have in common."""
    return {}


def _pretrained(
    name: str, model: str, label_names: tuple[str, ...], seed: int
) -> PreTrainedModel:
    """Load a model; what it has in common with the others of its name is there once."""
    loaded = load_model(name, label_names=label_names, seed=seed).to(default_device())
    if loaded.device.type == "cuda" and loaded._supports_sdpa:
        loaded.set_attn_implementation("sdpa")  # fewer kernels; slower on a CPU
    shared = _shared_tensors(name, model)
    for key, parameter in loaded.base_model.named_parameters():
        known = shared.setdefault(key, parameter.data)
        if torch.equal(parameter, known):  # else it was drawn by the seed
            parameter.data = known
    return loaded


# A wave comes past all trees, so none may have to go: each holds its samples as token
# numbers, a head of its own, and once it has taught, the teacher's logits.
@functools.cache
def _tree(
    experiment: Experiment, folder: Path, weights_gb: float, model: str, data: tuple
) -> PruningTree:
    profile = experiment.profile
    seed = experiment.seed
    # Of many trees texts are the largest part, and no node reads them.
    task = replace(load_samples(experiment), texts={})
    base = identity(
        task,
        model,
        seed,
        profile.max_length,
        profile.threads,
        profile.precision,
        sizes=profile.sizes.model_dump(),
    )
    head = derive_seed("head", seed)

    @functools.cache
    def source() -> PreTrainedModel:
        return _pretrained(profile.model, model, task.label_names, head)

    return PruningTree(
        source,
        task,
        RecordStore(folder, weights_gb),
        profile.recipes,
        base=base,
        probe=probe_samples(task, profile.sizes.probe, seed),
        strategies=profile.strategies or STUDIED,
    )


def open_tree(experiment: Experiment, store: RecordStore) -> PruningTree:
    """Open the tree of an experiment; samples and model are kept for the process.

    Parameters
    ----------
    experiment : Experiment
    store : RecordStore

    Returns
    -------
    PruningTree
        Its task has tokens and no texts; these are :func:`load_samples`'s.
    """
    profile = experiment.profile
    data = resolve(experiment.task, profile.source)
    model = fingerprint(profile.model)
    return _tree(experiment, store.folder, store.weights_gb, model, data)


def visit_node(
    experiment: Experiment,
    request: Request,
    store: RecordStore,
    key: str,
    condition: str | None = None,
) -> NodeResult:
    """Visit one node in a worker.

    Parameters
    ----------
    experiment : Experiment
    request : Request
    store : RecordStore
    key : str
        Content key of the tree's base in the process that asks.
    condition : str, optional
        See :meth:`PruningTree.model`.

    Returns
    -------
    NodeResult

    Raises
    ------
    SfusionError
        When the worker's data, code or versions are others.
    """
    tree = open_tree(experiment, store)
    if content_key(tree.base) != key:
        raise SfusionError(
            "a worker sees other data, code or versions than the process that asked "
            f"(task {tree.base['task'][:12]}): install the same on both and start again"
        )
    with fixed_threads(experiment.profile.threads):
        result = tree.visit(request.path, request.signals, condition)
    tree.release()
    return result
