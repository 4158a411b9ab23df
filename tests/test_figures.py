"""Figures of the committed results, whole and cut down: few and many tasks, one seed and several."""

import functools
import os
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import pandas as pd
import pytest
import tiny
from matplotlib import pyplot, style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sfusion import (
    STRATEGIES,
    SfusionError,
    claims,
    costs,
    open_results,
    statistics,
    tables,
)
from sfusion import figures as plots
from sfusion.experiments.profiles import ROOT
from sfusion.notebooks import SHOWN

SHAPES = {
    # name: tasks and seeds
    "one": "task == 'agnews' and seed == 0",
    "three": "task in ['agnews', 'arxiv', 'newsgroup'] and seed < 2",
    "nine": "seed < 3",
    "level": "task in ['agnews', 'newsgroup'] and seed < 2",  # every accuracy is the same
}


@functools.cache
def _results(shape):
    whole = open_results(SHOWN)
    results = tiny.of_units(whole, SHAPES[shape])
    if shape != "level":
        return results
    same = {"validation_accuracy": 0.7, "test_accuracy": 0.7}
    level = {
        name: getattr(results, name).assign(**same)
        for name in ("nodes", "distillation")
    }
    # The bits of the texts no longer fit.
    return replace(
        results,
        **{
            name: one.drop(columns="test_correct", errors="ignore")
            for name, one in level.items()
        },
    )


def _of_curves(table):
    return lambda results: table(tables.curves(results))


def _drawn(name):
    """Read what the shown figure was drawn from: its fusions take minutes to fit."""
    frame = pd.read_csv(ROOT / "figures" / f"{name}.csv")
    return lambda results: frame


def _compression(results):
    """Make the curve of a compression to one layer, distilled in the middle."""
    depth = results.nodes["layers"].max()
    rows = pd.DataFrame({"layers": [*range(depth, 0, -1), depth // 2]})
    accuracy, last = 0.9 - 0.3 / rows["layers"] ** 2, rows.index == depth
    rows = rows.assign(
        distilled=last, chosen=last, parameters=1_774_464 * rows["layers"]
    )
    return rows.assign(
        validation_accuracy=accuracy, low=accuracy - 0.02, high=accuracy + 0.018
    )


FRAMES = {
    # figure, after what it is a variant of: the frame that it draws
    "signal_profile": tables.standardised_signals,
    "signal_correlation": tables.signal_correlations,
    "accuracy_by_depth": tables.curves,
    "accuracy_by_depth:all": tables.curves,
    "maximum_accuracy": _of_curves(tables.protocols),
    "removal_order": _of_curves(tables.removal_orders),
    "fusion_importance": _drawn("fusion_importance"),
    "distillation_by_depth": tables.distilled,
    "distillation_gain": tables.distilled,
    "accuracy_to_size": tables.curves,
    "gain_by_surviving_layer": _of_curves(tables.gains_by_surviving_layer),
    "kept_layers": lambda results: claims.gain_of_keeping(results),
    "contrasts": statistics.contrasts,
    "contrasts:across": lambda results: pd.concat(
        [
            statistics.contrasts(results, measures=["mean_accuracy"]).assign(
                study=study
            )
            for study in ("six", "twelve")
        ]
    ),
    "regret": lambda results: tables.regret(results, tables.curves(results)),
    "overhead": lambda results: costs.compute_costs(results, tables.curves(results)),
    "compression_curve": _compression,
}

CASES = [(shape, name) for shape in ("one", "three", "nine") for name in FRAMES]


@functools.cache
def _drawing(shape, name):
    """Return a function that draws, and the frame that it draws."""
    results, (function, _, variant) = _results(shape), name.partition(":")
    more = {"tasks": results.tasks} if function == "accuracy_by_depth" else {}
    more |= {"all": {"by_task": True}, "across": {"by": "study"}}.get(variant, {})
    return functools.partial(getattr(plots, function), **more), FRAMES[name](results)


@functools.cache
def _figure(shape, name):
    draw, frame = _drawing(shape, name)
    before, settings = frame.copy(deep=True), dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = draw(frame)
    pd.testing.assert_frame_equal(frame, before)
    assert dict(matplotlib.rcParams) == settings
    assert not pyplot.get_fignums()
    return figure


def test_every_figure_is_listed():
    own = {
        name: value
        for name, value in vars(plots).items()
        if getattr(value, "__module__", "") == plots.__name__
    }
    drawing = {name for name, value in own.items() if hasattr(value, "__wrapped__")}
    assert {name.partition(":")[0] for name in FRAMES} == drawing


def _beside(axes, span):
    """List the panels that share its rows, or its columns."""
    grid = {
        other: getattr(other.get_subplotspec(), span, None)
        for other in axes.figure.axes
    }
    return [
        other for other, place in grid.items() if place and place == grid[axes]
    ] or [axes]


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_numeric_axes_are_labelled(shape, name):
    figure = _figure(shape, name)
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() <= plots.PAGE + 1e-6
    for axes in [axes for axes in figure.axes if axes.axison]:
        for axis, span in (("xaxis", "colspan"), ("yaxis", "rowspan")):
            ticks = getattr(axes, axis).get_ticklabels()
            if any(
                re.fullmatch(r"[−+.\d]*\d", tick.get_text())
                for tick in ticks
                if tick.get_visible()
            ):
                assert any(
                    getattr(one, axis).get_label_text() for one in _beside(axes, span)
                ), (axes, axis)


def _overlaps(texts, renderer):
    boxes = sorted(
        (text.get_window_extent(renderer) for text in texts),
        key=lambda box: (box.x0, box.y0),
    )
    return [(a, b) for a, b in zip(boxes, boxes[1:], strict=False) if a.overlaps(b)]


@pytest.mark.parametrize(("shape", "name"), CASES)
def test_nothing_is_cut_off_or_overprinted(shape, name):
    figure = _figure(shape, name)
    renderer = FigureCanvasAgg(figure).get_renderer()
    with style.context(plots.STYLE):  # in which files are drawn
        box, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
        assert min(box.x0, box.y0) > -0.02, box
        assert max(box.x1 - width, box.y1 - height) < 0.02, box
        for axis in [
            axis
            for axes in figure.axes
            if axes.axison
            for axis in (axes.xaxis, axes.yaxis)
        ]:
            low, high = sorted(axis.get_view_interval())
            ticks = [
                tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high
            ]
            labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
            shown = [
                label for label in labels if label.get_visible() and label.get_text()
            ]
            assert not _overlaps(
                [label for label in shown if not label.get_rotation()], renderer
            )
        for legend in figure.legends:
            assert not _overlaps(legend.get_texts(), renderer)


@pytest.mark.parametrize("name", FRAMES)
def test_the_same_frame_gives_the_same_files(name, tmp_path):
    draw, frame = _drawing("one", name)
    file = plots.save_figure("it", _figure("one", name), frame, tmp_path / "made")
    assert file == tmp_path / "made" / "it.png"
    figure = draw(frame)
    assert file.read_bytes() == figure._repr_png_() and file.read_bytes().startswith(
        b"\x89PNG"
    )
    figure.text(0.5, 0.5, "changed after it was shown")
    assert figure._repr_png_() != file.read_bytes()
    for form in ("png", "pdf"):
        content = file.with_suffix(f".{form}").read_bytes().lower()
        assert b"creationdate" not in content and b"matplotlib" not in content
    assert sorted(file.name for file in file.parent.iterdir()) == [
        "it.csv",
        "it.pdf",
        "it.png",
    ]
    frame = frame.drop(columns="test_correct", errors="ignore")
    named = frame.index.name is not None or name == "signal_correlation"
    texts = frame.select_dtypes(exclude=("number", "bool"))
    types, none = (
        dict.fromkeys(texts, str),
        dict.fromkeys(texts, ""),
    )  # paths: "" and 3 are no numbers
    read = pd.read_csv(
        file.with_suffix(".csv"), index_col=0 if named else None, dtype=types
    ).fillna(none)
    expected = frame if named else frame.reset_index(drop=True)
    pd.testing.assert_frame_equal(
        read, expected, check_dtype=False, rtol=1e-5, atol=1e-12
    )


def save_one(folder):
    """Draw and save a figure, in this process or in another."""
    draw, frame = _drawing("one", "fusion_importance")
    plots.save_figure("figure", draw(frame), frame, folder)


def test_files_do_not_depend_on_the_process(tmp_path):
    # PDFs name their fonts after the glyphs they hold: a hash that must not be salted.
    here, there = tmp_path / "here", tmp_path / "there"
    save_one(here)
    salted = os.environ | {
        "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    }
    code = f"from test_figures import save_one; save_one({str(there)!r})"
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=salted, cwd=Path(__file__).parent
    )
    for file in ("figure.png", "figure.pdf", "figure.csv"):
        assert (here / file).read_bytes() == (there / file).read_bytes()


def test_every_group_has_its_own_colour():
    groups = {strategy.group for strategy in STRATEGIES.values()}
    assert groups <= set(plots.COLOURS), (
        "give the new group a colour in sfusion.analysis.figures.COLOURS"
    )
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)


def test_at_most_seven_lines_are_in_full_colour():
    assert len(plots.HIGHLIGHTED) == 7
    for axes in _figure("nine", "accuracy_by_depth:all").axes:
        colours = {line.get_color() for line in axes.lines if len(line.get_xdata())}
        assert len(colours - {"0.75", "black"}) <= 7


@pytest.mark.filterwarnings(
    "ignore"
)  # a correlation of constants, in sfusion.analysis.claims
@pytest.mark.parametrize(
    "name",
    [
        name
        for name in FRAMES
        if not name.startswith(("fusion", "signal", "compression"))
    ],
)
def test_agreement_of_all_units_is_no_error(name):
    assert _figure("level", name).axes


def test_an_empty_frame_is_named():
    with pytest.raises(
        SfusionError, match="distillation_gain: the frame is empty; run the study"
    ):
        plots.distillation_gain(_drawing("three", "distillation_gain")[1][:0])
