"""The first study beside the present one: the tables of docs/answers.md."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

import sfusion as sf
from sfusion.analysis.contrasts import CONTRASTS, CONTROLS, contrast_text
from sfusion.analysis.statistics import number_text, verdict_text
from sfusion.analysis.twelve_layers import claim_text
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.results import Results

FOLDER = ROOT / "results" / "first-study"
MEASURE = "removed_3"  # half of six layers, as the first study calls it


def answers(results: Results) -> dict[str, Any]:
    """Gather what docs/answers.md compares.

    Parameters
    ----------
    results : Results
        The present study.

    Returns
    -------
    dict
    """
    now = results.manifest["profile"]
    first = json.loads((FOLDER / "profile.json").read_text(encoding="utf-8"))
    changes = pd.DataFrame({"first study": _settings(first), "second": _settings(now)})
    turned, kept = _contrasts(results)
    return {
        "changes": changes.rename_axis("").reset_index().astype(str),
        "claims": _claims(results),
        "turned": turned,
        "kept": ", ".join(kept.iloc[:, 0]),
        "recipe": {"first": _drift(results, first), "now": _drift(results, now)},
    }


def _settings(profile: dict[str, Any]) -> dict[str, Any]:
    head = profile["original"].get("head_rate", 1.0)
    original = _dose(profile["original"])
    if head != 1:
        original += f", its head at {head:g} times that"
    return {
        "training texts, at most": f"{profile['sizes']['train']:,}",
        "test texts, at most": f"{profile['sizes']['test']:,}",
        "seeds": len(profile["seeds"]),
        "random orders": profile["random_orders"] * len(profile["seeds"]),
        "original": original,
        "recovery": _dose(profile["recovery"]),
        "distillation": _dose(profile["distillation"]),
        "datasets on which every set of layers was trained": len(profile["subsets"]),
    }


def _dose(recipe: dict[str, Any]) -> str:
    return f"{recipe['samples']:,} samples at {recipe['learning_rate']:g}"


def _claims(results: Results) -> pd.DataFrame:
    now = sf.scoreboard.scoreboard(results)
    first = pd.read_csv(FOLDER / "scoreboard.csv", index_col="claim")
    table = first[["paper"]].rename(columns={"paper": "the paper says"})
    for title, board in {"first": first, "second": now}.items():
        numbers = board.assign(count="").apply(claim_text, axis=1)
        table[f"{title} study"] = numbers + ": " + board["verdict"]
    turned = table[first["verdict"] != now["verdict"]]
    return turned.rename_axis("").reset_index()


def _contrasts(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    asked = CONTRASTS | CONTROLS
    present = sf.contrasts.contrasts(results, asked, [MEASURE])
    files = [FOLDER / "contrasts.csv", FOLDER / "controls.csv"]
    studies = {"first": pd.concat(map(pd.read_csv, files)), "second": present}
    columns = {}
    verdicts = {}
    for title, table in studies.items():
        rows = table[table["measure"] == MEASURE].set_index("contrast")
        columns[f"{title} study"] = rows.apply(contrast_text, axis=1)
        verdicts[title] = rows.apply(_verdict, axis=1)
    texts = pd.DataFrame(columns).loc[[one.title for one in asked.values()]]
    turned = verdicts["first"] != verdicts["second"]
    texts = texts.rename_axis("half of the layers removed").reset_index()
    is_turned = texts.iloc[:, 0].map(turned)
    return texts[is_turned], texts[~is_turned]


def _verdict(row: pd.Series) -> str:
    return verdict_text(row["low"], row["high"])


def _drift(results: Results, profile: dict[str, Any]) -> str:
    """Return what five recoveries of a profile change in a model that loses nothing."""
    long = sf.open_results("nine-long")
    tried = sf.settings.recovery(results, long, sf.open_results("recipe")).table
    used = profile["recovery"]
    row = tried[
        (tried["lost"] == "nothing")
        & (tried["samples"] == used["samples"])
        & (tried["learning_rate"] == used["learning_rate"])
    ]
    return number_text(row["after 5"].item())
