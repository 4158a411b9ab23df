"""Notebooks and documents: their habits, and that what is committed is theirs and up to date."""

import ast
import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from test_structure import ABSOLUTE

from sfusion.notebooks import NOTEBOOKS, SHOWN
from sfusion.records.profiles import ROOT
from sfusion.records.results import COMMITTED

CELLS = {name: json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8")) for name in NOTEBOOKS}
DOCUMENTS = ["README.md", "docs/choosing.md", "docs/scaling.md"]


@pytest.fixture(params=NOTEBOOKS)
def notebook(request):
    return CELLS[request.param]


def _text(cell):
    return "".join(cell["source"])


def _cells(notebook, kind):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def _saved(function):
    code = "\n".join(_text(cell) for notebook in CELLS.values() for cell in _cells(notebook, "code"))
    return re.findall(rf'{function}\("(\w+)"', code)


def test_a_code_cell_is_short_and_defines_nothing(notebook):
    for cell in _cells(notebook, "code"):
        assert 1 <= len(_text(cell).splitlines()) <= 25
        nodes = list(ast.walk(ast.parse(_text(cell))))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert not [node.name for node in nodes if isinstance(node, kinds)]
        assigned = [n for n in nodes if isinstance(n, (ast.Assign, ast.AnnAssign, ast.NamedExpr))]
        assert not [node for node in assigned if isinstance(node.value, ast.Lambda)]


def test_parameters_are_one_cell_of_literals_that_replay_the_shown_profile(notebook):
    first, *others = _cells(notebook, "code")
    assert "parameters" in first["metadata"]["tags"]
    assert not [cell for cell in others if "parameters" in cell["metadata"].get("tags", [])]
    values = {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(_text(first)).body}
    assert list(values) == ["PROFILE", "MODE", "FIGURES", "TABLES"]
    assert (values["PROFILE"], values["MODE"]) == (SHOWN, "replay")
    # Running a notebook by hand must not write over what is committed.
    assert values["FIGURES"].startswith("../build/")
    assert values["TABLES"].startswith("../build/")


def test_a_notebook_begins_with_its_title_and_ends_with_the_comparison(notebook):
    prose = "\n".join(map(_text, _cells(notebook, "markdown")))
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert re.match(r"# \S", prose)
    assert len(re.findall(r"^# ", prose, re.M)) == 1
    assert "The paper says / we get" in re.findall(r"^#+ .*", prose, re.M)[-1]


def test_a_notebook_imports_the_package_once(notebook):
    code = "\n".join(map(_text, _cells(notebook, "code")))
    imports = [line for line in code.splitlines() if re.match(r"\s*(from|import)\b.*sfusion", line)]
    assert imports == ["import sfusion as sf"]


def test_prose_stands_before_and_after_every_figure(notebook):
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code" and "save_figure" in _text(cell):
            assert kinds[:number][::-1].index("markdown") < 3
            assert "markdown" in kinds[number + 1 :]


def test_stored_outputs_are_present_in_order_and_clean(notebook):
    cells = _cells(notebook, "code")
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert not [one for one in outputs if one["output_type"] == "error" or one.get("name") == "stderr"]
    assert cells[-1]["outputs"], "the comparison shows nothing"
    assert not ABSOLUTE.search(json.dumps(outputs))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize(
    ("function", "folder", "endings"),
    [("save_figure", ROOT / "figures", ("png", "pdf", "csv")), ("save_table", COMMITTED / SHOWN / "tables", ("csv",))],
)
def test_what_notebooks_save_is_committed_and_nothing_besides(function, folder, endings):
    names = _saved(function)
    assert names
    assert len(set(names)) == len(names), "two notebooks write the same file"
    found = {file.name for file in folder.iterdir() if file.name[0] != "."}
    assert found == {f"{name}.{end}" for name in names for end in endings}
    assert all(len(pd.read_csv(folder / name)) for name in found if name.endswith(".csv"))
    assert all((folder / name).stat().st_size for name in found)


def _render():
    return subprocess.run([sys.executable, "tools/render.py", "--check"], cwd=ROOT, capture_output=True, text=True)


def test_documents_and_shipped_removals_are_those_of_the_records():
    done = _render()
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_in_a_document_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", (ROOT / name).read_text("utf-8"))
    folder = (ROOT / name).parent
    assert [link for link in links if not (folder / link.partition("#")[0]).exists()] == []


def test_readme_is_short_and_opens_with_the_readers_and_the_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) <= 900
    screen = "\n".join(text.splitlines()[:30])
    for word in ("reader", "engineer", "researcher", "make reproduce", "make test"):
        assert word in screen
