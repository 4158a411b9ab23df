"""pyproject.toml, requirements.lock, environment.yml and the running environment agree."""

import ast
import re
import sys
import tomllib
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
CONDA_TEXT = (ROOT / "environment.yml").read_text()
CONDA = yaml.safe_load(CONDA_TEXT)["dependencies"]
CORE = PROJECT["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]
# The extras that requirements.lock covers; the others are left to the user's machine.
LOCKED_EXTRAS = ("dev", "book", "dask", "onnx")
LOCKED_ON = {
    "python_version": "3.11", "python_full_version": "3.11.0", "sys_platform": "linux", "platform_system": "Linux",
}  # fmt: skip
LOCK_LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]


def _requirements(specs):
    parsed = map(Requirement, specs)
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


LOCK = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LOCK_LINES)}
DIRECT = _requirements(CORE + sum((EXTRAS[name] for name in LOCKED_EXTRAS), []))
(CONDA_PIP,) = (entry["pip"] for entry in CONDA if isinstance(entry, dict))


def test_lock_holds_exact_versions_only():
    strange = [line for line in LOCK_LINES if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
    assert not strange, "lines that are not name==version"
    assert LOCK_LINES == sorted(LOCK_LINES, key=lambda line: line.partition("==")[0].lower())
    assert len(LOCK) == len(LOCK_LINES), "a package is listed twice"


def test_lock_satisfies_every_direct_dependency():
    assert DIRECT.keys() <= LOCK.keys()
    unfit = {n: LOCK[n] for n, r in DIRECT.items() if not r.specifier.contains(LOCK[n])}
    assert not unfit, "locked versions outside the ranges in pyproject.toml"


def test_lock_is_the_closure_of_the_direct_dependencies():
    seen, queue = set(), list(DIRECT.values())
    while queue:
        requirement = queue.pop()
        for extra in requirement.extras | {""}:
            key = canonicalize_name(requirement.name), extra
            if key in seen:
                continue
            seen.add(key)
            needed = map(Requirement, metadata.requires(requirement.name) or [])
            here = LOCKED_ON | {"extra": extra}
            queue += [other for other in needed if other.marker is None or other.marker.evaluate(here)]
    # A CUDA build of torch brings its own packages, which the lock leaves out.
    closure = {name for name, _ in seen if not name.startswith(("cuda", "nvidia", "triton"))}
    assert closure == LOCK.keys(), "run `make lock`"


def test_environment_yml_pins_the_direct_dependencies_as_the_lock_does():
    assert CONDA_PIP[-1] == "-e ."
    pinned = _requirements(CONDA_PIP[:-1])
    assert {name: str(requirement.specifier) for name, requirement in pinned.items()} == {
        name: f"=={LOCK[name]}" for name in DIRECT
    }
    assert {n: r.extras for n, r in pinned.items()} == {n: r.extras for n, r in DIRECT.items()}


def test_every_dependency_has_its_reason_beside_it():
    lines = [(PROJECT_TEXT, f'"{spec}",') for spec in CORE + sum(EXTRAS.values(), [])]
    lines += [(CONDA_TEXT, f"- {entry}") for entry in CONDA_PIP + [name for name in CONDA if isinstance(name, str)]]
    bare = [line for text, line in lines if not re.search(rf"^ *{re.escape(line)}  # \S.*$", text, re.MULTILINE)]
    assert not bare


def test_running_environment_has_what_is_locked():
    assert {name: Version(metadata.version(name)).public for name in LOCK} == LOCK, "run `make env`"


@pytest.mark.parametrize(
    ("folder", "extras"), [("sfusion", EXTRAS.keys() - {"dev"}), ("tests", EXTRAS), ("benchmarks", EXTRAS)]
)
def test_imports_are_declared(folder, extras):
    sources = sorted((ROOT / folder).rglob("*.py"))
    imported = set()
    for node in (node for path in sources for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            imported.add(node.module.partition(".")[0])
    own = {"sfusion"} | {
        path.stem for place in ("tests", "benchmarks", "tools") for path in (ROOT / place).glob("*.py")
    }
    foreign = imported - own - sys.stdlib_module_names
    assert foreign
    providers = metadata.packages_distributions()
    distributions = {canonicalize_name(providers.get(module, [module])[0]) for module in foreign}
    declared = _requirements(CORE + sum((EXTRAS[name] for name in extras), []))
    assert distributions <= declared.keys(), "declare the package in pyproject.toml"
