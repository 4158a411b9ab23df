"""Plain, masked prose from the paragraphs of docstrings."""

import re

MASK = "this"

MIN_WORDS = 8
MAX_WORDS = 120

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
WORD = re.compile(r"[(\"']?[A-Za-z][A-Za-z'-]*[)\"',.;:!?]*")
NOT_PROSE = re.compile(
    r"(?i)>>>|%\(|[{}|]|={3}|-{3}|https?:|\b(?:doi|pp|vol|eds)\b|copyright|spdx"
    r"|licen[sc]e|\bcf\.|\bet al\b"
)
WORDS_AMONG_SYMBOLS = 0.75  # at least, as a share


def clean(paragraph: str) -> str:
    """Turn RST markup into plain words, and a library's dotted path into its last part.

    Parameters
    ----------
    paragraph : str

    Returns
    -------
    str
    """
    text = MARKDOWN_LINK.sub(r"\1", FOOTNOTE.sub("", paragraph))
    text = ROLE.sub(lambda found: LINK_TARGET.sub("", found[2]), text)
    text = LATEX.sub(r"\1\2", EMPHASIS.sub(r"\2", text))
    text = DOTTED.sub(r"\1", text).replace("::", ":").replace("`", "")
    return " ".join(text.split())


def is_prose(text: str) -> bool:
    """Check whether a cleaned paragraph is readable: long enough, words, no code.

    Parameters
    ----------
    text : str

    Returns
    -------
    bool
    """
    words = text.split()
    if not MIN_WORDS <= len(words) <= MAX_WORDS:
        return False
    if not text[0].isupper() or NOT_PROSE.search(text):
        return False
    plain = [word for word in words if WORD.fullmatch(word)]
    return len(plain) >= WORDS_AMONG_SYMBOLS * len(words)


def mask(text: str, pattern: str) -> str:
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


def whole_word(pattern: str) -> str:
    """Match a word that no other may hold, but snake_case and CamelCase may.

    Parameters
    ----------
    pattern : str
        Regular expression.

    Returns
    -------
    str
        Regular expression.
    """
    return rf"(?-i:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?:{pattern})(?-i:(?![a-z]))"
