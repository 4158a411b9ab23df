"""What a reader's machine in the cloud installs: enough to replay, and no more."""

import json
import re
import subprocess
import sys
import tomllib

from sfusion.experiments.profiles import ROOT

# Packages that the replay does without.
HEAVY = ["torch", "transformers", "safetensors", "huggingface_hub", "onnx", "datasets"]

REPLAY = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import sfusion as sf

results = sf.open_results("embedded")
assert sf.overview.originals(results).finding
assert sf.sweeps.accuracy_by_depth(results).figure is not None
assert sf.scoreboard.every_claim(results).finding is not None
assert sf.rankings.signal_correlation(results).finding
"""


def test_a_replay_needs_neither_torch_nor_transformers():
    command = [sys.executable, "-c", REPLAY]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_light_requirements_are_those_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["notebooks"]]
    light = (ROOT / ".binder" / "requirements.txt").read_text("utf-8")
    lines = [line for line in light.splitlines() if not line.startswith("#")]
    assert set(lines) <= set(listed)
    names = {re.split(r"[>=<]", line)[0].replace("-", "_") for line in lines}
    assert not names & set(HEAVY)


def test_metadata_for_archives_and_containers_can_be_read():
    zenodo = json.loads((ROOT / ".zenodo.json").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert zenodo["license"] == project["license"]
    folder = ROOT / ".devcontainer"
    container = json.loads((folder / "devcontainer.json").read_text("utf-8"))
    # It is made by the step that all else begins with.
    assert container["postCreateCommand"] == "make env"
