"""The benchmarks' own arithmetic, and that the plain script finds what the package finds."""

import math
import sys
from dataclasses import replace
from itertools import chain, permutations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny
import torch

from sfusion import (
    STRATEGIES,
    extract_signals,
    load_profile,
    load_results,
    load_task,
    training,
)
from sfusion.compression import compress
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.results import COMMITTED
from sfusion.experiments.trees import Experiment
from sfusion.signals import SIGNALS
from sfusion.training.distillation import NO_LABEL
from sfusion.training.evaluation import predict_logits
from sfusion.training.loop import fine_tune

sys.path.insert(0, str(ROOT / "benchmarks"))

import alternatives
import bench
import cost
import distillation
import fusions
import machine
import memory
import recipe
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


@pytest.mark.parametrize("script", [bench, cost, distillation, memory, recipe])
def test_a_script_says_how_it_is_used(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit, match="^0$"):
        script.main()
    assert "usage" in capsys.readouterr().out


def _tried(rng):
    """Make the removals of two tasks' parents, with ties and single children among them."""
    rows = [
        {
            "task": task,
            "seed": 0,
            "path": path,
            "layer": layer,
            "removed": len(path),
            "a": rng.normal(),
        }
        | {
            name: rng.integers(3) / 2
            for name in (
                "validation_accuracy",
                "test_accuracy",
                "accuracy_change",
                "score",
            )
        }
        for task in ("t", "u")
        for path, layers in (("", (0, 1, 2, 3)), ("2", (0, 1, 3)), ("3", (1,)))
        for layer in layers
    ]
    return pd.DataFrame(rows)


def test_regret_is_the_best_child_minus_the_chosen_one():
    for seed in range(20):
        table = _tried(np.random.default_rng(seed))
        found, chance = (
            fusions.regrets(table, table["score"]),
            fusions.regrets(table, None),
        )
        for key, part in table.groupby(["task", "seed", "path", "removed"]):
            rows = part.to_dict("records")
            chosen = max(rows, key=lambda row: (row["score"], row["layer"]))
            for split in ("validation", "test"):
                scores = [row[f"{split}_accuracy"] for row in rows]
                assert found.loc[key, split] == pytest.approx(
                    100 * (max(scores) - chosen[f"{split}_accuracy"])
                )
                assert chance.loc[key, split] == pytest.approx(
                    100 * (max(scores) - sum(scores) / len(scores))
                )


def test_targets_compare_siblings():
    table = _tried(np.random.default_rng(1))
    parents = [part for _, part in table.groupby(["task", "path"])]
    kept, label = fusions._relative(table, "siblings")
    expected = [
        part["accuracy_change"] - part["accuracy_change"].mean()
        for part in parents
        if len(part) > 1
    ]
    pd.testing.assert_series_equal(label.sort_index(), pd.concat(expected).sort_index())
    assert set(kept["path"]) == {"", "2"}
    differences, better = fusions._pairs(table, ["a"])
    pairs = [
        (one["a"] - two["a"], one["accuracy_change"] > two["accuracy_change"])
        for one, two in chain.from_iterable(
            permutations(part.to_dict("records"), 2) for part in parents
        )
        if one["accuracy_change"] != two["accuracy_change"]
    ]
    assert sorted(zip(differences[:, 0], better, strict=True)) == sorted(pairs)


def test_the_best_features_are_found_where_they_are_planted():
    rng = np.random.default_rng(0)
    train, asked = (
        pd.concat([_tried(rng).assign(seed=i) for i in range(40)], ignore_index=True)
        for _ in range(2)
    )
    train["accuracy_change"], asked["accuracy_change"] = train["a"], asked["a"]
    kinds = (
        ("change", "random-forest"),
        ("siblings", "random-forest"),
        ("pairs", "logistic-regression"),
    )
    for target, model in kinds:
        scores = fusions.fit(train, ["a"], target, model)(asked)
        planted = asked.assign(validation_accuracy=asked["a"])
        found, chance = (
            fusions.regrets(planted, choice)["validation"].mean()
            for choice in (scores, None)
        )
        assert found < 0.1 * chance


def test_a_strategy_is_followed_as_the_study_took_it():
    results, keys = load_results(COMMITTED / "embedded"), ["task", "seed", "removed"]
    found = fusions.follow(results, lambda *_: STRATEGIES["energy"]).set_index(keys)[
        "path"
    ]
    taken = results.trajectories.query("strategy == 'energy' and removed > 0")
    assert found.to_dict() == taken.set_index(keys)["path"].to_dict()
    assert fusions.follow(results, lambda *_: None).empty


def test_intervals_draw_tasks_with_all_of_their_parents():
    index = pd.MultiIndex.from_product([["t", "u"], range(5)], names=["task", "path"])
    assert tuple(fusions._interval(pd.Series([1.0] * 5 + [3.0] * 5, index))) == (
        2,
        1,
        3,
    )


# --- distillation: the published losses against their formulas, and that a run goes on
# where it stopped


@pytest.fixture
def outputs(make_bert, probe):
    """Outputs of a student and a teacher on a padded batch, its mask, and both as numpy arrays."""
    batch = probe.take(range(5)).trim()
    assert 0 < batch.attention_mask.double().mean() < 1
    student, teacher = make_bert(num_layers=3), make_bert(num_layers=6, seed=3)
    with torch.no_grad():
        options = {"output_hidden_states": True, "output_attentions": True}
        given = [
            model(batch.input_ids, batch.attention_mask, **options)
            for model in (student, teacher)
        ]
    names = ("hidden_states", "attentions")
    arrays = [
        {name: [a.double().numpy() for a in output[name]] for name in names}
        for output in given
    ]
    return given, batch.attention_mask, arrays


def real_tokens(mask):
    return [
        (row, column)
        for row in range(len(mask))
        for column in range(mask.shape[1])
        if mask[row, column]
    ]


def hidden(student, teacher, mask):
    return np.mean(
        [((student[at] - teacher[at]) ** 2).mean() for at in real_tokens(mask)]
    )


def cosine(student, teacher, mask):
    pairs = [(student[at], teacher[at]) for at in real_tokens(mask)]
    return np.mean([1 - a @ b / math.sqrt((a @ a) * (b @ b)) for a, b in pairs])


def attention(student, teacher, mask, kind):
    values = []
    for row, query in real_tokens(mask):
        keys = [key for at, key in real_tokens(mask) if at == row]
        for head in range(student.shape[1]):
            own, other = (
                student[row, head, query, keys],
                teacher[row, head, query, keys],
            )
            if kind == "divergence":
                values.append(sum(other * (np.log(other) - np.log(own))))
            else:
                difference = np.log(own) - np.log(other)
                values.append(np.mean((difference - difference.mean()) ** 2))
    return np.mean(values)


def test_terms_compute_the_published_formulas(outputs):
    given, mask, (student, teacher) = outputs
    states = [
        (student["hidden_states"][i], teacher["hidden_states"][2 * i]) for i in range(4)
    ]
    maps = [
        (student["attentions"][i], teacher["attentions"][2 * i + 1]) for i in range(3)
    ]
    unit = [
        [s[:, 0] / np.linalg.norm(s[:, :1], axis=-1) for s in pair] for pair in states
    ]
    expected = {
        "last_hidden": hidden(*states[3], mask),
        "last_cosine": cosine(*states[3], mask),
        "last_attention": attention(*maps[2], mask, "divergence"),
        "patient": np.mean([((a - b) ** 2).sum(-1).mean() for a, b in unit[1:3]]),
        "layerwise": sum(hidden(*pair, mask) for pair in states[1:])
        + sum(attention(*pair, mask, "scores") for pair in maps),
    }
    for name, value in expected.items():
        assert value > 0.01
        assert float(getattr(distillation, name)(*given, mask)) == pytest.approx(
            value, rel=1e-4
        ), name


@pytest.mark.parametrize("name", distillation.CONDITIONS)
def test_a_teacher_has_nothing_to_teach_itself(name, make_bert, probe):
    condition = distillation.CONDITIONS[name]
    if condition.recovery is None:
        return  # maps of layers of unequal models
    teacher, indices = make_bert(num_layers=6), torch.tensor([7, 3, 40])
    logits = predict_logits(teacher, probe)
    batch = probe.take(indices).trim()
    output = teacher(
        batch.input_ids,
        batch.attention_mask,
        output_hidden_states=True,
        output_attentions=True,
    )
    loss = distillation.make_objective(condition, teacher, probe, logits)(
        output, batch.labels, indices
    )
    weight = condition.hard_weight if condition.temperature else 1.0
    expected = weight * torch.nn.functional.cross_entropy(output.logits, batch.labels)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture
def profile(tiny_data, tmp_path, monkeypatch):
    sizes = {"train": 30, "validation": 12, "test": 24, "probe": 12}
    model = tiny.write_model(tmp_path / "model", layers=6)
    profile = tiny.make_profile(model, sizes=sizes, max_length=6)
    for module in (distillation, alternatives):
        monkeypatch.setattr(module, "BUILD", tmp_path)
        monkeypatch.setattr(module, "load_profile", lambda _: profile)
    monkeypatch.setattr(alternatives, "DEPTHS", {str(model): (4, 3)})
    monkeypatch.setattr(alternatives, "LABELLED", 10)
    budgets = {
        stage: (kind, 1, 10, 40) for stage, (kind, *_) in compress.BUDGETS.items()
    }
    monkeypatch.setattr(compress, "BUDGETS", budgets)
    return profile


def test_every_condition_is_trained_once(profile, tmp_path, monkeypatch):
    trained, original = [], fine_tune

    def counted(model, data, recipe, **options):
        trained.append(recipe.samples)
        return original(model, data, recipe, **options)

    monkeypatch.setattr(training, "fine_tune", counted)
    monkeypatch.setattr(distillation, "fine_tune", counted)
    file = tmp_path / "rows.csv"
    monkeypatch.setattr(
        sys, "argv", f"script --tasks agnews --seeds 0 --epochs 2 --out {file}".split()
    )
    distillation.main()
    rows = pd.read_csv(file, index_col="condition")
    assert set(rows.index) == {"original", "pruned", "deep", *distillation.CONDITIONS}
    # The original and four recoveries; a run per condition, TinyBERT's two, three
    # recoveries that the teacher joins.
    assert len(trained) == 5 + len(distillation.CONDITIONS) + 1 + 3
    half = rows[(rows["layers_left"] == 3) & (rows.index != "pruned")]
    assert set(half["samples"]) == {2 * 30 + 3 * 16}
    assert rows.loc["KD T=2 + later text", "texts"] > 30 == rows.loc["KD T=2", "texts"]
    before, trained[:] = file.read_bytes(), []
    file.unlink()
    distillation.main()
    assert trained == []
    assert file.read_bytes() == before
    # Weights lost and one record too: the models are trained again, once, and the
    # condition.
    for lost in (tmp_path / "distillation" / "store" / "weights").iterdir():
        lost.unlink()
    records = (tmp_path / "distillation" / "store" / "records").rglob("*.json")
    next(record for record in records if "last_cosine" in record.read_text()).unlink()
    distillation.main()
    assert len(trained) == 5 + 1


def test_every_condition_is_committed():
    names = sorted(["original", "pruned", "deep", *distillation.CONDITIONS])
    units = pd.read_csv(COMMITTED / "distillation.csv").groupby(["task", "seed"])[
        "condition"
    ]
    assert len(units) >= 2 and all(sorted(found) == names for _, found in units)


def test_later_texts_are_what_follows_in_the_training_texts(profile):
    task = load_task(
        "agnews", sizes=(30, 12, 24), max_length=6, tokenizer=profile.model
    )
    later = distillation.later_texts(profile, task)
    assert 0 < len(later) <= len(task.train)
    assert (later.labels == NO_LABEL).all()
    assert (later.attention_mask.sum(1) >= 3).all()


def _lengths(texts):
    return [[len(text), text.count(" ")] for text in texts]


def test_alternatives_are_made_once_and_judged_on_the_same_texts(
    profile, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        alternatives, "static", lambda _: SimpleNamespace(encode=_lengths)
    )
    monkeypatch.setattr(alternatives, "exported", lambda *_: {})
    monkeypatch.setattr(
        sys,
        "argv",
        f"script accuracy --tasks agnews --out {tmp_path / 'found'}".split(),
    )
    alternatives.main()
    file = tmp_path / "found" / "accuracy.csv"
    rows = pd.read_csv(file, dtype={"path": str}).set_index(["alternative", "layers"])
    assert len(rows) == 2 + 2 + len(alternatives.RANKINGS) + 4 and rows.index.is_unique
    assert (
        rows["path"]["compress", 3].count("+")
        == rows["path"]["compress, random-forest", 3].count("-")
        == 2
    )
    assert rows["path"]["student of every second layer", 3] == "0+2+4"
    monkeypatch.delattr(torch.Tensor, "backward")
    before = file.read_bytes()
    alternatives.main()
    assert file.read_bytes() == before


@pytest.mark.parametrize(("what", "rows"), [("defaults", 3), ("unlabelled", 4)])
def test_defaults_and_texts_without_labels_are_compared(
    what, rows, profile, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        sys, "argv", f"script {what} --tasks agnews --out {tmp_path / 'found'}".split()
    )
    alternatives.main()
    table = pd.read_csv(tmp_path / "found" / f"{what}.csv")
    assert len(table) == rows and table["test_accuracy"].between(0, 1).all()
    if what == "unlabelled":
        assert table[["texts", "samples"]].to_numpy().tolist() == [
            [0, 0],
            [0, 10],
            [0, 30],
            [20, 30],
        ]
