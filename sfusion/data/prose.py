"""From a library's docstrings to paragraphs of plain prose.

Sources are parsed, never imported, so optional packages and import side effects play no part. All
rules here are our own.
"""

import ast
import importlib.util
import inspect
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from sfusion import SfusionError

MASK = "this"
MIN_WORDS, MAX_WORDS = 8, 120
SKIPPED_PATHS = frozenset({"tests", "externals", "_lib", "conftest.py"})
# Sections of numpydoc that hold "name : type" lines with indented descriptions.
ITEM_SECTIONS = frozenset(
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


def inside(source: str, path: str) -> bool:
    """Tell whether a dotted name is a path or lies below it."""
    return f"{source}.".startswith(f"{path}.")


def docstrings(library: str, within: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield (source, docstring) for a library, file by file in sorted order.

    A source is the dotted name of a module, a function, a class or a method of a class; private
    ones count. So do ``add_newdoc("name", "text")`` calls, which document compiled functions.

    Parameters
    ----------
    library : str
        Import name of an installed package.
    within : tuple of str
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
        raise SfusionError(f"library {library!r} is not installed: make the environment again")
    root = Path(found.origin).parent
    files = {path.relative_to(root).as_posix(): path for path in root.rglob("*.py")}
    for name, path in sorted(files.items()):
        module = ".".join([library, *name.removesuffix(".py").split("/")]).removesuffix(".__init__")
        if SKIPPED_PATHS & set(name.split("/")):
            continue
        if within and not any(inside(module, path) for path in within):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
            tree = ast.parse(path.read_bytes())
        yield module, ast.get_docstring(tree) or ""
        for node in tree.body:
            match node:
                case ast.ClassDef() | ast.FunctionDef():
                    source = f"{module}.{node.name}"
                    yield source, ast.get_docstring(node) or ""
                    for inner in node.body if isinstance(node, ast.ClassDef) else ():
                        if isinstance(inner, ast.FunctionDef):
                            yield f"{source}.{inner.name}", ast.get_docstring(inner) or ""
                case ast.Expr(
                    ast.Call(
                        ast.Name("add_newdoc"),
                        [*_, ast.Constant(str(target)), ast.Constant(str(text))],
                    )
                ):
                    yield f"{module}.{target}", inspect.cleandoc(text)


UNDERLINE = re.compile(r"\s*([-=~^])\1{2,}\s*$")
BULLET = re.compile(r"(?:[-*+•]|\d+[.)]|\(\w+\)|#\.)\s")
ADMONITION = re.compile(r"\.\. (?:note|warning|tip|important)::$")


def paragraphs(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield (section, paragraph) of a docstring: lower-case header, lines joined by a space.

    Left out: headers, lists, literal blocks, directives with their bodies (but the bodies of
    notes and warnings stay) and the ``name : type`` lines of numpydoc's item sections.

    Parameters
    ----------
    docstring : str

    Yields
    ------
    tuple of str
        Section and paragraph.
    """
    section, margin, block, block_indent = "", 0, [], 0
    skipped = None  # lines indented deeper than this are passed over
    lines = docstring.expandtabs().splitlines()
    for line, following in zip(lines, [*lines[1:], ""], strict=False):
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if skipped is not None and text:
            if indent > skipped:
                continue
            skipped = None
        underline = UNDERLINE.match(line)
        header = text and not underline and UNDERLINE.match(following)
        item = section in ITEM_SECTIONS and indent <= margin
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
            skipped = None if ADMONITION.match(text) else indent
    if block:
        yield section, " ".join(block)


ROLE = re.compile(r"(?::[\w:+-]+:)?(`+)~?\.?(.+?)\1_*")
MARKDOWN_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
LINK_TARGET = re.compile(r"\s*<[^<>]*>$")
FOOTNOTE = re.compile(r"\s*\[[\w., -]+\]_")
EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(\w[^*]*)\1(?![\w*])")
DOTTED = re.compile(
    r"\b(?:matplotlib|mpl|networkx|nx|numpy|np|pandas|pd|scipy|sklearn|sympy"
    r"|transformers)(?:\.\w+)*\.(\w+)"
)
LATEX = re.compile(r"\\(?:\w+\{(\w+)\}|(\w+))")


def clean(paragraph: str) -> str:
    """Turn RST markup into plain words, and a library's dotted path into its last part."""
    text = MARKDOWN_LINK.sub(r"\1", FOOTNOTE.sub("", paragraph))
    text = ROLE.sub(lambda found: LINK_TARGET.sub("", found[2]), text)
    text = LATEX.sub(r"\1\2", EMPHASIS.sub(r"\2", text))
    text = DOTTED.sub(r"\1", text).replace("::", ":").replace("`", "")
    return " ".join(text.split())


WORD = re.compile(r"[(\"']?[A-Za-z][A-Za-z'-]*[)\"',.;:!?]*")
NOT_PROSE = re.compile(
    r">>>|%\(|[{}|]|={3}|-{3}|https?:|\b(?:doi|pp|vol|eds)\b|"
    r"copyright|spdx|licen[sc]e|\bcf\.|\bet al\b",
    re.IGNORECASE,
)


def is_prose(text: str) -> bool:
    """Whether a cleaned paragraph is readable: its length, words not symbols, no code."""
    words = text.split()
    return (
        MIN_WORDS <= len(words) <= MAX_WORDS
        and text[0].isupper()
        and not NOT_PROSE.search(text)
        and sum(WORD.fullmatch(word) is not None for word in words) >= 0.75 * len(words)
    )


def mask(text: str, pattern: str) -> str:
    """Put `MASK` for every word (letters, digits, underscores) that holds the pattern.

    Case is ignored and the pattern may lie inside the word, so a stem covers inflections,
    derivations, identifiers and CamelCase alike: "interpol" masks "interpolation",
    "interpolating", "_interpolate" and "BarycentricInterpolator".

    Parameters
    ----------
    text : str
    pattern : str
        Regular expression.

    Returns
    -------
    str
    """
    # In two steps, for one expression that looks inside words takes five times as long.
    marked = re.sub(pattern, "\0", text, flags=re.IGNORECASE)
    return re.sub(r"\w*\0[\w\0]*", MASK, marked)
