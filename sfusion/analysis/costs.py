"""Costs: what a strategy costs and gains, and what each removed layer costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from sfusion.analysis.appearance import (
    LINE,
    PAGE,
    PlainFigure,
    strategy_colour,
    strategy_title,
    styled,
)
from sfusion.analysis.drawing import one_panel
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scores import (
    BEST_SINGLE,
    measured,
    redrawn,
    require,
    with_best_single,
)
from sfusion.analysis.statistics import bootstrap
from sfusion.experiments.results import UNIT, Results
from sfusion.pruning.path import PruningPath
from sfusion.pruning.registry import Strategy
from sfusion.pruning.strategies import IN_DATASET, STRATEGIES, lookup
from sfusion.signals import SIGNALS

SEARCH = "greedy-oracle"
TOP_FIRST = "top-first"  # costs what every pruning path costs, and reads nothing
DEFAULT_ORDER = "middle-first"  # in which `compress` removes layers
FOREST = "random-forest"
POSITION = "random-forest-position-transfer"

# Whose costs are said in words.
SAID = {
    FOREST: "a forest learned in the dataset",
    SEARCH: "greedy search",
    BEST_SINGLE: "finding the best single signal",
    "middle-first": "the middle first",
    "random-forest-transfer": "a transferred forest",
    POSITION: "position alone, transferred,",
}

# Drawn in colour and named.
NAMED = (
    *SAID,
    "angular-distance",
    "random",
)

TIMES = [1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 48]

TERA = 1e12


@dataclass(frozen=True)
class Work:
    """What a user runs for one strategy: models per dataset and seed, by layers left.

    Attributes
    ----------
    training : Series
        Models of its own pruning path, which are recovered.
    signals : Series
        Models whose signals are extracted.
    labels : Series
        Models that are tried: a recovery and one evaluation on the validation split.
    """

    training: pd.Series
    signals: pd.Series
    labels: pd.Series


def _models(layers: Iterable[int], results: Results, units: int = 1) -> pd.Series:
    """Count models by the layers left, per unit."""
    depth = results.depth
    counts = pd.Series(list(layers), dtype=int).value_counts()
    return counts.reindex(range(1, depth + 1), fill_value=0) / units


def _prices(results: Results) -> Work:
    """Compute the FLOPs of a model by the layers left, for each kind of work."""
    profile = results.manifest["profile"]
    forward = results.nodes.groupby("layers")["flops"].mean()
    # A backward pass costs two forward passes.
    recovery = 3 * profile["recovery"]["samples"] * forward
    extraction = 3 * profile["sizes"]["probe"] * forward
    evaluation = results.tasks["validation"].mean() * forward
    return Work(recovery, extraction, recovery + evaluation)


def _tried(results: Results, which: Callable[[Strategy], bool]) -> Work:
    """List the models that strategies trained, and those that they went on from."""
    visits = results.trajectories
    asked = visits["strategy"].map(lambda label: which(lookup(label)))
    children = visits[asked & (visits["removed"] > 0)].drop_duplicates([*UNIT, "path"])
    parents = children[children["removed"] > 1]
    paths = [PruningPath.parse(path).parent.name for path in parents["path"]]
    parents = parents.assign(path=paths).drop_duplicates([*UNIT, "path"])
    depth = results.depth
    units = len(results.tasks)
    nothing = _models([], results)
    seen = _models(depth + 1 - parents["removed"], results, units)
    return Work(nothing, seen, _models(depth - children["removed"], results, units))


def _work(results: Results, name: str) -> Work:
    """Count what a strategy makes a user run, from a fine-tuned model on."""
    depth = results.depth
    nothing = _models([], results)
    path = _models(range(1, depth), results)
    choices = _models(range(2, depth + 1), results)
    if name == BEST_SINGLE:  # its path is among those of the twelve
        tried = _tried(results, lambda one: one.name in SIGNALS)
        original = _models([depth], results)
        return Work(nothing, original + tried.signals, tried.labels)
    if name == SEARCH:  # its path is among the children, which are all of every model
        children = choices.shift(-1, fill_value=0) * (choices.index + 1)
        return Work(nothing, nothing, children)
    strategy = STRATEGIES[name]
    signals = choices if strategy.reads_signals else nothing
    if strategy.learned_from != IN_DATASET:
        return Work(path, signals, nothing)
    taught = _tried(results, lambda one: one.teaches_fusions)
    if strategy.reads_signals:
        signals = signals + taught.signals
    return Work(path, signals, taught.labels)


@cache
def compute_costs(results: Results) -> pd.DataFrame:
    """Compute what each strategy costs on its way to one layer, and what that gains.

    Counted is what a user would run who wants this strategy alone, from a fine-tuned
    model on. A signal costs the one pass that gives all twelve, at every model with a
    choice left; a fusion learned in the dataset costs, on top of its own path, the
    trajectories that gave its labels, and the pass at their models where it reads
    signals; one learned elsewhere brings its labels along; greedy search trains every
    child; finding the best single signal takes the paths of all twelve. A label, and a
    child of the search, is a recovery and one evaluation on the validation split.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Index ``strategy`` (names, ``best-single`` last). ``training``, ``signals``,
        ``labels``: TFLOPs, closed form; ``times``: all of them over those of top-first;
        ``gain`` with ``low`` and ``high``: mean accuracy over depths minus that of
        top-first, in percentage points, with its 95% bootstrap interval.

    Raises
    ------
    StudyLacks
        When the study has no order that drops the top layers first.
    """
    means = 100 * measured(with_best_single(results.curves()))["mean_accuracy"]
    require(means, TOP_FIRST)
    prices = _prices(results)
    one_by_one = [name for name, one in STRATEGIES.items() if not one.once]
    rows = {}
    for name in (*one_by_one, BEST_SINGLE):
        if name not in means:
            continue
        work = _work(results, name)
        flops = {
            "training": (work.training * prices.training).sum() / TERA,
            "signals": (work.signals * prices.signals).sum() / TERA,
            "labels": (work.labels * prices.labels).sum() / TERA,
        }
        gain = bootstrap(means[name] - means[TOP_FIRST])
        spent = {"times": sum(flops.values()), "gain": gain.value}
        rows[name] = {**flops, **spent, "low": gain.low, "high": gain.high}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
    table["times"] /= table.loc[TOP_FIRST, "times"]
    return table


@exhibit
def overhead(results: Results) -> Exhibit:
    """Show the gain of each strategy against its compute cost.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = compute_costs(results)
    said = []
    for name, title in SAID.items():
        if name in table.index:
            said.append(f"{title} costs {table.loc[name, 'times']:.1f}")
    finding = f"In times the fine-tuning of one pruning path: {'; '.join(said)}."
    caption = (
        "Each point is a strategy that removes one layer at a time, with the 95% "
        "bootstrap interval of its gain"
    )
    return Exhibit("overhead", table.round(2), finding, _draw(table), caption)


@styled
def _draw(table: pd.DataFrame) -> PlainFigure:
    figure, axes = one_panel(PAGE, 3.4)
    axes.axhline(0, **LINE)
    named = table[table.index.isin(NAMED)].sort_values("gain")
    shown = pd.concat([table.drop(named.index), named])  # the named ones on top
    colours = pd.Series("0.75", shown.index)
    colours[named.index] = [strategy_colour(name) for name in named.index]
    axes.vlines(shown["times"], shown["low"], shown["high"], colours, linewidth=0.8)
    axes.scatter(shown["times"], shown["gain"], s=14, zorder=3, linewidth=0, c=colours)
    step = 0.05 * (table["high"].max() - table["low"].min())
    heights = _label_heights(named, step)
    for name, height in zip(named.index, heights, strict=True):
        axes.text(
            1.05 * named.loc[name, "times"],
            height,
            strategy_title(name),
            color=colours[name],
            va="center",
        )
    axes.set_xscale("log")
    axes.set_xticks(TIMES, labels=[str(times) for times in TIMES])
    axes.minorticks_off()
    axes.set_xlim(0.93, 1.6 * table["times"].max())
    axes.set_xlabel("compute cost: FLOPs as a multiple of dropping the top layers")
    axes.set_ylabel(
        "mean accuracy over depths, lead over\ndropping the top layers (pp)"
    )
    return figure


def _label_heights(points: pd.DataFrame, step: float) -> list[float]:
    """Lift labels until none covers another; the points come in order of height."""
    placed: list[tuple[float, float]] = []
    for point in points.itertuples():
        near = [y for x, y in placed if abs(np.log(point.times / x)) < 0.7]
        height = point.gain
        while any(abs(height - other) < step for other in near):
            height += step / 4
        placed.append((point.times, height))
    return [height for _, height in placed]


@exhibit
def price_of_own_forest(results: Results) -> Exhibit:
    """Compare what the own forest costs with what it gains over a fixed position.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = compute_costs(results)
    require(table.index, FOREST, POSITION)
    gain = table.loc[FOREST, "gain"] - table.loc[POSITION, "gain"]
    finding = (
        f"We get: the own forest costs {table.loc[FOREST, 'times']:.1f} pruning paths. "
        f"Its mean accuracy over depths is {gain:+z.1f} pp against a transferred "
        "forest that reads the position of a layer alone."
    ).replace("-", "−")
    # The numbers are those of the exhibit before, which writes them.
    return Exhibit("price_of_own_forest", pd.DataFrame(), finding)


def _points(differences: pd.Series) -> dict[str, float]:
    """Average over datasets and seeds, in percentage points, with the 95% interval."""
    found = bootstrap(differences).points()
    return {"points": found.value, "low": found.low, "high": found.high}


def cost_of_depth(results: Results, strategy: str = DEFAULT_ORDER) -> pd.DataFrame:
    """Tabulate what a strategy's removals cost, layer by layer.

    Parameters
    ----------
    results : Results
    strategy : str

    Returns
    -------
    DataFrame
        Index ``layers left``; ``parameters`` and ``flops``, shares of the original's;
        ``points``, percentage points of test accuracy against the original, ``low`` and
        ``high``: mean over tasks and seeds.

    Raises
    ------
    StudyLacks
        When the strategy was not run.
    """
    frame = results.curves()
    require(frame["name"], strategy)
    frame = frame[frame["name"] == strategy]
    accuracy = redrawn(frame, ["layers"])
    original, *pruned = sorted(accuracy, reverse=True)
    sizes = frame.set_index(UNIT)[["layers", "parameters", "flops"]]
    originals = sizes[sizes["layers"] == original]
    rows = {}
    for left in pruned:
        shares = (sizes[sizes["layers"] == left] / originals).mean()
        points = _points(accuracy[left] - accuracy[original])
        rows[left] = {**shares.drop("layers"), **points}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layers left")


def strategies_ranked(results: Results, against: str = "random") -> pd.DataFrame:
    """Rank the strategies by mean accuracy over depths, against one of them.

    Parameters
    ----------
    results : Results
    against : str
        A strategy; it is left out. Differences are paired by task and seed.

    Returns
    -------
    DataFrame
        Index ``strategy``, best first; ``points``, ``low`` and ``high``.

    Raises
    ------
    StudyLacks
        When ``against`` was not run.
    """
    frame = results.curves()
    means = redrawn(frame[frame["removed"] > 0], ["name"])
    require(means, against)
    rows = {}
    for name in STRATEGIES:
        ranked = name != against and STRATEGIES[name].group != "control"
        if ranked and name in means:
            rows[name] = _points(means[name] - means[against])
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
    return table.sort_values("points", ascending=False, kind="stable")
