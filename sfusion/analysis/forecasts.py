"""How well a fusion of the signals forecasts what a removal costs, and from which."""

from __future__ import annotations

from functools import lru_cache

import pandas as pd

from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.held_out import (
    Fit,
    held_out_fits,
    held_out_predictions,
    importances,
    score,
)
from sfusion.analysis.statistics import number_text
from sfusion.experiments.results import UNIT, Results
from sfusion.pruning.fusion import LABEL, fit_fusion, training_table
from sfusion.pruning.strategies import lookup
from sfusion.signals import SIGNALS

HELD_OUT_TITLES = {
    "parent": "whole parents",
    "task": "whole datasets",
    "parent, one tree": "whole parents, each tree alone",
}

FORECASTERS = {
    "linear-regression": "Linear regression",
    "random-forest": "Forest",
}


def fusion_nodes(results: Results) -> pd.DataFrame:
    """Keep the nodes that fusions may learn from, of strategies that learn nothing.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Rows of ``results.nodes``.
    """
    labels = results.trajectories["strategy"]
    teachers = [label for label in labels.unique() if lookup(label).teaches_fusions]
    keys = [*UNIT, "path"]
    visited = results.trajectories.loc[labels.isin(teachers), keys]
    return results.nodes.merge(visited.drop_duplicates(), on=keys)


@lru_cache(maxsize=4)
def tried_removals(results: Results) -> pd.DataFrame:
    """Tabulate what the fusions of a study learn from.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        See :func:`sfusion.pruning.fusion.training_table`.

    Raises
    ------
    StudyLacks
        Without removals that strategies tried which learn nothing.
    """
    table = training_table(fusion_nodes(results), results.signals)
    if table.empty:
        raise StudyLacks("this study has no removals to learn from")
    return table


@lru_cache(maxsize=8)
def _first_seed_fits(results: Results, model: str) -> list[Fit]:
    return held_out_fits(_first_seed(results), model)


def _first_seed(results: Results) -> pd.DataFrame:
    table = tried_removals(results)
    return table[table["seed"] == table["seed"].min()]


@exhibit
def removals(results: Results) -> Exhibit:
    """Show what the fusions learn from: how much each tried removal cost.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = tried_removals(results)
    changes = table.groupby("task", sort=False)[LABEL]
    costs = (100 * changes.describe()[["mean", "std", "min", "max"]]).round(1)
    costs["rows"] = changes.size()
    means = costs["mean"].sort_values()
    finding = (
        f"{len(table):,} removals teach the fusions. On average a removal changes "
        f"validation accuracy by {number_text(means.iloc[-1])} pp on "
        f"{means.index[-1]}, where it costs least, and by "
        f"{number_text(means.iloc[0])} pp on {means.index[0]}, where it costs most."
    )
    return Exhibit(
        "tried_removals",
        costs,
        finding,
        caption="Change of validation accuracy by a removal and the recovery after it, "
        "in percentage points; all seeds.",
        shown=_costs_in_words(costs),
    )


def _costs_in_words(costs: pd.DataFrame) -> pd.DataFrame:
    titles = {
        "mean": "mean (pp)",
        "std": "standard deviation (pp)",
        "min": "largest loss (pp)",
        "max": "largest gain (pp)",
    }
    shown = costs[list(titles)].map(number_text)
    shown["standard deviation (pp)"] = costs["std"].map("{:.1f}".format)
    shown = shown.drop(columns="std").rename(columns=titles)
    shown["removals tried"] = costs["rows"]
    order = [*titles.values(), "removals tried"]
    return shown[order].rename_axis("dataset")


def _quality_in_words(table: pd.DataFrame) -> pd.DataFrame:
    shown = table.reset_index()
    for name in ("r2", "within_r2", "pairs_ordered"):
        shown[name] = shown[name].map(_per_cent)
    shown["rank_correlation"] = shown["rank_correlation"].map(
        lambda value: number_text(value, 2)
    )
    titles = {
        "r2": "variance explained",
        "rank_correlation": "rank correlation",
        "within_r2": "explained among siblings",
        "pairs_ordered": "pairs ordered rightly",
        "rows": "removals tried",
        "siblings": "removals with a sibling",
    }
    shown["held out"] = shown["held out"].replace(HELD_OUT_TITLES)
    return shown.rename(columns=titles).set_index(["fusion", "held out"])


def _per_cent(share: float) -> str:
    return f"{100 * share:.0f}%".replace("-", "−")


@exhibit
def quality(results: Results) -> Exhibit:
    """Show how well the fusions forecast removals that they have not seen, of one seed.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    first = _first_seed(results)
    asked = {}
    for model in FORECASTERS:
        asked[model, "parent"] = held_out_predictions(_first_seed_fits(results, model))
    for model in FORECASTERS:
        asked[model, "task"] = held_out_predictions(held_out_fits(first, model, "task"))
    for model in FORECASTERS:
        alone = [
            held_out_predictions(held_out_fits(rows, model))
            for _, rows in first.groupby("task")
        ]
        asked[model, "parent, one tree"] = pd.concat(alone, ignore_index=True)
    rows = [
        {"fusion": FORECASTERS[model], "held out": held_out, **score(found)}
        for (model, held_out), found in asked.items()
    ]
    table = pd.DataFrame(rows).set_index("fusion")
    forest = table[table["held out"] == "parent"].loc["Forest"]
    finding = (
        f"Whole parents held out, the forest explains {forest['r2']:.0%} of the "
        f"variance, {forest['within_r2']:.0%} among siblings, and orders "
        f"{forest['pairs_ordered']:.0%} of sibling pairs rightly."
    )
    return Exhibit("fusion_quality", table, finding, shown=_quality_in_words(table))


@exhibit
def importance(results: Results) -> Exhibit:
    """Show which signals carry the forecast, of the removals of one seed.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    parts = [
        importances(_first_seed_fits(results, model)).assign(fusion=title)
        for model, title in FORECASTERS.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    ordered = table.sort_values("importance", ascending=False)
    top = ordered.groupby("fusion")["signal"].first()
    highest = [
        f"{name.lower()} puts {SIGNALS[top[name]].title} first" for name in top.index
    ]
    removals_by_task = tried_removals(results).groupby("task", sort=False)
    coefficients = pd.DataFrame(
        {
            task: fit_fusion(rows, "linear-regression").coef_
            for task, rows in removals_by_task
        }
    )
    same_sign = (coefficients > 0).nunique(axis=1).eq(1).sum()
    finding = (
        f"The {' and the '.join(highest)}. Fitted on each dataset "
        f"alone, the linear regression's coefficient keeps its sign over all datasets "
        f"for {same_sign} of {len(coefficients)} signals."
    )
    drawn = table.assign(
        title=[SIGNALS[name].title for name in table["signal"]],
        low=table["importance"] - table["spread"],
        high=table["importance"] + table["spread"],
    )
    figure = interval_rows(
        drawn,
        label="title",
        value="importance",
        xlabel="rise in squared error when permuted, share of the variance",
        series="fusion",
        sort=True,
        digits=2,
    )
    caption = "Mean over folds and shuffles, with a standard deviation to either side."
    return Exhibit("fusion_importance", table, finding, figure, caption)
