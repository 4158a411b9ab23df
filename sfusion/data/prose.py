"""Plain, masked prose from the paragraphs of docstrings."""

import re

MASK = "this"

MIN_WORDS, MAX_WORDS = 8, 120

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
    if (
        not MIN_WORDS <= len(words) <= MAX_WORDS
        or not text[0].isupper()
        or NOT_PROSE.search(text)
    ):
        return False
    return sum(WORD.fullmatch(word) is not None for word in words) >= 0.75 * len(words)


def mask(text, pattern):
    """Put `MASK` for every word (letters, digits, underscores) that holds the pattern.

    Case is ignored and the pattern may lie inside the word, so a stem covers
    inflections, derivations, identifiers and CamelCase alike: "interpol" masks
    "interpolation", "interpolating", "_interpolate" and "BarycentricInterpolator".

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
