"""Speed and memory as ratios, each measured in one run on this machine.

Prints a table and writes build/bench.json, section by section; sections that are not
asked for stay as they were measured before. Exit code 1 when a budget is missed. With
--quick a few samples show that everything runs; its ratios stand for nothing, for
starting the workers takes longer than the work, so they are compared with no budget.

usage: python benchmarks/bench.py [--quick] [--readme] [SECTION ...]
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import machine
import memory
import sweep
from summary import summary

from sfusion import notebooks
from sfusion.disk import write_atomically
from sfusion.experiments.parallel import pool
from sfusion.experiments.results import BUILD


def replay(quick=False):
    """Time the notebooks of the shown profile, drawn from the committed records."""
    names = notebooks.NOTEBOOKS[: 2 if quick else None]
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("notebooks", "figures", "tables")]
        start = time.perf_counter()
        with pool(1) as run:
            list(
                run(
                    notebooks.execute,
                    [(n, notebooks.SHOWN, "replay", *places) for n in names],
                )
            )
        return {
            "notebooks": len(names),
            "seconds": round(time.perf_counter() - start, 1),
        }


README = Path(__file__).with_name("README.md")
SECTIONS = {
    "step": machine.step,
    "node": machine.node,
    "threads": machine.threads,
    "sweep": sweep.compare,
    "growth": sweep.growth,
    "replay": replay,
    "memory": lambda quick: memory.measure("smoke" if quick else "embedded"),
}

BUDGETS = [
    # what, section, key, and the least or the most that it may be
    (
        "sweep, times faster than the plain script",
        "sweep",
        "times_faster",
        "least",
        8.0,
    ),
    ("sweep, accuracy lost beyond seed noise", "sweep", "accuracy_lost", "most", 0.0),
    (
        "signals / forward and backward",
        "step",
        "signals_over_forward_backward",
        "most",
        1.5,
    ),
    ("step / matrix rate", "step", "share_of_matrix_rate", "least", 0.5),
    ("replay of all notebooks, seconds", "replay", "seconds", "most", 60.0),
    ("study of 2 workers, GiB", "memory", "peak_gib", "most", 3.0),
]


def verdicts(found):
    """Compare what was measured with the budgets."""
    for what, section, key, side, bound in BUDGETS:
        if section in found:
            value = found[section][key]
            met = value >= bound if side == "least" else value <= bound
            yield {
                "what": what,
                "measured": value,
                "budget": f"at {side} {bound:g}",
                "met": met,
            }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS)
    )
    parser.add_argument(
        "--readme", action="store_true", help="put the numbers into README.md"
    )
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"{unknown.pop()!r}: use {', '.join(SECTIONS)}")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the budgets are those of a processor
    file = BUILD / "bench.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    if found.get("quick") != options.quick:
        found = {"quick": options.quick}
    for name in options.sections or SECTIONS:
        start = time.perf_counter()
        found[name] = SECTIONS[name](options.quick)
        found[name]["bench_seconds"] = round(time.perf_counter() - start, 1)
        print(f"{name}: {found[name]['bench_seconds']} s", flush=True)
        found["budgets"] = list(verdicts(found))
        write_atomically(file, f"{json.dumps(found, indent=1)}\n".encode())
    print("", summary(found), sep="\n")
    if options.readme:
        between = "(?s)(?<=<!-- begin numbers -->\n).*(?=\n<!-- end numbers -->)"
        text = re.sub(between, lambda _: summary(found), README.read_text("utf-8"))
        write_atomically(README, text.encode())
    missed = not all(row["met"] for row in found["budgets"])
    sys.exit(1 if missed and not options.quick else 0)


if __name__ == "__main__":
    main()
