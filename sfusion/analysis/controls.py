"""Controls: the learned fusion against orders, searches and what reads no signal."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import pandas as pd
from scipy.stats import norm, t

from sfusion.analysis.contrasts import (
    CONTRASTS,
    CONTROLS,
    MODELS,
    OPPONENTS,
    Contrast,
    contrast_list,
    contrast_text,
    contrasts,
    draw_contrasts,
    in_words,
)
from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.layer_sets import compare_sets, searched_sets, sets_left
from sfusion.analysis.scores import MEASURES, protocols, redrawn
from sfusion.analysis.statistics import bootstrapped
from sfusion.experiments.results import UNIT
from sfusion.pruning.path import PruningPath

if TYPE_CHECKING:
    from sfusion.experiments.results import Results

FOREST = "random-forest"
ALL_ORDERS = ("all orders", "all orders that keep the last layer")

UNIT_TITLES = {"task": "datasets", "seed": "seeds"}


@exhibit
def main_contrasts(results: Results) -> Exhibit:
    """Show the five contrasts that were fixed before the nine datasets were run.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = _main_table(results)
    lines = []
    for _, row in table[table["measure"] == "half_removed"].iterrows():
        lines.append(
            f"- {row['contrast']}: {contrast_text(row)} with half of the layers "
            f"removed; ahead on {row['ahead']} datasets, behind on {row['behind']} "
            f"(exact sign test p = {row['sign_test']:.3f})"
        )
    lines += ["", *(_coverage(results, unit) for unit in UNIT)]
    return Exhibit(
        "contrasts",
        table,
        "\n".join(lines),
        draw_contrasts(table),
        shown=in_words(table[table["measure"].isin(MEASURES)]),
    )


@cache
def _main_table(results: Results) -> pd.DataFrame:
    return contrasts(results, CONTRASTS)


def _coverage(results: Results, unit: str) -> str:
    """Say how much an interval over so few units covers."""
    count = results.tasks[unit].nunique()
    covered = 0.0
    if count > 1:
        reach = norm.ppf(0.975) * ((count - 1) / count) ** 0.5
        covered = 1 - 2 * t.sf(reach, count - 1)
    return (
        f"Were the units normal, an interval over {count} {UNIT_TITLES[unit]} would "
        f"cover {covered:.0%}, not 95%."
    )


@exhibit
def fixed_depths(results: Results) -> Exhibit:
    """Show the main contrasts after each number of removals.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = _main_table(results)
    table = table[table["measure"].str.startswith("removed_")]
    against_random = table[table["contrast"] == CONTRASTS["random"].title]
    leads = against_random.set_index("measure")["difference"]
    finding = (
        f"Against a random order the own forest gains {100 * leads.iloc[0]:.1f} pp "
        f"with the first removal and {100 * leads.iloc[-1]:.1f} pp with the last: a "
        "mean over depths is carried by its last ones."
    )
    shown = in_words(table).rename(columns=_depth_title)
    return Exhibit("fixed_depths", table, finding, shown=shown)


def _depth_title(measure: str) -> str:
    return f"{measure.removeprefix('removed_')} removed"


@exhibit
def surviving_layer(results: Results) -> Exhibit:
    """Show the lead over random orders by the layer that the order keeps to the end.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    gains = gains_by_surviving_layer(results)
    paths = gains["layer"].value_counts()
    units = gains.pivot_table("gain", UNIT, "layer")
    drawn = bootstrapped(100 * units)
    by_layer = drawn.set_index("label")["value"]
    drawn["label"] = [
        f"ends on layer {layer} ({paths[layer]} paths)" for layer in drawn["label"]
    ]
    figure = interval_rows(
        drawn,
        label="label",
        xlabel="lead over random orders, mean over depths\n"
        "(pp, 95% interval over datasets and seeds)",
    )
    leads = "; ".join(f"layer {layer}, {lead:+.1f}" for layer, lead in by_layer.items())
    finding = (
        f"Lead over orders by the layer that they keep, pp: {leads}. With each of "
        f"these layers weighted alike it is {by_layer.mean():+.1f}, over the orders as "
        f"chance drew them {100 * gains['gain'].mean():+.1f}; there are "
        f"{gains['strategy'].nunique()} orders per dataset and seed."
    ).replace("-", "−")
    return Exhibit("gain_by_surviving_layer", gains, finding, figure)


def gains_by_surviving_layer(results: Results) -> pd.DataFrame:
    """Compare the own forest with every random order, and say what the order keeps.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        A row per task, seed and ``strategy`` (a draw): ``layer``, the one that is left,
        and ``gain``, mean accuracy over depths of the forest minus that of the order,
        as a share.
    """
    frame = results.curves()
    depth = int(results.nodes["layers"].max())
    keys = [*UNIT, "strategy"]
    orders = frame[(frame["name"] == "random") & (frame["layers"] == 1)]
    layers = [PruningPath.parse(path).remaining(depth)[0] for path in orders["path"]]
    means = protocols(frame).set_index(keys)["mean_accuracy"]
    forest = means.xs(FOREST, level="strategy").rename("forest")
    gains = orders[keys].assign(layer=layers).join(means, on=keys).join(forest, on=UNIT)
    gains["gain"] = gains["forest"] - gains["mean_accuracy"]
    gains = gains.sort_values(keys, ignore_index=True)
    return gains[[*keys, "layer", "gain"]]


@exhibit
def all_orders(results: Results) -> Exhibit:
    """Compare the own forest with the mean over all orders.

    Equally many orders leave each set of a size, so the set that the forest leaves is
    compared with all sets of its size, each trained along its own path from the top.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    sets = searched_sets(results)
    last = results.nodes["layers"].max() - 1
    keeps_last = [last not in gone for gone in sets["gone"]]
    curves = results.curves()
    pruned = curves[(curves["name"] == FOREST) & (curves["removed"] > 0)]
    compared = [
        sets_left(results, pruned),
        sets.assign(name=ALL_ORDERS[0]),
        sets[keeps_last].assign(name=ALL_ORDERS[1]),
    ]
    scores = redrawn(pd.concat(compared), ["name", "removed"])
    pairs = {f"Own forest against {name}": (FOREST, name) for name in ALL_ORDERS}
    table = compare_sets(scores, pairs)
    headline = table[table["measure"] == "half_removed"]
    return Exhibit("all_orders", table, contrast_list(headline), shown=in_words(table))


@exhibit
def fusion_controls(results: Results) -> Exhibit:
    """Show whether the fusion transfers, and whether it knows more than the position.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    decisive = [CONTROLS["position"].title, CONTROLS["position-transfer"].title]
    return _against("controls", results, CONTROLS, decisive)


@exhibit
def opponents(results: Results) -> Exhibit:
    """Show the fusion against opponents at their best.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    rivals = {}
    for key, contrast in {**OPPONENTS, **MODELS}.items():
        at_once = key in ("once-middle", "once-angle")
        if at_once or (key in OPPONENTS and not key.startswith("siblings")):
            rivals[key] = contrast
    return _against("opponents", results, rivals, [OPPONENTS["middle"].title])


def _against(
    name: str,
    results: Results,
    which: dict[str, Contrast],
    said: list[str],
) -> Exhibit:
    """Show contrasts under two measures, and say some of them."""
    table = contrasts(results, which, list(MEASURES))
    if table.empty:
        raise StudyLacks("this study ran none of these strategies")
    headline = table["measure"] == "half_removed"
    finding = contrast_list(table[headline & table["contrast"].isin(said)])
    figure = draw_contrasts(table)
    return Exhibit(name, table, finding, figure, shown=in_words(table))
