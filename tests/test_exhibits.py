"""Exhibits: how they are shown and saved, and those of the first four notebooks."""

from dataclasses import replace
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import tiny
from matplotlib.figure import Figure

import sfusion as sf
from sfusion.analysis import (
    directions,
    exhibits,
    overview,
    pruning_step,
    rankings,
    sweeps,
)
from sfusion.analysis.exhibits import Exhibit, StudyLacks, in_plain_words
from sfusion.pruning.path import PruningPath
from sfusion.signals import MEASURES, PAPER_SIGNALS, SIGNALS

NAMES = list(SIGNALS)


# --- showing and saving


@pytest.fixture
def shown(monkeypatch):
    """Collect what is displayed, and forget the folders afterwards."""
    monkeypatch.setattr(exhibits, "_folders", exhibits._Folders())
    displayed = []
    monkeypatch.setattr(
        "IPython.display.display", lambda one, metadata: displayed.append(one)
    )
    return displayed


def test_an_exhibit_is_shown_in_order_and_saved_where_its_kind_goes(shown, tmp_path):
    table = pd.DataFrame({"value": [1 / 3], "test_correct": [b"x"]})
    look = {"finding": "It *holds*.", "caption": "One value"}
    drawn = Exhibit("drawn", table, figure=Figure(), **look)
    sf.show(drawn)
    assert not list(tmp_path.iterdir())
    sf.save_to(tmp_path / "figures", tmp_path / "tables")
    shown.clear()
    sf.show(drawn)
    assert shown[0] is drawn.figure
    assert [text.data for text in shown[1:]] == ["*One value*", "It *holds*."]
    files = sorted(file.name for file in (tmp_path / "figures").iterdir())
    assert files == ["drawn.csv", "drawn.pdf", "drawn.png"]
    # Six digits, without the bits, and without an index that says nothing.
    assert (tmp_path / "figures" / "drawn.csv").read_text() == "value\n0.333333\n"
    read = table[["value"]].rename_axis("row")
    sf.show(Exhibit("table", read, shown=read))
    assert (tmp_path / "tables" / "table.csv").read_text() == "row,value\n0,0.333333\n"


def test_what_a_study_lacks_is_said_and_nothing_is_written(shown, tmp_path):
    @exhibits.exhibit
    def lacking():
        """Never there."""
        raise StudyLacks("this study distils nothing")

    sf.save_to(tmp_path, tmp_path)
    sf.show(lacking())
    assert [text.data for text in shown] == ["*Not shown: this study distils nothing.*"]
    assert not list(tmp_path.iterdir())


# --- signals over the layers


def signals_of(seed=0, path="", **columns):
    """Make the signals of a model of three layers; all grow along them unless given."""
    values = pd.DataFrame(dict.fromkeys(MEASURES, [1, 2, 3]))
    for name, given in columns.items():
        values[name.replace("_", "-")] = given
    return values.assign(task="t", seed=seed, path=path, layer=range(3))


def study_of(*parts):
    """Make a study that has signals alone."""
    signals = pd.concat(parts, ignore_index=True)
    return SimpleNamespace(signals=signals, depth=3)


# The signals of a pruned model are no part of any exhibit.
UNITS = study_of(
    signals_of(),
    signals_of(seed=1, energy=[30, 20, 10]),
    signals_of(path="3", weight_norm=[2, 5, 1]),
)


def test_correlations_of_signals_turn_those_that_remove_the_highest():
    study = study_of(signals_of(attention_entropy=[9, 8, 7], energy=[1, 3, 2]))
    table = rankings.signal_correlation(study).table
    assert list(table) == list(table.index) == NAMES
    assert table.loc["weight-norm", "attention-entropy"] == pytest.approx(1)
    # Ranks 1, 2, 3 against 1, 3, 2: 1 - 6 * 2 / (3 * 8).
    assert table.loc["weight-norm", "energy"] == pytest.approx(0.5)
    np.testing.assert_allclose(np.diag(table), 1)
    np.testing.assert_allclose(table, table.T)


def test_correlations_are_averaged_over_units_and_read_roots_alone():
    found = rankings.signal_correlation(UNITS)
    assert found.table.loc["weight-norm", "energy"] == pytest.approx(0)
    assert found.table.loc["weight-norm", "intensity"] == pytest.approx(1)
    # Attention-Entropy grows like the others, but its highest layer goes first.
    assert "most opposed: Attention-Entropy and Inhibition (−1.00)" in found.finding
    assert "correlation of 0.00" in rankings.paper_and_we(UNITS).finding


def test_standardised_signals_are_averaged_over_seeds():
    found = rankings.signal_profile(UNITS)
    values = found.table.pivot(index="layer", columns="signal", values="value")
    assert values.shape == (3, len(NAMES))
    np.testing.assert_allclose(values["weight-norm"], [-np.sqrt(1.5), 0, np.sqrt(1.5)])
    np.testing.assert_allclose(values["energy"], 0, atol=1e-15)
    every = f"{len(NAMES)} of {len(NAMES)}"
    assert found.finding.startswith(f"{every} signals are extreme at the first")


def test_a_study_without_signals_of_its_originals_says_so():
    pruned = study_of(signals_of(path="3"))
    for show in (rankings.signal_profile, rankings.signal_correlation):
        assert show(pruned).finding.startswith("*Not shown: this study has no signals")


@pytest.mark.parametrize(
    "matrix, count",
    [(np.eye(4), 4), (np.ones((4, 4)), 1), (np.kron(np.eye(2), np.ones((3, 3))), 2)],
)
def test_effective_signals_are_counted(matrix, count):
    assert rankings.effective_signals(matrix) == pytest.approx(count)
    both = rankings.effective_signals(np.stack([matrix, matrix]))
    np.testing.assert_allclose(both, count)


def test_a_signal_that_is_the_same_in_all_layers_orders_nothing():
    study = study_of(signals_of(energy=[2, 2, 2]))
    found = rankings.signal_correlation(study).finding
    assert f"The {len(NAMES)} signals of a model carry about 1.0 independent" in found


def test_every_measure_is_defined():
    assert list(rankings.definitions(UNITS).table.index) == list(MEASURES)


def test_every_signal_of_the_paper_has_a_card():
    assert set(rankings.CARDS) == set(PAPER_SIGNALS)
    for card in rankings.CARDS.values():
        assert set(card) == {"tex", "idea", "low", "fools"}
        assert card["tex"].count("{") == card["tex"].count("}")


# --- one step


def test_a_step_says_who_names_which_layer_and_what_that_costs():
    names = pd.Series(0, index=PAPER_SIGNALS)
    names["energy"] = 2
    right = pd.DataFrame({"without": [30, 10], "recovered": [36, 20]}, index=[0, 2])
    signals = signals_of()[NAMES]
    step = pruning_step.Step(signals, names, 40, 38, right.rename_axis("layer"))
    bars = pruning_step.signals(step)
    named = bars.table[bars.table["removed"]].set_index("signal")["layer"]
    assert named.to_dict() == names.to_dict()
    assert "2 different layers" in bars.finding
    assert "- layer 2: Energy." in bars.finding
    table = pruning_step.accuracies(step).table
    assert table["accuracy"].tolist() == [75.0, 90.0, 25.0, 50.0]
    assert (table["low"] < table["accuracy"]).all()
    assert "12 of the twelve" in pruning_step.paper_and_we(step).finding


# --- sweeps


LEAD = {"energy": 0.1, "weight-norm": -0.1}


def score(task, seed, label, removed):
    lead = LEAD.get(label, 0.0) * removed
    return 0.7 + lead, 0.8 + lead - 0.1 * removed + 0.01 * seed


@pytest.fixture(scope="module")
def results():
    return tiny.make_results(score)


def test_curves_are_averaged_over_datasets_or_stand_apart(results):
    found = sweeps.accuracy_by_depth(results)
    energy = found.table[found.table["name"] == "energy"]
    row = energy[(energy["removed"] == 2) & (energy["seed"] == 1)].iloc[0]
    assert row["task"] == "mean over 3 datasets"
    original = 100 * results.nodes.query("path == '' and seed == 1")["test_accuracy"]
    assert row["change"] == pytest.approx(81 - original.mean())
    assert ", 1 are ahead of random orders" in found.finding
    assert "1 are behind: Weight-Norm (" in found.finding
    apart = sweeps.accuracy_by_dataset(results).table
    assert set(apart["task"]) == set("tuv")
    assert len(apart) > 2 * len(found.table)


def test_a_study_without_random_orders_is_not_ranked(results):
    visits = results.trajectories
    is_random = visits["strategy"].isin(["random-0", "random-1"])
    cut = replace(results, trajectories=visits[~is_random])
    for show in (
        sweeps.accuracy_by_depth,
        sweeps.removal_order,
        sweeps.leads_over_random,
    ):
        assert "Not shown: this study has no random orders" in show(cut).finding


@pytest.mark.parametrize(
    "paths, steps",
    [
        (["", "2", "2-0"], {2: 1, 0: 2, 1: 3, 3: 4}),
        (["", "1", "1-2"], {1: 1, 2: 2, 0: 3}),
    ],
)
def test_removal_orders_by_hand_end_with_the_layers_that_stay(paths, steps):
    columns = {"task": "t", "seed": 0, "strategy": "energy", "name": "energy"}
    layers = [len(steps) - removed for removed in range(3)]
    frame = pd.DataFrame({"path": paths, "removed": range(3), "layers": layers})
    table = sweeps.removal_orders(frame.assign(**columns))
    assert dict(zip(table["layer"], table["step"], strict=True)) == steps
    assert set(table["strategy"]) == set(table["name"]) == {"energy"}


def test_what_is_lost_is_read_by_the_layer_that_survives(results):
    assert "does not prune down to one layer" in sweeps.surviving_layer(results).finding
    labels = ("energy", "top-first")
    study = tiny.make_results(score, tasks=("t",), seeds=(0,), labels=labels)
    names = {"": ""}
    for label, path in zip(labels, ("0-1", "2-1"), strict=True):
        names[tiny.path_of(label, 1)] = path[0]
        names[tiny.path_of(label, 2)] = path
    nodes = study.nodes.assign(path=study.nodes["path"].map(names))
    visits = study.trajectories
    small = replace(
        study,
        nodes=nodes.assign(layers=3 - nodes["removed"]),
        trajectories=visits.assign(path=visits["path"].map(names)),
    )
    found = sweeps.surviving_layer(small)
    assert found.table["change"].to_dict() == pytest.approx({0: -20, 2: 0})
    assert found.table["paths"].to_dict() == {0: 1, 2: 1}
    assert "layer 0: −20.0" in found.finding


def test_the_highest_accuracy_names_the_best_signals(results):
    table = sweeps.best_signals(results)
    assert set(table.shown["best single signal"]) == {"Energy"}
    assert table.table.loc["energy", "t"] == pytest.approx(80.5)
    # Energy gains with every removal, all others lose: their maxima come first.
    found = sweeps.where_maxima_lie(results)
    assert "of the maxima are reached after one removal" in found.finding
    assert found.table["percent"].sum() == pytest.approx(100)
    assert found.table["percent"].is_monotonic_decreasing


def test_what_was_run_is_counted(results):
    found = overview.originals(results)
    visits = int((results.trajectories["removed"] > 0).sum())
    assert f"{len(results.nodes)} models trained for {visits} steps" in found.finding
    assert "beats TF-IDF in 6 of 6 runs" in found.finding


# --- directions


def follow(order, names):
    """List where strategies stand that remove the layers in this order."""
    steps = [PruningPath.of(*order[:removed]) for removed in range(1, 6)]
    rows = [(name, len(path), path.name) for name in names for path in steps]
    frame = pd.DataFrame(rows, columns=["strategy", "removed", "path"])
    return frame.assign(task="t", seed=0)


def test_a_reversed_signal_is_compared_by_the_sets_that_it_leaves():
    nodes = []
    for removed in range(6):
        for gone in combinations(range(6), removed):
            accuracy = 0.9 - 0.01 * sum(gone)  # high layers matter
            path = PruningPath.from_the_top(gone).name
            nodes.append((path, removed, 6 - removed, accuracy, accuracy, 0, 0, 0))
    accuracies = ["validation_accuracy", "test_accuracy"]
    seconds = ["training", "evaluation", "extraction"]
    columns = ["path", "removed", "layers", *accuracies, *seconds]
    study = replace(
        tiny.make_results(score, tasks=("t",), seeds=(0,)),
        nodes=pd.DataFrame(nodes, columns=columns).assign(task="t", seed=0),
        trajectories=follow([5, 4, 3, 2, 1], [*NAMES, "random-forest"]),
    )
    turned = [f"reversed-{name}" for name in NAMES]
    candidates = {"paths": follow([0, 1, 2, 3, 4], turned)}
    found = directions.reversed_signals(study, candidates)
    half = found.table[found.table["measure"] == "half_removed"]
    # Layers 3 + 4 + 5 went as declared, 0 + 1 + 2 turned round.
    assert half["difference"].tolist() == pytest.approx([0.09] * len(NAMES))
    assert "- ahead: Inhibition, Intensity" in found.finding
    assert "1 to 1 of 1" in found.finding
    rivals = directions.forest_against_signals(study, candidates).table
    assert rivals["difference"].tolist() == pytest.approx([0, -0.09])


def test_a_table_is_read_in_plain_words_with_true_minus_signs():
    table = pd.DataFrame(
        {"learning_rate": [3e-05, 0.1], "change": [-1.25, 0.5]},
        index=pd.Index(["a", "b"], name="task"),
    )
    shown = in_plain_words(table)
    assert shown.index.name == "dataset"
    assert list(shown.columns) == ["learning rate", "change"]
    assert shown["change"].tolist() == ["−1.25", "0.5"]
    assert shown["learning rate"].tolist() == [3e-05, 0.1]
    assert table.index.name == "task"
