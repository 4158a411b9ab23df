"""The Makefile's contract: its targets, their commands, and how it makes the environment."""

import functools
import os
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Stands for Python: it writes down each call, and `-m venv` makes an environment out of itself.
FAKE_PYTHON = """#!/bin/sh
echo "$*" >> calls
case "$*" in
*"-m venv"*) rm -rf .venv; mkdir -p .venv/bin; cp fake-python .venv/bin/python ;;
*"$FAIL_ON"*) exit 1 ;;
esac
"""
BUILD = [
    "-m venv --clear .venv",
    "-m pip install --quiet torch==9.9",
    "-m pip install --quiet --requirement requirements.lock",
    "-m pip install --quiet --no-deps --no-build-isolation --editable .",
]


def _make(folder, *arguments, fails=False, **variables):
    # A make that runs these tests must not hand down its own options.
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PROFILE")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    environment |= {"FAIL_ON": "nothing", "PYTHON": "./fake-python"} | variables
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 60}
    done = subprocess.run(["make", *arguments], cwd=folder, env=environment, **options)
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


@pytest.fixture
def make(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "requirements.lock").write_text("torch==9.9\n")
    (tmp_path / "fake-python").write_text(FAKE_PYTHON)
    (tmp_path / "fake-python").chmod(0o755)
    return functools.partial(_make, tmp_path)


@pytest.fixture
def calls(tmp_path):
    """Return the calls since the last time, and forget them."""

    def new():
        path = tmp_path / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.write_text("")
        return lines

    return new


def test_plain_make_lists_every_target():
    public = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    listed = re.findall(r"^  ([a-z]+) +\S.*$", _make(ROOT), re.MULTILINE)
    assert sorted(listed) == sorted(public)
    assert set("help env reproduce replay compare test nbval book bench lint clean".split()) <= set(listed)


@pytest.mark.parametrize("target", ["reproduce", "replay", "compare"])
@pytest.mark.parametrize("profile", ["embedded", "nine"])
def test_profile_reaches_the_command_line(target, profile, make):
    choice = [] if profile == "embedded" else [f"PROFILE={profile}"]
    # A replay shows what README shows, unless told otherwise.
    told = [] if target == "replay" and not choice else ["--profile", profile]
    command = make("-n", target, *choice).splitlines()[-1].split()
    assert command == [".venv/bin/python", "-m", "sfusion", target, *told]


@pytest.mark.parametrize("target", ["reproduce", "replay", "compare", "test", "nbval", "bench"])
def test_a_target_makes_the_environment_first(target, make, calls):
    make(target)
    *build, _ = calls()
    assert build == BUILD


@pytest.mark.parametrize("newer", [None, "requirements.lock", "pyproject.toml"])
def test_environment_is_made_once_and_updated_in_place_when_stale(newer, make, calls, tmp_path):
    make("env")
    assert calls() == BUILD
    if newer:
        later = time.time() + 5
        os.utime(tmp_path / newer, (later, later))
    make("env")
    assert calls() == (BUILD[1:] if newer else [])


@pytest.mark.parametrize("step", BUILD[1:])
def test_half_made_environment_is_made_again(step, make, calls):
    make("env", fails=True, FAIL_ON=step)
    assert calls()[-1] == step
    make("env")
    assert calls() == BUILD


@pytest.mark.skipif(shutil.which("flock") is None, reason="the system has no flock command")
def test_two_makes_at_once_build_one_environment(make, calls):
    with ThreadPoolExecutor() as threads:
        list(threads.map(make, ["env", "env"]))
    assert calls() == BUILD


def test_missing_python_is_one_clear_line(make, tmp_path):
    assert "no Python 3.11 or later found" in make("env", fails=True, PYTHON="")
    assert not (tmp_path / ".venv").exists()


def test_clean_keeps_the_environment(make, tmp_path):
    gone, kept = ("build", "sfusion/__pycache__"), ".venv/lib/__pycache__"
    for folder in (*gone, kept):
        (tmp_path / folder).mkdir(parents=True)
    make("clean")
    assert [(tmp_path / folder).exists() for folder in (*gone, kept)] == [False, False, True]


def test_ci_runs_lint_and_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"\bmake lint test$", script.read_text(), re.MULTILINE)
