"""A signal and a strategy, added as CONTRIBUTING says, in a copy of the project.

The committed studies were run without them; all that reads these must go on as before.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest

from sfusion.experiments.profiles import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
EXAMPLE, FOLLOWED = re.findall(r"```python\n(.+?)```", CONTRIBUTING, re.DOTALL)
SIGNAL = f"\n{EXAMPLE}\n\n"
STRATEGY = '''
@strategy("second-first", "Second layer first", "position")
def second_first(view: View) -> ArrayLike:
    """Take the second of those that are left."""
    return [layer == view.layers[1] for layer in view.layers]


'''

# What a session would do with them, in the copy.
SESSION = """
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny

import sfusion as sf
from sfusion.experiments.profiles import load_profile
from sfusion.experiments.pruning_study import PruningStudy
from sfusion.pruning.fusion import fit_fusion, shipped_rows
from studies.candidates import CANDIDATES, removals, score_layers
from studies.followed import followed_paths

folder = Path(sys.argv[1])
NEW = ["strongest-weight", "second-first"]
profile = tiny.make_profile(
    tiny.write_model(folder / "model"),
    strategies=[*NEW, "energy", "linear-regression", "random-forest-all-transfer"],
    subsets=(),
)
study = PruningStudy(profile).run(folder / "study", quiet=True)

# Extracted, and a strategy that removes the layer where it is lowest.
roots = study.signals[study.signals["path"] == ""]
assert list(roots)[4:17] == list(sf.SIGNALS) and NEW[0] in sf.SIGNALS
paths = study.trajectories[study.trajectories["removed"] == 1].set_index("strategy")
for task, layers in roots.groupby("task"):
    lowest = layers.loc[layers[NEW[0]].idxmin(), "layer"]
    chosen = paths[paths["task"] == task]["path"]
    assert chosen[NEW[0]] == str(lowest)
    assert chosen[NEW[1]] == "1"
assert set(study.trajectories["strategy"]) == set(profile.strategies)

# Fusions of the study read it; those of removals that lack it do without.
table = sf.training_table(study.nodes, study.signals)
assert NEW[0] in fit_fusion(table, "linear-regression").feature_names_in_
shipped = fit_fusion(shipped_rows(), "linear-regression")
assert len(shipped.feature_names_in_) == 12
view_signals = study.signals[study.signals["path"] == ""].head(4)
features = sf.training_table(study.nodes, study.signals, "all")
assert shipped.predict(features[shipped.feature_names_in_]).shape == (len(features),)

# Every exhibit that reads signals shows the new study, and a committed one.
committed = sf.open_results("embedded")
for results, count in ((study, 13), (committed, 12)):
    names = sf.rankings.definitions(results).table.index
    assert (NEW[0] in names) == (count == 13)
    assert len(sf.rankings.signal_correlation(results).table) == count
    assert f"of {count} signals" in sf.rankings.signal_profile(results).finding
    assert sf.forecasts.removals(results).finding
    sf.rankings.definitions(results)
assert not (sf.scoreboard.scoreboard(committed)["verdict"] == "not measured").any()
assert followed_paths(committed, "reversed-strongest-weight") == []
assert followed_paths(committed, "reversed-energy")

# The example of CONTRIBUTING shows its row; the sweep that it asks for is this study.
sf.sweep = lambda profile, strategies: study.curves()
exec(sys.argv[2])
assert NEW[0] in curves["name"].unique()

tried = removals(committed)
assert NEW[0] not in tried
linear = replace(CANDIDATES["signals"], model="linear-regression")
CANDIDATES["signals"] = linear
assert score_layers(tried, "signals").notna().all()
"""


@pytest.fixture
def project(tmp_path):
    """Copy the code, with the two functions put beside the others."""
    copy = tmp_path / "project"
    for name in ("sfusion", "studies", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("results", "profiles", "pyproject.toml"):
        (copy / name).symlink_to(ROOT / name)
    _add(copy / "sfusion/signals/definitions.py", SIGNAL, '@signal("Attention-Weight"')
    _add(copy / "sfusion/pruning/strategies.py", STRATEGY, '@strategy("alternate"')
    return copy


def _add(file, function, before):
    """Put a function before another one."""
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, function.lstrip() + before), "utf-8")


@pytest.mark.study
def test_a_signal_and_a_strategy_are_added_by_a_function_each(project, tmp_path):
    from tiny import data_folder

    path = os.pathsep.join([str(project), str(project / "tests")])
    data = str(data_folder())
    environment = os.environ | {"PYTHONPATH": path, "SFUSION_DATA": data}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SESSION, tmp_path, FOLLOWED],
        cwd=project,
        env=environment | {"SFUSION_JOBS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
