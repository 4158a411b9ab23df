"""The house: rooms in one order, docstrings, notebooks' habits, and nothing unlisted or stale."""

import ast
import inspect
import json
import re
import subprocess
import sys
from importlib import import_module

import pandas as pd
import pytest

import sfusion
from sfusion import load_results
from sfusion import notebooks as artefacts
from sfusion.records.profiles import ROOT
from sfusion.records.results import COMMITTED

# The direction of flow: a module imports only those before it, also inside its functions.
ORDER = [
    "errors",
    "profiles",
    "prose",
    "corpora",
    "stacking",
    "architectures",
    "models",
    "splitting",
    "sources",
    "tasks",
    "files",
    "signals",
    "probe",
    "fusion",
    "strategies",
    "training",
    "runs",
    "nodes",
    "parallel",
    "walk",
    "distillation",
    "descent",
    "measure",
    "choice",
    "results",
    "study",
    "analysis",
    "contrasts",
    "scrutiny",
    "claims",
    "guidance",
    "plots",
    "artefacts",
    "export",
    "card",
    "report",
    "compression",
    "compare",
    "cli",
]
PACKAGE = ROOT / "sfusion"
MODULES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in PACKAGE.rglob("*.py")
    if file.name != "__main__.py"
)
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def _source(module):
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")


def _imports(module):
    """Name the modules of the package that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def _room(module):
    return module.split(".")[1]


ROOMS = [module for module in MODULES if "." in module and not module.endswith("__init__")]


def test_every_room_has_its_place_in_the_order():
    assert {_room(module) for module in ROOMS} == set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


def test_a_replay_loads_neither_torch_nor_models():
    code = (
        "import sys, sfusion as sf; results = sf.open_results('nine'); "
        "sf.analysis.curves(results); sf.plots, sf.claims, sf.scrutiny, sf.guidance, sf.fusion; "
        "sys.exit(sum(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", ROOMS)
def test_a_module_imports_only_what_comes_before_it(module):
    later = {
        name
        for name in _imports(module)
        if name.split(".")[0] == "sfusion" and name != "sfusion"
        if _room(name) != _room(module)
        if ORDER.index(_room(name)) > ORDER.index(_room(module))
    }
    assert not later


@pytest.mark.parametrize("module", ROOMS)
def test_a_module_does_not_import_the_whole_package(module):
    assert "sfusion" not in set(_imports(module))


def test_modules_of_a_room_import_each_other_in_one_direction():
    edges = {
        module: {name for name in _imports(module) if name in MODULES and name != module}
        for module in ROOMS
    }
    done = set()
    while ready := {module for module in edges if module not in done and edges[module] <= done}:
        done |= ready
    assert done == set(edges), "these import each other in a circle"


def _public():
    """List the public functions, classes and methods that the package itself defines."""
    for module in ROOMS:
        loaded = import_module(module.removesuffix(".__init__"))
        room = import_module(f"sfusion.{_room(module)}")
        shown = getattr(room, "__all__", vars(loaded))  # a room of several modules says what is
        for name, thing in vars(loaded).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != loaded.__name__:
                continue
            if name not in shown:
                continue
            if inspect.isclass(thing):
                yield f"{module}.{name}", thing
                for inner, method in vars(thing).items():
                    if inspect.isfunction(method) and not inner.startswith("_"):
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


def _outcome(function):
    """Tell whether a function returns or yields a value."""
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(inspect.unwrap(function))))
    own = [tree.body[0]]
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
def test_a_docstring_names_every_parameter(name):
    function = inspect.unwrap(FUNCTIONS[name])
    text = inspect.getdoc(function)
    parameters = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
    if len(text.splitlines()) == 1 and len(parameters) <= 2:
        return  # a one-liner that says it all
    section = _section(text, "Parameters")
    if not parameters:
        assert section is None
        return
    assert section, "no section Parameters"
    listed = re.findall(r"^(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: : .*)?$", section, re.M)
    names = [part.lstrip("*") for group in listed for part in group.split(", ")]
    assert names == parameters


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_docstring_says_what_comes_back(name):
    text = inspect.getdoc(inspect.unwrap(FUNCTIONS[name]))
    if len(text.splitlines()) > 1:
        for title in _outcome(FUNCTIONS[name]):
            assert _section(text, title), f"no section {title}"


@pytest.mark.parametrize("name", sfusion.__all__)
def test_exports_resolve(name):
    assert getattr(sfusion, name) is not None
    assert name in dir(sfusion)


def test_an_unknown_export_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'compresss'"):
        sfusion.compresss  # noqa: B018


CONTRACT = [
    "SIGNALS", "STRATEGIES", "load_task", "load_model", "extract_signals", "remove_layers",
    "sweep", "fit_fusion", "distill", "compress",
]  # fmt: skip


def test_the_promised_names_are_there():
    assert set(CONTRACT) <= set(sfusion.__all__)


def test_exports_do_not_depend_on_what_was_imported_before():
    code = """
        import importlib, json, sys
        import sfusion as sf
        for name in json.loads(sys.argv[1]):
            importlib.import_module(name)
        print(json.dumps({name: callable(getattr(sf, name)) for name in sf.__all__}))
    """
    command = [sys.executable, "-c", inspect.cleandoc(code)]
    modules = [m.removesuffix(".__init__") for m in ROOMS]
    before, after = (
        subprocess.run([*command, json.dumps(m)], capture_output=True, text=True, check=True,
                       env={**__import__("os").environ, "PYTHONPATH": str(ROOT)}).stdout
        for m in ([], modules)
    )  # fmt: skip
    assert json.loads(after) == json.loads(before)


# --- notebooks -------------------------------------------------------------------------------


@pytest.fixture(params=NOTEBOOKS, ids=lambda file: file.stem)
def notebook(request):
    return json.loads(request.param.read_text("utf-8"))


def _cells(notebook, kind):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def _text(cell):
    return "".join(cell["source"])


def _tagged(notebook):
    cells = _cells(notebook, "code")
    return [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_a_notebook_defines_nothing(notebook):
    for cell in _cells(notebook, "code"):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        nodes = list(ast.walk(ast.parse(_text(cell))))
        assert not [node.name for node in nodes if isinstance(node, kinds)]
        assigned = [n for n in nodes if isinstance(n, (ast.Assign, ast.AnnAssign, ast.NamedExpr))]
        assert not [node for node in assigned if isinstance(node.value, ast.Lambda)]


def test_a_code_cell_is_short(notebook):
    for cell in _cells(notebook, "code"):
        assert len(_text(cell).splitlines()) <= 25
        assert _text(cell).strip(), "an empty cell"


def test_parameters_are_one_cell_of_independent_literals(notebook):
    (cell,) = _tagged(notebook)
    names = []
    for statement in ast.parse(_text(cell)).body:
        assert isinstance(statement, ast.Assign)
        (target,) = statement.targets
        names.append(target.id)
        ast.literal_eval(statement.value)
    assert names == ["PROFILE", "MODE", "FIGURES", "TABLES"]
    assert cell is _cells(notebook, "code")[0]


def test_committed_parameters_replay_the_shown_profile(notebook):
    values = {}
    exec(_text(_tagged(notebook)[0]), values)  # literals, as the test above makes sure
    assert (values["PROFILE"], values["MODE"]) == (artefacts.SHOWN, "replay")
    # Running a notebook by hand must not write over what is committed.
    assert values["FIGURES"].startswith("../build/")
    assert values["TABLES"].startswith("../build/")


def test_a_notebook_begins_with_its_title_and_ends_with_the_comparison(notebook):
    first = notebook["cells"][0]
    assert first["cell_type"] == "markdown"
    assert re.match(r"# \S", _text(first))
    titles = re.findall(r"^# ", "\n".join(map(_text, _cells(notebook, "markdown"))), re.M)
    assert len(titles) == 1
    headed = [i for i, cell in enumerate(notebook["cells"]) if "\n#" in "\n" + _text(cell)
              and cell["cell_type"] == "markdown"]  # fmt: skip
    last = re.findall(r"^#+ .*", _text(notebook["cells"][headed[-1]]), re.M)[-1]
    assert "The paper says / we get" in last
    after = notebook["cells"][headed[-1] :]
    assert "|---" in _text(after[0]) or "code" in [cell["cell_type"] for cell in after]


def test_a_notebook_imports_the_package_once(notebook):
    code = "\n".join(map(_text, _cells(notebook, "code")))
    imports = [line for line in code.splitlines() if re.match(r"\s*(from|import)\b.*sfusion", line)]
    assert imports == ["import sfusion as sf"]


def test_prose_stands_before_and_after_every_figure(notebook):
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and "save_figure" in _text(cell):
            before = kinds[:number][::-1]
            assert before.index("markdown") < 3
            assert "markdown" in kinds[number + 1 :]


def test_stored_outputs_are_present_and_clean(notebook):
    shown = 0
    for cell in _cells(notebook, "code"):
        assert cell["execution_count"], "a cell that was not run"
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            shown += 1
    assert shown
    assert _cells(notebook, "code")[-1]["outputs"], "the comparison shows nothing"


def test_cells_were_run_from_top_to_bottom(notebook):
    counts = [cell["execution_count"] for cell in _cells(notebook, "code")]
    assert counts == list(range(1, len(counts) + 1))


def test_the_kernel_is_python3(notebook):
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert notebook["nbformat"] == 4


def test_outputs_name_no_place_on_a_machine(notebook):
    text = json.dumps([cell.get("outputs", []) for cell in notebook["cells"]])
    assert not ABSOLUTE.search(text)


# --- artefacts -------------------------------------------------------------------------------


LISTED_FIGURES = [figure for n in artefacts.NOTEBOOKS.values() for figure in n.figures]
LISTED_TABLES = [table for n in artefacts.NOTEBOOKS.values() for table in n.tables]


def test_every_notebook_is_listed_and_every_listed_one_is_there():
    assert [file.stem for file in NOTEBOOKS] == list(artefacts.NOTEBOOKS)


def test_nothing_is_listed_twice():
    for names in (LISTED_FIGURES, LISTED_TABLES):
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", artefacts.NOTEBOOKS)
def test_a_notebook_saves_what_it_is_listed_with(name):
    code = (ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8")
    cells = "\n".join(map(_text, _cells(json.loads(code), "code")))
    assert re.findall(r'save_figure\("(\w+)"', cells) == list(artefacts.NOTEBOOKS[name].figures)
    assert re.findall(r'save_table\("(\w+)"', cells) == list(artefacts.NOTEBOOKS[name].tables)


def test_figures_are_there_each_as_png_pdf_and_csv_and_none_besides():
    expected = {f"{name}.{end}" for name in LISTED_FIGURES for end in ("png", "pdf", "csv")}
    found = {file.name for file in (ROOT / "figures").iterdir() if file.name[0] != "."}
    assert found == expected
    assert all((ROOT / "figures" / name).stat().st_size for name in found)


def test_tables_are_there_and_none_besides():
    folder = COMMITTED / artefacts.SHOWN / "tables"
    found = {file.name for file in folder.iterdir() if file.name[0] != "."}
    assert found == {f"{name}.csv" for name in LISTED_TABLES}
    assert all(len(pd.read_csv(folder / name)) for name in found)


@pytest.mark.parametrize("name", artefacts.DOCUMENTS)
def test_the_numbers_in_a_document_are_those_of_the_records(name):
    text = (ROOT / name).read_text("utf-8")
    blocks = artefacts.DOCUMENTS[name](load_results(COMMITTED / artefacts.SHOWN))
    assert artefacts.fill(text, blocks) == text


def test_a_time_that_is_not_known_is_not_told(monkeypatch):
    results = load_results(COMMITTED / artefacts.DEFAULT)
    results.manifest["wall_seconds"] = None
    monkeypatch.setattr(artefacts, "load_results", lambda _: results)
    assert "took an unknown number of minutes on" in artefacts._costs()


@pytest.mark.parametrize("name", artefacts.DOCUMENTS)
def test_links_in_a_document_lead_somewhere(name):
    text = (ROOT / name).read_text("utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", text)
    assert links
    folder = (ROOT / name).parent
    assert [link for link in links if not (folder / link.partition("#")[0]).exists()] == []


def test_fill_replaces_what_is_between_the_markers_alone():
    text = "a\n<!-- begin x -->\nold\nlines\n<!-- end x -->\nb\n"
    assert artefacts.fill(text, {"x": "new \\1"}) == (
        "a\n<!-- begin x -->\nnew \\1\n<!-- end x -->\nb\n"
    )
    assert artefacts.fill(artefacts.fill(text, {"x": "1"}), {"x": "2"}).count("2") == 1
    empty = "<!-- begin x -->\n<!-- end x -->\n"
    assert "new" in artefacts.fill(empty, {"x": "new"})


@pytest.mark.parametrize("blocks", [{}, {"y": "1"}, {"x": "1", "y": "2"}])
def test_markers_and_blocks_must_match(blocks):
    with pytest.raises(sfusion.SfusionError, match="do not match: [xy]"):
        artefacts.fill("<!-- begin x -->\nold\n<!-- end x -->\n", blocks)


# --- what is tracked -------------------------------------------------------------------------


ABSOLUTE = re.compile(
    r"(?<![\w.:/$}>*-])/(?:home|root|work|tmp|Users|mnt|opt|usr/local|private|workspace)/[\w.-]"
)
EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf\ufe0f]")
# Written apart, so that this file does not hold what it looks for.
UNFINISHED = re.compile("|".join(rf"\b{a}{b}\b" for a, b in [("TO", "DO"), ("FIX", "ME")]))
ORIGIN = re.compile(
    "|".join(
        [
            r"(?<![\w&])#\d{1,4}\b(?! )",  # the number of an issue; a heading has a blank
            *(rf"\b{a}{b}\b" for a, b in [("clau", "de"), ("anthro", "pic"), ("open", "ai")]),
            *(rf"\b{a}{b}\b" for a, b in [("chat", "gpt"), ("co", "pilot"), ("pypi", r"\.org")]),
            "python" + "hosted",
        ]
    ),
    re.IGNORECASE,
)
ENDINGS = {".py", ".md", ".toml", ".yaml", ".yml", ".ipynb", ".cff", ".lock", ".json", ".csv", ""}


def _tracked():
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
               "--exclude-standard"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return []  # not a checkout: an unpacked archive
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    return [file for file in files if file.is_file() and file.suffix in ENDINGS]


TRACKED = _tracked()


@pytest.mark.parametrize("file", TRACKED, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_tracked_file_names_no_place_on_a_machine_and_is_finished(file):
    text = file.read_text("utf-8")
    assert not ABSOLUTE.findall(text)
    assert not UNFINISHED.findall(text)
    assert not ORIGIN.findall(text)
    assert not EMOJI.findall(text)


@pytest.mark.parametrize(
    "pattern, text",
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
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    done = subprocess.run(command, capture_output=True, text=True)
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    present = [file for file in files if file.is_file()]
    assert [f.name for f in present if f.stat().st_size > 5e6] == []
    endings = {".safetensors", ".bin", ".pt", ".pkl", ".pickle", ".pem", ".key", ".env"}
    assert [f.name for f in present if f.suffix in endings] == []
