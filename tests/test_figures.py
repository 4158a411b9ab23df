"""Figures on fabricated results of the real shape: few and many tasks, one seed and several."""

import functools
import itertools
import os
import subprocess
import sys
import warnings
import zlib

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sfusion import SfusionError
from sfusion.analysis import figures as plots
from sfusion.analysis.claims import CLAIMS, judge, ratio_readings, scoreboard
from sfusion.analysis.costs import compute_costs
from sfusion.analysis.statistics import across, contrasts
from sfusion.analysis.tables import (
    curves,
    distilled,
    protocols,
    regret,
    removal_orders,
    signal_correlations,
    standardised_signals,
)
from sfusion.pruning.strategies import STRATEGIES, expand
from sfusion.pruning.tree import CONDITIONS
from sfusion.records.results import Results
from sfusion.signals import SIGNALS

NINE = ("newsgroup", "dbpedia", "arxiv", "patent", "yahoo", "yelp", "agnews", "imdb", "amazon")


def _rng(*words):
    return np.random.default_rng(zlib.crc32(repr(words).encode()))


def _node(task, seed, order, layers):
    best = _rng(task).uniform(0.5, 0.95)
    cost = sum(0.02 + 0.1 * abs(layer / (layers - 1) - 0.5) for layer in order)
    noise = _rng(task, seed, order).normal(0, 0.012, 2)
    validation, test = np.clip(best - cost * 6 / layers + noise, 0.05, 1)
    encoder = 1_774_464 * (layers - len(order))
    return {
        "task": task,
        "seed": seed,
        "path": "-".join(map(str, order)),
        "removed": len(order),
        "validation_accuracy": validation,
        "test_accuracy": test,
        "training": 1.0,
        "evaluation": 0.4,
        "extraction": 0.8,
        "layers": layers - len(order),
        "parameters": 12_067_972 + encoder,
        "encoder_parameters": encoder,
        "flops": 114_868_736 * (layers - len(order)) + 295_680,
    }


def make_results(tasks, seeds, layers=6, draws=5):
    """Fabricate what a study finds, with every strategy and every depth."""
    nodes, signals, trajectories, conditions = {}, [], [], []
    for task in tasks:
        for seed in range(seeds):
            for place in range(layers):
                at = {"task": task, "seed": seed, "path": "", "layer": place}
                drawn = _rng(task, seed, place).normal(place, 2, len(SIGNALS))
                signals.append(at | dict(zip(SIGNALS, drawn, strict=True)))
            for label in expand(STRATEGIES, draws):
                order = _rng(task, seed, label).permutation(layers)
                if label.startswith(("random-forest", "linear")):
                    order = np.argsort(abs(np.arange(layers) - layers / 2 + _rng(label).random()))
                for removed in range(layers):
                    node = _node(task, seed, tuple(order[:removed].tolist()), layers)
                    nodes[task, seed, node["path"]] = node
                    visit = {"strategy": label, "removed": removed, "path": node["path"]}
                    trajectories.append({"task": task, "seed": seed} | visit)
                    if label != "random-forest":
                        continue
                    for condition in CONDITIONS:
                        if condition.startswith("original") == (removed == 0):
                            keys = ("task", "seed", "path", "removed", "validation_accuracy")
                            more = 0.02 * (condition == "distilled") + 0.01
                            more += _rng(condition, task, seed, removed).normal(0, 0.006)
                            taught = {"condition": condition, "test_accuracy": node["test_accuracy"] + more}
                            conditions.append({key: node[key] for key in keys} | taught)
            if task == tasks[0] and layers == 6:
                for removed in range(1, layers):
                    for gone in itertools.combinations(reversed(range(layers)), removed):
                        node = _node(task, seed, gone, layers)
                        nodes[task, seed, node["path"]] = node
    pool = [
        {"task": task, "seed": seed, "classes": 4, "validation": 500, "test": 1000}
        | {"tfidf_accuracy": _rng(task).uniform(0.4, 0.6)}
        for task in tasks
        for seed in range(seeds)
    ]
    frames = map(pd.DataFrame, (pool, list(nodes.values()), signals, trajectories, conditions))
    searched = {"subsets": tasks[:1], "recovery": {"samples": 640}, "sizes": {"probe": 128}}
    return Results(*frames, manifest={"profile": searched})


def _by_signal(task, **columns):
    rng = _rng("fusion", task)
    drawn = {name: spread * rng.normal(size=len(SIGNALS)) for name, spread in columns.items()}
    return pd.DataFrame({"signal": list(SIGNALS), **drawn})


def make_drawings(results):
    """List every figure as (name, function, frame, further arguments)."""
    frame, tasks = curves(results), list(dict.fromkeys(results.tasks["task"]))
    table, orders, taught = protocols(frame), removal_orders(frame), distilled(results)
    models = ["Linear regression", "Random forest"]
    weights = [_by_signal(m, importance=0.3).assign(fusion=m, spread=0.05) for m in models]
    fits = [_by_signal(task, coefficient=0.02).assign(task=task) for task in tasks]
    observed = _rng("observed").normal(-0.03, 0.03, 150)
    guesses = [pd.DataFrame({"fusion": m, "observed": observed, "predicted": _guess(m, observed)}) for m in models]
    return [
        ("signal_profile", plots.signal_profile, standardised_signals(results), {}),
        ("signal_correlation", plots.signal_correlation, signal_correlations(results), {}),
        ("accuracy_by_depth", plots.accuracy_by_depth, frame, {"tasks": results.tasks}),
        ("accuracy_by_depth_all", plots.accuracy_by_depth, frame, {"tasks": results.tasks, "by_task": True}),
        ("maximum_accuracy", plots.maximum_accuracy, table, {}),
        ("removal_order", plots.removal_order, orders, {}),
        ("fusion_importance", plots.fusion_importance, pd.concat(weights), {}),
        ("fusion_coefficients", plots.fusion_coefficients, pd.concat(fits), {}),
        ("fusion_fit", plots.fusion_fit, pd.concat(guesses), {}),
        ("distillation_by_depth", plots.distillation_by_depth, taught, {}),
        ("distillation_gain", plots.distillation_gain, taught, {}),
        ("accuracy_to_size", plots.accuracy_to_size, frame, {}),
        ("ratio_by_denominator", plots.ratio_by_denominator, ratio_readings(results), {}),
        ("protocol_gap", plots.protocol_gap, table, {}),
        ("scoreboard", plots.scoreboard, scoreboard(results), {}),
        ("contrasts", plots.contrasts, contrasts(results), {}),
        ("contrasts_across", plots.contrasts, _two_studies(results), {"by": "study"}),
        ("regret", plots.regret, regret(results, frame), {}),
        ("overhead", plots.overhead, compute_costs(results, frame), {}),
        ("compression_curve", plots.compression_curve, _pruning_path(frame["removed"].max()), {}),
    ]


def _pruning_path(depth):
    """Write the curve of a compression to one layer, distilled in the middle."""
    rows = pd.DataFrame({"layers": [*range(depth, 0, -1), depth // 2], "distilled": False})
    rows.loc[rows.index[-1], "distilled"] = True
    accuracy = 0.9 - 0.3 / rows["layers"] ** 2 + 0.01 * rows["distilled"]
    return rows.assign(
        chosen=rows["distilled"],
        parameters=12_000_000 + 1_774_464 * rows["layers"],
        validation_accuracy=accuracy,
        low=accuracy - 0.02,
        high=accuracy + 0.018,
    )


def _two_studies(results):
    return across({"six layers": results, "twelve, stacked": results})


def _guess(model, observed):
    return 0.5 * observed - 0.015 + _rng(model).normal(0, 0.01, len(observed))


SHAPES = {"one": (NINE[:1], 1), "three": (NINE[:3], 2), "nine": (NINE, 3), "deep": (NINE[:4], 1, 12)}
FIGURES = [
    "signal_profile",
    "signal_correlation",
    "accuracy_by_depth",
    "accuracy_by_depth_all",
    "maximum_accuracy",
    "removal_order",
    "fusion_importance",
    "fusion_coefficients",
    "fusion_fit",
    "distillation_by_depth",
    "distillation_gain",
    "accuracy_to_size",
    "ratio_by_denominator",
    "protocol_gap",
    "scoreboard",
    "contrasts",
    "contrasts_across",
    "regret",
    "overhead",
    "compression_curve",
]

# Twelve layers instead of six matter to some figures alone.
LAYERED = ("signal_profile", "accuracy_by_depth", "removal_order", "distillation_gain",
           "compression_curve")  # fmt: skip
CASES = [(shape, name) for shape in SHAPES for name in FIGURES if shape != "deep" or name.startswith(LAYERED)]


@functools.cache
def _drawings(shape):
    return {name: rest for name, *rest in make_drawings(make_results(*SHAPES[shape]))}


@functools.cache
def _figure(shape, name):
    draw, frame, more = _drawings(shape)[name]
    before, settings = frame.copy(deep=True), dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(frame, **more)
    pd.testing.assert_frame_equal(frame, before)
    assert dict(matplotlib.rcParams) == settings
    return figure


def test_every_figure_is_listed():
    drawn = {draw.__name__ for draw, *_ in _drawings("one").values()}
    public = {
        name
        for name, value in vars(plots).items()
        if hasattr(value, "__wrapped__") and value.__module__ == plots.__name__
    }
    assert drawn == public
    assert list(_drawings("one")) == FIGURES


def _is_number(text):
    return text.replace("−", "").replace("+", "").replace(".", "").isdigit()


def _beside(figure, axes, across):
    """List the panels of the same row, or of the same column."""
    place = axes.get_subplotspec()
    if place is None:
        return [axes]
    span = "rowspan" if across else "colspan"
    return [
        other
        for other in figure.axes
        if other.get_subplotspec() is not None and getattr(other.get_subplotspec(), span) == getattr(place, span)
    ]


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_numeric_axes_are_labelled(shape, name):
    figure = _figure(shape, name)
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() <= plots.PAGE + 1e-6
    for axes in [axes for axes in figure.axes if axes.axison]:
        for axis, by_row in ((axes.xaxis, False), (axes.yaxis, True)):
            ticks = [tick.get_text() for tick in axis.get_ticklabels() if tick.get_visible()]
            if any(_is_number(text) for text in ticks):
                labels = [getattr(a, axis.axis_name + "axis") for a in _beside(figure, axes, by_row)]
                assert any(label.get_label_text() for label in labels), (axes, axis)


def _overlaps(boxes):
    boxes = sorted(boxes, key=lambda box: (box.x0, box.y0))
    return [(a, b) for a, b in zip(boxes, boxes[1:], strict=False) if a.overlaps(b)]


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_nothing_is_cut_off_or_overprinted(shape, name):
    figure = _figure(shape, name)
    renderer = FigureCanvasAgg(figure).get_renderer()
    box, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    slack = 0.02
    assert box.x0 > -slack and box.y0 > -slack, box
    assert box.x1 < width + slack and box.y1 < height + slack, box
    for axes in [axes for axes in figure.axes if axes.axison]:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
            shown = [label for label in labels if label.get_visible() and label.get_text()]
            level = [label for label in shown if not label.get_rotation()]
            assert not _overlaps([label.get_window_extent(renderer) for label in level])
    for legend in figure.legends:
        assert not _overlaps([text.get_window_extent(renderer) for text in legend.get_texts()])


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_frame_gives_the_same_files(name, tmp_path):
    draw, frame, more = _drawings("one")[name]
    first = plots.save_figure(name, _figure("one", name), frame, tmp_path / "a")
    assert first == tmp_path / "a" / f"{name}.png"
    assert first.read_bytes() == draw(frame, **more)._repr_png_()
    for form in ("png", "pdf"):
        content = first.with_suffix(f".{form}").read_bytes().lower()
        assert b"creationdate" not in content and b"matplotlib" not in content
    assert sorted(file.suffix for file in (tmp_path / "a").iterdir()) == [".csv", ".pdf", ".png"]
    named = frame.index.name is not None or name == "signal_correlation"
    read = pd.read_csv(first.with_suffix(".csv"), index_col=0 if named else None)
    frame = frame if named else frame.reset_index(drop=True)
    read["path"] = frame["path"] if "path" in frame else None  # "" and 3 are text, not numbers
    assert list(read.drop(columns="path")) == [name for name in frame if name != "path"]
    for column in frame:
        if pd.api.types.is_numeric_dtype(frame[column]):
            np.testing.assert_allclose(read[column], frame[column], rtol=1e-5, atol=1e-12)
        else:
            assert list(read[column].fillna("")) == list(frame[column])


DRAW_ONE = """
import pandas as pd
from sfusion.analysis import figures as plots
table = pd.DataFrame({"signal": ["energy", "inhibition"], "coefficient": [0.1, -0.02], "task": "t"})
plots.save_figure("figure", plots.fusion_coefficients(table), table, folder)
"""


def test_files_do_not_depend_on_the_process(tmp_path):
    # PDFs name their fonts after the glyphs they hold: a hash that must not be salted.
    here, there = tmp_path / "here", tmp_path / "there"
    exec(DRAW_ONE, {"folder": here})
    salted = os.environ | {"PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"}
    code = f"folder = {str(there)!r}{DRAW_ONE}"
    subprocess.run([sys.executable, "-c", code], check=True, env=salted)
    for file in ("figure.png", "figure.pdf", "figure.csv"):
        assert (here / file).read_bytes() == (there / file).read_bytes()


def test_every_group_has_its_own_colour():
    groups = {strategy.group for strategy in STRATEGIES.values()}
    assert groups <= set(plots.COLOURS), "give the new group a colour in sfusion.analysis.figures.COLOURS"
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)


def test_at_most_seven_lines_are_in_full_colour():
    assert len(plots.HIGHLIGHTED) == 7
    for axes in _figure("nine", "accuracy_by_depth_all").axes:
        coloured = [line for line in axes.lines if line.get_color() not in ("0.75", "black") and len(line.get_xdata())]
        assert len({line.get_color() for line in coloured}) <= 7


def test_maximum_accuracy_scales_its_colours_by_task():
    mesh = _figure("nine", "maximum_accuracy").axes[0].collections[0]
    values = mesh.get_array().reshape(len(STRATEGIES), len(NINE))
    np.testing.assert_allclose(values.min(axis=0), 0)
    np.testing.assert_allclose(values.max(axis=0), 1)


def test_the_scoreboard_counts_datasets():
    texts = [text.get_text() for axes in _figure("nine", "scoreboard").axes for text in axes.texts]
    assert any(" of 9" in text for text in texts)


def test_every_verdict_has_its_colour():
    assert {judge(0, 1, at) for at in (-1, 0.5, 2)} <= set(plots.VERDICTS)
    assert set(scoreboard(make_results(*SHAPES["one"]))["verdict"]) <= set(plots.VERDICTS)


def test_agreement_of_all_units_is_no_error():
    results = make_results(NINE[:2], 2)
    for frame in (results.nodes, results.distillation):
        frame[["validation_accuracy", "test_accuracy"]] = 0.7
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a correlation of constants, in sfusion.analysis.claims
        drawings = [one for one in make_drawings(results) if not one[0].startswith("fusion")]
        warnings.simplefilter("error")
        for _, draw, frame, more in drawings:
            draw(frame, **more)


def test_an_interval_beside_its_number_can_be_drawn():
    frame = _drawings("three")["scoreboard"][1].copy()
    frame.loc["C2", ["ours", "low", "high"]] = 0.2, 0.3, 0.6
    assert plots.scoreboard(frame).axes
    assert len(plots.scoreboard(frame).axes) == 3 * len(CLAIMS)


def test_an_empty_frame_is_named():
    frame = _drawings("three")["distillation_gain"][1]
    with pytest.raises(SfusionError, match="distillation_gain: the frame is empty; run the study"):
        plots.distillation_gain(frame[:0])


def test_notebooks_get_a_picture_without_a_backend():
    picture = _figure("one", "distillation_gain")._repr_png_()
    assert picture.startswith(b"\x89PNG")
    assert "matplotlib.pyplot" not in vars(plots)
