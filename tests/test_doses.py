"""Exhibits on where samples go, from accuracies by hand."""

import pandas as pd
import pytest

from sfusion import doses
from sfusion.experiments.results import RowResults

LOST = {
    "step by step": 0.04,
    "at once": 0.03,
    "at once, the teacher's rate": 0.02,
    "taught": 0.005,
    "recovered, then taught": 0.01,
}
ORIGINALS = {"t": 0.9, "u": 0.7}


@pytest.fixture
def found():
    """Every way loses as much on each dataset, half of it with twice the samples."""
    rows = []
    for task, accuracy in ORIGINALS.items():
        for total in (0, 100, 200):
            ways = {doses.ORIGINAL: 0.0} if total == 0 else LOST
            for way, lost in ways.items():
                reached = accuracy - lost * 100 / max(total, 1)
                rows.append(
                    {
                        "task": task,
                        "seed": 0,
                        "way": way,
                        "total": total,
                        # Validation finds the teacher's recovery better than test does.
                        "validation_accuracy": reached
                        + (0.02 if way == "recovered, then taught" else 0.0),
                        "test_accuracy": reached,
                    }
                )
    return RowResults({"rows": pd.DataFrame(rows)}, {})


def test_losses_are_shown_by_total_and_way(found):
    shown = doses.by_total(found)
    losses = shown.table.set_index(["total", "way"])["value"]
    assert losses["100 samples", "step by step"] == pytest.approx(-4)
    assert losses["200 samples", "taught"] == pytest.approx(-0.25)
    few_against_many = "*Taught* with 100 samples against *step by step* with 200"
    assert f"{few_against_many} samples: ahead by 1.5 pp" in shown.finding
    assert "2 datasets, one seed" in shown.caption


def test_each_comparison_asks_one_thing(found):
    shown = doses.ways_compared(found)
    leads = shown.table.set_index(["first", "second", "total"])
    first = leads.loc[("at once", "step by step", 100)]
    assert first["value"] == pytest.approx(0.01)
    assert (first["ahead"], first["of"]) == (2, 2)
    behind = "*taught* against *recovered, then taught*"
    assert f"- {behind}: with 100 samples ahead, by less than 1 pp" in shown.finding


def test_a_default_is_chosen_by_validation_alone(found):
    shown = doses.preferred_by_validation(found)
    assert shown.table.loc[100].idxmax() == "recovered, then taught"
    assert "with 200 samples *recovered, then taught* (+1.5 pp)" in shown.finding
