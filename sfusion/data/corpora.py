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
import os
import re
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from sfusion import SfusionError

TABLE = Path(__file__).with_name("corpora.yaml")
# Two texts are near duplicates when their first words agree (a model reads little more) or when
# their sets of word 4-grams have at least this Jaccard similarity.
SAME_START, SHINGLE, SIMILAR = 12, 4, 0.5


def cache_folder():
    """Return the folder of what is made once per machine.

    Returns
    -------
    Path
        ``SFUSION_CACHE``, or ``~/.cache/sfusion``; it need not exist.
    """
    return Path(os.environ.get("SFUSION_CACHE") or os.path.expanduser("~/.cache/sfusion"))


MASK = "this"
MIN_WORDS, MAX_WORDS = 8, 120
SKIPPED_PATHS = frozenset({"tests", "externals", "_lib", "conftest.py"})
# Sections of numpydoc that hold "name : type" lines with indented descriptions.
ITEM_SECTIONS = frozenset(
    "parameters,other parameters,returns,yields,receives,raises,warns,attributes,methods,options".split(",")
)


def inside(source: str, path: str) -> bool:
    """Check whether a dotted name is a path or lies below it."""
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
                    ast.Call(ast.Name("add_newdoc"), [*_, ast.Constant(str(target)), ast.Constant(str(text))])
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


def _word(pattern: str) -> str:
    """Match a short word that must not be found inside others, but in snake_case and CamelCase."""
    return rf"(?-i:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?:{pattern})(?-i:(?![a-z]))"


@dataclass(frozen=True)
class Corpus:
    """One embedded corpus, a key of ``corpora.yaml``.

    Attributes
    ----------
    name, title, description : str
        Slug, heading and what a label means.
    libraries : tuple of str
        Import names of the packages whose sources are read.
    classes : mapping of str to (tuple of str, str)
        For each label its keys and a regular expression of the words that would give it away
        (see `mask`). A key is a dotted module path, or a docstring section when `by_section`.
    cap : int
        Most texts per label, over all splits. Sections fill it in the order of `sections`.
    sections : tuple of str
        Docstring sections that are read ("" is the text before the first header).
    by_section : bool
        Whether the keys are sections.
    """

    name: str
    title: str
    description: str
    libraries: tuple[str, ...]
    classes: Mapping[str, tuple[tuple[str, ...], str]]
    cap: int
    sections: tuple[str, ...]
    by_section: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names, sorted."""
        return tuple(sorted(self.classes))

    @property
    def keys(self) -> dict[str, str]:
        """Label by key."""
        return {key: label for label, (keys, _) in self.classes.items() for key in keys}

    @property
    def masked(self) -> str:
        """One regular expression of everything that would give a label away."""
        names = [_word(library) for library in self.libraries]
        return "|".join([*names, "scikit-learn", *(words for _, words in self.classes.values())])


def _read_corpora():
    found = {}
    for name, table in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items():
        classes = {}
        for label, one in table.pop("classes").items():
            patterns = [one["stems"]] if "stems" in one else []
            patterns += [_word(one["words"])] if "words" in one else []
            classes[label] = tuple(one["keys"]), "|".join(patterns)
        options = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        found[name] = Corpus(name, classes=classes, **options)
    return found


CORPORA = _read_corpora()


def _unique(rows):
    """Keep the first of each group of near duplicates, and none where their labels differ."""
    kept, sizes, clashing = [], [], set()
    by_start, by_shingle = {}, defaultdict(list)
    for row in rows:
        words = re.findall("[a-z]+", row[0].lower())
        start = tuple(words[:SAME_START])
        shingles = {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
        shared = Counter(twin for shingle in shingles for twin in by_shingle[shingle])
        twins = [twin for twin, common in shared.items() if common >= SIMILAR * (len(shingles) + sizes[twin] - common)]
        twins += [by_start[start]] if start in by_start else []
        if twins:
            clashing.update(twin for twin in twins if kept[twin][1] != row[1])
            continue
        by_start[start] = len(kept)
        for shingle in shingles:
            by_shingle[shingle].append(len(kept))
        kept.append(row)
        sizes.append(len(shingles))
    return [row for i, row in enumerate(kept) if i not in clashing]


def _make(corpus: Corpus) -> pd.DataFrame:
    keys, masked_words, rows = corpus.keys, corpus.masked, []
    within = () if corpus.by_section else tuple(keys)
    for library in corpus.libraries:
        for source, docstring in docstrings(library, within):
            label = next((keys[path] for path in keys if inside(source, path)), None)
            for section, paragraph in paragraphs(docstring):
                label = keys.get(section) if corpus.by_section else label
                if label is None or section not in corpus.sections:
                    continue
                if is_prose(text := clean(paragraph)):
                    masked, order = mask(text, masked_words), corpus.sections.index(section)
                    if len(masked.split()) >= MIN_WORDS:
                        rows.append((masked, label, source, order))
    frame = pd.DataFrame(_unique(rows), columns=["text", "label", "source", "order"])
    # What fills a label up to the cap hangs on each text alone, never on its neighbours.
    digest = frame["text"].map(lambda text: hashlib.sha256(text.encode()).hexdigest())
    frame = frame.assign(digest=digest).sort_values(["label", "order", "digest"])
    frame = frame.groupby("label").head(corpus.cap)
    return frame[["text", "label", "source"]].reset_index(drop=True)


def versions(name: str) -> str:
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
        If the corpus is unknown or a library is not installed.
    """
    if name not in CORPORA:
        raise SfusionError(f"unknown corpus {name!r}: choose one of {', '.join(CORPORA)}")
    wanted = [{"sklearn": "scikit-learn"}.get(lib, lib) for lib in CORPORA[name].libraries]
    try:
        return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in wanted)
    except importlib.metadata.PackageNotFoundError as error:
        raise SfusionError(f"corpus {name!r} needs {error.name}: make the environment again") from None


def _cache_file(name: str) -> Path:
    # The digest of code and table is a schema number that nobody can forget to raise.
    code = b"".join(Path(file).read_bytes() for file in (__file__, TABLE))
    schema = hashlib.sha256(code).hexdigest()
    key = hashlib.sha256(f"{schema} {versions(name)}".encode()).hexdigest()[:16]
    return cache_folder() / f"{name}-{key}.parquet"


def build(name: str) -> pd.DataFrame:
    """Texts of an embedded corpus, from the cache or made anew (a few seconds).

    The cache is a Parquet file in ``$SFUSION_CACHE`` (default ``~/.cache/sfusion``), keyed by the
    corpus, the library versions and the code; one that is damaged or cannot be written is not
    used.

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
        If the corpus is unknown or a library is not installed.
    """
    path = _cache_file(name)
    with suppress(OSError, pa.ArrowException):
        return pq.read_table(path, page_checksum_verification=True).to_pandas()
    frame = _make(CORPORA[name])
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            part = Path(scratch) / path.name
            table = pa.Table.from_pandas(frame, preserve_index=False)
            pq.write_table(table, part, write_page_checksum=True)
            os.replace(part, path)
    return frame


def fingerprint(frame: pd.DataFrame) -> str:
    """Sha256 (hex) over the texts and labels of a frame, row by row in its order."""
    digest = hashlib.sha256()
    for text, label in zip(frame["text"], frame["label"], strict=True):
        digest.update(json.dumps([text, label]).encode() + b"\n")
    return digest.hexdigest()
