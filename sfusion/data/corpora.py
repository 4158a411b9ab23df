"""Three text classification corpora made from the docstrings of installed libraries.

Real English prose that needs no download: paragraphs of the docstrings, masked, freed of duplicates
and balanced. Sources are parsed, never imported, so optional packages and import side effects play
no part. The corpora stand in ``corpora.yaml``; all rules here are our own.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import math
import os
import re
import tempfile
import warnings
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pyarrow as pa
import yaml

from sfusion import SfusionError
from sfusion.models.loading import cache_folder

TABLE = Path(__file__).with_name("corpora.yaml")
# Two texts are near duplicates when their first words agree (a model reads little more) or when
# their sets of word 4-grams have at least this Jaccard similarity.
SAME_START, SHINGLE, SIMILAR = 12, 4, 0.5
MASK = "this"
MIN_WORDS, MAX_WORDS = 8, 120
SKIPPED_PATHS = frozenset({"tests", "externals", "_lib", "conftest.py"})
# Sections of numpydoc that hold "name : type" lines with indented descriptions.
ITEMISED = "parameters,other parameters,returns,yields,receives,raises,warns,attributes,methods,options".split(",")


def inside(source, path):
    """Check whether a dotted name is a path or lies below it."""
    return f"{source}.".startswith(f"{path}.")


def docstrings(library, within=()):
    """Yield (source, docstring) for a library, file by file in sorted order.

    A source is the dotted name of a module, a function, a class or a method of a class; private
    ones count. So do ``add_newdoc("name", "text")`` calls, which document compiled functions.

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
        raise SfusionError(f"library {library!r} is not installed: make the environment again")
    root = Path(found.origin).parent
    for path in sorted(root.rglob("*.py"), key=Path.as_posix):
        parts = path.relative_to(root).parts
        module = ".".join([library, *parts]).removesuffix(".py").removesuffix(".__init__")
        if SKIPPED_PATHS & set(parts) or not any(inside(module, place) for place in within or [library]):
            continue
        with warnings.catch_warnings(action="ignore"):  # invalid escapes in other people's docstrings
            tree = ast.parse(path.read_bytes())
        yield from _documented(module, tree)


def _documented(source, node):
    yield source, ast.get_docstring(node) or ""
    for inner in () if isinstance(node, ast.FunctionDef) else node.body:
        match inner:
            # Of a class in a class nothing is read.
            case ast.FunctionDef() | ast.ClassDef() if (type(node), type(inner)) != (ast.ClassDef, ast.ClassDef):
                yield from _documented(f"{source}.{inner.name}", inner)
            case ast.Expr(ast.Call(ast.Name("add_newdoc"), [*_, ast.Constant(str(name)), ast.Constant(str(text))])):
                yield f"{source}.{name}", inspect.cleandoc(text)


UNDERLINE = re.compile(r"\s*([-=~^])\1{2,}\s*$")
BULLET = re.compile(r"(?:[-*+•]|\d+[.)]|\(\w+\)|#\.)\s")
ADMONITION = re.compile(r"\.\. (?:note|warning|tip|important)::$")


def paragraphs(docstring):
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


ROLE = re.compile(r"(?::[\w:+-]+:)?(`+)~?\.?(.+?)\1_*")
MARKDOWN_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
LINK_TARGET = re.compile(r"\s*<[^<>]*>$")
FOOTNOTE = re.compile(r"\s*\[[\w., -]+\]_")
EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(\w[^*]*)\1(?![\w*])")
DOTTED = re.compile(
    r"\b(?:matplotlib|mpl|networkx|nx|numpy|np|pandas|pd|scipy|sklearn|sympy|transformers)(?:\.\w+)*\.(\w+)"
)
LATEX = re.compile(r"\\(?:\w+\{(\w+)\}|(\w+))")


def clean(paragraph):
    """Turn RST markup into plain words, and a library's dotted path into its last part."""
    text = MARKDOWN_LINK.sub(r"\1", FOOTNOTE.sub("", paragraph))
    text = ROLE.sub(lambda found: LINK_TARGET.sub("", found[2]), text)
    text = LATEX.sub(r"\1\2", EMPHASIS.sub(r"\2", text))
    text = DOTTED.sub(r"\1", text).replace("::", ":").replace("`", "")
    return " ".join(text.split())


WORD = re.compile(r"[(\"']?[A-Za-z][A-Za-z'-]*[)\"',.;:!?]*")
NOT_PROSE = re.compile(
    r"(?i)>>>|%\(|[{}|]|={3}|-{3}|https?:|\b(?:doi|pp|vol|eds)\b|copyright|spdx|licen[sc]e|\bcf\.|\bet al\b"
)


def is_prose(text):
    """Whether a cleaned paragraph is readable: its length, words not symbols, no code."""
    words = text.split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS or not text[0].isupper() or NOT_PROSE.search(text):
        return False
    return sum(WORD.fullmatch(word) is not None for word in words) >= 0.75 * len(words)


def mask(text, pattern):
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


def _word(pattern):
    """Match a short word that must not be found inside others, but in snake_case and CamelCase."""
    return rf"(?-i:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?:{pattern})(?-i:(?![a-z]))"


@dataclass(frozen=True)
class Corpus:
    """One embedded corpus, a key of ``corpora.yaml``.

    Attributes
    ----------
    name : str
        Slug.
    libraries : list of str
        Import names of the packages whose sources are read.
    classes : dict of str to (list of str, str)
        For each label its keys and a regular expression of the words that would give it away
        (see `mask`). A key is a dotted module path, or a docstring section when `by_section`.
    cap : int
        Most texts per label, over all splits. Sections fill it in the order of `sections`.
    sections : list of str
        Docstring sections that are read ("" is the text before the first header).
    by_section : bool
        Whether the keys are sections, all that are read.
    """

    name: str
    libraries: list[str]
    classes: dict[str, tuple[list[str], str]]
    cap: int
    sections: list[str]
    by_section: bool = False

    @property
    def label_names(self):
        """Label names, sorted."""
        return tuple(sorted(self.classes))

    @property
    def keys(self):
        """Label by key."""
        return {key: label for label, (keys, _) in self.classes.items() for key in keys}

    @property
    def masked(self):
        """One regular expression of everything that would give a label away."""
        names = [_word(library) for library in self.libraries]
        return "|".join([*names, "scikit-learn", *(words for _, words in self.classes.values())])


def _read_corpora():
    found = {}
    for name, table in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items():
        classes = {}
        for label, one in table.pop("classes").items():
            patterns = [make(one[kind]) for kind, make in (("stems", str), ("words", _word)) if kind in one]
            classes[label] = one["keys"], "|".join(patterns)
        found[name] = Corpus(name, classes=classes, **table)
    return found


CORPORA = _read_corpora()


def _unique(rows):
    """Keep the first of each group of near duplicates, and none where their labels differ."""
    kept, sizes, clashing = [], [], set()
    places = defaultdict(list)  # of kept texts that share a start or a shingle
    for row in rows:
        words = re.findall("[a-z]+", row[0].lower())
        start = tuple(words[:SAME_START])
        shingles = {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
        shared = Counter(twin for shingle in shingles for twin in places[shingle])
        twins = [twin for twin, common in shared.items() if common >= SIMILAR * (len(shingles) + sizes[twin] - common)]
        twins += places[start]
        if twins:
            clashing.update(twin for twin in twins if kept[twin][1] != row[1])
            continue
        for key in (start, *shingles):
            places[key].append(len(kept))
        kept.append(row)
        sizes.append(len(shingles))
    return [row for i, row in enumerate(kept) if i not in clashing]


def _make(corpus):
    keys, masked_words, rows = corpus.keys, corpus.masked, []
    for library in corpus.libraries:
        for source, docstring in docstrings(library, () if corpus.by_section else list(keys)):
            for section, paragraph in paragraphs(docstring):
                if section in corpus.sections and is_prose(text := clean(paragraph)):
                    masked, place = mask(text, masked_words), section if corpus.by_section else source
                    if len(masked.split()) >= MIN_WORDS:
                        label = next(keys[key] for key in keys if inside(place, key))
                        rows.append((masked, label, source, corpus.sections.index(section)))
    frame = pd.DataFrame(_unique(rows), columns=["text", "label", "source", "order"])
    # What fills a label up to the cap hangs on each text alone, never on its neighbours.
    frame["digest"] = [hashlib.sha256(text.encode()).hexdigest() for text in frame["text"]]
    frame = frame.sort_values(["label", "order", "digest"]).groupby("label").head(corpus.cap)
    return frame[["text", "label", "source"]].reset_index(drop=True)


def versions(name):
    """Distributions and versions behind a corpus, as "numpy 2.4.6, scipy 1.17.1".

    Parameters
    ----------
    name : str
        A key of `CORPORA`.

    Returns
    -------
    str

    Raises
    ------
    SfusionError
        If a library is not installed.
    """
    wanted = [{"sklearn": "scikit-learn"}.get(lib, lib) for lib in CORPORA[name].libraries]
    try:
        return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in wanted)
    except importlib.metadata.PackageNotFoundError as error:
        raise SfusionError(f"corpus {name!r} needs {error.name}: make the environment again") from None


def build(name):
    """Texts of an embedded corpus, from the cache or made anew (a few seconds).

    The cache is a Parquet file in :func:`sfusion.models.loading.cache_folder`, keyed by
    the corpus, the library versions and the code; one that is damaged or cannot be written is
    not used.

    Parameters
    ----------
    name : str
        A key of `CORPORA`.

    Returns
    -------
    pandas.DataFrame
        Columns text, label and source (dotted name of the documented object), sorted by label;
        the same on every machine with the same library versions.

    Raises
    ------
    SfusionError
        If a library is not installed.
    """
    # The digest of code and table is a schema number that nobody can forget to raise.
    decided = Path(__file__).read_bytes() + TABLE.read_bytes() + versions(name).encode()
    folder = cache_folder()
    path = folder / f"{name}-{hashlib.sha256(decided).hexdigest()[:16]}.parquet"
    with suppress(OSError, pa.ArrowException):
        return pd.read_parquet(path, page_checksum_verification=True)
    frame = _make(CORPORA[name])
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            part = Path(scratch, path.name)
            frame.to_parquet(part, index=False, write_page_checksum=True)
            os.replace(part, path)
    return frame


def fingerprint(frame):
    """Sha256 (hex) over the texts and labels of a frame, row by row in its order."""
    rows = (json.dumps(row) + "\n" for row in zip(frame["text"], frame["label"], strict=True))
    return hashlib.sha256("".join(rows).encode()).hexdigest()
