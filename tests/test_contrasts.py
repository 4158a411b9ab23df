"""Contrasts, regret and compute costs, each against an answer worked out by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
import tiny
from scipy.stats import wilcoxon

from sfusion import STRATEGIES
from sfusion.analysis.costs import compute_costs
from sfusion.analysis.statistics import BEST_SINGLE, CONTRASTS, CONTROLS, across, compare_pair, contrasts, measured
from sfusion.analysis.tables import curves, regret, subsets
from sfusion.records.results import Results
from sfusion.signals import MEASURES

GAIN = {"random-forest": 0.06, "greedy-oracle": 0.08, "energy": 0.03, "top-first": -0.02}


def _score(task, seed, label, removed):
    gain = GAIN.get(label, 0.0) * removed
    # Validation prefers energy among the signals; on test it gains as the table says.
    return 0.5 + gain / 2 - 0.01 * removed, 0.6 + gain - 0.01 * removed + 0.05 * seed


def _series(values):
    index = [(f"t{i}", seed) for i, part in enumerate(values) for seed in range(len(part))]
    flat = [value for part in values for value in part]
    return pd.Series(flat, index=pd.MultiIndex.from_tuples(index, names=["task", "seed"]))


def _taught(task, seed, condition, removed):
    return 0.5, {"distilled": 0.71, "same-steps": 0.7}.get(condition, 0.8) + 0.01 * seed


@pytest.fixture(scope="module")
def results():
    return tiny.make_results(_score, _taught)


def test_the_contrasts_were_fixed_and_name_known_strategies():
    assert list(CONTRASTS) == ["single", "random", "top", "oracle", "teacher"]
    others = {"distilled", "same-steps", BEST_SINGLE}
    for one in (*CONTRASTS.values(), *CONTROLS.values()):
        assert {one.first, one.second} <= {*STRATEGIES, *others}
    titles = [one.title for one in (*CONTRASTS.values(), *CONTROLS.values())]
    assert len(set(titles)) == len(titles)


def test_scores_hold_the_signal_that_validation_prefers(results):
    scores = measured(curves(results))
    best = scores.xs(BEST_SINGLE, level="name")
    pd.testing.assert_frame_equal(best, scores.xs("energy", level="name"))
    # Two removals: mean of test over them, and the value where validation is highest.
    at = best.loc[("t", 1)]
    assert at["mean_accuracy"] == pytest.approx(0.65 + (0.02 + 0.04) / 2)
    assert at["validation_selected"] == pytest.approx(0.65 + 0.04)
    assert at["removed_2"] == pytest.approx(0.65 + 0.04)


def test_every_contrast_is_the_mean_difference(results):
    table = contrasts(results).set_index(["contrast", "measure"])
    expected = {"single": 0.045, "random": 0.09, "top": 0.12, "oracle": -0.03, "teacher": 0.01}
    for name, difference in expected.items():
        row = table.loc[(CONTRASTS[name].title, "mean_accuracy")]
        assert row["difference"] == pytest.approx(difference)
        assert row["low"] == pytest.approx(difference) == pytest.approx(row["high"])
        won = difference > 0
        assert row["improvement"] == won
        assert (row["ahead"], row["tied"], row["behind"]) == ((3, 0, 0) if won else (0, 0, 3))
        assert row["wilcoxon"] == 0.25  # the least that three tasks can give
    assert set(table.index.get_level_values("measure")) == {
        *("mean_accuracy", "validation_selected", "removed_1", "removed_2")
    }


def test_studies_stand_beside_each_other_by_the_mean_over_the_depths(results):
    def lower(task, seed, label, removed):
        validation, test = _score(task, seed, label, removed)
        return validation, test - 0.02 * (label == "energy")

    others = tiny.make_results(lower, _taught)
    table = across({"one": results, "other": others})
    for name, one in (("one", results), ("other", others)):
        alone = contrasts(one).query("measure == 'mean_accuracy'").reset_index(drop=True)
        mine = table[table["study"] == name].drop(columns="study").reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, alone)
    random = table[table["contrast"] == CONTRASTS["random"].title]
    assert random["difference"].nunique() == 1
    best = table[table["contrast"] == CONTRASTS["single"].title].set_index("study")["difference"]
    assert best["other"] == pytest.approx(best["one"] + 0.02)


def test_a_contrast_without_its_strategies_is_left_out():
    labels = [name for name in tiny.LABELS if name != "greedy-oracle"]
    table = contrasts(tiny.make_results(_score, _taught, labels=labels))
    assert CONTRASTS["oracle"].title not in set(table["contrast"])
    assert CONTRASTS["top"].title in set(table["contrast"])


def test_pairs_are_counted_by_hand():
    first = _series([[0.5, 0.7], [0.6, 0.6], [0.9, 0.4]])
    second = _series([[0.4, 0.5], [0.6, 0.6], [0.6, 0.8]])
    found = compare_pair(first, second)
    means = [0.15, 0.0, -0.05]
    assert found["difference"] == pytest.approx(np.mean(means))
    # Better twice, twice tied, once better and once worse: (2 + 2 / 2 + 1) / 6.
    assert found["improvement"] == pytest.approx(4 / 6)
    assert (found["ahead"], found["tied"], found["behind"]) == (1, 1, 1)
    assert found["wilcoxon"] == wilcoxon([0.15, -0.05]).pvalue
    assert found["low"] <= found["difference"] <= found["high"]


def test_equal_scores_have_no_p():
    same = _series([[0.5, 0.5], [0.6, 0.6]])
    found = compare_pair(same, same)
    assert found["difference"] == found["low"] == found["high"] == 0
    assert found["improvement"] == 0.5
    assert np.isnan(found["wilcoxon"])


# --- the best set of layers, and the compute cost ---------------------------------------------------

DEPTH = 3
# Share of test samples right without a set of layers, of 3; validation is .1 lower throughout.
TEST = {(): 0.9, (0,): 0.8, (1,): 0.85, (2,): 0.6, (0, 1): 0.7, (0, 2): 0.5, (1, 2): 0.55}
WAYS = {
    "top-first": (2, 1),
    "bottom-first": (0, 1),
    "energy": (1, 0),
    "random-forest": (1, 0),
    "greedy-oracle": (1, 0),
}


@pytest.fixture(scope="module")
def searched():
    """Three layers, two seeds, every set; the way (0, 1) is no way from the top down."""
    nodes, signals, visits = [], [], []
    ways = {way[:n] for way in WAYS.values() for n in range(3)}
    ways |= {c for n in (1, 2) for c in itertools.combinations((2, 1, 0), n)}
    for seed in (0, 1):
        for way in sorted(ways):
            test = TEST[tuple(sorted(way))] + 0.02 * seed
            if list(way) == [0, 1]:
                test += 0.2  # luck of another order, which must not count
            path = "-".join(map(str, way))
            left = DEPTH - len(way)
            nodes.append(
                {
                    **{"task": "t", "seed": seed, "path": path, "removed": len(way)},
                    **{"validation_accuracy": test - 0.1, "test_accuracy": test},
                    **{"training": 10.0 * left, "evaluation": 1.0, "extraction": 2.0 * left},
                    **{"layers": left, "parameters": left, "encoder_parameters": left},
                    "flops": 1e9 * left,
                }
            )
            for layer in set(range(DEPTH)) - set(way):
                values = dict.fromkeys(MEASURES, float(layer))
                signals.append({"task": "t", "seed": seed, "path": path, "layer": layer, **values})
        for label, way in WAYS.items():
            for n in range(3):
                visits.append(("t", seed, label, n, "-".join(map(str, way[:n]))))
    return Results(
        tasks=pd.DataFrame({"task": "t", "seed": [0, 1], "validation": 20, "test": 60}),
        nodes=pd.DataFrame(nodes),
        signals=pd.DataFrame(signals),
        trajectories=pd.DataFrame(visits, columns=["task", "seed", "strategy", "removed", "path"]),
        distillation=pd.DataFrame(),
        manifest={
            "profile": {
                "subsets": ["t"],
                "recovery": {"samples": 100},
                "sizes": {"probe": 10, "validation": None, "test": None},  # all there are
            },
            "fit_seconds": {"random-forest": 0.5},
        },
    )


def test_every_set_counts_once_along_its_way_from_the_top(searched):
    table = subsets(searched)
    assert len(table) == 2 * 6
    one = table[table["seed"] == 0].set_index("gone")["test_accuracy"]
    assert one.to_dict() == pytest.approx({gone: v for gone, v in TEST.items() if gone})


def test_without_a_search_there_is_no_regret(searched):
    none = Results(**{**vars(searched), "manifest": {"profile": {"subsets": []}}})
    assert subsets(none).empty
    assert regret(none, curves(searched)).empty


def test_regret_is_the_way_to_the_best_set(searched):
    table = regret(searched, curves(searched))
    means = table.groupby(["strategy", "removed"])[["regret", "place"]].mean()
    # Best without one layer: (1,); without two: (0, 1).
    assert means.loc[("top-first", 1)].tolist() == pytest.approx([0.25, 0.0])
    assert means.loc[("bottom-first", 1)].tolist() == pytest.approx([0.05, 0.5])
    assert means.loc[("energy", 1)].tolist() == pytest.approx([0.0, 1.0])
    assert means.loc[("top-first", 2)].tolist() == pytest.approx([0.15, 0.5])
    assert means.loc[("bottom-first", 2)].tolist() == pytest.approx([0.0, 1.0])
    assert len(table) == 2 * 2 * len(WAYS)


def test_compute_costs_count_what_a_user_would_run(searched):
    table = compute_costs(searched, curves(searched))
    down = 3 * 100 * 1e9 * (2 + 1) / 1e12  # recoveries with two layers left, then one
    look = 3 * 10 * 1e9 * (3 + 2) / 1e12  # probes with three layers left, then two
    assert table.loc["top-first", ["training", "signals", "labels"]].tolist() == [down, 0, 0]
    assert table.loc["top-first", "times"] == 1
    assert table.loc["top-first", "seconds"] == 10 * 2 + 10
    assert table.loc["energy", ["training", "signals", "labels"]].tolist() == [down, look, 0]
    assert table.loc["energy", "seconds"] == 30 + 2 * 3 + 2 * 2
    # Three children with two layers left, then two with one; each is trained, and then looked at.
    tried = (3 * 100 + 20) * 1e9 / 1e12
    oracle = tried * (3 * 2 + 2 * 1)
    costs = table.loc["greedy-oracle", ["training", "signals", "labels"]]
    assert costs.tolist() == pytest.approx([0, 0, oracle])
    # The plain ways: 2, 2-1, 0, 0-1, 1, 1-0.
    labels = tried * (2 + 1) * 3
    # Their parents with two layers left are asked too; the original is on its own way.
    asked = look + 3 * 10 * 1e9 * 2 * 3 / 1e12
    forest = table.loc["random-forest"]
    costs = forest[["training", "signals", "labels"]].tolist()
    assert costs == pytest.approx([down, asked, labels])
    assert forest["fit"] == 0.5
    assert forest["times"] == pytest.approx((down + asked + labels) / down)
    # Of 1 removed .85 against .6, of 2 removed .7 against .55.
    assert forest["gain"] == pytest.approx(100 * (0.25 + 0.15) / 2)
    # The one signal that walked is the best: its way is tried, each model on it asked.
    best = table.loc["best-single"]
    costs = best[["training", "signals", "labels"]].tolist()
    assert costs == pytest.approx([0, look, tried * (2 + 1)])
    assert best["gain"] == pytest.approx(forest["gain"])
