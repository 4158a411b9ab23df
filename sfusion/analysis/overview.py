"""Notebook 00: what was run, and what became of the paper's claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.scoreboard import scoreboard
from sfusion.experiments.results import UNIT

if TYPE_CHECKING:
    from sfusion.experiments.results import Results

DEPTHS = {6: "six", 12: "twelve"}  # layers of the originals, in words

# Columns of Results.tasks, and what they are called in print.
BASELINES = {"tfidf_accuracy": "TF-IDF", "frozen_accuracy": "the frozen encoder"}


@exhibit
def originals(results: Results) -> Exhibit:
    """Tabulate the datasets, the originals' accuracies and those of the baselines.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
        Means over seeds, accuracies as shares.
    """
    roots = results.nodes[results.nodes["path"] == ""]
    runs = results.tasks.merge(roots[[*UNIT, "test_accuracy"]], on=UNIT)
    wanted = ["classes", "train", "validation", "test", "majority_accuracy"]
    wanted += [*BASELINES, "test_accuracy"]
    columns = [name for name in wanted if name in runs]
    table = runs.groupby("task", sort=False)[columns].mean().round(3)
    steps = int((results.trajectories["removed"] > 0).sum())
    beaten = []
    for column, title in BASELINES.items():
        if column in runs:
            count = int((runs["test_accuracy"] > runs[column]).sum())
            beaten.append(f"{title} in {count}")
    seeds = runs["seed"].nunique()
    repeated = "one seed" if seeds == 1 else f"{seeds} seeds each"
    finding = (
        f"{runs['task'].nunique()} datasets with {repeated} were pruned: "
        f"{len(results.nodes)} models trained for {steps} steps of the strategies, "
        f"{len(results.distillation)} more in the distillation. The original beats "
        f"{' and '.join(beaten)} of {len(runs)} runs."
    )
    shown = table.rename_axis("dataset").convert_dtypes()
    caption = "Texts per split and test accuracies, means over seeds"
    return Exhibit("originals", table, finding, caption=caption, shown=shown)


@exhibit
def verdicts(results: Results, twelve: Results) -> Exhibit:
    """Set the verdicts on the paper's claims at two depths beside each other.

    Parameters
    ----------
    results, twelve : Results
        The study shown, and the one of twelve layers.

    Returns
    -------
    Exhibit
    """
    board = scoreboard(results)[["paper", "standing", "count", "verdict"]]
    depth = int(results.nodes["layers"].max())
    here = f"on {DEPTHS.get(depth, depth)} layers"
    counts = board["verdict"].value_counts()
    board = board.rename(columns={"verdict": here})
    board["on twelve layers"] = scoreboard(twelve)["verdict"]
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    finding = f"Of {len(board)} claims, {here}: {listed}."
    return Exhibit("verdicts", board, finding, shown=board)
