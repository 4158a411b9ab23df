"""The whole pipeline for real: pretrained model, real text, every notebook, two processes."""

import os
import subprocess
import sys

import pytest

from sfusion.notebooks import NOTEBOOKS, SHOWN
from sfusion.pruning.strategies import expand
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
    assert len(results.tasks) == units
    assert set(results.nodes["layers"]) == {1, 2, 3, 4, 5, 6}
    assert len(results.trajectories) == 6 * units * len(expand(profile.strategies, profile.random_orders))
    taught = units * len(profile.distillation.removals)
    expected = {"distilled": taught, "same-steps": taught, "original-same-steps": units}
    assert results.distillation["condition"].value_counts().to_dict() == expected

    assert {file.stem for file in (folder / "notebooks").glob("*.ipynb")} == set(NOTEBOOKS)
    # What the committed replay saved, a reproduction saves too.
    for made, committed in (("figures", ROOT / "figures"), ("tables", COMMITTED / SHOWN / "tables")):
        files = list((folder / made).iterdir())
        assert {file.name for file in files} == {file.name for file in committed.iterdir()}
        assert all(file.stat().st_size for file in files)
