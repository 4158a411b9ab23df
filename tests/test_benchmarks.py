"""The benchmarks' arithmetic; the plain script finds what the package finds."""

import math
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from sfusion import extract_signals, load_profile
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.trees import Experiment
from sfusion.signals import SIGNALS

sys.path.insert(0, str(ROOT / "benchmarks"))

import bench
import cost
import machine
import memory
import overhead
import step
import sweep
from plain_signals import PASSES
from summary import summary


@pytest.fixture
def experiment(tiny_data, tmp_path, monkeypatch):
    """Stand in for the embedded profile's experiment, on both sides."""
    profile = tiny.make_profile(tiny.write_model(tmp_path / "model", layers=3))
    experiment = Experiment(profile, "agnews", 0)
    monkeypatch.setattr(
        sweep, "experiment_of", lambda quick, seed=0: replace(experiment, seed=seed)
    )
    monkeypatch.setattr(step, "make_experiment", lambda **_: experiment)
    return experiment


def test_a_plain_pass_finds_every_signal(tiny_bert, probe):
    table = extract_signals(tiny_bert, probe)
    assert set(PASSES) <= set(SIGNALS)
    for name, plain in PASSES.items():
        np.testing.assert_allclose(
            plain(tiny_bert, probe), table[name], rtol=1e-4, err_msg=name
        )


def test_the_plain_script_and_the_package_train_the_same_nodes(experiment, monkeypatch):
    labels = ["weight-norm", "attention-entropy", "random-0"]
    monkeypatch.setattr(sweep, "LABELS", labels)
    found = sweep.compare(quick=True)
    # The original's training stands apart.
    assert found["savings"]["nodes"] == 1 + 3 * 3
    assert 3 <= found["savings"]["distinct_nodes"] <= 7
    for curve in found["test_accuracy_by_removed_layers"].values():
        assert list(curve) == [0, 1, 2]
        assert all(0 <= value <= 1 for value in curve.values())
    assert 0 < found["times_faster_than_with_own_signals_alone"] < found["times_faster"]
    text = " ".join(summary({"sweep": found}).split())
    for shown in (
        "| plain |",
        "| package, seed 1 |",
        "one more seed",
        "| shared prefixes |",
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
    columns = ["strategy", "path", "training", "evaluation", "signals"]
    nodes = [
        ("original", (), 10.0, 2.0, 0.0),
        ("a", (), 0.0, 0.0, 4.0),
        ("a", (1,), 3.0, 2.0, 0.0),
        ("b", (), 0.0, 0.0, 4.0),
        ("b", (1,), 3.0, 2.0, 0.0),
    ]
    costs = pd.DataFrame(
        {"plain": [4.0, 2.0, 8.0], "package": [1.0, 1.0, 1.0]}, sweep.STAGES
    )
    assert sweep.savings(pd.DataFrame(nodes, columns=columns), costs) == {
        "nodes": 5,
        "distinct_nodes": 2,
        "seconds": {"training": 16.0, "evaluation": 6.0, "signals": 8.0},
        "times_faster_alone": {
            "shared prefixes": round(30 / (12 + 4 + 5), 2),
            "signals in one pass": round(30 / (22 + 1), 2),
            "step and evaluation": round(30 / (4 + 3 + 8), 2),
        },
    }


def test_a_step_is_compared_with_the_machine_and_a_node_accounts_for_its_time(
    experiment,
):
    found = step.step()
    assert 0 < found["share_of_best_product_rate"] < found["share_of_matrix_rate"] < 1
    assert found["share_of_memory_rate"] > 0
    assert found["signals_over_forward_backward"] > 0
    shares = step.node()["shares_of_time"]
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    assert all(share > 0 for share in shares.values())
    text = summary({"step": found, "node": {"shares_of_time": shares}})
    assert "samples a second" in text
    assert all(part in text for part in shares)


def test_overhead_is_what_is_left_of_the_core_time(experiment, monkeypatch):
    monkeypatch.setattr(overhead, "load_profile", lambda _: experiment.profile)
    monkeypatch.setattr(overhead, "FILE_SIZES", dict.fromkeys(overhead.FILE_SIZES, 64))
    found = overhead.overhead(quick=True)
    assert found["units"] == 2
    # An original, two depths of two strategies that may agree.
    assert 2 * 3 <= found["nodes"] <= 2 * 5
    assert found["overhead_core_seconds"] > 0
    assert 0 < found["share"] < 1
    assert "core-seconds per node" in summary({"overhead": found})


def test_work_is_scaled_to_the_samples_of_the_full_profile():
    full = load_profile("nine")
    small = overhead.small_profile(full, quick=False)
    assert len(small.tasks) * len(small.seeds) == 45
    columns = ["removed", *overhead.WORK]
    nodes = pd.DataFrame([(0, 1.0, 0.0, 0.0), (1, 1.0, 1.0, 5.0)], columns=columns)
    expected = 8000 / 32 + 2000 / 32 + 3000 / 32 + 5
    assert overhead.scaled_work(nodes, small, full) == pytest.approx(expected)


@pytest.mark.parametrize("missed", [None, *bench.BUDGETS])
def test_a_missed_budget_is_named(missed):
    found = {}
    for budget in bench.BUDGETS:
        beyond = -0.01 if budget.is_least else 0.01
        value = budget.bound + (beyond if budget is missed else 0)
        found.setdefault(budget.section, {})[budget.key] = value
    rows = bench.verdicts(found)
    assert len(rows) == len(bench.BUDGETS)
    named = [] if missed is None else [missed.what]
    assert [row["what"] for row in rows if not row["met"]] == named
    assert summary({"budgets": rows}).count("MISSED") == len(named)


def test_the_estimate_counts_what_a_small_study_does():
    profile = load_profile("paper")
    forward = cost.flops(profile)
    tokens = profile.max_length
    hidden = 768
    assert forward[12] - forward[11] == 24 * tokens * hidden**2 + 4 * tokens**2 * hidden
    waves = list(cost.waves(profile))
    passes = 3 * (60_000 + 256) + 2_000 + 5_000
    assert waves[0] == cost.Wave("0 removed", 27, passes * forward[12])
    assert waves[1].nodes == 27 * 12  # as many as layers, however many strategies
    table = cost.estimate(profile, 100, 0.5, [1, 8, 1000]).set_index("gpus")
    for gpus in (1, 1000):
        turns = sum(math.ceil(wave.nodes / gpus) * wave.operations for wave in waves)
        assert table["hours"][gpus] == pytest.approx(turns / 50e12 / 3600)
    assert table["hours"].is_monotonic_decreasing
    assert table["busy"][1] == pytest.approx(1)


def test_the_hours_in_the_documents_are_the_estimate():
    one, eight, many = cost.estimate(
        load_profile("paper"), cost.RATE, cost.REACHED, [1, 8, 64]
    )["hours"]
    row = (
        f"{cost.REACHED:.0%} of it reached | {one:.1f} h | {eight:.1f} h | "
        f"{60 * many:.0f} min |"
    )
    assert row in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", [bench, cost, memory])
def test_a_script_says_how_it_is_used(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit, match="^0$"):
        script.main()
    assert "usage" in capsys.readouterr().out
