"""The pruning study: every stage of the paper, on every task and seed of a profile."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfusion.errors import SfusionError
from sfusion.experiments.baselines import describe_task
from sfusion.experiments.comparison import compare
from sfusion.experiments.forest import Forest
from sfusion.experiments.frames import (
    distillation_frame,
    node_frame,
    signal_frame,
    trajectory_frame,
)
from sfusion.experiments.parallel import pool, progress
from sfusion.experiments.profiles import Profile, load_profile
from sfusion.experiments.results import BUILD, UNIT, Results
from sfusion.experiments.store import RecordStore
from sfusion.experiments.study import Study, with_chosen_precision
from sfusion.experiments.trees import Experiment, open_tree, visit_node
from sfusion.pruning.fusion import fit_fusion, shipped_rows, training_table
from sfusion.pruning.lookup_table import LookupTable, make_lookup_table
from sfusion.pruning.path import ORIGINAL
from sfusion.pruning.registry import LAYER_SETS
from sfusion.pruning.searches import Request, exhaustive, greedy, greedy_size
from sfusion.pruning.strategies import (
    GREEDY,
    IN_DATASET,
    OTHER_MODEL,
    STRATEGIES,
    STUDIED,
    TRANSFER,
    expand,
)
from sfusion.pruning.tree import CONDITIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DISTILLED_STRATEGY = "random-forest"  # the path that claim C3 speaks of


class PruningStudy(Study):
    """Strategies, searches and distillations, on every task and seed of a profile.

    Parameters
    ----------
    profile : Profile
    strategies : iterable of str, optional
        Names in ``STRATEGIES``; by default the profile's.

    Raises
    ------
    SfusionError
        For an unknown strategy, or one that needs other datasets than there are.
    """

    profile_type = Profile
    shown_in_notebooks = True
    profile: Profile

    def __init__(
        self, profile: Profile, strategies: Iterable[str] | None = None
    ) -> None:
        super().__init__(profile)
        self.strategies = _check_strategies(strategies, profile)

    def measure_all(
        self, store: RecordStore, quiet: bool | None
    ) -> dict[str, pd.DataFrame]:
        """Search the trees, then distil and describe the tasks; see :meth:`Study.run`.

        Raises
        ------
        SfusionError
            Also for distillation after more removals than the model has layers for.
        """
        forest = self.search(store, quiet)
        self._search_sets(forest)
        with pool(self.profile.threads) as run:
            calls = [(one, store) for one in forest.experiments]
            tasks = list(run(describe_task, calls))
        return {
            "tasks": pd.DataFrame(tasks),
            "nodes": node_frame(forest),
            "signals": signal_frame(forest),
            "trajectories": trajectory_frame(forest),
            "distillation": _distil(forest),
        }

    def search(self, store: RecordStore, quiet: bool | None) -> Forest:
        """Let the strategies search; fusions learn from the removals of the others.

        Parameters
        ----------
        store : RecordStore
        quiet : bool or None

        Returns
        -------
        Forest
        """
        forest = Forest(self._experiments(), store, quiet)
        self._check_depths(forest.setting.removals)
        chosen = [STRATEGIES[name] for name in self.strategies]
        teaching = [one.name for one in chosen if one.teaches_fusions]
        lookups = [one.name for one in chosen if one.reads == LAYER_SETS]
        fusions = [
            one.name
            for one in chosen
            if one.learned_from is not None and one.name not in lookups
        ]
        others = [
            one.name
            for one in chosen
            if one.score and one.name not in [*teaching, *lookups]
        ]
        if fusions and not teaching:
            raise SfusionError(
                "fusions learn from the removals of other strategies: name some too"
            )
        labels = expand(teaching, self.profile.random_orders)
        forest.follow(labels, teach=bool(fusions))
        if others:
            # They learn from the strategies above alone: the searches below would show
            # them the answer.
            fitted = _fit_fusions(forest, fusions)
            forest.follow(others, fusions=fitted, title="fusions")
        if GREEDY in self.strategies:
            searches = {one: greedy(forest.settings[one]) for one in forest.experiments}
            total = greedy_size(forest.setting) * len(searches)
            forest.search(searches, total, "greedy search")
        if lookups:
            self._search_sets(forest)
            tables = _make_lookup_tables(forest, lookups)
            forest.follow(lookups, fusions=tables, title="lookup table")
        return forest

    def _search_sets(self, forest: Forest) -> None:
        """Train every set of layers on the tasks where the profile asks for it."""
        searched = [
            one for one in forest.experiments if one.task in self.profile.subsets
        ]
        if searched:
            waves = {one: exhaustive(forest.settings[one]) for one in searched}
            size = sum(len(wave) for wave in exhaustive(forest.setting))
            forest.search(waves, size * len(searched), "all subsets")

    def _experiments(self) -> list[Experiment]:
        profile = with_chosen_precision(self.profile)
        asked = profile.model_copy(update={"strategies": self.strategies})
        units = itertools.product(self.profile.tasks, self.profile.seeds)
        return [Experiment(asked, task, seed) for task, seed in units]

    def _check_depths(self, most: int) -> None:
        removals = self.profile.distillation.removals
        if any(removed > most for removed in removals):
            raise SfusionError(
                f"profile {self.profile.name!r}: distillation.removals = "
                f"{list(removals)}: give at most {most}, for this model keeps the rest"
            )

    def collect(
        self, frames: dict[str, pd.DataFrame], manifest: dict[str, Any]
    ) -> Results:
        """See :meth:`Study.collect`."""
        return Results(**frames, manifest=manifest)

    def compare(self, new: Results, old: Results) -> pd.DataFrame:
        """See :func:`sfusion.experiments.comparison.compare`."""
        return compare(new, old)


STUDY = PruningStudy


def _check_strategies(names: Iterable[str] | None, profile: Profile) -> tuple[str, ...]:
    """Check what was asked for; of what a profile lists, leave out what cannot be."""
    asked = tuple(names or ())
    listed = asked or profile.strategies or tuple(STUDIED)
    unknown = [name for name in listed if name not in STRATEGIES]
    if unknown:
        raise SfusionError(
            f"strategy {unknown[0]!r} is not known: use one of {', '.join(STRATEGIES)}"
        )
    if len(profile.tasks) > 1:
        _check_lookups(listed, profile)
        return listed
    transferred = [name for name in listed if STRATEGIES[name].learned_from == TRANSFER]
    if asked and transferred:
        raise SfusionError(
            f"strategy {transferred[0]!r} learns from other datasets, and there is one "
            f"alone, {profile.tasks[0]}: give a profile of several"
        )
    return tuple(name for name in listed if name not in transferred)


def _check_lookups(names: Sequence[str], profile: Profile) -> None:
    """Check that every task has another whose every set of layers is trained."""
    lookups = [name for name in names if STRATEGIES[name].reads == LAYER_SETS]
    if lookups and len(profile.subsets) < 2:
        raise SfusionError(
            f"strategy {lookups[0]!r} reads every set of layers trained on other "
            f"datasets, and profile {profile.name!r} has "
            f"subsets: {list(profile.subsets)}: name at least two tasks there"
        )


def _make_lookup_tables(
    forest: Forest, labels: Sequence[str]
) -> dict[tuple[Experiment, str], LookupTable]:
    """Average, for each experiment, the other tasks' searches of the same seed."""
    rows = [
        (one.task, one.seed, path.name, result.validation.accuracy)
        for (one, path), result in forest.results.items()
        if one.task in forest.profile.subsets
    ]
    nodes = pd.DataFrame(rows, columns=[*UNIT, "path", "validation_accuracy"])
    tables: dict[tuple[Experiment, str], LookupTable] = {}
    for experiment in forest.experiments:
        others = nodes["task"] != experiment.task
        learned = nodes[others & (nodes["seed"] == experiment.seed)]
        table = make_lookup_table(learned, forest.settings[experiment])
        tables |= {(experiment, label): table for label in labels}
    return tables


def _fit_fusions(
    forest: Forest, labels: Sequence[str]
) -> dict[tuple[Experiment, str], Any]:
    """Fit each fusion for each experiment.

    It learns from the experiment's own tree, or from all other tasks' trees, of this
    model or another; of the others, from those of the same seed: so seeds are
    replicates of the fusion too, and no fusion depends on which other seeds are run.
    """
    nodes = node_frame(forest)
    signals = signal_frame(forest)
    tables = {}
    for label in labels:
        strategy = STRATEGIES[label]
        if strategy.learned_from == OTHER_MODEL:
            rows = shipped_rows(strategy.reads, forest.profile.model)
        else:
            rows = training_table(nodes, signals, strategy.reads)
        tables[label] = rows
    asked = list(itertools.product(forest.experiments, labels))
    calls = []
    for experiment, label in asked:
        strategy = STRATEGIES[label]
        table = tables[label]
        learned = table["task"] != experiment.task
        if strategy.learned_from == IN_DATASET:
            learned = ~learned
        rows = table[learned & (table["seed"] == experiment.seed)]
        calls.append((rows, strategy.model, strategy.reads))
    with pool(forest.profile.threads) as run:
        return dict(zip(asked, run(fit_fusion, calls), strict=True))


def _distil(forest: Forest) -> pd.DataFrame:
    """Train and evaluate every condition at the depths that are asked for."""
    removals = forest.profile.distillation.removals
    asked = []
    for experiment in forest.experiments:
        pruned = [
            row.path
            for row in forest.trajectories
            if row.experiment == experiment
            and row.label == DISTILLED_STRATEGY
            and len(row.path.removed) in removals
        ]
        for condition, (start, _) in CONDITIONS.items():
            paths = pruned
            if start == "original":
                paths = [ORIGINAL] if pruned else []
            asked += [(experiment, path, condition) for path in paths]
    calls = [
        (one, Request(path), forest.store, forest.keys[one], condition)
        for one, path, condition in asked
    ]
    distilled = []
    with (
        pool(forest.profile.threads) as run,
        progress(len(calls), "distillation", forest.quiet) as bar,
    ):
        for unit, result in zip(asked, run(visit_node, calls), strict=True):
            distilled.append((*unit, result))
            bar.update()
    return distillation_frame(distilled)


def sweep(
    profile: str | Path = "embedded",
    strategies: Iterable[str] | None = None,
    *,
    folder: Path | None = None,
    quiet: bool | None = None,
) -> pd.DataFrame:
    """Follow strategies down to the fewest layers and tabulate accuracy against depth.

    Parameters
    ----------
    profile : str or Path
        See :func:`sfusion.experiments.profiles.load_profile`.
    strategies : iterable of str, optional
        Names in ``STRATEGIES``; by default those that learn nothing.
    folder : Path, optional
        Where records are kept; by default ``build/<profile>``.
    quiet : bool, optional
        See :func:`sfusion.experiments.parallel.progress`.

    Returns
    -------
    DataFrame
        See :meth:`sfusion.experiments.results.Results.curves`.
    """
    loaded = load_profile(profile)
    if strategies is None:
        listed = loaded.strategies or STUDIED
        strategies = [name for name in listed if STRATEGIES[name].teaches_fusions]
    store = RecordStore(Path(folder or BUILD / loaded.name) / "store")
    forest = PruningStudy(loaded, strategies).search(store, quiet)
    texts = [
        (one.task, one.seed, len(open_tree(one, store).task.test))
        for one in forest.experiments
    ]
    results = Results(
        tasks=pd.DataFrame(texts, columns=[*UNIT, "test"]),
        nodes=node_frame(forest),
        signals=signal_frame(forest),
        trajectories=trajectory_frame(forest),
        distillation=distillation_frame([]),
        manifest={},
    )
    return results.curves()
