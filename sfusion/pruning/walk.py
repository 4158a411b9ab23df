"""The walk: several strategies go down the removal tree together.

Strategies that agree so far stand at the same node and share all of its work. A wave is all
nodes of one depth, over all units: they depend on the wave before alone and run in parallel.
"""

import itertools
from collections import defaultdict

import numpy as np
import pandas as pd

from sfusion.models.loading import layer_stack
from sfusion.pruning.nodes import compute_node, node_spec, path_name, remaining, unit_model
from sfusion.pruning.strategies import View, choose, lookup
from sfusion.records.parallel import pool, progress
from sfusion.records.store import content_key
from sfusion.signals import MEASURES
from sfusion.training import derive_seed

VISITS = ["task", "seed", "strategy", "removed", "path"]


def _compute(run, nodes, store):
    """Compute nodes side by side; yield each with its record, in the order given."""
    keys = [content_key(node_spec(unit, path)) for unit, path in nodes]
    calls = [(*node, store, key) for node, key in zip(nodes, keys, strict=True)]
    yield from zip(nodes, run(compute_node, calls), strict=True)
    store.trim()


def next_layer(unit, path, record, label, depth, fusion=None):
    """Let one strategy choose at one node.

    Parameters
    ----------
    unit : Unit
    path : tuple of int
        Layers removed so far.
    record : dict
        Of that node, from :func:`sfusion.pruning.nodes.compute_node`.
    label : str
        Of a strategy, see :func:`sfusion.pruning.strategies.expand`.
    depth : int
        Layers of the original model.
    fusion : sklearn regressor, optional
        For a fusion strategy.

    Returns
    -------
    int
        Number of a layer in the original model.
    """
    view = View(
        layers=remaining(path, depth),
        signals=pd.DataFrame(record["signals"], columns=list(MEASURES)),
        rng=np.random.default_rng(derive_seed("strategy", unit.seed, label)),
        fusion=fusion,
        depth=depth,
    )
    return choose(lookup(label), view)


def walk(units, labels, store, *, fusions=None, title="walk", quiet=None):
    """Take strategies from the unpruned model down to one layer, on every unit.

    Parameters
    ----------
    units : sequence of Unit
        Of one profile.
    labels : sequence of str
        Strategies, see :func:`sfusion.pruning.strategies.expand`.
    store : RecordStore
        Records that are there are not computed again.
    fusions : dict, optional
        ``(unit, label) -> sklearn regressor`` for the fusion strategies.
    title : str
        For the progress bar.
    quiet : bool, optional
        See :func:`sfusion.records.parallel.progress`.

    Returns
    -------
    tuple of (dict, DataFrame)
        The records, ``(unit, path) -> dict``; and the visits, a row a unit, strategy and number
        of removed layers, columns ``task``, ``seed``, ``strategy``, ``removed``, ``path``.
    """
    fusions = fusions or {}
    depth = len(layer_stack(unit_model(units[0])))
    records, visits = {}, []
    frontier = {(unit, ()): list(labels) for unit in units}
    total = len(units) * (1 + len(labels) * (depth - 1))
    with pool(units[0].profile.threads) as run, progress(total, title, quiet) as bar:
        for removed in range(depth):
            for node, record in _compute(run, list(frontier), store):
                records[node] = record
                bar.update(len(frontier[node]) if removed else 1)
            following = defaultdict(list)
            for (unit, path), standing in frontier.items():
                name = path_name(path)
                visits += [(unit.task, unit.seed, label, removed, name) for label in standing]
                for label in standing if removed < depth - 1 else ():
                    layer = next_layer(
                        unit, path, records[unit, path], label, depth, fusions.get((unit, label))
                    )
                    following[unit, (*path, layer)].append(label)
            frontier = following
    return records, pd.DataFrame(visits, columns=VISITS)


def greedy(units, store, *, title="greedy oracle", quiet=None):
    """Search greedily: train every child of a node, go on with the one of highest validation.

    No signal can choose a next layer better than this; and it costs as many trainings as there
    are layers left, at every step.

    Parameters
    ----------
    units : sequence of Unit
        Of one profile.
    store : RecordStore
    title : str
        For the progress bar.
    quiet : bool, optional
        See :func:`sfusion.records.parallel.progress`.

    Returns
    -------
    tuple of (dict, DataFrame)
        As from :func:`walk`, for the strategy ``greedy-oracle``; the records hold the children
        that were passed over too. Of equals the layer nearest the output goes (declared here).
    """
    depth = len(layer_stack(unit_model(units[0])))
    records, standing = {}, {unit: () for unit in units}
    visits = [(unit.task, unit.seed, "greedy-oracle", 0, "") for unit in units]
    total = len(units) * (depth * (depth + 1) // 2 - 1)
    with pool(units[0].profile.threads) as run, progress(total, title, quiet) as bar:
        for removed in range(1, depth):
            children = [
                (unit, (*path, layer))
                for unit, path in standing.items()
                for layer in remaining(path, depth)
            ]
            for node, record in _compute(run, children, store):
                records[node] = record
                bar.update()
            for unit, path in standing.items():
                tried = [(*path, layer) for layer in remaining(path, depth)]
                standing[unit] = max(
                    tried, key=lambda path: (records[unit, path]["validation_accuracy"], path[-1])
                )
                name = path_name(standing[unit])
                visits.append((unit.task, unit.seed, "greedy-oracle", removed, name))
    return records, pd.DataFrame(visits, columns=VISITS)


def subsets(units, store, *, title="all subsets", quiet=None):
    """Train every set of layers that can be left, each along one path.

    The path of a set removes its layers from the top down, so that sets share their prefixes
    and every one costs a single recovery; top-down, because the steps that follow the loss of
    the last layer then help the head to read another (declared here).

    Parameters
    ----------
    units, store, title, quiet
        As of :func:`greedy`.

    Returns
    -------
    dict
        Records, ``(unit, path) -> dict``.
    """
    depth = len(layer_stack(unit_model(units[0])))
    records = {}
    total = len(units) * (2**depth - 2)
    with pool(units[0].profile.threads) as run, progress(total, title, quiet) as bar:
        for removed in range(1, depth):
            nodes = [
                (unit, path)
                for unit in units
                for path in itertools.combinations(reversed(range(depth)), removed)
            ]
            for node, record in _compute(run, nodes, store):
                records[node] = record
                bar.update()
    return records
