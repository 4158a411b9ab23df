"""Write what is made of the committed results: README, docs, the removals that ship.

usage: python tools/render.py [--check]

``--check`` writes nothing and ends with 1 when a file is stale. Each document is a
template in ``tools/templates/``, filled from the tables of the notebooks' exhibits.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from citations import cite, listed, plain, sentences
from explorer import explorer
from first_study import answers

import sfusion as sf
from sfusion.analysis.alternatives import (
    FORMATS,
    alternative_title,
    datasets_and_seeds,
)
from sfusion.analysis.appearance import strategy_title
from sfusion.analysis.contrasts import (
    CONTRASTS,
    CONTROLS,
    MODELS,
    OPPONENTS,
    contrast_text,
    contrasts,
)
from sfusion.analysis.overview import phrase
from sfusion.analysis.statistics import MARGIN, interval_text
from sfusion.compression.report import summary
from sfusion.disk import write_atomically
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.results import Results, RowResults
from sfusion.notebooks import DEFAULT, NOTEBOOKS, SHOWN, TWELVE
from sfusion.pruning.fusion import EVERYTHING, READS, SHIPPED_ROWS
from sfusion.pruning.strategies import COMPRESSION_STRATEGIES, DEFAULT_STRATEGY

TEMPLATES = Path(__file__).with_name("templates")
README = "README.md"
NUMBERS = "docs/numbers.md"
DOCUMENTS = {
    README: "README.md.jinja",
    "docs/choosing.md": "choosing.md.jinja",
    "docs/answers.md": "answers.md.jinja",
    "docs/ceiling.md": "ceiling.md.jinja",
}
EXPLORER = ROOT / "docs" / "book" / "explorer.json"

FAST = "nine-rate"  # the contrasts of SHOWN at the rate that brings back most
EVERY_CONTRAST = CONTRASTS | CONTROLS | OPPONENTS | MODELS
# Rows that an engineer asks for: title, and alternative, layers and format.
SPEED = [
    ("original, six layers", "original", 6, "torch"),
    ("original, six layers (ONNX)", "original", 6, "onnx"),
    ("original, six layers, 8 bits (ONNX)", "original", 6, "onnx_int8"),
    ("three layers", "compress", 3, "torch"),
    ("three layers (ONNX)", "compress", 3, "onnx"),
    ("three layers, 8 bits (ONNX)", "compress", 3, "onnx_int8"),
]

Contrasts = dict[str, pd.DataFrame]


def markdown(table: pd.DataFrame) -> str:
    """Write a table as Markdown, its numbers as they are formatted already."""
    return table.to_markdown(index=False, disable_numparse=True)


def points(row: pd.Series) -> str:
    """Write a change in percentage points with its interval."""
    return interval_text(*row[["change", "low", "high"]], signed=True)


def percentage(row: pd.Series) -> str:
    """Write a difference of shares with its interval, in percentage points."""
    return interval_text(*(100 * row[["difference", "low", "high"]]), signed=True)


def half(table: pd.DataFrame) -> str:
    """Write a contrast in words, with half of the layers removed."""
    return contrast_text(table.loc["half_removed"])


def both(table: pd.DataFrame) -> str:
    """Write a contrast in words, at half of the layers and as a mean over depths."""
    mean = contrast_text(table.loc["mean_accuracy"])
    return f"{half(table)}; as a mean over depths: {mean}"


def by_key(results: Results) -> Contrasts:
    """Compute every contrast of a study: a row per measure, by the contrast's key."""
    table = contrasts(results, EVERY_CONTRAST, ["half_removed", "mean_accuracy"])
    by_title = dict(list(table.set_index("measure").groupby("contrast")))
    return {
        key: by_title[contrast.title]
        for key, contrast in EVERY_CONTRAST.items()
        if contrast.title in by_title
    }


def against(table: pd.DataFrame, other: str) -> str:
    """Say in a clause how the first side stands to the other, at half of the layers."""
    return phrase(table.loc["half_removed"], other)


def over_depths(table: pd.DataFrame, other: str) -> str:
    """Say in a clause how the first side stands to the other, over all depths."""
    return phrase(table.loc["mean_accuracy"], other)


def half_points(table: pd.DataFrame) -> str:
    """Write a contrast with half of the layers removed as a number alone."""
    return percentage(table.loc["half_removed"])


def claims_table(results: Results, twelve: Results) -> pd.DataFrame:
    """Set the claims beside what is found on six and on twelve layers."""
    table = sf.overview.verdicts(results, twelve).table
    return table.rename_axis("").reset_index()


def notebooks() -> list[dict[str, str]]:
    """Take every notebook's question and one-line answer from its first cell."""
    found = []
    for name in NOTEBOOKS:
        file = ROOT / "notebooks" / f"{name}.ipynb"
        first = json.loads(file.read_text(encoding="utf-8"))["cells"][0]["source"]
        text = " ".join("".join(first).split())
        title = re.match(r"# (.+?) \*\*", text)
        answer = re.search(r"\*\*(.+?)\*\*", text)
        sentences_in = re.split(r"(?<=[.?!])\s+", text.replace("*", ""))
        questions = [part for part in sentences_in if part.endswith("?")]
        if title is None or answer is None or not questions:
            raise SystemExit(f"{name}: the first cell has no answer and question")
        row = {"title": title[1], "answer": answer[1], "question": questions[0]}
        found.append({"name": name, **row})
    return found


def choosing(results: Results) -> dict[str, pd.DataFrame]:
    """Make the tables of docs/choosing.md on depth, strategies and distillation."""
    depth = sf.compressing.layers_to_keep(results).shown
    for share in ("parameters", "flops"):
        depth[share] = depth[share].map("{:.0%}".format)
    depth = depth.rename(columns={"flops": "FLOPs", "pp": "minus the original (pp)"})
    ranked = sf.compressing.strategies(results)
    options = {name: name for name in COMPRESSION_STRATEGIES}
    # A compression's fusion has not seen the dataset: its row is the transferred one.
    for name in COMPRESSION_STRATEGIES:
        if f"{name}-transfer" in ranked.table.index:
            options[f"{name}-transfer"] = options.pop(name)
    offered = [
        f"`{options[name]}`" if name in options else "–" for name in ranked.table.index
    ]
    strategies = ranked.shown.reset_index()
    strategies.insert(1, "`--strategy`", offered)
    distilling = sf.compressing.distilling(results).shown
    return {
        "depth": depth.reset_index(),
        "strategies": strategies,
        "distillation": distilling.reset_index(),
    }


def alternatives(found: RowResults) -> dict[str, Any]:
    """Make the table of what else could be picked, and what the prose takes from it."""
    table = sf.alternatives.alternatives(found).table
    columns = {
        "model": table["model"],
        "alternative": table["alternative"].map(alternative_title),
        "layers": table["layers"].astype(str).replace("0", "–"),
        "as": table["format"].map(FORMATS),
        "minus the original (pp)": table.apply(points, axis=1),
        "ms, one text": table["ms_1"].map("{:.1f}".format),
        "ms, 32 texts": table["ms_32"].map("{:.0f}".format),
        "MB": table["megabytes"].map("{:.0f}".format),
        "minutes to make": table["minutes"].map("{:.1f}".format),
    }
    whole = pd.DataFrame(columns)
    large = table.query("model == 'mpnet-base' and format == 'torch'")
    large = dict(list(large.set_index("layers").groupby("alternative")))
    accuracy = found["accuracy"].groupby("model")
    speed = found["speed"].iloc[0]
    small = table[table["model"] == "minilm-l6"]
    small = small.set_index(["alternative", "layers", "format"])
    return {
        "whole": whole,
        "units": {model: datasets_and_seeds(rows) for model, rows in accuracy},
        "machine": f"{speed['processor']}, {speed['threads']} threads",
        "headline": _headline(small),
        "names": ", ".join(sorted(found["accuracy"]["task"].unique())),
        "time_left": _time_left(table.query("model == 'minilm-l6'"), 3),
        "large_time_left": _time_left(table.query("model == 'mpnet-base'"), 6),
        "speed": [_speed_row(small, *key) for key in SPEED],
        "tfidf": _cost_and_loss(small.loc["TF-IDF"].iloc[0]),
        "small": large["minilm-l6"].iloc[0],
        "small_cuts": small.xs("torch", level="format").loc["compress"],
        "gap": sf.alternatives.like_for_like(found).table.iloc[-1],
        "cuts": large["compress"],
        "large": large["original"].iloc[0],
    }


def _headline(small: pd.DataFrame) -> str:
    """Say how much faster half of the layers answer, as they are and in 8 bits."""
    original = small.loc["original", 6, "torch"]
    plain = small.loc["compress", 3, "torch"]
    rounded = small.loc["compress", 3, "onnx_int8"]
    original_rounded = small.loc["original", 6, "onnx_int8"]
    return (
        f"**Three of six layers answer in {plain['ms_1']:.1f} ms where the original "
        f"takes {original['ms_1']:.1f} ms, and as an ONNX file in 8 bits in "
        f"{rounded['ms_1']:.1f} ms (the original in 8 bits: "
        f"{original_rounded['ms_1']:.1f}).**"
    )


def _time_left(table: pd.DataFrame, layers: int) -> str:
    """Say what is left of the original's time, with PyTorch and as ONNX in 8 bits."""
    times = table.set_index(["alternative", "layers", "format"])["ms_1"]
    original = times["original"].loc[:, "torch"].iloc[0]
    plain = times["compress", layers, "torch"] / original
    rounded = times["compress", layers, "onnx_int8"] / original
    return f"{plain:.0%} (as ONNX in 8 bits {rounded:.0%})"


def _speed_row(small: pd.DataFrame, title: str, *key: Any) -> str:
    row = small.loc[key]
    is_original = key == ("original", 6, "torch")
    change = "–" if is_original else points(row)
    return f"{title} | {row['megabytes']:.0f} | {row['ms_1']:.1f} | {change}"


def _cost_and_loss(row: pd.Series) -> str:
    change = interval_text(*row[["change", "low", "high"]], signed=True)
    return f"{row['ms_1']:.1f} ms and changes accuracy by {change} pp"


def losers(found: RowResults) -> str:
    """Name the datasets on which the default lost more than the margin."""
    table = sf.defaults.by_dataset(found).table
    changes = table["default minus original"].sort_values()
    lost = changes[changes < -100 * MARGIN]
    margin = f"{100 * MARGIN:g} pp"
    if lost.empty:
        return f"on none of the {len(changes)} it lost more than {margin}"
    listed = ", ".join(f"{name} ({-change:.1f})" for name, change in lost.items())
    return f"it lost more than {margin} on {len(lost)} of the {len(changes)}: {listed}"


def ceiling(
    results: Results, twelve: Results, candidates: RowResults
) -> dict[str, Any]:
    """Make what docs/ceiling.md says, from the exhibits of the notebook."""
    found = sf.ceiling.ceiling(results)
    lookup = sf.beyond_position.lookup_regret(results, candidates)
    regret = lookup.table.set_index("name")
    fusions = regret.drop(index=["lookup table", "greedy", "chance"])
    beyond = sf.beyond_position.beyond_position(results)
    halved = found.table[found.table["read"] == sf.ceiling.VALIDATION]
    halved = halved.iloc[len(halved) // 2]
    sets = sf.layer_sets.searched_sets(results)
    return {
        "depth": results.depth,
        "half_gain": interval_text(*halved[["value", "low", "high"]], signed=True),
        "bound": f"{halved['dataset']:.1f}",
        "largest_bound": f"{found.table['dataset'].max():.1f}",
        "largest_model_bound": f"{found.table['model'].max():.1f}",
        "model_bound": f"{halved['model']:.1f}",
        "sets": sets["gone"].nunique(),
        "models": f"{len(sets):,}",
        "table": found.shown.reset_index(),
        "drawn": found.table["drawn"].iloc[0],
        "finding": found.finding,
        "by_dataset": sf.ceiling.ceiling_by_dataset(results).finding,
        "regret": regret["test_regret"].map("{:.2f}".format).to_dict(),
        "parents": int(regret["parents"].max()),
        "fusions": len(fusions),
        "best_fusion": f"{fusions['test_regret'].min():.2f}",
        "beyond": beyond.finding,
        "beyond_table": beyond.shown.reset_index(),
        "lost": sf.between_models.lost_ends(twelve).finding,
        "across": sf.between_models.signals_across_models(results, twelve).finding,
    }


def doses(found: RowResults) -> dict[str, str]:
    """Say how much it matters where samples go."""
    compared = sf.doses.ways_compared(found)
    table = compared.table.rename(columns={"value": "difference"})
    fewest = table["total"].min()
    few = table[table["total"] == fewest].set_index(["first", "second"])
    other = "one that was pruned step by step with as many"
    return {
        "units": datasets_and_seeds(found["rows"]),
        "fewest": f"{fewest:,}",
        "original": f"{found.manifest['profile']['original']['samples']:,}",
        "at_once": phrase(few.loc[("at once", "step by step")], other),
        "across": sf.doses.by_total(found).finding,
        "compared": compared.finding,
        "preferred": sf.doses.preferred_by_validation(found).finding,
    }


def choices(found: RowResults) -> dict[str, str]:
    """Say what is left of the differences between choices after the distillation."""
    losses = sf.choices.before_and_after_the_teacher(found).table
    means = losses.pivot(index="strategy", columns="stage", values="value")
    spread = (means.max() - means.min()).map("{:.1f}".format)
    leads = sf.choices.against_one_set_for_all(found)
    after = leads.table[leads.table["measure"] == "distilled"]
    lowest = after.loc[after["value"].idxmin()].rename({"value": "difference"})
    title = strategy_title(lowest["strategy"]).lower()
    return {
        "units": datasets_and_seeds(found["rows"]),
        "before": spread["recovered"],
        "after": spread["distilled"],
        "finding": leads.finding,
        "lowest": f"{title}, {phrase(lowest, 'one set for all datasets')}",
    }


def content(results: Results, twelve: Results) -> dict[str, Any]:
    """Gather what the templates name."""
    found = sf.open_results("alternatives")
    candidates = sf.open_results("candidates")
    six_contrasts = by_key(results)
    twelve_contrasts = by_key(twelve)
    sets = sf.layer_sets.own_best_set(results).table
    sets = sets[sets["contrast"].str.endswith("this model")].set_index("measure")
    turned = sf.directions.reversed_signals(results, candidates).table
    turned = turned[turned["measure"] == "half_removed"]
    published = sf.published.distillations(sf.open_results("distillation")).table
    control = published.loc["KD T=2", ["control", "control_low", "control_high"]]
    defaults = sf.defaults.compared(found).table
    report = sf.load_report()
    reproduction = sf.open_results(DEFAULT).manifest
    fast = sf.open_results(FAST)
    rates = {"shown": recovery_rate(results), "fast": recovery_rate(fast)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {
        "tasks": results.tasks["task"].nunique(),
        "seeds": results.tasks["seed"].nunique(),
        "twelve_tasks": twelve.tasks["task"].nunique(),
        "twelve_seeds": twelve.tasks["seed"].nunique(),
        "profile": results.manifest["profile"],
        "drawn": six_contrasts["random"]["drawn"].iloc[0],
        "six": six_contrasts,
        "twelve": twelve_contrasts,
        "fast": by_key(fast),
        "answer": sf.overview.answer(results, twelve).finding,
        "rate_ratio": f"{rates['fast'] / rates['shown']:.1f}",
        "rates": {name: f"{rate:.0e}" for name, rate in rates.items()},
        "rate_moved": rate_moved(results, fast),
        "universal": _universal(results),
        "first_measures": _first_measures(results),
        "doses": doses(sf.open_results("doses")),
        "choices": choices(sf.open_results("choices")),
        "losers": losers(found),
        "default": defaults.loc["The default against the original"],
        "summary": summary({"notes": [], **report}),
        "python": project["project"]["requires-python"].removeprefix(">="),
        "minutes": f"{reproduction['wall_seconds'] / 60:.0f}",
        "notebooks": notebooks(),
        "scoreboard": claims_table(results, twelve),
        "tables": choosing(results),
        "alternatives": alternatives(found),
        "chosen": sf.defaults.chosen(twelve, found).table,
        "defaults": defaults,
        "unlabelled": sf.defaults.unlabelled(found).table,
        "best_sets": sets,
        "reversed": f"{(turned['verdict'] == 'better').sum()} of {len(turned)}",
        "published": interval_text(*control, signed=True),
        "report": report,
        "reproduction": reproduction,
        "default_strategy": DEFAULT_STRATEGY,
        "answers": answers(results),
        "ceiling": ceiling(results, twelve, candidates),
    }


def recovery_rate(results: Results) -> float:
    """Look up the learning rate of a study's recoveries."""
    return results.manifest["profile"]["recovery"]["learning_rate"]


def rate_moved(results: Results, fast: Results) -> dict[str, str]:
    """Say how far a higher rate moves the forest's lead over random orders."""
    title = EVERY_CONTRAST["random"].title
    table = sf.settings.rate_contrasts(results, fast).table
    halved = table[table["measure"] == "half_removed"].set_index("contrast")
    before, after = 100 * halved.loc[title, "difference"]
    change = sf.settings.rate_changes(results, fast).loc[title]
    return {
        "before": f"{before:.1f}",
        "after": f"{after:.1f}",
        "change": interval_text(*change, signed=True),
    }


def _universal(results: Results) -> str:
    """Name the layers that one set for all datasets keeps, at half."""
    table = sf.ceiling.ceiling(results).table
    removed = sorted(table["removed"].unique())
    kept = table.loc[table["removed"] == removed[len(removed) // 2], "kept"]
    return f"layers {kept.iloc[0].replace(' ', ', ')}, counted from 0"


def _first_measures(results: Results) -> str:
    """Say which claims were measured otherwise at first, and what that changes."""
    found = sf.scoreboard.first_measures(results)
    claims = ", ".join(found.table.index)
    return f"What {claims} measure was changed after the first runs. {found.finding}"


def fusion_rows(studies: list[Results]) -> pd.DataFrame:
    """Tabulate what fusions learn from, for each way to read a model's layers."""
    tables = []
    for results in studies:
        nodes = sf.forecasts.fusion_nodes(results)
        model = results.manifest["profile"]["model"]
        for reads in READS:
            if reads not in EVERYTHING:
                rows = sf.training_table(nodes, results.signals, reads)
                tables.append(rows.assign(reads=reads, model=model))
    return pd.concat(tables, ignore_index=True)


def rendered(results: Results, twelve: Results) -> dict[Path, bytes]:
    """Make the documents and the explorer's content, by file."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    for write in (
        markdown,
        points,
        percentage,
        half,
        both,
        against,
        over_depths,
        half_points,
        cite,
    ):
        environment.filters[write.__name__] = write
    values = content(results, twelve)
    made = {EXPLORER: explorer([results, twelve]).encode()}
    texts = {}
    for name, template in DOCUMENTS.items():
        texts[name] = environment.get_template(template).render(values)
    numbers = sentences(texts[README])
    uncovered = [sentence.text for sentence in numbers if not sentence.is_covered]
    if uncovered:
        raise SystemExit(f"{README}: no source is given for:\n" + "\n".join(uncovered))
    listing = environment.get_template("numbers.md.jinja")
    texts[NUMBERS] = listing.render(numbers=listed(numbers))
    for name, text in texts.items():
        made[ROOT / name] = plain(text).encode()
    return made


def main() -> int:
    """Write or check every file; return the exit code."""
    results = sf.open_results(SHOWN)
    twelve = sf.open_results(TWELVE)
    stale = {}
    for file, text in rendered(results, twelve).items():
        if not file.is_file() or file.read_bytes() != text:
            stale[file] = text
    rows = fusion_rows([results, twelve])
    if not pd.read_parquet(SHIPPED_ROWS).equals(rows):
        stale[SHIPPED_ROWS] = rows.to_parquet(index=False)
    checks_only = "--check" in sys.argv[1:]
    for file, text in stale.items():
        if not checks_only:
            write_atomically(file, text)
        print(f"{'stale' if checks_only else 'written'}: {file.relative_to(ROOT)}")
    return 1 if checks_only and stale else 0


if __name__ == "__main__":
    sys.exit(main())
