"""Three text classification corpora made from the docstrings of installed libraries.

Real English prose that needs no download: paragraphs of the docstrings (see
:mod:`sfusion.data.prose`), masked, freed of duplicates and balanced. All rules here are our own.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sfusion import SfusionError
from sfusion.data import prose
from sfusion.data.prose import MIN_WORDS, clean, docstrings, inside, is_prose, mask, paragraphs
from sfusion.records.profiles import cache_folder

# Two texts are near duplicates when their first words agree (a model reads little more) or when
# their sets of word 4-grams have at least this Jaccard similarity.
SAME_START, SHINGLE, SIMILAR = 12, 4, 0.5


def _word(pattern: str) -> str:
    """Match a short word that must not be found inside others, but in snake_case and CamelCase."""
    return rf"(?-i:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?:{pattern})(?-i:(?![a-z]))"


@dataclass(frozen=True)
class Corpus:
    """One embedded corpus: where its texts come from and what is asked of them.

    Attributes
    ----------
    name, title, description : str
        Slug, heading and what a label means.
    libraries : tuple of str
        Import names of the packages whose sources are read.
    classes : mapping of str to (str, str)
        For each label its keys, apart by spaces, and a regular expression of the words that
        would give it away (see `mask`). A key is a dotted module path, or a docstring section
        when `by_section`.
    cap : int
        Most texts a label, over all splits. Sections fill it in the order of `sections`.
    sections : tuple of str
        Docstring sections that are read ("" is the text before the first header).
    by_section : bool
        Whether the keys are sections.
    """

    name: str
    title: str
    description: str
    libraries: tuple[str, ...]
    classes: Mapping[str, tuple[str, str]]
    cap: int
    sections: tuple[str, ...] = (
        "",
        "explanation",
        "notes",
        "warnings",
        "examples",
        "attributes",
        "parameters",
        "returns",
    )
    by_section: bool = False

    @property
    def label_names(self) -> tuple[str, ...]:
        """Label names, sorted."""
        return tuple(sorted(self.classes))

    @property
    def keys(self) -> dict[str, str]:
        """Label by key."""
        return {key: label for label, (keys, _) in self.classes.items() for key in keys.split()}

    @property
    def masked(self) -> str:
        """One regular expression of everything that would give a label away."""
        names = [_word(library) for library in self.libraries]
        return "|".join([*names, "scikit-learn", *(words for _, words in self.classes.values())])


SCIPY = {
    "cluster": ("scipy.cluster", "cluster"),
    "fft": ("scipy.fft", "fft|fast[ -]fourier[ -]transform"),
    "integrate": ("scipy.integrate", "integra"),
    "interpolate": ("scipy.interpolate", "interpol"),
    "io": ("scipy.io", _word("i/?o")),
    "linalg": ("scipy.linalg", "linalg|linear[ -]algebra"),
    "ndimage": ("scipy.ndimage", "image"),
    "optimize": ("scipy.optimize", "optim"),
    "signal": ("scipy.signal", "signal"),
    "spatial": ("scipy.spatial", "spatial"),
    "special": ("scipy.special", "special"),
    "stats": ("scipy.stats", "statistic|" + _word("stats?")),
}
SUBJECTS = {
    "beams": ("sympy.physics.continuum_mechanics", "beam|continuum"),
    "categories": ("sympy.categories", "categor"),
    "control": ("sympy.physics.control", "control"),
    "dates": (
        "pandas.tseries pandas.core.arrays.datetimelike pandas.core.arrays.datetimes "
        "pandas.core.arrays.period pandas.core.arrays.timedeltas "
        "pandas.core.indexes.datetimelike pandas.core.indexes.datetimes "
        "pandas.core.indexes.period pandas.core.indexes.timedeltas "
        "pandas.core.tools.datetimes pandas.core.tools.timedeltas matplotlib.dates",
        "datetime|" + _word("dates?"),
    ),
    "equations": ("sympy.solvers", "equation|" + _word("[op]des?")),
    "geometry": ("sympy.geometry", "geometr"),
    "graphs": ("networkx.algorithms", "graph"),
    "groups": (
        "sympy.combinatorics.coset_table sympy.combinatorics.fp_groups "
        "sympy.combinatorics.free_groups sympy.combinatorics.homomorphisms "
        "sympy.combinatorics.named_groups sympy.combinatorics.pc_groups "
        "sympy.combinatorics.perm_groups sympy.combinatorics.permutations "
        "sympy.combinatorics.galois sympy.combinatorics.group_constructs",
        "group",
    ),
    "logic": ("sympy.logic", "logic"),
    "mechanics": ("sympy.physics.mechanics", "mechanic"),
    "number theory": ("sympy.ntheory", "number[ -]theor|ntheory"),
    "plots": (
        "matplotlib.axes matplotlib.axis matplotlib.colorbar matplotlib.figure "
        "matplotlib.legend matplotlib.pyplot matplotlib.ticker",
        "plot",
    ),
    "polynomials": ("numpy.polynomial", "poly(?!gon)"),
    "printing": ("sympy.printing", "print"),
    "quantum physics": ("sympy.physics.quantum", "quantum|physic"),
    "scores": ("sklearn.metrics", "scor(?:e|ing)"),
    "statistics": ("sympy.stats", "statistic|" + _word("stats?")),
    "strings": (
        "pandas.core.strings numpy.strings numpy._core.strings numpy._core.defchararray",
        "string|" + _word("str"),
    ),
    "tables": (
        "pandas.core.frame pandas.core.generic pandas.core.groupby pandas.core.indexing "
        "pandas.core.reshape pandas.core.series",
        _word("tab(?:les?|ular|ulated?)"),
    ),
    "text generation": ("transformers.generation", "generat"),
}
DIRECTIONS = {
    "input": ("parameters", "input|parameter|argument"),
    "output": ("returns", "output|return"),
}
CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "input-or-output",
            "Input or output",
            "Whether a paragraph describes what a function takes or what it returns.",
            ("numpy", "scipy", "sklearn"),
            DIRECTIONS,
            cap=1500,
            sections=("parameters", "returns"),
            by_section=True,
        ),
        Corpus(
            "scipy-subpackage",
            "Which scipy subpackage",
            "The subpackage of scipy whose documentation holds the paragraph.",
            ("scipy",),
            SCIPY,
            cap=250,
        ),
        Corpus(
            "subject",
            "Which subject",
            "The subject of the library module whose documentation holds the paragraph.",
            ("matplotlib", "networkx", "numpy", "pandas", "sklearn", "sympy", "transformers"),
            SUBJECTS,
            cap=170,
        ),
    )
}


def _unique(rows: list[tuple[str, str, str, int]]) -> list[tuple[str, str, str, int]]:
    """Keep the first of each group of near duplicates, and none where their labels differ."""
    kept, sizes, clashing = [], [], set()
    by_start, by_shingle = {}, defaultdict(list)
    for row in rows:
        words = re.findall("[a-z]+", row[0].lower())
        start = tuple(words[:SAME_START])
        shingles = {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}
        shared = Counter(twin for shingle in shingles for twin in by_shingle[shingle])
        twins = [
            twin
            for twin, common in shared.items()
            if common >= SIMILAR * (len(shingles) + sizes[twin] - common)
        ]
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
        raise SfusionError(
            f"corpus {name!r} needs {error.name}: make the environment again"
        ) from None


def _cache_file(name: str) -> Path:
    # The digest of both modules is a schema number that nobody can forget to raise.
    code = b"".join(Path(module).read_bytes() for module in (__file__, prose.__file__))
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
