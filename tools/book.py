"""Make the book: notebooks, documents and reference as a static site under build/book.

usage: python tools/book.py [OUT]

Nothing is executed: notebooks show their stored outputs. Any warning, and any link to a
page, anchor or file that is not there, ends with 1.
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
DRAWN = re.compile(r"sf\.figures\.(\w+)\(")
SAVED = re.compile(r'sf\.save_figure\("(\w+)"')
RULE = {
    "supported": "The whole interval satisfies the claim.",
    "not supported": "No part of the interval satisfies the claim.",
    "undecided": "The interval lies on both sides of what the claim needs.",
    "partly": "The claim has two parts, and one of them holds.",
    "cannot be tested": "The claim leaves out its definition.",
}


def lay_notebooks(folder):
    """Copy the notebooks, with links under each figure: its numbers, and the code that drew it."""
    for name in NOTEBOOKS:
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        cells = []
        for cell in notebook.cells:
            cells.append(cell)
            saved, drawn = SAVED.findall(cell.source), DRAWN.findall(cell.source)
            links = [
                f"`{figure}`: [numbers (CSV)](../figures/{figure}.csv), [PDF](../figures/{figure}.pdf), "
                f"drawn by {{py:func}}`~sfusion.analysis.figures.{function}`"
                for figure, function in zip(saved, drawn, strict=True)
            ]
            if links and cell.cell_type == "code":
                cells.append(
                    nbformat.v4.new_markdown_cell(
                        "<br>\n".join(links), id=f"{cell.id}-links"
                    )
                )
        notebook.cells = cells
        (folder / f"{name}.ipynb").write_text(
            nbformat.writes(notebook), encoding="utf-8"
        )


def number(row):
    """Write a claim's number with its interval, and the count before it where it counts datasets."""
    count = f"{row['count']}: " if row["count"] else ""
    return count + sf.statistics.interval_text(row["ours"], row["low"], row["high"], 2)


def lay_claims(folder):
    """Write a page per claim, and the page that lists them."""
    board, twelve = (
        sf.claims.scoreboard(sf.open_results(name)) for name in (SHOWN, TWELVE)
    )
    words = yaml.safe_load((PAGES / "claims.yaml").read_text(encoding="utf-8"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(ROOT / "tools" / "templates"),
        undefined=jinja2.StrictUndefined,
    )
    template, rows = environment.get_template("claim.md.jinja"), []
    for claim, row in board.iterrows():
        values = {
            "claim": claim,
            "row": row,
            "number": number(row),
            "sign": sf.claims.CLAIMS["sign"][claim],
        }
        values |= {
            "twelve": twelve.loc[claim],
            "twelve_number": number(twelve.loc[claim]),
        }
        text = template.render(**values, words=words[claim], rule=RULE)
        (folder / f"{claim}.md").write_text(text, encoding="utf-8")
        found = {
            "verdict, 6 layers": row["verdict"],
            "12 layers": twelve["verdict"][claim],
        }
        rows.append(
            {"": f"[{claim}]({claim}.md)", "the paper says": row["paper"], **found}
        )
    table = pd.DataFrame(rows).to_markdown(index=False)
    toctree = "\n".join(["```{toctree}", ":hidden:", *board.index, "```"])
    (folder / "index.md").write_text(
        f"# The six claims\n\n{table}\n\n{toctree}\n", encoding="utf-8"
    )


def lay_reference(folder):
    """Write a page per room of the package, its modules in the order of their names."""
    package, pages = ROOT / "sfusion", {"sfusion": []}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        module = ".".join(part for part in parts if part != "__init__")
        if not module.endswith("__main__") and module != "sfusion":
            pages.setdefault(parts[1] if len(parts) > 2 else "sfusion", []).append(
                module
            )
    for room, modules in pages.items():
        blocks = [
            f"```{{eval-rst}}\n.. automodule:: {module}\n   :members:\n   :exclude-members: set\n```"
            for module in modules
        ]
        titled = [
            f"## {module}\n\n{block}"
            for module, block in zip(modules, blocks, strict=True)
        ]
        (folder / f"{room}.md").write_text(
            f"# {room}\n\n" + "\n\n".join(titled) + "\n", encoding="utf-8"
        )
    listed = "\n".join(["```{toctree}", ":maxdepth: 2", *pages, "```"])
    text = f"# The reference\n\n{sf.__doc__.strip()}\n\n{listed}\n"
    (folder / "index.md").write_text(text, encoding="utf-8")


def lay_out(source):
    """Write everything that Sphinx reads into an empty folder."""
    shutil.copytree(PAGES, source)
    for name in ("notebooks", "claims", "reference"):
        (source / name).mkdir()
    lay_notebooks(source / "notebooks")
    lay_claims(source / "claims")
    lay_reference(source / "reference")
    # Where they lie in the repository, so that links between them hold.
    for file in (*(ROOT / "docs").glob("*.md"), ROOT / "benchmarks" / "README.md"):
        (source / file.relative_to(ROOT).parent).mkdir(exist_ok=True)
        shutil.copy(file, source / file.relative_to(ROOT))
    shutil.copytree(ROOT / "figures", source / "figures")
    records = (PAGES / "explorer.json").read_text(encoding="utf-8")
    # A script, for a page that is opened as a file may load nothing else.
    (source / "_static" / "records.js").write_text(
        f"const RECORDS = {records};\n", encoding="utf-8"
    )


class _Page(HTMLParser):
    """The anchors of a page, and what it refers to."""

    def __init__(self, text):
        super().__init__()
        self.anchors, self.references = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        """Note an element's names and references."""
        found = dict(attributes)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        self.references |= {found[key] for key in ("href", "src") if found.get(key)}


def broken_links(folder):
    """List the links within a site that lead nowhere, as "page -> link"."""
    pages = {
        file.resolve(): _Page(file.read_text(encoding="utf-8"))
        for file in folder.rglob("*.html")
        if "_static" not in file.parts
    }
    broken = []
    for file, page in pages.items():
        for reference in sorted(page.references):
            link = urlsplit(reference)
            if link.scheme or link.netloc:
                continue
            target = (file.parent / unquote(link.path)).resolve() if link.path else file
            known = target.is_file() and (not link.fragment or target not in pages)
            if not known and unquote(link.fragment) not in getattr(
                pages.get(target), "anchors", ()
            ):
                broken.append(f"{file.relative_to(folder.resolve())} -> {reference}")
    return sorted(broken)


def main():
    """Build the book; return the exit code."""
    out = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "book"
    source = out.with_name(f"{out.name}-source")
    for folder in (out, source):
        shutil.rmtree(folder, ignore_errors=True)
    lay_out(source)
    code = build_main(
        [
            "-q",
            "-W",
            "--keep-going",
            "-d",
            str(source / ".doctrees"),
            str(source),
            str(out),
        ]
    )
    broken = broken_links(out)
    print(
        "\n".join(
            [*(f"broken link: {line}" for line in broken), f"the book is in {out}"]
        )
    )
    return int(bool(code or broken))


if __name__ == "__main__":
    sys.exit(main())
