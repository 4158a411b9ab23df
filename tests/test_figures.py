"""Figures: of the committed results, cut down to few datasets and to several."""

import functools
import importlib
import inspect
import os
import pkgutil
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
from matplotlib.collections import LineCollection

import sfusion.analysis
from sfusion.analysis.appearance import COLOURS, HIGHLIGHTED, PAGE, STYLE, render
from sfusion.analysis.drawing import interval_rows, panel_grid
from sfusion.analysis.exhibits import Exhibit, write
from sfusion.errors import SfusionError
from sfusion.experiments.results import open_results
from sfusion.notebooks import SHOWN, TWELVE
from sfusion.pruning.strategies import STRATEGIES

SHAPES = {
    # datasets and seeds
    "one": "task == 'agnews' and seed == 0",
    "four": "task in ['agnews', 'arxiv', 'imdb', 'newsgroup'] and seed < 2",
}

STUDIES = {"results": SHOWN, "twelve": TWELVE}


def exhibits_of_one_study():
    """List the exhibits that need the shown study alone, or that of twelve layers."""
    found = {}
    for module in pkgutil.iter_modules(sfusion.analysis.__path__):
        if module.name in ("forecasts", "held_out"):  # they take minutes to fit
            continue
        content = importlib.import_module(f"sfusion.analysis.{module.name}")
        for name, value in vars(content).items():
            if getattr(value, "__module__", "") != content.__name__:
                continue
            if not hasattr(value, "__wrapped__"):
                continue
            signature = inspect.signature(value)
            parameters = list(signature.parameters)
            if signature.return_annotation != "Exhibit" or len(parameters) != 1:
                continue
            if parameters[0] in STUDIES:
                found[f"{module.name}.{name}"] = (value, STUDIES[parameters[0]])
    return found


EXHIBITS = exhibits_of_one_study()
CASES = [(shape, name) for name in EXHIBITS for shape in SHAPES]


@functools.cache
def cut_down(study, shape):
    return tiny.of_units(open_results(study), SHAPES[shape])


@functools.cache
def shown(shape, name):
    """Make an exhibit; nothing warns, and no setting of matplotlib is left changed."""
    make, study = EXHIBITS[name]
    results = cut_down(study, shape)
    settings = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = make(results)
    assert dict(matplotlib.rcParams) == settings
    assert not pyplot.get_fignums()
    return made


def beside(axes, span):
    """List the panels that share its rows, or its columns."""
    place = getattr(axes.get_subplotspec(), span, None)
    if not place:
        return [axes]
    others = []
    for other in axes.figure.axes:
        if getattr(other.get_subplotspec(), span, None) == place:
            others.append(other)
    return others


def overlaps(texts, renderer):
    boxes = [text.get_window_extent(renderer) for text in texts]
    boxes.sort(key=lambda box: (box.x0, box.y0))
    return [(a, b) for a, b in zip(boxes, boxes[1:], strict=False) if a.overlaps(b)]


def visible_axes(figure):
    for axes in figure.axes:
        if axes.axison:
            yield axes, "xaxis", "colspan"
            yield axes, "yaxis", "rowspan"


@pytest.mark.study
@pytest.mark.parametrize(("shape", "name"), CASES)
def test_a_figure_is_labelled_and_nothing_is_cut_off_or_overprinted(shape, name):
    figure = shown(shape, name).figure
    if figure is None:
        return
    assert figure.get_figwidth() <= PAGE + 1e-6
    renderer = FigureCanvasAgg(figure).get_renderer()
    with style.context(STYLE):  # in which files are drawn
        box = figure.get_tightbbox(renderer)
        width, height = figure.get_size_inches()
        assert min(box.x0, box.y0) > -0.02, box
        assert max(box.x1 - width, box.y1 - height) < 0.02, box
        for axes, which, span in visible_axes(figure):
            axis = getattr(axes, which)
            low, high = sorted(axis.get_view_interval())
            labels = []
            for tick in axis.get_major_ticks():
                if low <= tick.get_loc() <= high:
                    labels += [tick.label1, tick.label2]
            seen = [text for text in labels if text.get_visible() and text.get_text()]
            upright = [text for text in seen if not text.get_rotation()]
            assert not overlaps(upright, renderer)
            if any(re.fullmatch(r"[−+.\d]*\d", text.get_text()) for text in seen):
                named = [getattr(other, which) for other in beside(axes, span)]
                assert any(other.get_label_text() for other in named), which
        for legend in figure.legends:
            assert not overlaps(legend.get_texts(), renderer)


@pytest.mark.study
@pytest.mark.filterwarnings("ignore")  # correlations of constants
@pytest.mark.parametrize("name", EXHIBITS)
def test_agreement_of_all_units_is_no_error(name):
    make, study = EXHIBITS[name]
    results = cut_down(study, "four")
    level = {}
    for frame in ("nodes", "distillation"):
        # The bits of the texts no longer fit.
        rows = getattr(results, frame).drop(columns="test_correct")
        level[frame] = rows.assign(validation_accuracy=0.7, test_accuracy=0.7)
    assert isinstance(make(replace(results, **level)), Exhibit)


@pytest.mark.study
def test_four_lines_are_in_colour_and_all_others_are_a_band():
    assert len(HIGHLIGHTED) == 4
    for axes in shown("four", "sweeps.accuracy_by_dataset").figure.axes:
        lines = [line for line in axes.lines if len(line.get_xdata()) > 2]
        assert len(lines) == 4
        assert len(axes.collections) == 1


def test_every_group_has_its_own_colour():
    groups = {strategy.group for strategy in STRATEGIES.values()}
    assert groups <= set(COLOURS), "give the new group a colour in COLOURS"
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize(
    "count, leftmost",
    [(1, [0]), (2, [0]), (3, [0]), (4, [0, 2]), (5, [0, 3]), (9, [0, 3, 6])],
)
def test_panels_say_which_of_them_stand_in_the_first_column(count, leftmost):
    titles = [f"dataset {number}" for number in range(count)]
    figure, panels = panel_grid(titles, 1.0, 0.5)
    assert [panel.title for panel in panels] == titles
    assert [place for place, panel in enumerate(panels) if panel.leftmost] == leftmost
    figure.draw_without_rendering()
    edge = min(panel.axes.get_position().x0 for panel in panels)
    for panel in panels:
        at_the_edge = panel.axes.get_position().x0 == pytest.approx(edge)
        assert panel.leftmost == at_the_edge


def table_of_intervals():
    rows = []
    for place, row in enumerate("abc"):
        for series in ("six", "twelve"):
            rows.append({"row": row, "series": series, "value": place})
    table = pd.DataFrame(rows)
    return table.assign(low=table["value"] - 1, high=table["value"] + 2)


def draw_rows():
    look = {"label": "row", "series": "series", "xlabel": "points", "margin": 1}
    return interval_rows(table_of_intervals(), **look)


def test_a_row_of_intervals_has_every_series_from_the_top_down():
    figure = draw_rows()
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.yaxis_inverted()
    ends = []
    for lines in axes.findobj(LineCollection):
        ends += [tuple(segment[:, 0]) for segment in lines.get_segments()]
    assert sorted(ends) == [(-1, 2)] * 2 + [(0, 3)] * 2 + [(1, 4)] * 2
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["six", "twelve"]


def test_rows_stand_under_headings_sorted_by_the_first_series():
    table = table_of_intervals().assign(part=["x", "x", "y", "y", "y", "y"])
    look = {"label": "row", "group": "part", "series": "series", "sort": True}
    figure = interval_rows(table, xlabel="points", **look)
    labels = figure.axes[0].get_yticklabels()
    assert [text.get_text() for text in labels] == ["x", "a", "y", "c", "b"]
    bold = [text.get_text() for text in labels if text.get_fontweight() == "bold"]
    assert bold == ["x", "y"]


def test_an_interval_far_out_is_cut_off_with_an_arrow_and_keeps_its_number():
    table = pd.DataFrame({"row": list("abcd"), "value": [0.0, 1.0, -1.0, 60.0]})
    table = table.assign(low=table["value"] - 1, high=table["value"] + 1)
    axes = interval_rows(table, label="row", xlabel="points").axes[0]
    assert 2 < axes.get_xlim()[1] < 59  # the others whole, the one far out not
    arrows = [line for line in axes.lines if line.get_marker() == ">"]
    assert [line.get_xdata()[0] for line in arrows] == [axes.get_xlim()[1]]
    numbers = [text.get_text() for text in axes.texts]
    assert numbers[-1] == "+60.0 [+59.0, +61.0]"


def test_an_empty_frame_is_named():
    with pytest.raises(SfusionError, match="interval_rows: the frame is empty; run"):
        interval_rows(table_of_intervals()[:0], label="row", xlabel="points")


def save_one(folder):
    """Draw and save a figure, in this process or in another."""
    write(Exhibit("rows", table_of_intervals(), figure=draw_rows()), folder)


def test_files_depend_on_neither_time_nor_process(tmp_path):
    # PDFs name their fonts after the glyphs they hold: a hash that must not be salted.
    here = tmp_path / "here"
    there = tmp_path / "there"
    save_one(here)
    salt = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    code = f"from test_figures import save_one; save_one({str(there)!r})"
    environment = os.environ | {"PYTHONHASHSEED": salt}
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parent)
    for form in ("png", "pdf", "csv"):
        content = (here / f"rows.{form}").read_bytes()
        assert content == (there / f"rows.{form}").read_bytes()
        assert b"creationdate" not in content.lower()
        assert b"matplotlib" not in content.lower()


def test_a_figure_that_changes_is_drawn_anew():
    figure = draw_rows()
    before = render(figure, "png")
    assert before.startswith(b"\x89PNG")
    assert render(figure, "png") == before
    figure.text(0.5, 0.5, "changed after it was shown")
    assert render(figure, "png") != before
