"""The notebooks: their habits, and every committed study replayed through each."""

import ast
import io
import json
import re
import tokenize

import pytest
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor

import sfusion as sf
from sfusion.analysis import scores
from sfusion.analysis.statistics import bootstrap
from sfusion.experiments.profiles import ROOT
from sfusion.experiments.results import COMMITTED, FRAMES
from sfusion.notebooks import COMPUTING, NOTEBOOKS, SHOWN, longest_first
from sfusion.pruning.fusion import FUSION_MODELS

BOOKS = {
    name: json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))
    for name in NOTEBOOKS
}
STUDIES = sorted(
    folder.name
    for folder in COMMITTED.iterdir()
    if all((folder / f"{frame}.parquet").is_file() for frame in FRAMES)
)
TOKENS = 4500  # of all code cells together: notebooks order exhibits and explain them
LAYOUT = {
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def cells_of(name, kind):
    return [cell for cell in BOOKS[name]["cells"] if cell["cell_type"] == kind]


def text_of(*cells):
    return "\n".join("".join(cell["source"]) for cell in cells)


@pytest.fixture(params=NOTEBOOKS)
def name(request):
    return request.param


def test_a_code_cell_is_short_and_shows_no_wrangling(name):
    code = cells_of(name, "code")
    for cell in code:
        assert 1 <= len(text_of(cell).splitlines()) <= 5
        for node in ast.walk(ast.parse(text_of(cell))):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda)
            assert not isinstance(node, ast.For | ast.ListComp | ast.DictComp)
    imports = re.findall(r"^(?:import|from) .*", text_of(*code), re.M)
    assert imports == ["import sfusion as sf"]


def test_those_that_compute_are_replayed_first():
    order = longest_first()
    assert set(order[: len(COMPUTING)]) == set(COMPUTING)
    assert sorted(order) == NOTEBOOKS


def test_the_code_of_all_notebooks_is_small():
    count = 0
    for name in NOTEBOOKS:
        lines = io.StringIO(text_of(*cells_of(name, "code")) + "\n").readline
        tokens = tokenize.generate_tokens(lines)
        count += sum(token.type not in LAYOUT for token in tokens)
    assert count <= TOKENS


def test_parameters_are_one_cell_of_literals_that_replay_the_shown_profile(name):
    code = cells_of(name, "code")
    tagged = [c for c in code if "parameters" in c["metadata"].get("tags", [])]
    assert tagged == code[:1]
    values = {}
    for statement in ast.parse(text_of(code[0])).body:
        values[statement.targets[0].id] = ast.literal_eval(statement.value)
    assert list(values) == ["PROFILE", "MODE", "FIGURES", "TABLES"]
    assert (values["PROFILE"], values["MODE"]) == (SHOWN, "replay")
    # Running a notebook by hand must not write over what is committed.
    assert values["FIGURES"].startswith("../build/")
    assert values["TABLES"].startswith("../build/")


def test_a_notebook_begins_with_its_title_and_ends_with_the_comparison(name):
    prose = cells_of(name, "markdown")
    headings = re.findall(r"^#+ .+", text_of(*prose), re.M)
    assert BOOKS[name]["cells"][0] == prose[0]
    assert text_of(*prose).startswith(headings[0])
    assert [line for line in headings if line.startswith("# ")] == headings[:1]
    assert "The paper says / we get" in headings[-1]


def test_prose_stands_before_and_after_every_exhibit(name):
    kinds = [cell["cell_type"] for cell in BOOKS[name]["cells"]]
    for number, cell in enumerate(BOOKS[name]["cells"][:-1]):
        if kinds[number] == "code" and "sf.show(" in text_of(cell):
            assert kinds[:number][::-1].index("markdown") < 3
            assert "markdown" in kinds[number + 1 :]


def test_stored_outputs_are_present_in_order_and_clean(name):
    code = cells_of(name, "code")
    counts = [cell["execution_count"] for cell in code]
    assert counts == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    for output in outputs:
        assert output["output_type"] not in ("error", "stream")
    assert code[-1]["outputs"], "the comparison shows nothing"
    assert BOOKS[name]["metadata"]["kernelspec"]["name"] == "python3"


# --- every study through every notebook -----------------------------------------------


def replay(name, profile, monkeypatch):
    """Run a notebook's cells in this process; return the exhibits that it shows."""
    shown = []
    monkeypatch.setattr(sf, "show", shown.append)
    monkeypatch.setattr(sf, "save_to", lambda figures, tables: None)
    scope = {}
    for cell in cells_of(name, "code"):
        exec(text_of(cell), scope)
        if "parameters" in cell["metadata"].get("tags", []):
            scope["PROFILE"] = profile
    return shown


@pytest.fixture
def few_draws(monkeypatch):
    """Let intervals be of few draws: what is shown is looked at, not its numbers."""
    monkeypatch.setitem(bootstrap.__kwdefaults__, "resamples", 20)
    monkeypatch.setattr(scores, "POOL", 4)
    few_trees = RandomForestRegressor(n_estimators=5, random_state=0)
    monkeypatch.setitem(FUSION_MODELS, "random-forest", lambda: clone(few_trees))
    scores._draws.cache_clear()
    yield
    scores._draws.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize("study", STUDIES)
def test_every_study_replays_through_every_notebook(study, monkeypatch):
    exhibits = []
    for name in NOTEBOOKS:
        exhibits += replay(name, study, monkeypatch)
    for exhibit in exhibits:
        assert exhibit.finding or not exhibit.table.empty
        assert "nan" not in exhibit.finding.lower().split(), exhibit.name
        if exhibit.figure is not None:
            assert not exhibit.table.empty
    if study == SHOWN:
        assert_committed(exhibits)


def assert_committed(exhibits):
    """Check that the committed files are those of the exhibits, no more, no fewer."""
    tables_by_name = {}
    for exhibit in exhibits:
        # One that is shown again is the same one.
        first = tables_by_name.setdefault(exhibit.name, exhibit.table)
        assert exhibit.table.empty or first.equals(exhibit.table), exhibit.name
    figures, tables = set(), set()
    for exhibit in exhibits:
        if exhibit.figure is not None:
            figures |= {f"{exhibit.name}.{form}" for form in ("csv", "pdf", "png")}
        elif not exhibit.table.empty:
            tables.add(f"{exhibit.name}.csv")
    committed = {"figures": figures, f"results/{SHOWN}/tables": tables}
    for folder, expected in committed.items():
        there = {file.name for file in (ROOT / folder).iterdir()}
        assert there == expected
