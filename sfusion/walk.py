"""The walk: several strategies go down the removal tree together.

Strategies that agree so far stand at the same node and share all of its work. A wave is all
nodes of one depth, over all units: they depend on the wave before alone and run in parallel.
"""

from collections import defaultdict

import numpy as np
import pandas as pd

from sfusion.models import layer_stack
from sfusion.nodes import compute_node, node_spec, path_name, remaining, unit_model
from sfusion.parallel import pool, progress
from sfusion.runs import content_key
from sfusion.signals import SIGNALS
from sfusion.strategies import View, choose, lookup
from sfusion.training import derive_seed


def next_layer(unit, path, record, label, depth, fusion=None):
    """Let one strategy choose at one node.

    Parameters
    ----------
    unit : Unit
    path : tuple of int
        Layers removed so far.
    record : dict
        Of that node, from :func:`sfusion.nodes.compute_node`.
    label : str
        Of a strategy, see :func:`sfusion.strategies.expand`.
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
        signals=pd.DataFrame(record["signals"], columns=list(SIGNALS)),
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
        Strategies, see :func:`sfusion.strategies.expand`.
    store : RecordStore
        Records that are there are not computed again.
    fusions : dict, optional
        ``(unit, label) -> sklearn regressor`` for the fusion strategies.
    title : str
        For the progress bar.
    quiet : bool, optional
        See :func:`sfusion.parallel.progress`.

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
            nodes = list(frontier)
            keys = [content_key(node_spec(unit, path)) for unit, path in nodes]
            calls = [(*node, store, key) for node, key in zip(nodes, keys, strict=True)]
            found = run(compute_node, calls)
            for node, record in zip(nodes, found, strict=True):
                records[node] = record
                bar.update(len(frontier[node]) if removed else 1)
            store.trim()
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
    columns = ["task", "seed", "strategy", "removed", "path"]
    return records, pd.DataFrame(visits, columns=columns)
