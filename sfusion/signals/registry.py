"""The table of signals, and the decorator by which a function becomes one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from sfusion.signals.layer_pass import LayerPass

    Compute = Callable[[LayerPass], float]


@dataclass(frozen=True)
class Signal:
    """One signal: its definition, its reading, and the function that computes it.

    Attributes
    ----------
    slug, title, group : str
        Name in code, name in print, and one of the paper's five groups, or
        ``"redundancy"``.
    unit : str
    removed_first : {"lowest", "highest"}
        Which layer a single-signal strategy removes.
    reading : str
        The biological reading.
    formula : str
        In the notation at the head of :mod:`sfusion.signals.definitions`.
    source : str
        Where the name or the definition comes from.
    compute : callable
    """

    slug: str
    title: str
    group: str
    unit: str
    removed_first: str
    reading: str
    formula: str
    source: str
    compute: Compute


SIGNALS: dict[str, Signal] = {}

# The measures by which other work ranks layers: how little a layer changes what passes
# through it. They are baselines beside the paper's twelve; of the fusions only that of
# all features reads them.
REDUNDANCY: dict[str, Signal] = {}


# Those of the paper, of which its claims speak; a signal that is added is none of them.
PAPER_SIGNALS = (
    "inhibition",
    "intensity",
    "energy",
    "task-relevance-mi",
    "information-flow-mi",
    "gradient-norm",
    "gradient-fisher",
    "gradient-taylor",
    "weight-norm",
    "weight-entropy",
    "attention-weight",
    "attention-entropy",
)


def recorded(table: pd.DataFrame) -> list[str]:
    """List the signals that a study recorded, those added since left out.

    Whatever reads the signals of saved results or of tried removals asks here, so that
    a signal may be added without running any study again.

    Parameters
    ----------
    table : DataFrame
        Signals or features of layers, a column per measure.

    Returns
    -------
    list of str
        Names in ``SIGNALS``, in its order.
    """
    return [name for name in SIGNALS if name in table]


def signal(
    title: str, group: str, unit: str, *, removed_first: str = "lowest"
) -> Callable[[Compute], Compute]:
    """Register the function below as a signal, or as a measure of redundancy.

    Parameters
    ----------
    title, group, unit, removed_first : str
        See :class:`Signal`; the slug is made from the title.

    Returns
    -------
    callable
        A decorator for a function of :class:`LayerPass` whose docstring holds reading,
        formula and source, a paragraph each. It raises ValueError for any other
        docstring, and for a name that is taken.
    """
    table = REDUNDANCY if group == "redundancy" else SIGNALS

    def register(compute: Compute) -> Compute:
        slug = title.lower().replace(" ", "-")
        if slug in SIGNALS or slug in REDUNDANCY:
            raise ValueError(f"signal {slug!r} is registered already")
        paragraphs = (compute.__doc__ or "").split("\n\n")
        if len(paragraphs) != 3:
            raise ValueError(
                f"the docstring of {compute.__name__} needs three paragraphs: reading, "
                "formula and source"
            )
        reading, formula, source = (" ".join(text.split()) for text in paragraphs)
        table[slug] = Signal(
            slug,
            title,
            group,
            unit,
            removed_first,
            reading,
            formula,
            source,
            compute,
        )
        return compute

    return register
