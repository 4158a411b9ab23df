"""Three text classification corpora made from the docstrings of installed libraries.

Real English prose that needs no download: paragraphs of the docstrings, masked, freed
of duplicates and balanced. Sources are parsed, never imported, so optional packages and
import side effects play no part. The corpora stand in ``corpora.yaml``; all rules here
are our own.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import yaml

from sfusion.data.docstrings import is_inside, read_docstrings, split_paragraphs
from sfusion.data.prose import MIN_WORDS, clean, is_prose, mask, whole_word
from sfusion.disk import cache_folder
from sfusion.errors import SfusionError

# The modules that decide the texts.
CODE = ("corpora", "docstrings", "prose")
TABLE = Path(__file__).with_name("corpora.yaml")

# Two texts are near duplicates when their first words agree (a model reads little more)
# or when their sets of word 4-grams have at least this Jaccard similarity.
SAME_START = 12
SHINGLE = 4
SIMILAR = 0.5

# Import name: distribution, where they differ.
DISTRIBUTIONS = {"sklearn": "scikit-learn"}


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
        For each label its keys and a regular expression of the words that would give it
        away (see `mask`). A key is a dotted module path, or a docstring section when
        `by_section`.
    cap : int
        Most texts per label, over all splits. Sections fill it in the order of
        `sections`.
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
        libraries = [whole_word(library) for library in self.libraries]
        words = [pattern for _, pattern in self.classes.values()]
        return "|".join([*libraries, "scikit-learn", *words])


def _read_corpora() -> dict[str, Corpus]:
    corpora = {}
    for name, table in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items():
        classes = {}
        for label, entry in table.pop("classes").items():
            patterns = []
            if "stems" in entry:
                patterns.append(entry["stems"])
            if "words" in entry:
                patterns.append(whole_word(entry["words"]))
            classes[label] = (entry["keys"], "|".join(patterns))
        corpora[name] = Corpus(name, classes=classes, **table)
    return corpora


CORPORA = _read_corpora()


class Paragraph(NamedTuple):
    """A masked paragraph, the label of its place, and the rank of its section."""

    text: str
    label: str
    source: str
    order: int


def _drop_similar(rows: Sequence[Paragraph]) -> list[Paragraph]:
    """Keep the first of near duplicates, and none where their labels differ."""
    kept: list[Paragraph] = []
    sizes: list[int] = []  # shingles of each that is kept
    clashing: set[int] = set()
    places: defaultdict[tuple[str, ...], list[int]] = defaultdict(
        list
    )  # of kept texts that share a start or a shingle
    for row in rows:
        words = re.findall("[a-z]+", row.text.lower())
        start = tuple(words[:SAME_START])
        ends = range(SHINGLE, max(SHINGLE, len(words)) + 1)
        shingles = {tuple(words[end - SHINGLE : end]) for end in ends}
        shared = Counter(twin for shingle in shingles for twin in places[shingle])
        twins = list(places[start])
        for twin, common in shared.items():
            if common >= SIMILAR * (len(shingles) + sizes[twin] - common):
                twins.append(twin)
        if twins:
            clashing.update(twin for twin in twins if kept[twin].label != row.label)
            continue
        for key in (start, *shingles):
            places[key].append(len(kept))
        kept.append(row)
        sizes.append(len(shingles))
    return [row for position, row in enumerate(kept) if position not in clashing]


def _read_paragraphs(corpus: Corpus) -> Iterator[Paragraph]:
    keys = corpus.keys
    masked_words = corpus.masked
    within = () if corpus.by_section else list(keys)
    for library in corpus.libraries:
        for source, docstring in read_docstrings(library, within):
            for section, paragraph in split_paragraphs(docstring):
                if section not in corpus.sections:
                    continue
                text = clean(paragraph)
                if not is_prose(text):
                    continue
                masked = mask(text, masked_words)
                if len(masked.split()) >= MIN_WORDS:
                    place = section if corpus.by_section else source
                    label = next(keys[key] for key in keys if is_inside(place, key))
                    order = corpus.sections.index(section)
                    yield Paragraph(masked, label, source, order)


def _make(corpus: Corpus) -> pd.DataFrame:
    rows = _drop_similar(list(_read_paragraphs(corpus)))
    frame = pd.DataFrame(rows, columns=Paragraph._fields)
    # What fills a label up to the cap hangs on each text alone, never on its
    # neighbours.
    frame["digest"] = [
        hashlib.sha256(text.encode()).hexdigest() for text in frame["text"]
    ]
    frame = frame.sort_values(["label", "order", "digest"])
    capped = frame.groupby("label").head(corpus.cap)
    return capped[["text", "label", "source"]].reset_index(drop=True)


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
        If a library is not installed.
    """
    found = []
    for library in CORPORA[name].libraries:
        package = DISTRIBUTIONS.get(library, library)
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            raise SfusionError(
                f"corpus {name!r} needs {package}: make the environment again"
            ) from None
    return ", ".join(found)


def build(name: str) -> pd.DataFrame:
    """Texts of an embedded corpus, from the cache or made anew (a few seconds).

    The cache is a Parquet file in :func:`sfusion.disk.cache_folder`, keyed by the
    corpus, the library versions and the code; one that is damaged or cannot be written
    is not used.

    Parameters
    ----------
    name : str
        A key of `CORPORA`.

    Returns
    -------
    pandas.DataFrame
        Columns text, label and source (dotted name of the documented object), sorted by
        label; the same on every machine with the same library versions.

    Raises
    ------
    SfusionError
        If a library is not installed.
    """
    # The digest of code and table is a schema number that nobody can forget to raise.
    files = [Path(__file__).with_name(f"{module}.py") for module in CODE]
    content = b"".join(file.read_bytes() for file in [*files, TABLE])
    digest = hashlib.sha256(content + versions(name).encode()).hexdigest()
    folder = cache_folder()
    path = folder / f"{name}-{digest[:16]}.parquet"
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


def fingerprint(frame: pd.DataFrame) -> str:
    """Sha256 (hex) over the texts and labels of a frame, row by row in its order.

    Parameters
    ----------
    frame : DataFrame
        Columns ``text`` and ``label``.

    Returns
    -------
    str
    """
    rows = zip(frame["text"], frame["label"], strict=True)
    content = "".join(json.dumps(row) + "\n" for row in rows)
    return hashlib.sha256(content.encode()).hexdigest()
