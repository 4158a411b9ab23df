"""Exhibits: what a notebook shows, a tidy table with its figure and its finding.

Every question that a notebook asks is answered by exhibits, functions of the results of
one or more studies. A notebook orders them and explains; it never wrangles a frame.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec

import pandas as pd
from matplotlib.figure import Figure

from sfusion.analysis.appearance import render
from sfusion.disk import write_atomically
from sfusion.errors import StudyLacks as StudyLacks

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True)
class Exhibit:
    """One thing shown in a notebook.

    Attributes
    ----------
    name : str
        File name without ending, unique among all notebooks.
    table : DataFrame
        The numbers that figure and finding are made of, tidy; written as CSV.
    finding : str
        What the numbers say, Markdown sentences computed from ``table``.
    figure : matplotlib.figure.Figure, optional
        Drawn from ``table``.
    caption : str
        What the figure or the table holds: units, means over what, intervals over what.
    shown : DataFrame, optional
        A table for reading, rounded and titled, where there is one to show.
    """

    name: str
    table: pd.DataFrame
    finding: str = ""
    figure: Figure | None = None
    caption: str = ""
    shown: pd.DataFrame | None = None


# What people read, where a table has a name of the code's.
PLAIN = {
    "task": "dataset",
    "flops": "FLOPs",
    "pp": "minus the original (pp)",
    "samples": "samples",
    "learning_rate": "learning rate",
    "head_rate": "rate of the head, times",
    "freeze_embeddings": "embeddings frozen",
    "batch_size": "texts per step",
    "hard_weight": "weight of the labels",
    "weight_decay": "weight decay",
    "removals": "layers removed",
    "removed": "layers removed",
    "lost": "what is removed",
    "path": "model",
    "layers": "layers left",
    "test_selected": "depth chosen on test (%)",
    "validation_selected": "depth chosen on validation (%)",
    "original_same_steps": "original, same steps (%)",
    "standing": "who says so",
}


def in_plain_words(table: pd.DataFrame) -> pd.DataFrame:
    """Write a table as people read it: headings in words, true minus signs.

    Parameters
    ----------
    table : DataFrame

    Returns
    -------
    DataFrame
        Its numbers are those of the table; negative ones are text.
    """
    shown = table.rename(columns=PLAIN)
    shown = shown.rename_axis(index=[PLAIN.get(n, n) for n in table.index.names])
    shown.columns.names = [PLAIN.get(name, name) for name in table.columns.names]
    for place, kind in enumerate(table.dtypes):
        if kind.kind == "f" and (table.iloc[:, place] < 0).any():
            texts = [_number_text(number) for number in table.iloc[:, place]]
            shown.isetitem(place, texts)
    return shown


def _number_text(number: float) -> str:
    return f"{number:.4g}".replace("-", "−")


@dataclass
class _Folders:
    """Where :func:`show` writes; nowhere until a notebook says so."""

    figures: Path | None = None
    tables: Path | None = None


_folders = _Folders()


def save_to(figures: str | Path, tables: str | Path) -> None:
    """Choose the folders that :func:`show` writes to.

    Parameters
    ----------
    figures : str or Path
        For exhibits with a figure: ``<name>.png``, ``.pdf`` and ``.csv``.
    tables : str or Path
        For exhibits that are a table: ``<name>.csv``.
    """
    _folders.figures = Path(figures)
    _folders.tables = Path(tables)


def exhibit(make: Callable[Arguments, Exhibit]) -> Callable[Arguments, Exhibit]:
    """Turn a study that lacks something into an exhibit that says so in a sentence.

    Parameters
    ----------
    make : callable
        Returns an :class:`Exhibit`; raises :class:`StudyLacks` for a study that does
        not hold what is asked for.

    Returns
    -------
    callable
    """

    @functools.wraps(make)
    def made(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Exhibit:
        try:
            return make(*args, **kwargs)
        except StudyLacks as error:
            return Exhibit(make.__name__, pd.DataFrame(), f"*Not shown: {error}.*")

    return made


def write(shown: Exhibit, folder: str | Path) -> None:
    """Write an exhibit's files into a folder.

    Parameters
    ----------
    shown : Exhibit
        Its table becomes ``<name>.csv``, with six significant digits; its figure, where
        it has one, ``<name>.png`` and ``<name>.pdf``.
    folder : str or Path
        Created when missing.

    Raises
    ------
    SfusionError
        When the folder cannot be written.
    """
    # Bits of right answers are long, and not for reading.
    table = shown.table.drop(columns=["test_correct", "test_texts"], errors="ignore")
    has_index = table.index.name is not None or table.index.nlevels > 1
    text = table.to_csv(index=has_index, float_format="%.6g", lineterminator="\n")
    files = {"csv": text.encode()}
    if shown.figure is not None:
        files["pdf"] = render(shown.figure, "pdf")
        files["png"] = render(shown.figure, "png")
    for form, content in files.items():
        write_atomically(Path(folder) / f"{shown.name}.{form}", content)


def show(shown: Exhibit) -> None:
    """Show an exhibit in a notebook, and write its files to the folders chosen.

    The figure or the table comes first, its caption under it, then the finding.

    Parameters
    ----------
    shown : Exhibit
    """
    from IPython.display import Markdown, display

    folder = _folders.tables if shown.figure is None else _folders.figures
    # The book finds the files of an exhibit by the name beside its outputs.
    metadata = {}
    if not shown.table.empty:
        metadata["exhibit"] = shown.name
        if folder is not None:
            write(shown, folder)
    if shown.figure is not None:
        display(shown.figure, metadata=metadata)
    if shown.shown is not None:
        with pd.option_context("display.max_colwidth", None):
            display(in_plain_words(shown.shown), metadata=metadata)
    if shown.caption:
        display(Markdown(f"*{shown.caption}*"), metadata=metadata)
    if shown.finding:
        display(Markdown(shown.finding), metadata=metadata)
