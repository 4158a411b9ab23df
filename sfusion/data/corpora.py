"""Three text classification corpora made from the docstrings of installed libraries.

Real English prose that needs no download: paragraphs of the docstrings, masked, freed
of duplicates and balanced. Sources are parsed, never imported, so optional packages and
import side effects play no part. The corpora stand in ``corpora.yaml``; all rules here
are our own.
"""

import hashlib
import importlib.metadata
import json
import os
import re
import tempfile
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import yaml

from sfusion.data.docstrings import docstrings, inside, paragraphs
from sfusion.data.prose import MIN_WORDS, _word, clean, is_prose, mask
from sfusion.disk import cache_folder
from sfusion.errors import SfusionError

# The modules that decide the texts.
CODE = ("corpora", "docstrings", "prose")
TABLE = Path(__file__).with_name("corpora.yaml")

# Two texts are near duplicates when their first words agree (a model reads little more)
# or when their sets of word 4-grams have at least this Jaccard similarity.
SAME_START, SHINGLE, SIMILAR = 12, 4, 0.5


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
        return "|".join(
            [*names, "scikit-learn", *(words for _, words in self.classes.values())]
        )


def _read_corpora():
    found = {}
    for name, table in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items():
        classes = {}
        for label, one in table.pop("classes").items():
            patterns = [
                make(one[kind])
                for kind, make in (("stems", str), ("words", _word))
                if kind in one
            ]
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
        shingles = {
            tuple(words[i : i + SHINGLE])
            for i in range(max(1, len(words) - SHINGLE + 1))
        }
        shared = Counter(twin for shingle in shingles for twin in places[shingle])
        twins = [
            twin
            for twin, common in shared.items()
            if common >= SIMILAR * (len(shingles) + sizes[twin] - common)
        ]
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
        for source, docstring in docstrings(
            library, () if corpus.by_section else list(keys)
        ):
            for section, paragraph in paragraphs(docstring):
                if section in corpus.sections and is_prose(text := clean(paragraph)):
                    masked, place = (
                        mask(text, masked_words),
                        section if corpus.by_section else source,
                    )
                    if len(masked.split()) >= MIN_WORDS:
                        label = next(keys[key] for key in keys if inside(place, key))
                        rows.append(
                            (masked, label, source, corpus.sections.index(section))
                        )
    frame = pd.DataFrame(_unique(rows), columns=["text", "label", "source", "order"])
    # What fills a label up to the cap hangs on each text alone, never on its
    # neighbours.
    frame["digest"] = [
        hashlib.sha256(text.encode()).hexdigest() for text in frame["text"]
    ]
    frame = (
        frame.sort_values(["label", "order", "digest"])
        .groupby("label")
        .head(corpus.cap)
    )
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
    wanted = [
        {"sklearn": "scikit-learn"}.get(lib, lib) for lib in CORPORA[name].libraries
    ]
    try:
        return ", ".join(
            f"{package} {importlib.metadata.version(package)}" for package in wanted
        )
    except importlib.metadata.PackageNotFoundError as error:
        raise SfusionError(
            f"corpus {name!r} needs {error.name}: make the environment again"
        ) from None


def build(name):
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
    code = (Path(__file__).with_name(f"{module}.py") for module in CODE)
    files = [*code, TABLE]
    decided = b"".join(file.read_bytes() for file in files) + versions(name).encode()
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
    rows = (
        json.dumps(row) + "\n"
        for row in zip(frame["text"], frame["label"], strict=True)
    )
    return hashlib.sha256("".join(rows).encode()).hexdigest()
