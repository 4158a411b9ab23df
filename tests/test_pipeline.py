"""The whole pipeline for real: pretrained model, real text, every notebook, two processes."""

import os
import subprocess
import sys

import pandas as pd
import pytest

from sfusion.notebooks import NOTEBOOKS
from sfusion.pruning.strategies import STRATEGIES, expand
from sfusion.records.profiles import ROOT, load_profile
from sfusion.records.results import load_results


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
    arms = results.distillation.groupby("condition").size()
    assert arms["distilled"] == arms["same-steps"] == units * len(profile.distillation.removals)
    assert arms["original-same-steps"] == units
    visited = results.trajectories.merge(results.nodes, on=["task", "seed", "path"])
    assert len(visited) == len(results.trajectories)
    assert results.nodes["test_accuracy"].between(0, 1).all()

    for name, notebook in NOTEBOOKS.items():
        assert (folder / "notebooks" / f"{name}.ipynb").is_file()
        for figure in notebook.figures:
            for ending in ("png", "pdf", "csv"):
                assert (folder / "figures" / f"{figure}.{ending}").stat().st_size > 0
        for table in notebook.tables:
            assert len(pd.read_csv(folder / "tables" / f"{table}.csv")) > 0
