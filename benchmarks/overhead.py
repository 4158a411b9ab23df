"""What a study of 45 units spends outside training, evaluation and signals.

Nine tasks of made-up texts and five seeds stand for the profile `nine`: its model, the
sizes of its files, its workers and its records; but a single step trains a model, and
few texts are looked at. The seconds of training and evaluation are then scaled to the
samples that `nine` has; its baselines, trainings of their own, are left out. Two
strategies are followed instead of 38, so that fewer nodes bear what a tree costs to
open: the share is rather too high than too low.

Core time is that of all workers from beginning to end, idle or not.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import numpy as np
import pandas as pd
from experiments import changed, evaluated_texts

from sfusion.disk import write_atomically
from sfusion.experiments import forest, pruning_study
from sfusion.experiments.parallel import jobs
from sfusion.experiments.profiles import Profile, load_profile
from sfusion.experiments.store import RecordStore
from sfusion.experiments.trees import Experiment, visit_node
from sfusion.pruning import tree
from sfusion.pruning.node import NodeResult
from sfusion.pruning.searches import Request

STRATEGIES = ["energy", "random-forest"]
STEP = {"samples": 32}
FEW = {"validation": 16, "test": 16, "probe": 8}
FILE_SIZES = {"train": 8000, "validation": 1000, "test": 2000}
CLASSES = 4
WORDS_PER_TEXT = 60

WORK_FOLDER = "work"

# The functions that are work, by the column of their seconds.
WORK = {
    "training": "fine_tune",
    "evaluation": "classified",
    "extraction": "extract_signals",
}


def overhead(quick: bool = False) -> dict[str, Any]:
    """Measure the overhead as a share of the core time of the profile `nine`."""
    full = load_profile("nine")
    small = small_profile(full, quick)
    start = time.perf_counter()
    nodes = nodes_of(small)
    core = (time.perf_counter() - start) * jobs(small.threads)
    spent = core - nodes[list(WORK)].to_numpy().sum()
    count = int((nodes["training"] > 0).sum())
    work = scaled_work(nodes, small, full)
    return {
        "units": len(small.tasks) * len(small.seeds),
        "nodes": count,
        "overhead_core_seconds": round(spent, 1),
        "overhead_seconds_per_node": round(spent / count, 3),
        "work_core_seconds": round(work, 1),
        "share": round(spent / (spent + work), 3),
    }


def small_profile(full: Profile, quick: bool) -> Profile:
    """Leave a profile its tasks and its seeds, but hardly any work."""
    small = changed(
        full,
        source="folder",
        sizes=FEW,
        subsets=(),
        original=STEP,
        recovery=STEP,
        distillation={"removals": ()},
    )
    if quick:
        small = changed(small, tasks=small.tasks[:2], seeds=small.seeds[:1])
    return small


def nodes_of(profile: Profile) -> pd.DataFrame:
    """Run a study of made-up tasks; return the seconds of work of every visit."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        write_tasks(profile.tasks, Path(folder))
        for patch in (
            mock.patch.dict("os.environ", SFUSION_DATA=folder),
            mock.patch.object(forest, "visit_node", timed_visit),
            mock.patch.object(pruning_study, "describe_task", no_baselines),
        ):
            stack.enter_context(patch)
        study = Path(folder) / "study"
        pruning_study.PruningStudy(profile, STRATEGIES).run(study, quiet=True)
        visits = [
            json.loads(file.read_text()) for file in (study / WORK_FOLDER).iterdir()
        ]
    return pd.DataFrame(visits)


def write_tasks(names: tuple[str, ...], folder: Path) -> None:
    """Write tasks of random words."""
    words = Path(__file__).with_name("README.md").read_text("utf-8").split()
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir()
        for split, count in FILE_SIZES.items():
            texts = rng.choice(words, size=(count, WORDS_PER_TEXT))
            labels = rng.integers(CLASSES, size=count)
            frame = pd.DataFrame({"text": map(" ".join, texts), "label": labels})
            frame.to_parquet(folder / name / f"{split}.parquet")


def timed_visit(
    experiment: Experiment, request: Request, store: RecordStore, key: str
) -> NodeResult:
    """Visit a node in a worker, and note the seconds of the functions in ``WORK``."""
    spent = dict.fromkeys(WORK, 0.0)
    with contextlib.ExitStack() as stack:
        for stage, name in WORK.items():
            timed = _timed(getattr(tree, name), stage, spent)
            stack.enter_context(mock.patch.object(tree, name, timed))
        result = visit_node(experiment, request, store, key)
    visit = {"removed": len(request.path.removed), **spent}
    file = Path(store.folder).parent / WORK_FOLDER / uuid4().hex
    write_atomically(file, json.dumps(visit).encode())
    return result


def no_baselines(*_: Any) -> dict[str, Any]:
    """Stand in for the description of a task."""
    return {}


def scaled_work(nodes: pd.DataFrame, small: Profile, full: Profile) -> float:
    """Scale the seconds of training and evaluation to the samples of a full profile."""
    is_original = nodes["removed"] == 0
    originals = nodes.loc[is_original, "training"].sum()
    recoveries = nodes.loc[~is_original, "training"].sum()
    return float(
        originals * full.original.samples / small.original.samples
        + recoveries * full.recovery.samples / small.recovery.samples
        + nodes["evaluation"].sum() * evaluated_texts(full) / evaluated_texts(small)
        + nodes["extraction"].sum()
    )


def _timed(function: Callable, stage: str, spent: dict[str, float]) -> Callable:
    def call(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        result = function(*arguments, **options)
        spent[stage] += time.perf_counter() - start
        return result

    return call
