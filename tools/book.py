"""Make the book: notebooks, documents and reference as a static site under build/book.

usage: python tools/book.py [OUT]

Nothing is executed: notebooks show their stored outputs. Any warning, any link to a
page, anchor or file that is not there, and anything that is loaded from another host
ends with 1.
"""

import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import jinja2
import nbformat
import pandas as pd
import yaml
from sphinx.cmd.build import build_main

import sfusion as sf
from sfusion.experiments.profiles import ROOT
from sfusion.notebooks import NOTEBOOKS, SHOWN, TWELVE

PAGES = ROOT / "docs" / "book"
DRAWN = re.compile(r"\bsf\.([a-z_]+\.[a-z_]+)\(")
RULE = {
    "supported": "The whole interval satisfies the claim.",
    "not supported": "No part of the interval satisfies the claim.",
    "undecided": "The interval lies on both sides of what the claim needs.",
    "partly": "The claim has two parts, and one of them holds.",
    "cannot be tested": "The claim leaves out its definition.",
}


def lay_notebooks(folder: Path) -> None:
    """Copy the notebooks, with links under each figure to its files and to its code."""
    for name in NOTEBOOKS:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        cells = []
        for cell in notebook.cells:
            cells.append(cell)
            if links := figure_links(cell):
                id_ = f"{cell.id}-links"
                cells.append(nbformat.v4.new_markdown_cell(links, id=id_))
        notebook.cells = cells
        text = nbformat.writes(notebook)
        (folder / f"{name}.ipynb").write_text(text, encoding="utf-8")


def figure_links(cell: nbformat.NotebookNode) -> str:
    """Write the links of the figures that a cell shows, by the names in its outputs."""
    outputs = cell.get("outputs", [])
    names = [
        output.metadata.exhibit
        for output in outputs
        if "image/png" in output.get("data", {}) and "exhibit" in output.metadata
    ]
    lines = [
        f"`{name}`: [numbers (CSV)](../figures/{name}.csv), "
        f"[PDF](../figures/{name}.pdf)"
        for name in names
    ]
    if lines:
        functions = DRAWN.findall(cell.source)
        lines += [f"{{py:func}}`sfusion.analysis.{name}`" for name in functions]
    return "<br>\n".join(lines)


def number(row: pd.Series) -> str:
    """Write a claim's number with its interval, and the count that it stands for."""
    count = f"{row['count']}: " if row["count"] else ""
    interval = sf.statistics.interval_text(
        row["ours"], row["low"], row["high"], digits=2
    )
    return count + interval


def lay_claims(folder: Path) -> None:
    """Write a page per claim, and the page that lists them."""
    board = sf.scoreboard.scoreboard(sf.open_results(SHOWN))
    twelve = sf.scoreboard.scoreboard(sf.open_results(TWELVE))
    words = yaml.safe_load((PAGES / "claims.yaml").read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "tools" / "templates"),
        undefined=jinja2.StrictUndefined,
    )
    template = environment.get_template("claim.md.jinja")
    for claim, row in board.iterrows():
        text = template.render(
            claim=claim,
            row=row,
            number=number(row),
            sign=sf.scoreboard.CLAIMS["sign"][claim],
            twelve=twelve.loc[claim],
            twelve_number=number(twelve.loc[claim]),
            words=words[claim],
            rule=RULE,
        )
        (folder / f"{claim}.md").write_text(text, encoding="utf-8")
    table = pd.DataFrame(
        {
            "": [f"[{claim}]({claim}.md)" for claim in board.index],
            "the paper says": board["paper"],
            "6 layers": board["verdict"],
            "12 layers": twelve["verdict"],
        }
    ).to_markdown(index=False)
    toctree = "\n".join(["```{toctree}", ":hidden:", *board.index, "```"])
    text = f"# The six claims\n\n{table}\n\n{toctree}\n"
    (folder / "index.md").write_text(text, encoding="utf-8")


def lay_out(source: Path) -> None:
    """Write everything that Sphinx reads into an empty folder."""
    shutil.copytree(PAGES, source)
    answer = sf.overview.answer(sf.open_results(SHOWN), sf.open_results(TWELVE))
    index = source / "index.md"
    text = index.read_text(encoding="utf-8").replace("ANSWER", answer.finding, 1)
    index.write_text(text, encoding="utf-8")
    (source / "notebooks").mkdir()
    lay_notebooks(source / "notebooks")
    (source / "claims").mkdir()
    lay_claims(source / "claims")
    # Where they lie in the repository, so that links between them hold.
    for file in (*(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"):
        copy = source / file.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(file, copy)
    shutil.copytree(ROOT / "figures", source / "figures")
    records = (PAGES / "explorer.json").read_text(encoding="utf-8")
    # A script, for a page that is opened as a file may load nothing else.
    script = source / "_static" / "records.js"
    script.write_text(f"const RECORDS = {records};\n", encoding="utf-8")


# What a page loads by itself, as a link does not: attribute by tag.
LOADED = {"script": "src", "img": "src", "link": "href"}


class Page(HTMLParser):
    """The anchors of a page, what it refers to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str | None] = set()
        self.references: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element's names and references."""
        for key, value in attrs:
            if value and key in ("id", "name"):
                self.anchors.add(value)
            if value and key in ("href", "src"):
                self.references.add(value)
            if value and key == LOADED.get(tag):
                self.loaded.add(value)


def broken_links(folder: Path) -> list[str]:
    """List links within a site that lead nowhere, and what comes from elsewhere.

    As "page -> link". A page that loads a script or a style from another host shows no
    formulas without a network.
    """
    folder = folder.resolve()
    pages = {
        file: Page(file.read_text(encoding="utf-8"))
        for file in folder.rglob("*.html")
        if "_static" not in file.parts
    }
    broken = []
    for file, page in pages.items():
        for reference in page.references:
            if not leads_somewhere(reference, file, pages):
                broken.append(f"{file.relative_to(folder)} -> {reference}")
        for reference in page.loaded:
            if urlsplit(reference).netloc:
                broken.append(f"{file.relative_to(folder)} loads {reference}")
    return sorted(broken)


def leads_somewhere(reference: str, file: Path, pages: dict[Path, Page]) -> bool:
    """Tell whether a reference on a page finds its file and, in a page, its anchor."""
    link = urlsplit(reference)
    if link.scheme or link.netloc:
        return True  # out of the site: not ours to check
    target = file
    if link.path:
        target = (file.parent / unquote(link.path)).resolve()
    if target in pages and link.fragment:
        return unquote(link.fragment) in pages[target].anchors
    return target.is_file()


def main() -> int:
    """Build the book; return the exit code."""
    out = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "book"
    source = out.with_name(f"{out.name}-source")
    for folder in (out, source):
        shutil.rmtree(folder, ignore_errors=True)
    lay_out(source)
    options = ["-q", "-W", "--keep-going", "-d", str(source / ".doctrees")]
    code = build_main([*options, str(source), str(out)])
    broken = broken_links(out)
    for line in broken:
        print(f"broken: {line}")
    print(f"the book is in {out}")
    return 1 if code or broken else 0


if __name__ == "__main__":
    sys.exit(main())
