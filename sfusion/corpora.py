"""Three text classification corpora made from the docstrings of installed libraries.

Real English prose that needs no download. The libraries' sources are parsed, never imported, so
optional packages and import side effects play no part; docstrings are cut into paragraphs,
cleaned of markup, masked, freed of duplicates and balanced. Declared here.
"""

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import json
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sfusion.errors import SfusionError

MASK = "this"
MIN_WORDS, MAX_WORDS = 8, 120
# Two texts are near duplicates when their first words agree (a model reads little more) or when
# their sets of word 4-grams have at least this Jaccard similarity.
SAME_START, SHINGLE, SIMILAR = 12, 4, 0.5
SKIPPED_PATHS = frozenset({"tests", "externals", "_lib", "conftest.py", "setup.py"})
PROSE = ("", "explanation", "notes", "warnings", "examples")
ITEMS = ("parameters", "other parameters", "returns", "yields", "receives", "raises", "warns",
         "attributes", "methods", "options")


@dataclass(frozen=True)
class Corpus:
    """One embedded corpus: where its texts come from and what is asked of them.

    Attributes
    ----------
    name, title, description : str
        Slug, heading and what a label means.
    libraries : tuple of str
        Import names of the packages whose sources are read.
    labels : mapping of str to str
        Label by key; the key is a docstring section when `by_section`, else a dotted module
        path that holds the source. Paragraphs without a key are left out.
    masked : tuple of str
        Regular expressions of what would give a label away; see `mask`.
    cap : int
        Most texts a label, over all splits.
    sections : tuple of str
        Docstring sections that are read ("" is the text before the first header).
    by_section : bool
        Whether `labels` is keyed by section.
    """

    name: str
    title: str
    description: str
    libraries: tuple[str, ...]
    labels: Mapping[str, str]
    masked: tuple[str, ...]
    cap: int
    sections: tuple[str, ...] = PROSE
    by_section: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names, sorted."""
        return tuple(sorted(set(self.labels.values())))

    def label(self, source: str, section: str) -> str | None:
        """Label of a paragraph, or None where the corpus does not use it."""
        if section not in self.sections:
            return None
        if self.by_section:
            return self.labels.get(section)
        parts = source.split(".")
        prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        return next((self.labels[p] for p in prefixes if p in self.labels), None)


def _under(library: str, names: str, label: str = "") -> dict[str, str]:
    return {f"{library}.{name}": label or name for name in names.split()}


CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            name="subject",
            title="Which subject",
            description="The subject of the module whose docstring holds the paragraph.",
            libraries=("matplotlib", "networkx", "numpy", "pandas", "sklearn", "sympy", "transformers"),
            labels={
                **_under("matplotlib","axes axis colorbar figure legend pyplot ticker","plots"),
                "networkx.algorithms": "graphs",
                "numpy.polynomial": "polynomials",
                "pandas.core": "tables",
                **_under("pandas.core", "arrays.datetimelike arrays.datetimes arrays.period arrays.timedeltas indexes.datetimelike indexes.datetimes indexes.period indexes.timedeltas indexes.accessors tools.datetimes tools.timedeltas resample", "dates"), **_under("pandas","tseries","dates"), **_under("matplotlib","dates","dates"),
                **_under("pandas.core", "strings", "strings"), **_under("numpy", "strings _core.strings _core.defchararray", "strings"),
                "sklearn.metrics": "scores",
                "sympy.categories": "categories",
                **_under("sympy.combinatorics", "coset_table fp_groups free_groups galois generators group_constructs group_numbers homomorphisms named_groups pc_groups perm_groups permutations util", "groups"),
                "sympy.geometry": "geometry",
                "sympy.logic": "logic",
                "sympy.ntheory": "number theory",
                "sympy.physics.continuum_mechanics": "beams",
                "sympy.physics.control": "control",
                "sympy.physics.mechanics": "mechanics",
                "sympy.physics.quantum": "quantum physics",
                "sympy.printing": "printing",
                "sympy.solvers": "equations",
                "sympy.stats": "statistics",
                "transformers.generation": "text generation",
            },
            masked=(r"matplotlib", "networkx", "numpy", "pandas", "scikit[ -]learn", "sklearn", "sympy", "transformers",
             "plot", "graph", "polynom", r"\btables?\b", r"\bfile", "scor(?:e|ing)", "categor", "group", "geometr", "logic", "number[ -]theor", "ntheory", "beam", "continuum", "control", "mechanic", "quantum", "physic", "print", "equation", "statistic", "stats", "generat"),
            cap=170,
        ),
        Corpus(
            name="scipy-subpackage",
            title="Which scipy subpackage",
            description="The subpackage of scipy whose docstring holds the paragraph.",
            libraries=("scipy",),
            labels=_under("scipy", "cluster fft integrate interpolate io linalg ndimage optimize "
                          "signal spatial special stats"),
            masked=("cluster", "fft", "integrat", "interpol", r"\bio\b", "linalg","linear algebra","ndimage","optimi[sz]","signal","spars","spatial","special","statistic","stats"),
            cap=250,
        ),
        Corpus(
            name="input-or-output",
            title="Input or output",
            description="Whether the paragraph describes a parameter or a returned value.",
            libraries=("numpy", "pandas", "scipy", "sklearn"),
            labels={"parameters": "input", "returns": "output"},
            masked=("input","output",r"return","argument","parameter"),
            cap=1700, sections=("parameters","returns"), by_section=True,
        ),
    )
}


# --- docstrings and their paragraphs ---------------------------------------------------------


def docstrings(library: str, within: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield (source, docstring) for a library, file by file in sorted order.

    A source is the dotted name of a module or of a top-level class or function: what stands
    inside a class (its methods) counts as the class, so that a split by source keeps it together.
    ``add_newdoc("name", "text")`` calls, which document compiled functions, count too.

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
        if SKIPPED_PATHS & set(name.split("/")):
            continue
        module = ".".join([library, *name.removesuffix(".py").split("/")]).removesuffix(".__init__")
        if within and not any(f"{module}.".startswith(f"{path}.") for path in within):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's docstrings
            tree = ast.parse(path.read_bytes())
        yield module, ast.get_docstring(tree) or ""
        for node in tree.body:
            match node:
                case ast.ClassDef() | ast.FunctionDef():
                    yield f"{module}.{node.name}", ast.get_docstring(node) or ""
                    for inner in node.body if isinstance(node, ast.ClassDef) else ():
                        if isinstance(inner, ast.FunctionDef):
                            source = f"{module}.{node.name}.{inner.name}"
                            yield source, ast.get_docstring(inner) or ""
                case ast.Expr(ast.Call(ast.Name("add_newdoc"), [*_, ast.Constant(str(target)),
                                                                ast.Constant(str(text))])):
                    yield f"{module}.{target}", inspect.cleandoc(text)


UNDERLINE = re.compile(r"\s*([-=~^])\1{2,}\s*$")
BULLET = re.compile(r"([-*+•]|\d+[.)]|\(\w+\)|#\.)\s")
ADMONITION = re.compile(r"\.\. (note|warning|tip|important)::$")


def paragraphs(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield (section, paragraph) of a docstring: lower-case header, lines joined by a space.

    Left out: headers, directives with their bodies (but notes and warnings), literal blocks,
    lists, and the ``name : type`` lines of numpydoc's item sections.
    """
    section, block, skipped = "", [], None  # skipped: indent below which lines are passed over
    lines = docstring.expandtabs().splitlines() or [""]
    margin = 0
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        text, indent = line.strip(), len(line) - len(line.lstrip())
        header = UNDERLINE.match(following) and text and not UNDERLINE.match(line)
        if skipped is not None and text:
            if indent > skipped:
                continue
            skipped = None
        item = section in ITEMS and indent <= margin
        ends = not text or header or UNDERLINE.match(line) or BULLET.match(text)
        ends = ends or item or text.startswith((".. ", "..."))
        if block and (ends or indent != block_indent):
            yield section, " ".join(block)
            block = []
        if header:
            section, margin = text.lower().rstrip(":"), indent
        elif ends:
            if text and not item and not ADMONITION.match(text) and not UNDERLINE.match(line):
                skipped = indent
        else:
            block.append(text)
            block_indent = indent
            if text.endswith("::"):
                skipped = indent
    if block:
        yield section, " ".join(block)


ROLE = re.compile(r"(?::[\w:+-]+:)?(`+)~?\.?(.+?)\1_*")
TARGET = re.compile(r"\s*<[^<>]*>$")
FOOTNOTE = re.compile(r"\s*\[[\w, -]+\]_")
EMPHASIS = re.compile(r"(?<![\w*])(\*{1,2})(\w[^*]*)\1(?![\w*])")


def clean(paragraph: str) -> str:
    """Turn RST markup into plain words; a dotted path of a library into its last part."""
    text = FOOTNOTE.sub("", paragraph)
    text = ROLE.sub(lambda found: TARGET.sub("", found[2]), text)
    text = EMPHASIS.sub(r"\2", text)
    text = re.sub(r"\b(?:scipy|sklearn|sympy|numpy|np|pandas|pd)(?:\.\w+)*\.(\w+)", r"\1", text)
    text = re.sub(r"\\(?:\w+\{(\w+)\}|(\w+))", r"\1\2", text)  # \mathrm{d} and \alpha
    return " ".join(text.replace("::", ":").split())


WORD = re.compile(r"[(\"']?[A-Za-z][A-Za-z'-]*[)\"',.;:!?]*")
NOT_PROSE = re.compile(r">>>|%\(|[{}|]|={3}|-{3}|https?:|\b(?:doi|pp|vol|eds)\b\.?|"
                       r"copyright|spdx|licen[sc]e|\bcf\.|\bet al\b", re.IGNORECASE)


def is_prose(text: str) -> bool:
    """Whether a cleaned paragraph is a readable one: length, words rather than symbols, no code."""
    words = text.split()
    return (
        MIN_WORDS <= len(words) <= MAX_WORDS
        and text[0].isupper()
        and not NOT_PROSE.search(text)
        and sum(WORD.fullmatch(word) is not None for word in words) >= 0.75 * len(words)
    )


def mask(text: str, patterns: tuple[str, ...]) -> str:
    """Put `MASK` for every word (letters, digits, underscores) that holds one of the patterns.

    Matching ignores case and looks inside words, so a stem covers inflections, identifiers and
    CamelCase: "optimi[sz]" masks "optimizer", "reoptimized" and "OptimizeResult".
    """
    return re.sub(rf"\w*(?:{'|'.join(patterns)})\w*", MASK, text, flags=re.IGNORECASE)


# --- duplicates, balance, cache --------------------------------------------------------------


def _without_duplicates(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Keep the first of each group of near duplicates; none where the labels differ."""
    kept, clashing = [], set()
    sizes, by_start, by_shingle = [], {}, defaultdict(list)
    for row in rows:
        words = re.findall("[a-z]+", row[0].lower())
        start = tuple(words[:SAME_START])
        shingles = {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
        shared = Counter(twin for shingle in shingles for twin in by_shingle[shingle])
        twins = [by_start[start]] if start in by_start else []
        twins += [twin for twin, n in shared.items()
                  if n >= SIMILAR * (len(shingles) + sizes[twin] - n)]
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
    rows = []
    for library in corpus.libraries:
        for source, docstring in docstrings(library, () if corpus.by_section else tuple(corpus.labels)):
            for section, paragraph in paragraphs(docstring):
                label = corpus.label(source, section)
                if label is not None and is_prose(text := clean(paragraph)):
                    order = corpus.sections.index(section)
                    rows.append((mask(text, corpus.masked), label, source, order))
    frame = pd.DataFrame(_without_duplicates(rows), columns=["text", "label", "source", "order"])
    # Which texts stay under the cap depends on each text alone, never on its neighbours.
    rank = frame["text"].map(lambda text: hashlib.sha256(text.encode()).hexdigest())
    frame = frame.assign(rank=rank).sort_values(["label", "order", "rank"], kind="stable")
    frame = frame.groupby("label").head(corpus.cap)
    return frame[["text", "label", "source"]].reset_index(drop=True)


def fingerprint(frame: pd.DataFrame) -> str:
    """Sha256 (hex) over the texts and labels of a frame, row by row in its order."""
    digest = hashlib.sha256()
    for text, label in zip(frame["text"], frame["label"], strict=True):
        digest.update(json.dumps([text, str(label)]).encode() + b"\n")
    return digest.hexdigest()
