"""The rate of the distillation, and labels at the rate that they prefer."""

from __future__ import annotations

import pandas as pd

from sfusion.analysis.contrasts import contrast_text
from sfusion.analysis.exhibits import Exhibit, StudyLacks, exhibit
from sfusion.analysis.scores import distilled, redrawn, task_means
from sfusion.analysis.statistics import compare_pair, number_text
from sfusion.analysis.teaching import TITLES
from sfusion.experiments.results import Results, RowResults


@exhibit
def tried_rates(results: Results, recipes: RowResults) -> Exhibit:
    """Show at which rate of distillation the model comes closest to the original.

    Parameters
    ----------
    results : Results
        The study whose model and rates are looked up.
    recipes : RowResults
        The study ``recipe``.

    Returns
    -------
    Exhibit
    """
    profile = results.manifest["profile"]
    rows = recipes["rows"]
    tried = rows[
        (rows["stage"] == "distillation") & (rows["model"] == profile["model"])
    ]
    used = profile["distillation"]["learning_rate"]
    if used not in set(tried["learning_rate"]):
        raise StudyLacks("the rate of this study's distillation was not tried out")
    accuracies = tried.pivot(
        index=["learning_rate", "task"], columns="path", values="validation_accuracy"
    )
    changes = 100 * accuracies.sub(accuracies[""], axis=0).drop(columns="")
    changes = changes.unstack("task").swaplevel(axis=1).sort_index(axis=1)
    is_taught = [path.endswith("distilled") for _, path in changes.columns]
    means = changes.loc[:, is_taught].mean(axis=1)
    rates = {used: "distillation"}
    rates.setdefault(profile["recovery"]["learning_rate"], "recoveries")
    known = [
        f"at {rate:g}, the rate of the {stage}, by {number_text(means[rate])} pp"
        for rate, stage in rates.items()
        if rate in means
    ]
    finding = (
        f"On validation, over {tried['task'].nunique()} datasets, the distilled model "
        f"differs from the original {', and '.join(known)}. It is highest at "
        f"{means.idxmax():g}."
    )
    table = changes.set_axis([": ".join(names) for names in changes.columns], axis=1)
    return Exhibit(
        "distillation_rates",
        table.round(2),
        finding,
        caption="Validation accuracy against the original's, in percentage points; "
        "layers removed at once, before and after the distillation.",
        shown=changes.round(1),
    )


@exhibit
def labels_at_their_rate(results: Results, slower: Results) -> Exhibit:
    """Compare the teacher with labels at the better of two rates, chosen by validation.

    Parameters
    ----------
    results : Results
    slower : Results
        The same study with another rate in its distillation.

    Returns
    -------
    Exhibit
    """
    frame = distilled(results)
    profile = results.manifest["profile"]
    other = slower.manifest["profile"]
    used = profile["distillation"]["learning_rate"]
    low = other["distillation"]["learning_rate"]
    alike = all(profile[key] == other[key] for key in ("model", "original", "recovery"))
    if used == low or not alike:
        raise StudyLacks("this study was distilled at one rate alone")
    frame = pd.concat([frame.assign(rate=used), distilled(slower).assign(rate=low)])
    frame = frame[frame["seed"].isin(slower.distillation["seed"])]
    validation = frame.groupby(["condition", "removed", "rate"])["validation_accuracy"]
    preferred = validation.mean()["same-steps"].unstack("rate").idxmax(axis=1)
    scores = redrawn(frame, ["condition", "removed", "rate"])
    means = 100 * task_means(scores).mean()
    changes = (means - means["original", 0, used]).unstack(["condition", "rate"])
    longer = changes.loc[0, "original-same-steps"]
    table = changes[["distilled", "same-steps"]].drop(index=0).round(2)
    table = table.rename(columns=TITLES)
    table.columns = [f"{condition} at {rate:g}" for condition, rate in table.columns]
    table.insert(0, "labels at", preferred)
    texts = []
    for removed, rate in preferred.items():
        teacher = scores["distilled", removed, used]
        labels = scores["same-steps", removed, rate]
        texts.append(contrast_text(compare_pair(teacher, labels)))
    table["teacher against labels"] = texts
    finding = (
        f"The same steps change the original by {number_text(longer[used])} pp at "
        f"{used:g} and by {number_text(longer[low])} pp at {low:g}."
    )
    caption = (
        "Percentage points of test accuracy against the original; the labels at the "
        f"rate that validation prefers; {slower.distillation['seed'].nunique()} seeds."
    )
    return Exhibit("teacher_rates", table, finding, None, caption, table)
