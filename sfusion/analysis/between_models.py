"""Between models: what the removals of one teach about the layers of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from sfusion.analysis.contrasts import MODELS, contrasts, draw_contrasts, in_words
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.layer_sets import sets_left, trained_sets
from sfusion.analysis.scores import MEASURES, half_of, redrawn, task_means
from sfusion.analysis.statistics import difference_text

if TYPE_CHECKING:
    from sfusion.experiments.results import Results, RowResults

# Rankings of the six-layer model's layers that need none of its removals.
RANKINGS = {
    "one-shot-random-forest-other-model": "forest of twelve layers",
    "one-shot-random-forest-position-other-model": "its position alone",
    "one-shot-angular-distance": "angular distance",
    "one-shot-middle-first": "middle first",
}
FOREST = RANKINGS["one-shot-random-forest-other-model"]


@exhibit
def other_model(twelve: Results) -> Exhibit:
    """Draw what forests are worth that learned from the six-layer model's removals.

    Parameters
    ----------
    twelve : Results

    Returns
    -------
    Exhibit
    """
    table = contrasts(twelve, MODELS, list(MEASURES))
    if table.empty:
        raise StudyLacks("this study has no forest of another model")
    figure = draw_contrasts(table)
    return Exhibit("other_model", table, figure=figure, shown=in_words(table))


def _rankings_followed(results: Results, candidates: RowResults) -> pd.DataFrame:
    """Look up the accuracies of the sets that rankings leave, and of all sets.

    Index (task, seed, draw), a column per ranking and number of removed layers.
    """
    paths = candidates["paths"]
    paths = paths[paths["study"] == results.manifest["profile"]["name"]]
    ranked = paths.assign(name=paths["strategy"].map(RANKINGS)).dropna(subset="name")
    every = trained_sets(results).assign(name="all sets")
    if ranked.empty or every.empty:
        raise StudyLacks("no forest of twelve layers ranked the layers of this study")
    followed = pd.concat([sets_left(results, ranked), every])
    return redrawn(followed, ["name", "removed"]).dropna()


@exhibit
def from_twelve_to_six(results: Results, candidates: RowResults) -> Exhibit:
    """Show what a forest of the twelve-layer model's removals is worth on six layers.

    Parameters
    ----------
    results : Results
        Of six layers, with every set of layers trained.
    candidates : RowResults
        The study of that name: the rankings that forests of twelve layers give.

    Returns
    -------
    Exhibit
    """
    followed = _rankings_followed(results, candidates)
    means = 100 * task_means(followed).mean().unstack("removed")
    half = half_of(list(means), len(means.columns) + 1)
    scores = {
        "half of the layers removed": followed.xs(half, axis=1, level="removed"),
        "mean over depths": followed.T.groupby(level="name").mean().T,
    }
    lines = [f"The {FOREST}:", ""]
    for when, score in scores.items():
        for other in means.index.drop(FOREST):
            words = difference_text(score[FOREST], score[other])
            lines.append(f"- Against {other}, {when}: {words}")
    return Exhibit(
        "twelve_to_six",
        means.round(2),
        "\n".join(lines),
        caption="Test accuracy (%) of the sets that rankings leave, by layers removed.",
        shown=means.round(1),
    )
