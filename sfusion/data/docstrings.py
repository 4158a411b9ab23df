"""Docstrings of installed libraries, and their paragraphs."""

import ast
import importlib.util
import inspect
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from sfusion.errors import SfusionError

SKIPPED_PATHS = frozenset({"tests", "externals", "_lib", "conftest.py"})

# Sections of numpydoc that hold "name : type" lines with indented descriptions.
ITEMISED = frozenset(
    {
        "parameters",
        "other parameters",
        "returns",
        "yields",
        "receives",
        "raises",
        "warns",
        "attributes",
        "methods",
        "options",
    }
)

UNDERLINE = re.compile(r"\s*([-=~^])\1{2,}\s*$")
BULLET = re.compile(r"(?:[-*+•]|\d+[.)]|\(\w+\)|#\.)\s")
ADMONITION = re.compile(r"\.\. (?:note|warning|tip|important)::$")


def is_inside(source: str, path: str) -> bool:
    """Check whether a dotted name is a path or lies below it.

    Parameters
    ----------
    source, path : str

    Returns
    -------
    bool
    """
    return f"{source}.".startswith(f"{path}.")


def read_docstrings(
    library: str, within: Sequence[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield (source, docstring) for a library, file by file in sorted order.

    A source is the dotted name of a module, a function, a class or a method of a class;
    private ones count. So do ``add_newdoc("name", "text")`` calls, which document
    compiled functions.

    Parameters
    ----------
    library : str
        Import name of an installed package.
    within : sequence of str
        Dotted module paths to read; all of the library when empty.

    Yields
    ------
    tuple of str
        Source and docstring.

    Raises
    ------
    SfusionError
        If the library is not installed.
    """
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        raise SfusionError(
            f"library {library!r} is not installed: make the environment again"
        )
    root = Path(spec.origin).parent
    for path in sorted(root.rglob("*.py"), key=Path.as_posix):
        parts = path.relative_to(root).parts
        name = ".".join([library, *parts]).removesuffix(".py")
        module = name.removesuffix(".__init__")
        is_wanted = any(is_inside(module, place) for place in within or [library])
        if is_wanted and SKIPPED_PATHS.isdisjoint(parts):
            with warnings.catch_warnings(action="ignore"):  # of other people's escapes
                tree = ast.parse(path.read_bytes())
            yield from _walk(module, tree)


Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def _walk(source: str, node: Documented) -> Iterator[tuple[str, str]]:
    """Yield (source, docstring) of a module, class or function and what it holds."""
    yield source, ast.get_docstring(node) or ""
    if isinstance(node, ast.FunctionDef):
        return
    for inner in node.body:
        match inner:
            case ast.ClassDef() if isinstance(node, ast.ClassDef):
                pass  # of a class in a class nothing is read
            case ast.FunctionDef() | ast.ClassDef():
                yield from _walk(f"{source}.{inner.name}", inner)
            case ast.Expr(
                ast.Call(
                    ast.Name("add_newdoc"),
                    [*_, ast.Constant(str(name)), ast.Constant(str(text))],
                )
            ):
                yield f"{source}.{name}", inspect.cleandoc(text)


def split_paragraphs(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield (section, paragraph) of a docstring: header in lower case, lines joined.

    Left out: headers, lists, literal blocks, directives with their bodies (but the
    bodies of notes and warnings stay) and the ``name : type`` lines of numpydoc's item
    sections.

    Parameters
    ----------
    docstring : str

    Yields
    ------
    tuple of str
        Section and paragraph.
    """
    section = ""
    margin = 0
    block: list[str] = []
    block_indent = 0
    skipped = math.inf  # lines indented deeper than this are passed over
    for line, following in pairwise([*docstring.expandtabs().splitlines(), "", ""]):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if text and indent > skipped:
            continue
        if text:
            skipped = math.inf
        underline = UNDERLINE.match(line)
        header = text and not underline and UNDERLINE.match(following)
        item = section in ITEMISED and indent <= margin
        unread = BULLET.match(text) or text.startswith((".. ", "..."))
        stop = not text or underline or header or item or unread
        if block and (stop or indent != block_indent):
            yield section, " ".join(block)
            block = []
        if header:
            section = text.lower().rstrip(":")
            margin = indent
        elif not stop:
            block.append(text)
            block_indent = indent
        if text.endswith("::") or unread:
            skipped = math.inf if ADMONITION.match(text) else indent
