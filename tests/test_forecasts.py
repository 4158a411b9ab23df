"""Exhibits on fusion: forecasts of removals, and candidates for other fusions."""

import numpy as np
import pandas as pd
import pytest
import tiny
from sklearn.ensemble import RandomForestRegressor

from sfusion import SIGNALS, candidates, forecasts
from sfusion.analysis.exhibits import StudyLacks
from sfusion.analysis.held_out import (
    held_out_fits,
    held_out_predictions,
    importances,
    score,
)
from sfusion.experiments.results import RowResults
from sfusion.pruning.fusion import FUSION_MODELS, LABEL
from sfusion.signals import REDUNDANCY
from studies.candidates import CANDIDATES


@pytest.fixture
def planted(monkeypatch):
    """Removals of four layers from each of twenty parents, decided by one signal."""

    def small_forest():
        return RandomForestRegressor(20, random_state=0)

    monkeypatch.setitem(FUSION_MODELS, "random-forest", small_forest)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(80, len(SIGNALS))), columns=list(SIGNALS))
    table.insert(0, "task", np.repeat(["t", "u"], 40))
    table.insert(1, "seed", 0)
    table.insert(2, "path", [str(number // 4) for number in range(80)])
    return table.assign(**{LABEL: table["weight-norm"] / 10})


def test_forecasts_are_scored_by_hand():
    predictions = pd.DataFrame(
        {
            "parent": ["a", "a", "b", "b", "c"],
            "observed": [1.0, 2.0, 0.0, 4.0, 3.0],
            "predicted": [1.0, 2.0, 3.0, 1.0, 3.0],
        }
    )
    found = score(predictions)
    # The parents' means are 1.5 and 2; in b each residual is 3, of a deviation of 2.
    assert found["within_r2"] == pytest.approx(1 - 2 * 9 / (2 * 0.25 + 2 * 4))
    assert found["r2"] == pytest.approx(1 - 18 / 10)
    assert found["pairs_ordered"] == 0.5
    assert (found["rows"], found["siblings"]) == (5, 4)


@pytest.mark.parametrize("held_out", ["parent", "task"])
def test_what_is_held_out_stays_together(planted, held_out):
    fits = held_out_fits(planted, "linear-regression", held_out)
    groups = [set(map(tuple, rows[["task", "path"]].values)) for _, rows in fits]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 20
    found = score(held_out_predictions(fits))
    assert found["r2"] == pytest.approx(1) and found["pairs_ordered"] == 1
    with pytest.raises(StudyLacks, match=f"at least two {held_out}s"):
        held_out_fits(planted[:4], "linear-regression", held_out)


def test_the_signal_that_decides_is_the_important_one(planted):
    table = importances(held_out_fits(planted, "random-forest")).set_index("signal")
    assert table["importance"].idxmax() == "weight-norm"
    assert table["importance"].drop("weight-norm").abs().max() < 0.1


def test_exhibits_of_the_forecast_say_what_they_find(planted, monkeypatch):
    monkeypatch.setattr(forecasts, "tried_removals", lambda results: planted)
    study = object()
    removals = forecasts.removals(study)
    assert removals.table["rows"].to_dict() == {"t": 40, "u": 40}
    assert removals.finding.startswith("80 removals teach the fusions.")
    quality = forecasts.quality(study)
    linear = quality.table.loc["Linear regression"]
    assert list(linear["held out"]) == ["parent", "task", "parent, one tree"]
    assert linear["pairs_ordered"].tolist() == [1, 1, 1]
    read = quality.shown.loc["Linear regression"]
    assert read["pairs ordered rightly"].tolist() == ["100%"] * 3
    assert list(read.index) == [
        "whole parents",
        "whole datasets",
        "whole parents, each tree alone",
    ]
    assert list(removals.shown["removals tried"]) == [40, 40]
    importance = forecasts.importance(study)
    assert "forest puts Weight-Norm first" in importance.finding
    assert len(importance.table) == 2 * len(SIGNALS) and importance.figure is not None


def test_a_study_without_fusion_says_so():
    results = tiny.make_results(lambda *unit: (0.5, 0.5), labels=("energy",))
    assert "no removals to learn from" in forecasts.quality(results).finding
    assert "no fusion to compare" in candidates.transfer(results).finding
    assert "no study has" in candidates.siblings({"one": results}).finding


def test_forests_that_order_siblings_are_compared_in_each_study():
    def score(task, seed, label, removed):
        accuracy = 0.8 if label == "random-forest-siblings-transfer" else 0.7
        return accuracy, accuracy

    results = tiny.make_results(score)
    shown = candidates.siblings({"six": results, "twelve": results})
    assert set(shown.table["study"]) == {"six", "twelve"}
    assert shown.table["difference"].tolist() == pytest.approx([0.1] * 16)
    line = "twelve, Transferred forest ordering siblings against greedy search: ahead"
    assert line in shown.finding and shown.figure is not None
    transfer = candidates.transfer(results)
    assert set(transfer.table["verdict"]) == {"equivalent"}


def _candidate(study, removed, name, regret):
    """Make a row of the study: the same regret on both splits, position having 1."""
    row = {"study": study, "removed": removed, "candidate": name, "parents": 7}
    for split in ("validation", "test"):
        against = f"{split}_minus_position"
        row[f"{split}_regret"] = regret
        row[against] = regret - 1
        row[f"{against}_low"] = regret - 1.2
        row[f"{against}_high"] = regret - 0.9
    return row


def test_candidates_are_compared_with_position():
    regrets = {"greedy": 0, "all, siblings": 0.5, "signals": 2}
    rows = []
    for study in ("nine", "base"):
        for removed in ("all", "0"):
            for name, regret in regrets.items():
                rows.append(_candidate(study, removed, name, regret))
    shown = candidates.regrets(RowResults({"regrets": pd.DataFrame(rows)}, {}))
    assert list(shown.table.index) == list(regrets)
    assert "*All measures, against siblings* has the lowest regret" in shown.finding
    pair = (
        "−0.50 [−0.70, −0.40] pp with six layers, −0.50 [−0.70, −0.40] pp with twelve"
    )
    assert f"- *All measures, against siblings*: {pair}." in shown.finding
    assert "*Signals*" not in shown.finding
    titles = ["Greedy search", "All measures, against siblings", "Signals"]
    assert list(shown.shown.index) == titles
    column = "six layers, every removal, validation (pp)"
    assert shown.shown[column].tolist() == ["0.00", "0.50", "2.00"]
    assert "−0.5 pp at parents without 0 to 0 layers" in shown.finding


@pytest.mark.parametrize(
    "name, title",
    [
        ("position", "Position"),
        (
            "all, siblings, searches",
            "All measures, against siblings, from searches too",
        ),
        (
            "all, pairs, logistic",
            "All measures, pairs of siblings, logistic regression",
        ),
        ("chance", "A random layer"),
        ("removal-loss", "Removal loss"),
    ],
)
def test_a_candidate_has_a_title_in_words(name, title):
    assert candidates.candidate_title(name) == title


def test_every_candidate_that_is_tried_has_a_title():
    for name in ["greedy", "chance", *REDUNDANCY, *CANDIDATES]:
        assert candidates.candidate_title(name)
