"""The most memory that a study holds at once: this process, its workers and all below them.

Shared pages are counted once, where the system tells them apart (Linux: proportional
set size).

usage: python benchmarks/memory.py [--profile embedded] [--all | --texts N]
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time

import psutil

GIB = 2**30
# The profile's own data and model; few samples to train on unless all are asked for. A
# model that takes long on a processor may read few texts too: they are a small part of
# its memory.
STUDY = """
import sys
from pathlib import Path
from sfusion.experiments.profiles import load_profile
from sfusion.experiments.pruning_study import PruningStudy
profile, folder, whole, texts = load_profile(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "True", int(sys.argv[4])
strategies = None
if texts:
    few = {split: min(count or texts, texts) for split, count in profile.sizes}
    sizes, tasks = profile.sizes.model_copy(update=few), profile.tasks[:2]
    profile = profile.model_copy(update={"sizes": sizes, "tasks": tasks, "random_orders": 1})
if not whole:
    stages = ("original", "recovery", "distillation")
    changes = {stage: getattr(profile, stage).model_copy(update={"samples": 64}) for stage in stages}
    profile = profile.model_copy(update=changes)
    strategies = ["energy", "random", "random-forest"]
PruningStudy(profile, strategies).run(folder, quiet=True)
"""


def measure(profile, whole=False, texts=0, interval=0.5):
    """Run a study and watch it; return the peaks in GiB."""
    peak = largest = 0
    workers = set()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", STUDY, profile, folder, str(whole), str(texts)]
        root = psutil.Popen(command)
        try:
            while root.poll() is None:
                total = 0
                for process in [root, *root.children(recursive=True)]:
                    try:
                        info = process.memory_full_info()
                        size = getattr(info, "pss", info.rss)
                        if "LokyProcess" in " ".join(process.cmdline()):
                            workers.add(process.pid)
                            largest = max(largest, size)
                    except psutil.Error:
                        continue  # ended since it was listed
                    total += size
                peak = max(peak, total)
                time.sleep(interval)
        except BaseException:
            root.kill()  # its workers end with it
            raise
        code = root.wait()
    if code:
        raise subprocess.CalledProcessError(code, command[:2])
    return {
        "profile": profile,
        "peak_gib": round(peak / GIB, 2),
        "largest_worker_gib": round(largest / GIB, 2),
        "workers_started": len(workers),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="embedded")
    parser.add_argument(
        "--all", action="store_true", help="the whole study, not its extent alone"
    )
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
