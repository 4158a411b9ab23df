"""Recommendations: tables of the records, and of a committed compression."""

import json
import re

import pytest
import tiny

from sfusion import STRATEGIES, costs, load_profile, load_report
from sfusion.compression.compress import BUDGETS
from sfusion.records.profiles import ROOT
from sfusion.records.results import COMMITTED


def _score(task, seed, label, removed):
    """The forest loses a point a layer, every other strategy two; half a point more at seed 1."""
    loss = removed * (0.01 if label == "random-forest-transfer" else 0.02)
    return 0.9, 0.8 - loss - 0.005 * seed


def _taught(task, seed, condition, removed):
    return 0.9, 0.7 + {"distilled": 0.03, "same-steps": 0.02, "original-same-steps": 0.0}[condition]


@pytest.fixture(scope="module")
def results():
    return tiny.make_results(_score, _taught)


def test_the_cost_of_depth_is_that_of_the_forest(results):
    table = costs.cost_of_depth(results)
    assert table.index.tolist() == [tiny.WIDE - 1, tiny.WIDE - 2]
    for column in ("points", "low"):  # all units lose the same
        assert table[column].tolist() == pytest.approx([-1.0, -2.0])
    share = tiny.sizes_of(tiny.WIDE - 2)["parameters"] / tiny.sizes_of(tiny.WIDE)["parameters"]
    assert table["parameters"].iloc[1] == pytest.approx(share)
    assert costs.cost_of_depth(results, "energy")["points"].tolist() == pytest.approx([-2, -4])


def test_strategies_are_ranked_against_random_orders(results):
    table = costs.strategies_ranked(results)
    assert table.index[0] == "random-forest-transfer"
    assert set(table.index) == {name for name, s in STRATEGIES.items() if s.group != "control"} - {"random"}
    # The mean of one point and two ahead; the others lose as much as the random orders.
    assert table["points"].tolist() == pytest.approx([1.5] + [0.0] * (len(table) - 1))


def test_a_committed_report_is_consistent_and_holds_no_texts():
    for file in (COMMITTED / "compress").glob("*.json"):
        report = load_report(file.stem)
        table = costs.compression_table(report)
        kept = report["layers"]["original"] - len(report["layers"]["removed"])
        assert table.loc["layers"].tolist()[:2] == [report["layers"]["original"], kept]
        assert table.loc["test accuracy (%)", "compressed"] == pytest.approx(
            100 * report["after"]["correct"] / report["data"]["test"]
        )
        # Names, hashes and sentences of ours are short: a text would stand out.
        text = json.dumps(report)
        assert max(map(len, re.findall(r'"((?:[^"\\]|\\.)*)"', text))) < 160
        assert text.isprintable()


def test_an_unknown_report_is_one_line():
    with tiny.refused("agnews"):
        load_report("nothing")


def test_the_budgets_in_the_document_are_those_of_the_code():
    text = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    for *_, least, most in BUDGETS.values():
        assert f"{least:,} to {most:,}" in text
    assert f"a recovery is {load_profile('nine').recovery.samples} samples" in text
