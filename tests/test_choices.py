"""Exhibits on the choice of layers before and after the teacher, by hand."""

import pandas as pd
import pytest

from sfusion import choices
from sfusion.experiments.results import RowResults

# What each choice loses, before the distillation and after it.
LOST = {
    choices.UNIVERSAL: (0.02, 0.005),
    choices.FOREST: (0.03, -0.01),
    "random-0": (0.08, 0.03),
    "random-1": (0.1, 0.05),
}
ORIGINALS = {"t": 0.9, "u": 0.7}


@pytest.fixture
def found():
    """Every choice loses as much on each dataset."""
    rows = []
    for task, accuracy in ORIGINALS.items():
        reached = {("original", "original"): accuracy}
        for name, losses in LOST.items():
            for stage, lost in zip(choices.STAGES, losses, strict=True):
                reached[name, stage] = accuracy - lost
        for (name, stage), test in reached.items():
            row = {"task": task, "seed": 0, "strategy": name, "stage": stage}
            rows.append({**row, "test_accuracy": test})
    return RowResults({"rows": pd.DataFrame(rows)}, {"profile": {"removals": 3}})


def test_losses_stand_side_by_side_before_and_after_the_teacher(found):
    shown = choices.before_and_after_the_teacher(found)
    losses = shown.table.set_index(["strategy", "stage"])["value"]
    assert losses[choices.FOREST, "distilled"] == pytest.approx(1)
    # Two random orders are one row, their mean.
    assert losses["random", "recovered"] == pytest.approx(-9)
    assert losses["random", "distilled"] == pytest.approx(-4)
    assert "7.0 pp before the distillation and 5.0 pp after it" in shown.finding
    assert "on 2 of 2 datasets" in shown.finding


def test_every_choice_is_compared_with_one_set_for_all(found):
    shown = choices.against_one_set_for_all(found)
    leads = shown.table.set_index(["strategy", "measure"])["value"]
    assert leads[choices.FOREST, "recovered"] == pytest.approx(-0.01)
    assert leads["random", "change"] == pytest.approx(0.035)
    assert "Before the distillation 2 of 2 choices are behind" in shown.finding
    assert "After the distillation 1 of 2 choices are behind" in shown.finding
    words = shown.shown.loc["Random order"]
    assert words["after it"] == "behind by 3.5 pp [3.5, 3.5]"
    assert words["change (pp)"] == "+3.5 [+3.5, +3.5]"
