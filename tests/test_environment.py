"""The environment: its files and the running one agree; the Makefile makes it."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT_TEXT = (ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PROJECT_TEXT)["project"]
TOOLS = tomllib.loads(PROJECT_TEXT)["tool"]
CONDA_TEXT = (ROOT / "environment.yml").read_text()
CONDA = yaml.safe_load(CONDA_TEXT)["dependencies"]
CORE = PROJECT["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]
LOCKED_ON = {
    "python_version": "3.11",
    "python_full_version": "3.11.5",
    "sys_platform": "linux",
    "platform_system": "Linux",
}
LOCK_LINES = [
    line
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if not line.startswith("#")
]


def _requirements(specs):
    parsed = map(Requirement, specs)
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


LOCK = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in LOCK_LINES)
}
DIRECT = _requirements(CORE + sum(EXTRAS.values(), []))
(CONDA_PIP,) = (entry["pip"] for entry in CONDA if isinstance(entry, dict))


def test_lock_holds_exact_versions_only():
    strange = [
        line
        for line in LOCK_LINES
        if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)
    ]
    assert not strange, "lines that are not name==version"
    assert LOCK_LINES == sorted(
        LOCK_LINES, key=lambda line: line.partition("==")[0].lower()
    )
    assert len(LOCK) == len(LOCK_LINES), "a package is listed twice"


def test_lock_satisfies_every_direct_dependency():
    assert DIRECT.keys() <= LOCK.keys()
    unfit = {n: LOCK[n] for n, r in DIRECT.items() if not r.specifier.contains(LOCK[n])}
    assert not unfit, "locked versions outside the ranges in pyproject.toml"


def _closure(requirements):
    """Follow requirements to all that they need, on the platform of the lock."""
    seen = set()
    queue = list(requirements)
    while queue:
        requirement = queue.pop()
        for extra in requirement.extras | {""}:
            key = canonicalize_name(requirement.name), extra
            if key in seen:
                continue
            seen.add(key)
            here = LOCKED_ON | {"extra": extra}
            for other in map(Requirement, metadata.requires(requirement.name) or []):
                if other.marker is None or other.marker.evaluate(here):
                    queue.append(other)
    names = {name for name, _ in seen}
    # A CUDA build of torch brings its own packages, which the lock leaves out.
    return {n for n in names if not n.startswith(("cuda", "nvidia", "triton"))}


@pytest.mark.study
def test_lock_is_the_closure_of_the_direct_dependencies():
    assert _closure(DIRECT.values()) == LOCK.keys(), "run `make lock`"


@pytest.mark.study
def test_the_package_alone_needs_neither_notebooks_nor_corpora():
    needed = _closure(_requirements(CORE).values())
    assert not needed & {"jupyterlab", "papermill", "ipykernel", "datasets", "dask"}
    assert len(needed) < 80 < 140 < len(LOCK)


def test_uv_takes_the_locked_versions():
    assert TOOLS["uv"]["constraint-dependencies"] == LOCK_LINES, "run `make lock`"


def test_environment_yml_pins_the_direct_dependencies_as_the_lock_does():
    assert CONDA_PIP[-1] == "-e ."
    pinned = _requirements(CONDA_PIP[:-1])
    assert {
        name: str(requirement.specifier) for name, requirement in pinned.items()
    } == {name: f"=={LOCK[name]}" for name in DIRECT}
    assert {n: r.extras for n, r in pinned.items()} == {
        n: r.extras for n, r in DIRECT.items()
    }


def test_every_dependency_has_its_reason_beside_it():
    lines = [(PROJECT_TEXT, f'"{spec}",') for spec in CORE + sum(EXTRAS.values(), [])]
    lines += [
        (CONDA_TEXT, f"- {entry}")
        for entry in CONDA_PIP + [name for name in CONDA if isinstance(name, str)]
    ]
    bare = [
        line
        for text, line in lines
        if not re.search(rf"^ *{re.escape(line)}  # \S.*$", text, re.MULTILINE)
    ]
    assert not bare


@pytest.mark.study
def test_running_environment_has_what_is_locked():
    assert {name: Version(metadata.version(name)).public for name in LOCK} == LOCK, (
        "run `make env`"
    )


def _imported(file):
    """List the packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


FOLDERS = ["sfusion", "studies", "tests", "benchmarks", "tools"]


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_are_declared(folder):
    imported = {
        name for file in (ROOT / folder).rglob("*.py") for name in _imported(file)
    }
    own = {"sfusion", "studies"}
    for place in FOLDERS[1:]:
        own |= {file.stem for file in (ROOT / place).glob("*.py")}
    foreign = imported - own - sys.stdlib_module_names
    assert foreign
    providers = metadata.packages_distributions()
    needed = {canonicalize_name(providers.get(name, [name])[0]) for name in foreign}
    declared = _requirements(
        CORE + [spec for extra in EXTRAS if extra != "dev" for spec in EXTRAS[extra]]
    )
    if folder != "sfusion":
        declared |= _requirements(EXTRAS["dev"])
    assert needed <= declared.keys(), "declare the package in pyproject.toml"


# --- the Makefile's contract
# ------------------------------------------------------------------

# Stands for Python: it writes down each call, and `-m venv` makes an environment out of
# itself.
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
    environment = {
        name: value for name, value in os.environ.items() if name not in inherited
    }
    environment |= {"FAIL_ON": "nothing", "PYTHON": "./fake-python"} | variables
    options = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        "timeout": 60,
    }
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
    public = re.search(
        r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )[1].split()
    listed = re.findall(r"^  ([a-z]+) +\S.*$", _make(ROOT), re.MULTILINE)
    assert sorted(listed) == sorted(public)
    assert set(
        "help env reproduce replay compare test nbval book bench lint clean".split()
    ) <= set(listed)


@pytest.mark.parametrize("target", ["reproduce", "replay", "compare"])
@pytest.mark.parametrize("profile", ["embedded", "nine"])
def test_profile_reaches_the_command_line(target, profile, make):
    choice = [] if profile == "embedded" else [f"PROFILE={profile}"]
    # A replay shows what README shows, unless told otherwise.
    told = [] if target == "replay" and not choice else ["--profile", profile]
    command = make("-n", target, *choice).splitlines()[-1].split()
    assert command == [".venv/bin/python", "-m", "sfusion", target, *told]


@pytest.mark.parametrize(
    "target", ["reproduce", "replay", "compare", "test", "nbval", "bench"]
)
def test_a_target_makes_the_environment_first(target, make, calls):
    make(target)
    *build, _ = calls()
    assert build == BUILD


@pytest.mark.parametrize("newer", [None, "requirements.lock", "pyproject.toml"])
def test_environment_is_made_once_and_updated_in_place_when_stale(
    newer, make, calls, tmp_path
):
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


@pytest.mark.skipif(
    shutil.which("flock") is None, reason="the system has no flock command"
)
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
    assert [(tmp_path / folder).exists() for folder in (*gone, kept)] == [
        False,
        False,
        True,
    ]


def test_ci_runs_every_check():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"\bmake lint test$", script.read_text(), re.MULTILINE)
