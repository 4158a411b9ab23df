"""Exhibits on distillation: conditions, rates and published ways to teach, by hand."""

from dataclasses import replace

import pandas as pd
import pytest
import tiny

from sfusion import published, teacher_rates, teaching
from sfusion.experiments.results import RowResults

FAST = 0.003
SLOW = 0.001
TEST = {"distilled": 0.7, "same-steps": 0.66, "original-same-steps": 0.75}
CONDITIONS = [
    teaching.by_depth,
    teaching.conditions,
    teaching.gain_by_depth,
    teaching.parts_of_the_gain,
    teaching.against_the_original,
]


def _study(rate, gain=0.0, removed=None, recovery=SLOW):
    """Pruned models of .6 after an original of .72; labels gain more at one depth."""

    def taught(task, seed, condition, depth):
        more = gain if (condition, depth) == ("same-steps", removed) else 0.0
        return TEST[condition] + more, TEST[condition] + more

    def score(task, seed, label, depth):
        accuracy = 0.6 if depth else 0.72
        return accuracy, accuracy

    results = tiny.make_results(score, taught, labels=("random-forest",))
    profile = {
        "model": "tiny",
        "original": {},
        "recovery": {"learning_rate": recovery},
        "distillation": {"learning_rate": rate},
    }
    return replace(results, manifest={"profile": profile})


def test_the_gain_is_split_into_longer_training_and_the_teacher():
    shown = teaching.parts_of_the_gain(_study(FAST))
    assert shown.table["value"].tolist() == pytest.approx([0.1, 0.06, 0.04, 0.03])
    assert "gains +10.0 pp, and 60% of that comes from longer training" in shown.finding
    assert "ahead by 4.00 pp [4.00, 4.00]" in shown.finding


def test_the_conditions_are_shown_by_depth_and_by_dataset():
    results = _study(FAST)
    assert "+4.0 pp with 1 removed, +4.0 pp with 2 removed" in (
        teaching.by_depth(results).finding
    )
    gains = teaching.gain_by_depth(results)
    assert gains.table["value"].tolist() == pytest.approx([4, 4])
    assert "clear of 0 at 2 of 2 depths" in gains.finding
    means = teaching.conditions(results).table
    assert means.loc["pruned"].tolist() == [60.0] * 3
    original = teaching.against_the_original(results)
    assert original.table.loc["t"].tolist() == [70.0, 70.0, 72.0, 75.0]
    assert "exceeds the original on 0 of 3 datasets" in original.finding


@pytest.mark.parametrize("exhibit", CONDITIONS)
def test_a_study_that_distils_nothing_says_so(exhibit):
    results = _study(FAST)
    nothing = replace(results, distillation=results.distillation[:0])
    assert exhibit(nothing).finding == "*Not shown: this study distils nothing.*"


def test_labels_stand_at_the_rate_that_they_prefer():
    slow = _study(SLOW, gain=0.02, removed=2)
    shown = teacher_rates.labels_at_their_rate(_study(FAST), slow)
    assert shown.table["labels at"].to_dict() == {1: SLOW, 2: SLOW}
    assert shown.table["distilled at 0.003"].tolist() == pytest.approx([-2, -2])
    assert shown.table["same steps at 0.001"].tolist() == pytest.approx([-6, -4])
    texts = shown.table["teacher against labels"].tolist()
    assert texts == ["ahead by 4.0 pp [4.0, 4.0]", "ahead by 2.0 pp [2.0, 2.0]"]


@pytest.mark.parametrize("other", [_study(FAST), _study(SLOW, recovery=FAST)])
def test_studies_that_differ_in_more_than_the_rate_are_not_compared(other):
    shown = teacher_rates.labels_at_their_rate(_study(FAST), other)
    assert shown.finding == "*Not shown: this study was distilled at one rate alone.*"


def test_rates_are_compared_with_the_original_on_validation():
    rows = []
    for rate, accuracy in {SLOW: 0.6, FAST: 0.75}.items():
        for path, value in {"": 0.7, "1+2": 0.5, "1+2, distilled": accuracy}.items():
            row = {"model": "tiny", "stage": "distillation", "task": "t", "path": path}
            rows.append(row | {"learning_rate": rate, "validation_accuracy": value})
    recipes = RowResults({"rows": pd.DataFrame(rows)}, {})
    shown = teacher_rates.tried_rates(_study(FAST), recipes)
    assert shown.table["t: 1+2, distilled"].tolist() == [-10, 5]
    assert "at 0.003, the rate of the distillation, by +5.0 pp" in shown.finding
    assert "at 0.001, the rate of the recoveries, by −10.0 pp" in shown.finding
    untried = teacher_rates.tried_rates(_study(0.5), recipes)
    assert "was not tried out" in untried.finding


def test_every_published_way_has_the_control_that_validation_prefers():
    accuracies = {
        "original": 0.8,
        "original, labels only": 0.7,
        "original, labels only, low rate": 0.75,
        "pruned": 0.6,
        "pruned, labels only": 0.5,
        "pruned, labels only, low rate": 0.55,
        "deep": 0.4,
        "deep, labels only": 0.45,
        "deep, labels only, low rate": 0.44,
        "every second layer, labels only": 0.6,
        "every second layer, labels only, low rate": 0.5,
        "KD T=2": 0.65,
        "deep, KD T=2": 0.43,
        "PKD-style": 0.7,
    }
    rows = [
        {
            "task": "t",
            "seed": seed,
            "condition": name,
            "layers_left": 2 + ("deep" not in name),
        }
        | {"validation_accuracy": accuracy, "test_accuracy": accuracy}
        for name, accuracy in accuracies.items()
        for seed in (0, 1)
    ]
    shown = published.distillations(RowResults({"rows": pd.DataFrame(rows)}, {}))
    against = shown.table["against"]
    assert against["KD T=2"] == "pruned, labels only, low rate"
    assert against["deep, KD T=2"] == "deep, labels only"
    assert against["PKD-style"] == "every second layer, labels only"
    assert shown.table.loc["KD T=2", ["original", "control"]].tolist() == pytest.approx(
        [-15, 10]
    )
    assert "2 of 3 ways to teach lie above" in shown.finding
    assert "interval, 1 below" in shown.finding and "prefers PKD-style" in shown.finding
    is_control = shown.shown["against the control (pp)"] == "is the control"
    assert is_control.sum() == 4
