"""What the book's explorer shows: the right answers along every strategy's path."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from sfusion.experiments.results import UNIT, Results
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import lookup


def explorer(studies: list[Results]) -> str:
    """Write what the explorer reads, a model after the other.

    Parameters
    ----------
    studies : list of Results

    Returns
    -------
    str
        JSON.
    """
    models = {}
    titles: dict[str, str] = {}
    for results in studies:
        paths = _step_by_step(results)
        models[results.manifest["profile"]["model"]] = _model(results, paths)
        for label in paths["strategy"].unique():
            titles.setdefault(label, _title(label))
    content = {"models": models, "strategies": titles}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def _step_by_step(results: Results) -> pd.DataFrame:
    """Return the trajectories of strategies that remove one layer at a time."""
    once = results.trajectories["strategy"].map(lambda label: lookup(label).once)
    return results.trajectories[~once.astype(bool)]


def _title(label: str) -> str:
    """Return a strategy's title, with the number of the draw for random orders."""
    strategy = lookup(label)
    return strategy.title + label.removeprefix(strategy.name).replace("-", " ")


def _model(results: Results, trajectories: pd.DataFrame) -> dict[str, Any]:
    nodes = results.nodes.merge(results.tasks[[*UNIT, "validation", "test"]], on=UNIT)
    milliseconds = 1000 * nodes["evaluation"] / (nodes["validation"] + nodes["test"])
    deepest = trajectories.sort_values("removed").groupby([*UNIT, "strategy"]).last()
    tasks: dict[str, Any] = {}
    for (task, seed), part in nodes.groupby(UNIT):
        entry = tasks.setdefault(task, _task(part))
        paths = deepest.loc[(task, seed), "path"]
        entry["seeds"][int(seed)] = _seed(part, paths)
    return {
        "layers": int(nodes["layers"].max()),
        "ms": milliseconds.groupby(nodes["layers"]).median().round(3).to_dict(),
        "tasks": tasks,
    }


def _task(nodes: pd.DataFrame) -> dict[str, Any]:
    sizes = nodes.groupby("layers")["parameters"].first()
    parameters = {int(layers): int(size) for layers, size in sizes.items()}
    return {"test": int(nodes["test"].iloc[0]), "parameters": parameters, "seeds": {}}


def _seed(nodes: pd.DataFrame, paths: pd.Series) -> dict[str, Any]:
    visited: set[str] = set()
    for name in paths:
        path = PruningPath.parse(name)
        visited.update(
            PruningPath(path.steps[:end]).name for end in range(len(path) + 1)
        )
    correct = nodes.set_index("path")["test_accuracy"] * nodes["test"].iloc[0]
    right = correct.filter(items=sorted(visited)).round().astype(int)
    return {"right": right.to_dict(), "paths": paths.to_dict()}
