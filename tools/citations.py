"""Where the numbers of a document come from.

A template marks what it takes from the records: ``{{ value | cite("results/nine") }}``.
From the marks follows a list of every sentence with a number and its sources, and which
sentences have a number that is marked nowhere.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Private characters around a source and around the text that was taken from it.
OPEN = "\ue000"
BETWEEN = "\ue001"
CLOSE = "\ue002"
MARKED = re.compile(f"{OPEN}([^{BETWEEN}]*){BETWEEN}([^{CLOSE}]*){CLOSE}")

# What holds digits and says nothing of a result: commands, addresses and links.
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\((?:https?:|notebooks/)[^)]*\)")
ADDRESS = re.compile(r"\]\([^)]*\)|<!--.*?-->")

SENTENCE_END = re.compile(r"(?<!\d\.)(?<=[.!?:])\s+(?=[A-Z*\[`])")


class Sentence(NamedTuple):
    """A sentence or a row of a table that has a number.

    Attributes
    ----------
    text : str
        Without marks.
    sources : list of str
        Where its numbers come from, in order; empty where nothing is marked.
    is_covered : bool
        Whether every digit of it is marked.
    """

    text: str
    sources: list[str]
    is_covered: bool


def cite(text: object, source: str) -> str:
    """Mark a text as taken from a source.

    Parameters
    ----------
    text : object
        Written as it prints.
    source : str
        A file or folder of records, an exhibit, or a document.

    Returns
    -------
    str
    """
    return f"{OPEN}{source}{BETWEEN}{text}{CLOSE}"


def plain(text: str) -> str:
    """Take all marks out of a text.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    return MARKED.sub(r"\2", text)


def sentences(document: str) -> list[Sentence]:
    """List the sentences of a marked Markdown document that have a number.

    Parameters
    ----------
    document : str
        With its marks.

    Returns
    -------
    list of Sentence
    """
    found = []
    for line in _one_line_each(document):
        # The number that opens an item of a list counts nothing.
        line = re.sub(r"^\d+\.\s", "", line)
        sources = list(dict.fromkeys(MARKED.findall(line)))
        bare = ADDRESS.sub("", LINK.sub("", CODE.sub("", line)))
        if not re.search(r"\d", MARKED.sub(r"\2", bare)):
            continue
        unmarked = MARKED.sub("", bare)
        names = list(dict.fromkeys(source for source, _ in sources))
        covered = re.search(r"\d", unmarked) is None
        found.append(Sentence(plain(line), names, covered))
    return found


def _one_line_each(document: str) -> list[str]:
    """Split a document into sentences and rows of tables, code left out."""
    # A mark that spans lines, as of a table, is put around each of them.
    document = MARKED.sub(
        lambda mark: "\n".join(
            cite(line, mark[1]) for line in mark[2].splitlines() or [""]
        ),
        document,
    )
    lines: list[str] = []
    for paragraph in re.split(
        r"\n\s*\n", re.sub(r"```.*?```", "", document, flags=re.S)
    ):
        if "|" in paragraph.lstrip(OPEN)[:1] or f"{BETWEEN}|" in paragraph:
            lines += paragraph.splitlines()
            continue
        for item in re.split(r"\n(?=\d+\. |- |#)", paragraph):
            joined = " ".join(item.split())
            lines += _split_outside_marks(joined)
    return [line for line in lines if line.strip()]


def _split_outside_marks(text: str) -> list[str]:
    """Split a paragraph into sentences; a mark may hold several and stays whole."""
    marks = MARKED.findall(text)
    kept = MARKED.sub(lambda mark: f"{OPEN}{CLOSE}", text)
    whole = []
    rest = iter(marks)
    for sentence in SENTENCE_END.split(kept):
        whole.append(
            re.sub(OPEN + CLOSE, lambda _: cite(*reversed(next(rest))), sentence)
        )
    return whole


def listed(found: list[Sentence]) -> str:
    """List sentences, each with its sources under it.

    Parameters
    ----------
    found : list of Sentence

    Returns
    -------
    str
        Markdown.
    """
    items = []
    for sentence in found:
        text = sentence.text.replace("|", "/").replace("**", "")
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
        text = text.strip(" /").removeprefix("- ")
        text = " ".join(text.split())
        items.append(f"- {text}\n  *From {'; '.join(sentence.sources)}.*")
    return "\n".join(items)
