"""The benchmarks' own arithmetic, and that the plain script finds what the package finds."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tiny
from sfusion.pruning.nodes import Unit

from sfusion import extract_signals, load_profile
from sfusion.records.profiles import ROOT
from sfusion.signals import SIGNALS

sys.path.insert(0, str(ROOT / "benchmarks"))

import ablation
import bench
import cost
import machine
import pandas as pd
import sweep
import torch
from plain_signals import PASSES
from summary import summary


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tiny.make_profile(tiny.write_model(tmp_path_factory.mktemp("bench") / "model"))


@pytest.fixture
def unit(profile, monkeypatch):
    """Stand in for the embedded profile's unit, on both sides."""
    monkeypatch.setenv("SFUSION_DATA", str(tiny.data_folder()))
    monkeypatch.setenv("SFUSION_JOBS", "1")
    monkeypatch.delenv("SFUSION_BACKEND", raising=False)
    unit = Unit(profile, "agnews", 0)
    monkeypatch.setattr(sweep, "unit_of", lambda quick, seed=0: (replace(unit, seed=seed), "fp32"))
    monkeypatch.setattr(machine, "setting", lambda *_, **__: (unit, "fp32"))
    return unit


@pytest.mark.parametrize("name", SIGNALS)
def test_a_plain_pass_finds_the_signal(name, tiny_bert, probe):
    expected = extract_signals(tiny_bert, probe)[name].to_numpy()
    np.testing.assert_allclose(PASSES[name](tiny_bert, probe), expected, rtol=1e-4)


def test_the_plain_script_and_the_package_make_the_same_visits(unit, monkeypatch):
    monkeypatch.setattr(sweep, "LABELS", ["weight-norm", "attention-entropy", "random-0"])
    found = sweep.compare(quick=True)
    assert found["savings"]["visits"] == 1 + 3 * 4  # the original's training stands apart
    assert 4 <= found["savings"]["distinct_nodes"] <= 10
    for curve in found["test_accuracy_by_removed_layers"].values():
        assert list(curve) == [0, 1, 2, 3]
        assert all(0 <= value <= 1 for value in curve.values())
    own = found["times_faster_than_with_own_signals_alone"]
    assert 0 < own < found["times_faster"]
    assert set(found["savings"]["times_faster_alone"]) == {
        "shared prefixes", "signals in one pass", "step and evaluation", "parallel runs",
    }  # fmt: skip
    text = summary({"sweep": found})
    for shown in ("| plain |", "| package, seed 1 |", "one more seed", "| shared prefixes |", "`bf16=True`"):
        assert shown in text


def test_the_products_of_a_step_are_noted_and_none_else():
    left, right = torch.randn(5, 3), torch.randn(2, 3)
    with machine.Products() as products:
        for _ in range(2):
            torch.relu(left @ right.T) + 1
        torch.bmm(torch.randn(4, 2, 3), torch.randn(4, 3, 2))
    assert [function._schema.name for function, _ in products.calls] == [
        "aten::mm", "aten::mm", "aten::bmm",
    ]  # fmt: skip
    assert products.calls[0][1] is products.calls[1][1]
    assert [operand.stride() for operand in products.calls[0][1]] == [(3, 1), (1, 3)]
    products.run()


def test_seed_noise_is_the_half_width_of_a_prediction_interval():
    rng = np.random.default_rng(0)
    runs = rng.normal(size=(4000, 5))
    inside = [abs(run[0] - run[1:].mean()) <= sweep.seed_noise(run[1:]) for run in runs]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def _visit(strategy, path, training, evaluation, signals):
    seconds = {"training": training, "evaluation": evaluation, "energy": signals}
    return {"strategy": strategy, "path": path, "seconds": seconds}


def test_savings_apply_one_means_at_a_time():
    root = {"strategy": "a", "path": (), "seconds": {"energy": 4.0}}
    visits = [
        _visit("original", (), 10.0, 2.0, 0.0),
        root,
        _visit("a", (1,), 3.0, 2.0, 0.0),
        {**root, "strategy": "b"},
        _visit("b", (1,), 3.0, 2.0, 0.0),
    ]
    costs = {
        "one_process": {"plain": [4.0, 2.0, 8.0], "package": [1.0, 1.0, 1.0]},
        "a_process_a_core": {"plain": [2.0, 1.0, 4.0]},
    }
    found = sweep.savings(visits, costs)
    assert (found["visits"], found["distinct_nodes"]) == (5, 2)
    assert found["seconds"] == {"training": 16.0, "evaluation": 6.0, "signals": 8.0}
    assert found["times_faster_alone"] == {
        "shared prefixes": round(30 / (12 + 4 + 5), 2),
        "signals in one pass": round(30 / (22 + 1), 2),
        "step and evaluation": round(30 / (4 + 3 + 8), 2),
        "parallel runs": 2.0,
    }


def test_the_profile_of_step_and_node_accounts_for_all_time(unit):
    found = {"step": machine.step(), "node": machine.node()}
    for measured in found.values():
        assert sum(measured["shares_of_time"].values()) == pytest.approx(1, abs=0.01)
    shares = [found["step"][f"share_of_{kind}_rate"] for kind in ("best_product", "matrix")]
    assert 0 < shares[0] < shares[1] < 1
    assert found["step"]["share_of_memory_rate"] > 0
    assert found["step"]["signals_over_forward_backward"] > 0
    assert all(share > 0 for share in found["node"]["shares_of_time"].values())
    text = summary(found)
    for name in (*machine.KINDS, *machine.PARTS):
        assert f"| {name} |" in text


@pytest.mark.parametrize(
    "changes, missed",
    [
        ({}, []),
        ({"times_faster": 4.9}, ["sweep, times faster than the plain script"]),
        ({"accuracy_lost": 0.01}, ["sweep, accuracy lost beyond seed noise"]),
        ({"peak_gib": 3.1}, ["study of 2 workers, GiB"]),
        ({"share_of_matrix_rate": 0.3}, ["step / matrix rate"]),
    ],
)
def test_a_missed_budget_is_named(changes, missed):
    values = {
        "times_faster": 5.0,
        "accuracy_lost": 0.0,
        "signals_over_forward_backward": 1.5,
        "share_of_matrix_rate": 0.4,
        "seconds": 60.0,
        "peak_gib": 3.0,
    } | changes
    rows = list(bench.verdicts({section: values for section in bench.SECTIONS}))
    assert len(rows) == len(bench.BUDGETS)
    assert [row["what"] for row in rows if not row["met"]] == missed
    assert summary({"budgets": rows}).count("MISSED") == len(missed)


def test_the_estimate_counts_what_a_small_study_does():
    profile = load_profile("paper")
    forward = cost.flops(profile)
    tokens, hidden = profile.max_length, 768
    layer = 8 * tokens * hidden**2 + 4 * tokens**2 * hidden + 16 * tokens * hidden**2
    assert forward[12] - forward[11] == layer
    waves = list(cost.waves(profile))
    roots = waves[0]
    samples = 3 * (60_000 + 256) + 2_000 + 5_000
    assert roots == ("0 removed", 27, samples * forward[12])
    assert waves[1][1] == 27 * 12  # no more than there are layers, however many strategies
    table = cost.estimate(profile, 100, 0.5, [1, 8, 1000]).set_index("gpus")
    work = sum(nodes * operations for _, nodes, operations in waves)
    assert table["hours"][1] == pytest.approx(work / 50e12 / 3600)
    assert table["hours"].is_monotonic_decreasing
    assert table["hours"][1000] == pytest.approx(sum(math.ceil(n / 1000) * o for _, n, o in waves) / 50e12 / 3600)
    assert table["busy"][1] == pytest.approx(1)


def test_the_ablation_pairs_by_task_and_seed():
    rows = pd.DataFrame(
        {"task": "t", "seed": seed, "variant": variant, "stage": "original", "test_accuracy": score}
        for seed in range(3)
        for variant, score in zip(
            ablation.VARIANTS, (0.5 + seed / 10, 0.4 + seed / 10, 0.5, 0.6 + seed / 5), strict=True
        )
    )
    table = ablation.differences(rows).set_index("the profile less")
    assert table["pairs"].tolist() == [3, 3, 3]
    np.testing.assert_allclose(table["points"], [10, 10, -20])
    np.testing.assert_allclose(table.loc["dropout on", ["low", "high"]].astype(float), 10)
    assert table["low"]["embeddings learn"] < 0 < table["high"]["embeddings learn"]


def test_the_hours_in_the_documents_are_the_estimate():
    hours = cost.estimate(load_profile("paper"), cost.PUBLISHED["A100"], 0.15, [1, 8, 64])["hours"]
    one, eight, many = hours
    row = f"15% of it assumed | {one:.1f} h | {eight:.1f} h | {60 * many:.0f} min |"
    assert row in (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", ["bench.py", "cost.py"])
def test_a_script_says_how_it_is_used(script):
    command = [sys.executable, str(ROOT / "benchmarks" / script), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_the_readme_shows_the_committed_ablation():
    rows = pd.read_csv(ablation.RECORD)
    counts = rows.groupby(["task", "seed"])[["variant", "stage"]].nunique()
    assert (counts == [len(ablation.VARIANTS), 2]).all(axis=None)
    assert ablation.markdown(rows) in bench.README.read_text("utf-8")
