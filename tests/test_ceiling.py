"""The ceiling, against loops that choose by hand on a study of random answers."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from sfusion.analysis import between_models, beyond_position, ceiling
from sfusion.analysis.statistics import grouped_mean
from sfusion.experiments.results import Results, RowResults
from sfusion.pruning.path import PruningPath
from sfusion.signals import MEASURES

DEPTH = 4
TASKS = ("t", "u", "v")
SEEDS = (0, 1, 2)
TEXTS = 21  # odd: the halves differ by a text
SETS = [gone for size in range(1, DEPTH) for gone in combinations(range(DEPTH), size)]
UNIT = ["task", "seed"]


def name_of(gone):
    return PruningPath.from_the_top(gone).name


def make_study(tasks=TASKS):
    """Train every set: random answers, and signals that know nothing."""
    rng = np.random.default_rng(1)
    nodes = []
    signals = []
    for task, seed in product(tasks, SEEDS):
        for gone in [(), *SETS]:
            right = rng.random(TEXTS) < 0.5 + 0.1 * (DEPTH - len(gone)) / DEPTH
            node = {
                "task": task,
                "seed": seed,
                "path": name_of(gone),
                "removed": len(gone),
                "layers": DEPTH - len(gone),
                "validation_accuracy": rng.integers(20) / 20,
                "test_accuracy": right.mean(),
                "test_correct": np.packbits(right).tobytes(),
            }
            nodes.append(node | dict.fromkeys(("training", "evaluation"), 1.0))
        for layer in range(DEPTH):
            values = dict(zip(MEASURES, rng.normal(size=len(MEASURES)), strict=True))
            key = {"task": task, "seed": seed, "path": "", "layer": layer}
            signals.append(key | values)
    units = pd.DataFrame(product(tasks, SEEDS), columns=UNIT)
    return Results(
        tasks=units.assign(validation=20, test=TEXTS),
        nodes=pd.DataFrame(nodes).assign(extraction=0.0),
        signals=pd.DataFrame(signals),
        trajectories=pd.DataFrame(columns=[*UNIT, "strategy", "removed", "path"]),
        distillation=pd.DataFrame(),
        manifest={"profile": {"name": "by hand"}},
    )


@pytest.fixture(scope="module")
def study():
    return make_study()


@pytest.fixture(scope="module")
def known(study):
    """Look up what a model of a unit and set knows: right answers, and validation."""
    found = {}
    for node in study.nodes.to_dict("records"):
        bits = np.unpackbits(np.frombuffer(node["test_correct"], np.uint8), count=TEXTS)
        key = node["task"], node["seed"], tuple(sorted(_layers(node["path"])))
        found[key] = bits, node["validation_accuracy"]
    return found


def _layers(path):
    return PruningPath.parse(path).removed


def best_of(sets, score):
    """Choose the first set of the highest score."""
    return sorted(sets, key=lambda gone: (-round(score(gone), 9), gone))[0]


def sets_of(size):
    return [gone for gone in SETS if len(gone) == size]


def universal(known, task, size):
    def score(gone):
        others = [t for t in TASKS if t != task]
        return np.mean([known[t, s, gone][1] for t in others for s in SEEDS])

    return best_of(sets_of(size), score)


def own(known, task, seed, size, half=None):
    """Choose on the other seeds, by validation, and by half of test where one is."""

    def score(gone):
        right = 0.0
        for other in SEEDS:
            if other != seed:
                bits, validation = known[task, other, gone]
                right += 20 * validation
                if half is not None:
                    right += bits[half::2].sum()
        return right

    return best_of(sets_of(size), score)


def test_sets_are_chosen_elsewhere_and_read_on_the_seed_that_was_held_out(study, known):
    table = (
        ceiling.chosen_sets(study)
        .set_index([*UNIT, "removed", "chosen_by"])
        .sort_index()
    )
    assert table.index.is_unique
    assert len(table) == 3 * len(TASKS) * len(SEEDS) * (DEPTH - 1)
    for task, seed, size in product(TASKS, SEEDS, range(1, DEPTH)):
        row = table.loc[task, seed, size]
        common = universal(known, task, size)
        assert row.loc[ceiling.UNIVERSAL, "gone"] == common
        here = known[task, seed, common][0].mean()
        assert row.loc[ceiling.UNIVERSAL, "test_accuracy"] == pytest.approx(here)
        chosen = own(known, task, seed, size)
        assert row.loc[ceiling.VALIDATION, "gone"] == chosen
        # By either half of the test texts, read on the other.
        even = own(known, task, seed, size, half=0)
        odd = own(known, task, seed, size, half=1)
        right = known[task, seed, even][0][1::2].sum()
        right += known[task, seed, odd][0][0::2].sum()
        accuracy = row.loc[ceiling.HALF_TEST, "test_accuracy"]
        assert accuracy == pytest.approx(right / TEXTS)


def test_gains_and_bounds_are_those_of_loops(study, known):
    table = ceiling.ceiling_table(study).set_index(["removed", "read"])
    for size in range(1, DEPTH):
        gained, per_model, per_dataset = [], [], []
        base = []
        for task in TASKS:
            common = universal(known, task, size)
            by_seed = [known[task, seed, common][0].mean() for seed in SEEDS]
            base.append(np.mean(by_seed))
            chosen = []
            best = []
            for seed in SEEDS:
                pick = own(known, task, seed, size)
                chosen.append(known[task, seed, pick][0].mean())
                every = [known[task, seed, gone][0].mean() for gone in sets_of(size)]
                best.append(max(every))
            gained.append(np.mean(chosen) - base[-1])
            per_model.append(np.mean(best) - base[-1])
            highest = max(mean_of(known, task, gone) for gone in sets_of(size))
            per_dataset.append(highest - base[-1])
        common = max(
            np.mean([mean_of(known, task, gone) for task in TASKS])
            for gone in sets_of(size)
        )
        row = table.loc[(size, ceiling.VALIDATION)]
        assert row["value"] == pytest.approx(100 * np.mean(gained))
        assert row["low"] <= row["value"] <= row["high"]
        assert row["drawn"] == "datasets, seeds and texts"
        assert row["model"] == pytest.approx(100 * np.mean(per_model))
        assert row["dataset"] == pytest.approx(100 * np.mean(per_dataset))
        assert row["one_set"] == pytest.approx(100 * (common - np.mean(base)))
        assert row["model"] >= row["dataset"] >= row["one_set"]


def mean_of(known, task, gone):
    return np.mean([known[task, seed, gone][0].mean() for seed in SEEDS])


def test_the_universal_set_is_named_by_the_layers_that_it_keeps(study, known):
    shown = ceiling.ceiling(study).shown
    kept = shown["one set keeps"]
    for size in range(1, DEPTH):
        chosen = [universal(known, task, size) for task in TASKS]
        gone = max(sorted(set(chosen)), key=chosen.count)
        if chosen.count(gone) > 1:
            layers = [str(layer) for layer in range(DEPTH) if layer not in gone]
            assert kept[size] == " ".join(layers)


def test_without_bits_no_test_text_is_read(study):
    plain = replace(study, nodes=study.nodes.drop(columns="test_correct"))
    table = ceiling.ceiling_table(plain)
    assert set(table["read"]) == {ceiling.VALIDATION}
    assert set(table["drawn"]) == {"datasets and seeds"}


def test_one_seed_or_one_dataset_has_no_ceiling(study):
    for column, value in (("seed", 0), ("task", "t")):
        frames = {
            name: getattr(study, name)[getattr(study, name)[column] == value]
            for name in ("tasks", "nodes", "signals")
        }
        finding = ceiling.ceiling(replace(study, **frames)).finding
        assert finding.startswith("*Not shown: choosing on other seeds needs two")


def test_what_is_left_of_two_main_effects():
    rows = pd.DataFrame([[1.0, 2.0, 3.0], [2.0, 3.0, 4.0], [0.0, 1.0, 2.0]])
    assert ceiling.interaction(rows) == pytest.approx(0)
    # One cell 3 higher leaves 3 (1 - 1/3)^2 of it: its square over four degrees.
    rows.iloc[0, 0] += 3
    assert ceiling.interaction(rows) == pytest.approx((9 * (2 / 3) ** 2 / 4) ** 0.5)


# --- beyond position


def test_families_hold_every_removal_from_a_parent_and_no_others(study):
    rows = beyond_position.tried_families(study)
    assert len(rows) == len(TASKS) * len(SEEDS) * DEPTH
    assert set(rows["path"]) == {""}
    assert rows["gone"].tolist() == [(layer,) for layer in rows["layer"]]
    # A parent of which one removal was not tried is no family.
    missing = (study.nodes["path"] == "1") & (study.nodes["task"] == "t")
    missing &= study.nodes["seed"] == 0
    fewer = replace(study, nodes=study.nodes[~missing])
    found = beyond_position.tried_families(fewer)
    assert len(found) == len(rows) - DEPTH


def test_the_table_reads_the_other_datasets_alone(study, known):
    rows = beyond_position.tried_families(study)
    for without in (None, "u"):
        scores = beyond_position.looked_up(study, rows, without)
        for row, score in zip(rows.to_dict("records"), scores, strict=True):
            others = [t for t in TASKS if t not in (row["task"], without)]
            read = [known[t, s, row["gone"]][1] for t in others for s in SEEDS]
            assert score == pytest.approx(np.mean(read))


def test_regret_is_the_best_removal_minus_the_chosen_one(study, known):
    rows = beyond_position.tried_families(study)
    scores = pd.Series(np.where(rows["layer"] == 2, 1.0, 0.0), rows.index)
    found = beyond_position.regret_of(rows, scores)
    assert len(found) == len(TASKS) * len(SEEDS)
    for task, seed in product(TASKS, SEEDS):
        every = [known[task, seed, (layer,)] for layer in range(DEPTH)]
        row = found.loc[(task, seed, "", 0)]
        best = max(bits.mean() for bits, _ in every)
        assert row["test"] == pytest.approx(100 * (best - every[2][0].mean()))
        highest = max(validation for _, validation in every)
        assert row["validation"] == pytest.approx(100 * (highest - every[2][1]))
    # Of equals the one nearest to the output goes.
    level = beyond_position.regret_of(rows, pd.Series(0.0, rows.index))
    last = beyond_position.regret_of(rows, rows["layer"].astype(float))
    pd.testing.assert_frame_equal(level, last)


def test_what_signals_add_is_measured_against_what_the_table_leaves():
    rows = pd.DataFrame(
        {
            "task": "t",
            "seed": 0,
            "path": ["", "", "1", "1"],
            "layer": [0, 1, 0, 2],
            "test_accuracy": [0.9, 0.7, 0.6, 0.2],
            beyond_position.TABLE: [0.05, -0.05, 0.1, -0.1],
        }
    )
    # What is left within parents: .05, -.05 and .1, -.1.
    exact = pd.Series([0.05, -0.05, 0.1, -0.1])
    assert beyond_position.explained(rows, exact) == pytest.approx(1)
    assert beyond_position.explained(rows, exact + 7) == pytest.approx(1)
    assert beyond_position.explained(rows, 0 * exact) == pytest.approx(0)
    half = pd.Series([0.0, 0.0, 0.1, -0.1])
    assert beyond_position.explained(rows, half) == pytest.approx(0.02 / 0.025)
    every = pd.Series(True, rows.index)
    assert beyond_position.agreement(rows, exact, every) == pytest.approx(1)
    assert beyond_position.agreement(rows, -exact, every) == pytest.approx(-1)
    one_each = pd.Series([True, False, True, False])
    assert np.isnan(beyond_position.agreement(rows, exact, one_each))


def test_signals_that_know_what_the_table_leaves_are_believed():
    # Energy is the cost that the dataset has beside the others'.
    tasks = "abcdefghij"
    study = make_study(tasks)
    rng = np.random.default_rng(0)
    costs = {}
    for task, layer in product(tasks, range(DEPTH)):
        costs[task, layer] = rng.normal()
    signals = study.signals.copy()
    keys = list(zip(signals["task"], signals["layer"], strict=True))
    signals["energy"] = [costs[key] for key in keys]
    nodes = study.nodes.drop(columns="test_correct")
    single = nodes["removed"] == 1
    layers = nodes["path"][single].astype(int)
    pairs = zip(nodes["task"][single], layers, strict=True)
    accuracy = [0.5 + 0.01 * costs[pair] for pair in pairs]
    for column in ("validation_accuracy", "test_accuracy"):
        nodes.loc[single, column] = accuracy
    telling = replace(study, nodes=nodes, signals=signals)
    table = beyond_position.beyond_table(telling).set_index(["removed", "learner"])
    ridge = table.loc[("all", "ridge-regression")]
    assert ridge["parents"] == len(tasks) * len(SEEDS)
    assert ridge["share"] > 0.5
    assert ridge["regret"] < ridge["table_regret"]
    assert ridge["value"] == pytest.approx(ridge["regret"] - ridge["table_regret"])


def test_the_lookup_stands_beside_the_fusions_of_the_same_parents(study):
    rows = []
    for name, regret in (
        ("greedy", 1.0),
        ("all, siblings", 90.0),
        ("position", 95.0),
        ("chance", 99.0),
    ):
        row = {"study": "by hand", "removed": "all", "candidate": name, "parents": 9}
        for split in ("validation", "test"):
            for end in ("", "_low", "_high"):
                row[f"{split}_regret{end}"] = regret
        rows.append(row)
    candidates = RowResults({"regrets": pd.DataFrame(rows)}, {})
    shown = beyond_position.lookup_regret(study, candidates)
    families = beyond_position.tried_families(study)
    scores = beyond_position.looked_up(study, families)
    regret = beyond_position.regret_of(families, scores)["test"].mean()
    found = shown.table.set_index("name")
    assert found.loc["lookup table", "test_regret"] == pytest.approx(regret, abs=1e-3)
    assert list(found.index) == [
        "greedy",
        "lookup table",
        "all, siblings",
        "position",
        "chance",
    ]
    assert found.loc["all, siblings", "title"] == "All measures, against siblings"
    assert "before every fusion: the best of 2 (all measures" in shown.finding
    other = pd.DataFrame(rows).assign(parents=10)
    elsewhere = RowResults({"regrets": other}, {})
    refused = beyond_position.lookup_regret(study, elsewhere).finding
    assert refused.startswith("*Not shown: the candidates were tried at other parents")


def test_groups_are_drawn_with_all_of_their_values():
    index = pd.Index(["a"] * 3 + ["b"], name="task")
    found = grouped_mean(pd.Series([0.0, 0.0, 0.0, 1.0], index))
    assert found == (0.25, 0.0, 1.0)
    alone = pd.Series([1.0, 3.0], pd.Index(["a", "a"], name="task"))
    assert grouped_mean(alone) == (2.0, 2.0, 2.0)


# --- between models


def test_measures_are_correlated_over_all_layers_but_the_last(study):
    signals = study.signals.copy()
    accuracy = study.nodes[study.nodes["removed"] == 1].copy()
    accuracy["layer"] = accuracy["path"].astype(int)
    merged = signals.merge(accuracy, on=[*UNIT, "layer"], suffixes=("", "_child"))
    merged = merged.sort_values([*UNIT, "layer"])
    values = merged["validation_accuracy"].to_numpy()
    signals = signals.sort_values([*UNIT, "layer"], ignore_index=True)
    # The last layer says the opposite, and is not asked.
    signals["energy"] = np.where(signals["layer"] < DEPTH - 1, 3 * values + 1, -values)
    signals["intensity"] = -values
    found = between_models.measure_correlations(replace(study, signals=signals))
    assert found["energy"].dropna().tolist() == pytest.approx([1.0] * 9)
    assert found["intensity"].dropna().tolist() == pytest.approx([-1.0] * 9)
    assert found.index.names == UNIT


def test_a_measure_that_turns_between_two_models_is_named(study):
    rows = pd.DataFrame(
        [
            ("Energy", "6 layers", 0.5, 0.2, 0.8),
            ("Energy", "12 layers", -0.5, -0.8, -0.2),
            ("Intensity", "6 layers", 0.5, 0.2, 0.8),
            ("Intensity", "12 layers", 0.4, 0.1, 0.8),
            ("Inhibition", "6 layers", 0.5, 0.2, 0.8),
            ("Inhibition", "12 layers", 0.1, -0.2, 0.3),
        ],
        columns=["measure", "model", "value", "low", "high"],
    )
    finding = between_models._across_finding(rows)
    assert "for 1 of 3 measures: Intensity." in finding
    assert "Energy (+0.50 with 6 layers, −0.50 with 12 layers)" in finding
    assert "clear of 0 on one model alone for Inhibition" in finding


def test_models_that_lost_an_end_are_counted(study):
    rows = []
    orders = {
        "random-forest-other-model": (0, 1),
        "middle-first": (1, 2),
        "top-first": (3, 2),
    }
    for (task, seed), (name, order) in product(product(TASKS, SEEDS), orders.items()):
        for removed in range(3):
            path = name_of(order[:removed])
            rows.append((task, seed, name, removed, path))
    columns = [*UNIT, "strategy", "removed", "path"]
    sizes = dict.fromkeys(["parameters", "encoder_parameters", "flops"], 1)
    pruned = replace(
        study,
        nodes=study.nodes.assign(**sizes),
        trajectories=pd.DataFrame(rows, columns=columns),
    )
    shown = between_models.lost_ends(pruned)
    forest = shown.table.loc["random-forest-other-model"]
    middle = shown.table.loc["middle-first"]
    assert (forest["lost_first"], forest["lost_last"], forest["models"]) == (9, 0, 9)
    assert (middle["lost_first"], middle["lost_last"]) == (0, 0)
    accuracy = study.nodes.set_index([*UNIT, "path"])["test_accuracy"]
    lost = accuracy.xs(name_of((0, 1)), level="path") - accuracy.xs("", level="path")
    assert forest["change"] == pytest.approx(100 * lost.mean(), abs=1e-3)
    assert "removed the first layer of 9 of the 9 models" in shown.finding
    text = f"{100 * lost.mean():+.1f}".replace("-", "−")
    assert f"kept the last lie {text} pp from the original" in shown.finding
