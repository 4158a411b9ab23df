"""Notebook 01: what the twelve signals measure, and whether they rank layers alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

from sfusion.analysis.appearance import (
    COLOURS,
    COLUMN,
    PAGE,
    in_registry_order,
    strategy_title,
    styled,
)
from sfusion.analysis.drawing import draw_heat_map, one_panel, panel_grid
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.experiments.results import UNIT
from sfusion.pruning.fusion import standardise
from sfusion.signals import MEASURES, SIGNALS, recorded

if TYPE_CHECKING:
    from sfusion.experiments.results import Results


# Columns of Results.tasks, and what they are called in print.
DATASET_COLUMNS = {
    "train": "training texts",
    "validation": "validation texts",
    "test": "test texts",
    "majority_accuracy": "largest class",
    "tfidf_accuracy": "TF-IDF",
    "frozen_accuracy": "frozen encoder",
    "test_accuracy": "original",
}

# What the docstrings of the signals leave to say, by signal.
CARDS = yaml.safe_load(
    Path(__file__).with_name("cards.yaml").read_text(encoding="utf-8")
)


@exhibit
def definitions(results: Results) -> Exhibit:
    """Tabulate the definitions of what a study measured, as they stand in the code.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    measured = [name for name in MEASURES if name in results.signals]
    rows = {}
    for name in measured:
        signal = MEASURES[name]
        rows[name] = {
            "title": signal.title,
            "group": signal.group,
            "formula": signal.formula,
            "unit": signal.unit,
            "removed_first": signal.removed_first,
            "source": signal.source,
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("signal")
    shown = table.set_index("title").rename(columns={"removed_first": "removed first"})
    return Exhibit("signal_definitions", table, shown=shown.rename_axis("measure"))


@exhibit
def cards(results: Results, group: str) -> Exhibit:
    """Show a card for each signal of a group: picture, formula, reading, and traps.

    Parameters
    ----------
    results : Results
    group : str
        Such as ``activation``.

    Returns
    -------
    Exhibit
        Its figure has the signals over the layers of the unpruned models; its finding
        is the text of the cards. Signals that have no card yet show their docstring.
    """
    names = [name for name in recorded(results.signals) if _group(name) == group]
    if not names:
        raise StudyLacks(f"this study recorded no signal of the group {group}")
    frame = standardised_signals(results)
    table = frame[frame["signal"].isin(names)]
    means = table.groupby(["signal", "layer"], sort=False, as_index=False)["value"]
    caption = (
        "Standard deviations from the mean over the layers of a model, means over "
        "datasets and seeds. In colour the layer that goes first."
    )
    return Exhibit(
        f"cards_{group.replace(' ', '_')}",
        table,
        "\n\n".join(_card_text(name) for name in names),
        _draw_cards(means.mean()),
        caption,
    )


def _group(name: str) -> str:
    return SIGNALS[name].group


def _card_text(name: str) -> str:
    """Write a card as Markdown, from a signal's docstring and the file of cards."""
    signal = SIGNALS[name]
    card = CARDS.get(name, {})
    formula = f"$${card['tex']}$$" if card else f"`{signal.formula}`"
    idea = f" {card['idea']}" if card else ""
    lines = [
        f"**{signal.title}.** {signal.reading}{idea}",
        formula,
    ]
    said = f"*Unit:* {signal.unit}. *Whose:* {signal.source}."
    if card:
        lines.append(f"*Low means:* {card['low']} *What fools it:* {card['fools']}")
    lines.append(said)
    return "\n\n".join(lines)


@styled
def _draw_cards(means: pd.DataFrame) -> Figure:
    names = list(dict.fromkeys(means["signal"]))
    titles = {strategy_title(name): name for name in names}
    figure, panels = panel_grid(list(titles), 1.5, 0.3)
    for title, axes, leftmost in panels:
        name = titles[title]
        bars = means[means["signal"] == name].set_index("layer")["value"]
        is_lowest = SIGNALS[name].removed_first == "lowest"
        first = bars.idxmin() if is_lowest else bars.idxmax()
        full = COLOURS[_group(name)]
        colours = [full if layer == first else "0.8" for layer in bars.index]
        axes.bar(bars.index, bars, color=colours)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_xticks(bars.index)
        axes.set_xlabel("layer")
        if leftmost:
            axes.set_ylabel("s.d.")
    return figure


@exhibit
def datasets(results: Results) -> Exhibit:
    """Tabulate the datasets: sizes, fingerprints of the texts, and the baselines.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
        Of the first seed.
    """
    tasks = results.tasks.drop(columns="seed")
    table = tasks.groupby("task", sort=False).first().round(3)
    short = table.assign(fingerprint=table["fingerprint"].str[:12])
    caption = "Of the first seed; accuracies on test, as shares"
    shown = short.rename_axis("dataset").rename(columns=DATASET_COLUMNS)
    return Exhibit("tasks", table, caption=caption, shown=shown)


def _unpruned_signals(results: Results) -> pd.DataFrame:
    roots = results.signals[results.signals["path"] == ""]
    if roots.empty:
        raise StudyLacks("this study has no signals of the unpruned models")
    return roots


def standardised_signals(results: Results) -> pd.DataFrame:
    """Standardise the signals of the unpruned models, and average over seeds.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Columns ``task``, ``layer``, ``signal``, ``value``: standard deviations from the
        mean over the layers of a model.
    """
    roots = _unpruned_signals(results).copy()
    names = recorded(roots)
    roots[names] = roots.groupby(UNIT, group_keys=False)[names].apply(standardise)
    long = roots.melt([*UNIT, "layer"], names, var_name="signal")
    values = long.groupby(["task", "layer", "signal"], as_index=False, sort=False)
    return values["value"].mean()


@styled
def _draw_profile(means: pd.DataFrame) -> Figure:
    limit = means.abs().max(axis=None) or 1.0
    figure, axes = one_panel(COLUMN + 1.8, 3.6)
    bar = {"label": "standard deviations from the model's mean", "aspect": 40}
    scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit, "cbar_kws": bar}
    texts = means.map("{:z.1f}".format).map(lambda text: text.replace("-", "−"))
    draw_heat_map(axes, means, texts, **scale)
    axes.set_xlabel("layer")
    return figure


@exhibit
def signal_profile(results: Results) -> Exhibit:
    """Show the signals over the layers of the unpruned models.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    frame = standardised_signals(results)
    table = frame.pivot_table("value", "signal", "layer", sort=False)
    last = table.columns.max()
    lowest = table.idxmin(axis=1)
    ends = [0, last]
    at_an_end = lowest.isin(ends) | table.idxmax(axis=1).isin(ends)
    low_names = ", ".join(map(strategy_title, lowest.index[lowest == last]))
    finding = (
        f"{int(at_an_end.sum())} of {len(table)} signals are extreme at the first or "
        f"the last layer; lowest at the last layer: {low_names or 'none'}."
    )
    caption = (
        "Each signal in standard deviations from its mean over the layers of a model, "
        "means over datasets and seeds."
    )
    figure = _draw_profile(table.loc[in_registry_order(table.index)])
    return Exhibit("signal_profile", frame, finding, figure, caption)


def unit_correlations(results: Results) -> np.ndarray:
    """Correlate the signals' rankings of the layers of each unpruned model.

    Parameters
    ----------
    results : Results

    Returns
    -------
    ndarray of shape (tasks times seeds, signals, signals)
        Spearman correlations of the signals that the study recorded. A signal that is
        removed highest-first enters with its sign turned, so that 1 means the same
        order of removal.
    """
    names = recorded(results.signals)
    signs = []
    for name in names:
        signs.append(1.0 if SIGNALS[name].removed_first == "lowest" else -1.0)
    matrices = []
    for _, layers in _unpruned_signals(results).groupby(UNIT):
        signed = layers[names] * signs
        matrices.append(signed.corr(method="spearman").to_numpy())
    return np.stack(matrices)


def effective_signals(correlations: np.ndarray) -> np.ndarray:
    """Count how many independent orders of the layers a set of signals amounts to.

    The participation ratio of the correlation matrix's eigenvalues, (sum)^2 / sum of
    squares: 1 when all signals agree. Few layers keep it low whatever the signals are.

    Parameters
    ----------
    correlations : ndarray of shape (..., signals, signals)
        NaN with a signal that is the same in all layers: it gives no order.

    Returns
    -------
    ndarray of shape (...)
    """
    values = np.linalg.eigvalsh(np.nan_to_num(correlations))
    return values.sum(axis=-1) ** 2 / (values**2).sum(axis=-1)


@styled
def _draw_correlations(matrix: pd.DataFrame) -> Figure:
    names = in_registry_order(matrix.index)
    values = matrix.loc[names, names]
    texts = values.map("{:z.1f}".format).replace("nan", "–")
    texts = texts.map(lambda text: text.replace("-", "−"))
    figure, axes = one_panel(PAGE, 5.4)
    bar = {"label": "Spearman correlation of the orders of removal", "aspect": 40}
    draw_heat_map(axes, values, texts, cmap="RdBu_r", vmin=-1, vmax=1, cbar_kws=bar)
    titles = [strategy_title(name) for name in names]
    axes.set_xticks(np.arange(len(names)) + 0.5, titles, rotation=40, ha="right")
    return figure


@exhibit
def signal_correlation(results: Results) -> Exhibit:
    """Show how similarly the signals rank the layers.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
        Spearman correlations, means over datasets and seeds.
    """
    correlations = unit_correlations(results)
    names = pd.Index(recorded(results.signals), name="signal")
    matrix = pd.DataFrame(correlations.mean(axis=0), names, list(names))
    pairs = matrix.stack()
    pairs = pairs[[first < second for first, second in pairs.index]]
    count = effective_signals(correlations).mean()
    layers = results.depth
    # Of unrelated orders, squared correlations are 1 / (layers - 1).
    chance = len(names) / (1 + (len(names) - 1) / (layers - 1))
    finding = (
        f"Closest pair: {_pair(pairs, pairs.idxmax())}; most opposed: "
        f"{_pair(pairs, pairs.idxmin())}. The {len(names)} signals of a model carry "
        f"about {count:.1f} independent orders of its layers; as many unrelated orders "
        f"of as many layers would carry {chance:.1f}."
    )
    figure = _draw_correlations(matrix)
    return Exhibit("signal_correlation", matrix, finding, figure)


def _pair(pairs: pd.Series, names: tuple[str, str]) -> str:
    first, second = map(strategy_title, names)
    value = f"{pairs[names]:.2f}".replace("-", "−")
    return f"{first} and {second} ({value})"


@exhibit
def paper_and_we(results: Results) -> Exhibit:
    """Set what the paper says of the signals beside what we get.

    Parameters
    ----------
    results : Results

    Returns
    -------
    Exhibit
    """
    correlations = unit_correlations(results)
    names = recorded(results.signals)
    both = names.index("intensity"), names.index("energy")
    energy = correlations.mean(axis=0)[both]
    count = effective_signals(correlations).mean()
    finding = (
        "- The paper says: twelve signals from five groups.\n"
        f"- We get: about {count:.1f} independent orders of the layers in "
        f"{len(names)} signals; Intensity and Energy rank the layers with a "
        f"correlation of {energy:.2f}."
    )
    return Exhibit("signals_compared", pd.DataFrame(), finding)
