"""Every notebook, figure and table, listed once; how they are made, and README's numbers."""

import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sfusion import SfusionError
from sfusion.analysis import tables as analysis
from sfusion.analysis.claims import CLAIMS, scoreboard
from sfusion.analysis.costs import ledger
from sfusion.analysis.guidance import (
    choosing_blocks,
    compression_block,
    signed_interval,
    study_size,
)
from sfusion.analysis.statistics import BEST_SINGLE, CONTRASTS, SCRUTINY, contrasts
from sfusion.pruning.fusion import READS, SHIPPED_ROWS, training_table
from sfusion.records.profiles import ROOT
from sfusion.records.results import COMMITTED, load_report, load_results
from sfusion.records.store import write_atomically

SHOWN = "nine"  # the profile whose results the notebooks, figures/ and README show
DEFAULT = "embedded"  # the one that a fresh machine can reproduce


@dataclass(frozen=True)
class Notebook:
    """One notebook: the last stage it needs, and the figures and tables it makes."""

    title: str
    stage: str
    figures: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


NOTEBOOKS = {
    "00_start_here": Notebook("The question, the answer, the map", "distillation"),
    "01_signals": Notebook(
        "Twelve signals of a layer",
        "signals",
        figures=("signal_profile", "signal_correlation"),
        tables=("signal_definitions", "tasks"),
    ),
    "02_single_strategy_sweeps": Notebook(
        "Removing layers, one strategy at a time",
        "fusion",
        figures=("accuracy_by_depth", "removal_order", "maximum_accuracy"),
        tables=("maximum_accuracy",),
    ),
    "03_fusion_training": Notebook(
        "Fusing the signals",
        "fusion",
        figures=("fusion_fit", "fusion_coefficients", "fusion_importance"),
        tables=("fusion_quality",),
    ),
    "04_knowledge_distillation": Notebook(
        "The original teaches the pruned",
        "distillation",
        figures=("distillation_by_depth", "distillation_gain"),
        tables=("distillation",),
    ),
    "05_accuracy_to_size": Notebook(
        "Accuracy against size, and the scoreboard",
        "distillation",
        figures=("accuracy_to_size", "ratio_by_denominator", "protocol_gap", "scoreboard"),
        tables=("ratio_readings", "protocols", "scoreboard"),
    ),
    "06_beyond_the_paper": Notebook(
        "Baselines, transfer, controls, the best set, the bill, longer texts, twelve depths",
        "distillation",
        figures=(
            *("contrasts", "scrutiny", "regret", "overhead"),
            *("longer_texts", "longer_contrasts"),
            *("twelve_depths", "twelve_contrasts", "six_orders", "twelve_orders"),
        ),
        tables=("contrasts", "scrutiny", "regret", "overhead", "longer_texts", "twelve_depths"),
    ),
    "07_compress_your_own_model": Notebook(
        "Compress your own model",
        "distillation",
        figures=("compression_curve",),
        tables=("compression", "cost_of_depth", "strategies_ranked"),
    ),
}


def execute(name, profile, mode, folder, figures, tables):
    """Run one notebook from top to bottom.

    Parameters
    ----------
    name : str
        Of ``NOTEBOOKS``.
    profile, mode : str
        See :func:`sfusion.analysis.tables.open_results`.
    folder, figures, tables : Path
        Where the executed notebook, its figures and its tables go.

    Raises
    ------
    SfusionError
        When a cell fails: names the notebook and the error; or when the disk is full.
    """
    import papermill  # slow to import, and only this needs it

    source = ROOT / "notebooks" / f"{name}.ipynb"
    target = Path(folder) / f"{name}.ipynb"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(
            source,
            target,
            parameters={
                "PROFILE": str(profile),
                "MODE": mode,
                "FIGURES": str(figures),
                "TABLES": str(tables),
            },
            cwd=ROOT / "notebooks",
            kernel_name="python3",
            progress_bar=False,  # several run side by side; one bar counts them all
        )
    except papermill.PapermillExecutionError as error:
        raise SfusionError(
            f"notebook {name} failed at cell {error.exec_count}: {error.ename}: "
            f"{' '.join(error.evalue.split())}; see {target}"
        ) from error
    except OSError as error:
        raise SfusionError(f"cannot write {target}: {error.strerror}") from error


def save_table(name, frame, folder):
    """Write a table as CSV.

    Parameters
    ----------
    name : str
        Of a table in ``NOTEBOOKS``.
    frame : DataFrame
    folder : Path

    Returns
    -------
    DataFrame
        The same frame, to be shown.
    """
    text = frame.to_csv(float_format="%.6g", index=frame.index.name is not None)
    write_atomically(Path(folder) / f"{name}.csv", text.encode())
    return frame


def fill(text, blocks):
    """Put fresh numbers between a document's markers.

    Parameters
    ----------
    text : str
        Markdown with pairs ``<!-- begin NAME -->`` and ``<!-- end NAME -->``.
    blocks : dict
        New content by name.

    Returns
    -------
    str

    Raises
    ------
    SfusionError
        When the markers and the blocks do not match.
    """
    pattern = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
    found = {match[2] for match in pattern.finditer(text)}
    if found != set(blocks):
        odd = ", ".join(sorted(found ^ set(blocks)))
        raise SfusionError(f"markers and numbers do not match: {odd}")
    return pattern.sub(lambda match: f"{match[1]}{blocks[match[2]]}\n{match[3]}", text)


def readme_blocks(results):
    """Write the numbers that README shows.

    Parameters
    ----------
    results : Results
        Of the profile ``SHOWN``.

    Returns
    -------
    dict
        Markdown by marker.
    """
    return {
        "answer": _answer(results),
        "costs": _costs(),
        "scoreboard": _scoreboard(results),
        "compression": compression_block(load_report()),
        "artefacts": _map(),
    }


def _against(rows, others):
    """Say which of several contrasts leave 0, and to which side."""
    groups = {"beats": [], "falls behind": [], "is not told apart from": []}
    for key, other in others.items():
        points, low, high = 100 * rows[key][["difference", "low", "high"]].astype(float)
        number = signed_interval(points, low, high)
        if low <= 0 <= high:
            groups["is not told apart from"].append(f"{other} ({number})")
        else:
            span = number.partition(" ")[2]
            verb = "beats" if low > 0 else "falls behind"
            groups[verb].append(f"{other} by {abs(points):.1f} points {span}")
    said = {
        verb: " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
        for verb, words in groups.items()
    }
    return "; it ".join(f"{verb} {words}" for verb, words in said.items() if words)


def _answer(results):
    """Say in three sentences what was found, and under them what the means hide."""
    asked = {**CONTRASTS, **SCRUTINY}
    table = contrasts(results, asked).set_index(["contrast", "measure"])
    rows = {key: table.loc[(one.title, "area")] for key, one in asked.items()}
    others = {
        "random": "random orders",
        "top": "dropping the top layers",
        "single": "the single signal that validation prefers",
        "angle": "angular distance, which learns nothing",
        "oracle": "a greedy search that uses no signal",
    }
    transfer = {
        "transfer": "the task's own",
        "position-transfer": "one that reads a layer's position and no signal",
    }
    times = ledger(results, analysis.curves(results))["times"]
    seeds = results.tasks["seed"].nunique()
    top = table.loc[CONTRASTS["top"].title]
    top = 100 * top[["difference", "low", "high"]].astype(float)
    deepest = max(name for name in top.index if name.startswith("removed_"))
    measures = {
        "after one removal": "removed_1",
        f"after {deepest.partition('_')[2]}": deepest,
        "at the depth that validation chooses": "honest",
    }
    hidden = [f"{signed_interval(*top.loc[name])} {where}" for where, name in measures.items()]
    return (
        f"> On {study_size(results)}, a random forest that fuses the "
        f"twelve signals {_against(rows, others)}. "
        f"Trying out the removals that it learns from makes it cost {times['random-forest']:.1f} "
        "times the fine-tuning of one way down; a forest that learned on the other tasks alone "
        f"costs its user {times['random-forest-transfer']:.1f} times and "
        f"{_against(rows, transfer)}. "
        f"Distillation {_against(rows, {'teacher': 'the same steps without a teacher'})}.\n>\n"
        "> Points of test accuracy, averaged over the depths; in brackets 95% bootstrap intervals "
        f"over tasks{' and seeds' * (seeds > 1)}. The mean hides that the lead comes with depth: "
        f"over dropping the top layers it is {', '.join(hidden)}. The search costs "
        f"{times['greedy-oracle']:.1f} times the fine-tuning of one way down, finding the best "
        f"signal {times[BEST_SINGLE]:.1f} times."
    )


def _costs():
    """Say what a reproduction took, from the manifest of the committed run."""
    manifest = load_results(COMMITTED / DEFAULT).manifest
    seconds, machine = manifest["wall_seconds"], manifest["machine"]
    minutes = "an unknown number of" if seconds is None else f"{seconds / 60:.0f}"  # was resumed
    return (
        f"In the committed run of `make reproduce` (profile `{DEFAULT}`) the study took "
        f"{minutes} minutes on {manifest['jobs']} cores "
        f"({machine['processor']['name']}, {machine['precision']}), the notebooks about one more; "
        "the install takes about 2 minutes and 2.2 GB, the run about 4 GB under `build/`."
    )


def _scoreboard(results):
    lines = [
        "| | the paper says | we measure | ours [95% interval] | needed | verdict |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {claim} | {row['paper']} | {row['measure']} | {row['ours']:.2f} [{row['low']:.2f}, "
        f"{row['high']:.2f}] | {CLAIMS[claim].sign} {row['needed']:.2f} | {row['verdict']} |"
        for claim, row in scoreboard(results).iterrows()
    ]
    return "\n".join(lines)


def _map():
    lines = ["| notebook | question | figures and tables |", "|---|---|---|"]
    for name, notebook in NOTEBOOKS.items():
        made = [f"[{f}](figures/{f}.png)" for f in notebook.figures]
        made += [f"[{t} (table)](results/{SHOWN}/tables/{t}.csv)" for t in notebook.tables]
        link = f"[{name}](notebooks/{name}.ipynb)"
        lines.append(f"| {link} | {notebook.title} | {', '.join(made)} |")
    return "\n".join(lines)


def fusion_rows(results):
    """Tabulate what fusions learn from, for each way in which they read the layers.

    Parameters
    ----------
    results : Results

    Returns
    -------
    DataFrame
        Column ``reads``, and those of :func:`sfusion.pruning.fusion.training_table`; the removals of the
        first walks, which the fusions of the study learned from too.
    """
    nodes = analysis.first_walks(results)
    tables = [training_table(nodes, results.signals, reads).assign(reads=reads) for reads in READS]
    return pd.concat(tables, ignore_index=True)


# What writes the numbers of each document that has markers.
DOCUMENTS = {"README.md": readme_blocks, "docs/choosing.md": choosing_blocks}


def refresh(results):
    """Write anew what is made of the shown results: documents, and the removals that ship.

    Parameters
    ----------
    results : Results
        Of the profile ``SHOWN``.
    """
    write_atomically(SHIPPED_ROWS, fusion_rows(results).to_parquet(index=False))
    for name, blocks in DOCUMENTS.items():
        file = ROOT / name
        text = fill(file.read_text(encoding="utf-8"), blocks(results))
        write_atomically(file, text.encode())
