"""The book: it builds without a warning, its links lead somewhere, and a browser shows the records."""

import json
import re
import runpy
import shutil
import sys

import pytest

import sfusion as sf
from sfusion.compression.report import accuracy_interval
from sfusion.experiments.profiles import ROOT
from sfusion.notebooks import NOTEBOOKS, SHOWN
from sfusion.pruning.path import PruningPath

pytest.importorskip("sphinx", reason="the extra 'book' is not installed")
sys.path.insert(0, str(ROOT / "tools"))

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
]
OWN = re.compile(r"_static/(explorer|records)\.js")
FLAGS += [
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
    "--window-size=1300,1500",
]


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
    driver, chromium = (
        shutil.which("chromedriver"),
        shutil.which("chromium") or shutil.which("google-chrome"),
    )
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
    for page in (
        *(f"notebooks/{name}" for name in NOTEBOOKS),
        *(f"claims/C{n}" for n in range(1, 7)),
    ):
        assert (book / f"{page}.html").is_file()
    reference = "".join(
        file.read_text() for file in (book / "reference").glob("*.html")
    )
    for module in ("sfusion.study", "sfusion.pruning.tree", "sfusion.analysis.figures"):
        assert f'id="module-{module}"' in reference


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    from book import broken_links

    (tmp_path / "one.html").write_text(
        '<a id="here" href="two.html#there">x</a><a href="#here">y</a>'
    )
    (tmp_path / "two.html").write_text(
        '<a href="gone.css">x</a><a href="https://else.where">y</a>'
    )
    assert broken_links(tmp_path) == [
        "one.html -> two.html#there",
        "two.html -> gone.css",
    ]


@pytest.mark.parametrize(
    "page", ["index.html", "claims/C1.html", "notebooks/02_single_strategy_sweeps.html"]
)
def test_pages_load_and_link_figures_to_their_numbers(page, browser, book):
    _open(browser, book, page)
    assert browser.find_element("css selector", "article h1").text
    broken = "return [...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src)"
    assert browser.execute_script(broken) == []
    if "notebooks" in page:
        assert browser.find_elements("partial link text", "numbers (CSV)")


def test_search_finds_a_signal(browser, book):
    from selenium.webdriver.support.ui import WebDriverWait

    _open(browser, book, "search.html?q=Block+Influence")
    found = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements("css selector", "#search-results li")
    )
    assert any("signal" in one.text.lower() for one in found)


def test_the_explorer_shows_the_numbers_of_the_records(browser, book):
    from selenium.webdriver.support.ui import Select

    assert _open(browser, book, "explorer.html") == []
    results = sf.open_results(SHOWN)
    frame = (
        sf.tables.curves(results)
        .set_index(["task", "seed", "strategy", "removed"])
        .sort_index()
    )
    tests = results.tasks.set_index(["task", "seed"])["test"]
    for task, seed, removed in (
        ("imdb", 1, 3),
        ("newsgroup", 0, 5),
        ("newsgroup", 2, 0),
    ):
        Select(browser.find_element("id", "task")).select_by_value(task)
        Select(browser.find_element("id", "seed")).select_by_value(str(seed))
        slide = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input', {bubbles: true}))"
        browser.execute_script(slide, browser.find_element("id", "removed"), removed)
        rows = browser.find_elements("css selector", "#rows tbody tr")
        assert len(rows) >= 4
        for row in rows:
            node = frame.loc[(task, seed, row.get_attribute("data-strategy"), removed)]
            total = int(tests[task, seed])
            wilson = accuracy_interval(round(node["test_accuracy"] * total), total)
            shown = [f"{100 * wilson[key]:.1f}" for key in ("accuracy", "low", "high")]
            cells = [cell.text for cell in row.find_elements("tag name", "td")]
            assert cells[2] == f"{shown[0]} [{shown[1]}, {shown[2]}]"
            assert cells[3] == f"{node['parameters'] / 1e6:.1f}"
            gone = [int(box.text) for box in row.find_elements("css selector", ".gone")]
            assert gone == sorted(PruningPath.parse(node["path"]).removed)


def test_the_explorer_holds_every_path_of_single_layers(book):
    records = json.loads((ROOT / "docs" / "book" / "explorer.json").read_text())
    model = sf.load_profile(SHOWN).model
    last = (
        sf.open_results(SHOWN)
        .trajectories.groupby(["task", "seed", "strategy"])["path"]
        .last()
    )
    one_by_one = [
        not sf.pruning.strategies.lookup(label).once
        for label in last.index.get_level_values("strategy")
    ]
    for (task, seed, strategy), path in last[one_by_one].items():
        tree = records["models"][model]["tasks"][task]["seeds"][str(seed)]
        assert tree["paths"][strategy] == path and path in tree["right"]
