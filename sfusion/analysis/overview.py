"""Notebook 00: what was run, and what became of the paper's claims."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from sfusion.analysis.contrasts import (
    CONTRASTS,
    CONTROLS,
    OPPONENTS,
    contrasts,
    contrasts_of_two,
)
from sfusion.analysis.drawing import interval_rows
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.analysis.rankings import DATASET_COLUMNS
from sfusion.analysis.scoreboard import scoreboard
from sfusion.analysis.statistics import MARGIN, Interval, points_text, verdict_text
from sfusion.errors import StudyLacks
from sfusion.experiments.results import UNIT

if TYPE_CHECKING:
    from sfusion.experiments.results import Results

DEPTHS = {6: "six", 12: "twelve"}  # layers of the originals, in words

# What an own forest is compared with on the first page: keys of the contrasts.
SIX = {
    key: (CONTRASTS | CONTROLS | OPPONENTS)[key]
    for key in ("random", "single", "angle", "middle", "position", "oracle")
}

# Invented intervals that show how a verdict is read: value, low and high, in points.
EXAMPLES = [
    (1.6, 0.7, 2.5),
    (0.5, 0.2, 0.9),
    (-0.1, -0.7, 0.5),
    (0.4, -0.9, 1.7),
]

# What is said of a side, by the verdict: what it does, and to what.
CLAUSES = {
    "ahead": ("is ahead", "of {other} by {unsigned}"),
    "behind": ("is behind", "{other} by {unsigned}"),
    "ahead, by less than 1 pp": (
        "is ahead",
        "of {other}, but by less than 1 pp ({signed})",
    ),
    "behind, by less than 1 pp": (
        "is behind",
        "{other}, but by less than 1 pp ({signed})",
    ),
    "no difference of 1 pp or more": ("is within 1 pp", "of {other} ({signed})"),
    "cannot tell": ("shows no clear difference", "from {other} ({signed})"),
}

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
    shown = shown.rename(columns=DATASET_COLUMNS)
    caption = "Texts per split, and test accuracies as shares, means over seeds"
    return Exhibit("originals", table, finding, caption=caption, shown=shown)


def phrase(row: pd.Series, other: str) -> str:
    """Say in a clause how the first side of a contrast stands to the second.

    Parameters
    ----------
    row : Series
        Of :func:`sfusion.analysis.contrasts.contrasts`.
    other : str
        What the second side is called.

    Returns
    -------
    str
        Such as ``is ahead of middle first by 0.6 pp [0.2, 1.1]``.
    """
    return " ".join(_clause(row, other))


def _clause(row: pd.Series, other: str) -> tuple[str, str]:
    """Divide a clause into its verb and what that is said of."""
    found = Interval(row["difference"], row["low"], row["high"])
    verdict = verdict_text(found.low, found.high)
    verb, object_ = CLAUSES[verdict]
    positive = found.turned() if verdict == "behind" else found
    signed = points_text(found, signed=True)
    return verb, object_.format(
        other=other, unsigned=points_text(positive), signed=signed
    )


def _one_word(verdicts: pd.Series) -> str:
    """Answer whether the paper holds, by the verdicts on its claims."""
    can_be_tested = verdicts[verdicts != "cannot be tested"]
    if (can_be_tested == "supported").all():
        return "Yes"
    if can_be_tested.isin(["supported", "partly"]).any():
        return "Partly"
    return "Not as it stands"


def _three(rows: pd.DataFrame, layers: str) -> str:
    """Say in clauses how the own forest stands to chance, to a rule, and to position.

    What several clauses have in common is said once.
    """
    opponents = {
        "random": "random orders",
        "middle": "*middle layers first*",
        "position": "a forest that reads only where a layer stands",
    }
    by_verb: dict[str, list[str]] = {}
    for name, other in opponents.items():
        verb, object_ = _clause(rows.loc[(SIX[name].title, layers)], other)
        by_verb.setdefault(verb, []).append(object_)
    said = [f"{verb} {_listed(objects)}" for verb, objects in by_verb.items()]
    return ", and ".join(said)


def _listed(items: list[str]) -> str:
    if len(items) < 3:
        return " and ".join(items)
    return f"{', '.join(items[:-1])}, and {items[-1]}"


@exhibit
def answer(results: Results, twelve: Results) -> Exhibit:
    """Answer the question of the project in a few sentences.

    Parameters
    ----------
    results, twelve : Results
        The studies of six and of twelve layers.

    Returns
    -------
    Exhibit
        Its table has the contrasts that the sentences are made of, with half of the
        layers removed.
    """
    tables = []
    boards = []
    for title, study in (("six", results), ("twelve", twelve)):
        tables.append(contrasts(study, SIX, ["half_removed"]).assign(layers=title))
        boards.append(scoreboard(study)["verdict"])
    table = pd.concat(tables, ignore_index=True)
    rows = table.set_index(["contrast", "layers"])
    needed = [SIX[name].title for name in ("random", "middle", "position")]
    for title, layers in itertools.product(needed, ("six", "twelve")):
        if (title, layers) not in rows.index:
            raise StudyLacks(f"{title!r} on {layers} layers is not in these studies")
    middle = rows.loc[SIX["middle"].title, "difference"]
    as_well = (middle.abs() < MARGIN).all()
    rule = (
        ", and a rule that learns nothing chooses the layers about as well as the "
        "fusion"
    )
    finding = (
        f"**{_one_word(pd.concat(boards))}{rule if as_well else ''}.** "
        "With half of the layers removed from a model of six, a forest that fuses "
        f"twelve signals {_three(rows, 'six')}. With half removed from a model of "
        f"twelve, it {_three(rows, 'twelve')}."
    )
    return Exhibit("answer", table, finding)


@exhibit
def six_opponents(results: Results, twelve: Results) -> Exhibit:
    """Compare the own forest with six opponents on both models.

    Parameters
    ----------
    results, twelve : Results
        The studies of six and of twelve layers.

    Returns
    -------
    Exhibit
    """
    studies = {"model of 6 layers": results, "model of 12 layers": twelve}
    made = contrasts_of_two("six_opponents", studies, SIX)
    drawn = " or ".join(made.table["drawn"].unique())
    caption = (
        "Test accuracy with half of the layers removed, own forest minus the opponent: "
        f"percentage points, means with 95% intervals over {drawn}, on twelve layers "
        "the wider of bootstrap and Student's. Grey: less than "
        f"{100 * MARGIN:g} pp; a difference counts as none where its whole interval is "
        "grey."
    )
    return replace(made, finding="", caption=caption)


@exhibit
def how_a_verdict_is_read() -> Exhibit:
    """Draw four invented differences and the verdict that each gets.

    Returns
    -------
    Exhibit
    """
    table = pd.DataFrame(EXAMPLES, columns=["value", "low", "high"])
    words = []
    for row in table.itertuples():
        words.append(verdict_text(row.low / 100, row.high / 100))
    table["verdict"] = words
    figure = interval_rows(
        table,
        label="verdict",
        xlabel="difference of test accuracy (pp), invented numbers",
        margin=100 * MARGIN,
        sides=("the other ahead", "the first ahead"),
    )
    caption = (
        "The dot is the mean difference, the line its 95% interval, the grey band a "
        f"difference of less than {100 * MARGIN:g} percentage point (pp), the margin "
        "that was fixed before the runs."
    )
    finding = (
        "An interval to the right of 0 puts the first side *ahead*; where it also lies "
        "within the band, it is ahead *by less than 1 pp*. An interval that lies "
        "within the band and holds 0 shows *no difference of 1 pp or more*. An "
        "interval that holds 0 and leaves the band does not decide: we *cannot tell*."
    )
    return Exhibit("how_a_verdict_is_read", table, finding, figure, caption)


def claim_in_words(row: pd.Series) -> str:
    """Write what is found of a claim, with its unit and its verdict.

    Parameters
    ----------
    row : Series
        Of :func:`sfusion.analysis.scoreboard.scoreboard`.

    Returns
    -------
    str
        Such as ``ahead on 6 of 9 datasets: undecided``; nothing where nothing was
        measured.
    """
    if pd.isna(row["ours"]):
        return ""
    return f"{row['short']}: **{row['verdict']}**"


@exhibit
def verdicts(results: Results, twelve: Results) -> Exhibit:
    """Set what is found of the paper's claims at two depths beside each other.

    Parameters
    ----------
    results, twelve : Results
        The study shown, and the one of twelve layers.

    Returns
    -------
    Exhibit
    """
    columns = {}
    for study in (results, twelve):
        board = scoreboard(study)
        depth = study.depth
        by_summary = board["standing"] != "author"
        columns["the paper says"] = board["paper"].where(
            ~by_summary, board["paper"] + " (by a summary)"
        )
        columns[f"on {DEPTHS.get(depth, depth)} layers"] = board.apply(
            claim_in_words, axis=1
        )
    table = pd.DataFrame(columns)
    counts = scoreboard(results)["verdict"].value_counts()
    listed = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    depth = results.depth
    here = f"on {DEPTHS.get(depth, depth)} layers"
    finding = f"Of {len(table)} claims, {here}: {listed}."
    plain = table.map(lambda text: text.replace("**", ""))
    return Exhibit("verdicts", table, finding, shown=plain)
