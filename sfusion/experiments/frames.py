"""The tidy frames of a pruning study, made of what the nodes of its trees yielded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sfusion.experiments.results import UNIT
from sfusion.experiments.trees import open_tree
from sfusion.models.layers import remove_layers
from sfusion.models.size import size
from sfusion.signals import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sfusion.experiments.forest import Forest
    from sfusion.experiments.trees import Experiment
    from sfusion.pruning.node import NodeResult
    from sfusion.pruning.path import PruningPath

TRAJECTORIES = [*UNIT, "strategy", "removed", "path"]
SCORES = ["validation_accuracy", "test_accuracy", "test_correct"]
DISTILLATION = [*UNIT, "path", "removed", "condition", *SCORES]


def _key(experiment: Experiment, path: PruningPath) -> dict[str, Any]:
    return {"task": experiment.task, "seed": experiment.seed, "path": path.name}


def _scores(result: NodeResult) -> dict[str, Any]:
    return {
        "validation_accuracy": result.validation.accuracy,
        "test_accuracy": result.test.accuracy,
        "test_correct": result.test.correct,
    }


def node_frame(forest: Forest) -> pd.DataFrame:
    """Make the frame of nodes, see :class:`sfusion.experiments.results.Results`.

    Parameters
    ----------
    forest : Forest

    Returns
    -------
    DataFrame
    """
    sizes = _sizes_by_task(forest)
    return pd.DataFrame(
        {
            **_key(experiment, path),
            "removed": len(path.removed),
            **_scores(result),
            "training": result.training,
            "evaluation": result.evaluation,
            "extraction": result.extraction,
            **sizes[experiment.task][len(path.removed)],
        }
        for (experiment, path), result in forest.results.items()
    )


def _sizes_by_task(forest: Forest) -> dict[str, list[dict[str, Any]]]:
    """Measure models by task, whose heads differ, and number of removed layers."""
    tokens = forest.profile.max_length
    depth = forest.setting.depth
    sizes: dict[str, list[dict[str, Any]]] = {}
    for experiment in forest.experiments:
        if experiment.task not in sizes:
            source = open_tree(experiment, forest.store).source()
            sizes[experiment.task] = [
                size(remove_layers(source, range(depth - removed, depth)), tokens)
                for removed in range(forest.setting.removals + 1)
            ]
    return sizes


def signal_frame(forest: Forest) -> pd.DataFrame:
    """Make the frame of signals, of the nodes where something read them.

    Parameters
    ----------
    forest : Forest

    Returns
    -------
    DataFrame
    """
    depth = forest.setting.depth
    keys: list[dict[str, Any]] = []
    values = [np.empty((0, len(MEASURES)))]
    for (experiment, path), result in forest.results.items():
        if result.signals is not None:
            key = _key(experiment, path)
            keys += [{**key, "layer": layer} for layer in path.remaining(depth)]
            values.append(result.signals[list(MEASURES)].to_numpy(float))
    measured = pd.DataFrame(np.vstack(values), columns=list(MEASURES))
    return pd.DataFrame(keys, columns=[*UNIT, "path", "layer"]).join(measured)


def trajectory_frame(forest: Forest) -> pd.DataFrame:
    """Make the frame of trajectories.

    Parameters
    ----------
    forest : Forest

    Returns
    -------
    DataFrame
    """
    rows = [
        {
            **_key(row.experiment, row.path),
            "strategy": row.label,
            "removed": len(row.path.removed),
        }
        for row in forest.trajectories
    ]
    return pd.DataFrame(rows, columns=TRAJECTORIES)


def distillation_frame(
    distilled: Iterable[tuple[Experiment, PruningPath, str, NodeResult]],
) -> pd.DataFrame:
    """Make the frame of distillations.

    Parameters
    ----------
    distilled : iterable of tuple
        Experiment, path, condition and what came out.

    Returns
    -------
    DataFrame
    """
    rows = [
        {
            **_key(experiment, path),
            "removed": len(path),
            "condition": condition,
            **_scores(result),
        }
        for experiment, path, condition, result in distilled
    ]
    frame = pd.DataFrame(rows, columns=DISTILLATION)
    # Typed also where nothing is distilled, or such a study could not be compared.
    numbers = dict.fromkeys(["validation_accuracy", "test_accuracy"], float)
    return frame.astype({"removed": int, **numbers})
