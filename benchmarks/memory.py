"""The most memory that a study holds at once, in all of its processes.

Shared pages are counted once, where the system tells them apart (Linux: proportional
set size).

usage: python benchmarks/memory.py [--profile embedded] [--all | --texts N]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil
from experiments import changed

from sfusion.experiments.profiles import load_profile
from sfusion.experiments.pruning_study import PruningStudy

GIB = 2**30
FEW = {"samples": 64}


def run_study(name: str, folder: Path, whole: bool, texts: int) -> None:
    """Run a study on a profile's own data and model.

    With few samples to train on, unless all are asked for. A model that takes long on a
    processor may read few texts too: they are a small part of its memory.
    """
    profile = load_profile(name)
    strategies = None
    if texts:
        sizes = {split: min(count or texts, texts) for split, count in profile.sizes}
        tasks = profile.tasks[:2]
        profile = changed(profile, sizes=sizes, tasks=tasks, random_orders=1)
    if not whole:
        profile = changed(profile, original=FEW, recovery=FEW, distillation=FEW)
        strategies = ["energy", "random", "random-forest"]
    PruningStudy(profile, strategies).run(folder, quiet=True)


def measure(
    profile: str, whole: bool = False, texts: int = 0, interval: float = 0.5
) -> dict[str, Any]:
    """Run a study and watch it; return the peaks in GiB."""
    peak = 0
    largest = 0
    workers = set()
    with tempfile.TemporaryDirectory() as folder:
        arguments = (profile, Path(folder), whole, texts)
        study = get_context("spawn").Process(target=run_study, args=arguments)
        study.start()
        root = psutil.Process(study.pid)
        try:
            while study.is_alive():
                sizes = held(root)
                peak = max(peak, sum(sizes.values()))
                here = {process for process in sizes if is_worker(process)}
                workers |= here
                largest = max([largest, *(sizes[process] for process in here)])
                time.sleep(interval)
        finally:
            study.kill()  # its workers end with it
            study.join()
    if study.exitcode:
        raise RuntimeError(f"the study of {profile} ended with {study.exitcode}")
    return {
        "profile": profile,
        "peak_gib": round(peak / GIB, 2),
        "largest_worker_gib": round(largest / GIB, 2),
        "workers_started": len(workers),
    }


def held(root: psutil.Process) -> dict[psutil.Process, int]:
    """List the bytes of a process and of all below it that have not ended."""
    family = [root]
    with contextlib.suppress(psutil.Error):
        family += root.children(recursive=True)
    sizes = {}
    for process in family:
        with contextlib.suppress(psutil.Error):
            info = process.memory_full_info()
            sizes[process] = getattr(info, "pss", info.rss)
    return sizes


def is_worker(process: psutil.Process) -> bool:
    """Tell a study's worker from its other processes."""
    try:
        return "LokyProcess" in " ".join(process.cmdline())
    except psutil.Error:
        return False


def main() -> None:
    """Print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="embedded")
    parser.add_argument("--all", action="store_true", help="with all of its samples")
    parser.add_argument(
        "--texts",
        type=int,
        default=0,
        help="so many of each split, of two tasks, one random order; by default all",
    )
    options = parser.parse_args()
    print(json.dumps(measure(options.profile, options.all, options.texts), indent=1))


if __name__ == "__main__":
    main()
