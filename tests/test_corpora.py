"""Embedded corpora: what a text may hold, and that every machine gets the same ones."""

import re
import sys
from dataclasses import replace

import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sfusion import SfusionError
from sfusion.data import corpora
from sfusion.data.docstrings import read_docstrings, split_paragraphs
from sfusion.data.prose import clean
from sfusion.data.splits import hold_out


@pytest.fixture(params=corpora.CORPORA)
def corpus(request):
    return corpora.CORPORA[request.param]


@pytest.fixture
def frame(corpus):
    """Return the frame of a corpus, from the user's cache where it is there."""
    return corpora.build(corpus.name)


# --- the three corpora
# -----------------------------------------------------------------------


def test_columns_balance_and_labels_that_follow_the_sources_inside_the_libraries(
    frame, corpus
):
    assert list(frame.columns) == ["text", "label", "source"]
    counts = frame["label"].value_counts()
    sources = frame["source"]
    assert tuple(sorted(counts.index)) == corpus.label_names
    assert counts.max() == corpus.cap
    assert counts.min() >= 0.7 * corpus.cap
    assert set(sources.str.partition(".")[0]) == set(corpus.libraries)
    assert sources.str.fullmatch(r"\w+(\.\w+)+").all()
    for label, (keys, _) in corpus.classes.items():
        below = tuple(f"{key}." for key in keys)
        assert (
            corpus.by_section
            or (sources[frame["label"] == label] + ".").str.startswith(below).all()
        )


def test_texts_are_prose_of_stated_length_and_none_starts_like_another(frame):
    texts = frame["text"]
    assert texts.str.split().str.len().between(8, 120).all()
    markup = texts[texts.str.contains(r"`|>>>|\]_|::|%\(|https?:|={3}|-{3}|^\.\. ")]
    assert markup.empty, markup.iloc[0]
    assert not texts.duplicated().any()
    words = texts.str.lower().str.findall("[a-z]+")
    assert not words.map(lambda found: tuple(found[:12])).duplicated().any()


# Written out here on purpose: what a reader would call giving the label away.
TELLTALES = {
    "input-or-output": (
        "input inputs output outputs return returns returned parameter argument"
    ),
    "scipy-subpackage": (
        "scipy cluster clusters clustering fft rfft integrate integration "
        "integral interpolate interpolation interpolator io linalg ndimage image "
        "optimize optimizer optimal signal signals spatial special stats "
        "statistic statistics statistical"
    ),
    "subject": (
        "beam beams category categories categorical control date dates datetime "
        "equation equations ode geometry geometric graph graphs digraph group "
        "groups logic logical mechanics plot plots plotting polynomial "
        "polynomials print prints printer printing quantum physics score scores "
        "scoring scorer statistics stats string strings str table tables generate "
        "generation sympy networkx matplotlib pandas numpy sklearn transformers"
    ),
}


def test_words_that_give_the_label_away_are_masked(frame, corpus):
    telltales = set(TELLTALES[corpus.name].split())
    for text in frame["text"]:
        # Snake_case and CamelCase are taken apart.
        words = {
            word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)
        }
        assert not words & telltales, text


def test_no_module_path_holds_another(corpus):
    keys = [key for keys, _ in corpus.classes.values() for key in keys]
    assert len(keys) == len(corpus.keys)
    assert not [
        (a, b) for a in keys for b in keys if a != b and f"{a}.".startswith(f"{b}.")
    ]


def test_first_words_tell_the_class_better_than_chance_but_not_surely(frame):
    held = hold_out(list(frame["label"]), list(frame["source"]), 0.25, "test")
    cut = frame["text"].map(lambda text: " ".join(text.split()[:24]))
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=500))
    accuracy = model.fit(cut[~held], frame["label"][~held]).score(
        cut[held], frame["label"][held]
    )
    chance = 1 / frame["label"].nunique()
    assert chance + 0.5 * (1 - chance) < accuracy < 0.95


# --- the steps, on invented docstrings
# -------------------------------------------------------

DOCSTRING = """Compute the mass of a heap of sand.

The heap is weighed twice::

    weigh(weigh(heap))

and the mean is taken.

.. math:: m = 1
   + 2

.. note::

   A wet heap weighs more.

- First item of a list
  that goes on.

Parameters
----------
heap : object
    Where the sand lies.

    A second paragraph on it.

    .. versionadded:: 1.2
       Not read.
others, more : float
    What else is there.

Notes
-----
Sand is heavy,
as all know.
"""


def test_paragraphs_by_section():
    assert list(split_paragraphs(DOCSTRING)) == [
        ("", "Compute the mass of a heap of sand."),
        ("", "The heap is weighed twice::"),
        ("", "and the mean is taken."),
        ("", "A wet heap weighs more."),
        ("parameters", "Where the sand lies."),
        ("parameters", "A second paragraph on it."),
        ("parameters", "What else is there."),
        ("notes", "Sand is heavy, as all know."),
    ]


def test_clean_leaves_plain_words():
    assert clean("Use :func:`~scipy.linalg.solve` or ``x``.") == "Use solve or x."
    linked = "See :ref:`the guide <guide>` and `a page <http://x.y>`_."
    assert clean(linked) == "See the guide and a page."
    assert (
        clean("A *very* **bold** claim [1]_ [2, 3]_ holds") == "A very bold claim holds"
    )
    assert (
        clean(r"The angle :math:`\alpha` and \mathrm{d}x") == "The angle alpha and dx"
    )
    assert (
        clean("Call sklearn.cluster.KMeans of np.linalg now::")
        == "Call KMeans of linalg now:"
    )
    assert clean("2 * 3 and a * b") == "2 * 3 and a * b"


BOILER = "Get the settings of this object and of all the objects that it holds inside."
TOY = {
    "__init__.py": "raise ImportError('never imported')",
    "apples/__init__.py": f'''"{BOILER}"
def peel(fruit): "Take the skin off one apple with the short knife from the drawer."
def same_start(fruit):
    "Take the skin off one apple with the short knife from the cupboard shelf."
class Tree:
    """Grow in the garden for many years and carry fruit in autumn.

    Parameters
    ----------
    place : str
        Any quiet corner where the roots find water in dry summers.
    """
    def shake(self):
        "Make the ripe ones fall down into the grass below the branches."
        def inner(): "Never read because this is hidden in the body of a method."
''',
    "apples/_more.py": """
add_newdoc("core", "Cut the middle out and throw it on the heap behind the house.")
def same_middle(fruit):
    "Now take the skin off one apple with the short knife from the drawer."
""",
    "pears/base.py": f'''
def settings(): "{BOILER}"
async def wait():
    "Never read because only plain functions and classes count here today."
def ripen(): "Keep them in a bowl on the table until they are soft enough."
''',
    "pears/tests/test_base.py": (
        '"Never read because the tests of a library are passed over."'
    ),
    "plums.py": '"Belong to no label and are therefore left out of the corpus."',
}


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A corpus of an invented library that cannot be imported."""
    for name, content in TOY.items():
        path = tmp_path / "toyfruit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(corpora.importlib.metadata, "version", lambda package: "1.0")
    monkeypatch.setenv("SFUSION_CACHE", str(tmp_path / "cache"))
    classes = {
        "apple": (("toyfruit.apples",), "apple"),
        "pear": (("toyfruit.pears",), "pear"),
    }
    corpus = corpora.Corpus("toy", ("toyfruit",), classes, 9, ("", "parameters"))
    monkeypatch.setitem(corpora.CORPORA, "toy", corpus)
    return corpus


def test_texts_and_sources_of_a_library(toy):
    frame = corpora.build("toy")
    # The paragraph under both labels is gone; of the near twins the first is left.
    assert sorted(
        zip(
            frame["source"],
            frame["label"],
            frame["text"].str.split().str[0],
            strict=True,
        )
    ) == [
        ("toyfruit.apples.Tree", "apple", "Any"),
        ("toyfruit.apples.Tree", "apple", "Grow"),
        ("toyfruit.apples.Tree.shake", "apple", "Make"),
        ("toyfruit.apples._more.core", "apple", "Cut"),
        ("toyfruit.apples.peel", "apple", "Take"),
        ("toyfruit.pears.base.ripen", "pear", "Keep"),
    ]
    assert "one this with" in " ".join(frame["text"])
    assert "toyfruit" not in sys.modules


def test_cap_keeps_the_same_texts_of_a_larger_corpus(toy):
    whole = corpora.build("toy")
    assert whole["text"][4].startswith("Any ")  # parameters come last
    small = corpora._make(replace(toy, cap=2))
    assert small["label"].value_counts().to_dict() == {"apple": 2, "pear": 1}
    assert small.equals(whole.groupby("label").head(2).reset_index(drop=True))


def test_order_of_the_file_system_does_not_matter(toy, monkeypatch):
    first = corpora._make(toy)
    rglob = corpora.Path.rglob
    monkeypatch.setattr(
        corpora.Path,
        "rglob",
        lambda self, pattern: sorted(rglob(self, pattern), reverse=True),
    )
    assert corpora._make(toy).equals(first)


def test_cache_is_used_gives_the_same_and_knows_the_library_version(
    toy, monkeypatch, tmp_path
):
    first = corpora.build("toy")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".parquet"]
    with monkeypatch.context() as patch:
        patch.setattr(corpora, "_make", lambda corpus: pytest.fail("made again"))
        pd.testing.assert_frame_equal(corpora.build("toy"), first)
    monkeypatch.setattr(corpora.importlib.metadata, "version", lambda package: "1.1")
    corpora.build("toy")
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_cache_is_made_again(toy, tmp_path, damage):
    first = corpora.build("toy")
    (file,) = (tmp_path / "cache").iterdir()
    whole = file.read_bytes()
    file.write_bytes(
        {
            "truncate": whole[:-9],
            "flip": whole.replace(b"garden", b"gardan", 1),
            "empty": b"",
        }[damage]
    )
    pd.testing.assert_frame_equal(corpora.build("toy"), first)
    assert file.read_bytes() == whole


def test_cache_that_cannot_be_written_is_not_needed(toy, monkeypatch, tmp_path):
    monkeypatch.setenv(
        "SFUSION_CACHE", str(tmp_path / "toyfruit" / "plums.py")
    )  # a file in the way
    assert len(corpora.build("toy")) == 6


def test_missing_library():
    with pytest.raises(
        SfusionError, match="library 'no_such_library' is not installed"
    ):
        list(read_docstrings("no_such_library"))
