"""The book: it builds without a warning, links lead somewhere, a browser shows it."""

import itertools
import json
import re
import runpy
import shutil
import sys

import nbformat
import pytest

import sfusion as sf
from sfusion.compression.accuracy import accuracy_interval
from sfusion.experiments.profiles import ROOT
from sfusion.notebooks import NOTEBOOKS, SHOWN
from sfusion.pruning.path import PruningPath
from sfusion.pruning.strategies import lookup

pytest.importorskip("sphinx", reason="the extra 'book' is not installed")
sys.path.insert(0, str(ROOT / "tools"))
pytestmark = pytest.mark.study

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--window-size=1300,1500",
]
OWN = re.compile(r"_static/(explorer|records)\.js")
SLIDE = """
arguments[0].value = arguments[1];
arguments[0].dispatchEvent(new Event('input', {bubbles: true}));
"""
BROKEN_IMAGES = """
const broken = [...document.images].filter(one => one.complete && !one.naturalWidth);
return broken.map(one => one.src);
"""


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    out = tmp_path_factory.mktemp("book") / "book"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(sys, "argv", ["book.py", str(out)])
        runpy.run_path(ROOT / "tools" / "book.py", run_name="__main__")
    assert ended.value.code == 0
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = shutil.which("chromedriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not (driver and chromium):
        pytest.skip("no chromium with its driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    with webdriver.Chrome(options, Service(driver)) as found:
        yield found


def _open(browser, book, page):
    """Open a page, and return the errors of the book's own scripts."""
    browser.get(f"{book.as_uri()}/{page}")
    return [
        line["message"]
        for line in browser.get_log("browser")
        if OWN.search(line["message"])
    ]


def test_every_notebook_claim_and_module_has_a_page(book):
    pages = [f"notebooks/{name}" for name in NOTEBOOKS]
    pages += [f"claims/C{number}" for number in range(1, 7)]
    for file in (ROOT / "sfusion").rglob("[a-z]*.py"):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        pages.append(f"reference/{module}")
    assert [page for page in pages if not (book / f"{page}.html").is_file()] == []


def test_a_figure_links_to_its_files_and_its_code():
    from book import figure_links

    def output(kind, **metadata):
        data = {kind: "content"}
        return nbformat.v4.new_output("display_data", data, metadata=metadata)

    cell = nbformat.v4.new_code_cell("sf.show(sf.sweeps.accuracy_by_depth(results))")
    assert figure_links(cell) == ""
    cell.outputs = [
        output("image/png", exhibit="accuracy"),
        output("text/markdown", exhibit="accuracy"),
    ]
    links = figure_links(cell)
    assert links.count("../figures/accuracy.csv") == 1
    assert "{py:func}`sfusion.analysis.sweeps.accuracy_by_depth`" in links


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    from book import broken_links

    (tmp_path / "one.html").write_text(
        '<a id="here" href="two.html#there">x</a><a href="#here">y</a>'
    )
    (tmp_path / "two.html").write_text(
        '<a href="gone.css">x</a><a href="https://else.where">y</a>'
        '<script src="https://else.where/math.js"></script>'
    )
    assert broken_links(tmp_path) == [
        "one.html -> two.html#there",
        "two.html -> gone.css",
        "two.html loads https://else.where/math.js",
    ]


@pytest.mark.parametrize(
    "page", ["index.html", "claims/C1.html", "notebooks/03_single_strategies.html"]
)
def test_pages_load_and_link_figures_to_their_numbers(page, browser, book):
    _open(browser, book, page)
    assert browser.find_element("css selector", "article h1").text
    assert browser.execute_script(BROKEN_IMAGES) == []
    if "notebooks" in page:
        assert browser.find_elements("partial link text", "numbers (CSV)")


def test_formulas_of_cells_and_of_findings_are_set_without_a_network(browser, book):
    from selenium.webdriver.support.ui import WebDriverWait

    _open(browser, book, "notebooks/01_signals.html")
    cards = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements("css selector", ".cell_output mjx-container")
    )
    assert len(cards) >= len(sf.SIGNALS)
    assert "$" not in browser.find_element("css selector", "article").text


def test_search_finds_a_signal(browser, book):
    from selenium.webdriver.support.ui import WebDriverWait

    _open(browser, book, "search.html?q=Block+Influence")
    found = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements("css selector", "#search-results li")
    )
    assert any("signal" in one.text.lower() for one in found)


@pytest.mark.parametrize(
    ("task", "seed", "removed"),
    [("imdb", 1, 3), ("newsgroup", 0, 5), ("newsgroup", 2, 0)],
)
def test_the_explorer_shows_the_numbers_of_the_records(
    task, seed, removed, browser, book
):
    from selenium.webdriver.support.ui import Select

    assert _open(browser, book, "explorer.html") == []
    Select(browser.find_element("id", "task")).select_by_value(task)
    Select(browser.find_element("id", "seed")).select_by_value(str(seed))
    browser.execute_script(SLIDE, browser.find_element("id", "removed"), removed)
    rows = browser.find_elements("css selector", "#rows tbody tr")
    assert len(rows) >= 4
    results = sf.open_results(SHOWN)
    keys = ["task", "seed", "removed", "strategy"]
    nodes = results.curves().set_index(keys).sort_index().loc[task, seed, removed]
    tests = int(results.tasks.set_index(["task", "seed"])["test"][task, seed])
    for row in rows:
        node = nodes.loc[row.get_attribute("data-strategy")]
        wilson = accuracy_interval(round(node["test_accuracy"] * tests), tests)
        accuracy, low, high = (
            f"{100 * share:.1f}" for share in (wilson.accuracy, wilson.low, wilson.high)
        )
        cells = [cell.text for cell in row.find_elements("tag name", "td")]
        assert cells[2] == f"{accuracy} [{low}, {high}]"
        assert cells[3] == f"{node['parameters'] / 1e6:.1f}"
        gone = [int(box.text) for box in row.find_elements("css selector", ".gone")]
        assert gone == sorted(PruningPath.parse(node["path"]).removed)


def test_the_lines_of_the_explorer_are_named_and_answer_to_the_pointer(browser, book):
    from selenium.webdriver.common.action_chains import ActionChains

    assert _open(browser, book, "explorer.html") == []
    rows = browser.find_elements("css selector", "#rows tbody tr")
    titles = [row.find_element("tag name", "td").text for row in rows]
    labels = browser.find_elements("css selector", "#curve .name")
    assert [label.text for label in labels] == titles
    heights = sorted(label.rect["y"] for label in labels)
    apart = [high - low for low, high in itertools.pairwise(heights)]
    assert min(apart) >= labels[0].rect["height"] / 2
    drawing = browser.find_element("css selector", "#curve svg")
    before = browser.find_element("id", "step").text
    ActionChains(browser).move_to_element(drawing).perform()
    assert browser.find_element("id", "step").text != before


def test_the_explorer_holds_every_path_of_single_layers(book):
    records = json.loads((ROOT / "docs" / "book" / "explorer.json").read_text())
    tasks = records["models"][sf.load_profile(SHOWN).model]["tasks"]
    trajectories = sf.open_results(SHOWN).trajectories
    last = trajectories.groupby(["task", "seed", "strategy"])["path"].last()
    for (task, seed, strategy), path in last.items():
        if lookup(strategy).once:
            continue
        tree = tasks[task]["seeds"][str(seed)]
        assert tree["paths"][strategy] == path
        assert path in tree["right"]
