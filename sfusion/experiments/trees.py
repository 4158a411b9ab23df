"""The trees of a study, opened once a process, and one node of them in a worker."""

import functools
from dataclasses import dataclass

import torch

from sfusion.data.pretrained import fingerprint
from sfusion.data.tasks import load_task, resolve
from sfusion.errors import SfusionError
from sfusion.experiments.profiles import Profile
from sfusion.experiments.store import RecordStore, content_key
from sfusion.models.source import load_model
from sfusion.pruning.identity import identity
from sfusion.pruning.strategies import STUDIED
from sfusion.pruning.tree import PruningTree, probe_samples
from sfusion.training.precision import default_device, fixed_threads
from sfusion.training.seeds import derive_seed


@dataclass(frozen=True)
class Experiment:
    """One tree of a study: a task and a seed under a profile."""

    profile: Profile
    task: str
    seed: int


@functools.lru_cache(maxsize=1)
def _pretrained_tensors(name, model):
    return {}


@functools.lru_cache(maxsize=32)
def _pretrained(name, model, label_names, seed):
    """Load a model; what it has in common with the others of its name is in memory once."""
    found = load_model(name, label_names=label_names, seed=seed).to(default_device())
    if (
        found.device.type == "cuda" and found._supports_sdpa
    ):  # fewer kernels; slower on a CPU
        found.set_attn_implementation("sdpa")
    common = _pretrained_tensors(name, model)
    for key, parameter in found.base_model.named_parameters():
        if torch.equal(
            parameter, common.setdefault(key, parameter.data)
        ):  # else it was drawn by the seed
            parameter.data = common[key]
    return found


@functools.lru_cache(
    maxsize=32
)  # each holds its samples, and the teacher's logits for all depths
def _tree(experiment, folder, weights_gb, model, data):
    profile, seed = experiment.profile, experiment.seed
    sizes, length, head = profile.sizes, profile.max_length, derive_seed("head", seed)
    options = {
        "max_length": length,
        "tokenizer": profile.model,
        "source": profile.source,
    }
    task = load_task(
        experiment.task,
        seed=seed,
        sizes=(sizes.train, sizes.validation, sizes.test),
        **options,
    )
    source = functools.partial(
        _pretrained, profile.model, model, task.label_names, head
    )
    recipes = {
        stage: getattr(profile, stage)
        for stage in ("original", "recovery", "distillation")
    }
    base = identity(
        task,
        model,
        seed,
        length,
        profile.threads,
        profile.precision,
        sizes=sizes.model_dump(),
    )
    read = {
        "probe": probe_samples(task, sizes.probe, seed),
        "strategies": profile.strategies or STUDIED,
    }
    return PruningTree(
        source, task, RecordStore(folder, weights_gb), recipes, base=base, **read
    )


def open_tree(experiment, store):
    """Open the tree of an experiment; its samples and the model are kept for the process.

    Parameters
    ----------
    experiment : Experiment
    store : RecordStore

    Returns
    -------
    PruningTree
    """
    profile = experiment.profile
    data = resolve(experiment.task, profile.source)
    return _tree(
        experiment, store.folder, store.weights_gb, fingerprint(profile.model), data
    )


def compute_node(experiment, path, signals, store, key, condition=None):
    """Visit one node in a worker; arguments as of :meth:`PruningTree.visit`."""
    tree = open_tree(experiment, store)
    if content_key(tree.base) != key:
        raise SfusionError(
            f"a worker sees other data, code or versions than the process that asked (task "
            f"{tree.base['task'][:12]}): install the same on both and start again"
        )
    with fixed_threads(experiment.profile.threads):
        record = tree.visit(path, signals, condition)
    tree.release()
    return record
