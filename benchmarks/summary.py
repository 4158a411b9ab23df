"""What the bench measured, as Markdown: for the terminal and for README.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

Found = dict[str, Any]


def summary(found: Found) -> str:
    """Write what was measured as Markdown, section by section."""
    parts: list[str] = []
    for name, write in SECTIONS.items():
        if name in found:
            parts.extend(write(found[name]))
    return "\n\n".join(parts)


def _table(frame: pd.DataFrame, index: str) -> str:
    """Write a table with a name for its index, digits as they are."""
    return frame.rename_axis(index).to_markdown(disable_numparse=True)


def _budgets(rows: list[Found]) -> Iterator[str]:
    frame = pd.DataFrame(rows)
    frame["met"] = frame["met"].map({True: "met", False: "MISSED"})
    frame = frame.rename(columns={"met": ""}).set_index("what")
    yield _table(frame, "what")


def _step(found: Found) -> Iterator[str]:
    yield (
        f"A step's operations take {found['share_of_matrix_rate']:.0%} of the rate of "
        "its own matrix products "
        f"({found['share_of_best_product_rate']:.0%} of that of the best of them on "
        "one pair in the cache), its bytes (of every operator's arguments and results) "
        f"{found['share_of_memory_rate']:.0%} of the memory rate, at "
        f"{found['threads']} thread in {found['precision']}. It trains "
        f"{found['training_samples_per_second']:.0f} samples a second."
    )


def _node(found: Found) -> Iterator[str]:
    shares = pd.Series(found["shares_of_time"]).map("{:.0%}".format)
    yield _table(shares.to_frame("share"), "of a node's time")


def _threads(found: Found) -> Iterator[str]:
    yield (
        f"Two runs of one thread train {found['ratio']} times the samples of one run "
        "of two."
    )


def _sweep(found: Found) -> Iterator[str]:
    alone = pd.Series(found["savings"]["times_faster_alone"])
    own_signals = found["times_faster_than_with_own_signals_alone"]
    yield _table(alone.to_frame("times faster"), "what saves time, alone (worked out)")
    yield (
        "Against a plain script that takes of every path its own signal alone, the "
        f"sweep is {own_signals} times faster."
    )
    curves = 100 * pd.DataFrame(found["test_accuracy_by_removed_layers"]).T
    yield _table(curves.map("{:.1f}".format), "test accuracy (%) by removed layers")
    yield (
        "Over all of these the plain script's mean minus the package's is "
        f"{100 * found['accuracy_plain_less_package']:+.1f} pp; one more seed of the "
        f"package would lie within ±{100 * found['accuracy_seed_noise']:.1f} of its "
        "mean (95%)."
    )


def _overhead(found: Found) -> Iterator[str]:
    yield (
        f"A study of {found['units']} units and {found['nodes']} nodes spends "
        f"{found['overhead_seconds_per_node']} core-seconds per node outside training, "
        "evaluation and signals."
    )


def _memory(found: Found) -> Iterator[str]:
    yield (
        f"Of the {found['peak_gib']} GiB at most the largest worker held "
        f"{found['largest_worker_gib']}; {found['workers_started']} workers were "
        "started."
    )


SECTIONS: dict[str, Callable[[Any], Iterator[str]]] = {
    "budgets": _budgets,
    "step": _step,
    "node": _node,
    "threads": _threads,
    "sweep": _sweep,
    "overhead": _overhead,
    "memory": _memory,
}
