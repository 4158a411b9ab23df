"""Notebooks and documents: their habits, that what is committed is theirs and up to date, and a whole run."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys

import pandas as pd
import pytest
from test_structure import ABSOLUTE

from sfusion.notebooks import NOTEBOOKS, SHOWN
from sfusion.pruning.strategies import expand
from sfusion.records.profiles import ROOT, load_profile
from sfusion.records.results import COMMITTED, load_results

BOOKS = {name: json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8")) for name in NOTEBOOKS}


@pytest.fixture(params=NOTEBOOKS)
def notebook(request):
    return BOOKS[request.param]


@pytest.fixture
def code(notebook):
    return _cells(notebook, "code")


def _cells(notebook, kind):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def _text(*cells):
    return "\n".join("".join(cell["source"]) for cell in cells)


def test_a_code_cell_is_short_and_defines_nothing(code):
    for cell in code:
        assert 1 <= len(_text(cell).splitlines()) <= 25
        nodes = list(ast.walk(ast.parse(_text(cell))))
        assert not [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
        assigned = [node for node in nodes if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr)]
        assert not [node for node in assigned if isinstance(node.value, ast.Lambda)]


def test_parameters_are_one_cell_of_literals_that_replay_the_shown_profile(code):
    assert [cell for cell in code if "parameters" in cell["metadata"].get("tags", [])] == code[:1]
    values = {s.targets[0].id: ast.literal_eval(s.value) for s in ast.parse(_text(code[0])).body}
    assert list(values) == ["PROFILE", "MODE", "FIGURES", "TABLES"]
    assert (values["PROFILE"], values["MODE"]) == (SHOWN, "replay")
    # Running a notebook by hand must not write over what is committed.
    assert values["FIGURES"].startswith("../build/") and values["TABLES"].startswith("../build/")


def test_a_notebook_begins_with_its_title_and_ends_with_the_comparison(notebook):
    prose = _cells(notebook, "markdown")
    assert notebook["cells"][0] == prose[0]
    headings = re.findall(r"^#+ .+", _text(*prose), re.M)
    assert _text(*prose).startswith(headings[0])
    assert [heading for heading in headings if heading.startswith("# ")] == headings[:1]
    assert "The paper says / we get" in headings[-1]


def test_a_notebook_imports_the_package_once(code):
    assert re.findall(r"^ *(?:from|import)\b.*sfusion.*", _text(*code), re.M) == ["import sfusion as sf"]


def test_prose_stands_before_and_after_every_figure(notebook):
    kinds = [cell["cell_type"] for cell in notebook["cells"]]
    for number, cell in enumerate(notebook["cells"]):
        if kinds[number] == "code" and "save_figure" in _text(cell):
            assert kinds[:number][::-1].index("markdown") < 3
            assert "markdown" in kinds[number + 1 :]


def test_stored_outputs_are_present_in_order_and_clean(notebook, code):
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [one for one in outputs if one["output_type"] == "error" or one.get("name") == "stderr"]
    assert code[-1]["outputs"], "the comparison shows nothing"
    assert not ABSOLUTE.search(json.dumps(outputs))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize(
    ("function", "folder", "endings"),
    [("save_figure", ROOT / "figures", ("png", "pdf", "csv")), ("save_table", COMMITTED / SHOWN / "tables", ("csv",))],
)
def test_what_notebooks_save_is_committed_and_nothing_besides(function, folder, endings):
    code = [cell for notebook in BOOKS.values() for cell in _cells(notebook, "code")]
    names = re.findall(rf'{function}\("(\w+)"', _text(*code))
    assert len(set(names)) == len(names) > 0, "two notebooks write the same file, or none does"
    files = {file.name: file for file in folder.iterdir() if file.name[0] != "."}
    assert set(files) == {f"{name}.{end}" for name in names for end in endings}
    assert all(len(pd.read_csv(file)) for file in files.values() if file.suffix == ".csv")
    assert all(file.stat().st_size for file in files.values())


def test_documents_and_shipped_removals_are_those_of_the_records(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["render.py", "--check"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(ROOT / "tools" / "render.py", run_name="__main__")
    assert (capsys.readouterr().out, end.value.code) == ("", 0)


@pytest.mark.parametrize("name", ["README.md", "docs/choosing.md", "docs/scaling.md"])
def test_links_in_a_document_lead_somewhere(name):
    links = re.findall(r"\]\((?!https?:|#)([^)\s]+)\)", (ROOT / name).read_text("utf-8"))
    folder = (ROOT / name).parent
    assert [link for link in links if not (folder / link.partition("#")[0]).exists()] == []


def test_readme_is_short_and_opens_with_the_readers_and_the_commands():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) <= 900
    screen = "\n".join(text.splitlines()[:30])
    words = ("reader", "engineer", "researcher", "make reproduce", "make test")
    assert [word for word in words if word not in screen] == []


@pytest.mark.slow
def test_reproduce_smoke(tmp_path):
    environment = {**os.environ, "SFUSION_BUILD": str(tmp_path), "CI": "true"}
    command = [sys.executable, "-m", "sfusion", "reproduce", "--profile", "smoke"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr

    folder, profile = tmp_path / "smoke", load_profile("smoke")
    results = load_results(folder / "results")
    units = len(profile.tasks) * len(profile.seeds)
    assert len(results.tasks) == units
    assert set(results.nodes["layers"]) == {1, 2, 3, 4, 5, 6}
    assert len(results.trajectories) == 6 * units * len(expand(profile.strategies, profile.random_orders))
    taught = units * len(profile.distillation.removals)
    expected = {"distilled": taught, "same-steps": taught, "original-same-steps": units}
    assert results.distillation["condition"].value_counts().to_dict() == expected

    assert {file.stem for file in (folder / "notebooks").glob("*.ipynb")} == set(NOTEBOOKS)
    # What the committed replay saved, a reproduction saves too.
    for made, committed in (("figures", ROOT / "figures"), ("tables", COMMITTED / SHOWN / "tables")):
        files = list((folder / made).iterdir())
        assert {file.name for file in files} == {file.name for file in committed.iterdir()}
        assert all(file.stat().st_size for file in files)
