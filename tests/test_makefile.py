"""The Makefile's contract: its targets, their commands, and how it makes the environment."""

import os
import re
import shutil
import subprocess
import time
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


def _start(*arguments, folder=ROOT, **variables):
    # A make that runs these tests must not hand down its own options.
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PROFILE", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    return subprocess.Popen(
        ["make", *arguments],
        cwd=folder,
        env=environment | {"FAIL_ON": "nothing"} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _make(*arguments, status=0, **options):
    process = _start(*arguments, **options)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode == 0) == (status == 0), output
    return output


@pytest.fixture
def checkout(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "requirements.lock").write_text("torch==9.9\n")
    (tmp_path / "fake-python").write_text(FAKE_PYTHON)
    (tmp_path / "fake-python").chmod(0o755)
    return tmp_path


def _calls(checkout):
    """Return the calls since the last time, and forget them."""
    path = checkout / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.write_text("")
    return lines


def test_plain_make_lists_every_target():
    text = (ROOT / "Makefile").read_text()
    public = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1]
    listed = re.findall(r"^  ([a-z]+) +\S.*$", _make(), re.MULTILINE)
    assert sorted(listed) == sorted(public.split())
    contract = "help env reproduce replay compare test nbval bench lint clean"
    assert set(contract.split()) <= set(listed)


@pytest.mark.parametrize("target", ["reproduce", "replay", "compare"])
@pytest.mark.parametrize("profile", ["embedded", "nine"])
def test_profile_reaches_the_command_line(target, profile, checkout):
    choice = [] if profile == "embedded" else [f"PROFILE={profile}"]
    planned = _make("-n", target, *choice, folder=checkout).splitlines()
    # A replay shows what README shows, unless told otherwise.
    told = [] if target == "replay" and not choice else ["--profile", profile]
    assert planned[-1].split() == [".venv/bin/python", "-m", "sfusion", target, *told]


@pytest.mark.parametrize("target", ["reproduce", "replay", "compare", "test", "nbval", "bench"])
def test_a_target_makes_the_environment_first(target, checkout):
    _make(target, "PYTHON=./fake-python", folder=checkout)
    calls = _calls(checkout)
    assert calls[: len(BUILD)] == BUILD
    assert len(calls) == len(BUILD) + 1


def test_environment_is_made_once(checkout):
    _make("env", "PYTHON=./fake-python", folder=checkout)
    assert _calls(checkout) == BUILD
    _make("env", "PYTHON=./fake-python", folder=checkout)
    assert _calls(checkout) == []


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_environment_is_updated_in_place_when_stale(name, checkout):
    _make("env", "PYTHON=./fake-python", folder=checkout)
    _calls(checkout)
    later = time.time() + 5
    os.utime(checkout / name, (later, later))
    _make("env", "PYTHON=./fake-python", folder=checkout)
    assert _calls(checkout) == BUILD[1:]


@pytest.mark.parametrize("step", BUILD[1:])
def test_half_made_environment_is_made_again(step, checkout):
    _make("env", "PYTHON=./fake-python", status=2, folder=checkout, FAIL_ON=step)
    assert _calls(checkout)[-1] == step
    _make("env", "PYTHON=./fake-python", folder=checkout)
    assert _calls(checkout) == BUILD


@pytest.mark.skipif(shutil.which("flock") is None, reason="the system has no flock command")
def test_two_makes_at_once_build_one_environment(checkout):
    makes = [_start("env", "PYTHON=./fake-python", folder=checkout) for _ in range(2)]
    for process in makes:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    assert _calls(checkout) == BUILD


def test_missing_python_is_one_clear_line(checkout):
    output = _make("env", "PYTHON=", status=2, folder=checkout)
    assert "no Python 3.11 or later found" in output
    assert not (checkout / ".venv").exists()


def test_clean_keeps_the_environment(checkout):
    for folder in ("build/embedded", "sfusion/__pycache__", ".venv/lib/__pycache__"):
        (checkout / folder).mkdir(parents=True)
    _make("clean", folder=checkout)
    assert not (checkout / "build").exists()
    assert not (checkout / "sfusion/__pycache__").exists()
    assert (checkout / ".venv/lib/__pycache__").exists()


def test_ci_runs_lint_and_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"\bmake lint test$", script.read_text(), re.MULTILINE)
