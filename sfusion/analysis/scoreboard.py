"""The scoreboard: the paper's claims, each with our number, its interval and a verdict.

A verdict follows from the interval by one rule: *supported* when the whole interval
satisfies the claim, *not supported* when none of it does, *undecided* when it does in
part, *cannot be tested* when the claim leaves out its definition. A claim of two parts
is *partly* supported when one part is and the other is not. A claim that needs what a
study lacks is *not measured* there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from functools import cache

import numpy as np
import pandas as pd

from sfusion.analysis.appearance import strategy_title
from sfusion.analysis.contrasts import QUESTIONS
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.paper_claims import (
    COUNTING,
    FOREST,
    LINE,
    MEASURES,
    Answer,
    Evidence,
    count_text,
    judge,
)
from sfusion.analysis.scores import protocols, task_means, wide
from sfusion.analysis.statistics import TIE, bootstrap, interval_text
from sfusion.analysis.sweeps import removal_orders
from sfusion.experiments.results import UNIT, Results
from sfusion.signals import PAPER_SIGNALS

# Columns statement, standing, measure, first and sign, a row per claim.
CLAIMS = pd.DataFrame.from_dict(QUESTIONS["claims"], orient="index")

NOT_MEASURED = "not measured"


def scoreboard(results: Results, which: Iterable[str] | None = None) -> pd.DataFrame:
    """Compare claims with the records.

    Parameters
    ----------
    results : Results
    which : iterable of str, optional
        Claims; by default all of them.

    Returns
    -------
    DataFrame
        Index claim; ``paper`` (the statement), ``standing``, ``measure``, ``first``
        (the measure as it was written before the first runs), ``ours`` (the number),
        ``low`` and ``high`` (95% bootstrap interval), ``count`` (such as "2 of 9", for
        claims that count datasets), ``short`` (what is found, in a clause), ``needed``
        (what the number would have to reach), ``verdict``, ``note``, and ``drawn``,
        what the interval draws.
    """
    evidence = _evidence(results)
    rows = {}
    for claim in which or CLAIMS.index:
        answer = _answer(claim, evidence)
        count = ""
        if claim in COUNTING and answer.verdict != NOT_MEASURED:
            count = count_text(evidence, answer.ours)
        rows[claim] = {**asdict(answer), "count": count}
    columns = ["ours", "low", "high", "count", "short", "needed", "verdict"]
    columns += ["note", "drawn"]
    numbers = pd.DataFrame.from_dict(rows, orient="index")[columns]
    words = CLAIMS.rename(columns={"statement": "paper"}).drop(columns="sign")
    return words.join(numbers, how="right").rename_axis("claim")


@cache
def _evidence(results: Results) -> Evidence:
    return Evidence(results)


@cache
def _answer(claim: str, evidence: Evidence) -> Answer:
    try:
        return MEASURES[claim](evidence)
    except StudyLacks as lack:
        return Answer(np.nan, np.nan, np.nan, np.nan, NOT_MEASURED, str(lack), "")


@exhibit
def claims(results: Results, which: Iterable[str] | None = None) -> Exhibit:
    """Set what the paper says beside what the records say.

    Parameters
    ----------
    results : Results
    which : iterable of str, optional
        Claims; by default all of them.

    Returns
    -------
    Exhibit
    """
    board = scoreboard(results, which)
    lines = [_sentences(claim, row) for claim, row in board.iterrows()]
    # Several notebooks end with some claims; the table of all is written by one.
    return Exhibit("claims", pd.DataFrame(), "\n".join(lines))


def _sentences(claim: str, row: pd.Series) -> str:
    source = {"author": "its author", "summary": "a summary of it"}[row["standing"]]
    says = f"- **{claim}.** The paper says, by {source}: *{row['paper']}.*"
    if row["verdict"] == NOT_MEASURED:
        return f"{says} We get nothing here: {row['note']}."
    number = interval_text(row["ours"], row["low"], row["high"], digits=2)
    sign = CLAIMS.loc[claim, "sign"]
    needed = f"needed {sign} {row['needed']:.2f}"
    if not sign:
        needed = f"the paper gives {row['needed']:.2f} without a unit"
    return (
        f"{says} We get **{row['verdict']}**: {row['short']}. As a number "
        f"({row['measure']}): {number}, {needed}."
    )


@exhibit
def every_claim(results: Results) -> Exhibit:
    """Show the scoreboard: every claim with its number, interval and verdict.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    board = scoreboard(results)
    counts = board["verdict"].value_counts()
    found = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    lines = [f"Of {len(board)} claims: {found}. What belongs beside the numbers:", ""]
    for claim, note in board["note"].items():
        lines.append(f"- **{claim}.** {note[0].upper()}{note[1:]}.")
    return Exhibit(
        "scoreboard",
        board,
        "\n".join(lines),
        caption="Each number with its 95% bootstrap interval, what that draws, and "
        "what the claim needs. The verdicts are not corrected for being several.",
        shown=_board_in_words(board),
    )


def _board_in_words(board: pd.DataFrame) -> pd.DataFrame:
    texts = []
    for _, row in board.iterrows():
        numbers = [row["ours"], row["low"], row["high"]]
        measured = not pd.isna(row["ours"])
        texts.append(interval_text(*numbers, digits=2) if measured else "–")
    signs = CLAIMS["sign"].reindex(board.index)
    needed = []
    for sign, number in zip(signs, board["needed"], strict=True):
        needed.append("–" if pd.isna(number) else f"{sign} {number:.2f}".strip())
    return pd.DataFrame(
        {
            "the paper says": board["paper"],
            "we find": board["short"],
            "as a number [95% interval]": texts,
            "the interval draws": board["drawn"],
            "needed": needed,
            "verdict": board["verdict"],
        }
    )


@exhibit
def optimism(results: Results) -> Exhibit:
    """Show what choosing the depth on test adds to the score of each strategy.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    table = protocols(results.curves())
    scores = {}
    for column in ("test_selected", "validation_selected"):
        scores[column] = 100 * task_means(wide(table, column)).mean()
    both = pd.DataFrame(scores).rename_axis("strategy")
    both["gap"] = both["test_selected"] - both["validation_selected"]
    gap = bootstrap(100 * wide(table, "optimism").mean(axis=1))
    same_order = both["test_selected"].corr(
        both["validation_selected"], method="spearman"
    )
    finding = (
        f"Choosing the depth on test adds {interval_text(*gap, digits=2)} percentage "
        "points on average. The rank correlation of the strategies under the two "
        f"protocols is {same_order:.2f}."
    )
    return Exhibit(
        "protocols",
        both.round(2),
        finding,
        caption="Test accuracy, mean over datasets and seeds; the strategies of the "
        "largest gaps, and the own forest and the middle first.",
        shown=_protocols_in_words(both),
    )


def _protocols_in_words(both: pd.DataFrame) -> pd.DataFrame:
    named = both.index.isin([FOREST, "middle-first"])
    largest = both["gap"].nlargest(8).index
    ranked = both.sort_values("gap", ascending=False)
    shown = ranked[ranked.index.isin([*largest, *both.index[named]])]
    columns = {
        "highest on test (%)": shown["test_selected"].map("{:.1f}".format),
        "depth chosen on validation (%)": shown["validation_selected"].map(
            "{:.1f}".format
        ),
        "gap (pp)": shown["gap"].map("{:+z.2f}".format),
    }
    return pd.DataFrame(columns).rename(index=strategy_title)


@exhibit
def first_measures(results: Results) -> Exhibit:
    """Show the claims whose measure was changed, by both measures.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    evidence = _evidence(results)
    signals = evidence.scores(PAPER_SIGNALS)
    pair = evidence.scores([FOREST, LINE])
    wins = bootstrap(signals, _largest_share, tasks=False)
    order = bootstrap(_rank_of_losing_ends(results))
    ahead = bootstrap(100 * (pair[FOREST] - pair[LINE]))
    # C2 needs a number below 1, the other two one above 0.
    rows = {
        "C2": [*wins, judge(-wins[2], -wins[1], -1.0, above=True)],
        "C5": [*order, judge(*order[1:], 0.0, above=True)],
        "C6": [*ahead, judge(*ahead[1:], 0.0, above=True)],
    }
    columns = ["first ours", "first low", "first high", "first verdict"]
    first = pd.DataFrame.from_dict(rows, orient="index", columns=columns)
    board = scoreboard(results, rows)
    now = board[["measure", "ours", "low", "high", "verdict"]]
    table = board[["first"]].join([first, now]).rename_axis("claim")
    changed = table.index[table["first verdict"] != table["verdict"]]
    finding = "By the first measure each verdict is the same."
    if len(changed):
        finding = (
            f"By the first measure the verdict is another one for {', '.join(changed)}."
        )
    shown = pd.DataFrame(
        {
            "measured at first": table["first"],
            "at first [95% interval]": [
                interval_text(*row, digits=2)
                for row in table[["first ours", "first low", "first high"]].to_numpy()
            ],
            "verdict at first": table["first verdict"],
            "measured now": table["measure"],
            "now [95% interval]": [
                interval_text(*row, digits=2)
                for row in table[["ours", "low", "high"]].to_numpy(float)
            ],
            "verdict now": table["verdict"],
        }
    )
    return Exhibit("first_measures", table, finding, shown=shown)


def _largest_share(means: np.ndarray) -> float:
    """Of datasets, the largest share that one strategy wins or ties."""
    best = means.max(axis=1, keepdims=True)
    return (means >= best - TIE).mean(axis=0).max()


def _rank_of_losing_ends(results: Results) -> pd.Series:
    """Correlate by rank when strategies lose an end with their mean accuracy."""
    frame = results.curves()
    frame = frame[~frame["group"].isin(["control", "search"])]
    orders = removal_orders(frame)
    ends = orders[orders["layer"].isin([0, orders["layer"].max()])]
    keys = [*UNIT, "strategy"]
    pair = ends.groupby(keys)["step"].min().to_frame()
    pair["accuracy"] = protocols(frame).set_index(keys)["mean_accuracy"]
    correlations = {}
    for unit, part in pair.groupby(UNIT):
        correlations[unit] = part["step"].corr(part["accuracy"], method="spearman")
    return pd.Series(correlations).rename_axis(UNIT)


@exhibit
def recipes(results: Results) -> Exhibit:
    """Show how long each kind of training of a study is.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    profile = results.manifest["profile"]
    texts = results.tasks["train"].mean()
    rows = {}
    for stage in ("original", "recovery", "distillation"):
        samples = profile[stage]["samples"]
        rows[stage] = {"samples": samples, "epochs": round(samples / texts, 2)}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("training")
    return Exhibit("recipes", table, caption="Epochs: mean over datasets", shown=table)
