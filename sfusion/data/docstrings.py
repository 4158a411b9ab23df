"""Docstrings of installed libraries, and their paragraphs."""

import ast
import importlib.util
import inspect
import math
import re
import warnings
from itertools import pairwise
from pathlib import Path

from sfusion.errors import SfusionError

SKIPPED_PATHS = frozenset({"tests", "externals", "_lib", "conftest.py"})

# Sections of numpydoc that hold "name : type" lines with indented descriptions.
ITEMISED = "parameters,other parameters,returns,yields,receives,raises,warns,attributes,methods,options".split(
    ","
)


def inside(source, path):
    """Check whether a dotted name is a path or lies below it."""
    return f"{source}.".startswith(f"{path}.")


def docstrings(library, within=()):
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
    found = importlib.util.find_spec(library)
    if found is None or found.origin is None:
        raise SfusionError(
            f"library {library!r} is not installed: make the environment again"
        )
    root = Path(found.origin).parent
    for path in sorted(root.rglob("*.py"), key=Path.as_posix):
        parts = path.relative_to(root).parts
        module = (
            ".".join([library, *parts]).removesuffix(".py").removesuffix(".__init__")
        )
        if SKIPPED_PATHS & set(parts) or not any(
            inside(module, place) for place in within or [library]
        ):
            continue
        with warnings.catch_warnings(
            action="ignore"
        ):  # invalid escapes in other people's docstrings
            tree = ast.parse(path.read_bytes())
        yield from _documented(module, tree)


def _documented(source, node):
    yield source, ast.get_docstring(node) or ""
    for inner in () if isinstance(node, ast.FunctionDef) else node.body:
        match inner:
            # Of a class in a class nothing is read.
            case ast.FunctionDef() | ast.ClassDef() if (type(node), type(inner)) != (
                ast.ClassDef,
                ast.ClassDef,
            ):
                yield from _documented(f"{source}.{inner.name}", inner)
            case ast.Expr(
                ast.Call(
                    ast.Name("add_newdoc"),
                    [*_, ast.Constant(str(name)), ast.Constant(str(text))],
                )
            ):
                yield f"{source}.{name}", inspect.cleandoc(text)


UNDERLINE = re.compile(r"\s*([-=~^])\1{2,}\s*$")

BULLET = re.compile(r"(?:[-*+•]|\d+[.)]|\(\w+\)|#\.)\s")

ADMONITION = re.compile(r"\.\. (?:note|warning|tip|important)::$")


def paragraphs(docstring):
    """Yield (section, paragraph) of a docstring: lower-case header, lines joined by a space.

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
    section, margin, block, block_indent = "", 0, [], 0
    skipped = math.inf  # lines indented deeper than this are passed over
    for line, following in pairwise([*docstring.expandtabs().splitlines(), "", ""]):
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if text and indent > skipped:
            continue
        skipped = math.inf if text else skipped
        underline = UNDERLINE.match(line)
        header = text and not underline and UNDERLINE.match(following)
        item = section in ITEMISED and indent <= margin
        unread = BULLET.match(text) or text.startswith((".. ", "..."))
        stop = not text or underline or header or item or unread
        if block and (stop or indent != block_indent):
            yield section, " ".join(block)
            block = []
        if header:
            section, margin = text.lower().rstrip(":"), indent
        elif not stop:
            block, block_indent = [*block, text], indent
        if text.endswith("::") or unread:
            skipped = math.inf if ADMONITION.match(text) else indent
