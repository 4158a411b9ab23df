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
    contrast_text,
    contrasts,
    draw_contrasts,
    in_words,
)
from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.layer_sets import compare_sets, searched_sets, sets_left
from sfusion.analysis.scores import MEASURES, protocols, redrawn
from sfusion.analysis.statistics import (
    FEW,
    MARGIN,
    POWER,
    bootstrapped,
    number_text,
)
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
        interval_caption(table),
        shown=in_words(table[table["measure"].isin(MEASURES)]),
    )


def interval_caption(table: pd.DataFrame) -> str:
    """Say what the intervals of contrasts draw, and that none is corrected.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.contrasts.contrasts`.

    Returns
    -------
    str
    """
    count = table["contrast"].nunique()
    drawn = " or ".join(table["drawn"].unique())
    few = ""
    if (table[["ahead", "tied", "behind"]].sum(axis=1) <= FEW).any():
        few = ", or Student's over datasets where it is wider"
    return (
        f"Differences of test accuracy, with 95% intervals over {drawn}{few}; grey: "
        f"within {100 * MARGIN:g} pp. None of the {count} comparisons is corrected for "
        "the others: by chance alone one interval in twenty leaves 0 out."
    )


def said_twice(table: pd.DataFrame) -> str:
    """Write contrasts as a Markdown list, each with both of its measures.

    Parameters
    ----------
    table : DataFrame
        From :func:`sfusion.analysis.contrasts.contrasts`.

    Returns
    -------
    str
    """
    lines = []
    for title, rows in table.groupby("contrast", sort=False):
        words = rows.set_index("measure").apply(contrast_text, axis=1)
        lines.append(
            f"- {title}: {words['half_removed']}; mean over depths: "
            f"{words['mean_accuracy']}"
        )
    return "\n".join(lines)


@exhibit
def power(studies: dict[str, Results]) -> Exhibit:
    """Show which differences studies of so few datasets can detect.

    Parameters
    ----------
    studies : dict of str to Results
        By title.

    Returns
    -------
    Exhibit
    """
    asked = {"position": CONTROLS["position"], "middle": OPPONENTS["middle"]}
    asked["oracle"] = CONTRASTS["oracle"]
    parts = []
    for title, study in studies.items():
        datasets = study.tasks["task"].nunique()
        seeds = study.tasks["seed"].nunique()
        table = contrasts(study, asked, list(MEASURES))
        size = f"{datasets} datasets, {seeds} seeds"
        parts.append(table.assign(study=f"{title}: {size}"))
    table = pd.concat(parts, ignore_index=True)
    if table.empty:
        raise StudyLacks("no study ran these strategies")
    table["detectable"] *= 100
    texts = table.assign(text=table["detectable"].map("{:.2f}".format))
    shown = texts.pivot(
        index="contrast", columns=["study", "measure"], values="text"
    ).fillna("–")
    shown.columns = [f"{study}, {MEASURES[name]}" for study, name in shown]
    position = table[table["contrast"] == CONTROLS["position"].title]
    halved = position[position["measure"] == "half_removed"]
    sentences = []
    for _, row in halved.iterrows():
        sentences.append(f"from {row['detectable']:.2f} pp on ({row['study']})")
    finding = (
        f"With a power of {POWER:.0%}, a difference between the own forest and "
        "position alone, half of the layers removed, would be seen "
        f"{' and '.join(sentences)}. A study that detects less than "
        f"{100 * MARGIN:g} pp can also show that there is no difference of that size; "
        "another hardly can."
    )
    caption = (
        "Difference (pp of test accuracy) that a study of the same spread between "
        f"datasets shows with a power of {POWER:.0%}."
    )
    return Exhibit("power", table, finding, caption=caption, shown=shown)


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
    by_unit = gains.pivot_table("gain", UNIT, "layer")
    drawn = bootstrapped(100 * by_unit)
    by_layer = drawn.set_index("label")["value"]
    drawn["label"] = [
        f"ends on layer {layer} ({paths[layer]} paths)" for layer in drawn["label"]
    ]
    figure = interval_rows(
        drawn,
        label="label",
        sides=("random orders ahead", "own forest ahead"),
        xlabel="own forest minus random orders, mean over depths (pp)",
    )
    caption = (
        "Orders that end on one layer are averaged within a dataset and seed, then "
        "over seeds and datasets; 95% intervals over the datasets and seeds that drew "
        "such an order."
    )
    leads = [f"layer {layer}, {number_text(by)}" for layer, by in by_layer.items()]
    on_average = number_text(100 * gains["gain"].mean())
    finding = (
        f"Lead over orders by the layer that they keep, pp: {'; '.join(leads)}. Over "
        f"all orders as chance drew them it is {on_average}; there are "
        f"{gains['strategy'].nunique()} orders per dataset and seed."
    )
    return Exhibit("gain_by_surviving_layer", gains, finding, figure, caption)


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
    depth = results.depth
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
    last = results.depth - 1
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
    caption = f"Differences, with 95% intervals over {table['drawn'].iloc[0]}."
    return Exhibit(
        "all_orders", table, said_twice(table), caption=caption, shown=in_words(table)
    )


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
    finding = said_twice(table[table["contrast"].isin(said)])
    figure = draw_contrasts(table)
    caption = interval_caption(table)
    return Exhibit(name, table, finding, figure, caption, shown=in_words(table))
