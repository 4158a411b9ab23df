"""Comparing two runs of one study.

Where processor, device, precision, threads and library versions are those of the
committed run, the numbers must be the same. Elsewhere rounding differs, and with it now
and then a choice: then they must lie within a tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sfusion.experiments.results import UNIT, Results, RowResults, StudyResults
from sfusion.signals.definitions import MEASURES

SCORES = ["validation_accuracy", "test_accuracy"]

SPREADS = (
    3.0  # tolerance, in standard errors of the difference between two means over seeds
)

# Share of a task's cells that may lie outside it: 3 errors alone would allow .003.
STRAYS = 0.05

# Tolerance of a single accuracy, which no seeds are averaged in: three standard errors
# of the difference of two, on a thousand texts. Declared here.
SINGLE_ACCURACY = 0.067


@dataclass(frozen=True)
class Compared:
    """What is compared of a frame of rows.

    Attributes
    ----------
    keys : tuple of str
        Columns that tell one row from another.
    values : tuple of str
        Columns that are compared; none: only whether the rows are there.
    tolerance : float
        How far a number may lie from the other run's, on another machine.
    """

    keys: tuple[str, ...]
    values: tuple[str, ...] = ()
    tolerance: float = 0.0


def same_machine(new: StudyResults, old: StudyResults) -> bool:
    """Check whether two runs promise equal numbers.

    Parameters
    ----------
    new, old : StudyResults

    Returns
    -------
    bool
        False, too, where the committed run recorded no machine.
    """
    machine = old.manifest["machine"]
    return machine is not None and machine == new.manifest["machine"]


def compare_rows(
    new: RowResults, old: RowResults, frames: Mapping[str, Compared]
) -> pd.DataFrame:
    """Compare two runs of a study of rows.

    Parameters
    ----------
    new, old : RowResults
        The reproduction and the committed results.
    frames : mapping of str to Compared
        What is compared, by frame.

    Returns
    -------
    DataFrame
        A row per frame and compared column: ``asked`` (``same numbers`` or ``within
        TOLERANCE``), counts ``same``, ``within``, ``differs`` and ``missing`` (rows of
        one run alone), and ``passed``: on another machine a few, see ``STRAYS``, may
        differ, and none may be missing.
    """
    exact = same_machine(new, old)
    table = pd.DataFrame(
        {"frame": name, **_count_column(new[name], old[name], column, rules, exact)}
        for name, rules in frames.items()
        for column in rules.values or ("",)
    )
    strays = 0.0 if exact else STRAYS
    allowed = strays * table[["same", "within", "differs"]].sum(axis=1)
    table["passed"] = (table["differs"] <= allowed) & (table["missing"] == 0)
    return table


def _count_column(
    new: pd.DataFrame, old: pd.DataFrame, column: str, rules: Compared, exact: bool
) -> dict[str, object]:
    """Count the rows whose value in a column is the same, near enough, or neither."""
    keys = list(rules.keys)
    columns = [*keys, column] if column else keys
    both = old[columns].merge(
        new[columns], "outer", keys, suffixes=("_old", "_new"), indicator=True
    )
    there = both["_merge"] == "both"
    same = there
    near = there
    if column:
        before, after = both[f"{column}_old"], both[f"{column}_new"]
        same = there & ((before == after) | (before.isna() & after.isna()))
        near = same
        if pd.api.types.is_numeric_dtype(before) and not exact:
            near = same | ((before - after).abs() <= rules.tolerance)
    return {
        "column": column,
        "asked": "same numbers" if exact else f"within {rules.tolerance:g}",
        "same": int(same.sum()),
        "within": int((near & ~same).sum()),
        "differs": int((there & ~near).sum()),
        "missing": int((~there).sum()),
    }


def _cells(results):
    """Tabulate the scores of the original, of strategies and of conditions."""
    nodes = results.nodes[[*UNIT, "path", *SCORES]]
    paths = results.trajectories.merge(
        nodes, on=[*UNIT, "path"], validate="many_to_one"
    )
    paths = paths.assign(what="strategies", cell=paths["strategy"])
    paths.loc[paths["removed"] == 0, ["what", "cell"]] = "original"
    taught = results.distillation.assign(
        what="distillation", cell=results.distillation["condition"]
    )
    keys = [*UNIT, "what", "cell", "removed"]
    frame = pd.concat([paths[[*keys, *SCORES]], taught[[*keys, *SCORES]]])
    return frame.drop_duplicates(keys).melt(keys, SCORES, var_name="score")


def _tolerance(old, samples):
    """Work out how far two means over seeds may lie apart, for each task and depth."""
    seeds = old["seed"].nunique()
    by_cell = old.groupby(["task", "what", "cell", "removed", "score"])["value"]
    variance = by_cell.var(ddof=1).groupby(["task", "removed", "score"]).mean()
    mean = by_cell.mean().groupby(["task", "removed", "score"]).mean()
    # One seed shows no spread, and two show little: a sample's own error is the least
    # there is.
    least = (
        mean * (1 - mean) / samples.reindex(mean.index.droplevel("removed")).to_numpy()
    )
    return SPREADS * np.sqrt(2 * np.fmax(variance, least) / seeds)


def compare(new: Results, old: Results) -> pd.DataFrame:
    """Compare two pruning studies of one profile.

    On another machine the means over seeds must lie within the spread over seeds.

    Parameters
    ----------
    new, old : Results
        The reproduction and the committed results.

    Returns
    -------
    DataFrame
        A row per task and thing compared: ``asked`` (``same numbers`` or ``within the
        spread over seeds``), counts ``same``, ``within``, ``differs``, and ``passed``.
    """
    exact = same_machine(new, old)
    keys = ["task", "what", "cell", "removed", "score"]
    cells_old = _cells(old)
    cells = cells_old.merge(
        _cells(new), on=[*keys, "seed"], how="outer", suffixes=("_old", "_new")
    )
    cells["same"] = cells["value_new"] == cells["value_old"]
    # A seed that is missing on one side makes the mean missing too, so that its cell
    # differs.
    whole = {
        side: (f"value_{side}", lambda values: values.mean(skipna=False))
        for side in ("new", "old")
    }
    means = cells.groupby(keys).agg(**whole, same=("same", "all")).reset_index()
    samples = old.tasks.groupby("task")[["validation", "test"]].first()
    samples = samples.set_axis(SCORES, axis=1).rename_axis("score", axis=1).stack()
    allowed = _tolerance(cells_old, samples).rename("allowed").reset_index()
    means = means.merge(allowed, on=["task", "removed", "score"], how="left")
    gap = (means["new"] - means["old"]).abs()
    means["within"] = ~means["same"] & (gap <= means["allowed"])
    means["differs"] = (
        ~means["same"] & ~means["within"]
    )  # a cell missing on one side, too
    means["missing"] = gap.isna()
    counted = means.groupby(["task", "what"], sort=False)[
        ["same", "within", "differs", "missing"]
    ].sum()
    table = pd.concat(
        [counted.reset_index(), _texts(new, old), _signals(new, old, exact)]
    )
    table["asked"] = "same numbers" if exact else "within the spread over seeds"
    table.loc[table["what"] == "texts", "asked"] = "same texts"
    total = table[["same", "within", "differs"]].sum(axis=1)
    strays = np.where(table["what"].isin(["original", "texts"]), 0.0, STRAYS)
    strict = exact | (table["what"] == "texts")
    passed = np.where(
        strict, table["same"] == total, table["differs"] <= strays * total
    ).astype(bool)
    table["passed"] = passed & ~(table["missing"] > 0)
    order = ["task", "what", "asked", "same", "within", "differs", "passed"]
    return table[order].sort_values(["task", "what"], ignore_index=True)


def _texts(new, old):
    """Compare the texts' fingerprints: with other texts no number means a thing."""
    keys = [*UNIT, "fingerprint"]
    both = old.tasks[keys].merge(
        new.tasks[keys], on=UNIT, how="outer", suffixes=("_old", "_new")
    )
    return _counted(
        both["task"], both["fingerprint_old"] == both["fingerprint_new"], "texts"
    )


def _signals(new, old, exact):
    """Compare the signals of the new study, where equal numbers are promised."""
    if not exact:
        return pd.DataFrame()
    # An earlier study may have extracted them where nothing reads them, and lack those
    # that were added since.
    both = old.signals.merge(
        new.signals, "right", on=[*UNIT, "path", "layer"], suffixes=("_old", "_new")
    )
    left, right = (
        both[[f"{n}_{end}" for n in MEASURES if n in old.signals]].to_numpy()
        for end in ("old", "new")
    )
    same = ((left == right) | (np.isnan(left) & np.isnan(right))).all(axis=1)
    units = old.signals[UNIT].drop_duplicates()
    there = units.merge(new.signals[UNIT].drop_duplicates(), "left", indicator=True)
    lost = there.loc[there["_merge"] == "left_only", ["task"]]
    rows = pd.concat([both[["task"]].assign(same=same), lost.assign(same=False)])
    return _counted(rows["task"], rows["same"].astype(bool), "signals")


def _counted(task, same, what):
    counted = pd.DataFrame({"task": task, "same": same, "differs": ~same})
    return counted.groupby("task", as_index=False).sum().assign(what=what, within=0)
