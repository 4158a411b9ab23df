"""Write what is made of the committed results: README, parts of the docs, the removals that ship.

usage: python tools/render.py [--check]

``--check`` writes nothing and ends with 1 when a file is stale. Each document is a
template in ``tools/templates/``, filled from the records of the profile that is shown.
"""

import json
import sys
from pathlib import Path

import jinja2
import pandas as pd

import sfusion as sf
from sfusion.disk import write_atomically
from sfusion.experiments.profiles import ROOT
from sfusion.notebooks import DEFAULT, SHOWN, TWELVE
from sfusion.pruning.fusion import EVERYTHING, READS, SHIPPED_ROWS
from sfusion.pruning.strategies import COMPRESSION_STRATEGIES, DEFAULT_STRATEGY, lookup

TEMPLATES = Path(__file__).with_name("templates")
EXPLORER = ROOT / "docs" / "book" / "explorer.json"
DOCUMENTS = {
    "README.md": "README.md.jinja",
    "docs/choosing.md": "choosing.md.jinja",
    "docs/answers.md": "answers.md.jinja",
}
FAST = "nine-rate"  # the shown study's contrasts at the rate of recovery that brings back most
FIRST = ROOT / "results" / "first-study"
CONTRASTS = (
    sf.statistics.CONTRASTS
    | sf.statistics.CONTROLS
    | sf.statistics.OPPONENTS
    | sf.statistics.MODELS
)
# Those of the fusion in README, at half of the layers.
ASKED = ["position", "middle", "angle", "oracle", "random"]
NULL = "", "x-x-x-x-x"  # no recovery, and five after which no layer is gone


def interval(row, scale=100, digits=1):
    """Write a difference with its interval from the first three numbers of a row."""
    return sf.statistics.interval_text(
        *(scale * float(n) for n in list(row)[:3]), digits, True
    )


def markdown(frame):
    """Write a frame as a Markdown table, its numbers as they are formatted already."""
    return frame.to_markdown(index=False, disable_numparse=True)


def contrast_rows(results):
    """Return ``difference``, ``low``, ``high``, ``verdict`` and ``drawn`` by contrast key and measure."""
    table = sf.statistics.contrasts(results, CONTRASTS).set_index(
        ["contrast", "measure"]
    )
    columns = ["difference", "low", "high", "verdict", "drawn"]
    there = table.index.unique("contrast")
    return {
        key: table.loc[one.title, columns]
        for key, one in CONTRASTS.items()
        if one.title in there
    }


def judged(row):
    """Write one measure of a contrast as a finding."""
    return f"{row['verdict']} ({interval(row)})"


def found(rows):
    """Write a contrast as a finding: at half of the layers, and as a mean over depths."""
    half, mean = rows.loc["half_removed"], rows.loc["mean_accuracy"]
    return f"{half['verdict']} ({interval(half)}; {interval(mean)})"


def scoreboard(boards):
    """Write the scoreboards of several models beside each other: a count where a claim counts datasets."""
    columns = {
        "": sf.claims.CLAIMS.index,
        "the paper says": sf.claims.CLAIMS["statement"],
    }
    for title, board in boards.items():
        columns[title] = [
            f"{row['count'] + ': ' if row['count'] else ''}{verdict(row)}"
            for _, row in board.iterrows()
        ]
    return markdown(pd.DataFrame(columns))


def fusion_table(studies):
    """Write the contrasts of the fusion of several models beside each other."""
    columns = {
        "random forest minus": [
            CONTRASTS[key].title.partition(" − ")[2] for key in ASKED
        ]
    }
    for title, rows in studies.items():
        columns[title] = [judged(rows[key].loc["half_removed"]) for key in ASKED]
    return markdown(pd.DataFrame(columns))


def reasons():
    """Compare the default of `compress` with forests on validation, which is what it was chosen by."""
    frame = sf.tables.curves(sf.open_results(TWELVE))
    scores = 100 * frame.pivot_table(
        index=["task", "seed"],
        columns=["name", "removed"],
        values="validation_accuracy",
    )
    gain = scores[DEFAULT_STRATEGY] - scores["one-shot-random-forest-other-model"]
    half = gain.columns.max() // 2 + 1
    parts = {"half": gain[half], "below": gain.loc[:, half + 1 :].mean(axis=1)}
    texts = {
        key: interval(sf.statistics.bootstrap(part), 1) for key, part in parts.items()
    }
    for key, file, other in (
        ("forest", "accuracy", "one-shot-random-forest"),
        ("former", "defaults", "random-forest"),
    ):
        rows = judged_rows(file).query(
            "model == 'minilm-l6' and format == 'torch' and layers == 3"
        )
        scores = 100 * rows.pivot_table(
            index=["task", "seed"], columns="alternative", values="validation_accuracy"
        )
        gain = scores["compress"] - scores[f"compress, {other}"]
        texts[key] = interval(sf.statistics.bootstrap(gain), 1)
        texts[f"{key}_tasks"] = units(gain)
    return texts


def judged_rows(name):
    """Read a table of `benchmarks/alternatives.py`."""
    file = ROOT / "results" / "alternatives" / f"{name}.csv"
    return pd.read_csv(file, converters={"test_correct": bytes.fromhex})


def units(scores):
    """Write how many tasks and seeds there are."""
    tasks, seeds = (scores.index.unique(level).size for level in ("task", "seed"))
    return f"{tasks} datasets, {'one seed' if seeds == 1 else f'{seeds} seeds'}"


def defaults():
    """Compare the default of `compress` with the former one and with the original, on test."""
    scores = 100 * sf.tables.redrawn(judged_rows("defaults"), ["alternative"])
    now, former, original = (
        scores[name] for name in ("compress", "compress, random-forest", "original")
    )
    pairs = {"now": now - original, "former": former - original, "gain": now - former}
    texts = {
        key: interval(sf.statistics.bootstrap(pair), 1) for key, pair in pairs.items()
    }
    return texts | {"units": units(now)}


def unlabelled():
    """Compare a distillation on more texts, which have no labels, with one on the labelled ones, as long or not."""
    rows = judged_rows("unlabelled")
    taught = (
        rows.groupby(["task", "seed"])
        .cumcount()
        .map(dict(enumerate(("original", "usual", "longer", "texts"))))
    )
    scores = 100 * sf.tables.redrawn(rows.assign(taught=taught), ["taught"])
    gains = {
        name: interval(sf.statistics.bootstrap(scores["texts"] - scores[name]), 1)
        for name in ("usual", "longer")
    }
    return gains | {"units": units(scores)}


def gain_of_distillation(results):
    """Tabulate what the teacher adds at each depth, over the pruned model and over the control."""
    frame, rows = sf.tables.distilled(results), {}
    frame = frame[
        (frame["removed"] > 0) & (frame["condition"] != "original-same-steps")
    ]
    for removed, part in frame.groupby("removed"):
        scores = 100 * sf.tables.redrawn(part, ["condition"])
        rows[removed] = {"layers left": int(part["layers"].iloc[0])} | {
            f"distilled, against {title} (pp)": interval(
                sf.statistics.bootstrap(scores["distilled"] - scores[name]), 1
            )
            for title, name in (("pruned", "pruned"), ("same steps", "same-steps"))
        }
    return pd.DataFrame(list(rows.values()))


def choosing(results):
    """Write the tables of docs/choosing.md."""
    depth = sf.costs.cost_of_depth(results)
    ranked = sf.costs.strategies_ranked(results)
    paired = sf.costs.strategies_ranked(results, sf.costs.DEFAULT)
    offered = {name: f"`{name}`" for name in COMPRESSION_STRATEGIES}
    return {
        "depth": markdown(
            pd.DataFrame(
                {
                    "layers left": depth.index,
                    "parameters": depth["parameters"].map("{:.0%}".format),
                    "FLOPs": depth["flops"].map("{:.0%}".format),
                    "test accuracy minus the original's (pp)": [
                        interval(row[["points", "low", "high"]], 1)
                        for _, row in depth.iterrows()
                    ],
                }
            )
        ),
        "strategies": markdown(
            pd.DataFrame(
                {
                    "strategy": [sf.STRATEGIES[name].title for name in ranked.index],
                    "`--strategy`": [offered.get(name, "–") for name in ranked.index],
                    "minus random orders (pp)": [
                        interval(r, 1) for _, r in ranked.iterrows()
                    ],
                    f"minus `{sf.costs.DEFAULT}` (pp)": [
                        interval(paired.loc[name], 1) if name in paired.index else ""
                        for name in ranked.index
                    ],
                }
            )
        ),
        "distillation": markdown(gain_of_distillation(results)),
    }


def study(profile):
    """Describe a study in the rows of docs/answers.md."""
    recipe = "{samples:,} samples at {learning_rate:g}".format
    head = profile["original"].get("head_rate", 1.0)
    return {
        "training texts, at most": f"{profile['sizes']['train']:,}",
        "test texts, at most": f"{profile['sizes']['test']:,}",
        "seeds": len(profile["seeds"]),
        "random orders": profile["random_orders"] * len(profile["seeds"]),
        "original": recipe(**profile["original"])
        + (f", its head at {head:g} times that" if head != 1 else ""),
        "recovery": recipe(**profile["recovery"]),
        "distillation": recipe(**profile["distillation"]),
        "tasks on which every set of layers was trained": len(profile["subsets"]),
    }


def answers(results, rows, board):
    """Write the tables of docs/answers.md: the first study beside the present one."""
    profile, first = (
        results.manifest["profile"],
        json.loads((FIRST / "profile.json").read_text(encoding="utf-8")),
    )
    changes = (
        pd.DataFrame({"first": study(first), "now": study(profile)})
        .rename_axis("")
        .reset_index()
    )
    claims = [
        (claim, old["paper"], verdict(old), verdict(board.loc[claim]))
        for claim, old in pd.read_csv(
            FIRST / "scoreboard.csv", index_col="claim"
        ).iterrows()
    ]
    old = pd.concat(
        pd.read_csv(FIRST / f"{name}.csv") for name in ("contrasts", "controls")
    )
    old = old.set_index(["contrast", "measure"])
    asked = {**sf.statistics.CONTRASTS, **sf.statistics.CONTROLS}
    measures = {"removed_3": "three removals", "mean_accuracy": "mean over depths"}
    contrasts = [
        (
            one.title,
            *(
                judged(table.loc[m])
                for m in measures
                for table in (old.loc[one.title], rows[key])
            ),
        )
        for key, one in asked.items()
    ]
    heads = [
        f"{what}, {when}" for what in measures.values() for when in ("first", "now")
    ]
    recipe = pd.read_csv(ROOT / "results" / "recipe.csv", keep_default_na=False)
    recipe = recipe.query("model == 'minilm-l6' and stage == 'recovery'")
    unit = ["samples", "learning_rate", "task", "seed"]
    before, after = (
        recipe[recipe["path"] == path].set_index(unit)["validation_accuracy"]
        for path in NULL
    )
    change = 100 * (after - before).groupby(unit[:2]).mean()
    changed = {
        name: change[one["recovery"]["samples"], one["recovery"]["learning_rate"]]
        for name, one in {"first": first, "now": profile}.items()
    }
    return {
        "changes": markdown(changes.astype(str)),
        "claims": markdown(
            pd.DataFrame(claims, columns=["", "the paper says", "first", "now"])
        ),
        "contrasts": markdown(pd.DataFrame(contrasts, columns=["", *heads])),
        "recipe": {
            name: f"{pp:+.1f}".replace("-", "−") for name, pp in changed.items()
        },
    }


def best_sets():
    """Compare the sets of layers that other datasets choose with an exhaustive search, as notebook 06 does."""
    table = pd.read_csv(ROOT / "results" / SHOWN / "tables" / "best_sets.csv").query(
        "minus == 'this model'"
    )
    table = table.drop(columns="minus").set_index("measure")
    return {"found": found(table), "half": judged(table.loc["half_removed"])}


def published():
    """Compare distillation for ten epochs with as many on the labels, as notebook 04 does."""
    table = pd.read_csv(
        ROOT / "results" / SHOWN / "tables" / "published_distillation.csv",
        index_col="condition",
    )
    return interval(table.loc["KD T=2", ["control", "control_low", "control_high"]], 1)


def reversed_signals():
    """Count the signals that do better reversed, with half of the layers removed, and all of them."""
    table = pd.read_csv(ROOT / "figures" / "reversed_signals.csv").query(
        "measure == 'half_removed'"
    )
    return f"{(table['verdict'] == 'better').sum()} of {len(table)}"


FORMATS = {
    "torch": "torch, float32",
    "onnx": "ONNX",
    "onnx_int8": "ONNX, 8 bits",
    "sklearn": "scikit-learn",
}


def alternatives():
    """Write what an engineer would pick instead: the table that notebook 10 saves, and a short one for README."""
    table = pd.read_csv(ROOT / "results" / SHOWN / "tables" / "alternatives.csv")
    depths = table.groupby("model")["layers"].transform("max")
    names = table["alternative"].where(
        table["layers"] == 0, table["alternative"] + ", " + table["layers"].astype(str)
    )
    columns = {
        "model": table["model"],
        "alternative, layers": names,
        "as": table["format"].map(FORMATS),
        "test accuracy minus the original's (pp)": [
            interval(row, 1) for row in table[["change", "low", "high"]].values
        ],
        "ms, one text": table["ms_1"].map("{:.1f}".format),
        "ms, 32 texts": table["ms_32"].map("{:.0f}".format),
        "MB": table["megabytes"].map("{:.0f}".format),
        "minutes to make": table["minutes"].map("{:.1f}".format),
    }
    whole = pd.DataFrame(columns)
    short = whole[
        (table["model"] == "minilm-l6")
        & (table["format"] != "onnx")
        & (
            table["alternative"].isin(["original", "TF-IDF"])
            | ((table["alternative"] == "compress") & (table["layers"] == depths // 2))
        )
    ]
    eight = (table["format"] == "onnx_int8").map({True: ", 8 bits", False: ""})
    short = pd.DataFrame(
        {"layers": names + eight, "pp": whole.iloc[:, 3], "ms": whole.iloc[:, 4]}
    ).loc[short.index]
    first = (table["alternative"] == "original") & (
        table["format"] == "torch"
    )  # of the small model first
    original, short = (
        whole.loc[first, "ms, one text"].iloc[0],
        short[~first.loc[short.index]],
    )
    rows = judged_rows("accuracy").set_index(["task", "seed"])
    counts = {
        model: units(rows[rows["model"] == model])
        for model in ("minilm-l6", "mpnet-base")
    }
    wide = table[(table["model"] == "mpnet-base") & (table["format"] == "torch")]
    small = wide[wide["alternative"] == "minilm-l6"].iloc[0]
    wide = wide[wide["alternative"].isin(["original", "compress"])].set_index("layers")
    found = {
        "whole": markdown(whole),
        "short": markdown(short),
        "units": counts,
        "original": original,
    }
    changes = {
        n: interval(row, 1) for n, row in wide[["change", "low", "high"]].iterrows()
    }
    found["small"] = {
        "change": interval(small[["change", "low", "high"]], 1),
        "ms": f"{small['ms_1']:.0f}",
    }
    scores = 100 * sf.tables.redrawn(
        rows[rows["format"] == "torch"].reset_index(),
        ["model", "alternative", "layers"],
    )
    gap = scores["mpnet-base", "compress", 2] - scores["minilm-l6", "original", 6]
    found["small"]["gap"] = interval(sf.statistics.bootstrap(gap, tasks=False), 1)
    ms = wide["ms_1"].map("{:.0f}".format).to_dict()
    cuts = "; ".join(
        f"{n} layers {changes[n]} pp, {ms[n]} ms"
        for n in changes
        if n < max(changes) // 2
    )
    return {**found, "wide": changes, "ms": ms, "cuts": cuts}


def verdict(row):
    """Write a claim's number with its interval, and the verdict."""
    return f"{sf.statistics.interval_text(row['ours'], row['low'], row['high'], 2)}: {row['verdict']}"


def content(results):
    """Gather what the templates name."""
    report, manifest = (
        sf.load_report(),
        sf.load_results(ROOT / "results" / DEFAULT).manifest,
    )
    rows, profile = contrast_rows(results), results.manifest["profile"]
    board, twelve = sf.claims.scoreboard(results), sf.open_results(TWELVE)
    others = contrast_rows(twelve)
    return {
        "tasks": results.tasks["task"].nunique(),
        "seeds": results.tasks["seed"].nunique(),
        "profile": profile,
        "found": {key: found(row) for key, row in rows.items()},
        "half": {key: judged(row.loc["half_removed"]) for key, row in rows.items()},
        "drawn": rows["random"]["drawn"].iloc[0],
        "scoreboard": scoreboard(
            {"12 layers": sf.claims.scoreboard(twelve), "6 layers": board}
        ),
        "fusion": fusion_table({"12 layers": others, "6 layers": rows}),
        "fast": {
            key: judged(row.loc["half_removed"])
            for key, row in contrast_rows(sf.open_results(FAST)).items()
        },
        "twelve": {key: found(row) for key, row in others.items()},
        "twelve_half": {
            key: judged(row.loc["half_removed"]) for key, row in others.items()
        },
        "twelve_tasks": twelve.tasks["task"].nunique(),
        "twelve_seeds": twelve.tasks["seed"].nunique(),
        "reasons": reasons(),
        "report": report,
        "reproduction": manifest,
        "default": DEFAULT_STRATEGY,
        "tables": choosing(results),
        "alternatives": alternatives(),
        "best_sets": best_sets(),
        "reversed": reversed_signals(),
        "published": published(),
        "defaults": defaults(),
        "unlabelled": unlabelled(),
        **answers(results, rows, board),
    }


def explorer(studies):
    """Gather what the book's explorer shows, for each model."""
    models, labels = {}, []
    for results in studies:
        models[results.manifest["profile"]["model"]], found = explored(results)
        labels += [label for label in found if label not in labels]
    titles = {
        label: lookup(label).title
        + label.removeprefix(lookup(label).name).replace("-", " ")
        for label in labels
    }
    content = {"models": models, "strategies": titles}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def explored(results):
    """Return the right answers for each node and the path of each strategy; and the strategies."""
    nodes, texts = (
        results.nodes,
        results.tasks.set_index(["task", "seed"])[["validation", "test"]],
    )
    by_layer = ~results.trajectories["strategy"].map(
        lambda label: lookup(label).once
    )  # a step is one layer
    trajectories = results.trajectories[by_layer]
    evaluated = (
        texts.sum(axis=1)
        .reindex(pd.MultiIndex.from_frame(nodes[["task", "seed"]]))
        .to_numpy()
    )
    ms = (
        (1000 * nodes["evaluation"] / evaluated)
        .groupby(nodes["layers"])
        .median()
        .round(3)
    )
    last = (
        trajectories.sort_values("removed").groupby(["task", "seed", "strategy"]).last()
    )
    tasks = {}
    for (task, seed), part in nodes.groupby(["task", "seed"]):
        count = int(texts.loc[(task, seed), "test"])
        sizes = {
            int(n): int(size)
            for n, size in part.groupby("layers")["parameters"].first().items()
        }
        paths = last.loc[(task, seed), "path"]
        kept = {
            "-".join(path.split("-")[:n])
            for path in paths
            for n in range(path.count("-") + 2)
        }
        right = (
            part.set_index("path")["test_accuracy"].filter(items=sorted(kept)) * count
        )
        entry = tasks.setdefault(
            task, {"test": count, "parameters": sizes, "seeds": {}}
        )
        entry["seeds"][int(seed)] = {
            "right": right.round().astype(int).to_dict(),
            "paths": paths.to_dict(),
        }
    about = {"layers": int(nodes["layers"].max()), "ms": ms.to_dict(), "tasks": tasks}
    return about, dict.fromkeys(trajectories["strategy"])


def fusion_rows(studies):
    """Tabulate the removals that fusions learn from, of each model and for each way to read the layers."""
    tables = []
    for results in studies:
        nodes, model = (
            sf.tables.fusion_nodes(results),
            results.manifest["profile"]["model"],
        )
        tables += [
            sf.training_table(nodes, results.signals, reads).assign(
                reads=reads, model=model
            )
            for reads in READS
            if reads not in EVERYTHING
        ]
    return pd.concat(tables, ignore_index=True)


def main():
    """Write or check every file; return the exit code."""
    results = sf.open_results(SHOWN)
    studies = [results, sf.open_results(TWELVE)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    values, made = content(results), {}
    for name, template in DOCUMENTS.items():
        made[ROOT / name] = environment.get_template(template).render(values).encode()
    made[EXPLORER] = explorer(studies).encode()
    rows, check = fusion_rows(studies), "--check" in sys.argv[1:]
    stale = [file for file, text in made.items() if not _same(file, text)]
    if not pd.read_parquet(SHIPPED_ROWS).equals(rows):
        made[SHIPPED_ROWS] = rows.to_parquet(index=False)
        stale.append(SHIPPED_ROWS)
    for file in stale:
        if not check:
            write_atomically(file, made[file])
        print(f"{'stale' if check else 'written'}: {file.relative_to(ROOT)}")
    return int(check and bool(stale))


def _same(file, text):
    return file.is_file() and file.read_bytes() == text


if __name__ == "__main__":
    sys.exit(main())
