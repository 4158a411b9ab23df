"""Exhibits of twelve layers, other settings, compressing and its alternatives."""

from dataclasses import replace

import pandas as pd
import pytest
import tiny

from sfusion.analysis import (
    alternatives,
    compressing,
    defaults,
    settings,
    twelve_layers,
)
from sfusion.analysis.contrasts import CONTRASTS, contrasts_of_two
from sfusion.experiments.results import RowResults
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import DEFAULT_STRATEGY


def favour(best, gain=0.1):
    """Make a study in which one strategy is ahead of all others."""

    def score(task, seed, label, removed):
        lead = gain if label == best else 0.0
        return 0.9, 0.9 - 0.2 * removed + lead * removed + 0.005 * seed

    return tiny.make_results(score)


def at_rate(results, name, rate, **profile):
    recovery = {"samples": 2000, "learning_rate": rate}
    given = {"name": name, "model": "m", "original": {}, "recovery": recovery}
    return replace(results, manifest={"profile": given | profile})


@pytest.fixture(scope="module")
def forest_leads():
    return favour("random-forest")


def test_strategies_are_ranked_by_what_is_left_of_the_original(forest_leads):
    shown = twelve_layers.half_removed(forest_leads)
    # Half of so many layers is nearest at two removals: .4 lost, of the forest .2.
    assert shown.table["pp"].iloc[[0, -1]].tolist() == pytest.approx([-20, -40])
    assert shown.table.index[0] == "random-forest"
    assert "The own forest takes place 1 of" in shown.finding


def test_both_measures_rank_the_strategies(forest_leads):
    shown = twelve_layers.half_removed(forest_leads)
    # Of one and two removals .2 and .4 are lost, of the forest half.
    assert shown.table.loc["random-forest", "mean"] == pytest.approx(-15)
    assert shown.table.loc["energy", "mean"] == pytest.approx(-30)
    assert "by the mean over depths place 1 of" in shown.finding


def test_a_comparison_is_asked_again_in_other_ways():
    leads = {"t": 0.01, "u": 0.02, "v": 0.06}

    def score(task, seed, label, removed):
        lead = leads[task] if label == "random-forest-transfer" else 0.0
        return 0.5, 0.5 + lead * (2 if removed == 2 else -1)

    shown = twelve_layers.fragile(tiny.make_results(score))
    table = shown.table
    every = "bootstrap over datasets, seeds and texts"
    assert table.loc[every, "pp"] == pytest.approx(6)
    assert table.loc[every, "low"] > 0
    # Means of .02, .04 and .12: a standard error of .0306, of two degrees of freedom.
    student = table.loc["Student's interval over datasets"]
    assert student["pp"] == pytest.approx(6)
    assert student["high"] == pytest.approx(6 + 4.30265 * 3.05505, abs=1e-3)
    assert table.loc["bootstrap without v", "pp"] == pytest.approx(3)
    assert table.loc["mean over depths, bootstrap", "pp"] == pytest.approx(1.5)
    assert "ahead on 3 of 3 datasets, exact sign test p = 0.250" in shown.finding


def test_the_last_removals_say_which_layers_are_left():
    # Three layers: the forest loses the last one first, the middle first keeps it.
    orders = {"random-forest": (2, 1), "middle-first": (1, 0)}
    nodes = [{"path": "", "removed": 0, "test_accuracy": 0.9}]
    visits = []
    for accuracy, (name, order) in zip((0.4, 0.7), orders.items(), strict=True):
        for removed in range(3):
            path = PruningPath.of(*order[:removed]).name
            visits.append({"strategy": name, "removed": removed, "path": path})
            if removed:
                left = accuracy - 0.1 * removed
                nodes.append({"path": path, "removed": removed, "test_accuracy": left})
    unit = {"task": "t", "seed": 0}
    sizes = dict.fromkeys(["parameters", "encoder_parameters", "flops"], 1)
    seconds = dict.fromkeys(["training", "evaluation", "extraction"], 0.0)
    frame = pd.DataFrame(nodes).assign(**unit, **sizes, **seconds)
    frame["layers"] = 3 - frame["removed"]
    frame["validation_accuracy"] = 0.5
    results = replace(
        tiny.make_results(lambda *_: (0.5, 0.5)),
        tasks=pd.DataFrame([{**unit, "test": 10, "validation": 10}]),
        nodes=frame,
        trajectories=pd.DataFrame(visits).assign(**unit),
    )
    shown = twelve_layers.collapse(results)
    forest = shown.table.loc["random-forest"]
    assert forest["accuracy"].to_dict() == pytest.approx({0: 90, 1: 30, 2: 20})
    assert forest["last"].tolist() == [1, 0, 0]
    assert shown.table.loc[("middle-first", 2), "last"] == 1
    assert "with 2 removed it is behind by 30.0 pp" in shown.finding
    assert "layer 0 on 1 of 1 models" in shown.finding


def test_a_contrast_that_changes_sides_between_two_studies_is_named(forest_leads):
    studies = {"a": forest_leads, "b": favour("random-forest", gain=-0.1)}
    shown = contrasts_of_two("sides", studies, {"random": CONTRASTS["random"]})
    assert shown.finding.endswith(f"{CONTRASTS['random'].title}.")
    # A tenth for each removed layer: half are two, the mean is of one and two.
    assert shown.shown.to_numpy().tolist()[0] == [
        "ahead by 20.0 pp [20.0, 20.0]",
        "ahead by 15.0 pp [15.0, 15.0]",
        "behind by 20.0 pp [20.0, 20.0]",
        "behind by 15.0 pp [15.0, 15.0]",
    ]
    assert list(shown.shown) == [
        "a, half of the layers removed",
        "a, mean over depths",
        "b, half of the layers removed",
        "b, mean over depths",
    ]
    lacking = twelve_layers.side_by_side(forest_leads, forest_leads)
    assert lacking.finding == "*Not shown: this study has the same model.*"


def test_the_rate_moves_what_it_moves(forest_leads):
    slow = at_rate(forest_leads, "slow", 3e-5)
    fast = at_rate(favour(None), "fast", 1e-4)
    shown = settings.rate_contrasts(slow, fast)
    assert set(shown.table["study"]) == {"recovery at 3e-05", "recovery at 0.0001"}
    assert "- Own forest against random order: −20.0 [−20.0, −20.0] pp" in shown.finding
    assert "3e-05, minus the original: Own forest −20.0;" in shown.finding
    other = at_rate(forest_leads, "other", 1e-4, model="another")
    assert settings.rate_contrasts(slow, other).table.empty


def recipe_rows():
    """Two doses: the first harms by itself, the second does not and restores less."""
    rows = []
    accuracies = {
        (640, 3e-4): {"": 0.8, "x-x-x-x-x": 0.7, "1-2-3": 0.75},
        (2000, 1e-4): {"": 0.8, "x-x-x-x-x": 0.8, "1-2-3": 0.7},
    }
    for (samples, rate), paths in accuracies.items():
        for path, accuracy in paths.items():
            dose = {"samples": samples, "learning_rate": rate}
            rows.append({**dose, "path": path, "validation_accuracy": accuracy})
    same = {"model": "m", "stage": "recovery", "task": "t", "seed": 0}
    same |= {"head_rate": 1.0, "dropout": False, "freeze_embeddings": True}
    return RowResults({"rows": pd.DataFrame(rows).assign(**same)}, {})


def test_the_best_recovery_is_one_that_harms_nothing(forest_leads):
    used = at_rate(forest_leads, "used", 3e-4)
    shown = settings.recovery(used, used, recipe_rows())
    rows = shown.table.set_index(["lost", "samples"])
    assert rows.loc[("nothing", 640), "after 5"] == pytest.approx(-10)
    assert rows.loc[("a layer each", 2000), "after 3"] == pytest.approx(-10)
    assert "by themselves, 2,000 samples at 0.0001 leave most" in shown.finding
    assert settings.original_recipe(used, recipe_rows()).table.empty


def test_strategies_of_a_compression_are_compared_with_the_default_order(forest_leads):
    table = compressing.strategies(forest_leads).table
    assert table.loc["random-forest", "points_paired"] == pytest.approx(15)
    visits = forest_leads.trajectories
    kept = visits[visits["strategy"] != "middle-first"]
    without = compressing.strategies(replace(forest_leads, trajectories=kept))
    assert without.table["points_paired"].isna().all()
    assert without.table.loc["random-forest", "points"] == pytest.approx(15)
    lacking = compressing.layers_to_keep(replace(forest_leads, trajectories=kept))
    assert "this study has no removals by" in lacking.finding


def alternative(name, layers, accuracy, model="minilm-l6", form="torch"):
    """A row of the study `alternatives`, one text of ten per tenth right."""
    bits = int("1" * round(10 * accuracy) + "0" * (16 - round(10 * accuracy)), 2)
    return {
        "model": model,
        "task": "t",
        "seed": 0,
        "alternative": name,
        "layers": layers,
        "format": form,
        "megabytes": 10.0 * layers,
        "seconds": 60.0,
        "validation_accuracy": accuracy,
        "test_accuracy": accuracy,
        "test_correct": bits.to_bytes(2, "big"),
    }


def test_the_small_model_is_an_alternative_to_the_large_one():
    rows = [
        alternative("original", 6, 0.8),
        alternative("compress", 3, 0.8),
        alternative("original, trained longer", 6, 0.9),
        alternative("original", 12, 0.9, "mpnet-base"),
        alternative("compress", 2, 0.7, "mpnet-base"),
        alternative("TF-IDF", 0, 0.6, "mpnet-base", "sklearn"),
    ]
    times = [("minilm-l6", "transformer", 6, 4.0), ("minilm-l6", "transformer", 3, 2.0)]
    times += [("mpnet-base", "transformer", n, 2.0 * n) for n in (2, 12)]
    times.append(("mpnet-base", "TF-IDF", 0, 1.0))
    columns = ["model", "alternative", "layers", "median"]
    speed = pd.DataFrame(times, columns=columns).assign(
        format=["torch"] * 4 + ["sklearn"], batch=1, processor="p", threads=1
    )
    speed = pd.concat([speed, speed.assign(batch=32)])
    found = RowResults({"accuracy": pd.DataFrame(rows), "speed": speed}, {})
    shown = alternatives.alternatives(found)
    large = shown.table[shown.table["model"] == "mpnet-base"].set_index("alternative")
    # As fast as compress with two layers, and more accurate.
    assert large["ms_1"].to_dict() == {
        "TF-IDF": 1, "compress": 4, "minilm-l6": 4, "original": 24
    }  # fmt: skip
    assert large.loc["minilm-l6", "change"] == pytest.approx(-10)
    assert "TF-IDF (scikit-learn, 1.0 ms), minilm-l6 (6 layers," in shown.finding
    pairs = alternatives.like_for_like(found).table
    assert pairs["difference"].tolist() == pytest.approx([-0.1, -0.1])


def test_the_order_of_rows_says_nothing_about_a_distillation():
    steps = {(0, 0): 0.5, (0, 75): 0.6, (0, 100): 0.7, (50, 100): 0.9}
    rows = pd.DataFrame(
        {**alternative("x", 3, accuracy), "texts": texts, "samples": samples}
        for (texts, samples), accuracy in steps.items()
    )
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        found = RowResults({"unlabelled": rows.iloc[order]}, {})
        table = defaults.unlabelled(found).table
        assert table["difference"].tolist() == pytest.approx([0.3, 0.2])


def test_the_default_is_compared_on_validation_where_it_was_chosen():
    forest = "one-shot-random-forest-other-model"
    twelve = tiny.make_results(
        lambda task, seed, label, removed: (
            0.9 - 0.1 * removed * (label == forest) - 0.05 * removed,
            0.5,
        )
    )
    names = ["original", "compress", "compress, random-forest"]
    names.append("compress, one-shot-random-forest")
    rows = pd.DataFrame(
        alternative(name, 3, accuracy)
        for name, accuracy in zip(names, [0.9, 0.8, 0.7, 0.5], strict=True)
    )
    found = RowResults({"accuracy": rows, "defaults": rows}, {})
    table = defaults.chosen(twelve, found).table
    assert DEFAULT_STRATEGY in set(twelve.trajectories["strategy"])
    assert table["difference"].tolist()[:3] == pytest.approx([0.3, 0.1, 0.2])
    assert defaults.by_dataset(found).table.loc["t"].tolist() == pytest.approx(
        [90, 70, 80, -10]
    )
