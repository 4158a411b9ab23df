"""The whole pipeline for real: pretrained model, real text, every notebook, two processes."""

import os
import subprocess
import sys

import pytest

from sfusion.notebooks import NOTEBOOKS, SHOWN
from sfusion.pruning.strategies import STRATEGIES, expand
from sfusion.records.profiles import ROOT, load_profile
from sfusion.records.results import COMMITTED, load_results


@pytest.mark.slow
def test_reproduce_smoke(tmp_path):
    environment = {**os.environ, "SFUSION_BUILD": str(tmp_path), "CI": "true"}
    command = [sys.executable, "-m", "sfusion", "reproduce", "--profile", "smoke"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr

    folder, profile = tmp_path / "smoke", load_profile("smoke")
    results = load_results(folder / "results")
    units = len(profile.tasks) * len(profile.seeds)
    labels = expand(STRATEGIES, profile.random_orders)
    depth = results.nodes["layers"].max()
    assert depth == 6
    assert len(results.trajectories) == units * len(labels) * depth
    assert len(results.tasks) == units
    conditions = results.distillation.groupby("condition").size()
    assert conditions["distilled"] == conditions["same-steps"] == units * len(profile.distillation.removals)
    assert conditions["original-same-steps"] == units
    visited = results.trajectories.merge(results.nodes, on=["task", "seed", "path"])
    assert len(visited) == len(results.trajectories)
    assert results.nodes["test_accuracy"].between(0, 1).all()

    for name in NOTEBOOKS:
        assert (folder / "notebooks" / f"{name}.ipynb").is_file()
    # What the committed replay saved, a reproduction saves too.
    for made, committed in (("figures", ROOT / "figures"), ("tables", COMMITTED / SHOWN / "tables")):
        names = {file.name for file in committed.iterdir()}
        assert {file.name for file in (folder / made).iterdir()} == names
        assert all((folder / made / name).stat().st_size for name in names)
