"""The trees of a study, searched side by side: a wave is computed over all of them.

Nodes of a wave depend on the waves before alone, so they run in parallel, wherever the
workers are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfusion.experiments.parallel import pool, progress
from sfusion.experiments.store import RecordStore, content_key
from sfusion.experiments.trees import Experiment, open_tree, visit_node
from sfusion.pruning.searches import by_strategies

if TYPE_CHECKING:
    from tqdm import tqdm

    from sfusion.pruning.node import NodeResult
    from sfusion.pruning.path import PruningPath
    from sfusion.pruning.searches import Request, Search, Visit

Node = tuple[Experiment, "PruningPath"]


@dataclass(frozen=True)
class Trajectory:
    """A strategy at a node of one experiment."""

    experiment: Experiment
    label: str
    path: PruningPath


class Forest:
    """The trees of several experiments of one profile.

    Parameters
    ----------
    experiments : sequence of Experiment
    store : RecordStore
        Records that are there are not computed again.
    quiet : bool, optional
        See :func:`sfusion.experiments.parallel.progress`.

    Attributes
    ----------
    results : dict
        ``(experiment, path) -> NodeResult``, in the order in which they came.
    trajectories : list of Trajectory
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        store: RecordStore,
        quiet: bool | None = None,
    ) -> None:
        self.experiments = experiments
        self.store = store
        self.quiet = quiet
        self.profile = experiments[0].profile
        trees = {one: open_tree(one, store) for one in experiments}
        self.settings = {one: tree.setting for one, tree in trees.items()}
        self.keys = {one: content_key(tree.base) for one, tree in trees.items()}
        self.setting = self.settings[experiments[0]]  # depth and fixed layers of all
        self.results: dict[Node, NodeResult] = {}
        self.trajectories: list[Trajectory] = []

    def search(
        self,
        searches: dict[Experiment, Search],
        total: int,
        title: str,
        steps: Callable[[Request], int] = lambda request: request.shared_by,
    ) -> None:
        """Run one search in each of several trees, wave by wave.

        Parameters
        ----------
        searches : dict of Experiment to Search
        total : int
            Steps of all waves together.
        title : str
            Of the progress bar.
        steps : callable, optional
            ``Request -> int``: the work that a node is.
        """
        visits: dict[Experiment, list[Visit]] = {}
        with (
            pool(self.profile.threads) as run,
            progress(total, title, self.quiet) as bar,
        ):
            wave = {one: next(search) for one, search in searches.items()}
            while wave:
                self._compute(wave, run, bar, steps)
                following = {}
                for one, requests in wave.items():
                    found = {
                        request.path: self.results[one, request.path]
                        for request in requests
                    }
                    try:
                        following[one] = searches[one].send(found)
                    except StopIteration as end:
                        visits[one] = end.value
                wave = following
        self._go_down_together(visits)

    def follow(
        self,
        labels: Sequence[str],
        *,
        fusions: Mapping[tuple[Experiment, str], Any] | None = None,
        teach: bool = False,
        title: str = "strategies",
    ) -> None:
        """Take strategies down every tree, see :func:`by_strategies`.

        Parameters
        ----------
        labels : sequence of str
        fusions : mapping of (Experiment, str) to sklearn regressor, optional
            For the fusions among them.
        teach : bool
        title : str
            Of the progress bar.
        """
        fitted = fusions or {}
        # The bar's unit is a recovery with its evaluation, which is about as much work:
        # an original takes more.
        samples = self.profile.original.samples
        root = max(1, samples // (2 * self.profile.recovery.samples))

        def steps(request: Request) -> int:
            return request.shared_by if request.path else root

        searches = {
            one: by_strategies(
                labels,
                self.settings[one],
                {label: fitted.get((one, label)) for label in labels},
                teach=teach,
            )
            for one in self.experiments
        }
        total = len(searches) * (root + len(labels) * self.setting.removals)
        self.search(searches, total, title, steps)

    def _compute(
        self,
        wave: dict[Experiment, list[Request]],
        run: Callable[..., Iterable[NodeResult]],
        bar: tqdm,
        steps: Callable[[Request], int],
    ) -> None:
        """Compute the nodes of a wave that are not known well enough."""
        asked = []
        for one, requests in wave.items():
            for request in requests:
                if self._is_known(one, request):
                    bar.update(steps(request))
                else:
                    asked.append((one, request))
        calls = [(one, request, self.store, self.keys[one]) for one, request in asked]
        for (one, request), result in zip(asked, run(visit_node, calls), strict=True):
            node = (one, request.path)
            self.results[node] = result.with_signals_of(self.results.get(node))
            bar.update(steps(request))
        self.store.trim()

    def _is_known(self, experiment: Experiment, request: Request) -> bool:
        known = self.results.get((experiment, request.path))
        return known is not None and not (request.signals and known.signals is None)

    def _go_down_together(self, visits: dict[Experiment, list[Visit]]) -> None:
        """List the visits of all trees depth by depth."""
        rows = [
            Trajectory(one, visit.label, visit.path)
            for one in self.experiments
            for visit in visits.get(one, ())
        ]
        self.trajectories += sorted(rows, key=lambda row: len(row.path.removed))
