"""Committed compressions: consistent, without texts, and within the stated budgets."""

import json
import re

import pytest
import tiny

from sfusion.analysis.compressing import compression_table
from sfusion.compression.budgets import BUDGETS
from sfusion.experiments.profiles import ROOT, load_profile
from sfusion.experiments.results import COMMITTED, load_report


@pytest.mark.parametrize("name", [f.stem for f in COMMITTED.glob("compress/*.json")])
def test_a_committed_report_is_consistent_and_holds_no_texts(name):
    report = load_report(name)
    table = compression_table(report)
    layers = report["layers"]
    kept = layers["original"] - len(layers["removed"])
    assert table.loc["layers"].tolist()[:2] == [layers["original"], kept]
    accuracy = 100 * report["after"]["correct"] / report["data"]["test"]
    assert table.loc["test accuracy (%)", "compressed"] == pytest.approx(accuracy)
    # Names, hashes and sentences of ours are short: a text would stand out.
    text = json.dumps(report)
    assert max(map(len, re.findall(r'"((?:[^"\\]|\\.)*)"', text))) < 240
    assert text.isprintable()


def test_an_unknown_report_is_one_line():
    with tiny.refused("agnews"):
        load_report("nothing")


def test_the_budgets_in_the_document_are_those_of_the_code():
    text = (ROOT / "docs" / "choosing.md").read_text(encoding="utf-8")
    for budget in BUDGETS.values():
        assert f"{budget.least:,} to {budget.most:,}" in text
    assert f"a recovery is {load_profile('nine').recovery.samples} samples" in text
