"""The study: every stage of the paper, on every task and seed of a profile."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sfusion.errors import SfusionError
from sfusion.experiments.baselines import describe_task
from sfusion.experiments.comparison import compare
from sfusion.experiments.parallel import pool, progress
from sfusion.experiments.profiles import Profile, load_profile
from sfusion.experiments.results import BUILD, UNIT, Results
from sfusion.experiments.searches import Search
from sfusion.experiments.store import RecordStore, content_key
from sfusion.experiments.study import Study, with_chosen_precision
from sfusion.experiments.trees import Experiment, compute_node, open_tree
from sfusion.models.layers import remove_layers
from sfusion.models.size import size
from sfusion.pruning.fusion import fit_fusion, shipped_rows, training_table
from sfusion.pruning.path import ORIGINAL, PruningPath
from sfusion.pruning.strategies import (
    IN_DATASET,
    OTHER_MODEL,
    STRATEGIES,
    STUDIED,
    TRANSFER,
    expand,
)
from sfusion.pruning.tree import CONDITIONS
from sfusion.signals.definitions import MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterable

DISTILLED_STRATEGY = "random-forest"  # the path that claim C3 speaks of

# Records are filed with sorted keys; the frames have their columns in this order.
TASKS = [
    "task",
    "seed",
    "classes",
    "train",
    "validation",
    "test",
    "fingerprint",
    "source",
]

TASKS += ["majority_accuracy", "tfidf_accuracy", "frozen_accuracy"]

SCORES = ["validation_accuracy", "test_accuracy", "test_correct"]

NODES = [*SCORES, "training", "evaluation", "extraction"]

TRAJECTORIES = ["task", "seed", "strategy", "removed", "path"]

DISTILLATION = ["task", "seed", "path", "removed", "condition", *SCORES]


def _sizes(experiment, search):
    base, tokens = (
        open_tree(experiment, search.store).source(),
        experiment.profile.max_length,
    )
    left = range(search.lowest, search.depth + 1)
    return {
        count: size(remove_layers(base, range(count, search.depth)), tokens)
        for count in left
    }


def _frames(search):
    """Turn the records of a search into the frames of nodes, of signals and of trajectories."""
    # The head differs from task to task.
    first = {experiment.task: experiment for experiment in reversed(search.experiments)}
    costs = {task: _sizes(experiment, search) for task, experiment in first.items()}
    nodes, signals = [], []
    for (experiment, path), record in search.records.items():
        key = {
            "task": experiment.task,
            "seed": experiment.seed,
            "path": path.name,
        }
        left = path.remaining(search.depth)
        found = record.get("signals")
        row = (
            key
            | {"removed": search.depth - len(left)}
            | {column: record.get(column, math.nan) for column in NODES}
        )
        row["test_correct"] = bytes.fromhex(row["test_correct"])
        nodes.append(row | costs[experiment.task][len(left)])
        signals += [
            {
                **key,
                "layer": layer,
                **{slug: values[i] for slug, values in found.items()},
            }
            for i, layer in enumerate(left if found else ())
        ]
    signals = pd.DataFrame(signals, columns=[*UNIT, "path", "layer", *MEASURES]).astype(
        dict.fromkeys(MEASURES, float)
    )
    return (
        pd.DataFrame(nodes),
        signals,
        pd.DataFrame(search.trajectories, columns=TRAJECTORIES),
    )


def _fit_fusions(search, labels):
    """Fit each fusion for each experiment: on its own tree, or on all other tasks' trees, of this model or another.

    Of the others, those of the same seed: so seeds are replicates of the fusion too,
    and no fusion depends on which other seeds are run.
    """
    nodes, signals, _ = _frames(search)
    tables, calls = {}, {}
    for experiment, label in itertools.product(search.experiments, labels):
        strategy = STRATEGIES[label]
        key = reads, other = strategy.reads, strategy.learned_from == OTHER_MODEL
        if key not in tables:
            tables[key] = (
                shipped_rows(reads, search.profile.model)
                if other
                else training_table(nodes, signals, reads)
            )
        table = tables[key]
        own = table["task"] == experiment.task
        rows = own if strategy.learned_from == IN_DATASET else ~own
        calls[experiment, label] = (
            table[rows & (table["seed"] == experiment.seed)],
            strategy.model,
        )
    with pool(search.profile.threads) as run:
        return dict(zip(calls, run(fit_fusion, calls.values()), strict=True))


def _search(profile, store, names, quiet):
    """Let strategies search the trees of a profile; the fusions learn from the others' removals."""
    units = itertools.product(profile.tasks, profile.seeds)
    asked = with_chosen_precision(profile).model_copy(
        update={"strategies": tuple(names)}
    )
    search = Search([Experiment(asked, *unit) for unit in units], store, quiet)
    removals = profile.distillation.removals
    if any(search.depth - removed < search.lowest for removed in removals):
        raise SfusionError(
            f"profile {profile.name!r}: distillation.removals = {list(removals)}: the model has "
            f"{search.depth} layers, give numbers below that"
        )
    teaching = [name for name in names if STRATEGIES[name].teaches_fusions]
    fused = [name for name in names if STRATEGIES[name].learned_from is not None]
    if fused and not teaching:
        raise SfusionError(
            "fusions learn from the removals of other strategies: name some too"
        )
    search.iterate(expand(teaching, profile.random_orders), teach=bool(fused))
    # The fusions learn from these strategies alone: the searches would show them the
    # answer.
    if others := [
        name
        for name in names
        if name not in teaching and STRATEGIES[name].score is not None
    ]:
        search.iterate(others, _fit_fusions(search, fused), title="fusions")
    if "greedy-oracle" in names:
        search.greedy()
    return search


def _distil(search, trajectories):
    """Train and evaluate every condition at the asked depths of the distilled strategy."""
    chosen = trajectories[trajectories["strategy"] == DISTILLED_STRATEGY]
    chosen = chosen[chosen["removed"].isin(search.profile.distillation.removals)]
    calls = []
    for experiment in search.experiments:
        mine = (chosen["task"] == experiment.task) & (chosen["seed"] == experiment.seed)
        pruned = [PruningPath.parse(path) for path in chosen.loc[mine, "path"]]
        for condition, (start, _) in CONDITIONS.items():
            paths = pruned and [ORIGINAL] if start == "original" else pruned
            key = content_key(search.bases[experiment])
            calls += [
                (experiment, path, False, search.store, key, condition)
                for path in paths
            ]
    rows = []
    with (
        pool(search.profile.threads) as run,
        progress(len(calls), "distillation", search.quiet) as bar,
    ):
        for call, found in zip(calls, run(compute_node, calls), strict=True):
            e, path, *_, condition = call
            scores = (
                found["validation_accuracy"],
                found["test_accuracy"],
                bytes.fromhex(found["test_correct"]),
            )
            rows.append((e.task, e.seed, path.name, len(path), condition, *scores))
            bar.update()
    # Typed also where nothing is distilled, or such a study could not be compared.
    return pd.DataFrame(rows, columns=DISTILLATION).astype(
        dict.fromkeys(SCORES[:2], float) | {"removed": int}
    )


class PruningStudy(Study):
    """Every stage of the paper, on every task and seed of a profile.

    Parameters
    ----------
    profile : Profile
    strategies : iterable of str, optional
        Names in ``STRATEGIES``; by default the profile's.
    """

    kind = "pruning"
    profile_type = Profile
    shown_in_notebooks = True

    def __init__(
        self, profile: Profile, strategies: Iterable[str] | None = None
    ) -> None:
        super().__init__(profile)
        self.strategies = _known_strategies(strategies, profile)

    def measure_all(
        self, store: RecordStore, quiet: bool | None
    ) -> dict[str, pd.DataFrame]:
        """Search the trees, then distil and describe the tasks; see :meth:`Study.run`."""
        search = _search(self.profile, store, self.strategies, quiet)
        if searched := [
            e for e in search.experiments if e.task in self.profile.subsets
        ]:
            search.exhaustive(searched)
        nodes, signals, trajectories = _frames(search)
        with pool(self.profile.threads) as run:
            calls = [(one, store) for one in search.experiments]
            tasks = list(run(describe_task, calls))
        return {
            "tasks": pd.DataFrame(tasks, columns=TASKS),
            "nodes": nodes,
            "signals": signals,
            "trajectories": trajectories,
            "distillation": _distil(search, trajectories),
        }

    def collect(
        self, frames: dict[str, pd.DataFrame], manifest: dict[str, Any]
    ) -> Results:
        """See :meth:`Study.collect`."""
        return Results(**frames, manifest=manifest)

    def compare(self, new: Results, old: Results) -> pd.DataFrame:
        """See :func:`sfusion.experiments.comparison.compare`."""
        return compare(new, old)


STUDY = PruningStudy


def sweep(profile="embedded", strategies=None, *, folder=None, quiet=None):
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
    profile = load_profile(profile)
    if strategies is None:
        strategies = [
            name
            for name in profile.strategies or STUDIED
            if STRATEGIES[name].teaches_fusions
        ]
    store = RecordStore(Path(folder or BUILD / profile.name) / "store")
    search = _search(profile, store, _known_strategies(strategies, profile), quiet)
    return Results(pd.DataFrame(), *_frames(search), pd.DataFrame(), {}).curves()


def _known_strategies(names, profile):
    names = list(names or profile.strategies or STUDIED)
    if unknown := [name for name in names if name not in STRATEGIES]:
        raise SfusionError(
            f"strategy {unknown[0]!r} is not known: use one of {', '.join(STRATEGIES)}"
        )
    # A single task has no other dataset to learn from.
    return [
        name
        for name in names
        if len(profile.tasks) > 1 or STRATEGIES[name].learned_from != TRANSFER
    ]
