"""The list of README's numbers and where they come from."""

import sys

import pytest

from sfusion.experiments.profiles import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from citations import cite, listed, plain, sentences

DOCUMENT = f"""# A title without digits

Nothing is counted here. The gain is {cite("+0.5 pp", "records")}, see `--keep 3` and
[notebook 07](notebooks/07_recipe.ipynb). There are 9 datasets.

1. The first item is {cite("3", "profile")} of {cite("4", "records")}.

| name | value |
|:--|--:|
| row | {cite("7", "table")} |

```
1 line of code
```
"""


def test_sentences_with_a_number_are_listed_with_their_sources():
    found = sentences(DOCUMENT)
    assert [sentence.sources for sentence in found] == [
        ["records"],
        [],
        ["profile", "records"],
        ["table"],
    ]
    assert found[0].text.startswith("The gain is +0.5 pp")
    assert found[2].text == "The first item is 3 of 4."


def test_a_number_that_no_source_is_given_for_is_found():
    covered = {sentence.text: sentence.is_covered for sentence in sentences(DOCUMENT)}
    assert not covered["There are 9 datasets."]
    assert sum(covered.values()) == 3


def test_marks_leave_no_trace():
    assert plain(DOCUMENT).isprintable() is plain(DOCUMENT.strip()).isprintable()
    assert "gain is +0.5 pp, see" in plain(DOCUMENT)
    assert "records" not in plain(DOCUMENT)
    assert "*From profile; records.*" in listed(sentences(DOCUMENT))


@pytest.mark.parametrize("text", ["a table\nof two lines", "12 [1, 2]. Then: more"])
def test_a_mark_may_span_lines_and_sentences(text):
    assert plain(cite(text, "records")) == text
    for sentence in sentences(cite(text, "records")):
        assert sentence.is_covered
