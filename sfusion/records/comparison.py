"""Hold a reproduction against the committed results.

What is asked depends on the machine. Where processor, device, precision, threads and library
versions are those of the committed run, the numbers must be the same. Elsewhere rounding differs,
and with it now and then a choice: then the means over seeds must lie within the spread over seeds.
"""

import numpy as np
import pandas as pd

from sfusion.analysis.tables import UNIT, curves
from sfusion.signals import SIGNALS

SCORES = ["validation_accuracy", "test_accuracy"]
SPREADS = 3.0  # tolerance, in standard errors of the difference between two means over seeds
STRAYS = 0.05  # share of a task's cells that may lie outside it: 3 errors alone would allow .003


def same_kind(new, old):
    """Whether two manifests promise equal numbers.

    Parameters
    ----------
    new, old : dict
        Manifests, see :class:`sfusion.records.results.Results`.

    Returns
    -------
    bool
    """
    return new["machine"] == old["machine"]


def _cells(results):
    """Tabulate a score a task, what was done and number of removed layers, by seed."""
    walks = curves(results)
    walks = walks.assign(what=walks["group"], cell=walks["strategy"])
    walks.loc[walks["removed"] == 0, ["what", "cell"]] = "original"
    arms = results.distillation.assign(what="distillation", cell=results.distillation["condition"])
    keys = [*UNIT, "what", "cell", "removed"]
    frame = pd.concat([walks[[*keys, *SCORES]], arms[[*keys, *SCORES]]])
    return frame.drop_duplicates(keys).melt(keys, SCORES, var_name="score")


def _tolerance(old, samples):
    """Work out how far two means over seeds may lie apart, for each task and depth."""
    seeds = old["seed"].nunique()
    by_cell = old.groupby(["task", "what", "cell", "removed", "score"])["value"]
    variance = by_cell.var(ddof=1).groupby(["task", "removed", "score"]).mean()
    mean = by_cell.mean().groupby(["task", "removed", "score"]).mean()
    # One seed shows no spread, and two show little: a sample's own error is the least there is.
    least = mean * (1 - mean) / samples.reindex(mean.index.droplevel("removed")).to_numpy()
    return SPREADS * np.sqrt(2 * np.fmax(variance, least) / seeds)


def compare(new, old):
    """Compare two studies of one profile.

    Parameters
    ----------
    new, old : Results
        The reproduction and the committed results.

    Returns
    -------
    DataFrame
        A row a task and thing compared: ``asked`` (``same numbers`` or ``within the spread over
        seeds``), counts ``same``, ``within``, ``differs``, and ``passed``.
    """
    exact = same_kind(new.manifest, old.manifest)
    keys = ["task", "what", "cell", "removed", "score"]
    cells_old = _cells(old)
    cells = cells_old.merge(_cells(new), on=[*keys, "seed"], how="outer", suffixes=("_old", "_new"))
    cells["same"] = cells["value_new"] == cells["value_old"]
    # A seed that is missing on one side makes the mean missing too, so that its cell differs.
    means = cells.groupby(keys).agg(
        new=("value_new", lambda values: values.mean(skipna=False)),
        old=("value_old", lambda values: values.mean(skipna=False)),
        same=("same", "all"),
    )
    means = means.reset_index()
    samples = old.tasks.groupby("task")[["validation", "test"]].first()
    samples = samples.set_axis(SCORES, axis=1).rename_axis("score", axis=1).stack()
    allowed = _tolerance(cells_old, samples).rename("allowed").reset_index()
    means = means.merge(allowed, on=["task", "removed", "score"], how="left")
    gap = (means["new"] - means["old"]).abs()
    means["within"] = ~means["same"] & (gap <= means["allowed"])
    means["differs"] = ~means["same"] & ~means["within"]  # a cell missing on one side, too
    counted = means.groupby(["task", "what"], sort=False)[["same", "within", "differs"]].sum()
    table = pd.concat([counted.reset_index(), _texts(new, old), _signals(new, old, exact)])
    table["asked"] = "same numbers" if exact else "within the spread over seeds"
    table.loc[table["what"] == "texts", "asked"] = "same texts"
    total = table[["same", "within", "differs"]].sum(axis=1)
    strays = np.where(table["what"].isin(["original", "texts"]), 0.0, STRAYS)
    strict = exact | (table["what"] == "texts")
    table["passed"] = np.where(
        strict, table["same"] == total, table["differs"] <= strays * total
    ).astype(bool)
    order = ["task", "what", "asked", "same", "within", "differs", "passed"]
    return table[order].sort_values(["task", "what"], ignore_index=True)


def _texts(new, old):
    """Compare the fingerprints of the texts: other texts make every other number meaningless."""
    both = old.tasks[[*UNIT, "fingerprint"]].merge(
        new.tasks[[*UNIT, "fingerprint"]], on=UNIT, how="outer", suffixes=("_old", "_new")
    )
    same = both["fingerprint_old"] == both["fingerprint_new"]
    counted = pd.DataFrame({"task": both["task"], "same": same, "differs": ~same})
    counted = counted.groupby("task", as_index=False).sum()
    return counted.assign(what="texts", within=0)


def _signals(new, old, exact):
    """Compare every signal of every node, where equal numbers are promised."""
    if not exact:
        return pd.DataFrame()
    keys = [*UNIT, "path", "layer"]
    both = old.signals.merge(new.signals, on=keys, how="outer", suffixes=("_old", "_new"))
    names = list(SIGNALS)
    left = both[[f"{name}_old" for name in names]].to_numpy()
    same = (left == both[[f"{name}_new" for name in names]].to_numpy()).all(axis=1)
    counted = pd.DataFrame({"task": both["task"], "same": same, "differs": ~same})
    counted = counted.groupby("task", as_index=False).sum()
    return counted.assign(what="signals", within=0)
