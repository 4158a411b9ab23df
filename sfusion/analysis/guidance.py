"""Guidance for one's own model: what the records say of depth, strategy and distillation."""

import pandas as pd

from sfusion.analysis import tables as analysis
from sfusion.analysis.costs import ledger
from sfusion.analysis.statistics import SCRUTINY, contrasts
from sfusion.pruning.strategies import DEFAULT_STRATEGY, STRATEGIES
from sfusion.records.results import COMMITTED, load_results

# What a new dataset gets: a forest that has not seen it.
NEW_DATASET = "random-forest-transfer"
STAND_IN = "nine-deep"  # the study of another model


def _contrast(differences):
    """Average over tasks and seeds, in points, with the 95% bootstrap interval."""
    mean, low, high = analysis.bootstrap(100 * differences)
    return {"points": mean, "low": low, "high": high}


def cost_of_depth(results, strategy=NEW_DATASET):
    """Tabulate what a strategy's removals cost, layer by layer.

    Parameters
    ----------
    results : Results
    strategy : str

    Returns
    -------
    DataFrame
        Index ``layers left``; ``parameters`` and ``flops``, shares of the original's; ``points``
        of test accuracy against the original, ``low`` and ``high``: mean over tasks and seeds.
    """
    frame = analysis.curves(results)
    frame = frame[frame["name"] == strategy].set_index(analysis.UNIT)
    original = frame[frame["removed"] == 0]
    rows = {}
    for _, part in frame[frame["removed"] > 0].groupby("removed"):
        against = original.reindex(part.index)
        rows[int(part["layers"].iloc[0])] = {
            "parameters": (part["parameters"] / against["parameters"]).mean(),
            "flops": (part["flops"] / against["flops"]).mean(),
            **_contrast(part["test_accuracy"] - against["test_accuracy"]),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layers left")


def strategies_ranked(results, against="random"):
    """Rank the strategies by test accuracy averaged over the depths, against one of them.

    Parameters
    ----------
    results : Results
    against : str
        A strategy; it is left out. Differences are paired by task and seed.

    Returns
    -------
    DataFrame
        Index ``strategy``, best first; ``points``, ``low`` and ``high``.
    """
    area = analysis.wide(analysis.protocols(analysis.curves(results)), "area")
    names = [name for name in area if name != against and STRATEGIES[name].group != "control"]
    rows = {name: _contrast(area[name] - area[against]) for name in names}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("strategy")
    return table.sort_values("points", ascending=False, kind="stable")


def gain_of_distillation(results):
    """Tabulate what the teacher's steps add at each depth, with the control.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Index ``layers left``; columns ``against pruned`` and ``against same steps``, each with
        ``points``, ``low`` and ``high``.
    """
    frame = analysis.distilled(results)
    frame = frame[(frame["removed"] > 0) & (frame["condition"] != "original-same-steps")]
    rows = {}
    for _, part in frame.groupby("removed"):
        arms = part.pivot_table(index=analysis.UNIT, columns="condition", values="test_accuracy")
        rows[int(part["layers"].iloc[0])] = {
            (title, key): value
            for title, arm in (("against pruned", "pruned"), ("against same steps", "same-steps"))
            for key, value in _contrast(arms["distilled"] - arms[arm]).items()
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layers left")


def compression_table(report):
    """Put a compression's report into a table of before and after.

    Parameters
    ----------
    report : dict
        From :func:`sfusion.records.results.load_report`.

    Returns
    -------
    DataFrame
        Index ``measure``; columns ``original``, ``compressed`` and ``ratio``.
    """
    before, after = report["before"], report["after"]
    rows = {
        "layers": ("layers",),
        "parameters (M)": ("parameters", 1e6),
        "weights (MB)": ("bytes", 1e6),
        "GFLOPs a text": ("flops", 1e9),
        "test accuracy (%)": ("accuracy", 0.01),
        "lower end of its 95% interval (%)": ("low", 0.01),
        "upper end (%)": ("high", 0.01),
    }
    table = {
        title: [entry[key] / (unit[0] if unit else 1) for entry in (before, after)]
        for title, (key, *unit) in rows.items()
    }
    for batch in before["latency_ms"]:
        table[f"median ms, {batch.replace('_', ' ')}"] = [
            entry["latency_ms"][batch]["median"] for entry in (before, after)
        ]
    frame = pd.DataFrame.from_dict(table, orient="index", columns=["original", "compressed"])
    frame["ratio"] = frame["compressed"] / frame["original"]
    return frame.rename_axis("measure")


def signed_interval(points, low, high):
    """Write a difference with its interval as the documents do, all signs shown.

    Parameters
    ----------
    points, low, high : float
        Points of accuracy.

    Returns
    -------
    str
    """
    return f"{points:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")


def _table(heads, rows):
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def study_size(results):
    """Say how many tasks and seeds a study has.

    Parameters
    ----------
    results : Results

    Returns
    -------
    str
    """
    tasks, seeds = results.tasks["task"].nunique(), results.tasks["seed"].nunique()
    return f"{tasks} tasks, {seeds} seed{'s' * (seeds > 1)} each"


def _difference(results, asked):
    """Write the mean difference of a contrast over the depths, in points."""
    row = contrasts(results, {"asked": asked}, ["area"]).iloc[0]
    return signed_interval(*(100 * row[["difference", "low", "high"]].astype(float)))


def _default(results):
    """Say what the default strategy gains over one that needs no signal, and at what price."""
    asked = SCRUTINY["position-transfer"]
    points = _difference(results, asked)
    times = ledger(results, analysis.curves(results))["times"]
    return (
        f"The default is `{DEFAULT_STRATEGY}`. Against a forest of the same removals that reads a "
        f"layer's place and no signal it makes {points} points, and its pass for the signals makes "
        f"the way down cost {times[asked.first]:.2f} times what that one's does. Where the model "
        "or the task is like those of the records, `--strategy random-forest-position` is the "
        "thrifty choice."
    )


def _stand_in():
    """Say what the twelve-layer study has of the fusion against the place alone."""
    results = load_results(COMMITTED / STAND_IN)
    points = _difference(results, SCRUTINY["position"])
    return (
        f"On the stand-in with {results.nodes['layers'].max()} layers ({study_size(results)}, "
        "[notebook 06](../notebooks/06_beyond_the_paper.ipynb)) a forest of the task's own "
        f"removals makes {points} points against one that reads the place alone."
    )


def choosing_blocks(results):
    """Write the numbers that ``docs/choosing.md`` shows.

    Parameters
    ----------
    results : Results

    Returns
    -------
    dict
        Markdown by marker.
    """
    depth, gains = cost_of_depth(results), gain_of_distillation(results)
    paired = strategies_ranked(results, NEW_DATASET)
    seeds = results.tasks["seed"].nunique()
    profile = results.manifest["profile"]
    return {
        "evidence": (
            f"The numbers below come from the records of the profile `{profile['name']}`: "
            f"{study_size(results)}, the model "
            f"`{profile.get('model', 'by hand')}`. All are "
            "points of test accuracy, a mean over tasks and seeds with its 95% bootstrap interval "
            f"over {'both' if seeds > 1 else 'the tasks'}."
        ),
        "depth": _table(
            ["layers left", "parameters", "FLOPs", "test accuracy against the original"],
            [
                (
                    left,
                    f"{row['parameters']:.0%}",
                    f"{row['flops']:.0%}",
                    signed_interval(row["points"], row["low"], row["high"]),
                )
                for left, row in depth.iterrows()
            ],
        ),
        "strategy": _table(
            ["strategy", "`--strategy`", "against random orders", f"against `{NEW_DATASET}`"],
            [
                (
                    STRATEGIES[name].title,
                    f"`{name}`",
                    signed_interval(*row),
                    "" if name == NEW_DATASET else signed_interval(*paired.loc[name]),
                )
                for name, row in strategies_ranked(results).iterrows()
            ],
        ),
        "default": _default(results),
        "stand_in": _stand_in(),
        "distillation": _table(
            ["layers left", "distilled against pruned", "against the same steps, no teacher"],
            [
                (
                    left,
                    *(signed_interval(*row[title]) for title in dict.fromkeys(c[0] for c in gains)),
                )
                for left, row in gains.iterrows()
            ],
        ),
    }


def compression_block(report):
    """Write the numbers of a committed compression for README.

    Parameters
    ----------
    report : dict
        From :func:`sfusion.records.results.load_report`.

    Returns
    -------
    str
        Markdown.
    """
    rows = compression_table(report)
    digits = {"layers": 0, "GFLOPs a text": 2}
    machine, seconds = report["machine"], report["seconds"]
    table = _table(
        ["", "original", "compressed", "ratio"],
        [
            (title, *(f"{row[c]:.{digits.get(title, 1)}f}" for c in ("original", "compressed")),
             f"{row['ratio']:.2f}")
            for title, row in rows.iterrows()
        ],
    )  # fmt: skip
    return (
        f"{table}\n\n{report['verdict']} Both are measured on {report['data']['test']:,} test "
        f"texts of at most {report['data']['max_length']} tokens; the run, fine-tuning the "
        f"original on {report['data']['train']:,} texts among it, took "
        f"{seconds['clock'] / 60:.1f} minutes with {machine['threads']} "
        f"thread(s) on {machine['processor']}."
    )
