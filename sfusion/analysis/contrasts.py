"""Contrasts: comparisons of two strategies or conditions that were named before the runs."""

from collections import namedtuple
from pathlib import Path

import pandas as pd
import yaml

from sfusion.analysis.scores import distilled, measured, with_best_single
from sfusion.analysis.statistics import compare_pair

# One comparison: ``first`` minus ``second``, strategies or conditions of the
# distillation.
Contrast = namedtuple("Contrast", ["title", "first", "second"])

QUESTIONS = yaml.safe_load(
    Path(__file__).with_name("questions.yaml").read_text(encoding="utf-8")
)

CONTRASTS, CONTROLS, OPPONENTS, MODELS = (
    {key: Contrast(*one) for key, one in QUESTIONS[kind].items()}
    for kind in ("contrasts", "controls", "opponents", "models")
)


def contrasts(results, which=CONTRASTS, measures=None):
    """Compute every contrast under every measure.

    Parameters
    ----------
    results : Results
    which : dict of str to Contrast, optional
        By default ``CONTRASTS``.
    measures : list of str, optional
        Columns of :func:`measured`; by default all.

    Returns
    -------
    DataFrame
        A row per contrast and measure: ``contrast`` (its title), ``measure``, and the
        columns of :func:`compare_pair`. Contrasts whose strategies were not run are
        left out.
    """
    every = pd.concat([with_best_single(results.curves()), distilled(results)])
    scores = measured(
        every[every["name"].isin({name for one in which.values() for name in one[1:]})]
    )
    rows = [
        {"contrast": one.title, "measure": measure}
        | compare_pair(*(scores[measure, name] for name in one[1:]))
        for one in which.values()
        for measure in measures
        or dict.fromkeys(scores.columns.get_level_values("measure"))
        if {(measure, name) for name in one[1:]} <= set(scores)
    ]
    return pd.DataFrame(rows)
