"""The house: docstrings, exports, the direction of imports, and what is tracked."""

import ast
import inspect
import json
import re
import subprocess
import sys
from importlib import import_module

import pytest

import sfusion
from sfusion.records.profiles import ROOT

MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for file in (ROOT / "sfusion").rglob("*.py")
    if file.name != "__main__.py"
)


def _python(code, *arguments):
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_imports_go_one_way():
    done = _python("import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))")
    assert "Contracts: 2 kept, 0 broken." in done.stdout, done.stdout + done.stderr


def test_a_replay_loads_neither_torch_nor_models():
    done = _python(
        "import sys, sfusion as sf; results = sf.open_results('nine'); sf.tables.curves(results); "
        "sf.figures, sf.claims, sf.costs, sf.statistics, sf.fit_fusion; "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert done.returncode == 0, done.stderr


def _public():
    """List the public functions, classes and methods that the package itself defines."""
    for module in MODULES:
        for name, thing in vars(import_module(module)).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module:
                continue
            if inspect.isclass(thing):
                yield f"{module}.{name}", thing
                for inner, method in vars(thing).items():
                    if getattr(method, "__module__", None) == module and not inner.startswith("_"):
                        yield f"{module}.{name}.{inner}", method
            elif inspect.isfunction(inspect.unwrap(thing)):
                yield f"{module}.{name}", thing


PUBLIC = dict(_public())
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if not inspect.isclass(thing)}


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_says_what_it_is(name):
    text = inspect.getdoc(PUBLIC[name])
    assert text, "no docstring"
    assert text.splitlines()[0].endswith((".", "?")), "the first line is no sentence"


def _section(text, title):
    match = re.search(rf"^{title}\n-+\n(.*?)(?=\n\n[A-Z]\w*\n-+\n|\Z)", text, re.DOTALL | re.M)
    return match and match[1]


def _returns(function):
    """Check whether a function returns or yields a value."""
    own = [ast.parse(inspect.cleandoc("\n" + inspect.getsource(inspect.unwrap(function)))).body[0]]
    found = set()
    while own:
        for node in ast.iter_child_nodes(own.pop()):
            if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
                continue
            own.append(node)
            if isinstance(node, ast.Return) and node.value is not None:
                found.add("Returns")
            elif isinstance(node, (ast.Yield, ast.YieldFrom)):
                found.add("Yields")
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_names_every_parameter_and_what_comes_back(name):
    function = inspect.unwrap(FUNCTIONS[name])
    text = inspect.getdoc(function)
    parameters = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
    if len(text.splitlines()) == 1:
        return  # a one-liner that says it all
    section = _section(text, "Parameters")
    listed = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : .*)?$", section or "", re.M)
    assert [part.lstrip("*") for group in listed for part in group.split(", ")] == parameters
    for title in _returns(function):
        assert _section(text, title), f"no section {title}"


@pytest.mark.parametrize("name", sfusion.__all__)
def test_exports_resolve(name):
    assert getattr(sfusion, name) is not None
    assert name in dir(sfusion)


def test_an_unknown_export_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'compresss'"):
        sfusion.compresss  # noqa: B018


def test_the_promised_names_are_there():
    promised = {"SIGNALS", "STRATEGIES", "load_task", "load_model", "extract_signals", "remove_layers", "sweep"}
    assert promised | {"fit_fusion", "distill", "compress"} <= set(sfusion.__all__)


def test_exports_do_not_depend_on_what_was_imported_before():
    code = (
        "import importlib, json, sys; import sfusion as sf; "
        "[importlib.import_module(name) for name in json.loads(sys.argv[1])]; "
        "print(json.dumps({name: callable(getattr(sf, name)) for name in sf.__all__}))"
    )
    before, after = (_python(code, json.dumps(names)).stdout for names in ([], MODULES))
    assert before
    assert json.loads(after) == json.loads(before)


def test_a_wheel_holds_what_the_package_reads(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        ".",
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
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


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (ABSOLUTE, "see " + "/ho" + "me/me/file"),
        (ABSOLUTE, '"' + "/wo" + 'rk/main"'),
        (UNFINISHED, "# TO" + "DO: later"),
        (ORIGIN, "fixes #" + "12"),
        (ORIGIN, "https://pypi" + ".org/simple"),
        (EMOJI, "done \N{WHITE HEAVY CHECK MARK}"),
    ],
)
def test_the_search_finds_what_it_looks_for(pattern, text):
    assert pattern.search(text)


def test_nothing_large_or_secret_is_tracked():
    files = _tracked()
    assert [f.name for f in files if f.stat().st_size > 5e6] == []
    endings = {".safetensors", ".bin", ".pt", ".pkl", ".pickle", ".pem", ".key", ".env"}
    assert [f.name for f in files if f.suffix in endings] == []
