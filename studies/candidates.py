"""What is left of fusion: which features and which target choose the next layer best.

Nothing is trained but fusions: the committed records of pruning studies are read. At
every parent whose children were all tried, and whose signals were extracted, a
candidate names the layer that goes next. Its regret is the accuracy of the best child
minus that of the chosen one. Every candidate is fitted as a transferred fusion is, on
the removals of the other datasets and of the same seed; only ``greedy`` has seen the
children, for it takes the one that is best on validation. Candidates are to be chosen
on validation regret; test regret says what it is worth.

Targets: ``change``, of accuracy from parent to child; ``siblings``, that change minus
its mean over the parent's tried children; ``scaled``, the same over its standard
deviation in the task; ``depth``, the change minus its mean over the task's removals
from as many layers, which needs no siblings; ``pairs``, which of two siblings does
better, from the differences of their features. Candidates with ``searches`` learn from
the other datasets' greedy searches too: few other parents had all of their children
tried.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from sklearn.base import ClassifierMixin, clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from sfusion.analysis.forecasts import fusion_nodes
from sfusion.analysis.statistics import grouped_mean
from sfusion.experiments.comparison import Compared
from sfusion.experiments.profiles import Names, StudyProfile
from sfusion.experiments.results import UNIT, Results, open_results
from sfusion.experiments.store import RecordStore, content_key
from sfusion.experiments.study import Row, RowStudy
from sfusion.pruning.fusion import (
    FUSION_MODELS,
    LABEL,
    POSITION,
    READS,
    centred,
    training_table,
)
from sfusion.pruning.path import PruningPath
from sfusion.signals import MEASURES, REDUNDANCY, SIGNALS
from studies.followed import FOLLOWED, followed_paths

PARENT = [*UNIT, "path"]
SPLITS = ("validation", "test")

SIGNAL_NAMES = list(SIGNALS)
MEASURE_NAMES = list(MEASURES)
REDUNDANCY_NAMES = list(REDUNDANCY)
EVERYTHING = READS["all"]
NEIGHBOURS = [
    f"{name}, {side}" for side in ("below", "above") for name in MEASURE_NAMES
]

CLASSIFIERS = {  # of pairs; declared, not tuned
    "logistic-regression": LogisticRegression(
        C=0.1, fit_intercept=False, max_iter=1000
    ),
    "boosting": HistGradientBoostingClassifier(
        max_iter=100, min_samples_leaf=10, random_state=0
    ),
}


@dataclass(frozen=True)
class Candidate:
    """What a candidate reads, what it learns, and with which model.

    Attributes
    ----------
    features : tuple of str
    target : str
        See the module.
    model : str
        Of ``FUSION_MODELS``; for pairs of ``CLASSIFIERS``.
    reads_searches : bool
        Whether it learns from greedy searches too.
    """

    features: tuple[str, ...]
    target: str = "change"
    model: str = "random-forest"
    reads_searches: bool = False


_FEATURES = {
    "position": POSITION,
    "signals": SIGNAL_NAMES,
    "redundancy": REDUNDANCY_NAMES,
    "signals+redundancy": MEASURE_NAMES,
    "signals+position": [*SIGNAL_NAMES, *POSITION],
    "redundancy+position": [*REDUNDANCY_NAMES, *POSITION],
    "all": EVERYTHING,
    "all+neighbours": [*MEASURE_NAMES, *NEIGHBOURS, *POSITION],
}
_OF_SIBLINGS = (
    "position",
    "signals",
    "signals+redundancy",
    "redundancy+position",
    "all",
    "all+neighbours",
)


def _candidates() -> dict[str, Candidate]:
    """List the candidates by name."""
    found = {name: Candidate(tuple(read)) for name, read in _FEATURES.items()}
    for name in _OF_SIBLINGS:
        found[f"{name}, siblings"] = Candidate(tuple(_FEATURES[name]), "siblings")
    everything = tuple(EVERYTHING)
    found["all, scaled"] = Candidate(everything, "scaled")
    found["all, depth"] = Candidate(everything, "depth")
    found["position, searches"] = Candidate(tuple(POSITION), reads_searches=True)
    found["all, searches"] = Candidate(everything, reads_searches=True)
    found["all, siblings, searches"] = Candidate(
        everything, "siblings", reads_searches=True
    )
    found["all, siblings, ridge"] = Candidate(
        everything, "siblings", "ridge-regression"
    )
    found["all, pairs, logistic"] = Candidate(
        everything, "pairs", "logistic-regression"
    )
    found["all, pairs, boosting"] = Candidate(everything, "pairs", "boosting")
    return found


CANDIDATES = _candidates()


def removals(results: Results) -> pd.DataFrame:
    """Tabulate all tried removals with every feature.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Columns ``task``, ``seed``, ``path`` (of the parent), ``layer``, the features of
        the candidates as far as the records hold them, ``accuracy_change``, both
        accuracies of the child, ``removed`` (by the parent), ``teaches`` (whether
        fusions learn from it) and ``complete`` (whether all siblings were tried).
    """
    # A measure that no strategy read is an empty column.
    signals = results.signals.dropna(axis=1, how="all")
    keys = [*PARENT, "layer"]
    table = training_table(results.nodes, signals, "all")
    table = table.merge(_neighbours(signals), on=keys)
    children = []
    for path, layer in zip(table["path"], table["layer"], strict=True):
        children.append(PruningPath.parse(path).then(layer).name)
    table["child"] = children
    scores = ["removed", "validation_accuracy", "test_accuracy"]
    child = results.nodes[[*PARENT, *scores]].rename(columns={"path": "child"})
    table = table.merge(child, on=[*UNIT, "child"], validate="one_to_one")
    learned = fusion_nodes(results)[PARENT].rename(columns={"path": "child"})
    teaching = learned.assign(teaches=True)
    table = table.merge(teaching, on=[*UNIT, "child"], how="left")
    table["teaches"] = table["teaches"].eq(True)
    tried = table.groupby(PARENT)["layer"].transform("size")
    parents = pd.MultiIndex.from_frame(table[PARENT])
    left = signals.groupby(PARENT).size().reindex(parents).to_numpy()
    table["complete"] = (tried == left) & (tried > 1)
    table["removed"] -= 1
    return table.sort_values(keys, ignore_index=True)


def _neighbours(signals: pd.DataFrame) -> pd.DataFrame:
    """Subtract from a layer's measures those of the layers below and above."""
    ordered = signals.sort_values([*PARENT, "layer"], ignore_index=True)
    names = [name for name in MEASURE_NAMES if name in signals]
    groups = ordered.groupby(PARENT)[names]
    spread = groups.transform("std", ddof=0).replace(0, np.inf)
    centred_values = ordered[names] - groups.transform("mean")
    scaled = (centred_values / spread).fillna(0)
    within = scaled.groupby([ordered[key] for key in PARENT])
    parts = [ordered[[*PARENT, "layer"]]]
    for side, shift in (("below", 1), ("above", -1)):
        # The lowest layer has none below and the highest none above: no difference.
        steps = (scaled - within.shift(shift)).fillna(0)
        parts.append(steps.add_suffix(f", {side}"))
    return pd.concat(parts, axis=1)


def fit_candidate(
    train: pd.DataFrame, candidate: Candidate
) -> Callable[[pd.DataFrame], np.ndarray]:
    """Fit a candidate.

    Parameters
    ----------
    train : DataFrame
        Rows of :func:`removals`.
    candidate : Candidate

    Returns
    -------
    callable
        Takes rows of layers and gives a score per row; only the order within a parent
        counts.
    """
    names = [name for name in candidate.features if name in train]
    train = train.sort_values([*names, LABEL])  # as fit_fusion does
    if candidate.target == "pairs":
        differences, better = _pairs(train, names)
        classifier = clone(CLASSIFIERS[candidate.model]).fit(differences, better)
        return lambda asked: _wins(classifier, asked, names)
    label = train[LABEL]
    if candidate.target != "change":
        by = [*UNIT, "removed"] if candidate.target == "depth" else PARENT
        train = centred(train, by)
        label = train[LABEL]
    if candidate.target == "scaled":
        label = label / train.groupby("task")[LABEL].transform("std").clip(lower=1e-6)
    fitted = FUSION_MODELS[candidate.model]().fit(train[names], label)
    return lambda asked: fitted.predict(asked[names])


def _pairs(train: pd.DataFrame, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Take differences of siblings' features, and which does better; no ties."""
    differences = []
    better = []
    for _, part in train.groupby(PARENT):
        values = part[names].to_numpy()
        label = part[LABEL].to_numpy()
        for first, second in itertools.permutations(range(len(part)), 2):
            if label[first] != label[second]:
                differences.append(values[first] - values[second])
                better.append(label[first] > label[second])
    return np.array(differences), np.array(better)


def _wins(
    classifier: ClassifierMixin, asked: pd.DataFrame, names: list[str]
) -> np.ndarray:
    """Score layers by expected wins minus losses against their siblings."""
    scores = pd.Series(0.0, asked.index)
    for _, part in asked.groupby(PARENT):
        values = part[names].to_numpy()
        count = len(part)
        differences = (values[:, None] - values[None]).reshape(count * count, -1)
        better = classifier.predict_proba(differences)[:, 1].reshape(count, count)
        scores[part.index] = better.sum(1) - better.sum(0)
    return scores.to_numpy()


def regrets(asked: pd.DataFrame, scores: pd.Series | None) -> pd.DataFrame:
    """Compute each parent's regret, in pp, of the child of the highest score.

    Parameters
    ----------
    asked : DataFrame
        Rows of :func:`removals`, of complete parents.
    scores : Series or None
        One per row; ties are broken towards the output. None for a choice by chance.

    Returns
    -------
    DataFrame
        Index ``task``, ``seed``, ``path``, ``removed``; columns ``validation`` and
        ``test``.
    """
    keys = [*PARENT, "removed"]
    accuracies = ["validation_accuracy", "test_accuracy"]
    groups = asked.groupby(keys)[accuracies]
    if scores is None:
        chosen = groups.mean()
    else:
        ranked = asked.assign(score=scores).sort_values(["score", "layer"])
        chosen = ranked.groupby(keys)[accuracies].last()
    found = 100 * (groups.max() - chosen)
    return found.rename(columns=lambda name: name.removesuffix("_accuracy"))


def score_layers(table: pd.DataFrame, name: str) -> pd.Series | None:
    """Let one candidate score the layers of every complete parent.

    Parameters
    ----------
    table : DataFrame
        From :func:`removals`.
    name : str
        Of ``CANDIDATES``, a measure of redundancy, ``greedy`` or ``chance``.

    Returns
    -------
    Series or None
        A score per row of a complete parent; None for a choice by chance.
    """
    asked = table[table["complete"]]
    if name == "chance":
        return None
    if name == "greedy":
        return asked["validation_accuracy"]
    if name in REDUNDANCY:
        return -asked[name]
    candidate = CANDIDATES[name]
    scores = pd.Series(0.0, asked.index)
    for (task, seed), part in asked.groupby(UNIT):
        others = table[(table["seed"] == seed) & (table["task"] != task)]
        if not candidate.reads_searches:
            others = others[others["teaches"]]
        scores.loc[part.index] = fit_candidate(others, candidate)(part)
    return scores


def summarise(name: str, found: pd.DataFrame, position: pd.DataFrame) -> list[Row]:
    """Average regrets over parents, with 95% intervals over tasks.

    Parameters
    ----------
    name : str
    found, position : DataFrame
        From :func:`regrets`: of the candidate, and of position alone.

    Returns
    -------
    list of dict
        A row per number of layers removed before (``all``: whichever): ``parents``,
        and for validation and for test the mean ``regret`` in pp and its
        ``minus_position``, the paired difference from position alone, each with
        ``low`` and ``high``.
    """
    depths = found.index.get_level_values("removed")
    rows = []
    for removed in ["all", *sorted(set(depths))]:
        asked = np.full(len(found), True) if removed == "all" else depths == removed
        row = {"candidate": name, "removed": str(removed), "parents": int(asked.sum())}
        for split in SPLITS:
            regret = found.loc[asked, split]
            change = regret - position.loc[asked, split]
            row |= _with_interval(f"{split}_regret", regret)
            row |= _with_interval(f"{split}_minus_position", change)
        rows.append(row)
    return rows


def _with_interval(name: str, values: pd.Series) -> Row:
    """Average over parents; tasks are drawn, each with all of its parents."""
    found = grouped_mean(values)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


class CandidatesProfile(StudyProfile):
    """Whose records are read.

    Attributes
    ----------
    studies : tuple of str
        Pruning studies with committed results, for the regrets.
    followed : tuple of str
        Those in which strategies that were not studied are followed.
    """

    study: Literal["candidates"]
    studies: Annotated[Names, Field(min_length=1)]
    followed: Names = ()


@dataclass(frozen=True)
class CandidateRun:
    """One candidate's regrets, or one strategy followed, in one study's records."""

    study: str
    frame: Literal["regrets", "paths"]
    name: str


@functools.lru_cache(maxsize=2)
def _removals_of(study: str) -> pd.DataFrame:
    return removals(open_results(study))


@functools.lru_cache(maxsize=2)
def _position_of(study: str) -> pd.DataFrame:
    table = _removals_of(study)
    return regrets(table[table["complete"]], score_layers(table, "position"))


class CandidatesStudy(RowStudy):
    """Regrets of every candidate, and the paths of strategies that were not studied."""

    profile_type = CandidatesProfile
    profile: CandidatesProfile
    frames = {
        "regrets": Compared(
            keys=("study", "candidate", "removed"),
            values=("validation_regret", "test_regret"),
            tolerance=0.01,  # pp; the numbers were written with four digits
        ),
        "paths": Compared(
            keys=("study", "strategy", "task", "seed", "removed", "path")
        ),
    }

    def rounds(self) -> list[list[CandidateRun]]:
        """List every candidate in every study, and what is followed, in one round."""
        names = ["greedy", *REDUNDANCY, *CANDIDATES, "chance"]
        units = []
        for study in self.profile.studies:
            units += [CandidateRun(study, "regrets", name) for name in names]
        for study in self.profile.followed:
            units += [CandidateRun(study, "paths", name) for name in FOLLOWED]
        return [units]

    def measure(self, unit: CandidateRun, store: RecordStore) -> dict[str, list[Row]]:
        """Measure one candidate, or follow one strategy."""
        results = open_results(unit.study)
        compute = _follow if unit.frame == "paths" else _measure
        spec = {
            "kind": unit.frame,
            "name": unit.name,
            "records": content_key(results.manifest),
        }
        record = store.recorded(spec, lambda: compute(results, unit))
        rows = [{**row, "study": unit.study} for row in record["value"]]
        return {unit.frame: rows}


def _follow(results: Results, unit: CandidateRun) -> list[Row]:
    return followed_paths(results, unit.name)


def _measure(results: Results, unit: CandidateRun) -> list[Row]:
    table = _removals_of(unit.study)
    if unit.name in REDUNDANCY and unit.name not in table:
        return []
    asked = table[table["complete"]]
    found = regrets(asked, score_layers(table, unit.name))
    return summarise(unit.name, found, _position_of(unit.study))


STUDY = CandidatesStudy
