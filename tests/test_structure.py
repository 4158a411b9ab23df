"""The house: docstrings, exports, what a wheel holds, and what is tracked."""

import ast
import pkgutil
import re
import subprocess
import sys

import pytest

import sfusion
from sfusion.records.profiles import ROOT


def _python(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_a_replay_loads_neither_torch_nor_models():
    done = _python(
        "import sys, sfusion as sf; results = sf.open_results('nine'); sf.tables.curves(results); "
        "sf.figures, sf.claims, sf.costs, sf.statistics, sf.fit_fusion; "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert done.returncode == 0, done.stderr


# --- docstrings: that each is there, and its style, is the linter's to check -------------------


def _own(node):
    """Walk a function without the functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield child
            yield from _own(child)


def _public():
    """Find the public functions and methods of the package whose docstrings have more than one line."""
    for file in sorted((ROOT / "sfusion").rglob("*.py")):
        body = ast.parse(file.read_text("utf-8")).body
        classes = [node for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        for node in [*body, *(inner for each in classes for inner in each.body)]:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            text, decorators = ast.get_docstring(node) or "", map(ast.unparse, node.decorator_list)
            if "\n" in text and not any("property" in decorator for decorator in decorators):
                yield pytest.param(node, id=f"{file.stem}.{node.name}")


def _section(text, title):
    match = re.search(rf"^{title}\n-+\n(.*?)(?=\n\n[A-Z]\w*\n-+\n|\Z)", text, re.DOTALL | re.M)
    return match[1] if match else ""


@pytest.mark.parametrize("function", list(_public()))
def test_a_docstring_names_every_parameter_and_what_comes_back(function):
    text, arguments = ast.get_docstring(function), function.args
    named = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    parameters = [a.arg for a in named if a and a.arg not in ("self", "cls")]
    listed = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : .*)?$", _section(text, "Parameters"), re.M)
    assert [part.lstrip("*") for group in listed for part in group.split(", ")] == parameters
    for node in _own(function):
        if isinstance(node, ast.Return) and node.value is not None:
            assert _section(text, "Returns")
        assert not isinstance(node, (ast.Yield, ast.YieldFrom)) or _section(text, "Yields")


# --- exports ---------------------------------------------------------------------------------


def test_exports_resolve_and_an_unknown_one_is_an_attribute_error():
    assert {name for name in sfusion.__all__ if getattr(sfusion, name) is not None} <= set(dir(sfusion))
    with pytest.raises(AttributeError, match="no attribute 'compresss'"):
        sfusion.compresss  # noqa: B018


def test_the_promised_names_are_there_and_no_import_of_a_module_hides_one():
    promised = {"SIGNALS", "STRATEGIES", "load_task", "load_model", "extract_signals", "remove_layers", "sweep"}
    assert promised | {"fit_fusion", "distill", "compress"} <= set(sfusion.__all__)
    assert not set(sfusion.__all__) & {module.name for module in pkgutil.iter_modules(sfusion.__path__)}


def test_a_wheel_holds_what_the_package_reads(tmp_path):
    options = ["--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, "."], cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    code = (
        "import os, sys; os.chdir(sys.argv[2]); sys.path.insert(0, sys.argv[1]); import sfusion as sf; "
        "assert sys.argv[1] in sf.__file__; from sfusion.pruning.fusion import shipped_fusion; "
        "from sfusion.data.corpora import CORPORA; from sfusion.compression.report import TEMPLATE; "
        "assert TEMPLATE.is_file() and CORPORA; shipped_fusion('linear-regression'); sf.figures.STYLE; "
        "print(sf.load_profile('smoke').name, len(sf.claims.CLAIMS))"
    )
    target = tmp_path / "installed"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", wheel, target], check=True)
    done = _python(code, str(target), str(tmp_path))
    assert done.stdout.split() == ["smoke", "6"], done.stderr


# --- what is tracked -------------------------------------------------------------------------

ABSOLUTE = re.compile(r"(?<![\w.:/$}>*-])/(?:home|root|work|tmp|Users|mnt|opt|usr/local|private|workspace)/[\w.-]")
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\ufe0f]")
# Written apart, so that this file does not hold what it looks for.
UNFINISHED = re.compile("|".join(rf"\b{a}{b}\b" for a, b in [("TO", "DO"), ("FIX", "ME")]))
NAMES = [("clau", "de"), ("anthro", "pic"), ("open", "ai"), ("chat", "gpt"), ("co", "pilot"), ("pypi", r"\.org")]
ORIGIN = re.compile(
    # The number of an issue (a heading has a blank), who wrote it, and a registry's host.
    "|".join([r"(?<![\w&])#\d{1,4}\b(?! )", *(rf"\b{a}{b}\b" for a, b in NAMES), "python" + "hosted"]),
    re.IGNORECASE,
)
ENDINGS = {".py", ".md", ".toml", ".yaml", ".yml", ".ipynb", ".cff", ".lock", ".json", ".csv", ".jinja", ""}


def _tracked(*options):
    done = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z", *options], capture_output=True, text=True)
    # Of an unpacked archive, which is no checkout, there is nothing to check.
    return [file for name in done.stdout.split("\0") if name and (file := ROOT / name).is_file()]


TEXTS = [file for file in _tracked("--cached", "--others", "--exclude-standard") if file.suffix in ENDINGS]


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_tracked_file_names_no_place_on_a_machine_and_is_finished(file):
    text = file.read_text("utf-8")
    for pattern in (ABSOLUTE, UNFINISHED, ORIGIN, EMOJI):
        assert not pattern.findall(text)


def test_the_search_finds_what_it_looks_for():
    assert all(map(ABSOLUTE.search, ("see " + "/ho" + "me/me/file", '"' + "/wo" + 'rk/main"')))
    assert all(map(ORIGIN.search, ("fixes #" + "12", "https://pypi" + ".org/simple")))
    assert UNFINISHED.search("# TO" + "DO: later")
    assert EMOJI.search("done \N{WHITE HEAVY CHECK MARK}")


def test_nothing_large_or_secret_is_tracked():
    files = _tracked()
    assert [f.name for f in files if f.stat().st_size > 5e6] == []
    endings = {".safetensors", ".bin", ".pt", ".pkl", ".pickle", ".pem", ".key", ".env"}
    assert [f.name for f in files if f.suffix in endings] == []
