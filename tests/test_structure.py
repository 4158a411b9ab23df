"""The house: docstrings, exports, wheel, what is tracked, notebooks, a whole run."""

import ast
import os
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
import zipfile

import pytest

import sfusion
from sfusion.experiments.profiles import PROFILES, ROOT, load_profile
from sfusion.experiments.results import COMMITTED, load_results
from sfusion.notebooks import NOTEBOOKS, SHOWN
from sfusion.pruning.strategies import expand

REPLAY = """
import sys, sfusion as sf
sf.open_results("nine").curves()
for name in sf.__all__:
    if name in {"sweeps", "scoreboard", "costs", "controls", "depth", "fit_fusion"}:
        getattr(sf, name)
sys.exit(sum(name in sys.modules for name in ("torch", "transformers")))
"""


@pytest.mark.study
def test_a_replay_loads_neither_torch_nor_models():
    done = subprocess.run(
        [sys.executable, "-c", REPLAY], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# --- docstrings: that each is there, and its style, is the linter's to check
# -------------------


def _own(node):
    """Walk a function without the functions inside it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.Lambda)):
            yield child
            yield from _own(child)


def _public():
    """Find public functions and methods whose docstrings have more than one line."""
    for file in sorted((ROOT / "sfusion").rglob("*.py")):
        body = ast.parse(file.read_text("utf-8")).body
        classes = [
            node
            for node in body
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        ]
        for node in [*body, *(inner for each in classes for inner in each.body)]:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            text, decorators = (
                ast.get_docstring(node) or "",
                map(ast.unparse, node.decorator_list),
            )
            if "\n" in text and not any(
                "property" in decorator for decorator in decorators
            ):
                yield pytest.param(node, id=f"{file.stem}.{node.name}")


def _section(text, title):
    match = re.search(
        rf"^{title}\n-+\n(.*?)(?=\n\n[A-Z]\w*\n-+\n|\Z)", text, re.DOTALL | re.M
    )
    return match[1] if match else ""


def _parameters(function):
    given = function.args
    parameters = [*given.posonlyargs, *given.args, given.vararg]
    parameters += [*given.kwonlyargs, given.kwarg]
    return [one for one in parameters if one and one.arg not in ("self", "cls")]


@pytest.mark.parametrize("function", list(_public()))
def test_a_docstring_names_every_parameter_and_what_comes_back(function):
    text = ast.get_docstring(function)
    listed = re.findall(
        r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : .*)?$", _section(text, "Parameters"), re.M
    )
    named = {part.lstrip("*") for group in listed for part in group.split(", ")}
    if named or ":meth:" not in text:  # else it refers to the method it overrides
        assert named == {parameter.arg for parameter in _parameters(function)}
    for node in _own(function):
        if isinstance(node, ast.Return) and node.value is not None:
            assert ":meth:" in text or _section(text, "Returns")
        if isinstance(node, ast.Yield) and node.value is not None:
            assert _section(text, "Yields") or _section(text, "Returns")


@pytest.mark.parametrize("function", list(_public()))
def test_every_parameter_and_what_comes_back_has_a_type(function):
    untyped = [one.arg for one in _parameters(function) if one.annotation is None]
    assert untyped == []
    assert function.returns is not None


# --- exports
# ---------------------------------------------------------------------------------


PROMISED = {
    "SIGNALS",
    "STRATEGIES",
    "compress",
    "distill",
    "extract_signals",
    "fit_fusion",
    "load_model",
    "load_task",
    "remove_layers",
    "save_to",
    "show",
    "sweep",
}


def test_exports_resolve_and_an_unknown_one_is_an_attribute_error():
    assert PROMISED <= set(sfusion.__all__) == set(dir(sfusion))
    for name in sfusion.__all__:
        assert getattr(sfusion, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'compresss'"):
        sfusion.compresss  # noqa: B018


def test_no_import_of_a_room_hides_an_export():
    rooms = {module.name for module in pkgutil.iter_modules(sfusion.__path__)}
    assert not rooms & set(sfusion.__all__)


def test_a_wheel_holds_the_package_and_the_profiles_and_nothing_besides(tmp_path):
    # Of an earlier build: modules that were renamed since would come along.
    shutil.rmtree(ROOT / "build" / "lib", ignore_errors=True)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    command = [sys.executable, "-m", "pip", "wheel", *options, "."]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if "-info/" not in name}
    package = (ROOT / "sfusion").rglob("*")
    files = [one for one in package if one.is_file() and one.suffix != ".pyc"]
    expected = {str(file.relative_to(ROOT)) for file in files}
    expected |= {f"sfusion/profiles/{file.name}" for file in PROFILES.glob("*.yaml")}
    assert held == expected


# --- what is tracked
# -------------------------------------------------------------------------

DOCUMENTS = sorted(f"docs/{file.name}" for file in (ROOT / "docs").glob("*.md"))

ABSOLUTE = re.compile(
    r"(?<![\w.:/$}>*-])/(?:home|root|work|tmp|Users|mnt|opt|usr/local|private|workspace)/[\w.-]"
)
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\ufe0f]")
# Written apart, so that this file does not hold what it looks for.
UNFINISHED = re.compile(
    "|".join(rf"\b{a}{b}\b" for a, b in [("TO", "DO"), ("FIX", "ME")])
)
NAMES = [
    ("clau", "de"),
    ("anthro", "pic"),
    ("open", "ai"),
    ("chat", "gpt"),
    ("co", "pilot"),
    ("pypi", r"\.org"),
]
ORIGIN = re.compile(
    # The number of an issue (a heading has a blank), who wrote it, and a registry's
    # host.
    "|".join(
        [
            r"(?<![\w&])#\d{1,4}\b(?! )",
            *(rf"\b{a}{b}\b" for a, b in NAMES),
            "python" + "hosted",
        ]
    ),
    re.IGNORECASE,
)
ENDINGS = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".ipynb",
    ".cff",
    ".lock",
    ".json",
    ".csv",
    ".jinja",
    "",
}


def _tracked(*options):
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", *options],
        capture_output=True,
        text=True,
    )
    # Of an unpacked archive, which is no checkout, there is nothing to check.
    return [
        file
        for name in done.stdout.split("\0")
        if name and (file := ROOT / name).is_file()
    ]


TEXTS = [
    file
    for file in _tracked("--cached", "--others", "--exclude-standard")
    if file.suffix in ENDINGS
]


@pytest.mark.parametrize("file", TEXTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_tracked_file_names_no_place_on_a_machine_and_is_finished(file):
    text = file.read_text("utf-8")
    for pattern in (ABSOLUTE, UNFINISHED, ORIGIN, EMOJI):
        assert not pattern.findall(text)


def test_the_search_finds_what_it_looks_for():
    assert all(
        map(ABSOLUTE.search, ("see " + "/ho" + "me/me/file", '"' + "/wo" + 'rk/main"'))
    )
    assert all(map(ORIGIN.search, ("fixes #" + "12", "https://pypi" + ".org/simple")))
    assert UNFINISHED.search("# TO" + "DO: later")
    assert EMOJI.search("done \N{WHITE HEAVY CHECK MARK}")


def test_nothing_large_or_secret_is_tracked():
    files = _tracked()
    assert [f.name for f in files if f.stat().st_size > 5e6] == []
    endings = {".safetensors", ".bin", ".pt", ".pkl", ".pickle", ".pem", ".key", ".env"}
    assert [f.name for f in files if f.suffix in endings] == []


# --- documents: their links, and that they are those of the records ------------------


def test_documents_and_shipped_removals_are_those_of_the_records(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["render.py", "--check"])
    monkeypatch.syspath_prepend(ROOT / "tools")  # as for a script that is run
    with pytest.raises(SystemExit) as end:
        runpy.run_path(ROOT / "tools" / "render.py", run_name="__main__")
    assert (capsys.readouterr().out, end.value.code) == ("", 0)


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", *DOCUMENTS],
)
def test_links_in_a_document_lead_somewhere(name):
    links = re.findall(
        r"\]\((?!https?:|#)([^)\s]+)\)", (ROOT / name).read_text("utf-8")
    )
    folder = (ROOT / name).parent
    assert [
        link for link in links if not (folder / link.partition("#")[0]).exists()
    ] == []


def test_readme_opens_with_its_answer_then_the_readers_and_the_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    after_title = text.split("\n# ", 1)[1].split("\n\n")[1]
    assert re.match(r"\*\*(Yes|Partly|Not as it stands)[,.]", after_title)
    screen = "\n".join(text.splitlines()[:30])
    words = ("engineer", "researcher", "make reproduce", "make test")
    assert [word for word in words if word not in screen] == []


@pytest.mark.slow
def test_reproduce_smoke(tmp_path):
    environment = {**os.environ, "SFUSION_BUILD": str(tmp_path), "CI": "true"}
    command = [sys.executable, "-m", "sfusion", "reproduce", "--profile", "smoke"]
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr

    folder, profile = tmp_path / "smoke", load_profile("smoke")
    results, units = (
        load_results(folder / "results"),
        len(profile.tasks) * len(profile.seeds),
    )
    assert len(results.trajectories) == 6 * units * len(
        expand(profile.strategies, profile.random_orders)
    )
    assert (
        len(results.distillation)
        == (2 * len(profile.distillation.removals) + 1) * units
    )
    assert {file.stem for file in (folder / "notebooks").glob("*.ipynb")} == set(
        NOTEBOOKS
    )
    # A reproduction saves what the committed replay saved, but for what so small a
    # study does not hold.
    for made, committed in (
        ("figures", ROOT / "figures"),
        ("tables", COMMITTED / SHOWN / "tables"),
    ):
        files = list((folder / made).iterdir())
        names = {file.name for file in files}
        assert names <= {file.name for file in committed.iterdir()}
        assert {"contrasts.csv", "scoreboard.csv"} & names
        assert all(file.stat().st_size for file in files)
