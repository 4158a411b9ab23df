"""Notebook 02: one step of pruning, live on a small model and a small dataset."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binomtest

from sfusion.analysis.appearance import COLOURS, ORIGINAL, strategy_title, styled
from sfusion.analysis.drawing import interval_rows, panel_grid
from sfusion.analysis.exhibits import Exhibit, exhibit
from sfusion.pruning.registry import View, choose
from sfusion.pruning.strategies import STRATEGIES
from sfusion.signals import PAPER_SIGNALS, SIGNALS
from sfusion.training.recipes import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from sfusion.data.tasks import Task

PROBE = 64  # training samples on which the signals are taken

# As little training as still shows what happens, so that a reader need not wait.
SIZES = (400, 50, 160)
TRAINING = Recipe(samples=416, learning_rate=6e-4)
RECOVERY = Recipe(samples=64, learning_rate=2e-4)

# Stages of a step, and what they are called in print.
STAGES = {"without": "after the removal", "recovered": "after the recovery"}


@dataclass(frozen=True)
class Step:
    """One step from an original model, along every layer that some signal names.

    Attributes
    ----------
    signals : DataFrame
        Index ``layer``, a column per signal.
    choices : Series
        Index signal: the layer that a strategy following it alone removes.
    texts : int
        Test texts.
    original : int
        How many of them the original has right.
    right : DataFrame
        Index ``layer``; ``without`` and ``recovered``: how many are right when that
        layer is gone, and after a short fine-tuning.
    """

    signals: pd.DataFrame
    choices: pd.Series
    texts: int
    original: int
    right: pd.DataFrame


@cache
def take_step(model: str = "minilm-l6", task: str = "scipy-subpackage") -> Step:
    """Fine-tune a model, take its signals, and remove each layer that one names.

    Once a process: a step takes some seconds.

    Parameters
    ----------
    model, task : str
        See :func:`sfusion.models.source.load_model` and
        :func:`sfusion.data.tasks.load_task`.

    Returns
    -------
    Step
    """
    from sfusion.data.tasks import load_task
    from sfusion.models.layers import remove_layers
    from sfusion.models.source import load_model
    from sfusion.signals.extraction import extract_signals
    from sfusion.training.loop import fine_tune

    data = load_task(task, sizes=SIZES, max_length=16)
    original = load_model(model, label_names=data.label_names)
    fine_tune(original, data.train, TRAINING, seed=0)
    signals = extract_signals(original, data.train.take(range(PROBE)))
    view = View(
        layers=tuple(signals.index),
        signals=signals,
        rng=np.random.default_rng(0),
        fusion=None,
        depth=len(signals),
    )
    choices = pd.Series(
        {name: choose(STRATEGIES[name], view) for name in PAPER_SIGNALS}
    )
    rows = {}
    for layer in sorted(set(choices)):
        pruned = remove_layers(original, [layer])
        without = _count_right(pruned, data)
        fine_tune(pruned, data.train, RECOVERY, seed=0)
        rows[layer] = {"without": without, "recovered": _count_right(pruned, data)}
    right = pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")
    texts = len(data.test)
    return Step(signals, choices, texts, _count_right(original, data), right)


def _count_right(model: PreTrainedModel, data: Task) -> int:
    from sfusion.training.evaluation import classified

    return int(classified(model, data.test).sum())


@exhibit
def signals(step: Step) -> Exhibit:
    """Show every signal over the layers, and the layer that it would remove.

    Parameters
    ----------
    step : Step

    Returns
    -------
    Exhibit
    """
    values = step.signals.rename_axis("layer").reset_index()
    table = values.melt("layer", list(PAPER_SIGNALS), var_name="signal")
    table["removed"] = table["layer"] == table["signal"].map(step.choices)
    lines = [f"The twelve signals name {len(step.right)} different layers:", ""]
    for layer in step.right.index:
        lines.append(f"- layer {layer}: {_named_by(step, layer)}.")
    caption = (
        "Each panel has a scale of its own, since only the differences between layers "
        "decide. In colour the layer that a strategy following the signal removes."
    )
    figure = _draw_bars(table)
    return Exhibit("step_signals", table, "\n".join(lines), figure, caption)


def _named_by(step: Step, layer: int) -> str:
    names = step.choices.index[step.choices == layer]
    return ", ".join(map(strategy_title, names))


@styled
def _draw_bars(table: pd.DataFrame) -> Figure:
    titles = {strategy_title(name): name for name in PAPER_SIGNALS}
    figure, panels = panel_grid(list(titles), 1.15, 0.3)
    for title, axes, _ in panels:
        bars = table[table["signal"] == titles[title]]
        full = COLOURS[SIGNALS[titles[title]].group]
        colours = [full if removed else "0.8" for removed in bars["removed"]]
        axes.bar(bars["layer"], bars["value"], color=colours)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_xticks(bars["layer"])
        axes.set_yticks([])
    for panel in panels[-3:]:
        panel.axes.set_xlabel("layer")
    return figure


@exhibit
def accuracies(step: Step) -> Exhibit:
    """Show test accuracy before, after the removal, and after the recovery.

    Parameters
    ----------
    step : Step

    Returns
    -------
    Exhibit
        In per cent of the test texts, with Wilson's 95% interval.
    """
    original = _share(step.original, step.texts)
    rows = []
    lines = [f"The original has {original['accuracy']:.1f}% of the texts right.", ""]
    for layer, right in step.right.iterrows():
        row = {"layer": layer, "removed": f"layer {layer} removed"}
        for stage, title in STAGES.items():
            share = _share(right[stage], step.texts)
            rows.append({**row, "stage": title, **share})
        before, after = (100 * right / step.texts)[list(STAGES)]
        lines.append(
            f"- without layer {layer} (named by {_named_by(step, layer)}): "
            f"{before:.1f}%, after the recovery {after:.1f}%."
        )
    table = pd.DataFrame(rows)
    figure = interval_rows(
        table,
        label="removed",
        value="accuracy",
        series="stage",
        zero=original["accuracy"],
        zero_line=ORIGINAL,
        xlabel="test accuracy (%, 95% interval)",
    )
    caption = (
        f"Filled: right after the removal; hollow: after the recovery. {step.texts} "
        "test texts; Wilson intervals."
    )
    return Exhibit("step_accuracies", table, "\n".join(lines), figure, caption)


@exhibit
def paper_and_we(step: Step) -> Exhibit:
    """Set what the paper says of the ends of a model beside what this step shows.

    Parameters
    ----------
    step : Step

    Returns
    -------
    Exhibit
    """
    last = step.signals.index[-1]
    ends = int(step.choices.isin([0, last]).sum())
    lost = 100 * (step.original - step.right["without"]) / step.texts
    listed = ", ".join(f"{value:.1f} without layer {n}" for n, value in lost.items())
    finding = (
        "- The paper says, by a summary of it: good strategies keep the first and the "
        "last layer and prune the middle first.\n"
        f"- We get: {ends} of the twelve signals would remove the first or the last "
        "layer of this model. Before any recovery, the accuracy falls, in percentage "
        f"points, by {listed}."
    )
    return Exhibit("step_compared", pd.DataFrame(), finding)


def _share(right: int, texts: int) -> dict[str, float]:
    ends = binomtest(int(right), texts).proportion_ci(method="wilson")
    return {
        "accuracy": 100 * right / texts,
        "low": 100 * ends.low,
        "high": 100 * ends.high,
    }
