"""Embedded corpora: what a text may hold, and that every machine gets the same ones."""

import os
import re
import subprocess
import sys

import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sfusion import SfusionError
from sfusion.data import corpora
from sfusion.data.readers import hold_out

NAMES = sorted(corpora.CORPORA)


@pytest.fixture(scope="module")
def frames():
    """Return the frame of every corpus, from the user's cache where they are already there."""
    return {name: corpora.build(name) for name in NAMES}


# --- the three corpora -----------------------------------------------------------------------


def test_there_are_three_of_2_to_20_classes():
    assert [len(corpora.CORPORA[name].label_names) for name in NAMES] == [2, 12, 20]


@pytest.mark.parametrize("name", NAMES)
def test_columns_labels_and_balance(frames, name):
    frame, corpus = frames[name], corpora.CORPORA[name]
    counts = frame["label"].value_counts()
    assert list(frame.columns) == ["text", "label", "source"]
    assert tuple(sorted(counts.index)) == corpus.label_names
    assert counts.max() == corpus.cap
    assert counts.min() >= 0.7 * corpus.cap


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_prose_of_stated_length(frames, name):
    texts = frames[name]["text"]
    words = texts.str.split().str.len()
    assert words.min() >= 8
    assert words.max() <= 120
    markup = texts[texts.str.contains(r"`|>>>|\]_|::|%\(|https?:|={3}|-{3}|^\.\. ")]
    assert markup.empty, markup.iloc[0]


@pytest.mark.parametrize("name", NAMES)
def test_no_text_comes_twice_or_starts_like_another(frames, name):
    words = frames[name]["text"].str.lower().str.findall("[a-z]+")
    assert not frames[name]["text"].duplicated().any()
    assert not words.map(lambda found: tuple(found[:12])).duplicated().any()


def _words(text):
    """Lower-case words of a text, with snake_case and CamelCase taken apart."""
    return {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)}


# Written out here on purpose: what a reader would call giving the label away.
TELLTALES = {
    "input-or-output": "input inputs output outputs return returns returned parameter argument",
    "scipy-subpackage": "scipy cluster clusters clustering fft rfft integrate integration integral "
    "interpolate interpolation interpolator io linalg ndimage image optimize optimizer optimal "
    "signal signals spatial special stats statistic statistics statistical",
    "subject": "beam beams category categories categorical control date dates datetime equation "
    "equations ode geometry geometric graph graphs digraph group groups logic logical mechanics "
    "plot plots plotting polynomial polynomials print prints printer printing quantum physics "
    "score scores scoring scorer statistics stats string strings str table tables generate "
    "generation sympy networkx matplotlib pandas numpy sklearn transformers",
}


@pytest.mark.parametrize("name", NAMES)
def test_words_that_give_the_label_away_are_masked(frames, name):
    telltales = set(TELLTALES[name].split())
    told = {text: found for text in frames[name]["text"] if (found := _words(text) & telltales)}
    assert not told


@pytest.mark.parametrize("name", NAMES)
def test_every_label_name_is_masked(name):
    corpus = corpora.CORPORA[name]
    for label in corpus.label_names:
        sentence = f"See {label}, {label.title()} and my_{label.replace(' ', '_')}_2 in module.x."
        assert label.casefold() not in corpora.mask(sentence, corpus.masked).casefold()


@pytest.mark.parametrize("name", NAMES)
def test_sources_are_dotted_names_inside_the_libraries(frames, name):
    sources = frames[name]["source"]
    assert set(sources.str.partition(".")[0]) == set(corpora.CORPORA[name].libraries)
    assert sources.str.fullmatch(r"\w+(\.\w+)+").all()


def test_no_module_path_holds_another():
    for corpus in corpora.CORPORA.values():
        keys = list(corpus.keys)
        assert len(keys) == sum(len(keys) for keys, _ in corpus.classes.values())
        assert not [(a, b) for a in keys for b in keys if a != b and f"{a}.".startswith(f"{b}.")]


def test_labels_follow_the_module(frames):
    for name in ("scipy-subpackage", "subject"):
        for row in frames[name].sample(300, random_state=0).itertuples():
            keys = corpora.CORPORA[name].classes[row.label][0]
            assert any(row.source == key or row.source.startswith(f"{key}.") for key in keys)


@pytest.mark.parametrize("name", NAMES)
def test_first_words_tell_the_class_better_than_chance_but_not_surely(frames, name):
    frame = frames[name]
    held = hold_out(list(frame["label"]), list(frame["source"]), 0.25, "test")
    cut = frame["text"].map(lambda text: " ".join(text.split()[:24]))
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=500))
    accuracy = model.fit(cut[~held], frame["label"][~held]).score(cut[held], frame["label"][held])
    chance = 1 / frame["label"].nunique()
    assert chance + 0.5 * (1 - chance) < accuracy < 0.95


# Three labels of scipy: enough for an order that depends on hashes to show, in a second.
SMALL = """
from dataclasses import replace
from sfusion.data import corpora
whole = corpora.CORPORA["scipy-subpackage"]
classes = {label: whole.classes[label] for label in ("cluster", "fft", "io")}
frame = corpora._make(replace(whole, classes=classes, cap=100))
prints = [corpora.fingerprint(frame.assign(label=frame[c])) for c in ("label", "source")]
print(len(frame), *prints)
"""


def test_processes_with_other_hash_seeds_agree():
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SMALL],
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    first, second = (run.communicate(timeout=120)[0] for run in runs)
    assert first.startswith("300 ")
    assert first == second


def test_fingerprint_changes_with_a_text_a_label_and_the_order():
    frame = pd.DataFrame({"text": ["a b", "c"], "label": ["x", "y"]})
    others = [
        frame.assign(text=["a b", "d"]),
        frame.assign(text=["a", "b c"]),
        frame.assign(label=["y", "x"]),
        frame[::-1],
        frame[:1],
    ]
    prints = {corpora.fingerprint(other) for other in [frame, *others]}
    assert len(prints) == 6
    assert corpora.fingerprint(frame.assign(source="elsewhere")) in prints


# --- the steps, on invented docstrings -------------------------------------------------------

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

Returns
-------
mass : float
    How much there is.

Notes
-----
Sand is heavy,
as all know.

>>> weigh(1)
2
"""


def test_paragraphs_by_section():
    assert list(corpora.paragraphs(DOCSTRING)) == [
        ("", "Compute the mass of a heap of sand."),
        ("", "The heap is weighed twice::"),
        ("", "and the mean is taken."),
        ("", "A wet heap weighs more."),
        ("parameters", "Where the sand lies."),
        ("parameters", "A second paragraph on it."),
        ("parameters", "What else is there."),
        ("returns", "How much there is."),
        ("notes", "Sand is heavy, as all know."),
        ("notes", ">>> weigh(1) 2"),
    ]


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("Use :func:`~scipy.linalg.solve` or ``x``.", "Use solve or x."),
        ("See :ref:`the guide <guide>` and `a page <http://x.y>`_.", "See the guide and a page."),
        ("A *very* **bold** claim [1]_ [2, 3]_ holds", "A very bold claim holds"),
        (r"The angle :math:`\alpha` and \mathrm{d}x", "The angle alpha and dx"),
        ("Call sklearn.cluster.KMeans of np.linalg now::", "Call KMeans of linalg now:"),
        ("2 * 3 and a * b", "2 * 3 and a * b"),
    ],
)
def test_clean_leaves_plain_words(marked, plain):
    assert corpora.clean(marked) == plain


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("One two three four five six seven eight.", True),
        ("One two three four five six seven.", False),
        ("One " + "word " * 119, True),
        ("One " + "word " * 120, False),
        ("one two three four five six seven eight.", False),
        ("Run >>> one two three four five six seven.", False),
        ("Fill in %(name)s here one two three four five six.", False),
        ("See https://a.b for one two three four five six.", False),
        ("Give 1 2 3 of a4 [5] words here", False),
    ],
)
def test_is_prose(text, readable):
    assert corpora.is_prose(text) is readable


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Cluster the clusters by SpectralClustering.", "this the this by this."),
        ("a pre_clustered set", "a this set"),
        ("in cluster.hierarchy", "in this.hierarchy"),
        ("On a date, an update of last_date or DATES", "On a this, an update of this or this"),
    ],
)
def test_mask_takes_the_whole_word(text, masked):
    assert corpora.mask(text, "cluster|(?<![a-z])dates?(?![a-z])") == masked


BOILER = "Get the settings of this object and of all the objects that it holds inside."
TOY = {
    "__init__.py": "raise ImportError('never imported')",
    "apples/__init__.py": f'''"""{BOILER}"""
def peel(fruit):
    """Take the skin off one apple with the short knife from the drawer."""
def same_start(fruit):
    """Take the skin off one apple with the short knife from the cupboard shelf."""
class Tree:
    """Grow in the garden for many years and carry fruit in autumn.

    Parameters
    ----------
    place : str
        Any quiet corner where the roots find water in dry summers.
    """
    def shake(self):
        """Make the ripe ones fall down into the grass below the branches."""
        def inner():
            """Never read because this is hidden in the body of a method."""
''',
    "apples/_more.py": '''
add_newdoc("core", """
    Cut the middle out and throw it on the heap behind the house.
    """)
def same_middle(fruit):
    """Now take the skin off one apple with the short knife from the drawer."""
''',
    "pears/base.py": f'''
def settings():
    """{BOILER}"""
async def wait():
    """Never read because only plain functions and classes count here today."""
def ripen():
    """Keep them in a bowl on the table until they are soft enough."""
''',
    "pears/tests/test_base.py": '"""Never read because the tests of a library are passed over."""',
    "plums.py": '"""Belong to no label and are therefore left out of the corpus."""',
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
    classes = {"apple": (("toyfruit.apples",), "apple"), "pear": (("toyfruit.pears",), "pear")}
    corpus = corpora.Corpus("toy", "Toy", "Which fruit", ("toyfruit",), classes, 9, ("", "parameters"))
    monkeypatch.setitem(corpora.CORPORA, "toy", corpus)
    return corpus


def test_texts_and_sources_of_a_library(toy):
    frame = corpora.build("toy")
    found = {(row.source, row.label, row.text.split()[0]) for row in frame.itertuples()}
    # The paragraph under both labels is gone; of the near twins the first is left.
    assert found == {
        ("toyfruit.apples.peel", "apple", "Take"),
        ("toyfruit.apples.Tree", "apple", "Grow"),
        ("toyfruit.apples.Tree", "apple", "Any"),
        ("toyfruit.apples.Tree.shake", "apple", "Make"),
        ("toyfruit.apples._more.core", "apple", "Cut"),
        ("toyfruit.pears.base.ripen", "pear", "Keep"),
    }
    assert len(frame) == 6
    assert "one this with" in " ".join(frame["text"])
    assert "toyfruit" not in sys.modules


def test_cap_keeps_the_same_texts_of_a_larger_corpus(toy):
    whole = corpora.build("toy")
    assert whole["text"][4].startswith("Any ")  # parameters come last
    small = corpora._make(corpora.Corpus(**{**vars(toy), "cap": 2}))
    assert small["label"].value_counts().to_dict() == {"apple": 2, "pear": 1}
    assert small.equals(whole.groupby("label").head(2).reset_index(drop=True))


def test_order_of_the_file_system_does_not_matter(toy, monkeypatch):
    first = corpora._make(toy)
    rglob = corpora.Path.rglob
    monkeypatch.setattr(corpora.Path, "rglob", lambda self, pattern: sorted(rglob(self, pattern), reverse=True))
    assert corpora._make(toy).equals(first)


def test_cache_is_used_and_gives_the_same(toy, monkeypatch, tmp_path):
    first = corpora.build("toy")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".parquet"]
    monkeypatch.setattr(corpora, "_make", lambda corpus: pytest.fail("made again"))
    pd.testing.assert_frame_equal(corpora.build("toy"), first)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_damaged_cache_is_made_again(toy, tmp_path, damage):
    first = corpora.build("toy")
    (file,) = (tmp_path / "cache").iterdir()
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[content.index(b"garden")] ^= 1
    file.write_bytes({"truncate": content[:-9], "flip": content, "empty": b""}[damage])
    pd.testing.assert_frame_equal(corpora.build("toy"), first)
    assert file.stat().st_size > len(content) - 9


def test_cache_knows_the_library_version(toy, monkeypatch, tmp_path):
    corpora.build("toy")
    monkeypatch.setattr(corpora.importlib.metadata, "version", lambda package: "1.1")
    corpora.build("toy")
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_cache_that_cannot_be_written_is_not_needed(toy, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SFUSION_CACHE", str(tmp_path / "file"))
    assert len(corpora.build("toy")) == 6


def test_versions_name_the_distributions():
    assert re.fullmatch(r"numpy [\d.]+, scipy [\d.]+, scikit-learn [\d.]+", corpora.versions("input-or-output"))


def test_unknown_corpus_and_missing_library():
    with pytest.raises(SfusionError, match=r"unknown corpus 'nope': choose one of .*subject"):
        corpora.build("nope")
    with pytest.raises(SfusionError, match="library 'no_such_library' is not installed"):
        list(corpora.docstrings("no_such_library"))


def test_missing_distribution(monkeypatch):
    corpus = corpora.Corpus("gone", "", "", ("no_such_library",), {"a": (("b",), "c")}, 1, ("",))
    monkeypatch.setitem(corpora.CORPORA, "gone", corpus)
    with pytest.raises(SfusionError, match="corpus 'gone' needs no_such_library"):
        corpora.build("gone")
