"""Contrasts, sets of layers and compute costs, each against an answer by hand."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
import tiny

from sfusion.analysis import controls, costs, layer_sets
from sfusion.analysis.contrasts import CONTRASTS, CONTROLS, contrasts
from sfusion.analysis.paper_claims import Evidence, ends_are_worth_keeping
from sfusion.analysis.scoreboard import scoreboard
from sfusion.analysis.scores import BEST_SINGLE, measured, with_best_single
from sfusion.errors import StudyLacks
from sfusion.experiments.results import open_results
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import STRATEGIES

GAIN = {
    "random-forest": 0.06,
    "greedy-oracle": 0.08,
    "energy": 0.03,
    "top-first": -0.02,
}


def score(task, seed, label, removed):
    gain = GAIN.get(label, 0.0) * removed
    # Validation prefers energy among the signals; on test it gains as the table says.
    return 0.5 + gain / 2 - 0.01 * removed, 0.6 + gain - 0.01 * removed + 0.05 * seed


def teach(task, seed, condition, removed):
    test = {"distilled": 0.71, "same-steps": 0.7}.get(condition, 0.8)
    return 0.5, test + 0.01 * seed


@pytest.fixture(scope="module")
def results():
    return tiny.make_results(score, teach)


def test_the_contrasts_were_fixed_and_name_known_strategies():
    assert list(CONTRASTS) == ["single", "random", "top", "oracle", "teacher"]
    asked = [*CONTRASTS.values(), *CONTROLS.values()]
    known = {*STRATEGIES, "distilled", "same-steps", BEST_SINGLE}
    for contrast in asked:
        assert {contrast.first, contrast.second} <= known
    assert len({contrast.title for contrast in asked}) == len(asked)


def test_scores_hold_the_signal_that_validation_prefers(results):
    scores = measured(with_best_single(results.curves()))
    best = scores.xs(BEST_SINGLE, axis=1, level="name")
    pd.testing.assert_frame_equal(best, scores.xs("energy", axis=1, level="name"))
    # Two removals, half of the depths: the mean over them is that of one and two.
    unit = best.loc["t", 1, 0]
    assert unit["mean_accuracy"] == pytest.approx(0.65 + (0.02 + 0.04) / 2)
    for measure in ("validation_selected", "removed_2", "half_removed"):
        assert unit[measure] == pytest.approx(0.65 + 0.04)


@pytest.mark.parametrize(
    "name, difference, verdict",
    [
        ("single", 0.045, "better"),
        ("random", 0.09, "better"),
        ("top", 0.12, "better"),
        ("oracle", -0.03, "worse"),
        ("teacher", 0.01, "equivalent"),
    ],
)
def test_every_contrast_is_the_mean_difference(results, name, difference, verdict):
    table = contrasts(results, {name: CONTRASTS[name]}, ["mean_accuracy"])
    row = table.iloc[0]
    for column in ("difference", "low", "high"):
        assert row[column] == pytest.approx(difference)
    assert row["verdict"] == verdict
    assert row["sign_test"] == 0.25  # the least that three datasets can give
    won = 3 if difference > 0 else 0
    assert (row["ahead"], row["tied"], row["behind"]) == (won, 0, 3 - won)
    assert row["drawn"] == "datasets and seeds"


def test_the_main_contrasts_are_shown_at_each_depth(results):
    shown = controls.main_contrasts(results)
    measures = ["half_removed", "mean_accuracy", "validation_selected"]
    found = list(shown.table["measure"].unique())
    assert found == [*measures, "removed_1", "removed_2"]
    assert "Own forest against greedy search: behind by 4.0 pp" in shown.finding
    assert "an interval over 2 seeds would cover 60%, not 95%" in shown.finding
    assert shown.figure is not None
    depths = controls.fixed_depths(results)
    assert list(depths.shown) == ["1 removed", "2 removed"]
    assert "gains 6.0 pp with the first removal and 12.0 pp" in depths.finding


def test_where_records_hold_bits_every_interval_draws_the_texts(results):
    def with_bits(frame):
        right = (400 * frame["test_accuracy"]).round().astype(int)
        bits = []
        for count in right:
            texts = np.roll(np.arange(400) < count, 7 * count)
            bits.append(np.packbits(texts).tobytes())
        return frame.assign(test_accuracy=right / 400, test_correct=bits)

    known = replace(
        results,
        nodes=with_bits(results.nodes),
        distillation=with_bits(results.distillation),
    )
    for table in (contrasts, scoreboard):
        found = table(known)
        plain = table(results)
        there = plain["low"].notna()
        assert found.loc[there, "drawn"].str.endswith("seeds and texts").all()
        wider = (found["high"] - found["low"]) - (plain["high"] - plain["low"])
        assert (wider[there] >= -1e-9).all()
    # Without the bits of some records there is no draw that all share.
    part = replace(known, nodes=known.nodes.assign(test_correct=None))
    drawn = contrasts(part, {"top": CONTRASTS["top"]})["drawn"]
    assert set(drawn) == {"datasets and seeds"}


def test_captions_say_what_intervals_draw_and_that_none_is_corrected(results):
    caption = controls.fusion_controls(results).caption
    assert "intervals over datasets and seeds, or Student's over datasets" in caption
    count = len(CONTROLS)
    assert f"None of the {count} comparisons is corrected for the others" in caption


def test_the_power_of_a_study_is_that_of_its_spread(results):
    def spread(task, seed, label, removed):
        lead = {"t": 0.01, "u": 0.02, "v": 0.06}[task]
        return 0.5, 0.5 + (lead if label == "random-forest" else 0.0)

    shown = controls.power({"few": tiny.make_results(spread)})
    row = shown.table[shown.table["contrast"] == CONTROLS["position"].title].iloc[0]
    # Of two degrees of freedom 4.30265 and 1.06066, times an error of .01528.
    assert row["detectable"] == pytest.approx(5.36331 * 1.52753, abs=1e-3)
    assert "from 8.19 pp on (few: 3 datasets, 2 seeds)" in shown.finding


def test_a_contrast_without_its_strategies_is_left_out():
    labels = [name for name in tiny.LABELS if name != "greedy-oracle"]
    table = contrasts(tiny.make_results(score, teach, labels=labels))
    titles = [one.title for name, one in CONTRASTS.items() if name != "oracle"]
    assert list(table["contrast"].unique()) == titles


def test_controls_and_opponents_are_contrasts_of_two_measures(results):
    found = controls.fusion_controls(results)
    assert len(found.table) == 2 * len(CONTROLS)
    assert "Own forest against position alone: ahead by 12.0 pp" in found.finding
    rivals = controls.opponents(results)
    assert "Own forest against middle first: ahead by 12.0 pp" in rivals.finding
    labels = ["random-forest", "random-forest-position"]
    few = controls.opponents(tiny.make_results(score, labels=labels))
    assert few.finding == "*Not shown: this study ran none of these strategies.*"


DEPTH = 3
# Share of test texts right without a set of layers, of 3; validation is .1 lower.
TEST = {
    (): 0.9,
    (0,): 0.8,
    (1,): 0.85,
    (2,): 0.6,
    (0, 1): 0.7,
    (0, 2): 0.5,
    (1, 2): 0.55,
}
ORDERS = {
    "top-first": (2, 1),
    "bottom-first": (0, 1),
    "energy": (1, 0),
    "random-forest": (1, 0),
    "greedy-oracle": (1, 0),
}


@pytest.fixture(scope="module")
def searched(results):
    """Three layers, two seeds, every set; the order (0, 1) is not from the top."""
    orders = {order[:n] for order in ORDERS.values() for n in range(DEPTH)}
    orders |= {gone for n in (1, 2) for gone in combinations((2, 1, 0), n)}
    nodes = []
    for seed, order in product((0, 1), sorted(orders)):
        left = DEPTH - len(order)
        test = TEST[tuple(sorted(order))] + 0.02 * seed
        if order == (0, 1):
            test += 0.2  # luck of another order than from the top must not count
        node = {
            "task": "t",
            "seed": seed,
            "path": PruningPath.of(*order).name,
            "removed": len(order),
            "validation_accuracy": test - 0.1,
            "test_accuracy": test,
            "training": 10.0 * left,
            "evaluation": 1.0,
            "extraction": 2.0 * left,
            "layers": left,
            "parameters": left,
            "encoder_parameters": left,
            "flops": 1e9 * left,
        }
        nodes.append(node)
    visits = []
    for seed, removed, (name, order) in product((0, 1), range(DEPTH), ORDERS.items()):
        path = PruningPath.of(*order[:removed]).name
        visits.append(("t", seed, name, removed, path))
    columns = ["task", "seed", "strategy", "removed", "path"]
    tasks = {"task": "t", "seed": [0, 1], "validation": 20, "test": 60}
    profile = {"recovery": {"samples": 100}, "sizes": {"probe": 10}}
    return replace(
        results,
        tasks=pd.DataFrame(tasks),
        nodes=pd.DataFrame(nodes),
        trajectories=pd.DataFrame(visits, columns=columns),
        distillation=results.distillation.iloc[:0],
        manifest={"profile": profile},
    )


def test_every_set_counts_once_along_its_way_from_the_top(searched):
    table = layer_sets.trained_sets(searched)
    assert len(table) == 2 * 6
    first = table[table["seed"] == 0].set_index("gone")["test_accuracy"]
    assert first.to_dict() == pytest.approx({gone: TEST[gone] for gone in TEST if gone})


def test_regret_is_the_way_to_the_best_set(searched):
    table = layer_sets.regret_of_strategies(searched)
    assert len(table) == 2 * 2 * len(ORDERS)
    means = table.groupby(["strategy", "removed"])["regret"].mean().unstack("removed")
    # Best without one layer: (1,); without two: (0, 1).
    assert means.loc["top-first"].tolist() == pytest.approx([0.25, 0.15])
    assert means.loc["bottom-first"].tolist() == pytest.approx([0.05, 0])
    assert means.loc["energy"].tolist() == pytest.approx([0, 0])
    assert layer_sets.regret(searched).finding.startswith("12 sets of t.")


def test_a_study_that_lacks_a_set_of_each_size_has_not_searched(searched):
    nodes = searched.nodes
    incomplete = replace(searched, nodes=nodes[~nodes["path"].isin(["1", "2-1"])])
    assert layer_sets.trained_sets(incomplete).empty
    for show in (layer_sets.regret, layer_sets.own_best_set, controls.all_orders):
        assert show(incomplete).finding.startswith("*Not shown: this study did not")


def test_best_sets_are_chosen_by_this_model_its_dataset_or_the_others(searched):
    nodes = searched.nodes
    other = nodes.assign(task="u", validation_accuracy=1 - nodes["validation_accuracy"])
    # In seed 0 alone validation prefers to lose layer 2.
    lucky = (nodes["path"] == "2") & (nodes["seed"] == 0)
    validation = nodes["validation_accuracy"].mask(lucky, 0.77)
    nodes = nodes.assign(validation_accuracy=validation)
    both = replace(searched, nodes=pd.concat([nodes, other]))
    both = replace(
        both, tasks=pd.concat([searched.tasks, searched.tasks.assign(task="u")])
    )
    table = layer_sets.best_sets(both)
    units = table[table["removed"] == 1].set_index(["task", "seed", "chosen_on"])
    by_unit = units["gone"]
    columns = ["this model", "this dataset", "other datasets"]
    assert by_unit["t", 0][columns].tolist() == [(2,), (1,), (2,)]
    assert by_unit["t", 1][columns].tolist() == [(1,), (1,), (2,)]
    assert by_unit["u", 0][columns].tolist() == [(2,), (2,), (1,)]
    test = nodes.set_index(["seed", "path"])["test_accuracy"]
    for row in table.itertuples():
        path = PruningPath.from_the_top(row.gone).name
        assert row.test_accuracy == test[row.seed, path]
    shown = layer_sets.own_best_set(both)
    titles = [
        "Sets of the other datasets against this model",
        "Sets of the other datasets against this dataset",
    ]
    assert list(shown.table["contrast"].unique()) == titles
    assert "- 1 removed: the other datasets choose 2 for 2 of 4 models" in shown.finding


def test_the_gain_of_keeping_a_layer_compares_all_sets_of_a_size(searched):
    gains = layer_sets.gain_of_keeping(searched)
    assert len(gains) == 2 * 2 * DEPTH  # seeds, sizes, layers
    means = gains.groupby(["removed", "layer"])["gain"].mean().unstack("layer")
    # Without one layer of three: keeping layer 0 is losing 1 or 2 instead of 0.
    one = [(0.85 + 0.6) / 2 - 0.8, (0.8 + 0.6) / 2 - 0.85, (0.8 + 0.85) / 2 - 0.6]
    two = [0.55 - 0.6, 0.5 - 0.625, 0.7 - 0.525]
    assert means.loc[1].tolist() == pytest.approx(one)
    assert means.loc[2].tolist() == pytest.approx(two)
    finding = layer_sets.kept_layers(searched).finding
    assert "first layer gains −7.5 pp of one removal and −5.0 of the last" in finding


@pytest.mark.parametrize(
    "changed, verdict",
    [
        # Without layer 1 both ends stay; without 0 the last alone; without 2 the first.
        ({}, "supported"),
        ({(0,): 0.9}, "partly"),
        ({(0,): 0.9, (2,): 0.9}, "not supported"),
    ],
)
def test_c5_asks_of_each_end_among_the_sets_that_keep_the_other(
    searched, changed, verdict
):
    accuracies = {(0,): 0.8, (1,): 0.85, (2,): 0.6, **changed}
    nodes = searched.nodes.copy()
    for gone, accuracy in accuracies.items():
        path = PruningPath.from_the_top(gone).name
        nodes.loc[nodes["path"] == path, "test_accuracy"] = accuracy
    results = replace(searched, nodes=nodes)
    answer = ends_are_worth_keeping(Evidence(results))
    assert answer.verdict == verdict
    # One layer keeps one end: both can be kept with one removal alone.
    assert "layers removed: 1; on t" in answer.note
    first = 100 * (0.85 - accuracies[0,])
    last = 100 * (0.85 - accuracies[2,])
    assert answer.ours == pytest.approx(min(first, last))
    table = layer_sets.ends_kept(results).set_index(["what", "removed"])
    assert table.loc[(layer_sets.FIRST_END, 1), "value"] == pytest.approx(first)
    assert table.loc[(layer_sets.LAST_END, 1), "value"] == pytest.approx(last)
    both = table.loc[(layer_sets.BOTH_ENDS, 1)]
    others = (accuracies[0,] + accuracies[2,]) / 2
    assert both["value"] == pytest.approx(100 * (0.85 - others))
    assert (both["ahead"], both["datasets"]) == (int(both["value"] > 0), 1)


def test_c5_names_the_main_effects_that_it_measured_before(searched):
    note = ends_are_worth_keeping(Evidence(searched)).note
    # Of one removal, keeping layer 0 is losing 1 or 2 instead: .725 against .81.
    assert "as main effects, whatever the set keeps else, −7.5" in note
    assert note.count("partly") == 1


def test_the_forest_is_compared_with_all_orders(searched):
    table = controls.all_orders(searched).table.set_index(["contrast", "measure"])
    # With two of three removed, the set (0, 1) against all three sets.
    title = "Own forest against all orders"
    mean = (0.7 + 0.5 + 0.55) / 3
    half = table.loc[(title, "half_removed"), "difference"]
    assert half == pytest.approx(0.7 - mean)
    keeps_last = table.loc[(f"{title} that keep the last layer", "half_removed")]
    assert keeps_last["difference"] == pytest.approx(0)


def test_gains_by_surviving_layer_pair_the_forest_with_each_random_order(searched):
    rows = []
    for seed, (removed, path) in product((0, 1), enumerate(("", "0", "0-2"))):
        rows.append(("t", seed, "random-0", removed, path))
    visits = pd.DataFrame(rows, columns=searched.trajectories.columns)
    nodes = searched.nodes
    extra = nodes[nodes["path"] == "2-0"].assign(path="0-2", test_accuracy=0.5)
    both = replace(
        searched,
        trajectories=pd.concat([searched.trajectories, visits]),
        nodes=pd.concat([nodes, extra]),
    )
    gains = controls.gains_by_surviving_layer(both)
    assert gains["layer"].tolist() == [1, 1]
    # The forest removes 1, then 0; the order 0, then 2.
    first = (0.85 + 0.7) / 2 - (0.8 + 0.5) / 2
    assert gains["gain"].tolist() == pytest.approx([first, first + 0.01])
    shown = controls.surviving_layer(both)
    assert "layer 1, +13.0" in shown.finding


RECOVERY = 3 * 100 * 1e9 / 1e12
PASS = 3 * 10 * 1e9 / 1e12
TRIAL = (3 * 100 + 20) * 1e9 / 1e12


def test_compute_costs_count_what_a_user_would_run(searched):
    table = costs.compute_costs(searched)
    parts = table[["training", "signals", "labels"]].T
    path = RECOVERY * (2 + 1)  # with two layers left, then one
    passes = PASS * (3 + 2)  # with three layers left, then two
    assert parts["top-first"].tolist() == pytest.approx([path, 0, 0])
    assert parts["energy"].tolist() == pytest.approx([path, passes, 0])
    # Three children with two layers left, then two with one.
    assert parts["greedy-oracle"].tolist() == pytest.approx(
        [0, 0, TRIAL * (3 * 2 + 2 * 1)]
    )
    # The orders that teach: 2, 2-1, 0, 0-1, 1, 1-0.
    labels = TRIAL * (2 + 1) * 3
    # Their parents with two layers left are asked too; the original is on its own path.
    asked = passes + PASS * 2 * 3
    assert parts["random-forest"].tolist() == pytest.approx([path, asked, labels])
    assert table.loc["top-first", "times"] == 1
    times = (path + asked + labels) / path
    assert table.loc["random-forest", "times"] == pytest.approx(times)
    # The one signal that was followed is the best: its path is tried, its models asked.
    assert parts["best-single"].tolist() == pytest.approx([0, passes, TRIAL * (2 + 1)])
    # Of 1 removed .85 against .6, of 2 removed .7 against .55.
    gains = table.loc[["random-forest", "best-single"], "gain"]
    assert gains.tolist() == pytest.approx([100 * (0.25 + 0.15) / 2] * 2)
    shown = costs.overhead(searched)
    assert f"a forest learned in the dataset costs {times:.1f};" in shown.finding
    assert shown.figure is not None


def lose(task, seed, label, removed):
    """The transferred forest loses a point a layer, every other strategy two."""
    loss = 0.01 if label == "random-forest-transfer" else 0.02
    return 0.9, 0.8 - removed * loss - 0.005 * seed


@pytest.fixture(scope="module")
def losing():
    return tiny.make_results(lose)


def test_the_cost_of_depth_is_that_of_the_strategy(losing):
    table = costs.cost_of_depth(losing, "random-forest-transfer")
    assert table.index.tolist() == [tiny.WIDE - 1, tiny.WIDE - 2]
    for column in ("points", "low"):  # all units lose the same
        assert table[column].tolist() == pytest.approx([-1.0, -2.0])
    left = tiny.sizes_of(tiny.WIDE - 2)["parameters"]
    share = left / tiny.sizes_of(tiny.WIDE)["parameters"]
    assert table["parameters"].iloc[1] == pytest.approx(share)
    # By default of the order that compressing follows.
    assert costs.cost_of_depth(losing)["points"].tolist() == pytest.approx([-2, -4])


def test_a_study_without_a_strategy_says_so():
    embedded = open_results("embedded")
    with pytest.raises(StudyLacks, match="middle first"):
        costs.cost_of_depth(embedded)
    with pytest.raises(StudyLacks, match="middle first"):
        costs.strategies_ranked(embedded, costs.DEFAULT_ORDER)
    found = costs.overhead(open_results("nine-rate"))
    assert found.finding.startswith("*Not shown: this study has no removals by")


def test_strategies_are_ranked_against_random_orders(losing):
    table = costs.strategies_ranked(losing)
    assert table.index[0] == "random-forest-transfer"
    ranked = [name for name, one in STRATEGIES.items() if one.group != "control"]
    assert set(table.index) == set(ranked) - {"random"}
    # The mean of one point and two ahead; the others lose as much as random orders.
    assert table["points"].tolist() == pytest.approx([1.5] + [0.0] * (len(table) - 1))
