"""The answer to the project's question, from studies by hand."""

import pytest
import tiny

from sfusion import overview

FREE = "a rule that learns nothing chooses the layers about as well"


def study(leads):
    """Lose 10 points per removal, but for what a strategy is ahead."""

    def score(task, seed, label, removed):
        accuracy = 0.9 - 0.1 * removed
        if removed:
            accuracy += leads.get(label, 0.0)
        return accuracy, accuracy

    return tiny.make_results(score)


@pytest.mark.parametrize(
    ("lead", "as_well", "words"),
    [
        (0.005, True, "of *middle layers first*, but by less than 1 pp"),
        (0.03, False, "of *middle layers first* by 3.0 pp [3.0, 3.0]"),
    ],
)
def test_the_answer_says_whether_a_rule_does_as_well(lead, as_well, words):
    others = {"random-forest": lead, "random-forest-position": lead}
    found = study(others)
    finding = overview.answer(found, found).finding
    assert (FREE in finding) == as_well
    assert words in finding
    assert "within 1 pp of a forest that reads only where a layer stands" in finding


def test_what_opponents_share_is_said_once():
    found = study({"random-forest": 0.03, "random-forest-position": 0.0})
    finding = overview.answer(found, found).finding
    assert finding.count("is ahead") == 2  # one sentence per model
    assert ", and of a forest that reads only where a layer stands by 3.0 pp" in finding
