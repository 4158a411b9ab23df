"""Searches over the pruning trees of a study: by strategies, greedy, exhaustive; in parallel."""

import itertools
import warnings
from collections import defaultdict

from sfusion.experiments.parallel import pool, progress
from sfusion.experiments.store import content_key
from sfusion.experiments.trees import compute_node, open_tree
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.strategies import lookup
from sfusion.pruning.tree import next_path, signal_frame


def _read(labels, removed):
    """Check whether strategies read the signals of a node from which so many layers are gone."""
    return any(
        one.reads_signals and not (removed and one.once) for one in map(lookup, labels)
    )


class Search:
    """Several experiments searched side by side; a wave is all nodes of one depth.

    Nodes of a wave depend on the wave before alone, so they run in parallel; strategies
    that agree so far stand at the same node and share all of its work.

    Parameters
    ----------
    experiments : sequence of Experiment
        Of one profile.
    store : RecordStore
        Records that are there are not computed again.
    quiet : bool, optional
        See :func:`sfusion.experiments.parallel.progress`.

    Attributes
    ----------
    records : dict
        ``(experiment, path) -> dict``, see :meth:`PruningTree.visit`.
    trajectories : list of tuple
        ``task``, ``seed``, ``strategy``, ``removed``, ``path``.
    """

    def __init__(self, experiments, store, quiet=None):
        self.experiments, self.store, self.quiet = experiments, store, quiet
        self.profile, self.records, self.trajectories = experiments[0].profile, {}, []
        self.bases = {
            experiment: open_tree(experiment, store).base for experiment in experiments
        }
        tree = open_tree(experiments[0], store)
        self.depth, self.fixed, self.lowest = tree.depth, tree.fixed, tree.lowest

    def _wave(self, run, nodes, bar, steps=None):
        """Compute nodes, given with whether their signals are read."""
        keys = {e: content_key(self.bases[e]) for e, _ in nodes}
        calls = [
            (*node, signals, self.store, keys[node[0]])
            for node, signals in nodes.items()
        ]
        for node, record in zip(nodes, run(compute_node, calls), strict=True):
            self.records[node] = {**self.records.get(node, {}), **record}
            bar.update(steps[node] if steps else 1)
        self.store.trim()

    def _stand(self, experiment, label, path):
        self.trajectories.append(
            (experiment.task, experiment.seed, label, len(path.removed), path.name)
        )

    def iterate(self, labels, fusions=None, *, teach=False, title="strategies"):
        """Take strategies from the unpruned models down to the fewest layers.

        A strategy that reads a signal which the architecture does not have is left out
        with a warning.

        Parameters
        ----------
        labels : sequence of str
            Strategies, see :func:`sfusion.pruning.strategies.expand`.
        fusions : dict, optional
            ``(experiment, label) -> sklearn regressor`` for the fusions.
        teach : bool
            Whether fusions will learn from these removals: then all signals are
            extracted.
        title : str
            Of the progress bar.
        """
        # The bar's unit is a recovery with its evaluation, which is about as much work:
        # an original takes more.
        root = max(
            1, self.profile.original.samples // (2 * self.profile.recovery.samples)
        )
        fusions, removals = fusions or {}, self.depth - self.lowest
        frontier = {
            (experiment, ORIGINAL): list(labels) for experiment in self.experiments
        }
        total = len(self.experiments) * (root + len(labels) * removals)
        with (
            pool(self.profile.threads) as run,
            progress(total, title, self.quiet) as bar,
        ):
            for removed in range(removals + 1):
                down = removed < removals
                read = {
                    node: down and (teach or _read(here, removed))
                    for node, here in frontier.items()
                }
                steps = {
                    node: len(here) if removed else root
                    for node, here in frontier.items()
                }
                self._wave(run, read, bar, steps)
                following = defaultdict(list)
                for (experiment, path), here in frontier.items():
                    for label in here if removed else self._possible(experiment, here):
                        self._stand(experiment, label, path)
                        if down:
                            following[
                                experiment, self._next(experiment, path, label, fusions)
                            ].append(label)
                frontier = following

    def _possible(self, experiment, labels):
        """Leave out strategies whose signal the architecture does not have."""
        signals = self.records[experiment, ORIGINAL].get("signals", {})
        lacking = [
            label for label in labels if None in signals.get(lookup(label).signal, ())
        ]
        if lacking:
            warnings.warn(
                f"left out, for the model has no such signal: {lacking}", stacklevel=3
            )
        return [label for label in labels if label not in lacking]

    def _next(self, experiment, path, label, fusions):
        """Return the path that a strategy takes next."""

        def read(parent):
            return signal_frame(self.records[experiment, parent]["signals"])

        options = {
            "depth": self.depth,
            "base": self.bases[experiment],
            "fixed": self.fixed,
        }
        return next_path(
            label, path, read, fusion=fusions.get((experiment, label)), **options
        )

    def greedy(self):
        """Train every child of a node and go on with the one of highest validation accuracy.

        No signal can choose a next layer better than this; and it costs as many
        trainings as there are layers left, at every step. Ties are broken towards the
        output (declared here).
        """
        standing = dict.fromkeys(self.experiments, ORIGINAL)
        steps = range(self.depth, self.lowest, -1)
        total = len(self.experiments) * sum(left - len(self.fixed) for left in steps)
        for experiment in self.experiments:
            self._stand(experiment, "greedy-oracle", ORIGINAL)
        with (
            pool(self.profile.threads) as run,
            progress(total, "greedy search", self.quiet) as bar,
        ):
            for _ in steps:
                children = {
                    e: [path.then(layer) for layer in self._removable(path)]
                    for e, path in standing.items()
                }
                self._wave(
                    run,
                    {
                        (e, path): False
                        for e, tried in children.items()
                        for path in tried
                    },
                    bar,
                )
                for experiment, tried in children.items():
                    # Ties are broken towards the output.
                    ranks = {
                        path: (
                            self.records[experiment, path]["validation_accuracy"],
                            path.last,
                        )
                        for path in tried
                    }
                    standing[experiment] = max(ranks, key=ranks.get)
                    self._stand(experiment, "greedy-oracle", standing[experiment])

    def exhaustive(self, experiments):
        """Train every set of layers that can be left, each along one path.

        The path of a set removes its layers from the top down, so that sets share their
        prefixes and every one costs a single recovery; top-down, because the steps that
        follow the loss of the last layer then help the head to read another (declared
        here).

        Parameters
        ----------
        experiments : sequence of Experiment
        """
        layers = self._removable(ORIGINAL)
        waves = [
            [
                PruningPath.from_the_top(gone)
                for gone in itertools.combinations(layers, size)
            ]
            for size in range(1, self.depth - self.lowest + 1)
        ]
        total = len(experiments) * sum(map(len, waves))
        with (
            pool(self.profile.threads) as run,
            progress(total, "all subsets", self.quiet) as bar,
        ):
            for paths in waves:
                self._wave(
                    run, {(e, path): False for e in experiments for path in paths}, bar
                )

    def _removable(self, path):
        return [
            layer for layer in path.remaining(self.depth) if layer not in self.fixed
        ]
