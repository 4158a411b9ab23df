"""Speed and memory as ratios, each measured in one run on this machine.

Prints a table and writes build/bench.json, section by section; sections that are not
asked for stay as they were measured before. Exit code 1 when a budget is missed. With
--quick a few samples show that everything runs; its ratios stand for nothing, for
starting the workers takes longer than the work, so they are compared with no budget.

usage: python benchmarks/bench.py [--quick] [--readme] [SECTION ...]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import memory
import overhead
import step
import sweep
from experiments import seconds
from joblib.externals.loky import get_reusable_executor
from summary import summary

from sfusion import notebooks
from sfusion.disk import write_atomically
from sfusion.experiments.parallel import pool
from sfusion.experiments.results import BUILD

README = Path(__file__).with_name("README.md")


def replay(quick: bool = False) -> dict[str, Any]:
    """Time the notebooks of the shown profile, drawn from the committed records."""
    names = notebooks.NOTEBOOKS[:2] if quick else notebooks.NOTEBOOKS
    with tempfile.TemporaryDirectory() as folder, pool(1) as run:
        places = [Path(folder) / name for name in ("notebooks", "figures", "tables")]
        target = notebooks.Folders(*places)
        calls = [(name, notebooks.SHOWN, "replay", target) for name in names]
        spent = seconds(lambda: list(run(notebooks.execute, calls)))
    return {"notebooks": len(names), "seconds": round(spent, 1)}


def study_memory(quick: bool = False) -> dict[str, Any]:
    """Watch the memory of a study of two workers."""
    return memory.measure("smoke" if quick else "embedded")


SECTIONS = {
    "step": step.step,
    "node": step.node,
    "threads": step.threads,
    "sweep": sweep.compare,
    "overhead": overhead.overhead,
    "replay": replay,
    "memory": study_memory,
}


@dataclass(frozen=True)
class Budget:
    """The most, or the least, that something measured may be."""

    what: str
    section: str
    key: str
    bound: float
    is_least: bool = False

    def verdict(self, found: dict[str, Any]) -> dict[str, Any]:
        """Compare what was measured with the budget."""
        value = found[self.section][self.key]
        side = "least" if self.is_least else "most"
        is_met = value >= self.bound if self.is_least else value <= self.bound
        return {
            "what": self.what,
            "measured": value,
            "budget": f"at {side} {self.bound:g}",
            "met": bool(is_met),
        }


BUDGETS = [
    Budget(
        "sweep, times faster than the plain script", "sweep", "times_faster", 10, True
    ),
    Budget("sweep, accuracy lost beyond seed noise", "sweep", "accuracy_lost", 0),
    Budget(
        "signals / forward and backward", "step", "signals_over_forward_backward", 1.3
    ),
    Budget("step / matrix rate", "step", "share_of_matrix_rate", 0.5, True),
    Budget("overhead of a study, share of core time", "overhead", "share", 0.05),
    Budget("replay of all notebooks, seconds", "replay", "seconds", 45),
    Budget("study of 2 workers, GiB", "memory", "peak_gib", 3),
]


def verdicts(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the sections that were measured with the budgets."""
    return [budget.verdict(found) for budget in BUDGETS if budget.section in found]


def measure(sections: list[str], quick: bool) -> dict[str, Any]:
    """Measure sections one by one, each written as soon as it is there."""
    file = BUILD / "bench.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    if found.get("quick") != quick:
        found = {"quick": quick}
    for name in sections:
        # Workers keep the environment that they were started in, and its variables are
        # what some sections change.
        get_reusable_executor().shutdown(wait=True)
        start = time.perf_counter()
        found[name] = SECTIONS[name](quick)
        spent = round(time.perf_counter() - start, 1)
        found[name]["bench_seconds"] = spent
        print(f"{name}: {spent} s", flush=True)
        found["budgets"] = verdicts(found)
        write_atomically(file, f"{json.dumps(found, indent=1)}\n".encode())
    return found


def main() -> None:
    """Measure, print, and end with exit code 1 where a budget is missed."""
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
    found = measure(options.sections or list(SECTIONS), options.quick)
    print("", summary(found), sep="\n")
    if options.readme:
        between = "(?s)(?<=<!-- begin numbers -->\n).*(?=\n<!-- end numbers -->)"
        text = re.sub(between, lambda _: summary(found), README.read_text("utf-8"))
        write_atomically(README, text.encode())
    is_missed = not all(row["met"] for row in found["budgets"])
    sys.exit(1 if is_missed and not options.quick else 0)


if __name__ == "__main__":
    main()
