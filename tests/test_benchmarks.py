"""The benchmarks' arithmetic; the plain script finds what the package finds."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch

from sfusion import (
    extract_signals,
    load_profile,
)
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.trees import Experiment
from sfusion.signals import SIGNALS

sys.path.insert(0, str(ROOT / "benchmarks"))

import bench
import cost
import machine
import memory
import sweep
from plain_signals import PASSES
from summary import summary


@pytest.fixture
def experiment(tiny_data, tmp_path, monkeypatch):
    """Stand in for the embedded profile's experiment, on both sides."""
    experiment = Experiment(
        tiny.make_profile(tiny.write_model(tmp_path / "model", layers=3)), "agnews", 0
    )
    monkeypatch.setattr(
        sweep, "experiment_of", lambda quick, seed=0: replace(experiment, seed=seed)
    )
    monkeypatch.setattr(machine, "make_experiment", lambda *_, **__: experiment)
    return experiment


def test_a_plain_pass_finds_every_signal(tiny_bert, probe):
    expected = extract_signals(tiny_bert, probe)
    assert PASSES.keys() == SIGNALS.keys()
    for name, plain in PASSES.items():
        np.testing.assert_allclose(
            plain(tiny_bert, probe), expected[name], rtol=1e-4, err_msg=name
        )


def test_the_plain_script_and_the_package_train_the_same_nodes(experiment, monkeypatch):
    monkeypatch.setattr(
        sweep, "LABELS", ["weight-norm", "attention-entropy", "random-0"]
    )
    found = sweep.compare(quick=True)
    assert (
        found["savings"]["nodes"] == 1 + 3 * 3
    )  # the original's training stands apart
    assert 3 <= found["savings"]["distinct_nodes"] <= 7
    for curve in found["test_accuracy_by_removed_layers"].values():
        assert list(curve) == [0, 1, 2]
        assert all(0 <= value <= 1 for value in curve.values())
    assert 0 < found["times_faster_than_with_own_signals_alone"] < found["times_faster"]
    text = summary({"sweep": found})
    for shown in (
        "| plain |",
        "| package, seed 1 |",
        "one more seed",
        "| shared prefixes |",
        "`bf16=True`",
    ):
        assert shown in text


def test_the_products_and_bytes_of_a_step_are_noted():
    left, right, many = torch.randn(5, 3), torch.randn(2, 3), torch.randn(4, 2, 3)
    with machine.Operators() as operators:
        for _ in range(2):
            torch.relu(left @ right.T)
        torch.bmm(many, many.mT)
    names = [function._schema.name for function, _ in operators.products]
    assert names == ["aten::mm", "aten::mm", "aten::bmm"]
    (_, first), (_, second), _ = operators.products
    assert first is second
    assert [operand.stride() for operand in first] == [(3, 1), (1, 3)]
    # Of float32: operands and result of a product and its relu, twice; of the batch of
    # products.
    assert operators.bytes == 4 * (2 * (15 + 6 + 10 + 10 + 10) + 24 + 24 + 16)
    operators.run()


def test_seed_noise_is_the_half_width_of_a_prediction_interval():
    runs = np.random.default_rng(0).normal(size=(4000, 5))
    inside = [abs(run[0] - run[1:].mean()) <= sweep.seed_noise(run[1:]) for run in runs]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_savings_apply_one_change_at_a_time():
    roots = [
        {"strategy": name, "path": (), "seconds": {"energy": 4.0}} for name in "ab"
    ]
    visit = {"path": (1,), "seconds": {"training": 3.0, "evaluation": 2.0}}
    original = {
        "strategy": "original",
        "path": (),
        "seconds": {"training": 10.0, "evaluation": 2.0},
    }
    nodes = [
        original,
        roots[0],
        {"strategy": "a", **visit},
        roots[1],
        {"strategy": "b", **visit},
    ]
    one = {"plain": [4.0, 2.0, 8.0], "package": [1.0, 1.0, 1.0]}
    costs = {"one_process": one, "one_process_per_core": {"plain": [2.0, 1.0, 4.0]}}
    assert sweep.savings(nodes, costs) == {
        "nodes": 5,
        "distinct_nodes": 2,
        "seconds": {"training": 16.0, "evaluation": 6.0, "signals": 8.0},
        "times_faster_alone": {
            "shared prefixes": round(30 / (12 + 4 + 5), 2),
            "signals in one pass": round(30 / (22 + 1), 2),
            "step and evaluation": round(30 / (4 + 3 + 8), 2),
            "parallel runs": 2.0,
        },
    }


def test_the_profile_of_step_and_node_accounts_for_all_time(experiment):
    step, node = machine.step(), machine.node()
    for measured in (step, node):
        assert sum(measured["shares_of_time"].values()) == pytest.approx(1, abs=0.01)
    assert 0 < step["share_of_best_product_rate"] < step["share_of_matrix_rate"] < 1
    assert step["share_of_memory_rate"] > 0
    assert step["signals_over_forward_backward"] > 0
    assert all(share > 0 for share in node["shares_of_time"].values())
    text = summary({"step": step, "node": node})
    for name in (*machine.KINDS, *machine.PARTS):
        assert f"| {name} |" in text


@pytest.mark.parametrize("missed", [None, *(key for _, _, key, *_ in bench.BUDGETS)])
def test_a_missed_budget_is_named(missed):
    values = {key: bound for _, _, key, _, bound in bench.BUDGETS}
    named = [
        (what, key, -1 if side == "least" else 1)
        for what, _, key, side, _ in bench.BUDGETS
        if key == missed
    ]
    values |= {key: values[key] + 0.01 * beyond for _, key, beyond in named}
    rows = list(bench.verdicts({section: values for section in bench.SECTIONS}))
    assert len(rows) == len(bench.BUDGETS)
    assert [row["what"] for row in rows if not row["met"]] == [
        what for what, *_ in named
    ]
    assert summary({"budgets": rows}).count("MISSED") == len(named)


def test_the_estimate_counts_what_a_small_study_does():
    profile = load_profile("paper")
    forward, (root, first, *rest) = cost.flops(profile), cost.waves(profile)
    tokens, hidden = profile.max_length, 768
    assert forward[12] - forward[11] == 24 * tokens * hidden**2 + 4 * tokens**2 * hidden
    assert root == ("0 removed", 27, (3 * (60_000 + 256) + 2_000 + 5_000) * forward[12])
    assert first[1] == 27 * 12  # no more than there are layers, however many strategies
    table = cost.estimate(profile, 100, 0.5, [1, 8, 1000]).set_index("gpus")
    for gpus in (1, 1000):
        operations = sum(
            math.ceil(nodes / gpus) * each for _, nodes, each in (root, first, *rest)
        )
        assert table["hours"][gpus] == pytest.approx(operations / 50e12 / 3600)
    assert table["hours"].is_monotonic_decreasing
    assert table["busy"][1] == pytest.approx(1)


def test_the_hours_in_the_documents_are_the_estimate():
    one, eight, many = cost.estimate(
        load_profile("paper"), cost.RATE, cost.REACHED, [1, 8, 64]
    )["hours"]
    row = f"{cost.REACHED:.0%} of it reached | {one:.1f} h | {eight:.1f} h | {60 * many:.0f} min |"
    assert row in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", [bench, cost, memory])
def test_a_script_says_how_it_is_used(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit, match="^0$"):
        script.main()
    assert "usage" in capsys.readouterr().out
