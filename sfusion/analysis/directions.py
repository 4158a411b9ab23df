"""Notebook 03: whether the signals point the right way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from sfusion.analysis.contrasts import draw_contrasts
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.layer_sets import sets_left
from sfusion.analysis.scores import observed, redrawn
from sfusion.analysis.statistics import compare_pair, comparison_text
from sfusion.signals import SIGNALS

if TYPE_CHECKING:
    from sfusion.experiments.results import Results, RowResults

HALF = 3  # of the six layers that were searched


def _both_ways(searched: Results, candidates: RowResults) -> pd.DataFrame:
    """Look up the sets that each signal leaves, followed as declared and reversed."""
    turned = candidates["paths"].assign(order="reversed")
    turned["name"] = turned["strategy"].str.removeprefix("reversed-")
    declared = searched.curves().assign(order="declared")
    paths = pd.concat([declared[declared["removed"] > 0], turned])
    return sets_left(searched, paths[paths["name"].isin(SIGNALS)])


@exhibit
def reversed_signals(searched: Results, candidates: RowResults) -> Exhibit:
    """Compare every signal with its reverse, by the sets of layers that they leave.

    Parameters
    ----------
    searched : Results
        Of a study in which every set of layers was trained.
    candidates : RowResults
        Frame ``paths``: where the reversed signals go, read off its records.

    Returns
    -------
    Exhibit
        Columns of :func:`sfusion.analysis.contrasts.contrasts`, and ``models``: on how
        many the whole of both paths is known.
    """
    both = _both_ways(searched, candidates)
    scores = redrawn(both, ["name", "order", "removed"])
    rows = []
    for name in SIGNALS:
        if name not in scores:  # added after this study
            continue
        # Models whose records lack signals on the way drop out; a mean needs the whole
        # of both paths.
        whole = scores[name].dropna()
        pairs = {
            "half_removed": scores[name].xs(HALF, axis=1, level="removed").dropna(),
            "mean_accuracy": whole.T.groupby(level="order").mean().T,
        }
        for measure, pair in pairs.items():
            row: dict[str, object] = {
                "contrast": SIGNALS[name].title,
                "measure": measure,
            }
            row["models"] = len(observed(pair))
            rows.append({**row, **compare_pair(pair["reversed"], pair["declared"])})
    table = pd.DataFrame(rows)
    return Exhibit(
        "reversed_signals",
        table,
        _sides(table, len(searched.tasks)),
        draw_contrasts(table, difference="reversed minus declared"),
    )


def _sides(table: pd.DataFrame, models: int) -> str:
    half = table[table["measure"] == "half_removed"]
    titles = {
        "better": "ahead",
        "worse": "behind",
        "equivalent": "no difference of 1 pp or more",
        "inconclusive": "cannot tell",
    }
    lines = ["The reversed order, with half of the layers removed:", ""]
    for verdict, words in titles.items():
        names = half.loc[half["verdict"] == verdict, "contrast"]
        if len(names):
            lines.append(f"- {words}: {', '.join(names)}.")
    known = f"{half['models'].min()} to {half['models'].max()} of {models}"
    lines += ["", f"Models with a whole path until there: {known}."]
    return "\n".join(lines)


@exhibit
def forest_against_signals(searched: Results, candidates: RowResults) -> Exhibit:
    """Compare the own forest with the signal that validation prefers on a dataset.

    Parameters
    ----------
    searched, candidates
        See :func:`reversed_signals`.

    Returns
    -------
    Exhibit
        A row per set of signals to choose from: as declared, and either way round.
    """
    both = _both_ways(searched, candidates)
    both = both[both["removed"] == HALF]
    curves = searched.curves()
    is_forest = (curves["name"] == "random-forest") & (curves["removed"] == HALF)
    forest = sets_left(searched, curves[is_forest])
    choices = {
        "as declared": both[both["order"] == "declared"],
        "either way round": both,
    }
    rows = []
    for title, signals in choices.items():
        single = _preferred(signals).assign(name="single")
        pair = redrawn(pd.concat([single, forest]), ["name"]).dropna()
        found = compare_pair(pair["random-forest"], pair["single"])
        rows.append({"signals": title, **found})
    table = pd.DataFrame(rows)
    lines = [
        "Own forest against the signal that validation prefers on a dataset, with half "
        "of the layers removed:",
        "",
    ]
    for row in table.itertuples():
        words = comparison_text(row.difference, row.low, row.high)
        lines.append(f"- signals {row.signals}: {words}.")
    return Exhibit("forest_against_signals", table, "\n".join(lines))


def _preferred(signals: pd.DataFrame) -> pd.DataFrame:
    """Keep the signal and order of the highest validation accuracy on a dataset."""
    keys = ["task", "name", "order"]
    means = signals.pivot_table("validation_accuracy", "task", ["name", "order"])
    best = means.idxmax(axis=1)
    chosen = pd.DataFrame(best.tolist(), columns=keys[1:]).assign(task=best.index)
    return signals.merge(chosen, on=keys)
